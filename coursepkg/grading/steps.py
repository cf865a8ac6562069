"""The steps of `nbgrader autograde`, and so of formgrader's button: the same intake, workers and records as those of
`coursepkg grade`, one submission after the other."""

import atexit
import contextlib
import tempfile
from functools import cache
from pathlib import Path

from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import NbGraderPreprocessor

from coursepkg.grading.assignment import on_skeleton, spec_of
from coursepkg.grading.course import Course
from coursepkg.grading.engine.crew import Crew, Job
from coursepkg.grading.intake import files as intake
from coursepkg.grading.intake.reading import Refused
from coursepkg.grading.states import folder
from coursepkg.grading.verdicts import Verdict
from coursepkg.grading.writer import Writer


def take_in(assignment: str, student: str, notebooks: list[str]) -> None:
    """nbgrader's hook before it copies a submission: puts on record why one is refused, which then fails in `Rebuild`.

    `student` is whom nbgrader was asked for, which may be a pattern; `notebooks` are paths of one submission.
    """
    course, student = Course.open(), Path(notebooks[0]).parent.parent.name
    try:
        intake.take(folder(course.coursedir, "submitted", student, assignment), assignment)
    except Refused as refused:
        with Writer(course, assignment, None) as writer:
            writer.failed(student, Verdict("refused", str(refused)), "", [])


class Rebuild(NbGraderPreprocessor):
    """Puts the student's answers on the release's skeleton."""

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        where = resources["nbgrader"]
        course = Course.open()
        submitted = folder(course.coursedir, "submitted", where["student"], where["assignment"])
        taken = intake.take(submitted, where["assignment"])
        return on_skeleton(taken, _crew(course.root, where["assignment"]).spec.release), resources


class Examine(NbGraderPreprocessor):
    """Runs the notebook: the student's cells in a sandbox, the tests in a worker."""

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        where = resources["nbgrader"]
        crew = _crew(Course.open().root, where["assignment"])
        beside = Path(resources["metadata"]["path"])
        files = {
            path.relative_to(beside).as_posix(): path.read_bytes()
            for path in sorted(beside.rglob("*"))
            if path.is_file() and not path.is_symlink() and path.suffix != ".ipynb"
        }
        ((_, _, result),) = crew.results([(where["student"], Job(nb, files))])
        if result.notebook is None:
            raise NbGraderException(result.verdict.reason)
        return result.notebook, resources


@cache
def _crew(root: Path, assignment: str) -> Crew:
    """The workers of an assignment, started once for a process of nbgrader's and ended with it."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    released = stack.enter_context(tempfile.TemporaryDirectory(prefix="released-"))
    return stack.enter_context(Crew(spec_of(Course.open(root), assignment, Path(released))))
