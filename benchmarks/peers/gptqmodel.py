"""GPTQ of gptqmodel: its `GPTQ` class on one Linear layer.

With `desc_act` its groups are those of columns that come one after the other in that order, unless `static_groups` is on; we have no others.
Without, a group's scale comes from the weights as they have been moved by the end of the last block of 128 columns, which with groups of 128 is the paper's.
"""

import os

os.environ["GPTQMODEL_CPU_WORKERS"] = "2"  # asks for more than this machine has otherwise

import torch
from gptqmodel.quantization import QuantizeConfig
from gptqmodel.quantization.gptq import GPTQ

from benchmarks.peers.contest import DAMPING, GROUP, Case, Layer, Peer, main
from coursepkg.affine import Quantized


class Given(GPTQ):
    """GPTQ of a Gram matrix that is there, in the place of inputs."""

    def process_batch(self, gram: torch.Tensor) -> tuple[int, torch.Tensor, torch.device]:
        return 2 * len(gram), gram.clone(), gram.device


def task(kind: type[GPTQ], weight: torch.Tensor, case: Case | None = None) -> GPTQ:
    linear = torch.nn.Linear(*weight.shape[::-1], bias=False, device="meta")
    linear.weight = torch.nn.Parameter(weight, requires_grad=False)
    config = QuantizeConfig(
        bits=4,
        group_size=GROUP,
        sym=case is None or case.scheme.is_symmetric,
        desc_act=case is not None and case.act_order,
        static_groups=case is not None and case.act_order,
        act_group_aware=False,
        damp_percent=DAMPING,
        device="cpu",
        offload_to_disk=False,
    )
    made = kind(linear, config)
    made.quantizer.configure(perchannel=True)
    return made


def quantize(layer: Layer, case: Case):
    made = task(Given, layer.weight, case)
    made.add_batch(layer.gram, None)
    return made.quantize


def codes(result: tuple, case: Case) -> Quantized:
    weight, scale, zero = result[:3]
    beside, zeros = scale.repeat_interleave(GROUP, 1), zero.repeat_interleave(GROUP, 1)
    steps = (weight / beside).round()
    if case.scheme.is_symmetric:
        return Quantized(steps.to(torch.int8), scale, None, case.scheme)
    return Quantized((steps + zeros).to(torch.uint8), scale, zero.to(torch.uint8), case.scheme)


def accumulate(x: torch.Tensor) -> GPTQ:
    made = task(GPTQ, torch.empty(8, x.shape[1]))
    made.add_batch(x, None)
    return made


if __name__ == "__main__":
    main(Peer("gptqmodel", quantize, codes, accumulate, static_groups=False))
