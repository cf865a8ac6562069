"""Facts, and the ways in which they are told and asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Relation:
    """What one kind of fact says, and its wordings; {s} is the subject, {v} the value, {a} "a" or "an" before it.

    key: the field's name, for example "birthplace". of: the kind of subject, for example "person".
    told, told_held_out: sentences that state the fact. asked, asked_held_out: questions for it.
    answer: the answer's form.
    The held-out wordings are kept from training: the held-out text and the exam are made of them.
    """

    key: str
    of: str
    told: tuple[str, ...]
    told_held_out: tuple[str, ...]
    asked: tuple[str, ...]
    asked_held_out: tuple[str, ...]
    answer: str = "{v}"

    @classmethod
    def from_toml(cls, entry: Mapping[str, Any]) -> "Relation":
        """A relation from a [[relation]] of a data file."""
        return cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()})


@dataclass(frozen=True)
class Fact:
    """One statement: the `relation` of `subject` is `value`. All are text, as they stand in a sentence."""

    subject: str
    relation: Relation
    value: str

    def sentence(self, wording: str, subject: str | None = None) -> str:
        """The fact in one wording, with a capital first letter; `subject` may be a pronoun.

        >>> home = Relation("home", "person", ("{s} lived in {v}.",), (), (), ())
        >>> Fact("Ada Marlby", home, "Aberford").sentence("{s} lived in {v}.", "she")
        'She lived in Aberford.'
        """
        return capital(fill(wording, subject or self.subject, self.value))

    def answer(self, value: str | None = None) -> str:
        """The answer to a question for this fact, or what it would be if the fact's value were another."""
        return fill(self.relation.answer, self.subject, value or self.value)


@dataclass(frozen=True)
class Entry:
    """What there is to know about one subject. pronoun: the word that may stand for it in a running text."""

    subject: str
    kind: str
    pronoun: str
    facts: tuple[Fact, ...]


def fill(wording: str, subject: str, value: str) -> str:
    """The wording with its gaps filled."""
    article = "an" if value[0].lower() in "aeiou" else "a"
    return wording.format(s=subject, v=value, a=article)


def capital(sentence: str) -> str:
    """The sentence with a capital first letter."""
    return sentence[0].upper() + sentence[1:]
