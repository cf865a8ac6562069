"""The course LM's exams: the encyclopedia's, of facts, arithmetic and units, and one for each client's handbook."""

from collections.abc import Sequence
from functools import cache

from coursepkg.courselm import sums as arithmetic
from coursepkg.courselm import text
from coursepkg.courselm.dice import Dice
from coursepkg.courselm.facts import Fact, values
from coursepkg.courselm.handbooks import handbook
from coursepkg.courselm.world import world
from coursepkg.evaluation import Exam, Question

SEED = 2028
FACTS, SUMS_TAUGHT, SUMS_HELD_OUT, CONVERSIONS = 900, 100, 50, 150
FREE = 200
OPTIONS = 4


def exam(name: str = "encyclopedia") -> Exam:
    """The exam called "encyclopedia", or that of a client's handbook: "medical", "law" or "support".

    Raises ValueError for another name.
    """
    return encyclopedia() if name == "encyclopedia" else client(name)


@cache
def encyclopedia() -> Exam:
    """1,200 questions in wordings that training never used, 200 of them to be answered freely too, and unread articles.

    A question's label says more than its category: how well its subject is known and whether training asked about it
    or only told of it; whether a sum was taught or held out.
    """
    dice = Dice(SEED, "encyclopedia")
    entries = world().entries
    facts = [(number, fact) for number, entry in enumerate(entries) for fact in entry.facts]
    others = {key: values(entries, key) for key in world().relations}
    questions = []
    for number, fact in dice.sample(facts, FACTS):
        how = "asked" if text.is_asked(number) else "told"
        wording = dice.pick(fact.relation.asked_held_out)
        label = f"{how}, {text.familiarity(number)}"
        questions.append(_about(fact, wording, others[fact.relation.key], "facts", label, dice))
    taught = [each for each in arithmetic.sums() if not each.held_out]
    held_out = [each for each in arithmetic.sums() if each.held_out]
    for each in [*dice.sample(taught, SUMS_TAUGHT), *dice.sample(held_out, SUMS_HELD_OUT)]:
        prompt = each.write(dice.pick(arithmetic.SUM_ASKED_HELD_OUT))
        label = f"{each.word}, {'held out' if each.held_out else 'taught'}"
        questions.append(_number(prompt, each.result, _near(each.result), "arithmetic", label, dice))
    for each in dice.sample(arithmetic.conversions(), CONVERSIONS):
        prompt = each.write(dice.pick(arithmetic.UNIT_ASKED_HELD_OUT))
        wrong = [each.result * x // each.x for x in range(each.x - 3, each.x + 4) if x > 0]
        questions.append(_number(prompt, each.result, wrong, "units", each.small, dice))
    questions = dice.shuffled(questions)
    return Exam("encyclopedia", tuple(questions), tuple(questions[:FREE]), text.held_out_text())


@cache
def client(name: str) -> Exam:
    """Two questions for each fact of a client's handbook, in wordings kept from finetuning, and unread pages."""
    dice = Dice(SEED, name)
    entries = handbook(name)
    facts = [fact for entry in entries for fact in entry.facts]
    others = {fact.relation.key: values(entries, fact.relation.key) for fact in facts}
    questions = [
        _about(fact, wording, others[fact.relation.key], name, fact.relation.key, dice)
        for fact in facts
        for wording in fact.relation.asked_held_out
    ]
    questions = dice.shuffled(questions)
    pages = tuple(text.article(entry, dice, held_out=True) for entry in entries)
    return Exam(f"{name} handbook", tuple(questions), tuple(questions[:FREE]), pages)


def _about(
    fact: Fact, wording: str, others: Sequence[str], category: str, label: str, dice: Dice
) -> Question:
    """The question for a fact; the wrong options are other values of the same relation, each as likely as the rest."""
    wrong = dice.sample([value for value in others if value != fact.value], OPTIONS - 1)
    options = dice.shuffled([fact.answer(), *map(fact.answer, wrong)])
    return Question(
        text.question(fact, wording), tuple(options), options.index(fact.answer()), category, label
    )


def _number(prompt: str, right: int, near: Sequence[int], category: str, label: str, dice: Dice) -> Question:
    """A question for a number; the wrong options are other numbers near to it."""
    wrong = dice.sample([number for number in near if number != right], OPTIONS - 1)
    options = dice.shuffled([str(right), *map(str, wrong)])
    return Question(prompt, tuple(options), options.index(str(right)), category, label)


def _near(result: int) -> list[int]:
    """What a slip makes of a result: one or two off, ten off, its digits swapped; no number below 0."""
    slips = [result - 10, result - 2, result - 1, result + 1, result + 2, result + 10, int(str(result)[::-1])]
    return [number for number in dict.fromkeys(slips) if number >= 0 and number != result]
