"""Feedback pages: nbgrader's, made by one exporter for the whole class, each only when what it shows has changed."""

import hashlib
import html
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from nbconvert.exporters import HTMLExporter
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import GenerateFeedback

from coursepkg.grading import record, stamps
from coursepkg.grading.course import Course
from coursepkg.grading.sandbox import system
from coursepkg.grading.states import folder

#: What a student reads of a failure that is not their submission's, whose text is for the instructor.
OURS = "something failed on the course's machine"

#: Pages that a process of its own is worth starting for.
FEW = 4


class Pages:
    """Writes the feedback pages of one assignment."""

    def __init__(self, course: Course, assignment: str) -> None:
        self.course, self.assignment = course, assignment

    def due(self, gradebook: Gradebook, student: str) -> str:
        """What a student's page is to show, in short; an empty text where it shows that already."""
        known = record.load(gradebook, self.assignment, student)
        shown = hashlib.sha256(
            (self._grades(gradebook, student) + known.failed + known.digest).encode()
        ).hexdigest()
        return "" if known.feedback == shown and self._page(student).exists() else shown

    def write_all(self, students: list[str], jobs: int) -> Iterator[tuple[str, str]]:
        """Write their pages, `jobs` at a time; each student with why that failed, or an empty text."""
        if sys.platform != "linux" or min(jobs, len(students) // FEW) < 2:
            for student in students:
                yield student, self.write(student)
            return
        context = multiprocessing.get_context("fork")  # no thread is left of those that graded
        with ProcessPoolExecutor(jobs, context, _begin, (self, os.getpid())) as pool:
            yield from zip(students, pool.map(_write, students, chunksize=FEW), strict=True)

    def write(self, student: str) -> str:
        """Write a student's page; why that failed, or an empty text."""
        page = self._page(student)
        try:
            graded = self._folder("autograded", student) / f"{self.assignment}.ipynb"
            text = self._graded(student, graded) if graded.exists() else self._failed(student)
            page.parent.mkdir(parents=True, exist_ok=True)
            unfinished = page.with_name(f".{page.name}.unfinished")
            unfinished.write_text(text, encoding="utf-8", newline="\n")
            os.replace(unfinished, page)
            stamps.copy(self._folder("submitted", student), page.parent)
        except Exception as error:
            return f"no feedback page: {type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
        return ""

    def written(self, gradebook: Gradebook, student: str, shown: str) -> None:
        """Note what the page shows."""
        known = record.load(gradebook, self.assignment, student)
        known.feedback = shown
        record.put(gradebook, self.assignment, student, known)
        gradebook.db.commit()

    def _graded(self, student: str, path: Path) -> str:
        where = {"student": student, "assignment": self.assignment, "notebook": self.assignment}
        where["db_url"] = self.course.coursedir.db_url
        resources = {
            "unique_key": self.assignment,
            "output_files_dir": f"{self.assignment}_files",
            "nbgrader": where,
        }
        return _exporter(self.course).from_filename(str(path), resources=resources)[0]

    def _failed(self, student: str) -> str:
        """A page for the author of a submission that could not be graded at all."""
        with self.course.gradebook() as gradebook:
            known = record.load(gradebook, self.assignment, student)
        reason = known.failed if known.digest else OURS
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{self.assignment}</title></head>\n'
            f"<body><h1>{self.assignment}: not graded</h1>\n<p>Your submission could not be graded: "
            f"{html.escape(reason)}.</p>\n<p>No points were given and none were taken. Talk to your instructor.</p>\n"
            "</body></html>\n"
        )

    def _grades(self, gradebook: Gradebook, student: str) -> str:
        """Everything of the gradebook that a feedback page shows, as text."""
        try:
            submission = gradebook.find_submission(self.assignment, student)
        except MissingEntry:
            return ""
        rows = [submission.late_submission_penalty]
        for notebook in submission.notebooks:
            rows += sorted((grade.name, grade.score) for grade in notebook.grades)
            rows += sorted((comment.name, comment.comment or "") for comment in notebook.comments)
        return repr(rows)

    def _page(self, student: str) -> Path:
        return self._folder("feedback", student) / f"{self.assignment}.html"

    def _folder(self, step: str, student: str) -> Path:
        return folder(self.course.coursedir, step, student, self.assignment)


#: In a process that writes pages: of what it writes them.
_pages: list[Pages] = []


def _begin(pages: Pages, parent: int) -> None:
    """In a new process that writes pages, which is not to outlive the one that started it."""
    system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    _pages.append(pages)


def _write(student: str) -> str:
    return _pages[-1].write(student)


_exporters: dict[Path, HTMLExporter] = {}


def _exporter(course: Course) -> HTMLExporter:
    """nbgrader's exporter of feedback, of which a process needs one."""
    if course.root not in _exporters:
        converter = GenerateFeedback(coursedir=course.coursedir, config=course.config, log=course.log)
        exporter = converter.exporter_class(parent=converter, config=converter.config)
        for preprocessor in converter.preprocessors:
            exporter.register_preprocessor(preprocessor, enabled=True)
        _exporters[course.root] = exporter
    return _exporters[course.root]
