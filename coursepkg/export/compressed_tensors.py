"""compressed-tensors' `pack-quantized`, in which llm-compressor writes and vLLM and transformers read whole numbers.

For a weight (out, in) in groups:

    weight_packed      int32 (out, ceil(in · bits / 32))       the codes, moved up to be unsigned, as packing.pack_words
    weight_scale       (out, groups)                           in the dtype of the model; one group where it is per channel
    weight_zero_point  int32 (ceil(out · bits / 32), groups)   where there is one, packed along the outputs
    weight_shape       int64 (2,)

A reader computes (code − zero_point) · scale in the scales' dtype. The difference is a whole number of at most 255 in size, which
fp16, bf16 and fp32 hold; the product is rounded once. Here it is computed in fp32 and then rounded to the dtype of the input: for
scales of 8 or 11 significant bits the fp32 product is exact, for those of 24 it is the result. So the weights are the same, bit for
bit, where the scales are numbers of the model's dtype.

Source: compressed-tensors 0.20, compressors/pack_quantized; older versions (0.15) lay out 3, 5, 6 and 7 bits otherwise.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch

from coursepkg import packing
from coursepkg.affine import Scheme
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.weight_formats import Affine, Stored

FORMAT = "pack-quantized"
LINEAR = "Linear"


@dataclass(frozen=True)
class PackQuantized:
    """The layout of this file."""

    method: str = "compressed-tensors"
    mark: str = "weight_packed"
    scale: str = "weight_scale"

    def check(self, layer: QuantizedLinear) -> None:
        """It holds all that is left."""

    def scale_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return dtype

    def empty(self, kind: Affine, shape: tuple[int, int]) -> Stored:
        (rows, columns), bits = shape, kind.scheme.bits
        scale = kind.empty(torch.Size(shape), "meta")["scale"]
        made = {
            self.mark: torch.empty(rows, -(-columns * bits // 32), dtype=torch.int32, device="meta"),
            self.scale: scale,
            "weight_shape": torch.empty(2, dtype=torch.int64, device="meta"),
        }
        if not kind.scheme.is_symmetric:
            packed = (-(-rows * bits // 32), scale.shape[1])
            made["weight_zero_point"] = torch.empty(packed, dtype=torch.int32, device="meta")
        return made

    def pack(self, layer: QuantizedLinear, scale_dtype: torch.dtype) -> Stored:
        scheme, stored = layer.kind.scheme, layer.stored
        made = {
            self.mark: packing.to_words(stored["codes"]),
            self.scale: stored["scale"].to(scale_dtype),
            "weight_shape": torch.tensor([layer.out_features, layer.in_features]),
        }
        if not scheme.is_symmetric:
            packed = packing.pack_words(stored["zero_point"].T, scheme.bits)
            made["weight_zero_point"] = packed.T.contiguous()
        return made

    def unpack(self, tensors: Stored, kind: Affine, shape: tuple[int, int]) -> Stored:
        (rows, columns), bits = shape, kind.scheme.bits
        if (said := tuple(tensors["weight_shape"].tolist())) != tuple(shape):
            raise ValueError(f"weight_shape says {said}, the model {tuple(shape)}")
        made = {
            "codes": packing.from_words(tensors[self.mark], bits, columns),
            "scale": tensors[self.scale],
        }
        if not kind.scheme.is_symmetric:
            zeros = packing.unpack_words(tensors["weight_zero_point"].T, bits, rows)
            made["zero_point"] = zeros.T.contiguous()
        return made

    def config(self, layers: dict[str, Affine], left: list[str], heads: list[str]) -> dict[str, Any]:
        alike: dict[tuple, list[str]] = {}
        for name, kind in layers.items():
            alike.setdefault(_fields(kind.scheme), []).append(name)
        asymmetric = [name for name, kind in layers.items() if not kind.scheme.is_symmetric]
        if asymmetric and len(alike) > 1:
            raise ValueError(
                f"{asymmetric[0]}: transformers reads asymmetric codes only where all layers have one format; give all the same, "
                "or make all symmetric"
            )
        groups = {
            f"group_{place}": {
                "targets": [LINEAR] if len(alike) == 1 else names,
                "weights": {"type": "int", "dynamic": False} | dict(fields),
                "input_activations": None,
                "output_activations": None,
                "format": FORMAT,
            }
            for place, (fields, names) in enumerate(alike.items())
        }
        made = {
            "quant_method": self.method,
            "format": FORMAT,
            "quantization_status": "compressed",
            "config_groups": groups,
            "ignore": [*left, *heads],
        }
        # transformers (5.23) makes room for packed zero-points only where it dequantizes layer by layer as it loads; with one
        # format, that reads the same weights.
        return made | {"dequantize": True} if asymmetric else made

    def kinds(self, config: dict[str, Any], names: list[str]) -> dict[str, Affine]:
        groups = list(config["config_groups"].values())
        for group in groups:
            if (found := group.get("format") or config.get("format")) != FORMAT:
                raise ValueError(f"its format is {found}; only {FORMAT} can be read here")
        return {name: _kind(_group(name, groups), name) for name in names}


def _fields(scheme: Scheme) -> tuple[tuple[str, Any], ...]:
    """What quantization_config says of a weight."""
    grouped = isinstance(scheme.granularity, int)
    return (
        ("num_bits", scheme.bits),
        ("symmetric", scheme.is_symmetric),
        ("strategy", "group" if grouped else "channel"),
        ("group_size", scheme.granularity if grouped else None),
    )


def _group(name: str, groups: list[dict[str, Any]]) -> dict[str, Any]:
    """The group that a layer belongs to: targets are names, patterns ("re:…"), or classes, and count in this order."""
    for fits in (
        lambda target: target == name,
        lambda target: target.startswith("re:") and re.match(target.removeprefix("re:"), name),
        lambda target: target == LINEAR,
    ):
        for group in groups:
            if any(fits(target) for target in group["targets"]):
                return group
    raise ValueError(f"{name} is packed, but belongs to no group of config_groups")


def _kind(group: dict[str, Any], name: str) -> Affine:
    """A group's format. Raises ValueError where it is none of weights in whole numbers."""
    weights = group["weights"]
    if group.get("input_activations") or group.get("output_activations"):
        raise ValueError(f"{name}: activations are quantized, too; only weights can be read here")
    if weights.get("type", "int") != "int" or weights.get("dynamic"):
        raise ValueError(f"{name}: only whole numbers (type int) with stored scales can be read here")
    strategy = weights.get("strategy") or ("channel" if weights.get("group_size") == -1 else "group")
    if strategy not in ("group", "channel"):
        raise ValueError(f"{name}: its strategy is {strategy}; only group and channel can be read here")
    granularity = "channel" if strategy == "channel" else weights["group_size"]
    if weights.get("symmetric", True):
        return Affine(Scheme(weights["num_bits"], granularity=granularity, full_range=True))
    return Affine(Scheme(weights["num_bits"], "integer", granularity))
