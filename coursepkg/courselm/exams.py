"""The course LM's exams: the encyclopedia's, of facts, arithmetic and units, and one for each client's handbook."""

from collections.abc import Sequence
from functools import cache

from coursepkg.courselm import sums as arithmetic
from coursepkg.courselm import text
from coursepkg.courselm.dice import Dice
from coursepkg.courselm.encyclopedia import world
from coursepkg.courselm.facts import Entry, Fact
from coursepkg.courselm.handbooks import handbook
from coursepkg.evaluation import Exam, Question

SEED = 2028
FACTS, CONVERSIONS = 900, 150
SUMS = {"plus": 35, "minus": 35, "times": 30}
SUMS_HELD_OUT = {"plus": 25, "minus": 25}
FREE = 200
OPTIONS = 4


def exam(name: str = "encyclopedia") -> Exam:
    """The exam called "encyclopedia", or that of a client's handbook: "medical", "law" or "support".

    Raises ValueError for another name.
    """
    return encyclopedia() if name == "encyclopedia" else client(name)


@cache
def encyclopedia() -> Exam:
    """1,200 questions in wordings that training never used, 200 of them to be answered freely too, and new articles.

    A question's label says more than its category: how well its subject is known and whether training asked about it
    or only told of it; whether a sum was taught or held out.
    """
    dice = Dice(SEED, "encyclopedia")
    facts = [(number, fact) for number, entry in enumerate(world().entries) for fact in entry.facts]
    known = _values(world().entries)
    questions = []
    for number, fact in dice.sample(facts, FACTS):
        how = "asked" if text.is_asked(number) else "told"
        wording = dice.pick(fact.relation.asked_held_out)
        label = f"{how}, {text.familiarity(number)}"
        questions.append(_about(fact, wording, known[fact.relation.key], "facts", label, dice))
    for held_out, counts in ((False, SUMS), (True, SUMS_HELD_OUT)):
        for operation, count in counts.items():
            some = [s for s in arithmetic.sums() if s.operation == operation and s.held_out == held_out]
            label = f"{operation}, {'held out' if held_out else 'taught'}"
            for each in dice.sample(some, count):
                prompt = each.write(dice.pick(arithmetic.SUM_ASKED_HELD_OUT))
                questions.append(_choice(prompt, *_slips(each.result, dice), "arithmetic", label, dice))
    for each in dice.sample(arithmetic.conversions(), CONVERSIONS):
        prompt = each.write(dice.pick(arithmetic.UNIT_ASKED_HELD_OUT))
        questions.append(_choice(prompt, *_other_quantities(each, dice), "units", "taught", dice))
    questions = dice.shuffled(questions)
    return Exam("encyclopedia", tuple(questions), tuple(questions[:FREE]), text.unread_articles())


@cache
def client(name: str) -> Exam:
    """Two questions for each fact of a client's handbook, in wordings kept from finetuning, and unread pages."""
    dice = Dice(SEED, name)
    entries = handbook(name)
    known = _values(entries)
    questions = [
        _about(fact, wording, known[fact.relation.key], name, fact.relation.key, dice)
        for entry in entries
        for fact in entry.facts
        for wording in fact.relation.asked_held_out
    ]
    questions = dice.shuffled(questions)
    pages = tuple(text.article(entry, dice) for entry in entries)
    return Exam(f"{name} handbook", tuple(questions), tuple(questions[:FREE]), pages)


def _values(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """The values of each relation's facts, as often as they occur."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        for fact in entry.facts:
            found.setdefault(fact.relation.key, []).append(fact.value)
    return found


def _about(fact: Fact, wording: str, known: Sequence[str], category: str, label: str, dice: Dice) -> Question:
    """The question for a fact; the wrong options are the values of other facts of its relation, drawn at random.

    So a value that is right often is offered often as a wrong option too, and knowing which values are common helps
    little.
    """
    options = [fact.value]
    while len(options) < OPTIONS:
        value = dice.pick(known)
        if value not in options:
            options.append(value)
    right, *wrong = (fact.answer(value) for value in options)
    return _choice(text.question(fact, wording), right, wrong, category, label, dice)


def _choice(prompt: str, right: str, wrong: Sequence[str], category: str, label: str, dice: Dice) -> Question:
    """A question with its options in a random order."""
    options = dice.shuffled([right, *wrong])
    return Question(prompt, tuple(options), options.index(right), category, label)


def _slips(result: int, dice: Dice) -> tuple[str, list[str]]:
    """A result and three wrong ones: slips of it (one, two or ten off), or of one such slip.

    Three times in four all options are slips of a wrong one, so the right one is not the one that the others surround.
    """
    near = [slip for slip in (result + by for by in (-10, -2, -1, 1, 2, 10)) if slip >= 0]
    wrong = dice.sample(near, 1)
    centre = result if dice.chance(1 / OPTIONS) else wrong[0]
    around = [slip for slip in (centre + by for by in (-10, -2, -1, 1, 2, 10)) if slip >= 0]
    others = dice.sample([slip for slip in around if slip not in (result, *wrong)], OPTIONS - 2)
    return str(result), [str(number) for number in (*wrong, *others)]


def _other_quantities(each: arithmetic.Conversion, dice: Dice) -> tuple[str, list[str]]:
    """A conversion's result and those of three other quantities near to it, some less and some more."""
    factor = each.result // each.x
    less = [x for x in range(each.x - 3, each.x) if x > 0]
    fewer = dice.below(min(len(less), OPTIONS - 1) + 1)
    more = range(each.x + 1, each.x + 4)
    wrong = dice.sample(less, fewer) + dice.sample(more, OPTIONS - 1 - fewer)
    return str(each.result), [str(x * factor) for x in wrong]
