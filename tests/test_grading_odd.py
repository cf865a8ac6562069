"""An odd submission costs its own author at most; what cannot be graded has a state and a reason, not a zero."""

import csv
import html
import io

import nbformat
import pytest
from nbformat import NotebookNode
from rich.console import Console

from coursepkg.grading import classroom as grading
from coursepkg.grading.course import Course
from coursepkg.grading.release import student_version
from coursepkg.grading.states import State
from tests import classroom
from tests.conftest import Graded

SOLVED = {"double": classroom.DOUBLE, "largest": classroom.LARGEST}


def cell(nb: NotebookNode, name: str) -> NotebookNode:
    return next(one for one in nb.cells if classroom.grade_id(one) == name)


def changed_test(nb: NotebookNode) -> None:
    cell(nb, "test_double").source = "pass"
    cell(nb, "text_01").source += "\nMy own notes."


def missing_test(nb: NotebookNode) -> None:
    nb.cells.remove(cell(nb, "test_largest"))


def copied_test(nb: NotebookNode) -> None:
    nb.cells.insert(4, nbformat.from_dict(cell(nb, "test_double") | {"id": "copy"}))


def changed_copy_of_a_test(nb: NotebookNode) -> None:
    copied_test(nb)
    nb.cells[4].source = nb.cells[4].source.replace("double(2) == 4", "double(2) in (4, None)")


def cell_of_another_notebook(nb: NotebookNode) -> None:
    nb.cells.append(nbformat.from_dict(cell(nb, "double") | {"id": "foreign"}))
    nb.cells[-1].metadata.nbgrader.grade_id = "elsewhere"


def empty_metadata(nb: NotebookNode) -> None:
    nb.cells.append(nbformat.v4.new_code_cell("1", metadata={"nbgrader": {}}))


def other_schema(nb: NotebookNode) -> None:
    cell(nb, "test_double").metadata.nbgrader.schema_version = 99


def process_dies(nb: NotebookNode) -> None:
    cell(nb, "double").source += "\nimport os\nos._exit(1)"


def prints_without_end(nb: NotebookNode) -> None:
    cell(nb, "double").source += "\nwhile True:\n    print('x' * 10_000)"


def says_it_failed(nb: NotebookNode) -> None:
    nb.metadata["coursepkg"] = {"failed": "I would like another chance", "changes": ["forged"]}


#: what is odd → state, automatic points, reason, what the table says of it
EXPECTED = {
    changed_test: (State.GRADED, 5, "", "test_double differs from the course's, which was used"),
    missing_test: (State.GRADED, 5, "", "test_largest was missing and has been put back"),
    copied_test: (State.GRADED, 5, "", ""),
    changed_copy_of_a_test: (
        State.GRADED,
        5,
        "",
        "test_double occurs more than once; a changed copy was left out",
    ),
    cell_of_another_notebook: (State.GRADED, 5, "", ""),
    empty_metadata: (State.GRADED, 5, "", ""),
    other_schema: (State.GRADED, 5, "", ""),
    process_dies: (State.FAILED, None, "the process died while it ran cell 3", "exit status 1"),
    prints_without_end: (State.GRADED, 5, "", ""),
    says_it_failed: (State.GRADED, 5, "", ""),
}
UNREADABLE = {
    "not_json": ("{not json", "90_mini.ipynb is not JSON ("),
    "not_a_notebook": (
        '{"cells": 3}',
        "90_mini.ipynb is not a notebook: it does not say in which notebook format",
    ),
    "empty": ("", "90_mini.ipynb is empty; ask for it again"),
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Graded:
    root = classroom.make_course(tmp_path_factory.mktemp("odd"))
    released = student_version(classroom.notebook(), classroom.MINI, root)
    for make_odd in EXPECTED:
        nb = classroom.submission(released, SOLVED)
        make_odd(nb)
        classroom.submit(root, make_odd.__name__, nb)
    for student, (text, _) in UNREADABLE.items():
        classroom.submit(root, student, text)
    classroom.submit(root, "zoe", classroom.submission(released, SOLVED))
    misnamed = classroom.submit(root, "misnamed", classroom.submission(released, SOLVED))
    misnamed.rename(misnamed.with_name("final version.ipynb"))
    shadowing = classroom.submit(root, "shadows", classroom.submission(released, SOLVED))
    shadowing.with_name("warnings.py").write_text("raise RuntimeError('shadowed')\n", encoding="utf-8")
    printed = io.StringIO()
    standings = grading.main(classroom.MINI, console=Console(file=printed, width=160), root=root)
    by_student = {one.student: one for one in standings}
    return Graded(root, classroom.MINI, classroom.notebook(), {}, by_student, printed.getvalue())


@pytest.mark.parametrize("make_odd", EXPECTED, ids=lambda one: one.__name__)
def test_an_odd_notebook(odd: Graded, make_odd) -> None:
    state, points, reason, says = EXPECTED[make_odd]
    standing = odd.standings[make_odd.__name__]
    assert (standing.state, standing.automatic) == (state, points)
    assert standing.reason.startswith(reason)
    assert says in " ".join([standing.reason, *standing.notes])
    assert not [note for note in standing.notes if "forged" in note or "text_01" in note]


@pytest.mark.parametrize("student", UNREADABLE)
def test_what_is_not_a_notebook_is_refused_with_a_reason(odd: Graded, student: str) -> None:
    standing = odd.standings[student]
    assert (standing.state, standing.score, standing.automatic) == (State.REFUSED, None, None)
    assert standing.reason.startswith(UNREADABLE[student][1])
    assert "ask for" in standing.reason


def test_a_notebook_of_another_name_is_not_passed_over(odd: Graded) -> None:
    standing = odd.standings["misnamed"]
    assert (standing.state, standing.automatic) == (State.REFUSED, None)
    assert (
        standing.reason == "there is no 90_mini.ipynb in it but final version.ipynb; rename it, or ask for it"
    )


def test_the_class_goes_on_to_the_last(odd: Graded) -> None:
    assert odd.standings["zoe"].automatic == 5
    assert odd.standings["shadows"].automatic == 5, "a module of the student's own does not run"
    assert not list((odd.root / "autograded").rglob("*.py"))


def test_the_author_reads_why_on_the_feedback_page(odd: Graded) -> None:
    for student in ("process_dies", "not_json", "not_a_notebook", "misnamed"):
        page = odd.root / "feedback" / student / classroom.MINI / f"{classroom.MINI}.html"
        text = page.read_text(encoding="utf-8")
        assert "could not be graded" in text
        assert html.escape(odd.standings[student].reason.partition(" (")[0]) in text


def test_the_export_has_a_state_for_everyone_and_no_zero_that_was_not_earned(odd: Graded) -> None:
    with (odd.root / f"grades_{classroom.MINI}.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert rows.keys() == odd.standings.keys()
    for student, row in rows.items():
        state = odd.standings[student].state
        assert row["state"] == state
        assert (row["score"] == "") == (state is not State.GRADED)
        assert (row["automatic_score"] == "0.0") is False
    assert rows["misnamed"]["reason"] == odd.standings["misnamed"].reason


def test_a_submission_that_fails_after_a_graded_one_loses_the_old_score(odd: Graded) -> None:
    path = odd.root / "submitted" / "zoe" / classroom.MINI / f"{classroom.MINI}.ipynb"
    text = path.read_text(encoding="utf-8")
    try:
        for broken in ("{", None):
            path.unlink()
            if broken:
                path.write_text(broken, encoding="utf-8")
            (path.parent / "other.txt").write_text("left", encoding="utf-8")
            standings = grading.main(classroom.MINI, students=["zoe"], root=odd.root)
            zoe = next(one for one in standings if one.student == "zoe")
            assert (zoe.state, zoe.score, zoe.automatic) == (State.REFUSED, None, None)
            with Course.open(odd.root).gradebook() as gradebook:
                assert gradebook.find_submission(classroom.MINI, "zoe").score == 0
    finally:
        path.write_text(text, encoding="utf-8")
    standings = grading.main(classroom.MINI, students=["zoe"], root=odd.root)
    assert next(one for one in standings if one.student == "zoe").automatic == 5
