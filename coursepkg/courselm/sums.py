"""Arithmetic and units: what can be computed, a part of it kept from training.

Sums are 50 at most, differences start there, and products are the tables up to 10. Three numbers x + y = z make four
sums: x plus y, y plus x, z minus x, z minus y. They are held out together, so that none follows from a taught one by
turning it round. A conversion is asked for the quantities that were taught, in other words: it is known or it is not.
"""

from dataclasses import dataclass
from functools import cache

from coursepkg.courselm.dice import Dice

HELD_OUT_SHARE = 0.1
LARGEST = 50
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

SUM_TOLD = ("{x} {operation} {y} is {z}.", "{x} {operation} {y} makes {z}.")
SUM_ASKED = (
    "What is {x} {operation} {y}?",
    "How much is {x} {operation} {y}?",
    "What do you get from {x} {operation} {y}?",
)
SUM_ASKED_HELD_OUT = ("What does {x} {operation} {y} make?", "How much do you get from {x} {operation} {y}?")
UNIT_TOLD = (
    "{x} {big} are {z} {small}.",
    "There are {z} {small} in {x} {big}.",
    "{x} {big} make {z} {small}.",
)
UNIT_ASKED = (
    "How many {small} are {x} {big}?",
    "How many {small} are there in {x} {big}?",
    "{x} {big} are how many {small}?",
    "What are {x} {big} in {small}?",
)
UNIT_ASKED_HELD_OUT = ("How many {small} do {x} {big} make?", "What do {x} {big} make in {small}?")


@dataclass(frozen=True)
class Sum:
    """`x` plus, minus or times `y` is `result`; held_out: not trained on in any wording."""

    x: int
    operation: str
    y: int
    result: int
    held_out: bool

    def write(self, wording: str) -> str:
        """The sum in a wording."""
        return wording.format(x=self.x, operation=self.operation, y=self.y, z=self.result)


@dataclass(frozen=True)
class Conversion:
    """`x` of the `big` unit are `result` of the `small` one."""

    x: int
    big: str
    small: str
    result: int

    def write(self, wording: str) -> str:
        """The conversion in a wording."""
        return wording.format(x=self.x, big=self.big, small=self.small, z=self.result)


@cache
def sums() -> tuple[Sum, ...]:
    """All sums; which are held out is drawn from a fixed seed. The tables of the products are all taught."""
    dice, made = Dice("sums", 1), []
    for x in range(1, LARGEST):
        for y in range(x, LARGEST + 1 - x):
            held_out, z = dice.chance(HELD_OUT_SHARE), x + y
            made += [Sum(x, "plus", y, z, held_out), Sum(z, "minus", x, y, held_out)]
            if x != y:
                made += [Sum(y, "plus", x, z, held_out), Sum(z, "minus", y, x, held_out)]
    made += [Sum(x, "times", y, x * y, held_out=False) for x in range(2, 11) for y in range(2, 11)]
    return tuple(made)


@cache
def conversions() -> tuple[Conversion, ...]:
    """All conversions."""
    return tuple(Conversion(x, big, small, x * factor) for small, big, factor in UNITS for x in QUANTITIES)
