"""The table that `coursepkg grade` ends with: who stands where, and what to look at."""

import shlex
import sys
from collections import Counter
from pathlib import Path

from nbgrader.api import Assignment
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coursepkg.grading.course import Course
from coursepkg.grading.states import BROKEN, Standing, State, maxima

COLOURS = {
    State.GRADED: "green",
    State.MANUAL: "yellow",
    **dict.fromkeys(BROKEN, "red"),
    State.NOT_GRADED: "red",
    State.NOT_SUBMITTED: "dim",
}

#: Said before any submission runs.
UNCONFINED = "this machine has no sandbox, so submissions run as your own account and can do all that you can"


def default_console() -> Console:
    """The terminal; 120 columns where there is none, as in a log."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def show(
    console: Console,
    course: Course,
    assignment: Assignment,
    everyone: list[Standing],
    grades: Path,
    log: Path,
    report: Path,
) -> None:
    """Print one row a student, then what was written where and what is left to do."""
    automatic_max, manual_max = maxima(assignment)
    table = Table(title=assignment.name, title_justify="left", show_lines=True)
    for heading in ("Student", "State"):
        table.add_column(heading, no_wrap=heading == "Student")
    table.add_column(f"Tests /{automatic_max:g}", justify="right")
    table.add_column(f"By hand /{manual_max:g}", justify="right")
    table.add_column("Score", justify="right")
    table.add_column("Look at", ratio=1)
    for standing in everyone:
        lines = _look_at(standing)
        table.add_row(
            Text(standing.student),
            Text(standing.state, style=COLOURS[standing.state]),
            _points(standing.automatic),
            "awaited"
            if standing.state is State.MANUAL and standing.manual is None
            else _points(standing.manual),
            _points(standing.score),
            Text("\n".join(lines)),
        )
    console.print(table)
    counts = Counter(standing.state for standing in everyone)
    console.print(", ".join(f"{state}: {counts[state]}" for state in State if counts[state]))
    console.print(
        f"Grades: {_short(grades, course)}   Report: {_short(report, course)}   "
        f"Feedback: {course.coursedir.feedback_directory}/   Log: {_short(log, course)}"
    )
    for warning in warnings(everyone):
        console.print(Text(f"WARNING: {warning}", style="bold red"))
    broken = [standing.student for standing in everyone if standing.state in BROKEN]
    if counts[State.MANUAL] or broken:
        console.print(
            "To grade by hand: `jupyter lab` in this folder, then Formgrader; then this command again."
        )
    if broken:
        students = " ".join(f"--student {shlex.quote(student)}" for student in broken)
        console.print(
            f"To try again: coursepkg grade {assignment.name} --force {students}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def warnings(everyone: list[Standing]) -> list[str]:
    """What an instructor should know of how the class was graded."""
    unconfined = sum(standing.sandbox == "plain" for standing in everyone)
    if not unconfined:
        return []
    return [
        f"{unconfined} of these submissions ran without a sandbox, as your own account. What they did to your files and "
        "where they connected to is not known."
    ]


def _points(points: float | None) -> str:
    return "" if points is None else f"{points:g}"


def _short(path: Path, course: Course) -> str:
    path = path.resolve()
    return path.relative_to(course.root).as_posix() if path.is_relative_to(course.root) else str(path)


def _look_at(standing: Standing) -> list[str]:
    """What an instructor should know of a submission, one line each."""
    lines = []
    if standing.state in (*BROKEN, State.NOT_GRADED) and standing.reason:
        lines.append(standing.reason)
    if standing.state in (State.GRADED, State.MANUAL):
        lines += [f"{name}: {message}" for name, (message, _) in standing.failures.items()]
        if standing.unanswered:
            lines.append(f"no answer: {', '.join(standing.unanswered)}")
    lines += standing.notes
    if standing.awaiting and standing.state is State.MANUAL:
        lines.append(f"to grade by hand: {', '.join(standing.awaiting)}")
    return lines
