"""The steps of `nbgrader autograde`, and so of formgrader's button: the same intake, workers and records as those of
`coursepkg grade`, one submission after the other."""

import atexit
import contextlib
from functools import cache
from pathlib import Path

from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import NbGraderPreprocessor

from coursepkg.grading.assignment import Prepared, on_skeleton
from coursepkg.grading.course import Course
from coursepkg.grading.engine.crew import Crew
from coursepkg.grading.engine.jobs import Job
from coursepkg.grading.intake import files as intake
from coursepkg.grading.intake import reading
from coursepkg.grading.states import folder
from coursepkg.grading.summary import UNCONFINED
from coursepkg.grading.verdicts import Verdict
from coursepkg.grading.writer import Writer


def take_in(assignment: str, student: str, notebooks: list[str]) -> None:
    """nbgrader's hook before it copies a submission: puts on record why one is refused, which then fails in `Rebuild`.

    `student` is whom nbgrader was asked for, which may be a pattern; `notebooks` are paths of one submission.
    """
    course, student = Course.open(), Path(notebooks[0]).parent.parent.name
    try:
        intake.take(folder(course.coursedir, "submitted", student, assignment), assignment)
    except reading.Refused as refused:
        with Writer(course, assignment, {}) as writer:
            writer.failed(student, Verdict("refused", str(refused)), "", [])


class Rebuild(NbGraderPreprocessor):
    """Puts the student's answers on the release's skeleton."""

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        where, course = resources["nbgrader"], Course.open()
        taken = intake.take(_submitted(course, where), where["assignment"])
        return on_skeleton(taken, _prepared(course.root, where["assignment"]).release), resources


class Examine(NbGraderPreprocessor):
    """Runs the notebook: the student's cells in a sandbox, the tests in a worker.

    Beside it lie the files that are taken in, and not what nbgrader has copied, which follows links.
    """

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        where, course = resources["nbgrader"], Course.open()
        submitted = _submitted(course, where)
        names = intake.take(submitted, where["assignment"]).files
        files = {name: reading.content(submitted / name, intake.Bounds.total) for name in names}
        crew = _crew(course.root, where["assignment"])
        if crew.level == "plain":
            self.log.warning("%s: %s", where["student"], UNCONFINED)
        ((_, _, result),) = crew.results([(where["student"], Job(nb, files))])
        if result.notebook is None:
            raise NbGraderException(result.verdict.reason)
        return result.notebook, resources


def _submitted(course: Course, where: dict[str, str]) -> Path:
    return folder(course.coursedir, "submitted", where["student"], where["assignment"])


@cache
def _prepared(root: Path, assignment: str) -> Prepared:
    return Prepared.of(Course.open(root), assignment)


@cache
def _crew(root: Path, assignment: str) -> Crew:
    """The workers of an assignment, started once for a process of nbgrader's and ended with it."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(Crew(_prepared(root, assignment).spec))
