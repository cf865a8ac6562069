"""What a feedback page may say of an error once hidden tests have run.

By then the student's code may know their inputs, and what it raises reaches the tests under the name and with the
message that its process says. So nothing is repeated of an error but what is known without it: the names of Python's
own exceptions, lines of the student's cells, the sentences of coursepkg.check, and labels, hints and messages that
stand in the test cell.
"""

import ast
import builtins
import re
from dataclasses import dataclass

from IPython.core.inputtransformer2 import TransformerManager
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode

#: Exceptions of coursepkg.check and their headings.
FOR_STUDENTS = {"CheckFailed": "Not yet", "Refused": "Refused"}
REFUSED = (
    "this answer calls or copies the course's own code, or something in the notebook has replaced a part of it. Run "
    "this cell in your notebook: its checks say which."
)
#: What coursepkg.check says that came of a call, where that tells nothing of the input.
OUTCOMES = re.compile(
    r"returned another value than expected"
    r"|did not return within \d seconds"
    r"|is not written yet \(it raised NotImplementedError\)"
    r"|returned None, as a function does that has no return statement"
    r"|returned a value, and should raise (?P<should>\w+)"
    r"|raised (?P<instead>\w+), whose message should name (?P<named>.+)"
    r"|raised (?:(?P<raised>\w+)|an exception) "
    r"\((?:line (?P<line>\d+) of your cell|in the call itself, whose arguments do not match)\)"
)
ELSE = "did not give what was expected"
LOOK = ". Run this cell in your notebook: it says what came back"
ON_ANOTHER_INPUT = " on another input"
ENDLESS = "Is there a loop that never ends?"

_CELL_FRAME = re.compile(r"^\s*(?:Cell In|Input In) ?\[(\d+)\](?:, line (\d+))?", re.MULTILINE)


def python_name(name: str) -> str:
    """The name if it is one of Python's own exceptions. A class made on the spot can carry an input in its name."""
    return name if _is_exception(name) else "Exception"


def _is_exception(name: str) -> bool:
    found = getattr(builtins, name, None)
    return isinstance(found, type) and issubclass(found, BaseException)


def of_a_check(error: NotebookNode, test: NotebookNode, longest: int) -> str | None:
    """The message of a failed check in the cell `test`, as far as it can be known, or None if it is not a check's.

    `longest`: the lines of the student's longest cell, for a line number that is one.
    """
    if error.ename not in FOR_STUDENTS:
        return None
    message = strip_ansi(error.evalue).strip()
    known = _Known.of(test.source)
    if message in known.messages:
        return message
    if error.ename == "Refused":
        return REFUSED
    exercise = test.metadata.nbgrader["grade_id"].removeprefix("test_")
    label = next((label for label in known.labels if f" ({label})\n" in message), "")
    hint = next((hint for hint in known.hints if message.endswith(f"\nHint: {hint}")), "")
    on_another = ON_ANOTHER_INPUT if ON_ANOTHER_INPUT in message else ""
    outcome = (message.split("\n") + [""])[1].removesuffix(".")
    if not _is_outcome(outcome, known.named, longest):
        outcome = ELSE if on_another else ELSE + LOOK
    about = f" ({label})" if label else ""
    return f"{exercise}{on_another}{about}\n{outcome}." + (f"\nHint: {hint}" if hint else "")


def _is_outcome(text: str, named: list[str], longest: int) -> bool:
    found = OUTCOMES.fullmatch(text)
    if found is None:
        return False
    names = [found[group] for group in ("should", "instead", "raised") if found[group]]
    return (
        all(map(_is_exception, names))
        and found["named"] in (None, *named)
        and int(found["line"] or 0) <= longest
    )


@dataclass(frozen=True)
class _Known:
    """What a test cell says to students, the longest first: labels and hints of cases, what the messages of
    exceptions should name, and whole messages."""

    labels: list[str]
    hints: list[str]
    named: list[str]
    messages: list[str]

    @classmethod
    def of(cls, source: str) -> "_Known":
        calls = [
            node
            for node in ast.walk(ast.parse(TransformerManager().transform_cell(source)))
            if isinstance(node, ast.Call)
        ]

        def texts(nodes: list[ast.expr]) -> list[str]:
            found = {node.value for node in nodes if isinstance(node, ast.Constant)}
            return sorted((text for text in found if isinstance(text, str) and text), key=len, reverse=True)

        def keyword(name: str) -> list[ast.expr]:
            return [given.value for call in calls for given in call.keywords if given.arg == name]

        raised = [call for call in calls if ast.unparse(call.func).rpartition(".")[2] in FOR_STUDENTS]
        return cls(
            texts(keyword("label")),
            [*texts(keyword("hint")), ENDLESS],
            texts([name for names in keyword("naming") for name in getattr(names, "elts", [])]),
            texts([argument for call in raised for argument in call.args]),
        )


@dataclass(frozen=True)
class Frames:
    """Where an error says that it came from. `test`: the line of the cell that ran, or 0. `line`: the innermost line
    of the student's, or empty."""

    test: int
    line: str

    @classmethod
    def read(cls, error: NotebookNode, count: int | None, answers: dict[int, str]) -> "Frames":
        """Read IPython's traceback of the cell with this execution count. `answers`: the student's cells by theirs."""
        test, line = 0, ""
        for entry in map(strip_ansi, error.traceback):
            if cell := _CELL_FRAME.match(entry):
                number, position = int(cell[1]), int(cell[2] or 0)
                if number == count:
                    test = test or position
                lines = answers.get(number, "").split("\n")
                if 0 < position <= len(lines):
                    line = lines[position - 1].strip()[:200]
        return cls(test, line)

    @property
    def quote(self) -> str:
        """The student's line, as the end of a message."""
        return f"\n  in your line: {self.line}" if self.line else ""
