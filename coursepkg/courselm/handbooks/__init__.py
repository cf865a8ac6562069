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
    """The entries of one client's handbook: "medical", "law" or "support".

    The values of a relation are dealt evenly, each to as many subjects as any other, so that none is a better guess.
    Raises ValueError for another name.
    """
    if client not in CLIENTS:
        raise ValueError(f"no client {client!r}; there are {', '.join(CLIENTS)}")
    words = tomllib.loads(files(__package__).joinpath(f"{client}.toml").read_text(encoding="utf-8"))
    dealt = {}
    for entry in words["relation"]:
        subjects, values = words["kinds"][entry["of"]]["subjects"], entry.pop("values")
        relation = Relation.from_toml(entry)
        cards = Dice(SEED, client, relation.key).shuffled(values * (len(subjects) // len(values)))
        dealt[relation] = dict(zip(subjects, cards, strict=True))
    return tuple(
        Entry(
            subject,
            kind,
            described["pronoun"],
            tuple(
                Fact(subject, relation, hands[subject])
                for relation, hands in dealt.items()
                if relation.of == kind
            ),
        )
        for kind, described in words["kinds"].items()
        for subject in described["subjects"]
    )
