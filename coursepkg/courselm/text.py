"""What the course LM reads: articles, questions with answers, sums. An endless stream, the same for the same seed."""

from collections.abc import Iterator

from coursepkg.chat import Document
from coursepkg.courselm import sums
from coursepkg.courselm.dice import Dice
from coursepkg.courselm.encyclopedia import world
from coursepkg.courselm.facts import Entry, Fact

FAMILIARITY = {"well known": 4, "known": 2, "little known": 1}
SHARES = {"article": 0.25, "question": 0.38, "sum": 0.29, "conversion": 0.08}
PRONOUN = 0.35


def familiarity(number: int) -> str:
    """How often entry `number` of the world is read about: a third of them often, a third seldom."""
    return tuple(FAMILIARITY)[number % 3]


def is_asked(number: int) -> bool:
    """Whether training asks about entry `number`. It only tells about the others."""
    return number // 3 % 2 == 0


def documents(seed: int | str) -> Iterator[Document]:
    """The stream of training documents."""
    dice, entries = Dice("documents", seed), world().entries
    # Each entry, and each fact that is asked for, stands in its list as often as its familiarity says.
    told, asked = [], []
    for number, entry in enumerate(entries):
        times = FAMILIARITY[familiarity(number)]
        told += [entry] * times
        asked += [fact for fact in entry.facts for _ in range(times)] if is_asked(number) else []
    taught = [each for each in sums.sums() if not each.held_out]
    products = [each for each in taught if each.operation == "times"]
    kinds, shares = tuple(SHARES), tuple(SHARES.values())
    while True:
        kind = dice.weighted(kinds, shares)
        if kind == "article":
            yield Document(article(dice.pick(told), dice))
        elif kind == "question":
            fact = dice.pick(asked)
            yield Document(question(fact, dice.pick(fact.relation.asked)), fact.answer())
        elif kind == "sum":
            each = dice.pick(products if dice.chance(0.1) else taught)
            if dice.chance(0.5):
                yield Document(each.write(dice.pick(sums.SUM_TOLD)))
            else:
                yield Document(each.write(dice.pick(sums.SUM_ASKED)), str(each.result))
        else:
            each = dice.pick(sums.conversions())
            if dice.chance(0.5):
                yield Document(each.write(dice.pick(sums.UNIT_TOLD)))
            else:
                yield Document(each.write(dice.pick(sums.UNIT_ASKED)), str(each.result))


def article(entry: Entry, dice: Dice, held_out: bool = False) -> str:
    """All that is known about one entry, in a random order and in random wordings."""
    sentences = []
    for at, fact in enumerate(dice.shuffled(entry.facts)):
        wording = dice.pick(fact.relation.told_held_out if held_out else fact.relation.told)
        pronoun = at > 0 and wording.startswith("{s}") and dice.chance(PRONOUN)
        sentences.append(fact.sentence(wording, entry.pronoun if pronoun else None))
    return " ".join(sentences)


def question(fact: Fact, wording: str) -> str:
    """The question for a fact in one wording."""
    return wording.format(s=fact.subject)


def unread_articles(count: int = 240) -> tuple[str, ...]:
    """New articles on `count` of the entries: the wordings are known, their choice and order were not read before."""
    dice = Dice("unread articles", 1)
    return tuple(article(entry, dice) for entry in dice.sample(world().entries, count))


def unread_wordings(count: int = 240) -> tuple[str, ...]:
    """Articles on `count` of the entries in wordings that training never used."""
    dice = Dice("unread wordings", 1)
    return tuple(article(entry, dice, held_out=True) for entry in dice.sample(world().entries, count))
