"""The builder, on a tiny course in a temporary folder: two masters, one lecture and one assignment."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest

from tools import build, compared
from tools.address import Address
from tools.lecture import WIDGET, clean
from tools.masters import Master, MasterError, lectures, read

PYPROJECT = '[project]\nname = "coursepkg"\n[project.urls]\nRepository = "https://github.com/some/where"\n'
README = "".join(
    f"<!-- build: {part} -->\n<!-- end: {part} -->\n" for part in ("badges", "clone", "lectures")
)
NBGRADER = """\
c = get_config()
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.ignore = ["*.py"]
c.ClearMarkScheme.enforce_metadata = False
"""
LECTURE = """\
# %% [markdown]
# # A lecture
# [Colab]({{ colab }}), $x_{{i}}$

# %%
import sys
import time
from IPython.display import Image, display
from ipywidgets import IntSlider
# %pip --version

# %%
print("one")
time.sleep(0.05)
sys.stdout.flush()
print("two")
display(IntSlider(3))

# %% tags=["nbval-ignore-output"]
print("not compared")

# %%
40 + 2
"""
ASSIGNMENT = '''\
# %% [markdown]
# # An assignment

# %% solution="double"
def double(number: int) -> int:
    """Twice the number."""
    ### BEGIN SOLUTION
    return 2 * number
    ### END SOLUTION


# %% test="double" points=3
assert double(2) == 4
### BEGIN HIDDEN TESTS
assert double(-7) == -14
### END HIDDEN TESTS

# %% [markdown] written="why" points=4
# Because a secret answer.

# %% [markdown] rubric="why"
# How this is graded.
#
# ### BEGIN MARK SCHEME
# A secret rubric.
# ### END MARK SCHEME
'''


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A repository root with masters and nothing built."""
    files = {
        "pyproject.toml": PYPROJECT,
        "README.md": README,
        "nbgrader_config.py": NBGRADER,
        "tools/lectures.toml": '00_first = "The first"\n01_second = "The second"\n',
        "notebooks/00_first.py": LECTURE,
        "solutions/01_second/01_second.py": ASSIGNMENT,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    return tmp_path


def contents(course: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(course.rglob("*")) if path.is_file()}


def test_a_build_is_complete_checks_and_gives_the_same_bytes_twice(course, capsys):
    assert build.main(["--check"], course) == 1
    assert "notebooks/00_first.ipynb: is missing" in capsys.readouterr().out
    assert build.main([], course) == 0
    first = contents(course)
    assert build.main(["--check"], course) == 0
    assert build.main([], course) == 0
    assert contents(course) == first


def test_a_lecture_keeps_text_outputs_and_nothing_that_changes_from_run_to_run(course):
    build.main([], course)
    notebook = nbformat.read(course / "notebooks/00_first.ipynb", as_version=4)
    assert [cell.id for cell in notebook.cells] == [f"00_first-{n}" for n in range(1, 6)]
    assert "blob/main/notebooks/00_first.ipynb" in notebook.cells[0].source
    assert "$x_{{i}}$" in notebook.cells[0].source
    assert notebook.cells[1].source.endswith("%pip --version")
    printed, widget = notebook.cells[2].outputs
    assert printed.text == "one\ntwo\n"
    assert list(widget.data) == ["text/plain"]
    assert notebook.cells[4].outputs[0].data["text/plain"] == "42"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert all(not set(cell.metadata) - {"tags"} for cell in notebook.cells)


def test_the_student_version_has_no_answer_hidden_test_or_rubric(course):
    build.main([], course)
    instructor = (course / "solutions/01_second/01_second.ipynb").read_text(encoding="utf-8")
    student = (course / "notebooks/assignments/01_second.ipynb").read_text(encoding="utf-8")
    for secret in ("2 * number", "double(-7)", "secret answer", "secret rubric"):
        assert secret in instructor
        assert secret not in student
    cells = nbformat.reads(student, as_version=4).cells
    names = [cell.metadata.nbgrader.grade_id for cell in cells]
    assert names == ["text_01", "double", "test_double", "why", "rubric_why"]
    assert "How this is graded." in student and "assert double(2) == 4" in student


def test_the_student_version_is_what_nbgrader_releases(course):
    build.main([], course)
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", "01_second", "--create"]
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    subprocess.run(command, cwd=course, env=os.environ | {"PATH": path}, check=True, capture_output=True)
    released = nbformat.read(course / "release/01_second/01_second.ipynb", as_version=4)
    assert build.text(released) == (course / "notebooks/assignments/01_second.ipynb").read_text(
        encoding="utf-8"
    )
    assert [path.name for path in (course / "release").rglob("*") if path.is_file()] == ["01_second.ipynb"]


def test_a_lecture_that_fails_leaves_the_committed_file_and_names_the_cell(course, capsys):
    build.main([], course)
    before = (course / "notebooks/00_first.ipynb").read_bytes()
    master = course / "notebooks/00_first.py"
    master.write_text(LECTURE + "\n# %%\n1 / 0\n\n# %%\nprint('never')\n", encoding="utf-8")
    assert build.main([], course) == 1
    assert "cell 00_first-6 ('1 / 0' ...): ZeroDivisionError: division by zero" in capsys.readouterr().out
    assert (course / "notebooks/00_first.ipynb").read_bytes() == before


def test_the_check_sees_each_kind_of_drift(course, capsys):
    build.main([], course)
    built = contents(course)
    lecture, student = course / "notebooks/00_first.ipynb", course / "notebooks/assignments/01_second.ipynb"
    text = lecture.read_text(encoding="utf-8")
    unrun = nbformat.reads(text, as_version=4)
    unrun.cells[4].outputs, unrun.cells[4].execution_count = [], None
    drifts = {
        "cell 00_first-5 is not what its master says": (lecture, text.replace("40 + 2", "40 + 3")),
        "cell 00_first-5 was never run": (lecture, build.text(unrun)),
        "was saved by something other than the builder": (lecture, text.replace('\n "cells"', '\n  "cells"')),
        "its metadata is not what": (lecture, text.replace('"language": "python"', '"language": "R"')),
        "cell 01_second-3 is not what": (
            student,
            student.read_text(encoding="utf-8").replace("== 4", "== 5"),
        ),
        "02_stray.ipynb: has no master": (course / "notebooks/02_stray.ipynb", text),
        "README.md: its built parts": (course / "README.md", README),
        "tests/nbval_floor.toml: is not": (course / "tests/nbval_floor.toml", "00_first = 1\n"),
    }
    for message, (path, changed) in drifts.items():
        path.write_text(changed, encoding="utf-8", newline="\n")
        capsys.readouterr()
        assert build.main(["--check"], course) == 1, message
        assert message in capsys.readouterr().out
        path.unlink()
        for original, content in built.items():
            original.write_bytes(content)
    assert build.main(["--check"], course) == 0


def test_prose_can_change_without_a_run_but_code_cannot(course):
    build.main([], course)
    master, notebook = course / "notebooks/00_first.py", course / "notebooks/00_first.ipynb"
    master.write_text(LECTURE.replace("A lecture", "Another title"), encoding="utf-8")
    assert build.main(["--no-execute"], course) == 0
    assert build.main(["--check"], course) == 0
    assert "Another title" in notebook.read_text(encoding="utf-8")
    master.write_text(LECTURE.replace("40 + 2", "40 + 3"), encoding="utf-8")
    build.main(["--no-execute"], course)
    assert build.main(["--check"], course) == 1


def test_a_floor_rises_by_itself_and_falls_only_by_hand(course, capsys):
    build.main([], course)
    floor = course / "tests/nbval_floor.toml"
    assert compared.floors(course) == {"00_first": 3}
    master = course / "notebooks/00_first.py"
    master.write_text(LECTURE.replace("40 + 2", "answer = 40 + 2"), encoding="utf-8")
    build.main([], course)
    assert compared.floors(course) == {"00_first": 3}
    capsys.readouterr()
    assert build.main(["--check"], course) == 1
    assert (
        "00_first: nbval compares 2 cells, the floor in tests/nbval_floor.toml is 3"
        in capsys.readouterr().out
    )
    floor.write_text(floor.read_text(encoding="utf-8").replace("= 3", "= 2"), encoding="utf-8", newline="\n")
    assert build.main(["--check"], course) == 0


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ('solution="a b"', "write a name in lower case"),
        ('solution="a" points=2', "points=2 on solution="),
        ('test="a"', "points=None on test="),
        ('test="a" points=0', "points=0 on test="),
        ('test="a" points=2', "exercise a needs one solution cell and one test cell"),
        ('[markdown] test="a" points=2', "it belongs on a code cell"),
        ('written="a" points=2', "it belongs on a markdown cell"),
        ('[markdown] rubric="a"', "rubric_a lacks the lines BEGIN MARK SCHEME and END MARK SCHEME"),
        ('solution="double"', "occurs more than once: double"),
        ('solution="a" test="a"', "in one cell"),
        ("colour=3", "unknown in its header: colour"),
        ("[raw]", "a raw cell"),
    ],
)
def test_a_header_that_is_not_understood_is_an_error_that_says_where(course, header, message):
    path = course / "solutions/01_second/01_second.py"
    path.write_text(f"{ASSIGNMENT}\n# %% {header}\n# text\n", encoding="utf-8")
    with pytest.raises(MasterError, match="solutions/01_second/01_second.py") as error:
        read(Master(course, path, graded=True), Address.of(course))
    assert message in str(error.value)


def test_a_test_that_borrows_a_name_from_another_cell_is_refused(course):
    """A student may have bound the name to something else, and would lose points for it."""
    path = course / "solutions/01_second/01_second.py"
    exercise = """
# %% solution="half"
def half(number):
    ### BEGIN SOLUTION
    return number / 2
    ### END SOLUTION

# %% test="half" points=1
assert half(4) == 2 and math.isclose(half(3), 1.5)
"""
    path.write_text(f"{ASSIGNMENT}\n{exercise}", encoding="utf-8")
    with pytest.raises(MasterError, match="test half uses math, which a student's cell may have bound"):
        read(Master(course, path, graded=True), Address.of(course))
    path.write_text(
        f"{ASSIGNMENT}\n{exercise.replace('assert half', 'import math; assert half')}", encoding="utf-8"
    )
    read(Master(course, path, graded=True), Address.of(course))


def test_a_lecture_has_no_exercises(course):
    (course / "notebooks/00_first.py").write_text('# %% solution="a"\n1\n', encoding="utf-8")
    with pytest.raises(MasterError, match="belongs in an assignment"):
        read(lectures(course)[0], Address.of(course))


def test_an_address_that_is_not_on_github_is_refused(course):
    (course / "pyproject.toml").write_text(PYPROJECT.replace("github.com", "example.org"), encoding="utf-8")
    with pytest.raises(ValueError, match="https://github.com/owner/name"):
        Address.of(course)


def test_streams_join_and_views_of_widgets_go():
    output = nbformat.v4.new_output
    cell = nbformat.v4.new_code_cell(
        outputs=[
            output("stream", name="stdout", text="a"),
            output("stream", name="stdout", text="b"),
            output("stream", name="stderr", text="c"),
            output("display_data", data={WIDGET: {"model_id": "1"}}),
            output("stream", name="stdout", text="d"),
        ]
    )
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {}})
    clean(notebook)
    assert [(out.name, out.text) for out in cell.outputs] == [
        ("stdout", "ab"),
        ("stderr", "c"),
        ("stdout", "d"),
    ]
    assert "widgets" not in notebook.metadata
