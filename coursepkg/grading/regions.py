"""The regions of a cell that only graders may see: hidden tests, and the mark scheme of a written answer."""

HIDDEN_TESTS = ("BEGIN HIDDEN TESTS", "END HIDDEN TESTS")
MARK_SCHEME = ("BEGIN MARK SCHEME", "END MARK SCHEME")


def without(source: str, markers: tuple[str, str]) -> tuple[str, list[str]]:
    """The source without its regions between `markers`, and the lines that stood in them.

    The same rule as nbgrader's: a marker counts wherever it stands in a line, and its line belongs to the region.
    A region that is never closed runs to the end.
    """
    begin, end = markers
    kept: list[str] = []
    taken: list[str] = []
    inside = False
    for line in source.split("\n"):
        if begin in line:
            inside = True
        elif end in line:
            inside = False
        else:
            (taken if inside else kept).append(line)
    return "\n".join(kept), taken


def released(source: str) -> str:
    """What a student gets of a locked cell."""
    return without(without(source, HIDDEN_TESTS)[0], MARK_SCHEME)[0]
