"""From the outputs of a test cell to points."""

import logging

import pytest
from nbformat.v4 import new_code_cell, new_output

from coursepkg.grading.scores import score_of

LOG = logging.getLogger("tests.scores")


def points(*outputs, maximum: float = 3) -> float:
    metadata = {
        "nbgrader": {"grade": True, "solution": False, "locked": True, "grade_id": "t", "points": maximum}
    }
    return score_of(new_code_cell("1", metadata=metadata, outputs=list(outputs)), LOG)


def value(text: str):
    return new_output("execute_result", data={"text/plain": text})


ERROR = new_output("error", ename="CheckFailed", evalue="no", traceback=[])
WARNING = new_output("stream", name="stderr", text="UserWarning: slow\n 50%|#####     | 1/2")


def test_all_points_without_an_error_and_none_with_one() -> None:
    assert points() == 3
    assert points(ERROR) == 0


def test_stderr_is_not_an_error() -> None:
    assert points(WARNING) == 3
    assert points(WARNING, ERROR) == 0


@pytest.mark.parametrize(
    ("text", "earned"),
    [
        ("1.5", 1.5),
        ("0", 0),
        ("np.float64(2.0)", 2),
        ("tensor(2.5000, dtype=torch.float64)", 2.5),
        ("'done'", 3),
        ("True", 3),
    ],
)
def test_a_number_as_last_value_is_partial_credit(text: str, earned: float) -> None:
    assert points(value(text)) == earned


@pytest.mark.parametrize(("text", "earned"), [("7", 3), ("-1", 0), ("nan", 0), ("inf", 3), ("-inf", 0)])
def test_partial_credit_is_bounded_and_the_log_says_where(text: str, earned: float, caplog) -> None:
    assert points(value(text)) == earned
    assert caplog.messages == [f"t returned {text} points of 3; {earned:g} were given"]


def test_an_error_after_a_number_earns_nothing() -> None:
    assert points(value("2"), ERROR) == 0


def test_a_value_without_text_does_not_fail_the_submission() -> None:
    assert points(new_output("execute_result", data={"image/png": "aGk="})) == 3
