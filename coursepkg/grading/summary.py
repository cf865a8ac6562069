"""The table that `coursepkg grade` ends with: who stands where, and what to look at."""

import logging
import shlex
import sys
from collections import Counter
from pathlib import Path

import nbformat
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from nbgrader import utils
from nbgrader.api import Assignment
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coursepkg.grading.course import Course
from coursepkg.grading.scores import score_of
from coursepkg.grading.states import Standing, State, folder, maxima

_QUIET = logging.Logger("coursepkg.grading.summary", logging.CRITICAL)
COLOURS = {
    State.GRADED: "green",
    State.MANUAL: "yellow",
    State.FAILED: "red",
    State.NOT_GRADED: "red",
    State.NOT_SUBMITTED: "dim",
}


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
    answers = {cell.name for notebook in assignment.notebooks for cell in notebook.solution_cells}
    for standing in everyone:
        lines = _look_at(course, assignment.name, standing, answers)
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
        f"Grades: {_short(grades, course)}   Feedback: {course.coursedir.feedback_directory}/   Log: {_short(log, course)}"
    )
    if counts[State.MANUAL] or counts[State.FAILED]:
        console.print(
            "To grade by hand: `jupyter lab` in this folder, then Formgrader; then this command again."
        )
    if failed := [standing.student for standing in everyone if standing.state is State.FAILED]:
        students = " ".join(f"--student {shlex.quote(student)}" for student in failed)
        console.print(
            f"To try again: coursepkg grade {assignment.name} --force {students}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _points(points: float | None) -> str:
    return "" if points is None else f"{points:g}"


def _short(path: Path, course: Course) -> str:
    path = path.resolve()
    return path.relative_to(course.root).as_posix() if path.is_relative_to(course.root) else str(path)


def _look_at(course: Course, assignment: str, standing: Standing, answers: set[str]) -> list[str]:
    """What an instructor should know of a submission, one line each."""
    lines = []
    if standing.state in (State.FAILED, State.NOT_GRADED) and standing.reason:
        lines.append(standing.reason)
    path = folder(course.coursedir, "autograded", standing.student, assignment) / f"{assignment}.ipynb"
    if standing.state in (State.GRADED, State.MANUAL) and path.exists():
        lines += _exercises(nbformat.read(path, as_version=4), answers)
    lines += standing.notes
    if standing.awaiting and standing.state is State.MANUAL:
        lines.append(f"to grade by hand: {', '.join(standing.awaiting)}")
    return lines


def _exercises(nb: NotebookNode, answers: set[str]) -> list[str]:
    """The exercises that lost points, and why, or that earned some without an answer. An exercise is a test cell and
    the answer whose name it bears, one of `answers`."""
    cells = {cell.metadata.nbgrader.grade_id: cell for cell in nb.cells if "nbgrader" in cell.metadata}
    unanswered = [
        name
        for name, cell in cells.items()
        if utils.is_solution(cell) and cell.metadata.nbgrader.get("checksum") == utils.compute_checksum(cell)
    ]
    unanswered += sorted(answers - cells.keys())
    lines = []
    for name, test in cells.items():
        if not utils.is_grade(test) or utils.is_solution(test):
            continue
        exercise = name.removeprefix("test_")
        error = _error(test)
        if exercise in unanswered:
            if points := score_of(test, _QUIET):
                lines.append(f"{exercise}: earned {points:g} points without an answer: look")
        elif error:
            in_answer = _error(cells[exercise]) if exercise in cells else None
            lines.append(f"{exercise}: {_message(in_answer or error)}")
    if unanswered:
        lines.append(f"no answer: {', '.join(unanswered)}")
    return lines


def _error(cell: NotebookNode) -> NotebookNode | None:
    return next((output for output in cell.get("outputs", []) if output.output_type == "error"), None)


def _message(error: NotebookNode) -> str:
    """An error in one line: of a check, what was called and what came of it; else the name and the first line."""
    lines = strip_ansi(error.evalue).strip().split("\n")
    if error.ename == "CheckFailed":
        return " ".join(lines[:2])[:200]
    if error.ename == "Stopped":
        return lines[0]
    return f"{error.ename}: {lines[0][:200]}" if lines[0] else error.ename
