"""Affine quantization: whole numbers on an evenly spaced ruler, x ≈ scale · (q − zero_point).

A ruler has a step (the scale) and says which number stands at 0 (the zero-point). How many values share one is the
granularity: a tensor, a row of it, a group of neighbours in a row. All are one thing here, the block that shares a scale.

Source: Jacob et al. 2018, section 2.1; Nagel et al. 2021, "A White Paper on Neural Network Quantization", section 2; groups
as in GPTQ (Frantar et al. 2023, section 5).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

Granularity = int | Literal["channel", "tensor"]
ZeroPoint = Literal["integer", "real"]
Clipping = Literal["none", "percentile", "mse"]
#: Limits that "mse" tries, as shares of the whole range.
SHARES = 100
#: The largest size of a value, so that no sum with an offset leaves float32.
LARGEST = torch.finfo(torch.float32).max / 4


@dataclass(frozen=True)
class Scheme:
    """How numbers become codes.

    bits: 2 to 8.
    zero_point: None is symmetric: 0 has code 0, and the ruler reaches equally far on both sides. "integer": the code of
    0 is a whole number, stored with the scale; the range is widened to hold 0. "real": the ruler starts at a real
    number, its offset, x ≈ scale · q + offset; 0 need not be on it.
    granularity: "tensor", "channel" (a row: an output channel of a weight, a token of activations) or the size of a
    group of neighbours in a row.
    full_range: of symmetric codes. False: from −(2^(bits−1) − 1) to its opposite, as many on each side, and the largest
    value is hit exactly. True: one more on the negative side, as GPTQ and compressed-tensors have it: steps are smaller,
    and the largest value lies half a step beyond a code.
    clipping: "none" lets the ruler reach from the least value to the largest (absmax, or min and max). "percentile"
    leaves out what is beyond: `percentile` of the values stay inside. "mse" takes, of limits at 1 %, 2 %, … 100 % of the range,
    that of the least mean squared error.
    scale_dtype: the format in which scales and offsets are stored; they are rounded to it before they are used.

    Raises ValueError where these do not go together.
    """

    bits: int = 8
    zero_point: ZeroPoint | None = None
    granularity: Granularity = "channel"
    full_range: bool = False
    clipping: Clipping = "none"
    percentile: float = 99.9
    scale_dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not 2 <= self.bits <= 8:
            raise ValueError(f"bits must be from 2 to 8, not {self.bits}")
        for name, known in (("zero_point", (None, *get_args(ZeroPoint))), ("clipping", get_args(Clipping))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be {', '.join(map(str, known[:-1]))} or {known[-1]}, not {getattr(self, name)!r}"
                )
        size = self.granularity
        if size not in ("tensor", "channel") and (not isinstance(size, int) or size < 1):
            raise ValueError(f"granularity must be tensor, channel or the size of a group, not {size!r}")
        if self.full_range and not self.is_symmetric:
            raise ValueError(
                "full_range is a choice of symmetric codes; with a zero_point all codes are used"
            )
        if not 50 < self.percentile <= 100:
            raise ValueError(f"percentile must be above 50 and at most 100, not {self.percentile}")
        if self.scale_dtype not in (torch.float16, torch.bfloat16, torch.float32):
            raise ValueError(
                f"scale_dtype must be torch.float16, torch.bfloat16 or torch.float32, not {self.scale_dtype}"
            )

    @property
    def is_symmetric(self) -> bool:
        return self.zero_point is None

    @property
    def code_range(self) -> tuple[int, int]:
        """The lowest and the highest code."""
        if not self.is_symmetric:
            return 0, 2**self.bits - 1
        highest = 2 ** (self.bits - 1) - 1
        return -highest - self.full_range, highest

    @property
    def code_dtype(self) -> torch.dtype:
        return torch.int8 if self.is_symmetric else torch.uint8

    @property
    def steps(self) -> float:
        """Steps of the ruler between the ends of the range of values."""
        lowest, highest = self.code_range
        return float(highest - lowest)


@dataclass(frozen=True)
class Quantized:
    """A tensor as codes, with what they are read by.

    codes: int8 (symmetric) or uint8, of the tensor's shape. scale: (row blocks, column blocks), in the scheme's
    scale_dtype. zero_point: None, or of the scale's shape: uint8 (integer), or the offset in scale_dtype (real).
    """

    codes: torch.Tensor
    scale: torch.Tensor
    zero_point: torch.Tensor | None
    scheme: Scheme

    def dequantize(self) -> torch.Tensor:
        """The values that the codes stand for, float32."""
        return decode(self.codes, self.scale, self.zero_point)


def quantize(x: torch.Tensor, scheme: Scheme | None = None) -> Quantized:
    """Round a tensor to codes. x: floating point, any shape; its rows run along the last dimension.

    Without clipping no value is off by more than half a step (and the rounding of the stored scale itself; offsets are rounded
    down, and the ruler is laid from there). A block of zeros has scale 1 and codes 0; so has a constant block with a "real" zero-point
    in float32, whose offset is the constant. A scale too small for its dtype becomes that dtype's smallest normal number. Raises ValueError for infinities, NaN, whole
    numbers and values above LARGEST in x, for groups that do not fill the rows, and where a scale or offset overflows its dtype.

    >>> quantize(torch.tensor([0.23, -0.71, 0.02, 1.05]), Scheme(bits=4)).codes.tolist()
    [2, -5, 0, 7]
    """
    scheme = scheme or Scheme()
    scale, zero_point = choose_qparams(x, scheme)
    return Quantized(encode(x, scale, zero_point, scheme), scale, zero_point, scheme)


def choose_qparams(x: torch.Tensor, scheme: Scheme) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scale and zero-point of every block of a tensor, as in Quantized. Raises ValueError as `quantize` does."""
    blocks = _finite(x).reshape(_block_of(x.shape, scheme.granularity))
    if not blocks.numel():
        low = high = blocks.new_zeros(blocks.shape[0], 1, blocks.shape[2], 1)
    elif scheme.clipping == "percentile":
        low, high = _percentiles(blocks, scheme)
    else:
        low, high = blocks.amin((1, 3), keepdim=True), blocks.amax((1, 3), keepdim=True)
    if scheme.clipping == "mse":
        scale, zero_point = _least_error(blocks, low, high, scheme)
    else:
        scale, zero_point = _ruler(low, high, scheme)
    return scale[:, 0, :, 0], None if zero_point is None else zero_point[:, 0, :, 0]


def encode(
    x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None, scheme: Scheme
) -> torch.Tensor:
    """The codes nearest to the values; what lies beyond the ruler gets the code at its end. Ties go to an even number of steps,
    counted from 0 or from a real offset.

    scale, zero_point: of shape (row blocks, column blocks). Raises ValueError for infinities and NaN, and where a symmetric
    scheme is given a zero-point, or another none.
    """
    if scheme.is_symmetric != (zero_point is None):
        raise ValueError(
            f"a scheme with zero_point {scheme.zero_point} and {'no' if zero_point is None else 'a'} zero-point"
        )
    blocks = _finite(x).reshape(_shared_by(x.shape, scale))
    codes = nearest_codes(blocks, _beside(scale), _beside(zero_point), scheme)
    return codes.to(scheme.code_dtype).reshape(x.shape)


def decode(codes: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None = None) -> torch.Tensor:
    """The values that codes stand for, float32, of the codes' shape: scale · (q − zero_point), or where the zero-point
    is a real offset, scale · q + offset."""
    blocks = codes.reshape(_shared_by(codes.shape, scale))
    return values(blocks, _beside(scale), _beside(zero_point)).reshape(codes.shape)


def offset(scale: torch.Tensor, zero_point: torch.Tensor) -> torch.Tensor:
    """The real number at which the ruler of an integer zero-point starts: the value of code 0, −scale · zero_point.

    With it, scale · q + offset is the same map as scale · (q − zero_point).
    """
    return -scale.float() * zero_point.float()


def block_shape(shape: tuple[int, int], granularity: Granularity) -> tuple[int, int]:
    """The part of a matrix (rows, columns) that shares a scale, as (rows, columns).

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


# What a ruler is


def _ruler(low: torch.Tensor, high: torch.Tensor, scheme: Scheme) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scale and zero-point of rulers that reach from `low` to `high`."""
    if scheme.is_symmetric:
        absmax = torch.maximum(low.abs(), high.abs())
        return _stored(absmax / (scheme.steps / 2), scheme), None
    if scheme.zero_point == "integer":
        low, high = low.clamp(max=0), high.clamp(min=0)
    if scheme.zero_point == "real":
        start = _not_too_large(low, _rounded_down(low, scheme.scale_dtype), "offset")
        return _stored((high - start.float()) / scheme.steps, scheme), start
    scale = _stored((high - low) / scheme.steps, scheme)
    return scale, (-low / scale.float()).round().clamp(0, scheme.steps).to(torch.uint8)


def nearest_codes(
    blocks: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None, scheme: Scheme
) -> torch.Tensor:
    """As `encode`, for scales and zero-points that lie beside the values or broadcast to them; float32."""
    if zero_point is None:
        steps = (blocks / scale.float()).round()
    elif scheme.zero_point == "integer":
        steps = (blocks / scale.float()).round() + zero_point.float()
    else:
        steps = ((blocks - zero_point.float()) / scale.float()).round()
    return steps.clamp(*scheme.code_range)


def values(codes: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None) -> torch.Tensor:
    """As `decode`, for scales and zero-points that lie beside the codes or broadcast to them; float32."""
    if zero_point is None:
        return codes * scale.float()
    if zero_point.dtype.is_floating_point:
        return codes * scale.float() + zero_point.float()
    return (codes - zero_point.float()) * scale.float()


# Clipping


def _percentiles(blocks: torch.Tensor, scheme: Scheme) -> tuple[torch.Tensor, torch.Tensor]:
    """Limits between which `percentile` per cent of each block's values lie: of their sizes, where symmetric."""
    together = blocks.transpose(1, 2).flatten(2)
    share = scheme.percentile / 100
    if scheme.is_symmetric:
        high = _quantile(together.abs(), share)
        return -high, high
    beyond = (1 - share) / 2
    return _quantile(together, beyond), _quantile(together, 1 - beyond)


def _quantile(together: torch.Tensor, share: float) -> torch.Tensor:
    """The quantile of the last dimension, interpolated between its neighbours. (torch.quantile takes 16 million values
    at most.)"""
    place = share * (together.shape[-1] - 1)
    below = int(place)
    ordered = together.sort(-1).values
    first, second = ordered[..., below], ordered[..., min(below + 1, together.shape[-1] - 1)]
    return torch.lerp(first, second, place - below)[:, None, :, None]


def _least_error(
    blocks: torch.Tensor, low: torch.Tensor, high: torch.Tensor, scheme: Scheme
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The rulers of least squared error over each block, of those that reach over a share of its range: around 0, or where they
    need not hold 0, around its middle."""
    best_scale, best_zero = _ruler(low, high, scheme)
    least = torch.full_like(low, torch.inf)
    middle = (low + high) / 2 if scheme.zero_point == "real" else torch.zeros_like(low)
    unit = (
        0.5 ** torch.frexp(torch.maximum(low.abs(), high.abs())).exponent.float()
    )  # exact, and keeps squares in float32
    for share in range(SHARES, 0, -1):
        if share == SHARES:
            scale, zero_point = best_scale, best_zero
        else:
            ends = (middle + (end - middle) * share / SHARES for end in (low, high))
            scale, zero_point = _ruler(*ends, scheme)
        back = values(nearest_codes(blocks, scale, zero_point, scheme), scale, zero_point)
        error = ((back - blocks) * unit).square().sum((1, 3), keepdim=True)
        better = error < least
        least = torch.where(better, error, least)
        best_scale = torch.where(better, scale, best_scale)
        best_zero = None if zero_point is None else torch.where(better, zero_point, best_zero)
    return best_scale, best_zero


# What a block is


def _finite(x: torch.Tensor) -> torch.Tensor:
    """As float32. Raises ValueError for what has no place on a ruler."""
    if not x.is_floating_point():
        raise ValueError(f"x must be floating point, not {x.dtype}: whole numbers are codes already")
    x = x.detach().float()
    if not x.isfinite().all():
        raise ValueError("x holds infinities or NaN: no scale reaches them")
    if x.numel() and x.abs().max() > LARGEST:
        raise ValueError(
            f"x holds values above {LARGEST:.2g} in size, whose sums overflow float32: scale it down"
        )
    return x


def _stored(scale: torch.Tensor, scheme: Scheme) -> torch.Tensor:
    """Scales in their dtype, never 0. Raises ValueError where one is too large for it."""
    smallest = torch.finfo(scheme.scale_dtype).tiny
    stored = _not_too_large(scale, scale.clamp(min=smallest).to(scheme.scale_dtype), "scale")
    return torch.where(scale == 0, torch.ones_like(stored), stored)


def _rounded_down(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The largest numbers of a dtype that are not above x."""
    nearest = x.to(dtype)
    below = torch.nextafter(nearest, torch.full_like(nearest, -torch.inf))
    return torch.where((nearest.float() > x) & nearest.isfinite(), below, nearest)


def _not_too_large(exact: torch.Tensor, stored: torch.Tensor, what: str) -> torch.Tensor:
    if not stored.isfinite().all():
        raise ValueError(
            f"the {what} {exact.abs().max():.3g} is too large for {stored.dtype}; store it in float32"
        )
    return stored


def _matrix_shape(shape: torch.Size) -> tuple[int, int]:
    """A tensor's rows, and their length: all dimensions but the last are rows."""
    columns = shape[-1] if shape else 1
    return torch.Size(shape[:-1]).numel(), columns


def _block_of(shape: torch.Size, granularity: Granularity) -> tuple[int, int, int, int]:
    """How a tensor falls into blocks: row blocks, rows of a block, column blocks, columns of a block."""
    matrix = _matrix_shape(shape)
    block = block_shape(matrix, granularity)
    (row_blocks, rows), (column_blocks, columns) = (
        (whole // part if part else 1, part) for whole, part in zip(matrix, block, strict=True)
    )
    return row_blocks, rows, column_blocks, columns


def _shared_by(shape: torch.Size, scale: torch.Tensor) -> tuple[int, int, int, int]:
    """The same, into as many blocks as there are scales. Raises ValueError where it does not."""
    rows, columns = _matrix_shape(shape)
    row_blocks, column_blocks = scale.shape
    if rows % max(1, row_blocks) or columns % max(1, column_blocks):
        raise ValueError(f"{row_blocks} × {column_blocks} scales do not divide {rows} rows of {columns}")
    return row_blocks, rows // max(1, row_blocks), column_blocks, columns // max(1, column_blocks)


def _beside(parameter: torch.Tensor | None) -> torch.Tensor | None:
    """Scales or zero-points, each beside its block."""
    return None if parameter is None else parameter[:, None, :, None]
