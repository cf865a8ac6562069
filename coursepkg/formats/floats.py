"""Floating point: a sign, an exponent and a mantissa, ± 1.mantissa · 2^(exponent − bias).

Source: IEEE 754-2019, sections 3.3 and 3.4. What smaller formats change is in the fields of `FloatFormat`.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from coursepkg.formats.interface import Number, NumberFormat, as_float64, power_of_two

Top = Literal["ieee", "nan", "values"]
SPECIALS = {"ieee": "infinities and NaN", "nan": "NaN", "values": "none"}


@dataclass(frozen=True)
class FloatFormat(NumberFormat):
    """A floating-point format.

    bias: what is taken off the exponent field. Field 0 holds the subnormals: the exponent of field 1, and 0
    before the point.
    top: what the largest codes mean. "ieee": the whole last exponent is infinity (mantissa 0) and NaN; "nan":
    only the very last code is NaN; "values": they are numbers like the others.
    saturates: what `encode` does, if it is not told, with a number beyond the range.
    signed, subnormals: False for e8m0 alone.
    container_bits: what it takes in memory, where that is more than its bits.

    Raises ValueError where these contradict one another, and where float32 would not hold the values.

    >>> e3m2 = FloatFormat("e3m2", 3, 2, 3, "values", "OCP MX v1.0, section 5.3.2", saturates=True)
    >>> e3m2.largest
    28.0
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    bias: int
    top: Top
    source: str
    saturates: bool = False
    signed: bool = True
    subnormals: bool = True
    container_bits: int | None = None

    def __post_init__(self) -> None:
        if self.top not in get_args(Top):
            raise ValueError(f"{self.name}: top must be one of {', '.join(get_args(Top))}, not {self.top!r}")
        if self.exponent_bits < 1 or self.mantissa_bits < (1 if self.top == "ieee" else 0):
            raise ValueError(
                f"{self.name}: {self.exponent_bits} exponent and {self.mantissa_bits} mantissa bits are too "
                f"few for top={self.top!r}"
            )
        if self.top == "values" and not self.saturates:
            raise ValueError(f"{self.name}: without infinity and NaN, saturates must be True")
        smallest_step = self.min_exponent - self.mantissa_bits
        if self.mantissa_bits > 23 or self.max_exponent > 127 or smallest_step < -149:
            raise ValueError(f"{self.name}: float32 does not hold all of its values")

    @property
    def bits(self) -> int:
        return sum(self.fields)

    @property
    def stored_bits(self) -> int:
        return self.container_bits or self.bits

    @property
    def fields(self) -> tuple[int, ...]:
        return tuple(
            width for width in (int(self.signed), self.exponent_bits, self.mantissa_bits) if width > 0
        )

    @property
    def specials(self) -> str:
        return SPECIALS[self.top]

    @property
    def min_exponent(self) -> int:
        """The exponent of the smallest normal numbers, and of the subnormals."""
        return int(self.subnormals) - self.bias

    @property
    def max_exponent(self) -> int:
        """The exponent of the largest numbers, `emax` in the standards."""
        return (self._largest_code >> self.mantissa_bits) - self.bias

    @property
    def largest(self) -> float:
        return self.decode(self._largest_code)

    @property
    def lowest(self) -> float:
        return -self.largest if self.signed else self.smallest_subnormal

    @property
    def smallest_normal(self) -> float:
        return 2.0**self.min_exponent

    @property
    def smallest_subnormal(self) -> float:
        return 2.0 ** (self.min_exponent - self.mantissa_bits) if self.subnormals else self.smallest_normal

    @property
    def levels(self) -> int:
        magnitudes = self._largest_code + 1
        return 2 * magnitudes - 1 if self.signed else magnitudes

    def spacing(self, x: Number) -> Number:
        distance = power_of_two(self._exponents(self._magnitudes(as_float64(x))) - self.mantissa_bits)
        return distance if isinstance(x, torch.Tensor) else distance.item()

    @property
    def _largest_code(self) -> int:
        """The code of the largest value; the codes after it, up to the sign bit, are special."""
        end = 2 ** (self.exponent_bits + self.mantissa_bits)
        return end - {"ieee": 2**self.mantissa_bits, "nan": 1, "values": 0}[self.top] - 1

    @property
    def _nan_code(self) -> int:
        """The last code; in IEEE formats the quiet NaN, infinity's code with the first mantissa bit set."""
        past = self._largest_code + 1
        return past | 2 ** (self.mantissa_bits - 1) if self.top == "ieee" else past

    def _magnitudes(self, numbers: torch.Tensor) -> torch.Tensor:
        """Absolute values, cut off at the exponent after the last; NaN as 0."""
        return numbers.abs().nan_to_num(nan=0.0).clamp(max=2.0 ** (self.max_exponent + 1))

    def _exponents(self, magnitudes: torch.Tensor) -> torch.Tensor:
        """floor(log2(magnitude)), int64, kept within the exponents that the format has."""
        exponents = torch.frexp(magnitudes).exponent.long() - 1
        exponents = torch.where(magnitudes == 0, self.min_exponent, exponents)
        return exponents.clamp(self.min_exponent, self.max_exponent)

    def _encode(self, numbers: torch.Tensor, saturate: bool) -> torch.Tensor:
        negative = numbers.signbit()
        if not self.signed and (numbers < 0).any():
            raise ValueError(f"{self.name} has no sign: no code for {numbers[numbers < 0][0].item():g}")
        magnitudes = self._magnitudes(numbers)
        exponents = self._exponents(magnitudes)
        significands = (magnitudes * power_of_two(self.mantissa_bits - exponents)).round().long()
        # A significand rounded up to the next power of two carries into the exponent field by itself.
        codes = ((exponents - self.min_exponent) << self.mantissa_bits) + significands
        if not self.subnormals:
            codes = (codes - 2**self.mantissa_bits).clamp(min=0)
        codes = codes.clamp(max=self._largest_code + (0 if saturate else 1))
        if self.signed:
            codes = codes | (negative.long() << (self.exponent_bits + self.mantissa_bits))
        return torch.where(numbers.isnan(), self._nan_code, codes)

    def _decode(self, codes: torch.Tensor) -> torch.Tensor:
        magnitude_codes = codes & (2 ** (self.exponent_bits + self.mantissa_bits) - 1)
        exponents = magnitude_codes >> self.mantissa_bits
        significands = magnitude_codes & (2**self.mantissa_bits - 1)
        if self.subnormals:
            significands = significands + ((exponents > 0).long() << self.mantissa_bits)
            exponents = exponents.clamp(min=1)
        else:
            significands = significands + 2**self.mantissa_bits
        values = significands.double() * power_of_two(exponents - self.bias - self.mantissa_bits)
        values = torch.where(magnitude_codes > self._largest_code, torch.nan, values)
        if self.top == "ieee":
            values = torch.where(magnitude_codes == self._largest_code + 1, torch.inf, values)
        return torch.where(codes > magnitude_codes, -values, values)

    def _values(self) -> torch.Tensor:
        values = self._decode(torch.arange(2**self.bits))
        return values[values.isfinite()].unique() + 0.0

    def _layout(self) -> str:
        widths = (int(self.signed), self.exponent_bits, self.mantissa_bits)
        names = ("sign", "exponent", "mantissa")
        return " + ".join(f"{width} {name}" for width, name in zip(widths, names, strict=True) if width)
