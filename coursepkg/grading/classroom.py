"""`coursepkg grade`: a whole class, one submission after the other, through nbgrader's own converters."""

import logging
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbgrader import utils
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import GenerateAssignment
from nbgrader.converters.base import NbGraderException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from coursepkg.grading import export, summary
from coursepkg.grading.course import Course, CourseError
from coursepkg.grading.states import Standing, folder, standings, submitters
from coursepkg.grading.submissions import Submissions


def main(
    assignment: str,
    force: bool = False,
    students: Iterable[str] = (),
    to: Path | None = None,
    console: Console | None = None,
    root: Path | None = None,
) -> list[Standing]:
    """Grade what was collected of an assignment, write feedback and grades, print a table, return the standings.

    Only what has changed since it was last graded is graded again, unless `force`. Submissions and manual grades are
    never changed. `students` limits the grading to some; `to` names the table of grades, by default
    grades_ASSIGNMENT.csv in the course's folder; `root` is the course's folder or one in it, by default the current.
    Raises CourseError, with nothing written, where the course, the assignment, the submissions or the folder of `to`
    are not there; and at the end where `to` cannot be written.
    """
    console = console or summary.default_console()
    course = Course.open(root)
    notebook = course.instructors(assignment)
    chosen = _chosen(course, assignment, set(students))
    to = to or course.root / f"grades_{assignment}.csv"
    _refuse_unwritable(to)
    with _logged(course, course.root / "build" / f"grade_{assignment}.log") as log:
        _bring_into_gradebook(course, assignment, notebook)
        one = Submissions(course, assignment)
        with _progress(console) as progress:
            task = progress.add_task("", total=len(chosen))
            for student in chosen:
                progress.update(task, description=student)
                one.grade(student, force)
                one.feedback(student)
                progress.advance(task)
    with course.gradebook() as gradebook:
        found = gradebook.find_assignment(assignment)
        everyone = standings(gradebook, course.coursedir, found)
        for standing in everyone:
            standing.notes += one.notes.get(standing.student, [])
        try:
            export.write(to, gradebook, course.coursedir, [assignment])
        except OSError as error:
            raise CourseError(
                f"{to} was not written: {error.strerror}. Is it open in another program? The grades are safe in the "
                "gradebook: run this again, which grades only what has changed."
            ) from error
        summary.show(console, course, found, everyone, to, log)
    return everyone


def _refuse_unwritable(path: Path) -> None:
    """Raise CourseError where a table cannot be written to the path."""
    if path.is_dir():
        raise CourseError(f"{path} is a folder. Name a file in it with --to, such as {path / 'grades.csv'}.")
    if not path.resolve().parent.is_dir():
        raise CourseError(
            f"There is no folder {path.parent}. Make it, or name a file in another folder with --to."
        )


def _chosen(course: Course, assignment: str, students: set[str]) -> list[str]:
    """The students to grade. Raises CourseError where nothing has been collected of them."""
    collected = submitters(course.coursedir, assignment)
    where = folder(course.coursedir, "submitted", "STUDENT", assignment).relative_to(course.root)
    if not collected:
        raise CourseError(
            f"No submissions of {assignment}. Collect them with `nbgrader collect {assignment}` or `nbgrader "
            f"zip_collect {assignment}`, or put each at {where.as_posix()}/{assignment}.ipynb."
        )
    if missing := sorted(students - set(collected)):
        raise CourseError(
            f"No submission of {assignment} by {', '.join(missing)}. There are: {', '.join(collected)}."
        )
    return [student for student in collected if not students or student in students]


def _bring_into_gradebook(course: Course, assignment: str, notebook: Path) -> None:
    """Run generate_assignment unless the gradebook holds the instructor's cells as they are now."""
    with course.gradebook() as gradebook:
        if _in_step(gradebook, assignment, notebook):
            return
    with utils.temp_attrs(course.coursedir, assignment_id=assignment):
        converter = GenerateAssignment(coursedir=course.coursedir, config=course.config, log=course.log)
        converter.force = True
        try:
            converter.start()
        except NbGraderException as error:
            raise CourseError(
                f"nbgrader could not take {assignment} into the gradebook; see build/grade_{assignment}.log. If its "
                "cells were added, removed or renamed since submissions were graded, put them back, or move "
                "gradebook.db and autograded/ away and grade anew."
            ) from error


def _in_step(gradebook: Gradebook, assignment: str, path: Path) -> bool:
    """Whether the gradebook holds the same cells, points and tests as the instructor's notebook."""
    try:
        stored = gradebook.find_notebook(path.stem, assignment)
    except MissingEntry:
        return False
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if "nbgrader" in cell.metadata]
    sources = {cell.name: cell.source for cell in stored.source_cells}
    points = {cell.name: cell.max_score for cell in stored.grade_cells}
    if sources.keys() != {cell.metadata.nbgrader.grade_id for cell in cells}:
        return False
    return all(
        (not utils.is_locked(cell) or sources[cell.metadata.nbgrader.grade_id] == cell.source)
        and points.get(cell.metadata.nbgrader.grade_id) == cell.metadata.nbgrader.get("points")
        for cell in cells
    )


@contextmanager
def _logged(course: Course, path: Path):
    """Write what nbgrader logs to a file instead of the terminal."""
    path.parent.mkdir(exist_ok=True)
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    course.log.addHandler(handler)
    try:
        yield path
    finally:
        course.log.removeHandler(handler)
        handler.close()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("Grading"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
