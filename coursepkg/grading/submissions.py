"""The submissions of one assignment: graded and given feedback one by one, each only when something has changed."""

import hashlib
import html
import json
import logging
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbgrader import utils
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde, GenerateFeedback

from coursepkg.grading import record
from coursepkg.grading.course import Course
from coursepkg.grading.states import folder

#: Counted up when the same submission and the same tests would now get another grade or another feedback page.
GRADER = "2"
#: Settings that decide a grade, such as the limits on time and output.
DECIDING = ("Execute", "LimitedExecute")
#: What a student reads of a failure that is not their submission's, whose text is for the instructor.
OURS = "something failed on the course's machine"


@dataclass(frozen=True)
class Submissions:
    """One assignment of the course, in the gradebook. `notes`: by student, what the instructor should know of this run."""

    course: Course
    assignment: str
    notes: dict[str, list[str]] = field(default_factory=dict)

    def grade(self, student: str, force: bool) -> None:
        """Autograde a submission unless this very version was graded; record a failure as one.

        A failure that is not the submission's own, such as a full disk, is recorded without the version, so that the
        next run tries again.
        """
        digest = self._digest(student)
        with self.course.gradebook() as gradebook:
            earlier = record.load(gradebook, self.assignment, student)
            if digest and earlier.digest == digest and not force:
                return
            earlier.failed = earlier.digest = ""
            record.save(gradebook, self.assignment, student, earlier)
        theirs = self._unusable(student)
        ours = "" if theirs else self._attempt(Autograde, student)
        with self.course.gradebook() as gradebook:
            result = record.load(gradebook, self.assignment, student)
            if ours and result.failed:  # CheckMetadata has said why, and then raised
                theirs, ours = result.failed, ""
            if theirs or ours:
                result.failed = theirs or ours
                self._take_back(gradebook, student)
            result.digest = "" if ours else digest
            record.save(gradebook, self.assignment, student, result)

    def feedback(self, student: str) -> None:
        """Write the student's feedback page, unless it shows the grades as they are."""
        page = self._folder("feedback", student) / f"{self.assignment}.html"
        with self.course.gradebook() as gradebook:
            known = record.load(gradebook, self.assignment, student)
            known_grades = self._grades(gradebook, student) + known.failed
        shown = hashlib.sha256(known_grades.encode()).hexdigest()
        if known.feedback == shown and page.exists():
            return
        if self._folder("autograded", student).exists():
            if problem := self._attempt(GenerateFeedback, student):
                self.notes.setdefault(student, []).append(f"no feedback page: {problem}")
                return
        else:
            self._failure_page(student, page, known.failed if known.digest else OURS)
        known.feedback = shown
        with self.course.gradebook() as gradebook:
            record.save(gradebook, self.assignment, student, known)

    def _attempt(self, converter_class: type, student: str) -> str:
        """Run one of nbgrader's converters; why it failed, or an empty text."""
        errors = _Errors()
        self.course.log.addHandler(errors)
        try:
            self._run(converter_class, student)
        except Exception as error:
            return errors.last or _in_one_line(error)
        finally:
            self.course.log.removeHandler(errors)
        return ""

    def _run(self, converter_class: type, student: str) -> None:
        coursedir = self.course.coursedir
        with utils.temp_attrs(coursedir, assignment_id=self.assignment, student_id=student):
            converter = converter_class(coursedir=coursedir, config=self.course.config, log=self.course.log)
            converter.force = True
            converter.start()

    def _unusable(self, student: str) -> str:
        """What is wrong with the names or the text of what was submitted, or an empty text."""
        submitted = self._folder("submitted", student)
        notebook = submitted / f"{self.assignment}.ipynb"
        if not notebook.exists():
            there = ", ".join(sorted(path.name for path in submitted.iterdir())) or "nothing"
            return f"there is no {notebook.name} in it but {there}; rename it, or ask for it"
        try:
            nbformat.read(notebook, as_version=4)
        except OSError:
            return ""  # not the submission's fault; nbgrader will say the same
        except Exception as error:
            return _in_one_line(error)
        return ""

    def _take_back(self, gradebook: Gradebook, student: str) -> None:
        """A submission that failed has no automatic score, not an earlier one's either."""
        try:
            submission = gradebook.find_submission(self.assignment, student)
        except MissingEntry:
            return
        for notebook in submission.notebooks:
            for grade in notebook.grades:
                grade.auto_score, grade.needs_manual_grade = None, True
        if (autograded := self._folder("autograded", student)).exists():
            utils.rmtree(str(autograded))

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

    def _failure_page(self, student: str, page: Path, reason: str) -> None:
        """Tell the author of a submission that could not be graded at all."""
        page.parent.mkdir(parents=True, exist_ok=True)
        for name in ("timestamp.txt", "submission_secret.txt"):
            if (stamp := self._folder("submitted", student) / name).exists():
                shutil.copy(stamp, page.parent / name)
        page.write_text(
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{self.assignment}</title></head>\n'
            f"<body><h1>{self.assignment}: not graded</h1>\n<p>Your submission could not be graded: "
            f"{html.escape(reason)}.</p>\n<p>No points were given and none were taken. Talk to your instructor.</p>\n"
            "</body></html>\n",
            encoding="utf-8",
            newline="\n",
        )

    def _digest(self, student: str) -> str:
        """Names the version of the submission, the tests and the settings; empty where a file cannot be read."""
        config = self.course.config
        settings = {section: config.get(section, {}) for section in DECIDING}
        digest = hashlib.sha256((GRADER + json.dumps(settings, sort_keys=True, default=repr)).encode())
        with self.course.gradebook() as gradebook:
            for notebook in gradebook.find_assignment(self.assignment).notebooks:
                cells = sorted(
                    (cell.name, cell.checksum or "", cell.source) for cell in notebook.source_cells
                )
                digest.update(repr((notebook.name, cells)).encode())
        submitted = self._folder("submitted", student)
        try:
            for path in sorted(path for path in submitted.rglob("*") if path.is_file()):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.relative_to(submitted).as_posix()} {content}\n".encode())
        except OSError:
            return ""
        return digest.hexdigest()

    def _folder(self, step: str, student: str) -> Path:
        return folder(self.course.coursedir, step, student, self.assignment)


class _Errors(logging.Handler):
    """Keeps, in one line, the last exception that nbgrader caught and logged."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.last = ""

    def emit(self, entry: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if error is not None:
            self.last = _in_one_line(error)


def _in_one_line(error: BaseException) -> str:
    first = str(error).strip().split("\n")[0][:300]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
