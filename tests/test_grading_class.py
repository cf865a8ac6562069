"""An honest class gets the right scores from one command, and a second run of it changes nothing."""

import io
import sqlite3
import time

import nbformat
import pytest
from rich.console import Console

from coursepkg.grading import classroom as grading
from coursepkg.grading.course import Course, CourseError
from coursepkg.grading.release import student_version
from coursepkg.grading.states import State
from tests import classroom
from tests.conftest import Graded


def regrade(root, assignment=classroom.MINI, **options):
    printed = io.StringIO()
    standings = grading.main(assignment, console=Console(file=printed, width=140), root=root, **options)
    return {one.student: one for one in standings}, printed.getvalue()


def test_everyone_gets_the_points_of_the_exercises_they_solved(honest: Graded) -> None:
    points = {
        cell.metadata.nbgrader.grade_id.removeprefix("test_"): cell.metadata.nbgrader.points
        for cell in honest.instructors.cells
        if cell.cell_type == "code" and cell.metadata.nbgrader.grade
    }
    expected = {
        student: sum(points[exercise] for exercise in work.earns) for student, work in honest.students.items()
    }
    assert {student: honest.standings[student].automatic for student in honest.students} == expected


def test_a_written_answer_awaits_a_person_and_a_blank_one_does_not(honest: Graded) -> None:
    written = [
        cell
        for cell in honest.instructors.cells
        if cell.cell_type == "markdown" and cell.metadata.nbgrader.grade
    ]
    for student in ("perfect", "raises"):
        standing = honest.standings[student]
        assert (standing.state, standing.score, standing.manual) == (State.MANUAL, None, None)
        assert standing.awaiting == [cell.metadata.nbgrader.grade_id for cell in written]
    for student in ("blank", "half", "loops", "noisy"):
        standing = honest.standings[student]
        assert (standing.state, standing.manual, standing.score) == (State.GRADED, 0, standing.automatic)


def test_the_table_says_what_to_look_at(graded_course: Graded) -> None:
    rows = [line for line in graded_course.printed.splitlines() if line.startswith("│")]
    said = {line.split("│")[1].strip(): line for line in rows}
    assert "no answer: double, largest, why" in said["blank"]
    assert "largest" in said["half"]
    assert "KeyError" in said["raises"] and "needs manual grading" in said["raises"]
    assert "double: stopped after 4 s" in said["loops"]
    assert said["noisy"].split("│")[6].strip() == "no answer: why"


def test_a_second_run_grades_only_what_changed(tmp_path) -> None:
    root = make_class(tmp_path, {"ann": "    return 2 * x", "bob": "    return x"})
    regrade(root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.ipynb")}
    pages = {path: path.stat().st_mtime_ns for path in root.glob("feedback/*/*/*.html")}
    tables = {path: path.read_bytes() for path in (*root.glob("*.html"), *root.glob("*.csv"))}
    assert (len(pages), len(tables)) == (2, 2)
    start = time.perf_counter()
    standings, _ = regrade(root)
    assert time.perf_counter() - start < 2
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.ipynb")} == before
    assert {path: path.stat().st_mtime_ns for path in pages} == pages
    assert {path: path.read_bytes() for path in tables} == tables
    assert (standings["ann"].automatic, standings["bob"].automatic) == (2, 0)

    submit(root, "bob", "    return x + x")
    standings, _ = regrade(root)
    changed = {path.parts[-3] for path, stamp in before.items() if path.stat().st_mtime_ns != stamp}
    assert changed == {"bob"}
    assert standings["bob"].automatic == 2


def test_a_manual_grade_survives_and_stays_settled_while_its_answer_is_the_same(tmp_path) -> None:
    root = make_class(tmp_path, {"ann": "    return 2 * x"}, written="First answer.")
    assert regrade(root)[0]["ann"].awaiting == ["why"]
    give(root, "why", 3.5)
    page = next(root.glob("feedback/ann/*/*.html"))
    assert "Not graded yet" in page.read_text(encoding="utf-8")
    standing = regrade(root)[0]["ann"]
    assert (standing.state, standing.score, standing.manual) == (State.GRADED, 5.5, 3.5)
    assert "Score: 3.5 / 4.0" in page.read_text(encoding="utf-8"), "feedback follows a grade given by hand"
    standing = regrade(root, force=True)[0]["ann"]
    assert (standing.state, standing.score) == (State.GRADED, 5.5)

    submit(root, "ann", "    return 2 * x", written="Second answer.")
    standing = regrade(root)[0]["ann"]
    assert (standing.state, standing.manual, standing.awaiting) == (State.MANUAL, 3.5, ["why"])


def test_changed_tests_are_used_for_submissions_that_were_graded(tmp_path) -> None:
    root = make_class(tmp_path, {"ann": "    return 2 * x"})
    assert regrade(root)[0]["ann"].automatic == 2
    path = Course.open(root).instructors(classroom.MINI)
    nb = nbformat.read(path, as_version=4)
    test = next(cell for cell in nb.cells if cell.metadata.nbgrader.grade_id == "test_double")
    test.source = "assert double(2) == 5"
    nbformat.write(nb, path)
    assert regrade(root)[0]["ann"].automatic == 0


@pytest.mark.parametrize(
    ("assignment", "students", "message"),
    [
        (
            "91_none",
            (),
            "No assignment 91_none: there is no solutions/91_none/91_none.ipynb. The course has: 90_mini.",
        ),
        (classroom.MINI, (), "No submissions of 90_mini. Collect them"),
        (classroom.MINI, ("zoe",), "No submissions of 90_mini."),
    ],
)
def test_what_is_missing_is_said_before_anything_is_written(tmp_path, assignment, students, message) -> None:
    root = classroom.make_course(tmp_path)
    before = sorted(root.rglob("*"))
    with pytest.raises(CourseError) as error:
        grading.main(assignment, students=students, root=root)
    assert str(error.value).startswith(message)
    assert sorted(root.rglob("*")) == before


def test_outside_a_course_it_says_where_to_run(tmp_path) -> None:
    with pytest.raises(CourseError, match="Run this in your clone of the course"):
        Course.open(tmp_path)


def make_class(root, students: dict[str, str], written: str | None = None):
    """A miniature course with a submission by each: the body of their `double`."""
    classroom.make_course(root)
    classroom.shorten_limits(root)
    for student, body in students.items():
        submit(root, student, body, written)
    return root


def submit(root, student: str, body: str, written: str | None = None) -> None:
    released = student_version(classroom.notebook(), classroom.MINI, root)
    answers = {"double": f"def double(x):\n{body}"} | ({"why": written} if written else {})
    classroom.submit(root, student, classroom.submission(released, answers))


def give(root, cell: str, points: float) -> None:
    """What formgrader stores when a person has graded a cell."""
    with sqlite3.connect(root / "gradebook.db") as database:
        changed = database.execute(
            "update grade set manual_score = ?, needs_manual_grade = 0 "
            "where cell_id in (select id from base_cell where name = ?)",
            (points, cell),
        )
        assert changed.rowcount == 1


def test_a_sandbox_that_does_not_exist_is_said_before_anything_is_graded(tmp_path) -> None:
    root = make_class(tmp_path, {"ann": "    return 2 * x"})
    with pytest.raises(CourseError, match="There is no sandbox 'cage'; there are best, namespaces"):
        regrade(root, sandbox="cage")
    assert not (root / "autograded").exists()
