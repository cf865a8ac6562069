"""What every test file shares: hypothesis draws the same examples every time and writes nothing to disk; a class that
has been graded is graded once."""

import io
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from nbformat import NotebookNode
from rich.console import Console

from tests import classroom

settings.register_profile("course", database=None, deadline=None, derandomize=True)
settings.load_profile("course")


@dataclass(frozen=True)
class Graded:
    """A class that `coursepkg grade` has graded: the course's folder, the assignment, what it printed."""

    root: Path
    assignment: str
    instructors: NotebookNode
    students: dict[str, classroom.Student]
    standings: dict
    printed: str


@pytest.fixture(scope="session")
def grade_class(tmp_path_factory: pytest.TempPathFactory):
    """A function that has the honest class take an assignment and grades it, the first time it is asked to."""
    graded: dict[str, Graded] = {}

    def grade(assignment: str) -> Graded:
        if assignment not in graded:
            graded[assignment] = _grade(assignment, tmp_path_factory.mktemp(assignment))
        return graded[assignment]

    return grade


def _grade(assignment: str, root: Path) -> Graded:
    from coursepkg.grading import classroom as grading
    from coursepkg.grading.course import Course
    from coursepkg.grading.release import student_version

    if assignment == classroom.MINI:
        classroom.make_course(root)
        classroom.shorten_limits(root)
    else:
        classroom.make_course(root, assignment)
    instructors = Course.open(root).instructors_notebook(assignment)
    released = student_version(instructors, assignment, root)
    students = classroom.honest_class(instructors)
    for student, work in students.items():
        classroom.submit(root, student, classroom.submission(released, work.answers), assignment)
    printed = io.StringIO()
    standings = grading.main(assignment, console=Console(file=printed, width=140), root=root)
    return Graded(
        root, assignment, instructors, students, {one.student: one for one in standings}, printed.getvalue()
    )


@pytest.fixture(scope="session")
def graded_course(grade_class) -> Graded:
    """The miniature course after `coursepkg grade`: formgrader and feedback pages have something to show."""
    return grade_class(classroom.MINI)


@pytest.fixture(scope="session", params=[classroom.MINI, *classroom.ASSIGNMENTS])
def honest(request: pytest.FixtureRequest, grade_class) -> Graded:
    """The honest class, graded: of the miniature and of every assignment of the course."""
    return grade_class(request.param)
