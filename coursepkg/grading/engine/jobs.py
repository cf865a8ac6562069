"""What is asked of the engine and what it gives back: the assignment, a notebook to run, what became of it."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbformat import NotebookNode, from_dict

from coursepkg.grading import notes
from coursepkg.grading.cells import is_answer, is_locked, is_test
from coursepkg.grading.engine.names import imports_of, names_defined, names_imported
from coursepkg.grading.sandbox.limits import Limits
from coursepkg.grading.verdicts import Verdict


class NoWorkers(Exception):
    """There is nobody to examine anything; the message says why, and what to do."""


@dataclass(frozen=True)
class Spec:
    """What workers know of an assignment; it can be pickled.

    imports: import statements, one a line, that are made in advance. answers: the names that the instructor's
    solutions define, which are the students' when a test reads them. released: the files that are released with it, by
    name. hidden: folders of which students' processes see nothing.
    """

    imports: str = ""
    answers: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    released: dict[str, bytes] = field(default_factory=dict)
    hidden: tuple[Path, ...] = ()

    @classmethod
    def of(cls, instructors: NotebookNode, **known: Any) -> "Spec":
        """That of an instructor's notebook: its imports, and the names that its solutions define."""
        code = [cell.source for cell in instructors.cells if cell.cell_type == "code"]
        lines = dict.fromkeys(line for source in code for line in imports_of(source))
        solutions = [cell.source for cell in filter(is_answer, instructors.cells)]
        names = {name for source in solutions for name in names_defined(source)}
        names -= {name for source in solutions for name in names_imported(source)}
        return cls("\n".join(lines), tuple(sorted(names)), **known)


@dataclass(frozen=True)
class Job:
    """A notebook to run, and the files beside it. `together`: its tests run in the student's process, as nbgrader alone
    runs them; for proofs, never for grades."""

    notebook: NotebookNode
    files: dict[str, bytes] = field(default_factory=dict)
    together: bool = False

    def request(self) -> dict[str, Any]:
        """What a worker is sent of it: its code, and the names of its files."""
        cells = [
            {"role": _role(cell), "source": cell.source, "place": place}
            for place, cell in enumerate(self.notebook.cells, start=1)
            if cell.cell_type == "code" and cell.source.strip()
        ]
        return {"cells": cells, "files": list(self.files), "together": self.together}

    def with_outputs(self, cells: list[dict[str, Any]], verdict: Verdict, level: str) -> NotebookNode:
        """The notebook as it came out, with notes on how."""
        nb = copy.deepcopy(self.notebook)
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        for told in cells:
            cell = nb.cells[told["place"] - 1]
            cell.outputs, cell.execution_count = from_dict(told["outputs"]), told["count"]
            if told["stopped"]:
                notes.note(cell, stopped=told["stopped"])
        notes.note(nb, sandbox=level)
        if verdict.state:
            notes.note(nb, failed=verdict.reason, state=verdict.state)
        return nb


def _role(cell: NotebookNode) -> str:
    return "test" if is_test(cell) else "locked" if is_locked(cell) else "theirs"


@dataclass
class Result:
    """One notebook, run. `notebook`: with its outputs; None where it was not the submission that failed."""

    verdict: Verdict
    notebook: NotebookNode | None = None
