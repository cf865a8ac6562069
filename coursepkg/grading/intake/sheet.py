"""What is known so far of which submitted cell is which cell of the release."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

from nbformat import NotebookNode
from nbgrader import utils

from coursepkg.grading.intake import texts
from coursepkg.grading.regions import released


@dataclass
class Cell:
    """A submitted cell: what it says of itself, and what it is like."""

    kind: str
    source: str
    metadata: object

    @cached_property
    def normal(self) -> str:
        return texts.normal(self.source)

    @cached_property
    def bare(self) -> str:
        return texts.bare(self.source)

    @cached_property
    def named(self) -> list[str]:
        """The names in its comments."""
        return texts.named(self.source)

    @cached_property
    def labelled(self) -> str:
        """The grade_id in its metadata, which may be of any shape."""
        nbgrader = self.metadata.get("nbgrader") if isinstance(self.metadata, dict) else None
        name = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
        return name if isinstance(name, str) else ""

    @cached_property
    def definitions(self) -> dict[str, str]:
        return texts.definitions(self.source)

    @cached_property
    def syntax(self) -> str:
        return texts.syntax(self.source)


@dataclass
class Slot:
    """A cell of the release. `normal`: its text as students get it. `names`: what an answer of code has to define."""

    index: int
    cell: NotebookNode
    name: str = ""
    is_answer: bool = False
    is_test: bool = False
    normal: str = ""
    names: frozenset[str] = frozenset()
    stub: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.cell.cell_type

    @property
    def is_code_answer(self) -> bool:
        return self.is_answer and self.kind == "code"

    @cached_property
    def bare(self) -> str:
        return texts.bare(self.normal)

    @cached_property
    def graded(self) -> str:
        """The text with its hidden tests."""
        return texts.normal(self.cell.source)

    @cached_property
    def syntax(self) -> str:
        return texts.syntax(self.cell.source) if self.is_code_answer else ""

    def is_as_released(self, cell: Cell) -> bool:
        """Whether the cell is this answer as released, perhaps laid out otherwise."""
        if cell.normal and cell.normal == self.normal:
            return True
        short = len(cell.source) < 3 * len(self.cell.source)
        return bool(self.syntax) and short and cell.syntax == self.syntax

    def same(self, cell: Cell) -> bool:
        """Whether the cell is this one as released, white space aside."""
        return cell.normal in (self.normal, self.graded)

    def defined_in(self, cell: Cell) -> set[str]:
        """Those of its names that the cell defines otherwise than the release does."""
        return {
            name
            for name in self.names & cell.definitions.keys()
            if not self.stub.get(name) or cell.definitions[name] != self.stub[name]
        }


def slots(release: NotebookNode) -> list[Slot]:
    """The cells of a release. An answer that defines nothing as released has to define what it is called; what several
    define says nothing."""
    found = [Slot(index, cell) for index, cell in enumerate(release.cells)]
    for slot in found:
        slot.name = slot.cell.metadata.get("nbgrader", {}).get("grade_id", "")
        slot.is_answer = utils.is_solution(slot.cell)
        slot.is_test = slot.kind == "code" and utils.is_grade(slot.cell) and not slot.is_answer
        slot.normal = texts.normal(slot.cell.source if slot.is_answer else released(slot.cell.source))
        if slot.is_code_answer:
            slot.stub = texts.definitions(slot.cell.source)
            slot.names = frozenset(slot.stub or {slot.name})
    every = Counter(name for slot in found for name in slot.names)
    for slot in found:
        slot.names = frozenset(name for name in slot.names if every[name] == 1)
    return found


@dataclass
class Sheet:
    """The submitted cells and the release's, and which is which. Cells and slots go by their position.

    `held`: for a cell the slot in whose place it stands. `answers`: for a slot the cells whose text is its answer.
    `inside`: for a slot the one whose cell holds its answer as well. `dropped`: cells that are not used.
    `ahead`: for an extra cell the slot it must come before. `changed`: cells that were dropped for a slot and differ.
    `rivals`: what to note if cells that claimed to be an answer are none in the end.
    """

    cells: list[Cell]
    slots: list[Slot]
    held: dict[int, int] = field(default_factory=dict)
    answers: dict[int, list[int]] = field(default_factory=dict)
    inside: dict[int, int] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    ahead: dict[int, int] = field(default_factory=dict)
    changed: list[tuple[int, int]] = field(default_factory=list)
    rivals: list[tuple[str, list[int]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    flagged: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, submitted: NotebookNode, release: NotebookNode) -> "Sheet":
        cells = [Cell(cell.cell_type, cell.source, cell.get("metadata")) for cell in submitted.cells]
        return cls(cells, slots(release))

    @cached_property
    def by_name(self) -> dict[str, Slot]:
        return {slot.name: slot for slot in self.slots if slot.name}

    def claim(self, index: int) -> Slot | None:
        """The slot a cell says it is: by a comment, of an answer before others, or else by its metadata."""
        cell = self.cells[index]
        commented = [self.by_name[name] for name in cell.named if name in self.by_name]
        answers = [slot for slot in commented if slot.is_answer]
        return next(iter(answers or commented), None) or self.by_name.get(cell.labelled)

    @cached_property
    def stubs(self) -> set[int]:
        """The cells that are an answer as released, perhaps laid out otherwise, or say it is elsewhere."""
        answers = [slot for slot in self.slots if slot.is_answer]
        return {
            index
            for index, cell in enumerate(self.cells)
            if texts.is_elsewhere(cell.source) or any(slot.is_as_released(cell) for slot in answers)
        }

    def is_blank(self, index: int) -> bool:
        """Whether the cell answers nothing."""
        return not self.cells[index].normal or index in self.stubs

    def free(self) -> list[int]:
        """The cells of which nothing is known yet, in order."""
        answering = {index for cells in self.answers.values() for index in cells}
        return [
            index
            for index in range(len(self.cells))
            if index not in self.held and index not in answering and index not in self.dropped
        ]

    def open(self, kind: str | None = None) -> list[Slot]:
        """The answers that have no text yet, in order; with `kind`, those of that type."""
        return [
            slot
            for slot in self.slots
            if slot.is_answer
            and slot.index not in self.answers
            and slot.index not in self.inside
            and kind in (None, slot.kind)
        ]

    def place(self, slot: Slot) -> int | None:
        """The cell that stands in the slot's place."""
        return next((cell for cell, index in self.held.items() if index == slot.index), None)

    def put(self, slot: Slot, *cells: int) -> None:
        """Take the cells' text as the answer; the first stands in its place, unless another cell does."""
        self.answers[slot.index] = list(cells)
        if self.place(slot) is None:
            self.held[cells[0]] = slot.index
        taken = self.cells[cells[0]]
        if taken.kind != slot.kind:
            called = {"markdown": "a Markdown cell", "raw": "a raw cell", "code": "a code cell"}
            as_what = "code" if slot.kind == "code" else "Markdown"
            self.notes.append(f"{slot.name} was {called[taken.kind]}; its text was taken as {as_what}")

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
