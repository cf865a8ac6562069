"""What there is to say of each exercise of a graded notebook: why it lost points, or that it earned some unanswered."""

import logging

from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from nbgrader import utils

from coursepkg.grading.cells import exercise, is_answer, is_test
from coursepkg.grading.scores import score_of

_QUIET = logging.Logger("coursepkg.grading.findings", logging.CRITICAL)
HINT = "Hint: "


def failures(nb: NotebookNode) -> dict[str, tuple[str, str]]:
    """By exercise, why its tests failed in one line, and the hint that the check gave, or an empty text.

    Where the answer itself raised, what it raised; exercises that are not answered are left out.
    """
    answers = {exercise(cell): cell for cell in nb.cells if is_answer(cell)}
    missing = unanswered(nb)
    found = {}
    for cell in filter(is_test, nb.cells):
        name = exercise(cell)
        error = _error(cell)
        if error is not None and name not in missing:
            found[name] = _said(_error(answers[name]) or error if name in answers else error)
    return found


def unanswered(nb: NotebookNode) -> list[str]:
    """The answers that are as they were released."""
    return [
        cell.metadata.nbgrader.grade_id
        for cell in nb.cells
        if utils.is_solution(cell) and cell.metadata.nbgrader.get("checksum") == utils.compute_checksum(cell)
    ]


def earned_unanswered(nb: NotebookNode) -> dict[str, float]:
    """The exercises that earned points though they are not answered, and how many."""
    missing = unanswered(nb)
    tests = [cell for cell in filter(is_test, nb.cells) if exercise(cell) in missing]
    points = {exercise(cell): score_of(cell, _QUIET) for cell in tests}
    return {name: number for name, number in points.items() if number}


def _error(cell: NotebookNode) -> NotebookNode | None:
    return next((output for output in cell.get("outputs", []) if output.output_type == "error"), None)


def _said(error: NotebookNode) -> tuple[str, str]:
    """An error in one line: of a check, what was called and what came of it; else the name and the first line."""
    lines = strip_ansi(error.evalue).strip().split("\n")
    if error.ename == "CheckFailed":
        hint = next((line.removeprefix(HINT) for line in lines if line.startswith(HINT)), "")
        return " ".join(lines[:2])[:200], hint[:300]
    if error.ename == "Stopped":
        return lines[0][:200], ""
    return (f"{error.ename}: {lines[0][:200]}" if lines[0] else error.ename), ""
