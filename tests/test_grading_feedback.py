"""Feedback pages hold no hidden test, rubric or solution, nor what was printed or raised about one."""

import html
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_output

from coursepkg.grading import classroom as grading
from coursepkg.grading.feedback import WITHHELD, HideTests
from coursepkg.grading.release import student_version
from tests import classroom
from tests.conftest import Graded


def page(root, student: str, assignment: str) -> str:
    """The text of a feedback page, without its styles."""
    path = root / "feedback" / student / assignment / f"{assignment}.html"
    body = path.read_text(encoding="utf-8").partition("<body")[2]
    return html.unescape(
        re.sub(r"<[^>]+>", "", re.sub(r"<(script|style).*?</\1>", "", body, flags=re.DOTALL))
    )


def test_no_page_holds_a_hidden_line(honest: Graded) -> None:
    secret = classroom.secret_lines(honest.instructors)
    assert len(secret) >= 3, "there is something to hide"
    for student, work in honest.students.items():
        text = page(honest.root, student, honest.assignment)
        answers = "\n".join(work.answers.values())
        leaked = [line for line in secret if line in text and line not in answers]
        assert leaked == [], f"{student}'s page"
        for marker in ("HIDDEN TESTS", "MARK SCHEME"):
            assert marker not in text


def test_a_grader_sees_hidden_tests_and_rubric_in_formgrader(honest: Graded) -> None:
    path = honest.root / "autograded" / "half" / honest.assignment / f"{honest.assignment}.ipynb"
    graded = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    instructors = [cell for cell in honest.instructors.cells if cell.metadata.nbgrader.locked]
    assert all(cell.source in graded for cell in instructors)


#: student → the body of an answer that only hidden tests find wrong, and what their page says of it.
REVEALING = {
    "asserts": ("largest", "    return max(values + [0])", "AssertionError: raised while hidden tests ran"),
    "checks": (
        "double",
        "    return 2 * x if x < 100 else 0",
        "Not yet: double is wrong for a large number. Hint:",
    ),
    "raises": (
        "largest",
        "    return {5: 5}[max(values)]",
        "KeyError: raised while hidden tests ran\n  in your line: return {5: 5}[max(values)]",
    ),
    "prints": (
        "largest",
        "    print('I was called with', values)\n    return 5",
        "raised while hidden tests ran",
    ),
    "names": (
        "double",
        "    if x > 100:\n        raise type(f'Got{x}', (Exception,), {})(x)\n    return 4",
        "Exception: raised while hidden tests ran\n  in your line: raise type(f'Got{x}'",
    ),
    "poses": (
        "double",
        "    if x > 100:\n        raise CheckFailed(f'the input was {x}')\n    return 4",
        "Exception: raised while hidden tests ran\n  in your line: raise CheckFailed(",
    ),
    "visibly": ("double", "    return {1: 2}[x]", "KeyError: 2\n  in your line: return {1: 2}[x]"),
    "displays": ("double", "    display(x)\n    return 2 * x", "Passed, the hidden tests too."),
}


@pytest.fixture(scope="module")
def revealing(tmp_path_factory):
    root = classroom.make_course(tmp_path_factory.mktemp("revealing"))
    classroom.shorten_limits(root)
    released = student_version(classroom.notebook(), classroom.MINI, root)
    for student, (exercise, body, _) in REVEALING.items():
        argument = {"double": "x", "largest": "values"}[exercise]
        nb = classroom.submission(released, {exercise: f"def {exercise}({argument}):\n{body}"})
        # What a curious student adds at the end: the cells that ran, from IPython's own history.
        nb.cells.append(new_code_cell("print(In)\nIn[4]"))
        classroom.submit(root, student, nb)
    grading.main(classroom.MINI, root=root)
    return root


@pytest.mark.parametrize("student", REVEALING)
def test_an_answer_that_fails_hidden_tests_learns_nothing_of_them(revealing, student: str) -> None:
    text = page(revealing, student, classroom.MINI)
    assert REVEALING[student][2] in text
    for secret in classroom.SECRETS:
        assert secret not in text, secret
    assert WITHHELD in text, "the history that the last cell prints"


def test_the_score_of_an_answer_nobody_has_graded_is_not_shown_as_a_zero(graded_course: Graded) -> None:
    assert "Not graded yet" in page(graded_course.root, "perfect", classroom.MINI)
    assert "Not graded yet" not in page(graded_course.root, "blank", classroom.MINI)


def test_ordinary_output_is_left_alone(graded_course: Graded) -> None:
    text = page(graded_course.root, "blank", classroom.MINI)
    assert "NotImplementedError" in text and WITHHELD not in text
    assert HideTests().enabled


def test_outputs_are_compared_as_text_whatever_their_form() -> None:
    from coursepkg.grading.feedback import _unless_telling

    secret = {"assert double(31337) == 62674"}
    source = "x\n    assert double(31337) == 62674\ny"
    for output in (
        new_output("stream", text=source),
        new_output("execute_result", data={"text/html": f"<pre>{source}</pre>"}),
        new_output("error", ename="A", evalue="", traceback=["\x1b[31massert \x1b[0mdouble(31337) == 62674"]),
    ):
        assert _unless_telling(output, secret).text.strip() == WITHHELD
