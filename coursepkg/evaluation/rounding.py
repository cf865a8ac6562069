"""Ways to round a model's weights, each a name, the format that is stored, and the weights that come back from it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from coursepkg import affine
from coursepkg.memory.storage import FP16, FP32, NF4, StorageFormat
from coursepkg.surgery import linears


@dataclass(frozen=True)
class Method:
    """Rounding of the Linear layers' weights; embeddings, head and norms keep `rest`.

    rounded: weight (out_features, in_features), float32, to what is read back from storage; None keeps it.
    compute: the dtype in which the model then computes.
    """

    name: str
    format: StorageFormat
    rounded: Callable[[torch.Tensor], torch.Tensor] | None
    rest: StorageFormat = FP16
    compute: torch.dtype = torch.float32


def whole_numbers(bits: int, granularity: affine.Granularity) -> Method:
    """Symmetric rounding to `bits` bits; groups have fp16 scales, rows and tensors fp32."""
    scale, dtype = (FP16, torch.float16) if isinstance(granularity, int) else (FP32, torch.float32)
    scheme = affine.Scheme(bits, granularity=granularity, scale_dtype=dtype)
    said = f"group of {granularity}" if isinstance(granularity, int) else f"per {granularity}"

    def rounded(weight: torch.Tensor) -> torch.Tensor:
        return affine.quantize(weight, scheme).dequantize()

    name = f"int{bits}, {said}"
    return Method(name, StorageFormat(name, bits, granularity, scale), rounded)


def nf4() -> Method:
    """bitsandbytes' NF4, blocks of 64."""

    def rounded(weight: torch.Tensor) -> torch.Tensor:
        from bitsandbytes import functional

        where = "cuda" if weight.is_cuda else "cpu"
        codes, state = functional.quantize_4bit(weight.to(where).contiguous(), blocksize=64, quant_type="nf4")
        return functional.dequantize_4bit(codes, state).to(weight.device)

    return Method("NF4, block of 64", NF4, rounded)


def first_board() -> tuple[Method, ...]:
    """fp32, fp16, int8, and plain rounding to 4, 3 and 2 bits at each granularity, with NF4 beside the 4 bits."""
    plain = [
        whole_numbers(bits, granularity) for bits in (4, 3, 2) for granularity in (64, "channel", "tensor")
    ]
    return (
        Method("fp32", FP32, None, FP32),
        Method("fp16", FP16, None, compute=torch.float16),
        whole_numbers(8, "channel"),
        nf4(),
        *plain,
    )


def expected_order() -> tuple[tuple[str, str], ...]:
    """Pairs of the first board's methods; in each the first ought to cost less than the second."""
    pairs = [
        ("fp32", "int8, per channel"),
        ("int8, per channel", "NF4, block of 64"),
        ("NF4, block of 64", "int4, group of 64"),
    ]
    for bits in (4, 3, 2):
        group, channel, tensor = (
            f"int{bits}, {each}" for each in ("group of 64", "per channel", "per tensor")
        )
        pairs += [(group, channel), (channel, tensor)]
        if bits > 2:
            pairs.append((tensor, f"int{bits - 1}, group of 64"))
    return tuple(pairs)


def rounded_model(model: Any, method: Method) -> Any:
    """A copy of the model with its Linear layers' weights rounded. The model itself is left as it is.

    model: with the weights to start from, best in float32: what 16 bits have lost already does not come back.
    """
    made = copy.deepcopy(model).float()
    with torch.no_grad():
        for _, layer in linears(made):
            if method.rounded is not None:
                layer.weight.copy_(method.rounded(layer.weight.detach()))
    return made.to(method.compute).eval()


def stored_bytes(model: torch.nn.Module, method: Method) -> int:
    """Bytes of the whole model, scales included: its Linear weights in the method's format, all else in `rest`."""
    quantized = [layer.weight for _, layer in linears(model)]
    ours = {id(weight) for weight in quantized}
    total = sum(method.format.stored_bytes(*weight.shape) for weight in quantized)
    return total + sum(
        method.rest.stored_bytes(*parameter.shape)
        for parameter in model.parameters()
        if id(parameter) not in ours
    )


def effective_bits(model: torch.nn.Module, method: Method) -> float:
    """Stored bits of the Linear weights, scales and tables included, for each of their values."""
    weights = [layer.weight for _, layer in linears(model)]
    stored = sum(method.format.stored_bytes(*weight.shape) for weight in weights)
    return 8 * stored / sum(weight.numel() for weight in weights)
