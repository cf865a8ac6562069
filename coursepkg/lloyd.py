"""Levels of least error: Lloyd–Max for the squared error, medians for the absolute one; and AF4, which is near the latter.

A level is best where it is the mean (squared error) or the median (absolute error) of the values that are rounded to it, and
values are rounded to the nearest level. Doing the one and the other in turns never makes the error larger.

Source: Lloyd 1982, "Least Squares Quantization in PCM", method I; Max 1960; Yoshida 2023, "NF4 Isn't Information
Theoretically Optimal (and that's Good)", sections 3 and 4 (AF4, and what absmax does to a normal distribution).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from coursepkg import nf4
from coursepkg.codebooks import NF4, Codebook

Error = Literal["squared", "absolute"]
#: The levels that a code for blocks scaled by their absmax should have: its largest value, on either side, and 0.
FIXED = (-1.0, 0.0, 1.0)
_POINTS = 4001


@dataclass(frozen=True)
class Distribution:
    """How often a value between −1 and 1 occurs. points: float64 (n,), evenly spaced; mass: float64 (n,), of sum 1, spread
    evenly over the place of each point, half-way to its neighbours."""

    points: torch.Tensor
    mass: torch.Tensor

    @property
    def edges(self) -> torch.Tensor:
        """Where the points' places begin and end, float64 (n + 1,)."""
        half = (self.points[1] - self.points[0]) / 2
        return torch.cat((self.points[:1] - half, self.points + half))

    def density(self, bars: int = 100) -> tuple[list[float], list[float]]:
        """The middles of equal bars and the density over them, without the place of the first point and of the last."""
        ends = torch.linspace(self.edges[1].item(), self.edges[-2].item(), bars + 1, dtype=torch.float64)
        heights = _up_to(ends, self, self.mass).diff() / ends.diff()
        return ((ends[:-1] + ends[1:]) / 2).tolist(), heights.tolist()

    def error(self, levels: tuple[float, ...], error: Error = "squared") -> float:
        """The expected error of a value that is rounded to the nearest level."""
        table = torch.tensor(sorted(levels), dtype=torch.float64)
        away = (self.points - table[_bins(self.points, table)]).abs()
        return float((self.mass * (away.square() if error == "squared" else away)).sum())

    def use(self, levels: tuple[float, ...]) -> torch.Tensor:
        """How often each level, ascending, is the nearest."""
        table = torch.tensor(sorted(levels), dtype=torch.float64)
        return torch.zeros_like(table).index_add_(0, _bins(self.points, table), self.mass)


def normal_blocks(block_size: int, power: int = 0) -> Distribution:
    """What normal values look like when a block of them is divided by its absmax.

    One of them is −1 or 1. The others are normal values not larger than the absmax m, whose own distribution is that of
    the largest of `block_size` sizes: P(absmax ≤ m) = (2Φ(m) − 1)^block_size.
    power: how much a block counts, as a power of its absmax. 0 counts errors of the scaled values; the errors of the values
    themselves are larger by the absmax: 1 counts these where errors are absolute, 2 where they are squared.
    Raises ValueError for a block_size below 2.
    """
    if block_size < 2:
        raise ValueError(f"block_size must be at least 2, not {block_size}: a value alone is always 1 or -1")
    absmax = torch.linspace(1e-3, 9, 1000, dtype=torch.float64)
    inside = torch.erf(absmax / math.sqrt(2))  # 2Φ(m) − 1
    weight = absmax**power * inside ** (block_size - 1) * torch.exp(-absmax.square() / 2)
    weight /= weight.sum()
    points = torch.linspace(-1, 1, _POINTS, dtype=torch.float64)
    sizes = points[_POINTS // 2 :]
    density = torch.exp(-(sizes[:, None] * absmax).square() / 2) @ (weight * absmax / inside)
    shape = torch.cat((density.flip(0)[:-1], density))
    mass = shape / shape.sum() * (block_size - 1) / block_size
    mass[0] += 1 / (2 * block_size)
    mass[-1] += 1 / (2 * block_size)
    return Distribution(points, mass)


def blocks_of(weight: torch.Tensor, block_size: int = nf4.BLOCK_SIZE, power: int = 0) -> Distribution:
    """The same of a tensor's own values; blocks of zeros and a last short one are left out.

    Raises ValueError where nothing is left.
    """
    blocks, _ = nf4.split(weight, block_size)
    absmax = blocks.abs().amax(1, keepdim=True)
    if not absmax.isfinite().all():
        raise ValueError("the tensor holds infinities or NaN")
    kept = absmax[:, 0] > 0
    scaled, counts = (blocks / absmax)[kept].double(), absmax[kept].double() ** power
    if not len(scaled):
        raise ValueError(f"the tensor has no block of {block_size} values that are not all 0")
    points = torch.linspace(-1, 1, _POINTS, dtype=torch.float64)
    places = ((scaled + 1) / 2 * (_POINTS - 1)).round().long()
    mass = torch.bincount(places.flatten(), counts.expand_as(scaled).flatten(), minlength=_POINTS)
    return Distribution(points, mass / mass.sum())


def fit(
    distribution: Distribution,
    error: Error = "squared",
    start: tuple[float, ...] = NF4.levels,
    fixed: tuple[float, ...] = FIXED,
    tolerance: float = 1e-9,
    rounds: int = 5000,
) -> tuple[float, ...]:
    """Levels of least expected error, ascending, found from `start` by Lloyd's method. `fixed`: levels of `start` that stay.

    Stops when no level moves by more than `tolerance` in a round, or after so many rounds. Raises ValueError where a fixed level is not in `start`.
    """
    levels = torch.tensor(sorted(start), dtype=torch.float64)
    if missing := sorted(set(fixed) - set(levels.tolist())):
        raise ValueError(f"{missing} are to stay, and are not among the levels to start from")
    free = ~torch.isin(levels, torch.tensor(fixed, dtype=torch.float64))
    for _ in range(rounds):
        best = (_means if error == "squared" else _medians)(distribution, levels)
        moved = torch.where(free, best, levels)
        done = (moved - levels).abs().max() < tolerance
        levels = moved
        if done:
            break
    return tuple(levels.tolist())


def least_absolute(block_size: int = nf4.BLOCK_SIZE) -> Codebook:
    """Sixteen levels, −1, 0 and 1 among them, of least absolute error for normal weights in blocks of that size."""
    return Codebook("least absolute", fit(normal_blocks(block_size), "absolute"))


def abnormal_float(block_size: int = nf4.BLOCK_SIZE) -> Codebook:
    """AF4 for normal weights in blocks of that size, as Yoshida's script makes it, and as bitsandbytes has it for 64.

    Each side is fitted by itself, as if its last level's bin reached to 0: the positive side is that of sixteen levels of least
    absolute error without a 0, the negative side that of fourteen. Then 0 is put between them, and takes from both.
    """
    blocks = normal_blocks(block_size)

    def without_zero(count: int) -> tuple[float, ...]:
        start = tuple((2 * place - count + 1) / (count - 1) for place in range(count))
        return fit(blocks, "absolute", start, fixed=(-1.0, 1.0))

    return Codebook(f"AF4-{block_size}", (*without_zero(14)[:7], 0.0, *without_zero(16)[8:]))


def _bins(points: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """The place of the level nearest to each point."""
    return torch.bucketize(points, (levels[:-1] + levels[1:]) / 2)


def _means(distribution: Distribution, levels: torch.Tensor) -> torch.Tensor:
    ends = _ends(levels)
    moments = distribution.mass * distribution.points
    mass = _up_to(ends, distribution, distribution.mass).diff()
    moment = _up_to(ends, distribution, moments).diff()
    return torch.where(mass > 0, moment / mass.clamp(min=1e-300), levels)


def _medians(distribution: Distribution, levels: torch.Tensor) -> torch.Tensor:
    reached = _up_to(_ends(levels), distribution, distribution.mass)
    middle = (reached[:-1] + reached[1:]) / 2
    growing = torch.cat((reached[:1] * 0, distribution.mass.cumsum(0)))
    medians = _interpolate(middle, growing, distribution.edges)
    return torch.where(reached.diff() > 0, medians, levels)


def _ends(levels: torch.Tensor) -> torch.Tensor:
    """Where the values of each level begin and end."""
    return torch.cat((levels[:1] - 2, (levels[:-1] + levels[1:]) / 2, levels[-1:] + 2))


def _up_to(ends: torch.Tensor, distribution: Distribution, what: torch.Tensor) -> torch.Tensor:
    """The sum up to each end. It grows evenly over a point's place, so that means and medians move with their bins."""
    return _interpolate(ends, distribution.edges, torch.cat((what[:1] * 0, what.cumsum(0))))


def _interpolate(at: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The piecewise linear function through (x, y), x ascending, constant beyond its ends."""
    right = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    left = right - 1
    share = ((at - x[left]) / (x[right] - x[left]).clamp(min=1e-300)).clamp(0, 1)
    return y[left] + share * (y[right] - y[left])
