"""Ways to quantize a model, each a name, the format that its weights are stored in, and what is done to it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from coursepkg import affine, lloyd
from coursepkg.codebooks import E2M1, FP4, NF4, Codebook
from coursepkg.memory.storage import FP16, FP32, StorageFormat
from coursepkg.surgery import linears
from coursepkg.weight_formats import Affine, Blocks, WeightFormat


@dataclass(frozen=True)
class Method:
    """Quantization of the Linear layers; embeddings, head and norms keep `rest`.

    format: how the Linear layers' weights are stored. change: does it to a model in float32, in place; None leaves it as it is.
    compute: the dtype in which the model then computes.
    """

    name: str
    format: StorageFormat
    change: Callable[[Any], Any] | None
    rest: StorageFormat = FP16
    compute: torch.dtype = torch.float32


def stored_as(kind: WeightFormat, name: str | None = None) -> Method:
    """Rounding by storing the weights in a format and reading them back."""

    def rounded(weight: torch.Tensor) -> torch.Tensor:
        return kind.dequantize(kind.quantize(weight), weight.shape, weight.dtype)

    return Method(name or kind.name, kind.storage(), each_weight(rounded))


def each_weight(rounded: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], None]:
    """What a Method does that looks at one weight after the other: (out_features, in_features), float32, to what is read back."""

    @torch.no_grad()
    def change(model: Any) -> None:
        for _, layer in linears(model):
            layer.weight.copy_(rounded(layer.weight.detach()))

    return change


def whole_numbers(bits: int, granularity: affine.Granularity) -> Method:
    """Symmetric rounding to `bits` bits; groups have fp16 scales, rows and tensors fp32."""
    dtype = torch.float16 if isinstance(granularity, int) else torch.float32
    return stored_as(Affine(affine.Scheme(bits, granularity=granularity, scale_dtype=dtype)))


def lloyd_max(model: torch.nn.Module, block_size: int = 64) -> Codebook:
    """The sixteen levels, −1, 0 and 1 among them, of least squared error over all the weights of a model's Linear layers."""
    weights = torch.cat(
        [layer.weight.detach().reshape(-1, block_size).float().cpu() for _, layer in linears(model)]
    )
    return Codebook("Lloyd–Max", lloyd.fit(lloyd.blocks_of(weights, block_size, power=2)))


def first_board(model: torch.nn.Module) -> tuple[Method, ...]:
    """fp32, fp16, int8; every kind of 4 bits that the lectures have; and plain rounding to 3 and 2 bits."""
    granularities = (64, "channel", "tensor")
    books = (NF4, lloyd.abnormal_float(64), lloyd.least_absolute(64), lloyd_max(model), E2M1, FP4)
    return (
        Method("fp32", FP32, None, FP32),
        Method("fp16", FP16, None, compute=torch.float16),
        whole_numbers(8, "channel"),
        *(stored_as(Blocks(book)) for book in books),
        stored_as(Blocks(double_quantized=True)),
        stored_as(Blocks(double_quantized=True, refined=True)),
        *(whole_numbers(bits, granularity) for bits in (4, 3, 2) for granularity in granularities),
    )


def expected_order() -> tuple[tuple[str, str], ...]:
    """Pairs of the first board's methods; in each the first ought to cost less than the second."""
    pairs = [
        ("fp32", "int8, per channel"),
        ("int8, per channel", "NF4, block of 64"),
        ("Lloyd–Max, block of 64", "NF4, block of 64"),
        ("NF4, block of 64", "NF4 + DQ, block of 64"),
        ("NF4 + DQ, refined, block of 64", "NF4 + DQ, block of 64"),
        ("NF4, block of 64", "E2M1, block of 64"),
        ("E2M1, block of 64", "FP4, block of 64"),
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


def quantized(model: Any, method: Method) -> Any:
    """A copy of the model with a method applied. The model itself is left as it is.

    model: with the weights to start from, best in float32: what 16 bits have lost already does not come back.
    """
    made = copy.deepcopy(model).float()
    if method.change is not None:
        method.change(made)
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
