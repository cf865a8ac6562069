"""Of a failed check a feedback page repeats what is known without the run, and nothing else."""

import pytest
from nbformat.v4 import new_code_cell, new_output

from coursepkg import check
from coursepkg.check import case
from coursepkg.grading.errors import ELSE, ENDLESS, LOOK, REFUSED, of_a_check, python_name

TEST = """\
check.function(f, [case(1, expected=1, label="one", hint="It is x.")])
check.hidden(f, [
    case(31337, expected=31337, label="a large "
         "number", hint="Still x."),
    case(-1, expected=ValueError, naming=["negative"], label="below zero"),
])
raise CheckFailed("written by hand")
"""
LARGE = "f on another input (a large number)\n"


def said(message: str, name: str = "CheckFailed", longest: int = 20) -> str | None:
    """What the page says of an error in the cell TEST, where the longest answer has so many lines."""
    cell = new_code_cell(TEST, metadata={"nbgrader": {"grade_id": "test_f"}})
    return of_a_check(new_output("error", ename=name, evalue=message, traceback=[]), cell, longest)


def wrong(answer: object, *cases: check.Case) -> str:
    """What the real checks say of an answer to these hidden cases."""
    with pytest.raises(check.CheckFailed) as error:
        check.hidden(answer, cases)
    return str(error.value)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda x: 0, 31337),
        (lambda x: "text", 31337),
        (lambda x: None, 31337),
        (lambda x: x.nothing, 31337),
        (lambda: 1, 31337),
        (lambda x: x, ValueError),
    ],
    ids=["value", "kind", "none", "raises", "arguments", "no error"],
)
def test_what_the_checks_say_is_repeated_whole(answer, expected) -> None:
    message = wrong(answer, case(31337, expected=expected, label="a large number", hint="Still x."))
    _, about, rest = message.partition(" on another input (a large number)")
    assert about and ELSE not in rest
    assert said(message, longest=10_000) == "f" + about + rest


def test_a_line_of_the_students_is_named_and_no_larger_number() -> None:
    assert (
        said(LARGE + "raised KeyError (line 20 of your cell).")
        == LARGE + "raised KeyError (line 20 of your cell)."
    )
    assert said(LARGE + "raised KeyError (line 313 of your cell).") == LARGE + ELSE + "."
    assert said(LARGE + "raised Got31337 (line 3 of your cell).") == LARGE + ELSE + "."
    assert said(LARGE + "raised an exception (line 3 of your cell).") == LARGE + (
        "raised an exception (line 3 of your cell)."
    )


def test_what_an_exception_should_name_is_said_if_the_test_says_it() -> None:
    should = "f on another input (below zero)\nraised ValueError, whose message should name "
    assert said(should + "negative.") == should + "negative."
    assert said(should + "31337.") == "f on another input (below zero)\n" + ELSE + "."


def test_a_loop_has_its_hint() -> None:
    text = LARGE + f"did not return within 5 seconds.\nHint: {ENDLESS}"
    assert said(text) == text


def test_nothing_else_is_repeated() -> None:
    assert (
        said("g(31337) on another input (31337)\nreturned 31337.\nHint: 31337")
        == f"f on another input\n{ELSE}."
    )
    assert said("f(1) (one)\nreturned [31337]; expected 1.\nHint: It is x.") == (
        f"f (one)\n{ELSE}{LOOK}.\nHint: It is x."
    )
    assert said("31337", "Refused") == REFUSED
    assert said("written by hand") == "written by hand"
    assert said("It is x.") == f"f\n{ELSE}{LOOK}."
    assert said("31337", "AssertionError") is None


def test_only_pythons_own_exceptions_are_named() -> None:
    assert python_name("KeyError") == "KeyError"
    assert {python_name(name) for name in ("Got31337", "print", "CheckFailed")} == {"Exception"}
