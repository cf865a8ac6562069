"""Codebooks: tables of levels between −1 and 1. A code is a place in the table, and a block's absmax stretches it.

NF4        levels at the quantiles of a normal distribution (Dettmers et al. 2023, QLoRA, section 3 and appendix E)
FP4        the sixteen values of bitsandbytes' 4-bit float, a table of its own
E2M1       those of the 4-bit float that hardware has (OCP Microscaling Formats 1.0, section 5.3.3)
uniform    evenly spaced, as whole numbers are
see lloyd  levels of least error, for normal data or for given weights; AF4
"""

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import torch

from coursepkg import formats


@dataclass(frozen=True)
class Codebook:
    """Levels, in the order of their codes: 2 to 256 of them, none beyond 1 in size. One may stand there twice.

    They are rounded to float32, in which bitsandbytes computes. Raises ValueError for other tables, and where two
    midpoints lie in one of 65,536 equal cells, that is within 2^−15.
    """

    name: str
    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))  # a list cannot be hashed
        if not 2 <= len(self.levels) <= 256:
            raise ValueError(f"a codebook has 2 to 256 levels, not {len(self.levels)}")
        if not all(-1 <= level <= 1 for level in self.levels):
            raise ValueError(
                f"levels lie between -1 and 1; those of {self.name} reach {max(map(abs, self.levels))}"
            )
        _ = self.cells

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return (len(self.levels) - 1).bit_length()

    @cached_property
    def tensor(self) -> torch.Tensor:
        """The levels, float32, in the order of their codes."""
        return torch.tensor(self.levels, dtype=torch.float32, device="cpu")

    @cached_property
    def order(self) -> torch.Tensor:
        """The codes, uint8, in the order of their levels."""
        return self.tensor.argsort(stable=True).to(torch.uint8)

    @cached_property
    def midpoints(self) -> torch.Tensor:
        """Half-way from each level to the next larger one, float32: where rounding changes its mind."""
        ordered = self.tensor.sort().values
        return (ordered[:-1] + ordered[1:]) / 2

    @cached_property
    def cells(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A grid of so many equal cells from −1 to 1 that none holds two midpoints: for each cell how many midpoints lie in those
        before it, uint8, and its own midpoint, float32, or infinity. See `cell_of`."""
        for cells in (1024, 4096, 16384, 65536):
            own = cell_of(self.midpoints, cells)
            if len(own.unique()) == len(own):
                break
        else:
            raise ValueError(f"levels of {self.name} are less than 2^-15 apart")
        before = torch.searchsorted(own, torch.arange(cells + 1, device="cpu")).to(torch.uint8)
        midpoint = torch.full((cells + 1,), torch.inf, dtype=torch.float32, device="cpu")
        midpoint[own.long()] = self.midpoints
        return before, midpoint

    @cached_property
    def code_of_zero(self) -> int:
        """The code that 0 gets."""
        return int(self.order[int((self.midpoints < 0).sum())])


def cell_of(scaled: torch.Tensor, cells: int) -> torch.Tensor:
    """The cell in which each value between −1 and 1 lies, int32; 1 has one more for itself. A larger value never has a smaller cell,
    for float32 rounds without changing an order."""
    return (scaled * (cells // 2) + cells // 2).int()


def tail_offset(bits: int) -> float:
    """The probability at which NF's outermost quantile is taken: half-way between 1 − 1/(2 (2^bits − 1)) and 1 − 1/(2 · 2^bits).

    >>> round(tail_offset(4), 7)    # (29/30 + 31/32) / 2
    0.9677083
    """
    return ((1 - 1 / (2 * (2**bits - 1))) + (1 - 1 / (2 * 2**bits))) / 2


def normal_float(bits: int = 4) -> tuple[float, ...]:
    """The levels of NF-k, ascending: quantiles of the standard normal distribution, evenly spaced in probability on each
    side from the tail's offset to 1/2, joined at 0, divided by the largest: bitsandbytes' `create_normal_map`. (QLoRA, section 3,
    describes it; the offset stands in the code alone.)

    There are 2^(bits−1) positive levels, 2^(bits−1) − 1 negative ones, and 0. Raises ValueError for other than 2 to 8 bits.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be from 2 to 8, not {bits}")
    tail, quantile = tail_offset(bits), NormalDist().inv_cdf

    def side(count: int) -> list[float]:
        """`count` quantiles, from the tail towards 1/2, which is left out."""
        return [quantile(tail + (0.5 - tail) * step / count) for step in range(count)]

    positive, negative = side(2 ** (bits - 1)), side(2 ** (bits - 1) - 1)
    levels = [-level for level in negative] + [0.0] + positive[::-1]
    return tuple(level / positive[0] for level in levels)


def uniform(bits: int) -> tuple[float, ...]:
    """Evenly spaced levels from −1 to 1 with 0 among them: the 2^bits − 1 symmetric whole numbers, divided by the largest."""
    largest = 2 ** (bits - 1) - 1
    return tuple(code / largest for code in range(-largest, largest + 1))


#: The table as it was published (QLoRA, appendix E): what `normal_float` gives, to 2e-7. bitsandbytes uses these digits.
NF4 = Codebook(
    "NF4",
    (
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ),
)
#: bitsandbytes' FP4, a sign bit before three bits: 0, one subnormal, and three powers of two with their halves more.
_UNSIGNED_FP4 = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)
FP4 = Codebook(
    "FP4", tuple((torch.tensor(_UNSIGNED_FP4 + tuple(0.0 - level for level in _UNSIGNED_FP4)) / 12).tolist())
)
#: Two bits of exponent and one of mantissa, divided by the largest.
E2M1 = Codebook(
    "E2M1", tuple((formats.E2M1.decode(torch.arange(16, device="cpu")) / formats.E2M1.largest).tolist())
)
INT4 = Codebook("int4", uniform(4))
