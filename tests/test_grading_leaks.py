"""What is released holds nothing that belongs to the instructor."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest
from nbgrader.converters import GenerateAssignment

from coursepkg.grading.course import Course
from coursepkg.grading.prove import read_mutants
from tests import classroom

#: What may lie in a release beside notebooks: data that the exercises read.
DATA = {".csv", ".json", ".npz", ".png", ".safetensors", ".txt"}


@pytest.fixture(scope="module", params=[classroom.MINI, *classroom.ASSIGNMENTS])
def release(request, tmp_path_factory) -> tuple[Course, str, Path]:
    """An assignment of a course and the folder that `nbgrader generate_assignment` makes of it."""
    assignment = request.param
    root = tmp_path_factory.mktemp("release")
    classroom.make_course(root, *[name for name in [assignment] if name != classroom.MINI])
    source = root / "solutions" / assignment
    (source / ".ipynb_checkpoints").mkdir()
    shutil.copy(source / f"{assignment}.ipynb", source / ".ipynb_checkpoints" / "old.ipynb")
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "x.pyc").write_bytes(b"x")
    (source / "helpers").mkdir()
    (source / "helpers" / "answers.py").write_text("ANSWER = 42\n", encoding="utf-8")
    course = Course.open(root)
    course.coursedir.assignment_id = assignment
    GenerateAssignment(coursedir=course.coursedir, config=course.config, log=course.log).start()
    return course, assignment, root / "release" / assignment


def test_only_the_notebook_and_data_are_released(release) -> None:
    _, assignment, folder = release
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    others = [name for name in names if name != f"{assignment}.ipynb"]
    assert len(names) - len(others) == 1
    assert [name for name in others if Path(name).suffix not in DATA] == []
    if assignment == classroom.MINI:
        assert others == ["numbers.csv"]


def test_no_secret_line_is_released(release) -> None:
    course, assignment, folder = release
    secret = classroom.secret_lines(course.instructors_notebook(assignment))
    assert len(secret) >= 3
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file())
    notebook = json.loads((folder / f"{assignment}.ipynb").read_text(encoding="utf-8"))
    text += "\n".join("".join(cell["source"]) for cell in notebook["cells"])
    assert [line for line in secret if line in text] == []
    for marker in ("BEGIN SOLUTION", "BEGIN HIDDEN", "BEGIN MARK", "END SOLUTION", "END HIDDEN", "END MARK"):
        assert marker not in text


def test_no_mutant_is_released(release) -> None:
    course, assignment, folder = release
    text = (folder / f"{assignment}.ipynb").read_text(encoding="utf-8")
    for mutant in read_mutants(course.instructors(assignment).with_name("mutants.toml")):
        assert mutant.name not in text


def test_a_rubric_cell_shows_the_student_something_and_its_rubric_to_no_one(release) -> None:
    course, assignment, folder = release
    instructors = {
        classroom.grade_id(cell): cell.source for cell in course.instructors_notebook(assignment).cells
    }
    rubrics = [name for name in instructors if name.startswith("rubric_")]
    assert rubrics
    released = nbformat.read(folder / f"{assignment}.ipynb", as_version=4)
    for cell in released.cells:
        if classroom.grade_id(cell) in rubrics:
            assert cell.source.strip()
            assert len(cell.source) < len(instructors[classroom.grade_id(cell)]), "something was taken out"


def test_a_released_notebook_has_no_outputs_and_stubs_that_say_so(release) -> None:
    _, assignment, folder = release
    for cell in nbformat.read(folder / f"{assignment}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
        if classroom.is_answer(cell):
            assert "raise NotImplementedError()" in cell.source
