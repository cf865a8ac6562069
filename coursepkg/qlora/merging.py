"""What becomes of an adapter in the end: the ways to add it to a base, which are not the same model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from coursepkg import lora_model, quantized_model, surgery
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.weight_formats import WeightFormat

#: The ways, with what each computes; Q rounds to the format, and its result is read back.
WAYS = {
    "beside": "Q(W) + BA, kept apart: what was trained",
    "into the dequantized": "Q(W) + BA, in 16 or 32 bits",
    "into the original": "W + BA, in 16 or 32 bits",
    "quantized once": "Q(W + BA)",
    "quantized twice": "Q(Q(W) + BA)",
}


def merged(
    base: Callable[[], Any],
    adapter: Path | str,
    kind: WeightFormat,
    way: str,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """A new model in evaluation mode: a base with an adapter that was trained beside its weights in the format `kind`, put together in one of WAYS.

    base: gives the base as it was before quantization. adapter: a folder in peft's format. dtype: in which sums are made and kept
    where nothing is quantized afterwards. Raises ValueError for a way that is none, and as `lora_model.load` and `merge` do.
    """
    if way not in WAYS:
        raise ValueError(f"no way {way!r}; there are {', '.join(WAYS)}")
    model = base()
    if way != "into the original" and way != "quantized once":
        quantized_model.quantize_model(model, kind)
    if way == "into the dequantized":
        dequantize(model, dtype)
    if way in ("into the original", "into the dequantized"):
        model.to(dtype)
    lora_model.load(model, adapter)
    if way != "beside":
        lora_model.merge(model)
        lora_model.unload(model)
    if way == "quantized once":
        quantized_model.quantize_model(model, kind)
    return model.eval()


def dequantize(model: torch.nn.Module, dtype: torch.dtype = torch.float32) -> list[str]:
    """Swap a model's quantized layers for Linear ones with the weights as they are read back, in place. The names that were swapped."""

    def plain(name: str, layer: QuantizedLinear) -> torch.nn.Linear:
        made = torch.nn.Linear(
            layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta", dtype=dtype
        )
        made.weight = torch.nn.Parameter(layer.dequantize(dtype), requires_grad=False)
        made.bias = layer.bias
        return made

    return surgery.swap(model, plain, (QuantizedLinear,))
