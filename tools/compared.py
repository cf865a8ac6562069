"""How many cells of each lecture nbval compares, and the committed floor below which that may not fall.

nbval (--nbval) runs every code cell and compares its streams and every text form of its displayed data with the
committed ones, word for word; it skips PNG and JPEG images, widget views and metadata, compares nothing in a cell
tagged nbval-ignore-output, and nothing in a cell that was never run. A cell counts as compared when it prints or
displays text that nbval reads; the text that merely stands for an image does not count.
"""

import tomllib
from pathlib import Path

import nbformat
from nbformat import NotebookNode

FLOORS = Path("tests", "nbval_floor.toml")
HEADER = """\
# Cells of each lecture whose text outputs nbval compares. `make build` raises a floor; lowering one is an edit
# here, for a reviewer to see.
"""
SKIPPED_TAGS = {"nbval-ignore-output", "nbval-skip"}


def count(notebook: NotebookNode) -> int:
    """The number of code cells with at least one text output that nbval compares."""
    return sum(_is_compared(cell) for cell in notebook.cells if cell.cell_type == "code")


def _is_compared(cell: NotebookNode) -> bool:
    if cell.execution_count is None or SKIPPED_TAGS & set(cell.metadata.get("tags", [])):
        return False
    return any(
        output.output_type == "stream"
        or not any(kind.startswith("image/") for kind in output.get("data", {}))
        for output in cell.outputs
    )


def counts(root: Path) -> dict[str, int]:
    """The count of every built lecture, by slug."""
    paths = sorted((root / "notebooks").glob("*.ipynb"))
    return {path.stem: count(nbformat.read(path, as_version=4)) for path in paths}


def floors(root: Path) -> dict[str, int]:
    """The committed floors, by slug."""
    path = root / FLOORS
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def raised(root: Path) -> str:
    """The text of the floor file with every floor raised to what is compared now, and none lowered."""
    now, before = counts(root), floors(root)
    lines = [f"{slug} = {max(number, before.get(slug, 0))}" for slug, number in now.items()]
    return HEADER + "".join(f"{line}\n" for line in lines)


def fallen(root: Path) -> list[str]:
    """One line for each lecture of which fewer cells are compared than its floor asks."""
    now = counts(root)
    return [
        f"{slug}: nbval compares {now.get(slug, 0)} cells, the floor in {FLOORS.as_posix()} is {floor}"
        for slug, floor in floors(root).items()
        if now.get(slug, 0) < floor
    ]
