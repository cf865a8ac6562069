"""`coursepkg grade`: a whole class, one submission after the other, through nbgrader's own converters."""

import hashlib
import html
import logging
import shutil
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbgrader import utils
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde, GenerateAssignment, GenerateFeedback
from nbgrader.converters.base import NbGraderException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from coursepkg.grading import export, record, summary
from coursepkg.grading.course import Course, CourseError
from coursepkg.grading.states import Standing, folder, standings, submitters

#: Counted up when the same submission and the same tests would now get another grade.
GRADER = "1"


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
    Raises CourseError, with nothing written, where the course, the
    assignment or the submissions are not there.
    """
    console = console or summary.default_console()
    course = Course.open(root)
    notebook = course.instructors(assignment)
    chosen = _chosen(course, assignment, set(students))
    with _logged(course, course.root / "build" / f"grade_{assignment}.log") as log:
        _bring_into_gradebook(course, assignment, notebook)
        one = _Assignment(course, assignment)
        with _progress(console) as progress:
            task = progress.add_task("", total=len(chosen))
            for student in chosen:
                progress.update(task, description=student)
                one.grade(student, force)
                one.feedback(student)
                progress.advance(task)
    to = to or course.root / f"grades_{assignment}.csv"
    with course.gradebook() as gradebook:
        export.write(to, gradebook, course.coursedir, [assignment])
        found = gradebook.find_assignment(assignment)
        everyone = standings(gradebook, course.coursedir, found)
        summary.show(console, course, found, everyone, to, log)
    return everyone


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


@dataclass(frozen=True)
class _Assignment:
    """One assignment of the course, in the gradebook."""

    course: Course
    name: str

    def grade(self, student: str, force: bool) -> None:
        """Autograde a submission unless this very version was graded; record a failure as one."""
        digest = self._digest(student)
        with self.course.gradebook() as gradebook:
            if not force and record.load(gradebook, self.name, student).digest == digest:
                return
        reason = self._missing_notebook(student) or self._autograde(student)
        with self.course.gradebook() as gradebook:
            result = record.load(gradebook, self.name, student)
            result.digest = digest
            if reason:
                result.failed = result.failed or reason
                self._take_back(gradebook, student)
            record.save(gradebook, self.name, student, result)

    def _autograde(self, student: str) -> str:
        """Run nbgrader's autograde; why it failed, or an empty text."""
        with self.course.gradebook() as gradebook:
            earlier = record.load(gradebook, self.name, student)
            earlier.failed = ""
            record.save(gradebook, self.name, student, earlier)
        errors = _Errors()
        self.course.log.addHandler(errors)
        try:
            self._run(Autograde, student)
        except Exception as error:
            return errors.last or f"{type(error).__name__}: {error}"
        finally:
            self.course.log.removeHandler(errors)
        return ""

    def _run(self, converter_class: type, student: str) -> None:
        coursedir = self.course.coursedir
        with utils.temp_attrs(coursedir, assignment_id=self.name, student_id=student):
            converter = converter_class(coursedir=coursedir, config=self.course.config, log=self.course.log)
            converter.force = True
            converter.start()

    def _missing_notebook(self, student: str) -> str:
        """What is wrong with the names of what was submitted, or an empty text."""
        submitted = self._folder("submitted", student)
        if (submitted / f"{self.name}.ipynb").exists():
            return ""
        there = ", ".join(sorted(path.name for path in submitted.iterdir())) or "nothing"
        return f"there is no {self.name}.ipynb in it but {there}; rename it, or ask for it"

    def _take_back(self, gradebook: Gradebook, student: str) -> None:
        """A submission that failed has no automatic score, not an earlier one's either."""
        try:
            submission = gradebook.find_submission(self.name, student)
        except MissingEntry:
            return
        for notebook in submission.notebooks:
            for grade in notebook.grades:
                grade.auto_score, grade.needs_manual_grade = None, True
        if (autograded := self._folder("autograded", student)).exists():
            utils.rmtree(str(autograded))

    def feedback(self, student: str) -> None:
        """Write the student's feedback page, unless it shows the grades as they are."""
        page = self._folder("feedback", student) / f"{self.name}.html"
        with self.course.gradebook() as gradebook:
            known = record.load(gradebook, self.name, student)
            known_grades = self._grades(gradebook, student) + known.failed
            shown = hashlib.sha256(known_grades.encode()).hexdigest()
            if known.feedback == shown and page.exists():
                return
            known.feedback = shown
            record.save(gradebook, self.name, student, known)
        if self._folder("autograded", student).exists():
            self._run(GenerateFeedback, student)
        else:
            self._failure_page(student, page, known.failed)

    def _grades(self, gradebook: Gradebook, student: str) -> str:
        """Everything of the gradebook that a feedback page shows, as text."""
        try:
            submission = gradebook.find_submission(self.name, student)
        except MissingEntry:
            return ""
        rows = [submission.late_submission_penalty]
        for notebook in submission.notebooks:
            rows += sorted((grade.name, grade.score) for grade in notebook.grades)
            rows += sorted((comment.name, comment.comment or "") for comment in notebook.comments)
        return repr(rows)

    def _failure_page(self, student: str, page: Path, reason: str) -> None:
        """Tell the author of a submission that could not be graded at all."""
        page.parent.mkdir(parents=True, exist_ok=True)
        for name in ("timestamp.txt", "submission_secret.txt"):
            if (stamp := self._folder("submitted", student) / name).exists():
                shutil.copy(stamp, page.parent / name)
        page.write_text(
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{self.name}</title></head>\n'
            f"<body><h1>{self.name}: not graded</h1>\n<p>Your submission could not be graded: "
            f"{html.escape(reason)}.</p>\n<p>No points were given and none were taken. Talk to your instructor.</p>\n"
            "</body></html>\n",
            encoding="utf-8",
            newline="\n",
        )

    def _digest(self, student: str) -> str:
        """Names the version of the submission and of the tests."""
        digest = hashlib.sha256(GRADER.encode())
        with self.course.gradebook() as gradebook:
            for notebook in gradebook.find_assignment(self.name).notebooks:
                cells = sorted(
                    (cell.name, cell.checksum or "", cell.source) for cell in notebook.source_cells
                )
                digest.update(repr((notebook.name, cells)).encode())
        submitted = self._folder("submitted", student)
        for path in sorted(path for path in submitted.rglob("*") if path.is_file()):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(submitted).as_posix()} {content}\n".encode())
        return digest.hexdigest()

    def _folder(self, step: str, student: str) -> Path:
        return folder(self.course.coursedir, step, student, self.name)


class _Errors(logging.Handler):
    """Keeps, in one line, the last exception that nbgrader caught and logged."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.last = ""

    def emit(self, entry: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if error is not None:
            first = str(error).strip().split("\n")[0][:300]
            self.last = f"{type(error).__name__}: {first}" if first else type(error).__name__


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
