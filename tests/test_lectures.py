"""What every lecture must have, read off the committed notebooks."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
LECTURES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
lectures = pytest.mark.parametrize("path", LECTURES, ids=lambda path: path.stem)


def source(path: Path) -> str:
    return "\n\n".join(cell.source for cell in nbformat.read(path, 4).cells)


def test_there_are_lectures():
    assert len(LECTURES) >= 2


@lectures
def test_size_with_outputs(path):
    assert path.stat().st_size < 1.5e6


@lectures
@pytest.mark.parametrize(
    "part",
    [
        "At the end you can",
        "It builds on",
        "It takes",
        "## Often misquoted",
        "## Summary",
        "Papers",
        "coursepkg.hello()",
    ],
)
def test_parts(path, part):
    assert part in source(path)


@lectures
def test_three_questions_a_widget_and_its_picture(path):
    text = source(path)
    assert text.count("show.question(") >= 3
    widgets = re.findall(r"^show\.([A-Z]\w+)\(\)$", text, re.MULTILINE)
    assert widgets and all(f"show.{name}().figure()" in text for name in widgets)


@lectures
def test_link_to_an_assignment_that_exists(path):
    assert "(assignments/" in source(path)
    for name in source(path).split("(assignments/")[1:]:
        assert (path.parent / "assignments" / name.split(")")[0]).exists()


@lectures
def test_every_figure_has_alt_text(path):
    pictures = [
        output
        for cell in nbformat.read(path, 4).cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert pictures
    for output in pictures:
        assert len(output.metadata["image/png"]["alt"]) > 40


@lectures
def test_cells_are_short(path):
    long = [
        cell.id
        for cell in nbformat.read(path, 4).cells
        if cell.cell_type == "code" and cell.source.count("\n") > 20
    ]
    assert not long


@lectures
def test_no_output_is_an_error_or_on_stderr(path):
    for cell in nbformat.read(path, 4).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error" and output.get("name") != "stderr", cell.id
