"""GPTQ of llmcompressor: its `quantize_weight` on one weight, after its observer's scales.

Its scales come from the weights before anything is moved, always; `actorder="static"` is our act_order.
"""

import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.utils import calculate_qparams
from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight
from llmcompressor.modifiers.gptq.helpers import accumulate_hessian, make_empty_hessian

from benchmarks.peers.contest import DAMPING, GROUP, Case, Layer, Peer, main
from coursepkg.affine import Quantized


def quantize(layer: Layer, case: Case):
    args = QuantizationArgs(
        num_bits=4,
        symmetric=case.scheme.is_symmetric,
        strategy="group",
        group_size=GROUP,
        actorder="static" if case.act_order else None,
    )
    hessian = layer.gram.clone()

    def work() -> tuple[torch.Tensor, ...]:
        groups = layer.weight.unflatten(1, (-1, GROUP))
        scale, zero = calculate_qparams(groups.amin(2), groups.amax(2), args)
        made, _, failed = quantize_weight(
            layer.weight.clone()[None], hessian[None], scale[None], zero[None], None, args, percdamp=DAMPING
        )
        if failed.any():
            raise RuntimeError("llmcompressor's Cholesky factorization failed: it rounded to the nearest")
        return made[0], scale, zero

    return work


def codes(result: tuple, case: Case) -> Quantized:
    """Theirs are from −8 to 7, with a zero-point, too."""
    weight, scale, zero = result
    steps = (weight / scale.repeat_interleave(GROUP, 1)).round()
    if case.scheme.is_symmetric:
        return Quantized(steps.to(torch.int8), scale, None, case.scheme)
    zero = zero.float() + 8
    return Quantized(
        (steps + zero.repeat_interleave(GROUP, 1)).to(torch.uint8), scale, zero.to(torch.uint8), case.scheme
    )


def accumulate(x: torch.Tensor) -> torch.Tensor:
    linear = torch.nn.Linear(x.shape[1], 8, bias=False)
    return accumulate_hessian(x, linear, make_empty_hessian(linear), torch.zeros(()))[0]


if __name__ == "__main__":
    main(Peer("llmcompressor", quantize, codes, accumulate, static_groups=True))
