"""Whole numbers in two's complement: the first bit counts −2^(bits − 1), the others as usual."""

from dataclasses import dataclass

import torch

from coursepkg.formats.interface import Number, NumberFormat


@dataclass(frozen=True)
class IntegerFormat(NumberFormat):
    """Whole numbers from lowest to largest. The spacing is 1 everywhere: there are no subnormals.

    `encode` rounds to the nearest whole number, ties to even, and saturates; a plain cast would cut the
    fraction off. There is one zero: −0.0 becomes 0. Raises ValueError where the range does not fit the bits,
    and above 24 of them: float32 would not hold the values.

    >>> IntegerFormat("int3", 3, -4, 3, source="two's complement").round(2.5)
    2.0
    """

    name: str
    bits: int
    lowest: int
    largest: int
    source: str
    saturates = True
    specials = "none"
    smallest_normal = 1.0
    smallest_subnormal = 1.0

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 24:
            raise ValueError(f"{self.name}: bits must be from 2 to 24, not {self.bits}")
        half = 2 ** (self.bits - 1)
        if not -half <= self.lowest < self.largest < half:
            raise ValueError(f"{self.name}: {self.lowest} to {self.largest} does not fit {self.bits} bits")

    @property
    def stored_bits(self) -> int:
        return self.bits

    @property
    def fields(self) -> tuple[int, ...]:
        return (self.bits,)

    @property
    def levels(self) -> int:
        return self.largest - self.lowest + 1

    def spacing(self, x: Number) -> Number:
        return torch.ones_like(x, dtype=torch.float64) if isinstance(x, torch.Tensor) else 1.0

    def _encode(self, numbers: torch.Tensor, saturate: bool) -> torch.Tensor:
        return numbers.round().clamp(self.lowest, self.largest).long() & (2**self.bits - 1)

    def _decode(self, codes: torch.Tensor) -> torch.Tensor:
        values = codes - ((codes >> (self.bits - 1)) << self.bits)
        unused = codes[(values < self.lowest) | (values > self.largest)]
        if unused.numel():
            raise ValueError(f"{self.name} does not use the code {unused[0].item():0{self.bits}b}")
        return values.double()

    def _values(self) -> torch.Tensor:
        return torch.arange(self.lowest, self.largest + 1, dtype=torch.float64)

    def _layout(self) -> str:
        return "two's complement"
