"""Random draws that are the same on every platform, Python version and hash seed.

Python promises that `random.Random(seed).random()` keeps its sequence from version to version; it does not promise
that of `choice`, `shuffle` or `sample`. So everything here is built on `random()` alone.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A stream of draws; the same `seeds` (numbers or words) give the same stream.

    >>> Dice("towns", 1).below(100) == Dice("towns", 1).below(100)
    True
    """

    def __init__(self, *seeds: str | int) -> None:
        self._random = random.Random("/".join(str(seed) for seed in seeds)).random

    def below(self, count: int) -> int:
        """A whole number from 0 to `count` − 1. Raises ValueError if `count` is not positive."""
        if count < 1:
            raise ValueError(f"cannot draw one of {count}")
        return int(self._random() * count)

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self._random() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[T], weights: Sequence[float]) -> T:
        """One of the items, each with a probability in proportion to its weight."""
        at = self._random() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            at -= weight
            if at < 0:
                return item
        return items[-1]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in a random order (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items, in a random order. Raises ValueError if there are fewer."""
        if count > len(items):
            raise ValueError(f"cannot draw {count} different items of {len(items)}")
        return self.shuffled(items)[:count]
