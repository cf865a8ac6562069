"""What becomes of an examined submission: its graded notebook, its points, its feedback page. One process writes.

A submission's files are in place before its points are committed, and its points, penalty and record are committed
together. Whenever this is cut off, the next run finds the submission ungraded, or graded whole.
"""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader import utils
from nbgrader.api import Gradebook, MissingEntry, SubmittedAssignment
from nbgrader.preprocessors import AssignLatePenalties

from coursepkg.grading import record, stamps
from coursepkg.grading.course import Course
from coursepkg.grading.grades import names, nothing, store
from coursepkg.grading.record import Record
from coursepkg.grading.states import folder
from coursepkg.grading.verdicts import Verdict


class Writer:
    """Writes the results of one assignment, with one connection to the gradebook. A context manager."""

    def __init__(self, course: Course, assignment: str, released: dict[str, bytes]) -> None:
        self.course, self.assignment, self.released = course, assignment, released
        self.penalties = AssignLatePenalties(config=course.config, log=course.log)
        self.penalties.init_plugin()

    def __enter__(self) -> "Writer":
        self.gradebook = self.course.gradebook()
        record.prepare(self.gradebook)
        self.names = names(self.gradebook.find_assignment(self.assignment))
        return self

    def __exit__(self, *_: object) -> None:
        self.gradebook.close()

    def graded(self, student: str, nb: NotebookNode, files: dict[str, bytes], digest: str) -> None:
        """Store a notebook that was run, with the files that came with it; where no file can be written, that."""
        stamp, problem = stamps.handed_in(self._folder("submitted", student))
        self._begin(student)
        try:
            self._put_in_place(student, nb, files)
        except OSError as error:
            self.failed(student, Verdict("failed", f"{type(error).__name__}: {error}", ours=True), digest, [])
            return
        with self._session() as gradebook:
            submission = self._submission(student, stamp)
            now = store(submission, nb, self._earlier(student), self.names, self.course.log)
            self._save(gradebook, student, submission, now, digest, problem)

    def failed(self, student: str, verdict: Verdict, digest: str, notes: list[str]) -> None:
        """Store that a submission could not be graded. What it was graded before is taken back."""
        stamp, problem = stamps.handed_in(self._folder("submitted", student))
        self._begin(student)
        graded = self._folder("autograded", student)
        if graded.exists():
            utils.rmtree(str(graded))
        with self._session() as gradebook:
            submission = self._submission(student, stamp)
            now = nothing(submission, verdict, notes)
            self._save(gradebook, student, submission, now, "" if verdict.ours else digest, problem)

    def _begin(self, student: str) -> None:
        """Note that what is there belongs to no version any more: from here on it may be cut off."""
        with self._session() as gradebook:
            earlier = self._earlier(student)
            if earlier.digest:
                earlier.digest = ""
                record.put(gradebook, self.assignment, student, earlier)
                gradebook.db.commit()

    def _save(
        self,
        gradebook: Gradebook,
        student: str,
        submission: SubmittedAssignment,
        now: Record,
        digest: str,
        problem: str,
    ) -> None:
        now.digest = digest
        now.feedback = self._earlier(student).feedback
        now.notes += [problem] if problem else []
        self._penalize(student, submission)
        record.put(gradebook, self.assignment, student, now)
        gradebook.db.commit()

    @contextlib.contextmanager
    def _session(self) -> Iterator[Gradebook]:
        """The gradebook, to commit to once; what was not committed is forgotten."""
        try:
            with self.gradebook.db.no_autoflush:
                yield self.gradebook
        finally:
            self.gradebook.db.rollback()
            self.gradebook.db.expunge_all()

    def _submission(self, student: str, stamp: datetime | None) -> SubmittedAssignment:
        """The submission in the gradebook; made, with its student, where it is not there."""
        try:
            submission = self.gradebook.find_submission(self.assignment, student)
        except MissingEntry:
            self.gradebook.update_or_create_student(student)
            submission = self.gradebook.add_submission(self.assignment, student)
        submission.timestamp = stamp
        return submission

    def _penalize(self, student: str, submission: SubmittedAssignment) -> None:
        """What nbgrader's AssignLatePenalties does, without a connection of its own."""
        for notebook in submission.notebooks:
            notebook.late_submission_penalty = None
            late = submission.total_seconds_late
            if late > 0:
                self.gradebook.db.flush()  # the score is the database's to add up
                self.gradebook.db.refresh(notebook)
                penalty = self.penalties.plugin_inst.late_submission_penalty(student, notebook.score, late)
                if penalty is not None:
                    penalty = self.penalties._check_late_penalty(notebook, penalty)
                notebook.late_submission_penalty = penalty

    def _earlier(self, student: str) -> Record:
        return record.load(self.gradebook, self.assignment, student)

    def _put_in_place(self, student: str, nb: NotebookNode, files: dict[str, bytes]) -> None:
        """Write autograded/STUDENT/ASSIGNMENT anew, beside the earlier one, and then put it in its place."""
        place = self._folder("autograded", student)
        new, old = (place.with_name(f".{place.name}.{what}") for what in ("new", "old"))
        for path in (new, old):
            if path.exists():
                utils.rmtree(str(path))
        new.mkdir(parents=True)
        for name, content in {**files, **self.released}.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)
        stamps.copy(self._folder("submitted", student), new)
        nbformat.write(nb, new / f"{self.assignment}.ipynb")
        mode = 0o664 if self.course.coursedir.groupshared else 0o444
        for path in new.rglob("*"):
            if path.is_file():
                path.chmod(mode)
        if place.exists():
            place.rename(old)
        new.rename(place)
        if old.exists():
            utils.rmtree(str(old))

    def _folder(self, step: str, student: str) -> Path:
        return folder(self.course.coursedir, step, student, self.assignment)
