"""The invented encyclopedia: people, towns and firms, and what there is to know about each.

Everything is drawn from one seed and lists of words (`encyclopedia.toml`), so it is the same on every machine. Nothing in it
is true: a model that answers questions about it has learnt it in training, and nowhere else.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from coursepkg.courselm.dice import Dice
from coursepkg.courselm.facts import Entry, Fact, Relation

SEED = 2026
MONTHS = tuple(
    "January February March April May June July August September October November December".split()
)


@dataclass(frozen=True)
class World:
    """The entries of the encyclopedia, and the relations that their facts belong to."""

    entries: tuple[Entry, ...]
    relations: dict[str, Relation]

    @property
    def facts(self) -> tuple[Fact, ...]:
        """All facts, entry by entry."""
        return tuple(fact for entry in self.entries for fact in entry.facts)


@cache
def world() -> World:
    """The world that the course LM was trained on."""
    words = tomllib.loads(files(__package__).joinpath("encyclopedia.toml").read_text(encoding="utf-8"))
    relations = {entry["key"]: Relation.from_toml(entry) for entry in words["relation"]}
    people, towns, firms = _people(words["people"]), _towns(words["towns"]), _firms(words["firms"])
    draw: dict[str, Callable[[Dice], str]] = {
        "birthplace": lambda dice: dice.pick(towns),
        "birthday": lambda dice: f"{1 + dice.below(28)} {dice.pick(MONTHS)}",
        "birth year": lambda dice: _year(dice, words["people"]["birth_years"]),
        "trade": lambda dice: dice.pick(words["people"]["trades"]),
        "employer": lambda dice: dice.pick(firms),
        "instrument": lambda dice: dice.pick(words["people"]["instruments"]),
        "home": lambda dice: dice.pick(towns),
        "region": lambda dice: dice.pick(words["towns"]["regions"]),
        "river": lambda dice: dice.pick(words["towns"]["rivers"]),
        "product": lambda dice: dice.pick(words["towns"]["products"]),
        "founding year": lambda dice: _year(dice, words["towns"]["founding_years"]),
        "goods": lambda dice: dice.pick(words["firms"]["goods"]),
        "seat": lambda dice: dice.pick(towns),
        "founder": lambda dice: dice.pick(people)[0],
        "opening year": lambda dice: _year(dice, words["firms"]["opening_years"]),
    }

    def entry(subject: str, kind: str, pronoun: str) -> Entry:
        known = [relation for relation in relations.values() if relation.of == kind]
        facts = (Fact(subject, each, draw[each.key](Dice(SEED, subject, each.key))) for each in known)
        return Entry(subject, kind, pronoun, tuple(facts))

    entries = [entry(name, "person", pronoun) for name, pronoun in people]
    entries += [entry(name, "town", "it") for name in towns]
    entries += [entry(f"the {name}", "firm", "it") for name in firms]
    return World(tuple(entries), relations)


def _people(words: dict[str, Any]) -> list[tuple[str, str]]:
    """Names, all different, each with its pronoun."""
    surnames = [start + end for start in words["surname_starts"] for end in words["surname_ends"]]
    names = [(f"{first} {last}", "she") for first in words["women"] for last in surnames]
    names += [(f"{first} {last}", "he") for first in words["men"] for last in surnames]
    return Dice(SEED, "people").sample(names, words["count"])


def _towns(words: dict[str, Any]) -> list[str]:
    names = [start + end for start in words["starts"] for end in words["ends"]]
    return Dice(SEED, "towns").sample(names, words["count"])


def _firms(words: dict[str, Any]) -> list[str]:
    names = [f"{colour} {sign}" for colour in words["colours"] for sign in words["signs"]]
    return Dice(SEED, "firms").sample(names, words["count"])


def _year(dice: Dice, span: list[int]) -> str:
    """A year from the first to the last of the span."""
    first, last = span
    return str(first + dice.below(last - first + 1))
