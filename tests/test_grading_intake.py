"""What is taken of a submitted folder, and the student's answers back in their places, before anything runs."""

import copy
import json
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell

from coursepkg.grading import variants
from coursepkg.grading.intake.files import Bounds, Refused, take
from coursepkg.grading.intake.skeleton import Rebuilt, rebuild
from coursepkg.grading.release import student_version
from tests import classroom

NAME = classroom.MINI
MEMORY = "01_memory"
SOLVED = {"double": classroom.DOUBLE, "largest": classroom.LARGEST, "why": classroom.ANSWER}
BLANK = "YOUR ANSWER HERE"
BOTH = f"{classroom.DOUBLE}\n\n{classroom.LARGEST}"
STUB = "# YOUR CODE HERE\nraise NotImplementedError()"


def made(instructors: NotebookNode, slug: str) -> tuple[NotebookNode, NotebookNode, dict[str, str]]:
    """What students get of an assignment, what is graded, and its solution."""
    released = student_version(instructors, slug)
    graded = variants.with_tests(copy.deepcopy(released), instructors)
    return released, graded, classroom.honest_class(instructors)["perfect"].answers


@pytest.fixture(scope="module")
def mini() -> tuple[NotebookNode, NotebookNode, dict[str, str]]:
    return made(classroom.notebook(), NAME)


@pytest.fixture(scope="module")
def memory() -> tuple[NotebookNode, NotebookNode, dict[str, str]]:
    path = classroom.REPOSITORY / "solutions" / MEMORY / f"{MEMORY}.ipynb"
    return made(nbformat.read(path, as_version=4), MEMORY)


def named(nb: NotebookNode) -> dict[str, str]:
    """The sources of a notebook's cells by their grade_id."""
    return {classroom.grade_id(cell): cell.source for cell in nb.cells if classroom.grade_id(cell)}


def at(nb: NotebookNode, name: str) -> int:
    return [classroom.grade_id(cell) for cell in nb.cells].index(name)


def extras(nb: NotebookNode) -> list[tuple[str, str]]:
    """The cells that are not the release's, each with the grade_id of the one it comes after."""
    found, after = [], ""
    for cell in nb.cells:
        after = classroom.grade_id(cell) or after
        if not classroom.grade_id(cell):
            found.append((after, cell.source))
    return found


def check_skeleton(result: Rebuilt, graded: NotebookNode) -> None:
    """Everything that must hold of every rebuilt notebook."""
    nb = result.nb
    theirs = [cell for cell in nb.cells if classroom.grade_id(cell)]
    assert [cell.metadata for cell in theirs] == [cell.metadata for cell in graded.cells]
    assert [cell.id for cell in theirs] == [cell.id for cell in graded.cells]
    for cell, course in zip(theirs, graded.cells, strict=True):
        if not course.metadata.nbgrader.solution:
            assert cell == course
    assert nb.metadata == graded.metadata
    assert not any(cell.metadata for cell in nb.cells if cell not in theirs)
    assert len({cell.id for cell in nb.cells}) == len(nb.cells)
    nbformat.validate(nb)
    assert rebuild(nb, graded).nb == nb, "to rebuild what was rebuilt changes nothing"


# The folder.


def submitted(root: Path, nb: NotebookNode | str | bytes | None = None) -> Path:
    folder = root / "ann" / NAME
    folder.mkdir(parents=True)
    if nb is None:
        nb = nbformat.v4.new_notebook(cells=[new_code_cell("1 + 1")])
    if isinstance(nb, NotebookNode):
        nb = nbformat.writes(nb)
    path = folder / f"{NAME}.ipynb"
    path.write_bytes(nb if isinstance(nb, bytes) else nb.encode())
    return folder


def raw(**changes: object) -> str:
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []} | changes)


def a_cell(**changes: object) -> str:
    return raw(cells=[{"cell_type": "markdown", "source": "x", "metadata": {}} | changes])


BAD = {
    "": "90_mini.ipynb is empty; ask for it again",
    "{not json": "90_mini.ipynb is not JSON (Expecting property name",
    raw(nbformat=10)[:-1] + ', "x": ' + "1" * 5000 + "}": "90_mini.ipynb is not JSON",
    b"\xff\xfe{}": "90_mini.ipynb is not UTF-8 text",
    "[" * 100_000 + "]" * 100_000: "90_mini.ipynb is not a notebook: it is nested too deeply",
    "[1]": "90_mini.ipynb is not a notebook: it does not say in which notebook format it is",
    '{"cells": 3}': "90_mini.ipynb is not a notebook: it does not say in which notebook format it is",
    raw(nbformat=5): "90_mini.ipynb is in notebook format 5, and only 3 and 4 are read",
    raw(nbformat=2): "90_mini.ipynb is in notebook format 2",
    raw(nbformat=True): "90_mini.ipynb is not a notebook: it does not say",
    raw(cells={}): "90_mini.ipynb is not a notebook: it has no list of cells",
    raw(cells=["x"]): "90_mini.ipynb is not a notebook: its cell 1 is neither code nor Markdown nor raw text",
    a_cell(cell_type="video"): "90_mini.ipynb is not a notebook: its cell 1 is neither",
    a_cell(cell_type=["code"]): "90_mini.ipynb is not a notebook: its cell 1 is neither",
    a_cell(source=3): "90_mini.ipynb is not a notebook: its cell 1 has no text",
    a_cell(source=["x", 3]): "90_mini.ipynb is not a notebook: its cell 1 has no text",
    raw(nbformat=3): "90_mini.ipynb is not a notebook: it says format 3 and cannot be converted",
    raw(cells=[{}] * 2001): "90_mini.ipynb has 2001 cells, more than 2000",
    " " * 20_000_001: "90_mini.ipynb has more than 20 MB; ask for it again with its outputs cleared",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=range(len(BAD)))
def test_what_is_no_notebook_is_refused_in_one_line(tmp_path, text: str | bytes, message: str) -> None:
    with pytest.raises(Refused) as refused:
        take(submitted(tmp_path, text), NAME)
    assert str(refused.value).startswith(message)
    assert "; ask for " in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ([], "there is no 90_mini.ipynb in it, and nothing else; ask for it"),
        (["a.txt"], "there is no 90_mini.ipynb in it but a.txt; ask for it"),
        (
            ["final version.ipynb"],
            "there is no 90_mini.ipynb in it but final version.ipynb; rename it, or ask for it",
        ),
        (
            ["b.ipynb", "a.txt"],
            "there is no 90_mini.ipynb in it but a.txt, b.ipynb; rename b.ipynb, its one notebook, or ask for it",
        ),
        (
            ["b.ipynb", "a.ipynb"],
            "there is no 90_mini.ipynb in it but a.ipynb, b.ipynb; rename it, or ask for it",
        ),
        ([f"{number}.txt" for number in range(10)], "7.txt and 2 more; ask for it"),
    ],
)
def test_a_missing_notebook(tmp_path, there: list[str], message: str) -> None:
    folder = submitted(tmp_path)
    (folder / f"{NAME}.ipynb").unlink()
    for name in [*there, "timestamp.txt"]:
        (folder / name).write_text("x")
    with pytest.raises(Refused) as refused:
        take(folder, NAME)
    assert str(refused.value).endswith(message)


def test_the_notebook_is_a_regular_file_in_a_folder(tmp_path) -> None:
    folder = submitted(tmp_path)
    path = folder / f"{NAME}.ipynb"
    path.unlink()
    path.mkdir()
    with pytest.raises(Refused, match="90_mini.ipynb is a folder; ask for the file itself"):
        take(folder, NAME)
    with pytest.raises(Refused, match="there is no folder none in it; ask for it"):
        take(tmp_path / "none", "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(Refused, match="file is not a folder"):
        take(tmp_path / "file", "file")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes in folders, and links need a right")
def test_links_and_pipes_are_not_opened(tmp_path) -> None:
    folder = submitted(tmp_path)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(Refused, match="the folder link is a symbolic link, which is never followed"):
        take(tmp_path / "link", NAME)
    path = folder / f"{NAME}.ipynb"
    path.rename(tmp_path / "elsewhere.ipynb")
    for target in (tmp_path / "elsewhere.ipynb", tmp_path / "nowhere"):
        path.symlink_to(target)
        with pytest.raises(
            Refused, match="^90_mini.ipynb is a symbolic link, which is never followed; ask for"
        ):
            take(folder, NAME)
        path.unlink()
    os.mkfifo(path)
    with pytest.raises(
        Refused, match="90_mini.ipynb is a pipe, a socket or a device; ask for the file itself"
    ):
        take(folder, NAME)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes in folders, and links need a right")
@pytest.mark.parametrize("swapped", ["link", "pipe"])
def test_what_is_swapped_after_the_look_is_not_read(tmp_path, monkeypatch, swapped: str) -> None:
    folder = submitted(tmp_path)
    path = folder / f"{NAME}.ipynb"
    regular = os.lstat(path)
    path.rename(tmp_path / "other.ipynb")
    path.symlink_to(tmp_path / "other.ipynb") if swapped == "link" else os.mkfifo(path)
    look = os.lstat
    monkeypatch.setattr(os, "lstat", lambda of: regular if of == path else look(of))
    with pytest.raises(Refused, match=f"90_mini.ipynb is a (symbolic )?{swapped}"):
        take(folder, NAME)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="who may not read here")
def test_what_the_machine_cannot_read_is_not_the_students_fault(tmp_path) -> None:
    folder = submitted(tmp_path)
    (folder / f"{NAME}.ipynb").chmod(0)
    with pytest.raises(PermissionError):
        take(folder, NAME)


def test_a_full_disk_or_a_broken_one_is_not_the_students_fault(tmp_path, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    folder = submitted(tmp_path)
    monkeypatch.setattr(os, "open", broken)
    with pytest.raises(OSError, match="Input/output"):
        take(folder, NAME)


def test_which_files_may_lie_beside_it_and_why_others_may_not(tmp_path) -> None:
    folder = submitted(tmp_path)
    for name in (
        "data.csv timestamp.txt submission_secret.txt .hidden .git/config __pycache__/a.txt helper.py sub/torch.so "
        "Setup.CFG old.ipynb numbers.csv Ünïcode.txt sub/x/ok.txt con.txt a/b/c/d/e/f/deep.txt libx.so.1 matplotlibrc "
        "Numbers2.csv"
    ).split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / ("l" * 160)).write_text("x")
    (folder / "given").write_text("x")
    code = "code and settings could take the place of the course's; code belongs in the notebook"
    odd = "its name is not one that every system can have; letters, digits, - and _ are fine"
    expected = {
        "Setup.CFG": code,
        "a/b/c/d/e/f": "folders may lie 5 deep in each other, not more",
        "con.txt": odd,
        "given": "a file of the release needs its place",
        "helper.py": code,
        "libx.so.1": code,
        f"{'l' * 77}...": "its path has more than 150 characters",
        "matplotlibrc": code,
        "old.ipynb": "only the assignment's own notebook is graded",
        "sub/torch.so": code,
    }
    if sys.platform != "win32":
        (folder / "a\nb.csv").write_text("x")
        (folder / "what?.csv").write_text("x")
        (folder / "link.csv").symlink_to("/etc/hosts")
        (folder / "links").symlink_to(tmp_path)
        os.mkfifo(folder / "pipe")
        is_link, special = (
            "it is a symbolic link, which is never followed",
            "it is a pipe, a socket or a device",
        )
        expected |= {"a?b.csv": odd, "what?.csv": odd, "link.csv": is_link, "links": is_link, "pipe": special}
    taken = take(folder, NAME, released=["Numbers.csv", "numbers2.csv", f"{NAME}.ipynb", "given/data.csv"])
    assert taken.files == ["data.csv", "sub/x/ok.txt", "Ünïcode.txt"]
    assert dict(note.split(" was left out: ") for note in taken.notes) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such sockets")
def test_a_socket_is_left_out(tmp_path, monkeypatch) -> None:
    folder = submitted(tmp_path)
    monkeypatch.chdir(folder)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s")
        assert take(folder, NAME).notes == ["s was left out: it is a pipe, a socket or a device"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one file has both names")
def test_names_that_are_one_on_another_system(tmp_path) -> None:
    folder = submitted(tmp_path)
    for name in ("A.csv", "a.csv"):
        (folder / name).write_text("x")
    taken = take(folder, NAME)
    assert taken.files == ["A.csv"]
    assert taken.notes == ["a.csv was left out: another file has that name but for upper and lower case"]


def test_only_so_many_files_and_bytes(tmp_path) -> None:
    folder = submitted(tmp_path)
    for number in range(6):
        (folder / f"{number}.csv").write_text("x" * 10 * number)
    taken = take(folder, NAME, bounds=Bounds(count=3))
    assert (taken.files, taken.notes) == (
        ["0.csv", "1.csv", "2.csv"],
        ["3 more files were left out: 3 are enough"],
    )
    taken = take(folder, NAME, bounds=Bounds(total=70))
    assert taken.files == ["0.csv", "1.csv", "2.csv", "3.csv"]
    assert taken.notes[0] == "4.csv was left out: the files would have more than 7e-05 MB together"
    assert take(folder, NAME, bounds=Bounds(total=0, notes=2)).notes[2:] == [
        "3 more were left out for such reasons"
    ]
    taken = take(folder, NAME, bounds=Bounds(entries=2))
    assert taken.notes == ["only the first 2 of its files and folders were looked at"]


def test_what_is_read_of_a_notebook(tmp_path) -> None:
    picture = {"a.png": {"image/png": "AAAA"}}
    attached = {"a.png": {"image/png": ["AA", "AA"]}, "b.png": {"image/png": 3}, "c.png": []}
    code = {
        "cell_type": "code",
        "source": ["a = 1\n", "b = 2"],
        "metadata": 3,
        "outputs": "bad",
        "id": "same",
    }
    cells = [
        code | {"attachments": attached},
        {"cell_type": "markdown", "source": "\\ud83d\\ude00 \\ud83d", "attachments": attached, "id": "same"},
        {"cell_type": "raw", "source": "r", "metadata": {"nbgrader": "x"}, "attachments": [1], "id": "a b"},
        {"cell_type": "code", "source": "", "metadata": {"tags": "x"}, "new": 1, "id": "cell-2"},
        {
            "cell_type": "code",
            "source": [],
            "metadata": {"deep": json.loads("[" * 900 + "]" * 900)},
            "id": None,
        },
    ]
    metadata = {"kernelspec": {"name": "python3"}, "authors": 3}
    text = raw(nbformat_minor=99, metadata=metadata, cells=cells, more={}).replace("\\\\u", "\\u")
    nb = take(submitted(tmp_path, text), NAME).notebook
    assert [cell.id for cell in nb.cells] == ["same", "cell-2-0", "cell-3", "cell-2", "cell-5"]
    assert [cell.source for cell in nb.cells] == ["a = 1\nb = 2", "😀 \ufffd", "r", "", ""]
    assert [dict(cell.metadata) for cell in nb.cells] == [{}, {}, {"nbgrader": "x"}, {"tags": "x"}, {}]
    assert (
        "attachments" not in nb.cells[0] and nb.cells[0].outputs == [] and nb.cells[0].execution_count is None
    )
    assert nb.cells[1].attachments == picture and not nb.cells[2].get("attachments")
    assert (nb.nbformat, nb.nbformat_minor, nb.metadata) == (4, 5, metadata)
    assert nbformat.reads(nbformat.writes(nb), as_version=4) == copy.deepcopy(nb)


def test_an_older_notebook_is_converted(tmp_path) -> None:
    cells = [
        {
            "cell_type": "code",
            "input": ["x = 1\n", "x"],
            "language": "python",
            "outputs": "?",
            "collapsed": False,
            "metadata": {"nbgrader": {"grade_id": "double"}},
        },
        {"cell_type": "heading", "level": 2, "source": "Title", "metadata": {}},
    ]
    text = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": cells}]}
    nb = take(submitted(tmp_path, json.dumps(text)), NAME).notebook
    assert [(cell.cell_type, cell.source) for cell in nb.cells] == [
        ("code", "x = 1\nx"),
        ("markdown", "## Title"),
    ]
    assert nb.cells[0].metadata.nbgrader.grade_id == "double"
    assert [cell.id for cell in nb.cells] == ["cell-1", "cell-2"]


# What programs and people do to a notebook.


def vscode(nb: NotebookNode) -> None:
    """Saved by an editor that keeps neither metadata nor ids."""
    nb.nbformat_minor = 2
    nb.metadata = {"language_info": {"name": "python", "version": "3.12.1"}}
    for cell in nb.cells:
        cell.metadata = {"vscode": {"languageId": "python"}} if cell.cell_type == "code" else {}
        del cell["id"]


def colab(nb: NotebookNode) -> None:
    nb.nbformat_minor = 0
    nb.metadata = {"colab": {"provenance": []}, "kernelspec": {"name": "python3"}, "accelerator": "GPU"}
    for number, cell in enumerate(nb.cells):
        cell.metadata = {
            "id": f"Zx{number}",
            "outputId": "ab-cd",
            "colab": {"base_uri": "https://localhost/"},
        }
        del cell["id"]


def pasted(nb: NotebookNode) -> None:
    """Copied by hand to a new notebook, with Windows' line ends and other blank lines."""
    new = {"code": new_code_cell, "markdown": new_markdown_cell}
    nb.cells = [
        new[cell.cell_type]("\r\n".join(f"{line}  " for line in f"\n{cell.source}\n\n".split("\n")))
        for cell in nb.cells
    ]


def jupytext(nb: NotebookNode) -> None:
    nb.metadata["jupytext"] = {"formats": "ipynb,py:percent"}
    for cell in nb.cells:
        cell.metadata |= {"lines_to_next_cell": 2, "tags": ["parameters"], "coursepkg": {"failed": "forged"}}


def papermill(nb: NotebookNode) -> None:
    for cell in nb.cells:
        cell.metadata |= {
            "papermill": {"status": "completed"},
            "execution": {},
            "trusted": True,
            "_uuid": "ab",
        }


def schema_99(nb: NotebookNode) -> None:
    for cell in nb.cells:
        cell.metadata.nbgrader |= {"schema_version": 99, "points": 1000, "grade": True, "locked": False}


def wrong_types(nb: NotebookNode) -> None:
    for cell, odd in zip(
        nb.cells, [[], "x", {"grade_id": ["x"]}, {"grade_id": {}}, None, 3] * 9, strict=False
    ):
        cell.metadata = {"nbgrader": odd}


def split_in_two(nb: NotebookNode) -> None:
    """Copied onto itself: each cell twice, with its metadata."""
    nb.cells = [cell for cell in nb.cells for cell in (cell, copy.deepcopy(cell))]


@pytest.mark.parametrize(
    "lose",
    [vscode, colab, pasted, jupytext, papermill, schema_99, wrong_types, split_in_two],
    ids=lambda one: one.__name__,
)
@pytest.mark.parametrize("assignment", ["mini", "memory"])
def test_what_other_programs_lose_is_put_back(request, tmp_path, assignment: str, lose: Callable) -> None:
    released, graded, answers = request.getfixturevalue(assignment)
    nb = classroom.submission(released, answers)
    lose(nb)
    taken = take(submitted(tmp_path, json.dumps(nb)), NAME)
    before = copy.deepcopy(graded), copy.deepcopy(taken.notebook)
    result = rebuild(taken.notebook, graded)
    assert before == (graded, taken.notebook)
    found = named(result.nb)
    for name, answer in answers.items():
        assert [line.rstrip() for line in found[name].split()] == [line.rstrip() for line in answer.split()]
    assert (result.notes, result.missing, result.flagged) == ([], [], [])
    assert len(result.nb.cells) == len(graded.cells)
    check_skeleton(result, graded)


@pytest.mark.parametrize("lose", [vscode, colab, pasted])
def test_the_blank_notebook_stays_blank(mini, tmp_path, lose: Callable) -> None:
    released, graded, _ = mini
    nb = copy.deepcopy(released)
    lose(nb)
    result = rebuild(take(submitted(tmp_path, json.dumps(nb)), NAME).notebook, graded)
    assert (result.nb, result.notes, result.missing, result.flagged) == (graded, [], [], [])


# One change each to a solved notebook.


@dataclass(frozen=True)
class Given:
    """What comes of a change: notes, missing answers, flags, answers other than the solved ones, and extra cells."""

    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    flagged: tuple[str, ...] = ()
    answers: dict[str, str] = field(default_factory=dict)
    extra: tuple[tuple[str, str], ...] = ()


CHANGES: dict[Callable, Given] = {}


def gives(**given: object) -> Callable:
    """Register a change of a notebook, with what comes of it."""

    def register(change: Callable) -> Callable:
        CHANGES[change] = Given(**given)
        return change

    return register


def lost(nb: NotebookNode) -> None:
    for cell in nb.cells:
        cell.metadata = {}


def insert(nb: NotebookNode, before: str, *sources: str, new: Callable = new_code_cell) -> None:
    where = at(nb, before)
    nb.cells[where:where] = [new(source) for source in sources]


def put(nb: NotebookNode, name: str, source: str) -> None:
    nb.cells[at(nb, name)].source = source


@gives(
    answers={
        "double": "#Grade_ID :double (keep this line)\ndoubled = 2 .__mul__",
        "largest": "\n# grade_id: `largest`\nvalues = max",
        "why": "<!--grade_id: why-->\nBecause.",
    }
)
def comments_name_answers(nb: NotebookNode) -> None:
    lost(nb)
    nb.cells[2].source = "#Grade_ID :double (keep this line)\ndoubled = 2 .__mul__"
    nb.cells[4].source = "\n# grade_id: `largest`\nvalues = max"
    nb.cells[7].source = "<!--grade_id: why-->\nBecause."
    nb.cells[2], nb.cells[7] = nb.cells[7], nb.cells[2]


@gives(answers={"double": f"# grade_id: double\n{classroom.DOUBLE}"})
def comment_before_metadata(nb: NotebookNode) -> None:
    one, two = nb.cells[at(nb, "double")], nb.cells[at(nb, "largest")]
    one.metadata, two.metadata = two.metadata, one.metadata
    one.source = f"# grade_id: double\n{one.source}"


@gives(missing=["double", "largest", "why"], answers={"double": STUB, "largest": STUB, "why": BLANK})
def deleted_answers(nb: NotebookNode) -> None:
    nb.cells = [cell for cell in nb.cells if classroom.grade_id(cell) not in SOLVED]


@gives(answers={"double": STUB, "why": BLANK})
def emptied_answers(nb: NotebookNode) -> None:
    put(nb, "double", " \n")
    put(nb, "why", "")


@gives(notes=["test_double differs from the course's, which was used"])
def changed_test(nb: NotebookNode) -> None:
    put(nb, "test_double", "pass")
    put(nb, "text_01", "# My miniature")


@gives()
def trailing_space_in_test(nb: NotebookNode) -> None:
    nb.cells[at(nb, "test_double")].source += "  \n\n"


@gives(notes=["test_largest was missing and has been put back"])
def missing_test(nb: NotebookNode) -> None:
    del nb.cells[at(nb, "test_largest")]
    del nb.cells[at(nb, "text_01")]


@gives(notes=["test_largest occurs more than once; a changed copy was left out"])
def own_cell_that_says_it_is_a_test(nb: NotebookNode) -> None:
    insert(nb, "double", "# grade_id: test_largest\nprint('mine')")


@gives(notes=["test_double differs from the course's, which was used"])
def disabled_test(nb: NotebookNode) -> None:
    test = nb.cells[at(nb, "test_double")]
    test.metadata = {}
    test.source = "\n".join(f"# {line}" for line in test.source.split("\n"))


@gives(notes=["test_double occurs more than once; a changed copy was left out"])
def edited_copy_of_test(nb: NotebookNode) -> None:
    test = nb.cells[at(nb, "test_double")].source
    insert(nb, "largest", test.replace("== 4", "== 5"), test)


@gives(notes=["test_largest occurs more than once; a changed copy was left out"])
def disabled_copies_of_tests(nb: NotebookNode) -> None:
    insert(nb, "largest", "# assert largest([1, 5, 3]) == 5", "if False:\n    assert largest([1, 5, 3]) == 5")


@gives(extra=[("test_double", "print('Welcome.')")])
def copies_of_the_course(nb: NotebookNode) -> None:
    """A second time and as released: what is no test may run again."""
    insert(nb, "largest", *(nb.cells[at(nb, name)].source for name in ("test_double", "code_01")))
    insert(nb, "largest", "# Miniature", new=new_markdown_cell)


@gives(extra=[("text_01", "What I thought first."), ("text_01", "8 - 1")])
def notes_in_a_copy_of_the_question(nb: NotebookNode) -> None:
    question = copy.deepcopy(nb.cells[at(nb, "text_02")])
    nb.cells.insert(1, new_markdown_cell("What I thought first.", metadata=question.metadata))
    nb.cells.insert(2, new_code_cell("8 - 1", metadata=question.metadata))


@gives(extra=[("test_largest", "8 - 1")])
def code_in_the_place_of_the_question(nb: NotebookNode) -> None:
    question = nb.cells[at(nb, "text_02")]
    question.cell_type, question.source = "code", "8 - 1"


@gives(answers={"why": "# Miniature"})
def answer_that_is_also_a_text_of_the_course(nb: NotebookNode) -> None:
    put(nb, "why", "# Miniature")


@gives(answers={"why": BLANK})
def notes_in_the_title(nb: NotebookNode) -> None:
    nb.cells[at(nb, "text_01")].source += "\n\nThese are all my notes of the lecture."
    put(nb, "why", BLANK)


@gives()
def changed_text_without_metadata(nb: NotebookNode) -> None:
    lost(nb)
    nb.cells[6].source = "Why are there more *negative* numbers than positive ones in int8?"


@gives(
    notes=["double occurs more than once; the last of its cells was graded"],
    extra=[("code_01", "def double(x):\n    return x")],
)
def copied_answer(nb: NotebookNode) -> None:
    """With its metadata, changed, below the first."""
    where = at(nb, "double")
    nb.cells.insert(where + 1, copy.deepcopy(nb.cells[where]))
    nb.cells[where].source = "def double(x):\n    return x"


@gives()
def copied_stub(nb: NotebookNode) -> None:
    where = at(nb, "double")
    nb.cells.insert(where + 2, copy.deepcopy(nb.cells[where]))
    nb.cells[where + 2].source = STUB + "  # later"
    nb.cells.append(copy.deepcopy(nb.cells[where]))
    nb.cells[-1].source = ""


@gives(
    notes=["double occurs more than once; the cell that defines it or whose comment names it was graded"],
    answers={"double": f"# grade_id: double\n{classroom.DOUBLE}"},
    extra=[("code_01", "# grade_id: double\ndef double(x):\n    return x")],
)
def pasted_copy_with_its_comment(nb: NotebookNode) -> None:
    put(nb, "double", f"# grade_id: double\n{classroom.DOUBLE}")
    nb.cells.append(new_code_cell("# grade_id: double\ndef double(x):\n    return x"))


@gives(
    notes=["why occurs more than once; the cell that defines it or whose comment names it was graded"],
    extra=[("rubric_why", "6 * 7")],
)
def copy_of_another_type(nb: NotebookNode) -> None:
    nb.cells.append(new_code_cell("6 * 7", metadata=copy.deepcopy(nb.cells[at(nb, "why")].metadata)))


@gives()
def text_of_the_course_in_a_copy_of_an_answer(nb: NotebookNode) -> None:
    nb.cells.insert(1, copy.deepcopy(nb.cells[at(nb, "why")]))
    nb.cells[1].source = "# Miniature"


@gives(answers={"double": "# grade_id: largest\ndoubled = 2 .__mul__"})
def comment_of_another(nb: NotebookNode) -> None:
    put(nb, "double", "# grade_id: largest\ndoubled = 2 .__mul__")


@gives(
    notes=["double occurs more than once; the cell that defines it or whose comment names it was graded"],
    extra=[("largest", "double(3)")],
)
def copy_for_a_try(nb: NotebookNode) -> None:
    """A copy of the cell, with its metadata, for another purpose."""
    nb.cells.insert(5, copy.deepcopy(nb.cells[at(nb, "double")]))
    nb.cells[5].source = "double(3)"


@gives(
    notes=["double is defined in more than one cell; the last of them was graded"],
    answers={"double": "def double(x):\n    return x + x"},
    extra=[("code_01", classroom.DOUBLE)],
)
def defined_twice(nb: NotebookNode) -> None:
    lost(nb)
    nb.cells.insert(3, new_code_cell("def double(x):\n    return x + x"))


@gives(
    notes=[
        "double is defined in more than one cell; the last of them was graded",
        "double was left as released; the cell that defines it was graded",
    ],
    extra=[("code_01", "def double(x):\n    return x")],
)
def defined_twice_below(nb: NotebookNode) -> None:
    put(nb, "double", STUB)
    insert(nb, "largest", "def double(x):\n    return x", classroom.DOUBLE)


@gives(
    notes=["double is defined in more than one cell; the last of them was graded"],
    extra=[("code_01", "def double(x):\n    return x")],
)
def defined_twice_in_another_order(nb: NotebookNode) -> None:
    lost(nb)
    first = new_code_cell("def double(x):\n    return x")
    nb.cells = [nb.cells[0], *nb.cells[4:6], first, *nb.cells[1:4], *nb.cells[6:]]


@gives(extra=[("largest", "largest = largest([1, 2])")])
def name_used_again(nb: NotebookNode) -> None:
    lost(nb)
    nb.cells.insert(5, new_code_cell("largest = largest([1, 2])"))


@gives(
    missing=["double"],
    answers={"double": STUB},
    extra=[("rubric_why", "```python\ndef double(x):\n    return x\n```")],
)
def quoted_in_notes(nb: NotebookNode) -> None:
    del nb.cells[at(nb, "double")]
    nb.cells.append(new_markdown_cell("```python\ndef double(x):\n    return x\n```"))


@gives(
    notes=["double was left as released; the cell that defines it was graded"],
    answers={"double": "def double(x):\n    return by() * x"},
    extra=[
        ("code_01", "FACTOR = abs(2)"),
        ("code_01", "def by():\n    return FACTOR"),
        ("double", "print('mine')"),
    ],
)
def moved_below_the_stub(nb: NotebookNode) -> None:
    put(nb, "double", STUB)
    insert(
        nb,
        "test_double",
        "FACTOR = abs(2)",
        "print('mine')",
        "def by():\n    return FACTOR",
        "def double(x):\n    return by() * x",
    )


@gives(
    notes=["double was left as released; the cell that defines it was graded"],
    answers={"double": "double = lambda x: by(2) * x"},
    extra=[("code_01", "def by(n):\n    return n"), ("test_double", "double(3)")],
)
def moved_below_the_test(nb: NotebookNode) -> None:
    put(nb, "double", STUB)
    insert(nb, "largest", "def by(n):\n    return n", "double = lambda x: by(2) * x", "double(3)")


@gives(
    notes=["largest was answered in the cell of double"],
    answers={"double": BOTH, "largest": "# answered in the cell of double"},
)
def both_in_one_cell(nb: NotebookNode) -> None:
    put(nb, "double", BOTH)
    put(nb, "largest", STUB)


@gives(
    notes=["largest was answered in the cell of double"],
    answers={"double": BOTH, "largest": "# answered in the cell of double"},
)
def both_in_the_later_cell(nb: NotebookNode) -> None:
    put(nb, "largest", BOTH)
    del nb.cells[at(nb, "double")]


@gives(
    notes=["largest was answered in the cell of double"],
    answers={
        "double": "# grade_id: double\ndoubled = 2 .__mul__",
        "largest": f"# grade_id: double\n{classroom.LARGEST}",
    },
)
def answer_in_the_wrong_cell_and_another_there(nb: NotebookNode) -> None:
    put(nb, "double", f"# grade_id: double\n{classroom.LARGEST}")
    put(nb, "largest", STUB)
    insert(nb, "test_largest", "# grade_id: double\ndoubled = 2 .__mul__")


COMMENTED = f"# grade_id: largest\n{classroom.LARGEST}\n\n# grade_id: double\n{classroom.DOUBLE}"


@gives(
    notes=["largest was answered in the cell of double"],
    answers={"double": COMMENTED, "largest": "# answered in the cell of double"},
)
def both_by_comments(nb: NotebookNode) -> None:
    put(nb, "largest", COMMENTED)
    del nb.cells[at(nb, "double")]


@gives(answers={"double": f"# grade_id: test_double\nassert 1\n# grade_id: double\n{classroom.DOUBLE}"})
def answer_below_the_test_in_its_cell(nb: NotebookNode) -> None:
    put(nb, "double", f"# grade_id: test_double\nassert 1\n# grade_id: double\n{classroom.DOUBLE}")


@gives(
    notes=[
        "double was left as released; the cell that defines it was graded",
        "largest was answered in the cell of double",
    ],
    answers={"double": BOTH, "largest": "# answered in the cell of double"},
)
def both_in_a_cell_of_their_own(nb: NotebookNode) -> None:
    put(nb, "double", STUB)
    put(nb, "largest", STUB)
    insert(nb, "double", BOTH)


@gives(notes=["double was answered in the cell of largest"], missing=["largest"], answers={"largest": STUB})
def answer_in_the_wrong_cell(nb: NotebookNode) -> None:
    put(nb, "largest", classroom.DOUBLE)
    put(nb, "double", STUB)


@gives(answers={"double": "def double(x)\n    return 2 * x"})
def does_not_parse(nb: NotebookNode) -> None:
    lost(nb)
    nb.cells[2].source = "def double(x)\n    return 2 * x"


@gives(
    answers={"largest": f"%%time\n%matplotlib inline\n{classroom.LARGEST}"},
    extra=[("test_double", f"%%writefile a.txt\n{classroom.LARGEST}")],
)
def magics(nb: NotebookNode) -> None:
    lost(nb)
    nb.cells[4].source = f"%%time\n%matplotlib inline\n{classroom.LARGEST}"
    nb.cells.insert(4, new_code_cell(f"%%writefile a.txt\n{classroom.LARGEST}"))


@gives(
    notes=[
        "double was a Markdown cell; its text was taken as code",
        "largest was a raw cell; its text was taken as code",
        "why was a code cell; its text was taken as Markdown",
    ]
)
def other_types(nb: NotebookNode) -> None:
    for name, kind in (("double", "markdown"), ("largest", "raw"), ("why", "code"), ("test_double", "raw")):
        nb.cells[at(nb, name)].cell_type = kind


@gives(
    extra=[
        ("", "By Ann."),
        ("code_01", "import math"),
        ("double", "assert double(1) == 2"),
        ("text_02", "raw"),
        ("rubric_why", ""),
    ]
)
def own_cells(nb: NotebookNode) -> None:
    nb.cells.insert(0, new_markdown_cell("By Ann."))
    insert(nb, "double", "import math", new=lambda source: new_code_cell(source, metadata={"tags": ["x"]}))
    insert(nb, "test_double", "assert double(1) == 2")
    insert(nb, "why", "raw", new=new_raw_cell)
    nb.cells.append(
        new_code_cell("", metadata={"nbgrader": {"grade_id": "elsewhere"}, "coursepkg": {"a": 1}})
    )


@gives(extra=[("double", "print('of double')")])
def other_order(nb: NotebookNode) -> None:
    insert(nb, "test_double", "print('of double')")
    nb.cells = nb.cells[:2] + nb.cells[5:7] + nb.cells[2:5] + nb.cells[7:]


@gives(
    notes=["why was left as released; the text below it was taken as its answer"],
    answers={"why": "Because\n\nit is."},
)
def written_below(nb: NotebookNode) -> None:
    put(nb, "why", BLANK)
    insert(nb, "rubric_why", "Because", "it is.", new=new_markdown_cell)


@gives(
    flagged=["why: one cell may be its answer and does not say so; a person must look"],
    answers={"why": BLANK},
    extra=[("text_02", "Because it is.")],
)
def written_above(nb: NotebookNode) -> None:
    put(nb, "why", BLANK)
    insert(nb, "why", "Because it is.", new=new_markdown_cell)


@gives(
    flagged=["why: what was in the place of text_02 may be its answer; a person must look"],
    answers={"why": BLANK},
)
def written_into_the_question(nb: NotebookNode) -> None:
    put(nb, "why", BLANK)
    nb.cells[at(nb, "text_02")].source += "\n\nBecause of the two's complement."


@gives()
def written_beside_the_question_that_moved(nb: NotebookNode) -> None:
    lost(nb)
    nb.cells = [*nb.cells[6:8], *nb.cells[:6]]


@gives()
def written_above_what_moved(nb: NotebookNode) -> None:
    lost(nb)
    nb.cells = [*nb.cells[7:9], *nb.cells[:6]]


@gives(missing=["why"], answers={"why": BLANK}, extra=[("test_largest", "my notes")])
def notes_elsewhere(nb: NotebookNode) -> None:
    lost(nb)
    nb.cells = [*nb.cells[4:6], new_markdown_cell("my notes"), *nb.cells[:4]]


@gives(notes=["why was put together from 2 cells in its place"], answers={"why": "Because\n\nit is."})
def written_in_several(nb: NotebookNode) -> None:
    lost(nb)
    nb.cells[7].source = "Because"
    nb.cells.insert(8, new_markdown_cell("it is."))


@gives(
    notes=["test_double differs from the course's, which was used"],
    flagged=["double: what was in the place of test_double may be its answer; a person must look"],
    answers={"double": STUB},
)
def answer_in_the_test(nb: NotebookNode) -> None:
    put(nb, "double", STUB)
    nb.cells[at(nb, "test_double")].source = classroom.DOUBLE + "assert double(2) == 4"


@gives(
    flagged=["largest: two cells look like its answer and neither says so; a person must look"],
    answers={"largest": STUB},
    extra=[("test_double", "def greatest(v):\n    return max(v)"), ("test_double", "def most(v):\n    ...")],
)
def two_that_may_be_it(nb: NotebookNode) -> None:
    lost(nb)
    nb.cells[4:5] = [
        new_code_cell("def greatest(v):\n    return max(v)"),
        new_code_cell("def most(v):\n    ..."),
    ]


@gives(
    notes=["largest was taken from the cell in its place"],
    answers={"largest": "def biggest(values):\n    return max(values)"},
)
def renamed_in_its_place(nb: NotebookNode) -> None:
    lost(nb)
    nb.cells[4].source = "def biggest(values):\n    return max(values)"


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.__name__)
def test_one_change_to_a_solved_notebook(mini, change: Callable) -> None:
    released, graded, _ = mini
    given = CHANGES[change]
    nb = classroom.submission(released, SOLVED)
    change(nb)
    result = rebuild(nb, graded)
    assert (result.notes, result.missing, result.flagged) == tuple(
        map(list, (given.notes, given.missing, given.flagged))
    )
    found = named(result.nb)
    assert {name: found[name] for name in SOLVED} == SOLVED | given.answers
    assert extras(result.nb) == list(given.extra)
    check_skeleton(result, graded)


def test_code_that_only_looks_like_its_answer(memory) -> None:
    """The function has another name and the cell another place: what is left of the released text tells it."""
    released, graded, answers = memory
    renamed = f"# {'thinking ' * 40}\n" + answers["kv_cache"].replace("def kv_cache", "def cache")
    renamed = renamed.replace("# grade_id: kv_cache\n", "")
    nb = classroom.submission(released, answers | {"kv_cache": renamed})
    nb.cells.append(nb.cells.pop(at(nb, "kv_cache")))
    lost(nb)
    result = rebuild(nb, graded)
    assert result.notes == ["kv_cache was taken from the cell that is most like it"]
    assert named(result.nb)["kv_cache"] == renamed
    check_skeleton(result, graded)


def test_two_cells_that_are_as_like_are_left_to_a_person(memory) -> None:
    released, graded, answers = memory
    nb = classroom.submission(released, answers)
    stub = nb.cells.pop(at(nb, "kv_cache")).source
    stub = stub.replace("# grade_id: kv_cache\n", "").replace("# YOUR CODE HERE", "")
    copies = [stub.replace("def kv_cache", f"def {name}") for name in ("a", "b")]
    nb.cells += map(new_code_cell, copies)
    result = rebuild(nb, graded)
    assert result.flagged == [
        "kv_cache: two cells look like its answer and neither says so; a person must look"
    ]
    assert "YOUR CODE HERE" in named(result.nb)["kv_cache"]
    assert [source for _, source in extras(result.nb)] == copies
    check_skeleton(result, graded)


def test_another_function_in_the_place_of_an_answer_is_left_to_a_person(memory) -> None:
    released, graded, answers = memory
    nb = classroom.submission(released, answers | {"kv_cache": "def cache(*sizes):\n    return 0"})
    lost(nb)
    result = rebuild(nb, graded)
    assert result.flagged == ["kv_cache: one cell may be its answer and does not say so; a person must look"]
    check_skeleton(result, graded)


def test_another_stub_in_the_cell_of_an_answer_is_no_answer(memory) -> None:
    released, graded, answers = memory
    both = answers["stored_bytes"] + "\n\n" + named(released)["effective_bits"]
    result = rebuild(classroom.submission(released, {"stored_bytes": both}), graded)
    assert result.notes == []
    assert named(result.nb) == named(graded) | {"stored_bytes": both}


@pytest.fixture(scope="module")
def twins() -> NotebookNode:
    """A release with two written answers beside each other, a text that stands in it twice, and two stubs that both
    come with the same helper and are like a cell of the course's."""

    def cell(source: str, name: str, kind: str = "markdown", **nbgrader: object) -> NotebookNode:
        new = new_code_cell if kind == "code" else new_markdown_cell
        metadata = {"schema_version": 3, "grade": False, "solution": False, "locked": True, "task": False}
        return new(source, id=name, metadata={"nbgrader": metadata | {"grade_id": name} | nbgrader})

    written = {"solution": True, "grade": True, "locked": False, "points": 1}
    code = {"solution": True, "locked": False, "kind": "code"}
    helper = "def helper(numbers):\n    return sum(numbers) / len(numbers)\n\n"
    stub = helper + "def {}(numbers):\n    raise NotImplementedError()"
    cells = [
        cell("---", "line_1"),
        cell(BLANK, "who", **written),
        cell(BLANK, "why", **written),
        cell("---", "line_2"),
        cell(stub.format("example"), "example", "code"),
        cell(stub.format("mean"), "mean", **code),
        cell(stub.format("middle"), "middle", **code),
    ]
    cells[0].id = "extra-1"
    return nbformat.v4.new_notebook(cells=cells)


@pytest.mark.parametrize(
    "answers",
    [
        {"who": "Ann", "why": "Because."},
        {"who": "Ann"},
        {"why": "Because."},
        {"mean": "def helper():\n    ...\ndef mean(n):\n    ..."},
        {"middle": "def helper():\n    ...\ndef middle(n):\n    ..."},
    ],
)
def test_twins_are_told_apart_by_their_place(twins, answers: dict[str, str]) -> None:
    nb = classroom.submission(twins, answers)
    lost(nb)
    result = rebuild(nb, twins)
    assert named(result.nb) == named(twins) | answers
    assert (result.notes, result.missing, result.flagged) == ([], [], [])
    del nb.cells[4]
    result = rebuild(nb, twins)
    assert named(result.nb) == named(twins) | answers
    assert (result.notes, result.missing) == (["example was missing and has been put back"], [])
    check_skeleton(result, twins)


def test_the_second_of_two_texts_of_the_course_that_are_the_same(twins) -> None:
    nb = classroom.submission(twins, {})
    del nb.cells[at(nb, "line_1")]
    nb.cells[at(nb, "line_2")].metadata = {}
    insert(nb, "example", "'mine'")
    result = rebuild(nb, twins)
    assert extras(result.nb) == [("line_2", "'mine'")]
    check_skeleton(result, twins)


def test_two_written_answers_in_one_cell_or_in_three(twins) -> None:
    both = "<!-- grade_id: who -->\nAnn\n\n<!-- grade_id: why -->\nBecause."
    nb = classroom.submission(twins, {"who": both})
    del nb.cells[2]
    result = rebuild(nb, twins)
    assert named(result.nb) == named(twins) | {"who": both, "why": "*Answered in the cell of who.*"}
    assert result.notes == ["why was answered in the cell of who"]
    check_skeleton(result, twins)
    nb.cells[1:2] = map(new_markdown_cell, ("Ann", "or Bob", "Because."))
    result = rebuild(nb, twins)
    assert result.flagged == [
        f"{name}: 3 cells look like its answer and none says so; a person must look"
        for name in ("who", "why")
    ]
    assert named(result.nb) == named(twins)
    check_skeleton(result, twins)


def test_pictures_in_answers_are_kept(mini) -> None:
    released, graded, _ = mini
    nb = classroom.submission(released, SOLVED | {"why": "YOUR ANSWER HERE"})
    cells = [new_markdown_cell("![](attachment:a.png)") for _ in range(3)]
    for number, cell in enumerate(cells):
        cell.attachments = {"a.png": {"image/png": str(number)}}
    nb.cells[9:9] = cells[:1]
    nb.cells[8:8] = cells[1:]
    result = rebuild(nb, graded)
    assert result.notes == ["why was left as released; the text below it was taken as its answer"]
    why = result.nb.cells[at(result.nb, "why")]
    assert why.source == "![](attachment:a.png)\n\n![](attachment:1-a.png)"
    assert why.attachments == {"a.png": {"image/png": "1"}, "1-a.png": {"image/png": "2"}}
    assert result.nb.cells[-1].attachments == {"a.png": {"image/png": "0"}}


def test_a_release_with_comments_that_name_its_cells(mini) -> None:
    """The comment survives all that a program may lose, and is no reason to call a test changed."""
    released, graded, answers = copy.deepcopy(mini)
    for nb in (released, graded):
        for cell in nb.cells:
            comment = "# grade_id: {}\n" if cell.cell_type == "code" else "<!-- grade_id: {} -->\n"
            cell.source = comment.format(classroom.grade_id(cell)) + cell.source
    assert rebuild(released, graded).nb == graded
    nb = classroom.submission(released, {"largest": "# grade_id: largest\nanswer = max"})
    lost(nb)
    put_test = nb.cells[3]
    put_test.source = put_test.source.partition("\n")[2]
    nb.cells.reverse()
    result = rebuild(nb, graded)
    assert named(result.nb) == named(graded) | {"largest": "# grade_id: largest\nanswer = max"}
    assert (result.notes, result.missing, result.flagged) == ([], [], [])
    check_skeleton(result, graded)


# Properties.


@settings(max_examples=40)
@given(data=st.data())
def test_answers_come_back_whatever_is_lost(memory, data: st.DataObject) -> None:
    """Of any cells, in any order, with any of their metadata lost: each code answer that is there is found. A written
    one too, where it says what it is or stands between its neighbours."""
    released, graded, answers = memory
    nb = classroom.submission(released, answers)
    every = range(len(nb.cells))
    kept = data.draw(st.lists(st.sampled_from(every), unique=True, min_size=1))
    without = data.draw(st.sets(st.sampled_from(every)))
    for index in without:
        nb.cells[index].metadata = {}
    cells = [nb.cells[index] for index in kept]
    result = rebuild(nbformat.v4.new_notebook(cells=cells), graded)
    check_skeleton(result, graded)
    found = named(result.nb)
    there = {classroom.grade_id(graded.cells[index]) for index in kept}
    written = at(graded, "seventy_b")
    if written in without:
        there.discard("seventy_b")
        if any(kept[at : at + 3] == [written - 1, written, written + 1] for at in every):
            there.add("seventy_b")
    for name in answers:
        if name in there:
            assert found[name] == answers[name]
        elif name != "seventy_b":
            assert found[name] == named(graded)[name] and name in result.missing
    assert not [source for _, source in extras(result.nb) if source != answers["seventy_b"]]
    assert not [note for note in result.notes if "missing" not in note]


ODD = [
    new_code_cell("def double(x):\n    return x"),
    new_code_cell("def double(x):\n    return helper(x)\ndef largest(v):\n    return max(v)"),
    new_code_cell("# grade_id: double\nhelper = lambda x: x"),
    new_code_cell("# grade_id: largest\ndef largest(v)\n  return"),
    new_code_cell("# grade_id: test_double\n1"),
    new_code_cell("# answered in the cell of double"),
    new_code_cell("largest = max"),
    new_code_cell(STUB),
    new_code_cell("print('Welcome.')"),
    new_code_cell(""),
    new_raw_cell("def largest(v):\n    return v[0]"),
    new_markdown_cell("YOUR ANSWER HERE"),
    new_markdown_cell("my notes"),
    new_markdown_cell("<!-- grade_id: why -->\nanother answer"),
    new_markdown_cell("<!-- grade_id: text_02 -->\nhm"),
]
PLACE = st.integers(0, 20)
EDIT = st.one_of(
    st.tuples(st.sampled_from(["delete", "lose", "solve"]), PLACE, st.none()),
    st.tuples(st.sampled_from(["move", "copy"]), PLACE, PLACE),
    st.tuples(st.sampled_from(["insert", "replace", "append"]), PLACE, st.sampled_from(ODD)),
    st.tuples(st.just("type"), PLACE, st.sampled_from(["code", "markdown", "raw"])),
)


def edit(nb: NotebookNode, what: str, where: int, how: object) -> None:
    cells, where = nb.cells, where % len(nb.cells)
    if what == "delete" and len(cells) > 1:
        del cells[where]
    elif what == "lose":
        cells[where].metadata = {}
    elif what == "solve":
        cells[where].source = SOLVED.get(classroom.grade_id(cells[where]), cells[where].source)
    elif what == "move":
        cells.insert(how, cells.pop(where))
    elif what == "copy":
        cells.insert(how, copy.deepcopy(cells[where]))
    elif what == "insert":
        cells.insert(where, copy.deepcopy(how))
    elif what == "replace":
        cells[where].source = how.source
    elif what == "append":
        cells[where].source += f"\n{how.source}"
    elif what == "type":
        cells[where].cell_type = how


@settings(max_examples=150)
@given(edits=st.lists(EDIT, max_size=12))
def test_whatever_is_done_to_it_the_skeleton_holds(mini, edits: list[tuple]) -> None:
    """Every cell of the release is there once and in order, the locked ones as released; a second time changes nothing."""
    released, graded, _ = mini
    nb = copy.deepcopy(released)
    for one in edits:
        edit(nb, *one)
    before = copy.deepcopy(nb)
    result = rebuild(nb, graded)
    assert nb == before
    check_skeleton(result, graded)
