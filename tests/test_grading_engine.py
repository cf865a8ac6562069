"""Tests and answers that call each other between two processes, and what happens where no process can be had."""

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from coursepkg.grading.engine.crew import Crew
from coursepkg.grading.engine.jobs import NoWorkers, Spec
from tests import engine

ANSWER = """\
def twice(f, x):
    return f(f(x))

def half(x):
    if x % 2:
        raise ValueError("odd")
    return x // 2
"""
DIES = Spec(imports="import os; os._exit(1)")


def notebook(test: str) -> NotebookNode:
    marks = {"grade": False, "solution": True, "locked": False, "schema_version": 3, "task": False}
    answer = new_code_cell(ANSWER, metadata={"nbgrader": {**marks, "grade_id": "answer"}})
    return nbformat.v4.new_notebook(cells=[answer, engine.test_cell("test", test)])


@pytest.mark.parametrize(
    "test",
    [
        "assert twice(lambda x: x + 1, 3) == 5",
        "assert twice(lambda x: half(x) + half(4), 8) == 5",
        "assert twice(lambda x: twice(lambda y: half(y), 2 * x), 16) == 4",
        "try:\n    twice(lambda x: half(x), 6)\nexcept ValueError as error:\n    assert str(error) == 'odd'\nelse:\n    assert False",
    ],
    ids=[
        "a function of the test's",
        "calls an answer",
        "that calls one of the test's",
        "an error passes both ways",
    ],
)
def test_a_test_hands_its_own_functions_to_answers(test: str) -> None:
    nb = engine.run_notebook(notebook(test))
    assert engine.error(nb.cells[1]) == ""


def test_a_function_of_the_tests_own_is_called_and_decides() -> None:
    nb = engine.run_notebook(notebook("assert twice(lambda x: half(x), 8) == 3"))
    assert engine.error(nb.cells[1]).startswith("AssertionError")


def test_packages_that_end_python_are_named() -> None:
    with Crew(DIES) as crew, pytest.raises(NoWorkers, match=r"os\._exit\(1\)"):
        _ = crew.level
