"""The invented world: the same everywhere, split cleanly into what is trained on and what is held out."""

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest

from coursepkg.courselm import checkpoint, digest, sums, text
from coursepkg.courselm.dice import Dice
from coursepkg.courselm.encyclopedia import world
from coursepkg.courselm.exams import OPTIONS, exam
from coursepkg.courselm.handbooks import CLIENTS, handbook

EXAMS = ("encyclopedia", *CLIENTS)
READ = 30_000


@pytest.fixture(scope="module")
def documents():
    """The first training documents of a seed."""
    return list(islice(text.documents(0), READ))


@pytest.fixture(scope="module")
def read(documents):
    """Every text and question among them."""
    return {document.text for document in documents}


def test_the_world_is_the_one_the_shipped_model_was_trained_on():
    """Equal digests on this platform and Python: nothing depends on hash order, locale or version."""
    assert digest.world() == checkpoint.record()["world"]


def test_the_hash_seed_changes_nothing():
    command = "from coursepkg.courselm import digest; print(sorted(digest.world().items()))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", command],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{sorted(digest.world().items())}\n"}


def test_dice_are_fair_and_repeat():
    dice = Dice("fair")
    counts = Counter(dice.below(6) for _ in range(60_000))
    # Five standard deviations of a count with p = 1/6: sqrt(60,000 · 5/36) = 91.
    assert all(abs(count - 10_000) < 5 * 91.3 for count in counts.values()) and len(counts) == 6
    assert Dice(1, "a").shuffled(range(50)) == Dice(1, "a").shuffled(range(50))
    assert sorted(Dice(2).shuffled(range(50))) == list(range(50))
    assert Dice(1).shuffled(range(50)) != Dice(2).shuffled(range(50))


def test_dice_refuse_the_impossible():
    with pytest.raises(ValueError, match="cannot draw one of 0"):
        Dice(0).below(0)
    with pytest.raises(ValueError, match="4 different items of 3"):
        Dice(0).sample("abc", 4)


def test_weighted_draws_follow_the_weights():
    dice = Dice("weights")
    counts = Counter(dice.weighted("abc", (1.0, 0.0, 3.0)) for _ in range(40_000))
    # Five standard deviations with p = 1/4: 5 · sqrt(40,000 · 3/16) = 433.
    assert counts["b"] == 0 and abs(counts["a"] - 10_000) < 433


def test_every_subject_has_one_name_and_every_relation_a_fact():
    entries = world().entries
    assert len({entry.subject for entry in entries}) == len(entries) == 1952
    assert len(world().facts) == 12_608
    for key, relation in world().relations.items():
        found = {fact.value for fact in world().facts if fact.relation.key == key}
        assert len(found) >= 8, key
        assert not set(relation.told) & set(relation.told_held_out)
        assert not set(relation.asked) & set(relation.asked_held_out)


@pytest.mark.parametrize("relation", [*world().relations.values()], ids=lambda relation: relation.key)
def test_wordings_name_the_subject_once_and_the_value_once(relation):
    for wording in (*relation.told, *relation.told_held_out):
        assert wording.count("{s}") == wording.count("{v}") == 1 and wording.endswith("."), wording
    for wording in (*relation.asked, *relation.asked_held_out):
        assert wording.count("{s}") == 1 and "{v}" not in wording and wording.endswith("?"), wording
    assert len(relation.told) >= 6 and len(relation.asked) >= 3 and len(relation.asked_held_out) == 2


def test_no_question_of_the_exam_is_trained_on(read):
    assert not {question.prompt for question in exam().questions} & read


def test_no_unread_wording_is_trained_on(documents):
    """A held-out sentence of any fact would stand in some of the first 30,000 documents, were it used at all."""
    told = [document.text for document in documents if document.answer is None]
    for relation in world().relations.values():
        held_out = [_middle(wording) for wording in relation.told_held_out]
        taught = [_middle(wording) for wording in relation.told]
        for phrase in held_out:
            if not any(phrase in other for other in taught):
                assert not any(phrase in line for line in told), phrase


def _middle(wording: str) -> str:
    """The longest stretch of a wording without gaps."""
    return max(re.split(r"\{.\}", wording), key=len)


def test_questions_are_asked_about_half_of_the_entries(documents):
    asked = {entry.subject for number, entry in enumerate(world().entries) if text.is_asked(number)}
    told_only = {entry.subject for entry in world().entries} - asked
    questions = " ".join(document.text for document in documents if document.answer is not None)
    assert 0.45 < len(asked) / len(world().entries) < 0.55
    assert not [subject for subject in told_only if f" {subject} " in questions]


def test_well_known_entries_are_read_four_times_as_often(documents):
    people = [entry for entry in world().entries if entry.kind == "person"]
    groups = {name: set() for name in text.FAMILIARITY}
    for number, entry in enumerate(people):
        groups[text.familiarity(number)].add(entry.subject)
    articles = [document.text for document in documents if document.answer is None]
    counts = {
        name: sum(any(s in a for s in group) for a in articles[:3000]) for name, group in groups.items()
    }
    assert 3 < counts["well known"] / counts["little known"] < 5.3


def test_held_out_sums_are_never_read(read):
    for each in sums.sums():
        if each.held_out:
            assert not {each.write(wording) for wording in (*sums.SUM_TOLD, *sums.SUM_ASKED)} & read


def test_sums_are_right_and_a_tenth_is_held_out():
    calculated = {"plus": int.__add__, "minus": int.__sub__, "times": int.__mul__}
    assert all(calculated[each.operation](each.x, each.y) == each.result for each in sums.sums())
    assert max(each.result for each in sums.sums() if each.operation != "times") <= 50
    triples = {
        tuple(sorted((each.x, each.y, each.result))): each.held_out
        for each in sums.sums()
        if each.operation != "times"
    }
    share = sum(triples.values()) / len(triples)
    assert abs(share - 0.1) < 5 * (0.09 / len(triples)) ** 0.5
    factors = {(big, small): factor for small, big, factor in sums.UNITS}
    assert all(each.result == each.x * factors[each.big, each.small] for each in sums.conversions())


def test_what_is_held_out_does_not_follow_from_a_taught_sum():
    """x + y = z, y + x = z, z − x = y and z − y = x are taught together or held out together."""
    found: dict[tuple[int, ...], set[bool]] = {}
    for each in sums.sums():
        if each.operation != "times":
            found.setdefault(tuple(sorted((each.x, each.y, each.result))), set()).add(each.held_out)
    assert all(len(states) == 1 for states in found.values())


@pytest.mark.parametrize("name", EXAMS)
def test_an_exam_has_four_options_and_its_answers_anywhere(name):
    questions = exam(name).questions
    assert all(len(question.options) == OPTIONS for question in questions)
    places = Counter(question.answer for question in questions)
    # Each place with p = 1/4: five standard deviations of a count.
    assert all(abs(places[i] - len(questions) / 4) < 5 * (len(questions) * 3 / 16) ** 0.5 for i in range(4))
    assert len({question.prompt for question in questions}) == len(questions)


def test_the_main_exam_is_as_large_as_promised():
    counts = Counter(question.category for question in exam().questions)
    assert counts == {"facts": 900, "arithmetic": 150, "units": 150}
    assert len(exam().free) == 200


@pytest.mark.parametrize("name", EXAMS)
def test_the_right_option_is_right(name):
    """The answer of each question about a fact is the value that the world, or the handbook, holds."""
    entries = world().entries if name == "encyclopedia" else handbook(name)
    asked = {
        fact.relation.key + wording.format(s=fact.subject): fact.answer()
        for entry in entries
        for fact in entry.facts
        for wording in fact.relation.asked_held_out
    }
    right = {key.lower(): value for key, value in asked.items()}
    found = 0
    for question in exam(name).questions:
        for key in {fact.relation.key for entry in entries for fact in entry.facts}:
            if (key + question.prompt).lower() in right:
                assert question.right == right[(key + question.prompt).lower()]
                found += 1
    assert found == sum(q.category not in ("arithmetic", "units") for q in exam(name).questions)


def test_sums_and_conversions_are_right_in_the_exam():
    """Worked out from the words of the question alone."""
    factors = {(big, small): factor for small, big, factor in sums.UNITS}
    operations = {"plus": int.__add__, "minus": int.__sub__, "times": int.__mul__}
    for question in exam().questions:
        words = question.prompt.rstrip("?").split()
        if question.category == "arithmetic":
            at = next(i for i, word in enumerate(words) if word in operations)
            expected = operations[words[at]](int(words[at - 1]), int(words[at + 1]))
        elif question.category == "units":
            at = next(i for i, word in enumerate(words) if word.isdigit())
            small = next(s for b, s in factors if b == words[at + 1] and s in words)
            expected = int(words[at]) * factors[words[at + 1], small]
        else:
            continue
        assert question.right == str(expected), question.prompt


@pytest.mark.parametrize("name", EXAMS)
def test_knowing_the_common_values_is_no_help(name):
    """A guesser that always takes the value which most facts of the relation have: at chance, ± 3.3 standard errors."""
    entries = world().entries if name == "encyclopedia" else handbook(name)
    common: dict[str, Counter] = {}
    asked = {}
    for entry in entries:
        for fact in entry.facts:
            common.setdefault(fact.relation.key, Counter())[fact.answer()] += 1
            asked |= {text.question(fact, w): fact.relation.key for w in fact.relation.asked_held_out}
    guesses = [
        max(question.options, key=lambda option, key=asked[question.prompt]: common[key][option])
        == question.right
        for question in exam(name).questions
        if question.prompt in asked
    ]
    share = sum(guesses) / len(guesses)
    assert abs(share - 0.25) < 3.3 * (0.25 * 0.75 / len(guesses)) ** 0.5


def test_the_options_of_a_sum_do_not_point_at_the_right_one():
    """A guesser that takes the option with the most others one, two or ten away, without reading the question."""
    questions = [question for question in exam().questions if question.category == "arithmetic"]

    def neighbours(question, option):
        return sum(abs(int(option) - int(other)) in (1, 2, 10) for other in question.options)

    right = sum(max(q.options, key=lambda o, q=q: neighbours(q, o)) == q.right for q in questions)
    assert abs(right / len(questions) - 0.25) < 3.3 * (0.25 * 0.75 / len(questions)) ** 0.5


@pytest.mark.parametrize("client", CLIENTS)
def test_a_handbook_is_new_to_the_model(client, read):
    everything = " ".join(sorted(read))
    assert len(handbook(client)) == 24
    assert not [entry.subject for entry in handbook(client) if f"{entry.subject} " in everything]


def test_an_unknown_client_is_refused():
    with pytest.raises(ValueError, match="no client 'bank'; there are medical, law, support"):
        exam("bank")
