"""Finding a student's answers that nothing names: by their place, or by their likeness to the released text."""

from rapidfuzz import fuzz

from coursepkg.grading.intake import texts
from coursepkg.grading.intake.sheet import Cell, Sheet, Slot

#: The likeness to the released text (of 100) that makes a cell its answer, and by how much it must lead the next.
LIKE = 70
LEAD = 15
#: How much of a cell is compared, in lengths of the released text.
COMPARED = 3
#: A person looks whether a text of the course's holds an answer, which is blank, if so many characters were added to
#: it, or if it is less like it than this.
ADDED = 20
OTHER = 60


def blank(sheet: Sheet) -> None:
    """Cells that are an answer as released and do not say which: by their place, or else in order."""
    for index in sheet.free():
        if index not in sheet.stubs:
            continue
        cell = sheet.cells[index]
        slots = [slot for slot in sheet.open(cell.kind) if sheet.place(slot) is None]
        fitting = [slot for slot in slots if slot.is_as_released(cell)]
        before, after = _neighbours(sheet, index)
        low, high = sheet.held.get(before, -1), sheet.held.get(after, len(sheet.slots))
        here = [slot for slot in slots if low < slot.index < high]
        cells = [
            other for other in sheet.free() if before < other < after and sheet.cells[other].kind == cell.kind
        ]
        if len(here) == len(cells):
            here = [here[cells.index(index)]]
        chosen = [slot for slot in here if slot in fitting] or fitting
        if chosen:
            sheet.held[index] = chosen[0].index
        sheet.dropped.add(index)


def placed(sheet: Sheet) -> None:
    """Written answers by their place: the Markdown between the same cells of the course, or below the blank answer."""
    together: dict[tuple[int, ...], list[Slot]] = {}
    for slot in sheet.open("markdown"):
        cells = [index for index in _around(sheet, slot) if sheet.cells[index].kind != "code"]
        if cells and sheet.place(slot) is None:
            together.setdefault(tuple(cells), []).append(slot)
    for cells, slots in together.items():
        if len(slots) == 1:
            sheet.put(slots[0], *cells)
            if len(cells) > 1:
                sheet.note(f"{slots[0].name} was put together from {len(cells)} cells in its place")
        elif len(slots) == len(cells):
            for slot, index in zip(slots, cells, strict=True):
                sheet.put(slot, index)
        else:
            for slot in slots:
                sheet.flagged[slot.name] = _some(list(cells))
    for slot in sheet.open("markdown"):
        place = sheet.place(slot)
        if place is not None and (below := _texts_below(sheet, place)):
            sheet.put(slot, *below)
            sheet.note(f"{slot.name} was left as released; the text below it was taken as its answer")


def alike(sheet: Sheet) -> None:
    """Code by its likeness to the released text; where several cells are as like, or only one not much, not at all."""
    slots = [slot for slot in sheet.open("code") if sheet.place(slot) is None]
    cells = [
        index for index in sheet.free() if sheet.cells[index].kind == "code" and not sheet.is_blank(index)
    ]
    near = {slot.index: [index for index in _around(sheet, slot) if index in cells] for slot in slots}
    scores = {(slot.index, index): _likeness(slot, sheet.cells[index]) for slot in slots for index in cells}
    for slot in slots:
        here = near[slot.index] or cells
        ranked = sorted(here, key=lambda index: scores[slot.index, index], reverse=True)
        if not ranked:
            continue
        best = ranked[0]
        rivals = [scores[slot.index, index] for index in ranked[1:]]
        rivals += [scores[other.index, best] for other in slots if other is not slot]
        leads = scores[slot.index, best] >= max(rivals, default=0) + LEAD
        if scores[slot.index, best] >= LIKE and leads and best in sheet.free():
            sheet.put(slot, best)
            sheet.note(f"{slot.name} was taken from the cell that is most like it")
        elif near[slot.index] == [best] and not slot.stub and best in sheet.free():
            sheet.put(slot, best)
            sheet.note(f"{slot.name} was taken from the cell in its place")
        elif near[slot.index] or scores[slot.index, best] >= LIKE:
            looking = near[slot.index] or [index for index in ranked if scores[slot.index, index] >= LIKE]
            sheet.flagged[slot.name] = _some(looking)


def missing(sheet: Sheet) -> None:
    """List the answers that are not there; flag those that may stand in a cell the course's was used for."""
    for slot in sheet.open():
        for index, number in sheet.changed:
            if _may_hold(sheet, slot, index, number):
                where = sheet.slots[number].name
                sheet.flagged.setdefault(slot.name, f"what was in the place of {where} may be its answer")
        if sheet.place(slot) is not None and (above := _texts_above(sheet, slot)):
            sheet.flagged.setdefault(slot.name, _some(above))
        if sheet.place(slot) is None and slot.name not in sheet.flagged:
            sheet.missing.append(slot.name)


def _may_hold(sheet: Sheet, slot: Slot, index: int, number: int) -> bool:
    """Whether a changed cell of the course's holds an answer that is not found elsewhere."""
    cell, course = sheet.cells[index], sheet.slots[number]
    if slot.is_code_answer:
        return bool(slot.defined_in(cell))
    added = len(cell.normal) >= len(course.normal) + ADDED or fuzz.ratio(cell.normal, course.normal) < OTHER
    return course.kind == "markdown" and abs(number - slot.index) == 1 and bool(cell.normal) and added


def _neighbours(sheet: Sheet, index: int) -> tuple[int, int]:
    """The next cells before and after one that stand in the place of a slot; -1 and the number of cells for none."""
    return (
        max((cell for cell in sheet.held if cell < index), default=-1),
        min((cell for cell in sheet.held if cell > index), default=len(sheet.cells)),
    )


def _around(sheet: Sheet, slot: Slot) -> list[int]:
    """The cells with text that nothing is known of, in the slot's place: between the same cells of the release."""
    places = {index: cell for cell, index in sheet.held.items()}
    lower = max((index for index in places if index < slot.index), default=-1)
    upper = min((index for index in places if index > slot.index), default=len(sheet.slots))
    start, end = places.get(lower, -1), places.get(upper, len(sheet.cells))
    if lower == slot.index - 1:
        end = _neighbours(sheet, start)[1]
    elif upper == slot.index + 1:
        start = _neighbours(sheet, end)[0]
    if any(start < cell < end for cell in sheet.held):
        return []
    return [index for index in sheet.free() if start < index < end and not sheet.is_blank(index)]


def _texts_below(sheet: Sheet, place: int) -> list[int]:
    return [index for index in _written(sheet) if place < index < _neighbours(sheet, place)[1]]


def _texts_above(sheet: Sheet, slot: Slot) -> list[int]:
    """Markdown between a written answer and the cell of the release before it."""
    place = sheet.place(slot)
    start = _neighbours(sheet, place)[0]
    return [index for index in _written(sheet) if start < index < place] if slot.kind == "markdown" else []


def _written(sheet: Sheet) -> list[int]:
    return [
        index for index in sheet.free() if sheet.cells[index].kind == "markdown" and sheet.cells[index].normal
    ]


def _likeness(slot: Slot, cell: Cell) -> float:
    """How like the released text, without the lines for the solution, the beginning of a cell is, of 100."""
    stub = texts.head(slot.cell.source)
    start = cell.normal[: COMPARED * len(stub)]
    if not stub or len(start) < len(stub):
        return fuzz.ratio(stub, start) if stub else 0
    return fuzz.partial_ratio(stub, start)


def _some(cells: list[int]) -> str:
    """So many cells that may be an answer, as the subject of a sentence."""
    if len(cells) == 1:
        return "one cell may be its answer and does not say so"
    if len(cells) == 2:
        return "two cells look like its answer and neither says so"
    return f"{len(cells)} cells look like its answer and none says so"
