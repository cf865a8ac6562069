"""Feedback pages: nbgrader's, made by one exporter for the whole class, each only when what it shows has changed."""

import hashlib
import html
import os
from pathlib import Path

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import GenerateFeedback

from coursepkg.grading import record, stamps
from coursepkg.grading.course import Course
from coursepkg.grading.states import folder

#: What a student reads of a failure that is not their submission's, whose text is for the instructor.
OURS = "something failed on the course's machine"


class Pages:
    """Writes the feedback pages of one assignment."""

    def __init__(self, course: Course, assignment: str) -> None:
        self.course, self.assignment = course, assignment
        converter = GenerateFeedback(coursedir=course.coursedir, config=course.config, log=course.log)
        self.exporter = converter.exporter_class(parent=converter, config=converter.config)
        for preprocessor in converter.preprocessors:
            self.exporter.register_preprocessor(preprocessor, enabled=True)

    def write(self, gradebook: Gradebook, student: str) -> str:
        """Write a student's page, unless it shows the grades as they are; why that failed, or an empty text."""
        page = self._folder("feedback", student) / f"{self.assignment}.html"
        known = record.load(gradebook, self.assignment, student)
        shown = hashlib.sha256((self._grades(gradebook, student) + known.failed).encode()).hexdigest()
        if known.feedback == shown and page.exists():
            return ""
        try:
            graded = self._folder("autograded", student) / f"{self.assignment}.ipynb"
            text = self._graded(student, graded) if graded.exists() else self._failed(known)
            page.parent.mkdir(parents=True, exist_ok=True)
            unfinished = page.with_name(f".{page.name}.unfinished")
            unfinished.write_text(text, encoding="utf-8", newline="\n")
            os.replace(unfinished, page)
            stamps.copy(self._folder("submitted", student), page.parent)
        except Exception as error:
            return f"no feedback page: {type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
        known.feedback = shown
        record.put(gradebook, self.assignment, student, known)
        gradebook.db.commit()
        return ""

    def _graded(self, student: str, path: Path) -> str:
        where = {"student": student, "assignment": self.assignment, "notebook": self.assignment}
        where["db_url"] = self.course.coursedir.db_url
        resources = {
            "unique_key": self.assignment,
            "output_files_dir": f"{self.assignment}_files",
            "nbgrader": where,
        }
        return self.exporter.from_filename(str(path), resources=resources)[0]

    def _failed(self, known: record.Record) -> str:
        """A page for the author of a submission that could not be graded at all."""
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

    def _folder(self, step: str, student: str) -> Path:
        return folder(self.course.coursedir, step, student, self.assignment)
