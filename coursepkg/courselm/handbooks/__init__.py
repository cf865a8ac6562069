"""The handbooks of three invented clients, which the base model has never seen: what finetuning is to teach it."""

import tomllib
from functools import cache
from importlib.resources import files

from coursepkg.courselm.dice import Dice
from coursepkg.courselm.facts import Entry, Fact, Relation

CLIENTS = ("medical", "law", "support")
SEED = 2027


@cache
def handbook(client: str) -> tuple[Entry, ...]:
    """The entries of one client's handbook: "medical", "law" or "support". Raises ValueError for another name."""
    if client not in CLIENTS:
        raise ValueError(f"no client {client!r}; there are {', '.join(CLIENTS)}")
    words = tomllib.loads(files(__package__).joinpath(f"{client}.toml").read_text(encoding="utf-8"))
    values = [entry.pop("values") for entry in words["relation"]]
    relations = [Relation.from_toml(entry) for entry in words["relation"]]
    entries = []
    for kind, described in words["kinds"].items():
        for subject in described["subjects"]:
            dice = Dice(SEED, client, subject)
            facts = tuple(
                Fact(subject, relation, dice.pick(choice))
                for relation, choice in zip(relations, values, strict=True)
                if relation.of == kind
            )
            entries.append(Entry(subject, kind, described["pronoun"], facts))
    return tuple(entries)
