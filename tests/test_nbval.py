"""nbval can fail, and what it compares is what tools.compared counts."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tools import compared
from tools.lecture import ENVIRONMENT, clean, execute
from tools.test import NBVAL, PYTEST, counted

PRINTS = "print('text')"
DISPLAYS = "from IPython.display import HTML, Latex, display; display({}('text'))"
DRAWS = "import matplotlib.pyplot as plt; plt.figure(figsize=(1, 1)); _ = plt.plot([1, 2])"
WIDGET = "from ipywidgets import HTML; HTML('text')"
IGNORED = {"tags": ["nbval-ignore-output"]}
# Cells and whether nbval compares any text of theirs.
CELLS = [
    (PRINTS, {}, True),
    ("'text'", {}, True),
    (DISPLAYS.format("HTML"), {}, True),
    (DISPLAYS.format("Latex"), {}, True),
    ("import sys; print('text', file=sys.stderr)", {}, True),
    (WIDGET, {}, True),
    (DRAWS, {}, False),
    (PRINTS, IGNORED, False),
    ("nothing = 'text'", {}, False),
]


@pytest.fixture(scope="module")
def notebook() -> NotebookNode:
    """The cells above, executed and cleaned as a lecture is; after them, one that prints and was never run."""
    cells = [
        nbformat.v4.new_code_cell(source, metadata=metadata, id=f"c{number}")
        for number, (source, metadata, _) in enumerate(CELLS)
    ]
    made = nbformat.v4.new_notebook(cells=cells)
    execute(made, Path.cwd())
    clean(made)
    made.cells.append(nbformat.v4.new_code_cell(PRINTS, id="unrun"))
    return made


def failing(notebook: NotebookNode, folder: Path) -> list[int]:
    """The indices of the cells that nbval finds wrong."""
    path, report = folder / "lecture.ipynb", folder / "report.xml"
    nbformat.write(notebook, path)
    command = [
        sys.executable,
        *PYTEST,
        *NBVAL,
        str(path),
        f"--junitxml={report}",
        "-q",
        "--rootdir",
        str(folder),
    ]
    subprocess.run(command, cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True)
    counts, _ = counted(report)
    assert sum(counts.values()) == len(notebook.cells)
    cases = list(ElementTree.parse(report).iter("testcase"))
    return [number for number, case in enumerate(cases) if case.find("failure") is not None]


def test_a_lecture_as_it_was_built_passes(notebook, tmp_path):
    assert failing(notebook, tmp_path) == []


def test_every_counted_cell_fails_when_its_output_is_changed_and_no_other(notebook, tmp_path):
    changed = nbformat.from_dict(notebook)
    for cell in changed.cells:
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = "other\n"
            else:
                kinds = [kind for kind in output.data if kind.startswith("image/")] or list(output.data)
                output.data.update(dict.fromkeys(kinds, "b3RoZXI="))
    expected = [number for number, (_, _, is_compared) in enumerate(CELLS) if is_compared]
    assert failing(changed, tmp_path) == expected
    assert compared.count(notebook) == len(expected)


def test_a_warning_that_was_not_there_fails(notebook, tmp_path):
    changed = nbformat.from_dict(notebook)
    changed.cells[8].source += "\nimport sys; print('warning', file=sys.stderr)"
    assert failing(changed, tmp_path) == [8]
