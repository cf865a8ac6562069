"""Finding the cells of the course among a student's, so that they run once and as the course has them."""

from rapidfuzz import fuzz

from coursepkg.grading.intake.sheet import Sheet, Slot

#: From this likeness on (of 100) a cell is a changed copy of one of the course's.
COPY = 80
#: Below as many characters two texts are alike by chance, and only the same text counts.
TELLING = 60


def claimed(sheet: Sheet) -> None:
    """Cells that say they are one of the course's: dropped, whatever they hold."""
    claims: dict[int, list[int]] = {}
    for index in sheet.free():
        slot = sheet.claim(index)
        if slot and not slot.is_answer and (slot.kind == "code" or sheet.cells[index].kind != "code"):
            claims.setdefault(slot.index, []).append(index)
    for number, cells in sorted(claims.items()):
        slot = sheet.slots[number]
        same = [index for index in cells if slot.same(sheet.cells[index])]
        first = (same or cells)[0]
        sheet.held[first] = number
        for index in cells:
            if index in same:
                sheet.dropped.add(index)
            elif slot.kind == "code" or not same:
                _drop_changed(sheet, index, slot, is_copy=index != first)


def unchanged(sheet: Sheet) -> None:
    """Cells with a text of the course's and nothing that says so. Further copies of tests and of Markdown go too."""
    here = -1
    by_text: dict[str, list[Slot]] = {}
    for slot in sheet.slots:
        if slot.normal and not slot.is_answer:
            by_text.setdefault(slot.normal, []).append(slot)
            if slot.graded != slot.normal:
                by_text.setdefault(slot.graded, []).append(slot)
    for index, cell in enumerate(sheet.cells):
        same = by_text.get(cell.normal, [])
        claim = sheet.claim(index)
        if index in sheet.held or index in sheet.dropped or not same:
            here = claim.index if claim else here
            continue
        if claim and claim.is_answer and not same[0].is_test:
            continue
        taken = set(sheet.held.values())
        if still := [slot for slot in same if slot.index not in taken]:
            here = min(still, key=lambda slot: (slot.index < here, slot.index)).index
            sheet.held[index] = here
            sheet.dropped.add(index)
        elif same[0].is_test or same[0].kind == "markdown":
            sheet.dropped.add(index)


def changed(sheet: Sheet) -> None:
    """Cells that are nearly one of the course's: copies of a test, switched off or edited, and others not found yet."""
    written = {slot.normal for slot in sheet.slots if slot.kind == "markdown" and not slot.is_answer}
    for index in sheet.free():
        cell = sheet.cells[index]
        if index in sheet.stubs or not cell.normal:
            continue
        if cell.normal in written:  # it claimed to be an answer, and another one was
            sheet.dropped.add(index)
            continue
        taken = set(sheet.held.values())
        best, likeness = None, 0.0
        for slot in sheet.slots:
            if slot.is_answer or not (slot.is_test or slot.index not in taken):
                continue
            alike = _likeness(cell.bare, slot.bare) if slot.is_test else _likeness(cell.normal, slot.normal)
            if (slot.is_test or slot.kind == cell.kind) and alike > likeness:
                best, likeness = slot, alike
        if best:
            is_copy = best.index in taken
            if not is_copy:
                sheet.held[index] = best.index
            _drop_changed(sheet, index, best, is_copy)


def missing(sheet: Sheet) -> None:
    """Note which of the course's code has been put back. Text is put back without a word."""
    for slot in sheet.slots:
        if slot.kind == "code" and slot.name and not slot.is_answer and sheet.place(slot) is None:
            sheet.note(f"{slot.name} was missing and has been put back")


def _drop_changed(sheet: Sheet, index: int, slot: Slot, is_copy: bool) -> None:
    sheet.dropped.add(index)
    sheet.changed.append((index, slot.index))
    if slot.kind == "code":
        said = (
            "{} occurs more than once; a changed copy was left out"
            if is_copy
            else ("{} differs from the course's, which was used")
        )
        sheet.note(said.format(slot.name))


def _likeness(text: str, course: str) -> float:
    """How like the course's text a cell's is, of 100; 0 where that says nothing."""
    if text == course and text:
        return 100
    return fuzz.ratio(text, course, score_cutoff=COPY) if min(len(text), len(course)) >= TELLING else 0
