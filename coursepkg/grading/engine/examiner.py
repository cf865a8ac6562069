"""One notebook, from the first code cell to the last: the student's cells over there, the tests here."""

import builtins
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coursepkg.check import Refused
from coursepkg.check.limits import TookTooLong, within
from coursepkg.grading.engine.launch import End, Launcher, Student
from coursepkg.grading.engine.names import names_defined, names_read
from coursepkg.grading.engine.outputs import cleaned, ended_with
from coursepkg.grading.engine.plain import foreign_names, is_plain
from coursepkg.grading.engine.remote import GRACE, Ended, Gone, Nonsense, Session, Stuck
from coursepkg.grading.engine.testcell import Bench
from coursepkg.grading.sandbox import poison
from coursepkg.grading.sandbox.limits import Limits
from coursepkg.grading.sandbox.shell import LATE, PRINTED
from coursepkg.grading.verdicts import Verdict

#: What a code cell is: a test, another cell of the course's, or the student's.
TEST, LOCKED, THEIRS = "test", "locked", "theirs"


@dataclass
class CodeCell:
    """A code cell to run. `place`: its number among all cells of the notebook, from 1, for people to find it.

    When it has run: `count`, how many had run with it; `outputs`, as a notebook keeps them; `stopped`, why, or empty.
    """

    role: str
    source: str
    place: int
    count: int | None = None
    outputs: list[dict] = field(default_factory=list)
    stopped: str = ""

    def stop(self, name: str, reason: str) -> None:
        """Note why it was stopped, also as an output."""
        self.stopped, self.outputs = reason, ended_with(self.outputs, name, reason)


#: What a test says that only passes where the answer can call the package that it is to rebuild.
NOT_OWN = (
    "this answer is only right where it can call the course's package, or copies of its functions. Write the "
    "calculation yourself; plain Python is enough."
)


class _NoTimeLeft(Gone):
    """The notebook has used up its time."""


@dataclass
class Examination:
    """The code cells of one notebook while they are run. `answers`: the names that the instructor's solutions define.

    A name that a test reads is the student's where it is one of these; else it is what the test cell itself or a
    locked cell before it defines, and a builtin; and only then whatever else the student has defined. `together`: all
    cells run in the student's process.
    """

    cells: list[CodeCell]
    session: Session
    limits: Limits
    answers: frozenset[str]
    together: bool = False

    def __post_init__(self) -> None:
        self.bench = Bench()
        self.session.seconds_left = lambda: max(0.0, self.cell_ends - time.monotonic())
        self.locked: dict[str, CodeCell] = {}
        self.cell_ends = 0.0

    def run(self) -> None:
        """Run every cell, whatever those before it did. Raises Gone, with `cell` the one that ran."""
        ends = time.monotonic() + self.limits.notebook_seconds
        for number, cell in enumerate(self.cells, start=1):
            self.cell = cell
            left = ends - time.monotonic()
            if left <= 0:
                raise _NoTimeLeft
            seconds = min(self.limits.cell_seconds, left)
            self.cell_ends = time.monotonic() + seconds
            cell.count = number
            if cell.role == TEST and not self.together:
                self._test(cell, seconds)
            else:
                self._theirs(cell, seconds)

    def _theirs(self, cell: CodeCell, seconds: float) -> None:
        kept, most = self.limits.kept_output, self.limits.max_output
        outputs, stopped = self.session.run(cell.source, cell.count, seconds, kept, most)
        cell.outputs = cleaned(outputs, kept)
        if stopped in (LATE, PRINTED):
            cell.stop("Stopped", self._why(stopped, seconds))
        if cell.role == LOCKED:
            self.locked |= dict.fromkeys(names_defined(cell.source), cell)

    def _test(self, cell: CodeCell, seconds: float) -> None:
        late = False
        try:
            given = self._given(cell.source)
            # Calls of the student's end by themselves; this is for a test that loops over what they return.
            limit = seconds + 2 * GRACE
            cell.outputs, late = within(limit, lambda: self.bench.run(cell.source, cell.count, given))
        except TookTooLong:
            late = True
        if late:
            cell.stop("Stopped", self._why(LATE, seconds))

    def _why(self, limit: str, seconds: float) -> str:
        if limit == PRINTED:
            return f"stopped: it had printed more than {self.limits.max_output / 1e6:g} MB"
        return f"stopped after {seconds:.0f} s: it had not ended, perhaps a loop that never does"

    def _given(self, source: str) -> dict[str, Any]:
        """What the names that a cell reads stand for, where it does not define them itself."""
        own, asked = names_defined(source), []
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

    def _run_here(self, cell: CodeCell) -> None:
        """Run a locked cell for the names that tests take from it; once."""
        self.locked = {name: other for name, other in self.locked.items() if other is not cell}
        self.bench.run(cell.source, cell.count, self._given(cell.source))


def examine(
    cells: list[CodeCell],
    launcher: Launcher,
    files: Path,
    limits: Limits,
    answers: frozenset[str],
    together: bool = False,
) -> Verdict:
    """Run the code cells of a notebook whose folder holds `files`; whether they could be run to the end."""
    student = launcher.start(files)
    examination = Examination(cells, Session(student.channel), limits, answers, together)
    gone, end = _run(examination, student)
    if gone is not None:
        return _verdict(examination, gone, end)
    packages = sorted(examination.session.without)
    foreign = foreign_names([cell.source for cell in cells if cell.role == LOCKED])
    theirs = [cell.source for cell in cells if cell.role == THEIRS]
    if packages and not together and not all(is_plain(source, foreign) for source in theirs):
        again = [CodeCell(cell.role, cell.source, cell.place) for cell in cells]
        hidden = tuple(map(Path, poison.files_of([sys.modules[name] for name in packages])))
        student = launcher.start(files, hidden)
        repetition = Examination(again, Session(student.channel), limits, answers)
        _run(repetition, student, packages)
        for cell, other in zip(cells, again, strict=True):
            if cell.role == TEST and not _has_failed(cell) and (_has_failed(other) or other.count is None):
                cell.outputs = ended_with(cell.outputs, Refused.__name__, NOT_OWN)
    return Verdict()


def _run(examination: Examination, student: Student, spoiled: Sequence[str] = ()) -> tuple[Gone | None, End]:
    """Run it, without these packages, and end its process; why it came to a halt, if it did, and how it ended."""
    gone: Gone | None = None
    try:
        if spoiled:
            examination.session.spoil(list(spoiled))
        examination.run()
    except Gone as error:
        gone = error
    finally:
        end = student.end(wait=gone is not None)
    return gone, end


def _has_failed(cell: CodeCell) -> bool:
    return any(output["output_type"] == "error" for output in cell.outputs)


def _verdict(examination: Examination, gone: Gone, end: End) -> Verdict:
    """What it means that the student's process cannot be asked any more."""
    limits = examination.limits
    place = examination.cell.place
    if isinstance(gone, _NoTimeLeft):
        seconds = f"{limits.notebook_seconds:g} s"
        reason = f"the notebook took longer than {seconds}; cell {place} and those after it were not run"
        verdict = Verdict("out of time", reason)
    elif isinstance(gone, Stuck):
        reason = f"cell {place} ran longer than {limits.cell_seconds:g} s and could not be interrupted"
        verdict = Verdict("out of time", reason)
    elif isinstance(gone, Nonsense):
        reason = f"while cell {place} ran, its process sent what no notebook sends ({str(gone)[:100]})"
        verdict = Verdict("refused", reason)
    elif end.is_out_of_memory:
        reason = (
            f"it took more memory than a submission may, {limits.memory / 1e9:g} GB, while cell {place} ran"
        )
        verdict = Verdict("out of memory", reason)
    elif end.is_not_confined and not examination.session.answered:
        verdict = Verdict("failed", "the sandbox could not be set up", ours=True)
    else:
        assert isinstance(gone, Ended)
        verdict = Verdict("failed", f"the process died while it ran cell {place} ({end.said})")
    examination.cell.stop("NotGraded", verdict.reason)
    return verdict
