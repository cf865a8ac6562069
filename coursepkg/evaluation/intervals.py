"""Intervals by the bootstrap: draw the questions again, with replacement, and see how the score moves.

Two methods that answered the same questions are compared on the same draws (paired): a question that is hard for both
then weighs equally on both, and the interval of their difference is narrower than that of either.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True)
class Interval:
    """A value with the interval that holds 95 % of the bootstrap's draws."""

    value: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def mean(values: np.ndarray) -> Interval:
    """The mean of one value for each question. values: shape (n,)."""
    return ratio(values, np.ones(len(values)))


def ratio(above: np.ndarray, below: np.ndarray) -> Interval:
    """Σ above / Σ below over the pieces, for example nats by tokens. Both of shape (n,)."""
    above, below = _checked(above), _checked(below)
    counts = _counts(len(above))
    return _percentiles(above.sum() / below.sum(), (counts @ above) / (counts @ below))


def difference(values: np.ndarray, others: np.ndarray) -> Interval:
    """mean(values) − mean(others), paired: entry i of both is the same question. Raises ValueError on unequal length."""
    values, others = _checked(values), _checked(others)
    if len(values) != len(others):
        raise ValueError(f"paired values must be as many: {len(values)} and {len(others)}")
    return mean(values - others)


def _percentiles(value: float, draws: np.ndarray) -> Interval:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))


def _checked(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"one value for each question is needed, not an array of shape {values.shape}")
    return values


@cache
def _counts(count: int) -> np.ndarray:
    """How often each question is drawn, for each of the draws: the same ones for all methods. (draws, questions)."""
    generator = np.random.default_rng(SEED)
    return generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)
