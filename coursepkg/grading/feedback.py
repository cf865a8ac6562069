"""Feedback pages, which students read: no hidden test, and nothing that was printed or raised about one."""

import nbformat
from nbconvert.exporters.exporter import ResourcesDict
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode, from_dict
from nbgrader import utils
from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import List

from coursepkg.grading.errors import FOR_STUDENTS, Frames, of_a_check, python_name
from coursepkg.grading.notes import noted
from coursepkg.grading.regions import HIDDEN_TESTS, MARK_SCHEME, without

NOT_YET = "Not graded yet; its points are missing from the score at the top."
NOT_GRADED = (
    "## Not graded\n\nThis submission could not be graded: {reason}. The zeros on this page are not its score; "
    "nothing of it has been scored. Talk to your instructor."
)
HIDDEN_NOTE = "# Hidden tests ran here."
QUOTES = "[This output quotes hidden tests and is not shown.]"
WITHHELD = "[Not shown: hidden tests ran before this. Run the cell in your notebook to see its output.]"
VISIBLE = "raised by the tests you can see: run this cell in your notebook and read its message"
HIDDEN = "raised while hidden tests ran"
LATER = "raised after hidden tests ran: run this cell in your notebook and read its message"
#: Why a cell of the student's was stopped: how that begins, and what is said of it.
STOPPED = {
    "stopped after": "stopped: it had not ended in time, perhaps a loop that never does",
    "stopped: it had printed": "stopped: it had printed too much",
}
#: Lines shorter than this say nothing of a test: `)`, `import torch`.
TELLING = 16
#: Lines of a student's code of which one is named. Of many more, the one that raised could tell any number.
MOST_LINES = 1000


class HideTests(NbGraderPreprocessor):
    """Takes hidden tests and mark schemes out of a graded notebook, with every output that could tell of them.

    Outputs before the first cell with hidden tests stay, unless they quote one. From there on none does: the student's
    code has been called with hidden inputs, and whatever runs later can show them. A test keeps that it passed or why
    it failed, an error its type and the student's line; see errors.py. What is said of a cell that was stopped, or of
    a submission that failed, is said without what the student's process says of it.
    """

    #: nbconvert's HTML exporter sets this for every preprocessor, and complains of one that does not know it.
    display_data_priority = List().tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        answers = {cell.get("execution_count"): cell.source for cell in code if not utils.is_locked(cell)}
        if sum(source.count("\n") + 1 for source in answers.values()) > MOST_LINES:
            answers = {}
        secret: list[str] = []
        _mark_what_awaits_a_person(nb, resources)
        early: list[NotebookNode] = []
        hidden_ran = False
        for cell in nb.cells:
            cell.source, rubric = without(cell.source, MARK_SCHEME)
            visible, tests = without(cell.source, HIDDEN_TESTS)
            secret += rubric + tests
            hidden_ran = hidden_ran or (bool(tests) and cell.cell_type == "code")
            if cell.cell_type == "code" and hidden_ran:
                cell.outputs = _what_is_left(cell, answers)
            elif cell.cell_type == "code":
                early.append(cell)
            if tests and cell.cell_type == "code":
                cell.source = f"{visible.rstrip()}\n{HIDDEN_NOTE}"
        _withhold_quotes(nb, early, secret)
        _renumber(code)
        if reason := noted(nb, "failed"):
            said = NOT_GRADED.format(reason=_without_details(reason))
            nb.cells.insert(0, nbformat.v4.new_markdown_cell(said))
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


def _what_is_left(cell: NotebookNode, answers: dict[int, str]) -> list[NotebookNode]:
    """The outputs that a cell keeps, given that hidden tests have run. `answers`: the student's cells, by count."""
    error = next((output for output in cell.outputs if output.output_type == "error"), None)
    is_test = utils.is_grade(cell) and not utils.is_solution(cell)
    if error is None and is_test:
        passed = "Passed, the hidden tests too." if HIDDEN_TESTS[0] in cell.source else "Passed."
        return [_text(passed if cell.get("execution_count") else "Not run.")]
    if error is None:
        return [_text(WITHHELD)] if cell.outputs else []
    if reason := noted(cell, "stopped"):
        if error.ename == "NotGraded":
            return [_error("NotGraded", _without_details(reason))]
        return [_error("Stopped", reason if is_test else _known_reason(reason))]
    longest = max((source.count("\n") + 1 for source in answers.values()), default=0)
    if is_test and (message := of_a_check(error, cell, longest)):
        return [_error(error.ename, message, FOR_STUDENTS[error.ename])]
    frames = Frames.read(error, cell.get("execution_count"), answers)
    return [_error(python_name(error.ename), _when(cell, frames) + frames.quote)]


def _without_details(reason: str) -> str:
    """Why a submission failed, without what its process chose to end with, which can be an input."""
    return reason.partition(" (")[0]


def _known_reason(reason: str) -> str:
    """Why a cell was stopped that ran in the student's process, which says so itself and can say anything."""
    return next((said for start, said in STOPPED.items() if reason.startswith(start)), "stopped")


def _when(cell: NotebookNode, frames: Frames) -> str:
    """When an error was raised, as a message in place of its own."""
    lines = cell.source.split("\n")
    first = next((number for number, line in enumerate(lines, start=1) if HIDDEN_TESTS[0] in line), None)
    if first is None:
        return LATER
    return VISIBLE if 0 < frames.test < first else HIDDEN


def _withhold_quotes(nb: NotebookNode, cells: list[NotebookNode], secret: list[str]) -> None:
    """Put a note in place of the outputs of these cells that quote a secret line, one that the page does not show."""
    shown = {line.strip() for cell in nb.cells for line in cell.source.split("\n")}
    telling = {line.strip() for line in secret if len(line.strip()) >= TELLING} - shown
    for cell in cells:
        cell.outputs = [_unless_telling(output, telling) for output in cell.outputs]


def _unless_telling(output: NotebookNode, telling: set[str]) -> NotebookNode:
    """The output, or a note in its place where it quotes a line that is secret."""
    text = strip_ansi(_all_text(output))
    return _text(QUOTES) if any(line in text for line in telling) else output


def _renumber(code: list[NotebookNode]) -> None:
    """Number the cells that ran from 1. The kernel's own numbers are the student's to set, to an input for example."""
    ran = (cell for cell in code if cell.get("execution_count") is not None)
    for number, cell in enumerate(ran, start=1):
        cell.execution_count = number


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
