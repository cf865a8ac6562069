"""What nbgrader's metadata says of a cell; without nbgrader, whose import takes a second."""

from nbformat import NotebookNode


def is_test(cell: NotebookNode) -> bool:
    """Whether the cell holds tests that give points."""
    return cell.cell_type == "code" and _flag(cell, "grade") and not _flag(cell, "solution")


def is_answer(cell: NotebookNode) -> bool:
    """Whether the student writes code in the cell."""
    return cell.cell_type == "code" and _flag(cell, "solution")


def is_locked(cell: NotebookNode) -> bool:
    """Whether the cell's text is the course's: tests, and what was locked."""
    return _flag(cell, "locked") or (_flag(cell, "grade") and not _flag(cell, "solution"))


def exercise(cell: NotebookNode) -> str:
    """The exercise that a test cell or an answer belongs to."""
    return cell.metadata.nbgrader.grade_id.removeprefix("test_")


def _flag(cell: NotebookNode, name: str) -> bool:
    return bool(cell.metadata.get("nbgrader", {}).get(name, False))
