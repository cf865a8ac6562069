"""Blockwise quantization with a codebook: NF4, and any other table of levels, exactly as bitsandbytes computes it.

Neighbours in a flattened tensor share a scale, their absmax. What is left lies between −1 and 1, and each value gets the
code of the nearest level. The scales can be quantized in their turn: see double_quant.

Source: Dettmers et al. 2023, QLoRA, section 3; Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization", section 2.
"""

from dataclasses import dataclass, replace
from math import prod

import torch

from coursepkg import double_quant, packing
from coursepkg.codebooks import NF4, Codebook
from coursepkg.double_quant import LEAST, DoubleQuantized

#: bitsandbytes' default.
BLOCK_SIZE = 64
#: Values that are worked on at a time: few enough to stay in the processor's cache from one step to the next.
CHUNK = 32_768


@dataclass(frozen=True)
class Blockwise:
    """A tensor as codes of a codebook, with a scale for each block.

    packed: codes, uint8; those of 4 bits lie as in bitsandbytes, (ceil(n / 2), 1), others as packing.pack has them.
    scales: absmax of each block, float32 (blocks,), or those double quantized.
    """

    packed: torch.Tensor
    scales: torch.Tensor | DoubleQuantized
    codebook: Codebook
    block_size: int
    shape: torch.Size
    dtype: torch.dtype

    @property
    def absmax(self) -> torch.Tensor:
        """The scale that each block is read with, float32 (blocks,)."""
        return self.scales.dequantize() if isinstance(self.scales, DoubleQuantized) else self.scales

    @property
    def codes(self) -> torch.Tensor:
        """One code for each value, uint8, of the tensor's shape."""
        return unpacked(self.packed, self.codebook.bits, prod(self.shape)).reshape(self.shape)

    def dequantize(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """The values that the codes stand for, of the tensor's shape, in its dtype or another."""
        return dequantize(self, dtype)


def quantize(
    x: torch.Tensor,
    codebook: Codebook = NF4,
    block_size: int = BLOCK_SIZE,
    double_quantized: bool = False,
) -> Blockwise:
    """Quantize a tensor in blocks of `block_size` neighbours; the last one may be shorter.

    x: floating point, any shape; it is computed with in float32. double_quantized: quantize the scales, too.
    A block of zeros gets scale 0 and reads back as zeros. Raises ValueError for infinities, NaN, whole numbers, and a
    block_size below 1.
    """
    blocks, short = split(x, block_size)
    absmax = blocks.abs().amax(1)
    codes = _codes(blocks, absmax, codebook).reshape(-1)
    if len(short):
        largest = short.abs().max().clamp(min=LEAST)
        codes = torch.cat((codes, nearest(short / largest, codebook)))
        absmax = torch.cat((absmax, largest[None]))
    scales = double_quant.quantize(absmax) if double_quantized else absmax
    return Blockwise(packed_codes(codes, codebook), scales, codebook, block_size, x.shape, x.dtype)


def least_error(
    x: torch.Tensor, codebook: Codebook = NF4, block_size: int = BLOCK_SIZE, reach: int = 2
) -> Blockwise:
    """As `quantize` with double quantization, but codes are chosen for the scale that will be read, and of the 8-bit scales
    within `reach` of the nearest each block takes the one that makes its squared error least.

    bitsandbytes chooses codes for the exact absmax, and reads them with a rounded one. Raises ValueError as `quantize` does.
    """
    plain = quantize(x, codebook, block_size, double_quantized=True)
    blocks, short = split(x, block_size)
    rows = (
        torch.cat((blocks, torch.nn.functional.pad(short, (0, block_size - len(short)))[None]))
        if len(short)
        else blocks
    )
    best, least = None, None
    for step in sorted(range(-reach, reach + 1), key=abs):
        indices = (plain.scales.indices.int() + step).clamp(0, 255).to(torch.uint8)
        scales = replace(plain.scales, indices=indices)
        absmax = scales.dequantize()
        codes = _codes(rows, absmax, codebook)
        error = (codebook.tensor.to(x.device)[codes.int()] * absmax[:, None] - rows).square().sum(1)
        if best is None:
            best, least = (codes, indices), error
            continue
        better = error < least
        least = torch.where(better, error, least)
        best = torch.where(better[:, None], codes, best[0]), torch.where(better, indices, best[1])
    packed = packed_codes(best[0].reshape(-1)[: x.numel()], codebook)
    return replace(plain, packed=packed, scales=replace(plain.scales, indices=best[1]))


def _codes(blocks: torch.Tensor, absmax: torch.Tensor, codebook: Codebook) -> torch.Tensor:
    """The codes of whole blocks, each scaled by its absmax; uint8, of the blocks' shape."""
    codes = torch.empty(blocks.shape, dtype=torch.uint8, device=blocks.device)
    reciprocal = 1 / absmax.clamp(min=LEAST)  # bitsandbytes multiplies: one division a block
    rows = max(1, CHUNK // blocks.shape[1])
    for start in range(0, len(blocks), rows):
        part = slice(start, start + rows)
        codes[part] = nearest(blocks[part] * reciprocal[part, None], codebook)
    return codes


def nearest(scaled: torch.Tensor, codebook: Codebook) -> torch.Tensor:
    """The code, uint8, of the level nearest to each value: as many midpoints as lie below the value, so many levels are
    passed over. A value on a midpoint gets the lower level."""
    places = torch.zeros(scaled.shape, dtype=torch.uint8, device=scaled.device)
    for midpoint in codebook.midpoints.tolist():
        places += scaled > midpoint
    order = codebook.order
    return places if torch.equal(order, torch.arange(len(order), dtype=torch.uint8)) else order[places.long()]


def dequantize(quantized: Blockwise, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Level times absmax, in float32, then rounded to the dtype."""
    count, size = prod(quantized.shape), quantized.block_size
    absmax, levels = quantized.absmax, quantized.codebook.tensor.to(quantized.packed.device)
    made = torch.empty(count, dtype=dtype or quantized.dtype, device=quantized.packed.device)
    codes = unpacked(quantized.packed, quantized.codebook.bits, count)
    whole = count // size
    rows = max(1, CHUNK // size)
    blocks = made[: whole * size].reshape(whole, size)
    codes_of_blocks = codes[: whole * size].reshape(whole, size)
    for start in range(0, whole, rows):
        part = slice(start, min(start + rows, whole))
        blocks[part] = levels[codes_of_blocks[part].int()] * absmax[part, None]
    if count % size:
        made[whole * size :] = levels[codes[whole * size :].int()] * absmax[-1]
    return made.reshape(quantized.shape)


def split(x: torch.Tensor, block_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The tensor in float32 as whole blocks, (blocks, block_size), and what is left after them, flat."""
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, not {block_size}")
    if not x.is_floating_point():
        raise ValueError(f"x must be floating point, not {x.dtype}: whole numbers are codes already")
    flat = x.detach().reshape(-1).float()
    if not flat.isfinite().all():
        raise ValueError("x holds infinities or NaN: no absmax scales them")
    whole = len(flat) // block_size * block_size
    return flat[:whole].reshape(-1, block_size), flat[whole:]


def packed_codes(codes: torch.Tensor, codebook: Codebook) -> torch.Tensor:
    """Flat codes as bytes."""
    if codebook.bits == 4:
        return packing.pack_nibbles(codes, filler=codebook.code_of_zero)
    return packing.pack(codes, codebook.bits)


def unpacked(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """The codes, flat, uint8."""
    return packing.unpack_nibbles(packed, count) if bits == 4 else packing.unpack(packed, bits, count)
