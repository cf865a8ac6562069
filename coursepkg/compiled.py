"""nf4's arithmetic through torch.compile: the same bits, several times as fast. It needs a C++ compiler.

Quantizing is compiled in three stages. Each reads and writes memory once; fused into one function, the largest of a block would be
known too late for its values to be still at hand, and the compiler recomputes.
"""

import functools
import shutil
from collections.abc import Callable
from math import prod

import torch

from coursepkg import double_quant, nf4
from coursepkg.codebooks import NF4, Codebook


def is_there() -> bool:
    """Whether this machine has a C++ compiler that torch.compile can use."""
    return any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl"))


def quantize(
    x: torch.Tensor,
    codebook: Codebook = NF4,
    block_size: int = nf4.BLOCK_SIZE,
    double_quantized: bool = False,
) -> nf4.Blockwise:
    """As nf4.quantize, for 4 bits, sorted levels and an even block_size that divides the values; else nf4.quantize itself.

    The first call for a codebook and a block_size compiles, which takes some seconds. Raises ValueError as nf4.quantize does.
    """
    if (
        codebook.bits != 4
        or block_size < 1
        or block_size % 2
        or x.numel() % block_size
        or not _is_sorted(codebook)
    ):
        return nf4.quantize(x, codebook, block_size, double_quantized)
    blocks, _ = nf4.split(x, block_size)
    absmax = _compiled(_absmax)(blocks)
    if not absmax.isfinite().all():
        raise ValueError("x holds infinities or NaN: no absmax scales them")
    codes = _encoder(codebook)(blocks, absmax)
    packed = _compiled(_packed)(codes.reshape(-1, 2))
    scales = double_quant.quantize(absmax) if double_quantized else absmax
    return nf4.Blockwise(packed, scales, codebook, block_size, x.shape, x.dtype)


def dequantize(
    quantized: nf4.Blockwise, dtype: torch.dtype | None = None, out: torch.Tensor | None = None
) -> torch.Tensor:
    """As nf4.dequantize, under the same conditions, but for the order of the levels."""
    book, size, count = quantized.codebook, quantized.block_size, prod(quantized.shape)
    if book.bits != 4 or size % 2 or count % size or len(book.levels) != 16:
        return nf4.dequantize(quantized, dtype, out)
    made = nf4.room(quantized, dtype, out)
    packed = quantized.packed.reshape(-1, size // 2)
    levels = book.tensor.to(packed.device)
    _compiled(_decode)(packed, levels, quantized.absmax, made.reshape(-1, size))
    return made


@functools.cache
def _compiled(function: Callable) -> Callable:
    return torch.compile(function, dynamic=True)


@functools.cache
def _encoder(codebook: Codebook) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The comparison with all midpoints, as many instructions; the compiler makes vectors of them."""
    midpoints = codebook.midpoints.tolist()

    def encode(blocks: torch.Tensor, absmax: torch.Tensor) -> torch.Tensor:
        scaled = (blocks * nf4.reciprocals(absmax)[:, None]).clamp(-1, 1)
        places = torch.zeros_like(scaled, dtype=torch.int32)  # counted in bytes, it would not become vectors
        for midpoint in midpoints:
            places = places + (scaled > midpoint).int()
        return places.to(torch.uint8)

    return torch.compile(encode, dynamic=True)


def _absmax(blocks: torch.Tensor) -> torch.Tensor:
    return blocks.abs().amax(1)


def _packed(pairs: torch.Tensor) -> torch.Tensor:
    return (pairs[:, :1] << 4) | pairs[:, 1:]


def _decode(packed: torch.Tensor, levels: torch.Tensor, absmax: torch.Tensor, out: torch.Tensor) -> None:
    codes = torch.stack((packed >> 4, packed & 15), 2).flatten(1)
    out.copy_(levels[codes.int()] * absmax[:, None])


def _is_sorted(codebook: Codebook) -> bool:
    return list(codebook.levels) == sorted(codebook.levels)
