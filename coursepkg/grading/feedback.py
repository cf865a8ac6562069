"""Feedback pages, which students read: no hidden test, and nothing that was printed or raised about one."""

import builtins
import re
from dataclasses import dataclass

import nbformat
from nbconvert.exporters.exporter import ResourcesDict
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode, from_dict
from nbgrader import utils
from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import List

from coursepkg.grading.notes import noted
from coursepkg.grading.regions import HIDDEN_TESTS, MARK_SCHEME, without

#: Exceptions of coursepkg.check, whose messages are written for the student and name no hidden input; their headings.
FOR_STUDENTS = {"CheckFailed": "Not yet", "Refused": "Refused"}
NOT_YET = "Not graded yet; its points are missing from the score at the top."
NOT_GRADED = (
    "## Not graded\n\nThis submission could not be graded: {reason}. The zeros on this page are not its score; "
    "nothing of it has been scored. Talk to your instructor."
)
HIDDEN_NOTE = "# Hidden tests ran here."
WITHHELD = "[This output quotes hidden tests and is not shown.]"
MESSAGE_CHARACTERS = 4_000
#: Lines shorter than this say nothing of a test: `)`, `import torch`.
TELLING = 16

_CELL_FRAME = re.compile(r"^(?:Cell In|Input In) ?\[(\d+)\](?:, line (\d+))?", re.MULTILINE)
_FILE_FRAME = re.compile(r"^File [^\n]+:\d+", re.MULTILINE)


class HideTests(NbGraderPreprocessor):
    """Takes hidden tests and mark schemes out of a graded notebook, with every output that could tell of them.

    A cell with hidden tests keeps one output: that it passed, or its message. Where the message is not one of
    coursepkg.check, the student gets the exception's type and the line of their own code that raised it.
    """

    #: nbconvert's HTML exporter sets this for every preprocessor, and complains of one that does not know it.
    display_data_priority = List().tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        sources = {cell.get("execution_count"): cell.source for cell in nb.cells if cell.cell_type == "code"}
        secret: list[str] = []
        _mark_what_awaits_a_person(nb, resources)
        for cell in nb.cells:
            cell.source, rubric = without(cell.source, MARK_SCHEME)
            visible, tests = without(cell.source, HIDDEN_TESTS)
            secret += rubric + tests
            if tests and cell.cell_type == "code":
                cell.outputs = [_verdict(cell, sources)]
                cell.source = f"{visible.rstrip()}\n{HIDDEN_NOTE}"
        shown = {line.strip() for cell in nb.cells for line in cell.source.split("\n")}
        telling = {line.strip() for line in secret if len(line.strip()) >= TELLING} - shown
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs = [_unless_telling(output, telling) for output in cell.outputs]
        if reason := noted(nb, "failed"):
            nb.cells.insert(0, nbformat.v4.new_markdown_cell(NOT_GRADED.format(reason=reason)))
        return nb, resources


def _mark_what_awaits_a_person(nb: NotebookNode, resources: ResourcesDict) -> None:
    """Say of an answer that nobody has graded yet that its score is not a zero."""
    where = resources["nbgrader"]
    with Gradebook(where["db_url"]) as gradebook:
        submission = gradebook.find_submission_notebook(
            where["notebook"], where["assignment"], where["student"]
        )
        awaited = {
            grade.name
            for grade in submission.grades
            if grade.auto_score is None and grade.manual_score is None
        }
    for cell in nb.cells:
        if utils.is_solution(cell) and cell.metadata.nbgrader["grade_id"] in awaited:
            cell.metadata.nbgrader["comment"] = cell.metadata.nbgrader.get("comment") or NOT_YET


def _verdict(cell: NotebookNode, sources: dict[int, str]) -> NotebookNode:
    """The one output that a cell with hidden tests keeps. `sources`: the cells' text by execution count."""
    error = next((output for output in cell.outputs if output.output_type == "error"), None)
    if error is None:
        return _text("Passed, the hidden tests too.")
    if noted(cell, "stopped"):
        return _error(error.ename, noted(cell, "stopped"))
    raised = _Raised.read(error, cell.get("execution_count"))
    message = strip_ansi(error.evalue)[:MESSAGE_CHARACTERS]
    if raised.before(HIDDEN_TESTS[0], cell.source):
        return _error(error.ename, message + raised.quote(sources))
    if error.ename in FOR_STUDENTS and not raised.by_student:
        return _error(error.ename, message, FOR_STUDENTS[error.ename])
    # A class that was made on the spot can carry an input in its name; Python's own cannot.
    name = error.ename if hasattr(builtins, error.ename) else "Exception"
    return _error(name, f"raised while hidden tests ran{raised.quote(sources)}")


@dataclass(frozen=True)
class _Raised:
    """Where an exception came from. `test`: the line of the test cell, or 0. `student`: execution count and line of
    the innermost frame in a cell of the student's, or None. `by_student`: whether that frame raised it."""

    test: int
    student: tuple[int, int] | None
    by_student: bool

    @classmethod
    def read(cls, error: NotebookNode, count: int | None) -> "_Raised":
        """Read the frames of IPython's traceback of the cell with that execution count."""
        test, student, by_student = 0, None, False
        for entry in map(strip_ansi, error.traceback):
            if cell := _CELL_FRAME.match(entry):
                frame = int(cell[1]), int(cell[2] or 0)
                by_student = frame[0] != count
                if by_student:
                    student = frame
                else:
                    test = test or frame[1]
            elif _FILE_FRAME.match(entry):
                by_student = False
        return cls(test, student, by_student)

    def before(self, marker: str, source: str) -> bool:
        """Whether the test's line stands before the first line with the marker."""
        lines = source.split("\n")
        first = next(number for number, line in enumerate(lines, start=1) if marker in line)
        return 0 < self.test < first

    def quote(self, sources: dict[int, str]) -> str:
        """The student's line, quoted from their own cell."""
        if self.student is None:
            return ""
        lines = sources.get(self.student[0], "").split("\n")
        if not 0 < self.student[1] <= len(lines):
            return ""
        return f"\n  in your line: {lines[self.student[1] - 1].strip()[:200]}"


def _unless_telling(output: NotebookNode, telling: set[str]) -> NotebookNode:
    """The output, or a note in its place where it quotes a line that is secret."""
    text = strip_ansi(_all_text(output))
    return _text(WITHHELD) if any(line in text for line in telling) else output


def _all_text(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(_all_text(item) for item in value.values())
    if isinstance(value, list):
        return "\n".join(_all_text(item) for item in value)
    return str(value)


def _text(text: str) -> NotebookNode:
    return from_dict({"output_type": "stream", "name": "stdout", "text": text + "\n"})


def _error(name: str, message: str, heading: str | None = None) -> NotebookNode:
    """An error output whose page shows nothing but `heading: message`; the heading is the name by default."""
    lines = [f"{heading or name}: {message}"]
    return from_dict({"output_type": "error", "ename": name, "evalue": message, "traceback": lines})
