"""What every number format can do: from a number to a code and back, and the bits of a code.

A code is what is stored: a whole number from 0 to 2^bits − 1. A value is the number that it stands for.
"""

from abc import ABC, abstractmethod
from math import log2
from operator import index

import torch

Number = float | torch.Tensor
Code = int | torch.Tensor


class NumberFormat(ABC):
    """A number format. `encode`, `decode`, `round` and `spacing` take a number or a tensor, and return such.

    name, source: how it is called, and where it is defined.
    bits: bits of a code. stored_bits: bits that it takes in memory (tf32 has 19 and takes 32).
    fields: how the bits are divided, first bit first: sign, exponent, mantissa; of a whole number, one.
    levels: how many different finite values there are; 0 and −0 are one.
    largest, lowest: the ends of the range. specials: which codes stand for no number.
    smallest_normal: the smallest positive value that has the full precision.
    smallest_subnormal: the smallest positive value.
    epsilon: the distance from 1 to the next larger value.
    saturates: whether `encode`, if it is not told, gives a number beyond the range the end of the range.
    """

    name: str
    source: str
    bits: int
    stored_bits: int
    fields: tuple[int, ...]
    levels: int
    largest: float
    lowest: float
    smallest_normal: float
    smallest_subnormal: float
    specials: str
    saturates: bool

    @property
    def epsilon(self) -> float:
        return self.spacing(1.0)

    @property
    def information_bits(self) -> float:
        """Bits that tell `levels` values apart, log2(levels): 1.585 for ternary, whatever stores them."""
        return log2(self.levels)

    def encode(self, x: Number, saturate: bool | None = None) -> Code:
        """The code of the value nearest to x; of two equally near, the one whose last bit is 0.

        x: a number or a tensor of any shape; it is read as float64.
        saturate: True gives what lies beyond the range (infinities too) the code of the largest or lowest
        value; False gives it that of infinity, or of NaN where there is no infinity. None takes the format's
        own habit, `saturates`. "Beyond" begins where rounding would reach the next value, if there were one:
        fp16 goes to infinity from 65520 on, and in e4m3 464 is still 448.

        Returns an int, or a tensor of x's shape: uint8 for formats of up to 8 bits, else int64.
        Raises ValueError for NaN in a format that has none, for saturate=False in one that has neither
        infinity nor NaN, for negative numbers in one without a sign, and for what is no number and no tensor.
        Source: IEEE 754-2019, section 4.3.1, roundTiesToEven.

        >>> from coursepkg.formats import E4M3
        >>> E4M3.encode(1.0), E4M3.encode(1e9), E4M3.encode(1e9, saturate=False)
        (56, 126, 127)
        """
        if saturate is None:
            saturate = self.saturates
        if not saturate and self.specials == "none":
            raise ValueError(f"{self.name} has no code for infinity or NaN: it can only saturate")
        numbers = as_float64(x)
        if self.specials == "none" and numbers.isnan().any():
            raise ValueError(f"{self.name} has no code for NaN")
        codes = self._encode(numbers, saturate).to(torch.uint8 if self.bits <= 8 else torch.int64)
        return codes if isinstance(x, torch.Tensor) else codes.item()

    def decode(self, code: Code) -> Number:
        """The value that a code stands for, exactly. Code: an int, or a tensor of whole numbers of any shape.

        Returns a float, or a float64 tensor of that shape. Raises ValueError for what is not its code.

        >>> from coursepkg.formats import E5M2
        >>> E5M2.decode(0b0_01111_01)
        1.25
        """
        codes = _codes(code)
        wrong = codes[(codes < 0) | (codes >= 2**self.bits)]
        if wrong.numel():
            raise ValueError(f"{self.name} has the codes 0 to {2**self.bits - 1}, not {wrong[0].item()}")
        values = self._decode(codes)
        return values if isinstance(code, torch.Tensor) else values.item()

    def round(self, x: Number, saturate: bool | None = None) -> Number:
        """The value of the format nearest to x, as `encode` chooses it.

        Returns a float, or a tensor of x's shape: float64 if x is, else float32, which holds all values.
        """
        values = self.decode(self.encode(x, saturate))
        if not isinstance(x, torch.Tensor):
            return values
        return values if x.dtype == torch.float64 else values.float()

    def values(self) -> torch.Tensor:
        """Every finite value once, ascending: float64, (levels,). Raises ValueError above 16 bits."""
        if self.bits > 16:
            raise ValueError(
                f"{self.name} has {self.levels:,} values, too many to list; values() is for 16 bits at most"
            )
        return self._values()

    def code_pattern(self, code: int) -> str:
        """The bits of one code, its fields separated by a space. Raises ValueError for what is no code."""
        self.decode(code)
        digits, parts = format(int(code), f"0{self.bits}b"), []
        for width in self.fields:
            parts.append(digits[:width])
            digits = digits[width:]
        return " ".join(parts)

    def bit_pattern(self, x: Number) -> str:
        """The bits of one number after rounding: sign, exponent, mantissa; or those of a whole number.

        x: a number, or a tensor with one element. Raises ValueError as `encode` does, and for more elements.

        >>> from coursepkg.formats import BF16, INT4
        >>> BF16.bit_pattern(-1.5), INT4.bit_pattern(-2)
        ('1 01111111 1000000', '1110')
        """
        if isinstance(x, torch.Tensor) and x.numel() != 1:
            raise ValueError(f"bit_pattern takes one number, not {x.numel()}; encode takes tensors")
        return self.code_pattern(int(self.encode(x)))

    def pattern_code(self, pattern: str) -> int:
        """The code that a bit pattern spells; spaces and underscores may stand anywhere.

        Raises ValueError for characters that are no bits, and for too few or too many of them.
        """
        digits = pattern.replace(" ", "").replace("_", "")
        strange = digits.strip("01")
        if strange:
            raise ValueError(f"a bit pattern is made of 0 and 1, not {strange[0]!r}")
        if len(digits) != self.bits:
            raise ValueError(
                f"{self.name} has {self.bits} bits ({self._layout()}); this pattern has {len(digits)}"
            )
        return int(digits, 2)

    def from_bit_pattern(self, pattern: str) -> float:
        """The value that a bit pattern spells. Raises ValueError as `pattern_code` and `decode` do.

        >>> from coursepkg.formats import FP16
        >>> FP16.from_bit_pattern("0 00000 0000000001") == 2**-24
        True
        """
        return self.decode(self.pattern_code(pattern))

    def describe(self) -> dict[str, str | int | float]:
        """A row of a table: the properties of the format by name, in a fixed order."""
        return {
            "name": self.name,
            "bits": self.bits,
            "stored bits": self.stored_bits,
            "fields": self._layout(),
            "levels": self.levels,
            "largest": self.largest,
            "lowest": self.lowest,
            "smallest normal": self.smallest_normal,
            "smallest subnormal": self.smallest_subnormal,
            "epsilon": self.epsilon,
            "specials": self.specials,
            "source": self.source,
        }

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.bits} bits ({self._layout()}), from {self.lowest:g} to {self.largest:g}, "
            f"smallest normal {self.smallest_normal:g}, smallest {self.smallest_subnormal:g}, "
            f"epsilon {self.epsilon:g}, specials: {self.specials}"
        )

    @abstractmethod
    def spacing(self, x: Number) -> Number:
        """The distance between neighbouring values around x; what `round` changes is at most half of it.

        Returns a float, or a float64 tensor of x's shape. Beyond the range it is the spacing at its end, and
        at NaN that at 0.
        """

    @abstractmethod
    def _layout(self) -> str:
        """The fields in words, for tables and messages."""

    @abstractmethod
    def _encode(self, numbers: torch.Tensor, saturate: bool) -> torch.Tensor:
        """Codes, int64, of float64 numbers."""

    @abstractmethod
    def _decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Values, float64, of int64 codes between 0 and 2^bits − 1."""

    @abstractmethod
    def _values(self) -> torch.Tensor:
        """Every finite value once, ascending."""


def power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    """2^exponent, float64 and exact, for int64 exponents from −1022 to 1023.

    The exponent is written into its field, so that exactness hangs on no library's exp2.
    """
    return ((exponent + 1023) << 52).view(torch.float64)


def as_float64(x: Number) -> torch.Tensor:
    """A number or a tensor as float64. Raises ValueError for what is neither."""
    if isinstance(x, torch.Tensor):
        return x.detach().double()
    if not hasattr(x, "__float__"):
        raise ValueError(f"x is a number or a tensor, not {x!r}")
    return torch.tensor(float(x), dtype=torch.float64)


def _codes(code: Code) -> torch.Tensor:
    """A code or a tensor of codes as int64; ValueError for numbers with a fraction."""
    if isinstance(code, torch.Tensor):
        if code.is_floating_point():
            raise ValueError(f"codes are whole numbers, not {code.dtype}; encode gives them")
        return code.long()
    try:
        return torch.tensor(index(code))
    except TypeError:
        raise ValueError(f"a code is a whole number, not {code!r}; encode gives it") from None
