"""The function that is checked: one in this process, or, where a class is graded, one in the student's process."""

import copy
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from coursepkg.check import ownwork
from coursepkg.check.limits import TookTooLong, within


@dataclass(frozen=True)
class Outcome:
    """What came of a call: a value, an error (and the line of the student's cell that raised it), or neither in time.

    `called`: functions that it called of packages that it was to do without.
    """

    value: Any = None
    raised: BaseException | None = None
    line: int | None = None
    late: bool = False
    called: list[str] = field(default_factory=list)


class Answer(Protocol):
    """What a check asks of the function that it checks."""

    name: str

    def refuse_changed_checks(self, packages: tuple[ModuleType, ...]) -> None:
        """Raise Refused where the notebook has replaced a function of `packages`, if it shares a process with them."""

    def refuse_the_packages_own(self, packages: tuple[ModuleType, ...]) -> None:
        """Raise Refused where it is a function of `packages`, or a copy of one."""

    def call(self, args: tuple, kwargs: dict, packages: tuple[ModuleType, ...], seconds: float) -> Outcome:
        """Call it with copies of the arguments."""


class Local:
    """A function of this process."""

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.name = getattr(function, "__name__", "your function")

    def refuse_changed_checks(self, packages: tuple[ModuleType, ...]) -> None:
        ownwork.refuse_changed(*packages)

    def refuse_the_packages_own(self, packages: tuple[ModuleType, ...]) -> None:
        ownwork.refuse_the_packages_own(self.function, packages)

    def call(self, args: tuple, kwargs: dict, packages: tuple[ModuleType, ...], seconds: float) -> Outcome:
        args, kwargs = copy.deepcopy((args, kwargs))  # an answer may change what it was given
        with ownwork.watching(packages) as called:
            try:
                outcome = Outcome(within(seconds, lambda: self.function(*args, **kwargs)), called=called)
            except TookTooLong:
                outcome = Outcome(late=True, called=called)
            except Exception as error:
                outcome = Outcome(raised=error, line=line_of(error), called=called)
        return outcome


def line_of(error: BaseException) -> int | None:
    """The line of the student's code in which `error` was raised; None where it was the call itself."""
    libraries = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(libraries)]
    return frames[-1].lineno if frames else None


def of(function: Callable) -> Answer:
    """The function as an answer; one that stands for the student's brings its own."""
    own = getattr(type(function), "coursepkg_answer", None)
    return own(function) if own else Local(function)
