"""A submission on the release's skeleton: the course's cells as they are, and the student's answers and extra cells."""

import copy
import itertools
from dataclasses import dataclass, field

import nbformat
from nbformat import NotebookNode

from coursepkg.grading.intake import answers, locked, places, texts
from coursepkg.grading.intake.sheet import Sheet, Slot


@dataclass(frozen=True)
class Rebuilt:
    """A notebook that can be graded, and what there is to say of it.

    `notes`: a line for each thing that was not as released. `missing`: the answers that are not there, which stay as
    released. `flagged`: a sentence for each answer that a person must look at; it too stays as released.
    """

    nb: NotebookNode
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    flagged: list[str] = field(default_factory=list)


def rebuild(submitted: NotebookNode, release: NotebookNode) -> Rebuilt:
    """Put what a student has written in its places in the release, whose locked cells have their hidden tests.

    Tests, other locked cells, all metadata and the order are the release's. Neither notebook is changed.
    """
    sheet = match(submitted, release)
    nb = copy.deepcopy(release)
    skeleton, nb.cells = nb.cells, []
    extras = _extras(sheet)
    taken = {cell.get("id") for cell in skeleton}
    names = (name for number in itertools.count(1) if (name := f"extra-{number}") not in taken)
    for after in range(-1, len(skeleton)):
        if after >= 0:
            nb.cells.append(_filled(sheet, sheet.slots[after], skeleton[after], submitted))
        theirs = [submitted.cells[index] for index, place in extras.items() if place == after]
        nb.cells += [_extra(cell, next(names)) for cell in theirs]
    flagged = [f"{name}: {why}; a person must look" for name, why in sheet.flagged.items()]
    return Rebuilt(nb, sheet.notes, sheet.missing, flagged)


def match(submitted: NotebookNode, release: NotebookNode) -> Sheet:
    """Which submitted cell is which of the release's, the surest evidence first."""
    sheet = Sheet.of(submitted, release)
    locked.claimed(sheet)
    locked.unchanged(sheet)
    answers.claimed(sheet)
    while answers.defined(sheet) or answers.merged(sheet):
        answers.claimed(sheet)
    locked.changed(sheet)
    places.blank(sheet)
    places.placed(sheet)
    places.alike(sheet)
    places.missing(sheet)
    locked.missing(sheet)
    extra = set(sheet.free())
    sheet.notes += [note for note, cells in sheet.rivals if extra & set(cells)]
    return sheet


def _extras(sheet: Sheet) -> dict[int, int]:
    """The student's further cells, and for each the cell of the release that it comes after."""
    found: dict[int, int] = {}
    here = -1
    free = set(sheet.free())
    for index in range(len(sheet.cells)):
        here = sheet.held.get(index, here)
        if index in free:
            found[index] = min(here, sheet.ahead.get(index, len(sheet.slots)) - 1)
    return found


def _extra(cell: NotebookNode, name: str) -> NotebookNode:
    """A cell of the student's own, with nothing but its text and its pictures."""
    new = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")(cell.source, id=name)
    if cell.cell_type != "code" and cell.get("attachments"):
        new.attachments = copy.deepcopy(cell.attachments)
    return new


def _filled(sheet: Sheet, slot: Slot, cell: NotebookNode, submitted: NotebookNode) -> NotebookNode:
    """The release's cell, with the student's text where it is an answer."""
    if slot.index in sheet.answers:
        _fill(cell, [submitted.cells[index] for index in sheet.answers[slot.index]])
    elif slot.index in sheet.inside:
        cell.source = texts.elsewhere(slot.kind, sheet.slots[sheet.inside[slot.index]].name)
    return cell


def _fill(cell: NotebookNode, theirs: list[NotebookNode]) -> None:
    """Give a cell the text of others, and the pictures of Markdown, renamed where two have one name."""
    parts: list[str] = []
    pictures = NotebookNode()
    for number, one in enumerate(theirs):
        text = one.source
        for name, picture in (one.get("attachments") or {}).items():
            unique = f"{number}-{name}" if name in pictures else name
            text = text.replace(f"attachment:{name})", f"attachment:{unique})")
            pictures[unique] = copy.deepcopy(picture)
        parts.append(text)
    cell.source = "\n\n".join(parts)
    if pictures and cell.cell_type == "markdown":
        cell.attachments = pictures
