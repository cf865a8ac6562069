"""Small floats in blocks that share a scale: the MX formats and NVFP4.

Sources: OCP Microscaling Formats (MX) v1.0; NVIDIA 2025, "Pretraining Large Language Models with NVFP4",
appendix C.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from coursepkg.formats.floats import FloatFormat
from coursepkg.formats.interface import power_of_two


@dataclass(frozen=True)
class BlockFormat(ABC):
    """Neighbours in the last dimension, `block_size` of them, share a scale: value = element · scale.

    element, scale: the formats of the two. source: where it is defined.
    """

    name: str
    element: FloatFormat
    block_size: int
    scale: FloatFormat
    source: str

    @property
    def effective_bits(self) -> float:
        """Bits that a value takes with its share of its block's scale."""
        return self.element.bits + self.scale.bits / self.block_size

    @abstractmethod
    def quantize(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Codes of the elements, codes of the scales, and what else the format stores."""

    def _blocks(self, x: torch.Tensor) -> torch.Tensor:
        """x as float64, (..., blocks, block_size). Raises ValueError for what cannot be quantized."""
        if x.numel() == 0 or x.dim() == 0 or x.shape[-1] % self.block_size:
            raise ValueError(
                f"{self.name} has blocks of {self.block_size} in the last dimension; they do not fill "
                f"the shape {tuple(x.shape)}"
            )
        numbers = x.detach().double()
        if not numbers.isfinite().all():
            raise ValueError("the tensor holds infinities or NaN: no scale reaches them")
        if numbers.abs().max() > torch.finfo(torch.float32).max:
            raise ValueError("the tensor holds numbers beyond the range of float32")
        return numbers.unflatten(-1, (-1, self.block_size))

    def _elements(self, blocks: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Codes, uint8, (..., columns), of blocks over their scale, (..., blocks, 1). Elements saturate."""
        return self.element.encode(blocks / scale, saturate=True).flatten(-2)

    def _values(self, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """element · scale, float64, (..., columns). Raises ValueError for scales of another shape."""
        expected = (*scales.shape[:-1], scales.shape[-1] * self.block_size) if scales.dim() else None
        if tuple(codes.shape) != expected:
            raise ValueError(
                f"{self.name} has a scale for every {self.block_size} codes of the last dimension; "
                f"codes {tuple(codes.shape)} and scales {tuple(scales.shape)} do not go together"
            )
        elements = self.element.decode(codes).unflatten(-1, (-1, self.block_size))
        return (elements * self.scale.decode(scales)[..., None]).flatten(-2)


@dataclass(frozen=True)
class MXFormat(BlockFormat):
    """A microscaling format: blocks of 32 whose scale is a power of two.

    >>> from coursepkg.formats import MXFP4
    >>> codes, scales = MXFP4.quantize(torch.arange(32.0))
    >>> MXFP4.scale.decode(scales).tolist(), MXFP4.dequantize(codes, scales)[-8:].tolist()
    ([4.0], [24.0, 24.0, 24.0, 24.0, 24.0, 24.0, 24.0, 24.0])
    """

    def quantize(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes of the elements and of the scales (e8m0).

        x: (..., columns), columns a multiple of block_size. Returns uint8 of x's shape, and uint8 of shape
        (..., columns / block_size). The scale is 2^(floor(log2(absmax)) − emax), kept within 2^±127, with
        emax the exponent of the largest element (2 in e2m1). A block of zeros has the smallest scale.
        Raises ValueError where blocks do not fill a row, and for infinities, NaN and numbers beyond float32.
        Source: OCP MX v1.0, section 6.3.

        The error of e2m1, with X the scale: floor(log2) puts absmax between 4X and 8X. A value up to 6X is
        off by half the spacing at it: up to 4X by X/2 at most, which is absmax/8; from 4X to 6X by |x|/5 at
        most, at 5X. Beyond 6X it saturates and loses |x| − 6X, less than |x|/4. So no error exceeds absmax/4,
        or 2^−129, a quarter of the smallest scale, where absmax is so small that a smaller scale was called
        for.
        """
        blocks = self._blocks(x)
        absmax = blocks.abs().amax(-1, keepdim=True)
        exponents = torch.frexp(absmax).exponent.long() - 1 - self.element.max_exponent
        exponents = exponents.clamp(self.scale.min_exponent, self.scale.max_exponent)
        scales = torch.where(absmax == 0, self.scale.smallest_normal, power_of_two(exponents))
        return self._elements(blocks, scales), self.scale.encode(scales[..., 0])

    def dequantize(self, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """The values that the codes stand for, float32, of the codes' shape.

        Raises ValueError where the scales are not as many as the blocks.
        """
        return self._values(codes, scales).float()


@dataclass(frozen=True)
class NVFormat(BlockFormat):
    """NVFP4: blocks of 16 whose scale has a mantissa (e4m3), and one fp32 scale for the tensor.

    `effective_bits` leaves that last one out: 32 bits for a whole tensor.

    >>> from coursepkg.formats import NVFP4
    >>> codes, scales, tensor_scale = NVFP4.quantize(torch.arange(16.0))
    >>> NVFP4.scale.decode(scales).tolist(), NVFP4.dequantize(codes, scales, tensor_scale)[-4:].tolist()
    ([448.0], [10.0, 15.0, 15.0, 15.0])
    """

    def quantize(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Codes of the elements and of the scales (e4m3), and the tensor's scale.

        x: (..., columns), columns a multiple of 16. Returns uint8 of x's shape, uint8 of shape
        (..., columns / 16), and float32 without dimensions. The tensor's scale is absmax / (6 · 448), at
        least float32's smallest normal number; a block's is absmax / 6 / (tensor's scale), rounded to e4m3,
        at least 2^−9, its smallest value.
        Raises ValueError where blocks do not fill a row, and for infinities, NaN and numbers beyond float32.
        Kernels compute this in float32, often with approximate reciprocals; here it is float64, so what lies
        next to a tie may differ.
        Source: NVIDIA 2025, appendix C.

        The error, with s the two scales multiplied: rounding to e4m3 changes absmax / 6 by at most 1/17 of it
        (half the spacing, 1/16, over 1 + 1/16). So s is at most 18/17 · absmax/6 and an element is off by at
        most s, which is 3/17 of absmax; and 6s is at least 16/17 of absmax, so saturation loses 1/17 at most.
        No error exceeds 3/17 of its block's absmax, if e4m3 holds the scale as a normal number: that is, if
        no other block's absmax is over 28672 times as large.
        """
        blocks = self._blocks(x)
        absmax = blocks.abs().amax(-1, keepdim=True)
        tensor_scale = (absmax.max() / (self.element.largest * self.scale.largest)).float()
        tensor_scale = tensor_scale.clamp(min=torch.finfo(torch.float32).tiny)
        wanted = absmax / self.element.largest / tensor_scale.double()
        scales = self.scale.encode(wanted.clamp(min=self.scale.smallest_subnormal))
        codes = self._elements(blocks, self.scale.decode(scales) * tensor_scale.double())
        return codes, scales[..., 0], tensor_scale

    def dequantize(
        self, codes: torch.Tensor, scales: torch.Tensor, tensor_scale: torch.Tensor
    ) -> torch.Tensor:
        """The values that the codes stand for, float32, of the codes' shape.

        Raises ValueError where the scales are not as many as the blocks.
        """
        return (self._values(codes, scales) * tensor_scale.double()).float()
