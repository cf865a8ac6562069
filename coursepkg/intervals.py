"""Intervals of 95 %: Wilson's for a share, the bootstrap for means, ratios and differences.

The bootstrap draws the questions again, with replacement, and looks how the score moves. Two methods that answered the
same questions are compared on the same draws (paired): a question that is hard for both then weighs equally on both,
and the interval of their difference is narrower than that of either. It has nothing to draw from where all answers are
right, so a share has Wilson's interval instead, which knows that 150 of 150 may still be 98 %.
Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals); Wilson 1927,
"Probable inference, the law of succession, and statistical inference".
"""

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import NormalDist

import numpy as np

RESAMPLES = 2000
SEED = 0
Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def share(right: np.ndarray) -> Interval:
    """The share of True (or 1) among n answers, with Wilson's interval. right: bool or 0/1, shape (n,)."""
    right = _checked(right)
    count, value = len(right), right.mean()
    middle = (value + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * sqrt(value * (1 - value) / count + Z**2 / (4 * count**2))
    return Interval(float(value), float(max(0.0, middle - half)), float(min(1.0, middle + half)))


def mean(values: np.ndarray) -> Interval:
    """The mean of one value for each question, by the bootstrap. values: shape (n,)."""
    return ratio(values, np.ones(len(values)))


def ratio(above: np.ndarray, below: np.ndarray) -> Interval:
    """Σ above / Σ below over the pieces, for example nats by tokens, by the bootstrap. Both of shape (n,)."""
    above, below = _checked(above), _checked(below)
    counts = _counts(len(above))
    low, high = np.percentile((counts @ above) / (counts @ below), [2.5, 97.5])
    return Interval(float(above.sum() / below.sum()), float(low), float(high))


def difference(values: np.ndarray, others: np.ndarray) -> Interval:
    """mean(values) − mean(others), paired: entry i of both is the same question.

    Raises ValueError on unequal length.
    """
    values, others = _checked(values), _checked(others)
    if len(values) != len(others):
        raise ValueError(f"paired values must be as many: {len(values)} and {len(others)}")
    return mean(values - others)


def _checked(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"one value for each question is needed, not an array of shape {values.shape}")
    return values


@lru_cache(maxsize=4)
def _counts(count: int) -> np.ndarray:
    """How often each question is drawn, for each of the draws: the same ones for all methods. (draws, questions)."""
    generator = np.random.default_rng(SEED)
    return generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)
