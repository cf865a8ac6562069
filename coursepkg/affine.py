"""Symmetric rounding: whole numbers and a scale, w ≈ scale · q, for any number of weights that share the scale.

Source: Jacob et al. 2018, section 2.1, with the zero-point at 0; groups as in GPTQ (Frantar et al. 2023, section 4).
"""

from typing import Literal

import torch

Granularity = int | Literal["channel", "tensor"]


def block_shape(shape: tuple[int, int], granularity: Granularity) -> tuple[int, int]:
    """The part of a matrix (out_features, in_features) that shares a scale, as (rows, columns).

    granularity: "tensor", "channel" (an output channel), or the size of a group of neighbours in a row.
    Raises ValueError where groups of that size do not fill a row.
    """
    rows, columns = shape
    if granularity == "tensor":
        return rows, columns
    if granularity == "channel":
        return 1, columns
    if granularity < 1 or columns % granularity:
        raise ValueError(
            f"groups of {granularity} do not fill rows of {columns}; choose a divisor of {columns}"
        )
    return 1, granularity


def quantize(
    weight: torch.Tensor,
    bits: int,
    granularity: Granularity = "channel",
    scale_dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales of a matrix: q = round(w / scale), scale = absmax / (2^(bits − 1) − 1).

    weight: float, (out_features, in_features). bits: 2 to 8; the codes are symmetric, so 4 bits give −7 to 7.
    scale_dtype: the format in which the scales are stored; they are rounded to it before they are used.
    Returns codes, int8, of the weight's shape, and scales, scale_dtype, (row blocks, column blocks). A block of zeros
    has scale 1; a scale too small for scale_dtype becomes its smallest normal number. Raises ValueError for other bits,
    for a weight with infinities or NaN, and for one so large that its scale overflows scale_dtype.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be from 2 to 8, not {bits}")
    if not weight.isfinite().all():
        raise ValueError("the weight holds infinities or NaN: no scale reaches them")
    largest = 2 ** (bits - 1) - 1
    blocks = _blocks(weight.float(), block_shape(tuple(weight.shape), granularity))
    absmax = blocks.abs().amax((1, 3), keepdim=True)
    scale = (absmax / largest).clamp(min=torch.finfo(scale_dtype).tiny).to(scale_dtype)
    if not scale.isfinite().all():
        raise ValueError(
            f"the scale {absmax.max() / largest:.3g} is too large for {scale_dtype}; store it in float32"
        )
    scale = torch.where(absmax == 0, torch.ones_like(scale), scale)
    codes = (blocks / scale.float()).round().clamp(-largest, largest)
    return codes.to(torch.int8).reshape(weight.shape), scale[:, 0, :, 0]


def dequantize(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The weights that the codes stand for, float32, of the codes' shape."""
    rows, columns = codes.shape[0] // scale.shape[0], codes.shape[1] // scale.shape[1]
    return (_blocks(codes.float(), (rows, columns)) * scale.float()[:, None, :, None]).reshape(codes.shape)


def _blocks(matrix: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """A matrix as (row blocks, rows of a block, column blocks, columns of a block)."""
    rows, columns = shape
    return matrix.reshape(matrix.shape[0] // rows, rows, matrix.shape[1] // columns, columns)
