"""The layout of GPTQ checkpoints, as AutoGPTQ and GPTQModel write and vLLM reads them.

For a weight (out, in) in groups:

    qweight  int32 (in · bits / 32, out)       the codes 0 to 2^bits − 1; each output's run down a column: packing.pack_gptq
    qzeros   int32 (groups, out · bits / 32)   the zero-points, packed along the outputs
    scales   (groups, out)                     fp16 or bf16
    g_idx    int32 (in,)                       the group of each input

Symmetric codes are moved up by 2^(bits−1), which is their zero-point. `gptq`, version 1, stores zero-points less 1, and its
readers add 1 again, some with a carry into the next one: so it has no zero-point of 0. `gptq_v2` stores them as they are.

A reader computes (code − zero_point) · scale in the scales' dtype, as compressed_tensors.py says; so these weights are the same as ours,
too, rounded to that dtype.

Source: AutoGPTQ, nn_modules/qlinear/qlinear_cuda.py; vLLM, model_executor/layers/quantization/gptq.py.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch

from coursepkg import packing
from coursepkg.affine import Scheme
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.weight_formats import Affine, Stored

BITS = (2, 3, 4, 8)


@dataclass(frozen=True)
class Gptq:
    """The layout of this file, of version 1 or 2."""

    version: int = 1
    method: str = "gptq"
    mark: str = "qweight"
    scale: str = "scales"

    @property
    def checkpoint_format(self) -> str:
        return "gptq" if self.version == 1 else "gptq_v2"

    @property
    def less(self) -> int:
        """By how much a stored zero-point is less than what it stands for."""
        return 1 if self.version == 1 else 0

    def check(self, layer: QuantizedLinear) -> None:
        bits = layer.kind.scheme.bits
        if bits not in BITS:
            raise ValueError(f"the layout has codes of 2, 3, 4 or 8 bits, not {bits}")
        for what, size in (("inputs", layer.in_features), ("outputs", layer.out_features)):
            if size * bits % 32:
                raise ValueError(
                    f"{size} {what} of {bits} bits do not fill 32-bit words, of which the layout is made"
                )
        if self.less and not layer.kind.scheme.is_symmetric and not layer.zero_point.all():
            raise ValueError(
                'version 1 stores zero-points less 1 and has none of 0; choose the layout "gptq_v2" or "compressed-tensors"'
            )

    def scale_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return torch.bfloat16 if dtype == torch.bfloat16 else torch.float16

    def empty(self, kind: Affine, shape: tuple[int, int]) -> Stored:
        (rows, columns), bits = shape, kind.scheme.bits
        scale = kind.empty(torch.Size(shape), "meta")["scale"]
        sizes = {self.mark: (columns * bits // 32, rows), "qzeros": (scale.shape[1], rows * bits // 32)}
        made = {name: torch.empty(size, dtype=torch.int32, device="meta") for name, size in sizes.items()}
        made["g_idx"] = torch.empty(columns, dtype=torch.int32, device="meta")
        return made | {self.scale: torch.empty(scale.shape[::-1], dtype=scale.dtype, device="meta")}

    def pack(self, layer: QuantizedLinear, scale_dtype: torch.dtype) -> Stored:
        scheme, scale = layer.kind.scheme, layer.scale
        if scheme.is_symmetric:
            zeros = torch.full(scale.shape, 2 ** (scheme.bits - 1), dtype=torch.uint8, device=scale.device)
        else:
            zeros = layer.zero_point
        return {
            self.mark: packing.to_words(layer.codes).T.contiguous(),
            "qzeros": packing.pack_words(zeros.T - self.less, scheme.bits),
            self.scale: scale.T.contiguous().to(scale_dtype),
            "g_idx": _in_order(layer.in_features, scale.shape[1]),
        }

    def unpack(self, tensors: Stored, kind: Affine, shape: tuple[int, int]) -> Stored:
        (rows, columns), bits = shape, kind.scheme.bits
        if not torch.equal(tensors["g_idx"], _in_order(columns, len(tensors[self.scale]))):
            raise ValueError(
                "g_idx puts its inputs into groups in another order (act-order, desc_act); groups are neighbours here: take a "
                "checkpoint that was made without it"
            )
        zeros = packing.unpack_words(tensors["qzeros"], bits, rows).T.contiguous()
        made = {
            "codes": packing.from_words(tensors[self.mark].T, bits, columns),
            "scale": tensors[self.scale].T.contiguous(),
        }
        if kind.scheme.is_symmetric:
            if not (zeros == 2 ** (bits - 1) - self.less).all():
                raise ValueError(
                    "sym is true, but its zero-points are not in the middle; say sym: false in config.json"
                )
            return made
        if self.less and (zeros == 2**bits - 1).any():
            raise ValueError(
                f"a stored zero-point is {2**bits - 1}, which version 1 cannot have: 1 more does not fit in {bits} bits"
            )
        return made | {"zero_point": zeros + self.less}

    def config(self, layers: dict[str, Affine], left: list[str], heads: list[str]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, kind in layers.items():
            own = _fields(kind.scheme)
            if own != (fields := fields or own):
                raise ValueError(
                    f"{name} has {own}, layers before it {fields}: the layout has one format for all layers"
                )
        made = {
            "quant_method": self.method,
            **fields,
            "desc_act": False,
            "lm_head": False,
            "checkpoint_format": self.checkpoint_format,
        }
        # As GPTQModel and vLLM write down and read what is left as it was.
        skipped = {f"-:^{re.escape(name)}$": {} for name in left}
        return made | {"dynamic": skipped} if skipped else made

    def kinds(self, config: dict[str, Any], names: list[str]) -> dict[str, Affine]:
        if (found := config.get("checkpoint_format") or "gptq") != self.checkpoint_format:
            raise ValueError(f"its checkpoint_format is {found}; gptq and gptq_v2 can be read here")
        if others := [each for each in config.get("dynamic") or {} if not each.startswith("-:")]:
            raise ValueError(
                f"dynamic gives some layers another format ({others[0]}); only one can be read here"
            )
        if (bits := config["bits"]) not in BITS:
            raise ValueError(f"its codes have {bits} bits; 2, 3, 4 and 8 can be read here")
        size = config["group_size"]
        granularity = "channel" if size == -1 else size
        if config["sym"]:
            return dict.fromkeys(names, Affine(Scheme(bits, granularity=granularity, full_range=True)))
        return dict.fromkeys(names, Affine(Scheme(bits, "integer", granularity)))


def _fields(scheme: Scheme) -> dict[str, Any]:
    """What quantization_config says of a weight."""
    size = scheme.granularity if isinstance(scheme.granularity, int) else -1
    return {"bits": scheme.bits, "group_size": size, "sym": scheme.is_symmetric}


def _in_order(columns: int, groups: int) -> torch.Tensor:
    """The group of each input where groups are neighbours."""
    return torch.arange(columns, dtype=torch.int32) // max(1, columns // max(1, groups))
