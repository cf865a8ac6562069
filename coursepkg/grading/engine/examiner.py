"""One notebook, from the first cell to the last: the student's cells over there, the tests here."""

import builtins
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode, from_dict

from coursepkg.check.limits import TookTooLong, within
from coursepkg.grading.cells import is_answer, is_locked, is_test
from coursepkg.grading.engine.launch import Launcher
from coursepkg.grading.engine.outputs import cleaned, end_with
from coursepkg.grading.engine.remote import Ended, Gone, Nonsense, Session, Stuck
from coursepkg.grading.engine.testcell import Bench, names_defined, names_read
from coursepkg.grading.notes import note
from coursepkg.grading.sandbox.limits import Limits
from coursepkg.grading.verdicts import Verdict


class _NoTimeLeft(Gone):
    """The notebook has used up its time."""


@dataclass
class Examination:
    """One notebook while it is examined. `answers`: the names that the instructor's solutions define.

    A name that a test reads is the student's where it is one of these; else it is what the test cell itself or a
    locked cell before it defines, and a builtin; and only then whatever else the student has defined.
    """

    nb: NotebookNode
    session: Session
    limits: Limits
    answers: frozenset[str]

    def __post_init__(self) -> None:
        self.bench = Bench()
        self.session.seconds_left = lambda: max(0.0, self.cell_ends - time.monotonic())
        self.locked: dict[str, NotebookNode] = {}
        self.cell_ends = 0.0

    def run(self) -> None:
        """Run every cell, whatever those before it did. Raises Gone, with `cell` the one that ran."""
        ends = time.monotonic() + self.limits.notebook_seconds
        number = 0
        for cell in self.nb.cells:
            if cell.cell_type != "code":
                continue
            cell.outputs, cell.execution_count = [], None
            if not cell.source.strip():
                continue
            self.cell = cell
            left = ends - time.monotonic()
            if left <= 0:
                raise _NoTimeLeft
            number += 1
            seconds = min(self.limits.cell_seconds, left)
            self.cell_ends = time.monotonic() + seconds
            cell.execution_count = number
            if is_test(cell):
                self._test(cell, number, seconds)
            else:
                self._theirs(cell, number, seconds)
                if is_locked(cell):
                    self.locked |= dict.fromkeys(names_defined(cell.source), cell)

    def _theirs(self, cell: NotebookNode, number: int, seconds: float) -> None:
        kept, most = self.limits.kept_output, self.limits.max_output
        outputs, stopped = self.session.run(cell.source, number, seconds, kept, most)
        cell.outputs = cleaned(outputs, kept)
        if stopped:
            end_with(cell, "Stopped", stopped[:200])

    def _test(self, cell: NotebookNode, number: int, seconds: float) -> None:
        outputs: list[dict] = []
        late = False
        try:
            outputs, late = within(seconds, lambda: self.bench.run(cell.source, number, self._given(cell.source)))
        except TookTooLong:
            late = True
        cell.outputs = [from_dict(output) for output in outputs]
        if late:
            reason = f"stopped after {seconds:.0f} s: it had not ended, perhaps a loop that never does"
            end_with(cell, "Stopped", reason)

    def _given(self, source: str) -> dict[str, Any]:
        """What the names that a cell reads stand for, where it does not define them itself."""
        own, asked = set(names_defined(source)), []
        for name in names_read(source):
            if name in self.answers:
                asked.append(name)
            elif name in self.locked:
                self._run_here(self.locked[name])
            elif name not in own and not hasattr(builtins, name):
                asked.append(name)
        found = self.session.names(asked) if asked else {}
        for name in asked:
            self.bench.module.__dict__.pop(name, None)
        return found

    def _run_here(self, cell: NotebookNode) -> None:
        """Run a locked cell for the names that tests take from it; once."""
        self.locked = {name: other for name, other in self.locked.items() if other is not cell}
        self.bench.run(cell.source, cell.execution_count, self._given(cell.source))


def examine(
    nb: NotebookNode, launcher: Launcher, files: Path, limits: Limits, answers: frozenset[str]
) -> Verdict:
    """Run a notebook with its tests, in place, `files` being its folder; whether it could be run to its end."""
    student = launcher.start(files)
    examination = Examination(nb, Session(student.channel, lambda: 0.0), limits, answers)
    gone: Gone | None = None
    try:
        examination.run()
    except Gone as error:
        gone = error
    finally:
        end = student.end()
    if gone is None:
        return Verdict()
    cell = examination.cell
    number = 1 + next(i for i, other in enumerate(nb.cells) if other is cell)
    if isinstance(gone, _NoTimeLeft):
        seconds = f"{limits.notebook_seconds:g} s"
        reason = f"the notebook took longer than {seconds}; cell {number} and those after it were not run"
        verdict = Verdict("out of time", reason)
    elif isinstance(gone, Stuck):
        reason = f"cell {number} ran longer than {limits.cell_seconds:g} s and could not be interrupted"
        verdict = Verdict("out of time", reason)
    elif isinstance(gone, Nonsense):
        reason = f"while cell {number} ran, its process sent what no notebook sends ({str(gone)[:100]})"
        verdict = Verdict("refused", reason)
    elif end.memory:
        verdict = Verdict("out of memory", f"{end.reason}, {limits.memory / 1e9:g} GB, while cell {number} ran")
    else:
        assert isinstance(gone, Ended)
        verdict = Verdict("failed", f"the process died while it ran cell {number} ({end.reason})", end.ours)
    end_with(cell, "NotGraded", verdict.reason)
    note(nb, failed=verdict.reason)
    return verdict
