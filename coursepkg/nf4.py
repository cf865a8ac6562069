"""Blockwise quantization with a codebook: NF4, and any other table of levels, exactly as bitsandbytes computes it.

Neighbours in a flattened tensor share a scale, their absmax. What is left lies between −1 and 1, and each value gets the
code of the nearest level. The scales can be quantized in their turn: see double_quant.

Source: Dettmers et al. 2023, QLoRA, section 3; Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization", section 2.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import torch

from coursepkg import double_quant, packing
from coursepkg.codebooks import NF4, Codebook, cell_of
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
    A block of zeros gets scale 0 (a last, shorter one LEAST, as in bitsandbytes) and reads back as zeros.
    Raises ValueError for infinities, NaN, whole numbers, and a block_size below 1.
    """
    blocks, short = split(x, block_size)
    absmax = _absmax(blocks, short)
    codes = _codes(blocks, absmax[: len(blocks)], codebook).reshape(-1)
    if len(short):
        scaled = (short / absmax[-1]).nan_to_num(0)  # 0 / 0 where the processor takes LEAST for 0
        codes = torch.cat((codes, nearest(scaled, codebook)))
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
    flat = x.detach().reshape(-1).float()
    rows = torch.nn.functional.pad(flat, (0, -len(flat) % block_size)).reshape(-1, block_size)
    steps = sorted(range(-reach, reach + 1), key=abs)
    indices = [(plain.scales.indices.int() + step).clamp(0, 255).to(torch.uint8) for step in steps]
    absmax = [replace(plain.scales, indices=each).dequantize() for each in indices]
    chosen, codes = torch.empty_like(indices[0]), torch.empty(rows.shape, dtype=torch.uint8, device=x.device)
    levels = codebook.tensor.to(x.device)
    for part in chunks(*rows.shape, rows.device):
        found = [_codes(rows[part], each[part], codebook) for each in absmax]
        errors = torch.stack(
            [
                (levels[each.int()] * scale[part, None] - rows[part]).square().sum(1)
                for each, scale in zip(found, absmax, strict=True)
            ]
        )
        best = errors.argmin(0)  # of equal ones the first, which is the nearest
        every = torch.arange(len(best), device=x.device)
        codes[part] = torch.stack(found)[best, every]
        chosen[part] = torch.stack([each[part] for each in indices])[best, every]
    packed = packed_codes(codes.reshape(-1)[: x.numel()], codebook)
    return replace(plain, packed=packed, scales=replace(plain.scales, indices=chosen))


def _absmax(blocks: torch.Tensor, short: torch.Tensor) -> torch.Tensor:
    """The absmax of each block, and of a last short one. Raises ValueError for infinities and NaN."""
    absmax = torch.empty(len(blocks), dtype=torch.float32, device=blocks.device)
    for part in chunks(*blocks.shape, blocks.device):
        absmax[part] = blocks[part].abs().amax(1)
    if len(short):
        absmax = torch.cat((absmax, short.abs().max().clamp(min=LEAST)[None]))
    if not absmax.isfinite().all():
        raise ValueError("x holds infinities or NaN: no absmax scales them")
    return absmax


def _codes(blocks: torch.Tensor, absmax: torch.Tensor, codebook: Codebook) -> torch.Tensor:
    """The codes of whole blocks, each scaled by its absmax; uint8, of the blocks' shape."""
    codes = torch.empty(blocks.shape, dtype=torch.uint8, device=blocks.device)
    reciprocal = reciprocals(absmax)  # bitsandbytes multiplies: one division a block
    for part in chunks(*blocks.shape, blocks.device):
        codes[part] = nearest((blocks[part] * reciprocal[part, None]).clamp(-1, 1), codebook)
    return codes


def reciprocals(absmax: torch.Tensor) -> torch.Tensor:
    """What blocks are multiplied by; 0 for blocks of zeros."""
    return torch.where(absmax > 0, 1 / absmax.clamp(min=LEAST), 0)


def chunks(blocks: int, block_size: int, device: torch.device) -> Iterator[slice]:
    """Blocks, a cache full at a time: what one step writes is still there when the next step reads it. On a GPU all at once."""
    step = max(1, CHUNK // block_size) if device.type == "cpu" else max(1, blocks)
    for start in range(0, blocks, step):
        yield slice(start, min(start + step, blocks))


def nearest(scaled: torch.Tensor, codebook: Codebook) -> torch.Tensor:
    """The code, uint8, of the level nearest to each value between −1 and 1; a value on a midpoint gets the lower level.

    As many midpoints as lie below a value, so many levels are passed over. A table says how many of them lie in the cells of a grid
    before the value's own; of the one in its own cell, if there is one, a comparison decides.
    """
    before, midpoint, order = _tables(codebook, scaled.device)
    flat = scaled.reshape(-1)
    cell = cell_of(flat, len(before) - 1)
    places = before.index_select(0, cell) + (flat > midpoint.index_select(0, cell))
    if order is not None:
        places = order.index_select(0, places.int())
    return places.reshape(scaled.shape)


@functools.cache
def _tables(
    codebook: Codebook, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The codebook's cells, and its order where that is not the levels' own."""
    order = codebook.order
    is_sorted = torch.equal(order, torch.arange(len(order), dtype=torch.uint8, device="cpu"))
    return *(table.to(device) for table in codebook.cells), None if is_sorted else order.to(device)


def dequantize(
    quantized: Blockwise, dtype: torch.dtype | None = None, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Level times absmax, in float32, then rounded to the dtype.

    out: a contiguous tensor to write to instead of a new one; new memory takes longer than the arithmetic. Raises
    ValueError where it has another shape, or another dtype than is asked for.
    """
    count, size = prod(quantized.shape), quantized.block_size
    absmax, book = quantized.absmax, quantized.codebook
    made = room(quantized, dtype, out)
    if book.bits == 4 and size % 2 == 0:
        levels = _levels_of_bytes(book, absmax.device)
        read = functools.partial(_read_pairs, quantized.packed.reshape(-1), levels)
    else:
        read = functools.partial(_read, quantized.codes.reshape(-1), book.tensor.to(absmax.device))
    whole, flat = count // size, made.view(-1)
    blocks = flat[: whole * size].view(whole, size)
    for part in chunks(whole, size, made.device):
        levels = read(part.start * size, part.stop * size).view(-1, size)
        if made.dtype == torch.float32:
            torch.mul(levels, absmax[part, None], out=blocks[part])
        else:
            blocks[part] = levels * absmax[part, None]
    if count % size:
        flat[whole * size :] = read(whole * size, count) * absmax[-1]
    return made


def room(quantized: Blockwise, dtype: torch.dtype | None, out: torch.Tensor | None) -> torch.Tensor:
    """Where the values go: `out`, or a new tensor. Raises ValueError where `out` does not fit."""
    dtype = dtype or quantized.dtype
    if out is None:
        return torch.empty(quantized.shape, dtype=dtype, device=quantized.packed.device)
    if out.shape != quantized.shape or out.dtype != dtype or not out.is_contiguous():
        raise ValueError(
            f"out must be contiguous, {dtype} and of shape {tuple(quantized.shape)}, not {out.dtype} and {tuple(out.shape)}"
        )
    return out


def _read(codes: torch.Tensor, levels: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """The levels of the codes from start to stop, float32."""
    return levels.index_select(0, codes[start:stop].int())


def _read_pairs(packed: torch.Tensor, levels: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """The same of two codes in a byte: one look-up gives both levels. start is even."""
    pairs = levels.index_select(0, packed[start // 2 : (stop + 1) // 2].int())
    return pairs.view(torch.float32)[: stop - start]


@functools.cache
def _levels_of_bytes(codebook: Codebook, device: torch.device) -> torch.Tensor:
    """For each of 256 bytes the levels of its two codes, two float32 side by side in the room of an int64 (256,)."""
    levels = torch.zeros(16, dtype=torch.float32, device="cpu")
    levels[: len(codebook.levels)] = codebook.tensor
    return torch.cartesian_prod(levels, levels).view(torch.int64).reshape(-1).to(device)


def split(x: torch.Tensor, block_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The tensor in float32 as whole blocks, (blocks, block_size), and what is left after them, flat."""
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, not {block_size}")
    if not x.is_floating_point():
        raise ValueError(f"x must be floating point, not {x.dtype}: whole numbers are codes already")
    flat = x.detach().reshape(-1).float()
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
