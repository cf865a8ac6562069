"""Finding a student's answers by what cells say of themselves and by what they define."""

from coursepkg.grading.intake import texts
from coursepkg.grading.intake.sheet import Sheet, Slot


def claimed(sheet: Sheet) -> None:
    """By a comment or the metadata; then by metadata that another comment in the cell contradicts."""
    claims = {index: sheet.claim(index) for index in sheet.free()}
    for slot in sheet.open():
        _choose(sheet, slot, [index for index, claim in claims.items() if claim is slot])
    for slot in sheet.open():
        also = [index for index in sheet.free() if sheet.cells[index].labelled == slot.name]
        if any(not sheet.is_blank(index) for index in also):
            _choose(sheet, slot, also)


def _choose(sheet: Sheet, slot: Slot, cells: list[int]) -> None:
    """Of the cells that claim to be an answer take the one with the most evidence, and of several such the last."""
    texted = _first_of_each_text(sheet, [index for index in cells if not sheet.is_blank(index)])
    blank = [index for index in cells if sheet.is_blank(index)]
    sheet.dropped.update(blank)
    if not texted:
        if blank and sheet.place(slot) is None:
            sheet.held[blank[0]] = slot.index
        return

    def says(index: int) -> tuple[bool, ...]:
        cell = sheet.cells[index]
        commented = slot.name in cell.named
        return (
            bool(slot.defined_in(cell)),
            cell.kind == slot.kind,
            commented,
            commented and cell.labelled == slot.name,
        )

    most = max(map(says, texted))
    chosen = [index for index in texted if says(index) == most][-1]
    sheet.put(slot, chosen)
    if len(texted) > 1:
        last = "the last of its cells"
        which = last if chosen == texted[-1] else "the cell that defines it or whose comment names it"
        others = [index for index in texted if index != chosen]
        sheet.rivals.append((f"{slot.name} occurs more than once; {which} was graded", others))
        _put_ahead(sheet, slot, chosen, texted)


def defined(sheet: Sheet) -> bool:
    """By what cells define, the last one counting. Returns whether that found any."""
    before = len(sheet.open("code"))
    for slot in sheet.open("code"):
        cells = [
            index
            for index in sheet.free()
            if slot.defined_in(cell := sheet.cells[index])
            and not sheet.is_blank(index)
            and (cell.kind == "code" or texts.is_python(cell.source))
        ]
        if not cells or _is_elsewhere(sheet, slot):
            continue

        def says(index: int, slot: Slot = slot) -> tuple[bool, bool]:
            cell = sheet.cells[index]
            syntax = (cell.definitions[name] for name in slot.defined_in(cell))
            return cell.kind == "code", not all(map(texts.is_assigned, syntax))

        most = max(map(says, cells))
        cells = _first_of_each_text(sheet, [index for index in cells if says(index) == most])
        if len(cells) > 1:
            sheet.note(f"{slot.name} is defined in more than one cell; the last of them was graded")
        if sheet.place(slot) is not None:
            sheet.note(f"{slot.name} was left as released; the cell that defines it was graded")
        _put_helpers_ahead(sheet, slot, cells[-1])
        sheet.put(slot, cells[-1])
        _put_ahead(sheet, slot, cells[-1], cells)
    return len(sheet.open("code")) < before


def merged(sheet: Sheet) -> bool:
    """Answers in the cell of another answer. That cell moves to the first of them. Returns whether there was any."""
    found = False
    for slot in sheet.open():
        other = _holder(sheet, slot)
        if other is None:
            continue
        found = True
        cell = sheet.cells[sheet.answers[other.index][0]]
        alone = slot.is_code_answer and not other.defined_in(cell)
        if alone or slot.index < other.index:
            _move(sheet, other, slot)
        first, second = (other, slot) if alone else sorted((slot, other), key=lambda one: one.index)
        sheet.note(f"{second.name} was answered in the cell of {first.name}")
        if not alone:
            sheet.inside[second.index] = first.index
    return found


def _holder(sheet: Sheet, slot: Slot) -> Slot | None:
    """The answer whose cell holds this one as well."""
    for other in sheet.slots:
        if other.index in sheet.answers and other.kind == slot.kind:
            cell = sheet.cells[sheet.answers[other.index][0]]
            if slot.defined_in(cell) if slot.is_code_answer else slot.name in cell.named[1:]:
                return other
    return None


def _is_elsewhere(sheet: Sheet, slot: Slot) -> bool:
    """Whether its cell says that another holds the answer, and one does."""
    place = sheet.place(slot)
    says = place is not None and texts.is_elsewhere(sheet.cells[place].source)
    return says and _holder(sheet, slot) is not None


def _move(sheet: Sheet, source: Slot, target: Slot) -> None:
    """Make an answer's cell another's answer. The first's place is that of a blank cell that claims it, if any."""
    cells = sheet.answers[target.index] = sheet.answers.pop(source.index)
    for number, first in sheet.inside.items():
        sheet.inside[number] = target.index if first == source.index else first
    if sheet.held.get(cells[0]) == source.index:
        del sheet.held[cells[0]]
        claiming = (index for index in sorted(sheet.dropped) if sheet.claim(index) is source)
        if (blank := next(claiming, None)) is not None:
            sheet.held[blank] = source.index
    if sheet.place(target) is None:
        sheet.held[cells[0]] = target.index


def _first_of_each_text(sheet: Sheet, cells: list[int]) -> list[int]:
    """The cells without further copies of the same text, which are dropped."""
    first: dict[str, int] = {}
    for index in cells:
        if first.setdefault(sheet.cells[index].normal, index) != index:
            sheet.dropped.add(index)
    return list(first.values())


def _put_ahead(sheet: Sheet, slot: Slot, chosen: int, cells: list[int]) -> None:
    """Other cells that define what an answer does run before it, so that it is the answer that counts."""
    for index in cells:
        if index != chosen and slot.defined_in(sheet.cells[index]):
            sheet.ahead[index] = slot.index


def _put_helpers_ahead(sheet: Sheet, slot: Slot, chosen: int) -> None:
    """What an answer uses of the cells that it stood after runs before it, where it moves up past them."""
    start = max(
        (cell for cell, index in sheet.held.items() if index <= slot.index and cell < chosen), default=-1
    )
    used = texts.words(sheet.cells[chosen].source)
    for index in reversed([index for index in sheet.free() if start < index < chosen]):
        cell = sheet.cells[index]
        if cell.kind == "code" and used & texts.provides(cell.source):
            sheet.ahead[index] = slot.index
            used |= texts.words(cell.source)
