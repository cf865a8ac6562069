"""Arithmetic and units: what can be computed, a part of it kept from training.

Sums and differences stay below 100 and products are the tables up to 10. A conversion is asked for the quantities that
were taught, in other words: a table is known or it is not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from coursepkg.courselm.dice import Dice

HELD_OUT_SHARE = 0.1
UNITS = (
    ("minutes", "hours", 60),
    ("seconds", "minutes", 60),
    ("hours", "days", 24),
    ("days", "weeks", 7),
    ("inches", "feet", 12),
    ("feet", "yards", 3),
    ("pieces", "dozens", 12),
    ("metres", "kilometres", 1000),
    ("centimetres", "metres", 100),
    ("grams", "kilograms", 1000),
    ("years", "centuries", 100),
    ("ounces", "pounds", 16),
    ("pints", "gallons", 8),
)
QUANTITIES = range(2, 21)

SUM_TOLD = ("{x} {word} {y} is {z}.", "{x} {word} {y} makes {z}.")
SUM_ASKED = ("What is {x} {word} {y}?", "How much is {x} {word} {y}?")
SUM_ASKED_HELD_OUT = ("What does {x} {word} {y} make?",)
UNIT_TOLD = (
    "{x} {big} are {z} {small}.",
    "There are {z} {small} in {x} {big}.",
    "{x} {big} make {z} {small}.",
)
UNIT_ASKED = ("How many {small} are {x} {big}?", "How many {small} are there in {x} {big}?")
UNIT_ASKED_HELD_OUT = ("How many {small} do {x} {big} make?", "{x} {big} are how many {small}?")


@dataclass(frozen=True)
class Sum:
    """`x` plus, minus or times `y` is `result`; held_out: not trained on in any wording."""

    x: int
    word: str
    y: int
    result: int
    held_out: bool

    def write(self, wording: str) -> str:
        """The sum in a wording."""
        return wording.format(x=self.x, word=self.word, y=self.y, z=self.result)


@dataclass(frozen=True)
class Conversion:
    """`x` of the `big` unit are `result` of the `small` one."""

    x: int
    big: str
    small: str
    result: int

    def write(self, wording: str) -> str:
        """The conversion in a wording, with a capital first letter."""
        return wording.format(x=self.x, big=self.big, small=self.small, z=self.result)


@cache
def sums() -> tuple[Sum, ...]:
    """All sums; which are held out is drawn from a fixed seed. The tables of the products are all taught."""
    dice = Dice("sums", 1)
    return tuple(Sum(*each, held_out=each[1] != "times" and dice.chance(HELD_OUT_SHARE)) for each in _all())


def _all() -> Iterator[tuple[int, str, int, int]]:
    for x in range(1, 99):
        for y in range(1, 100 - x):
            yield x, "plus", y, x + y
    for x in range(2, 100):
        for y in range(1, x):
            yield x, "minus", y, x - y
    for x in range(2, 11):
        for y in range(2, 11):
            yield x, "times", y, x * y


@cache
def conversions() -> tuple[Conversion, ...]:
    """All conversions."""
    return tuple(Conversion(x, big, small, x * factor) for small, big, factor in UNITS for x in QUANTITIES)
