"""How a weight is stored: tensors that hold it, and the way back. What a quantized layer, a file and a leaderboard share."""

from dataclasses import asdict, dataclass, fields
from math import ceil, prod
from typing import Any, Protocol

import torch

from coursepkg import affine, double_quant, nf4, packing
from coursepkg.affine import Quantized, Scheme
from coursepkg.codebooks import NF4, Codebook
from coursepkg.double_quant import DoubleQuantized
from coursepkg.memory.storage import StorageFormat

Stored = dict[str, torch.Tensor]


class WeightFormat(Protocol):
    """A way to store a matrix (out_features, in_features). Equal ones store alike; they can be keys of a dict."""

    name: str

    def quantize(self, weight: torch.Tensor) -> Stored:
        """The tensors that are stored, by name, as small as they are stored."""

    def empty(self, shape: torch.Size, device: torch.device | str) -> Stored:
        """Tensors with the names, shapes and dtypes of those that `quantize` gives for a matrix of this shape, with anything in
        them. Raises ValueError where `quantize` raises it for the shape."""

    def dequantize(self, stored: Stored, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        """The matrix that they stand for."""

    def storage(self) -> StorageFormat:
        """Its arithmetic: what a matrix takes."""

    def described(self) -> dict[str, Any]:
        """What `weight_format` makes it from again; fit for JSON."""


@dataclass(frozen=True)
class Affine:
    """Whole numbers with a scale, and a zero-point where the scheme has one: codes packed row by row."""

    scheme: Scheme

    @property
    def name(self) -> str:
        size, clipping = self.scheme.granularity, self.scheme.clipping
        parts = [f"int{self.scheme.bits}", f"group of {size}" if isinstance(size, int) else f"per {size}"]
        if not self.scheme.is_symmetric:
            parts.append(f"{self.scheme.zero_point} zero-point")
        if self.scheme.full_range:
            parts.append("full range")
        if clipping != "none":
            parts.append(
                f"clipped at {self.scheme.percentile:g} %"
                if clipping == "percentile"
                else f"clipped by {clipping}"
            )
        return ", ".join(parts)

    def quantize(self, weight: torch.Tensor) -> Stored:
        return self.store(affine.quantize(weight, self.scheme))

    def store(self, made: Quantized) -> Stored:
        """What is stored of a matrix that has been quantized with this scheme, in whatever way."""
        codes = packing.unsigned(made.codes, self.scheme.bits) if self.scheme.is_symmetric else made.codes
        stored = {"codes": packing.pack(codes, self.scheme.bits), "scale": made.scale}
        return stored if made.zero_point is None else stored | {"zero_point": made.zero_point}

    def empty(self, shape: torch.Size, device: torch.device | str) -> Stored:
        block = affine.block_shape(tuple(shape), self.scheme.granularity)
        scales = [whole // part if part else 1 for whole, part in zip(shape, block, strict=True)]
        row = packing.packed_bytes(shape[1], self.scheme.bits)
        made = {
            "codes": torch.empty(shape[0], row, dtype=torch.uint8, device=device),
            "scale": torch.empty(scales, dtype=self.scheme.scale_dtype, device=device),
        }
        if not self.scheme.is_symmetric:
            dtype = torch.uint8 if self.scheme.zero_point == "integer" else self.scheme.scale_dtype
            made["zero_point"] = torch.empty(scales, dtype=dtype, device=device)
        return made

    def dequantize(self, stored: Stored, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        codes = packing.unpack(stored["codes"], self.scheme.bits, shape[1])
        if self.scheme.is_symmetric:
            codes = packing.signed(codes, self.scheme.bits)
        return affine.decode(codes, stored["scale"], stored.get("zero_point")).to(dtype)

    def storage(self) -> StorageFormat:
        bits = 8 * self.scheme.scale_dtype.itemsize
        if self.scheme.zero_point == "integer":
            bits += 8
        elif self.scheme.zero_point == "real":
            bits *= 2
        scale = StorageFormat("scales", bits)
        return StorageFormat(self.name, self.scheme.bits, self.scheme.granularity, scale, packed_by_row=True)

    def described(self) -> dict[str, Any]:
        given = asdict(self.scheme)
        return {"kind": "affine", **given, "scale_dtype": str(self.scheme.scale_dtype).removeprefix("torch.")}


@dataclass(frozen=True)
class Blocks:
    """Codes of a codebook with a scale for each block, as nf4 has them; the scales in fp32 or double quantized.

    refined: choose codes and 8-bit scales by `nf4.least_error`; of use where the scales are double quantized.
    """

    codebook: Codebook = NF4
    block_size: int = nf4.BLOCK_SIZE
    double_quantized: bool = False
    refined: bool = False

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise ValueError(f"block_size must be at least 1, not {self.block_size}")
        if self.refined and not self.double_quantized:
            raise ValueError("refined chooses codes for scales that are rounded: set double_quantized, too")

    @property
    def name(self) -> str:
        scales = {(False, False): "", (True, False): " + DQ", (True, True): " + DQ, refined"}
        return (
            f"{self.codebook.name}{scales[self.double_quantized, self.refined]}, block of {self.block_size}"
        )

    def quantize(self, weight: torch.Tensor) -> Stored:
        if self.refined:
            made = nf4.least_error(weight, self.codebook, self.block_size)
        else:
            made = nf4.quantize(weight, self.codebook, self.block_size, self.double_quantized)
        if isinstance(made.scales, DoubleQuantized):
            return {
                "codes": made.packed,
                "indices": made.scales.indices,
                "absmax": made.scales.absmax,
                "offset": made.scales.offset,
            }
        return {"codes": made.packed, "absmax": made.scales}

    def empty(self, shape: torch.Size, device: torch.device | str) -> Stored:
        count = prod(shape)
        blocks, row = ceil(count / self.block_size), packing.packed_bytes(count, self.codebook.bits)
        codes = (row, 1) if self.codebook.bits == 4 else (row,)  # as nf4.Blockwise has them
        made = {"codes": torch.empty(codes, dtype=torch.uint8, device=device)}
        if not self.double_quantized:
            return made | {"absmax": torch.empty(blocks, dtype=torch.float32, device=device)}
        return made | {
            "indices": torch.empty(blocks, dtype=torch.uint8, device=device),
            "absmax": torch.empty(ceil(blocks / double_quant.BLOCK_SIZE), dtype=torch.float32, device=device),
            "offset": torch.empty((), dtype=torch.float32, device=device),
        }

    def dequantize(self, stored: Stored, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        scales = stored["absmax"]
        if self.double_quantized:
            scales = DoubleQuantized(stored["indices"], scales, stored["offset"])
        made = nf4.Blockwise(stored["codes"], scales, self.codebook, self.block_size, shape, dtype)
        return made.dequantize()

    def storage(self) -> StorageFormat:
        scale = StorageFormat("fp32", 32)
        if self.double_quantized:
            scale = StorageFormat("dq8", 8, 256, scale, table_bytes=4)
        return StorageFormat(self.name, self.codebook.bits, self.block_size, scale)

    def described(self) -> dict[str, Any]:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"kind": "blocks", **given, "codebook": asdict(self.codebook)}


def weight_format(described: dict[str, Any]) -> WeightFormat:
    """The format that was described. Raises ValueError where that is none."""
    given = dict(described)
    kind = given.pop("kind", None)
    try:
        if kind == "affine":
            return Affine(Scheme(**given | {"scale_dtype": getattr(torch, given["scale_dtype"])}))
        if kind == "blocks":
            table = given["codebook"]
            return Blocks(**given | {"codebook": Codebook(table["name"], tuple(table["levels"]))})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a description of a weight format ({error}): {described}") from error
    raise ValueError(f"no kind of weight format {kind!r}; there are affine and blocks")


def stored_bytes(stored: Stored) -> int:
    """Bytes of the tensors as they lie in memory or in a file."""
    return sum(tensor.nbytes for tensor in stored.values())
