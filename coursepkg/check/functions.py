"""Checks of a function that the student wrote."""

import builtins
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from coursepkg.check import answers, ownwork
from coursepkg.check.cases import Case, short
from coursepkg.check.compare import WrongKind, difference
from coursepkg.check.failures import CheckFailed

SECONDS = 5.0  # for one call; what these exercises ask for takes microseconds


def function(answer: Callable, cases: Sequence[Case], without: Sequence[ModuleType] = ()) -> None:
    """Call `answer` with every case, and print one line if all are as expected.

    without: packages of the course that hold the solution; an answer that calls or copies them is refused.
    Raises CheckFailed or Refused, with a message for the student.
    """
    _run(answer, cases, tuple(without), secret=False)
    print(f"{answers.of(answer).name}: {_count(cases)} passed.")


def hidden(answer: Callable, cases: Sequence[Case], without: Sequence[ModuleType] = ()) -> None:
    """As `function`, for grading: the message names what a failed case is about, but no input and no expected value.

    Raises Refused, too, where the notebook has replaced a function of the checks or of the packages in `without`.
    """
    answers.of(answer).refuse_changed_checks((sys.modules["coursepkg.check"], *without))
    _run(answer, cases, tuple(without), secret=True)
    print(f"{answers.of(answer).name}: {_count(cases)} on other inputs passed.")


def _count(cases: Sequence[Case]) -> str:
    return f"{len(cases)} check{'s' if len(cases) != 1 else ''}"


def _run(answer: Callable, cases: Sequence[Case], without: tuple[ModuleType, ...], secret: bool) -> None:
    if not callable(answer):
        raise CheckFailed(
            f"expected a function, and this is {short(answer)}. Did a later cell use the name again?"
        )
    asked = answers.of(answer)
    asked.refuse_the_packages_own(without)
    for case in cases:
        _one(asked, case, without, secret)


def _one(asked: answers.Answer, case: Case, without: tuple[ModuleType, ...], secret: bool) -> None:
    outcome = asked.call(case.args, case.kwargs, without, SECONDS)
    if outcome.late:
        wrong = f"did not return within {SECONDS:g} seconds"
        raise CheckFailed(_message(asked.name, case, wrong, "Is there a loop that never ends?", secret))
    ownwork.refuse_called(asked.name, outcome.called)
    wrong = _wrong(outcome, case, secret)
    if wrong:
        about_a_value = (
            outcome.raised is None and outcome.value is not None and not isinstance(wrong, WrongKind)
        )
        hint = case.hint if about_a_value else ""
        cause = None if secret else outcome.raised
        raise CheckFailed(_message(asked.name, case, wrong, hint, secret)) from cause


def _wrong(outcome: answers.Outcome, case: Case, secret: bool) -> str | None:
    """What is wrong with the outcome, or None."""
    got, raised = outcome.value, outcome.raised
    expects_error = isinstance(case.expected, type) and issubclass(case.expected, Exception)
    if raised is not None:
        if isinstance(raised, NotImplementedError) and case.expected is not NotImplementedError:
            return "is not written yet (it raised NotImplementedError)"
        if expects_error and isinstance(raised, case.expected):
            missing = [text for text in case.naming if text not in str(raised)]
            return (
                f"raised {case.expected.__name__}, whose message should name {missing[0]}"
                if missing
                else None
            )
        # A class made on the spot can carry an input in its name, so a hidden check names Python's own only.
        name = type(raised).__name__
        if secret:
            name = name if getattr(builtins, name, None) is type(raised) else "an exception"
        where = (
            f"line {outcome.line} of your cell"
            if outcome.line
            else "in the call itself, whose arguments do not match"
        )
        return f"raised {name}{'' if secret else f': {str(raised)[:200]}'} ({where})"
    if expects_error:
        return f"returned {'a value' if secret else short(got)}, and should raise {case.expected.__name__}"
    if got is None and case.expected is not None:
        return "returned None, as a function does that has no return statement"
    found = difference(got, case.expected, case.rel)
    if not found:
        return None
    kind = type(found)
    return kind("returned another value than expected" if secret else f"returned {short(got)}; {found}")


def _message(name: str, case: Case, wrong: str, hint: str, secret: bool) -> str:
    about = f" ({case.label})" if case.label else ""
    call = f"{name} on another input{about}" if secret else f"{case.call_of(name)}{about}"
    return f"{call}\n{wrong}." + (f"\nHint: {hint}" if hint else "")
