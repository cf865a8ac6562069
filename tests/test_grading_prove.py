"""The proof of an assignment's tests holds where it should and fails where it must."""

import io

import nbformat
import pytest
from rich.console import Console

from coursepkg.grading import prove as proving
from coursepkg.grading.course import Course, CourseError
from tests import classroom

MINI = classroom.MINI


@pytest.fixture
def root(tmp_path):
    return classroom.make_course(tmp_path)


def problems(root) -> str:
    """All that the proof of the miniature finds wrong."""
    proof = proving.prove(Course.open(root), MINI)
    found = proof.problems + [f"{one.name}: {text}" for one in proof.variants for text in one.problems]
    assert proof.holds == (not found)
    return "\n".join(found)


def change(root, cell: str, old: str, new: str) -> None:
    path = Course.open(root).instructors(MINI)
    nb = nbformat.read(path, as_version=4)
    found = next(one for one in nb.cells if classroom.grade_id(one) == cell)
    assert old in found.source
    found.source = found.source.replace(old, new)
    nbformat.write(nb, path)


def mutant(root, **entries: str) -> None:
    """Add a mutant."""
    text = "\n".join(f"{key} = '''{value}'''" for key, value in entries.items())
    with (root / "solutions" / MINI / "mutants.toml").open("a", encoding="utf-8", newline="\n") as file:
        file.write(f"\n[[mutant]]\n{text}\n")


def test_it_holds_and_prints_every_variant(root) -> None:
    printed = io.StringIO()
    assert proving.main([], Console(file=printed, width=140), root)
    assert printed.getvalue().count("as it should be") == 14
    for name in ("blank", "solution, by nbgrader alone", "starts at zero"):
        assert name in printed.getvalue()


def test_a_mutant_that_no_test_catches(root) -> None:
    mutant(root, exercise="double", name="wrong for halves", replace="2 * x", by="2 * x if x != 0.5 else 0")
    assert problems(root) == "wrong for halves: is not caught by the tests of double"


def test_a_test_that_passes_everything(root) -> None:
    change(root, "test_double", "assert double(2) == 4, 'double(2) should be 4'", "pass")
    change(root, "test_double", "if double(secret_offset) != 62674:", "if False:")
    text = problems(root)
    assert "blank: is not caught by the tests of double" in text
    assert "blank, by nbgrader alone: is not caught by the tests of double" in text


def test_a_solution_that_fails_its_own_tests(root) -> None:
    change(root, "double", "2 * x", "2 * x + 1")
    text = problems(root)
    for solution in ("solution", "solution, by nbgrader alone"):
        assert f"{solution}: loses double: AssertionError: double(2) should be 4" in text
    assert "lost only" not in text
    assert "occurs 1 times" not in text


def test_a_mutant_that_costs_another_exercise(root) -> None:
    change(root, "test_largest", "assert largest([1, 5, 3]) == 5", "assert largest([1, double(2), 3]) == 4")
    assert "triples: loses largest: AssertionError" in problems(root)


def test_a_mutant_that_does_not_run(root) -> None:
    mutant(root, exercise="double", name="misspelt", replace="2 * x", by="2 * y")
    mutant(root, exercise="double", name="no Python", replace="2 * x", by="2 *")
    text = problems(root)
    assert "misspelt: is not a wrong answer but a broken one: NameError" in text
    assert "no Python: cell 3 (double) raised SyntaxError" in text


def test_a_test_that_calls_twice_with_one_list(root) -> None:
    change(
        root,
        "test_largest",
        "assert largest([1, 5, 3]) == 5",
        "values = [1, 5, 3]\nassert largest(values) == 5\nassert largest(values) == 5",
    )
    assert problems(root).startswith("solution that consumes its arguments: loses largest: IndexError")


def test_a_test_that_shares_a_nested_dict(root) -> None:
    change(root, "double", "return 2 * x", "return x['of']['n'] * 2 if isinstance(x, dict) else 2 * x")
    shared = "shared = {'of': {'n': 1}}\nassert double({**shared}) == 2\nassert double({**shared}) == 2\n"
    change(root, "test_double", "### BEGIN HIDDEN", shared + "### BEGIN HIDDEN")
    assert "solution that consumes its arguments: loses double: KeyError: 'n'" in problems(root)


def test_a_function_that_calls_itself_keeps_the_arguments_of_its_own_calls(root) -> None:
    change(root, "largest", "(values):", "(values, again=False):")
    change(root, "largest", "best = values[0]", "best = values[0] if again else largest(values, again=True)")
    change(root, "largest", "return best", "return max(best, values[0])")
    assert problems(root).count("consumes") == 0


def test_a_test_that_relies_on_a_name_of_an_earlier_cell(root) -> None:
    change(root, "code_01", "print('Welcome.')", "from math import inf")
    change(root, "test_largest", "== 5", "== 5 < inf")
    assert problems(root).startswith("solution that leaves names behind: loses largest: TypeError")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (
            {"exercise": "double", "replace": "3 * x", "by": "x"},
            "`3 * x` occurs 0 times in the solution, not once",
        ),
        ({"exercise": "largest", "replace": "best", "by": "x"}, "`best` occurs"),
        (
            {"exercise": "none", "replace": "x", "by": "y"},
            "there is no such exercise; there are double, largest",
        ),
        ({"exercise": "double", "replace": "2 * x", "by": "2 * x"}, "replaces `2 * x` by itself"),
    ],
)
def test_a_mutant_that_is_not_one(root, entries, said) -> None:
    mutant(root, name="odd", **entries)
    assert said in problems(root)


def test_four_mutants_an_exercise(root) -> None:
    path = root / "solutions" / MINI / "mutants.toml"
    path.write_text(path.read_text(encoding="utf-8").rpartition("[[mutant]]")[0], encoding="utf-8")
    assert problems(root) == "largest has 3 mutants and needs 4"


def test_cells_see_what_a_notebook_would_show_them(root) -> None:
    change(
        root,
        "test_double",
        "### BEGIN HIDDEN TESTS",
        "assert double.__name__ == 'double' and callable(double)\n"
        "assert __name__ == '__main__'\nassert 'leftover' not in globals()\nleftover = 1\n"
        "if False:\n    %pip install nothing\n"
        "### BEGIN HIDDEN TESTS",
    )
    assert problems(root) == ""


@pytest.mark.parametrize(
    "look",
    [
        "import inspect\nassert inspect.getsource(double).startswith('def double(x)')",
        "assert double.__module__ == '__main__'",
    ],
)
def test_a_test_that_looks_into_an_answer_works_by_nbgrader_alone_and_so_fails_the_proof(root, look) -> None:
    change(root, "test_double", "### BEGIN HIDDEN TESTS", look + "\n### BEGIN HIDDEN TESTS")
    text = problems(root)
    assert "solution: loses double: " in text
    assert "solution: double is lost only where tests run apart from answers: they can call" in text
    assert "alone" not in text and "consumes" not in text and "leaves" not in text and "largest" not in text


def test_what_is_missing_is_said(root, tmp_path) -> None:
    with pytest.raises(CourseError, match="No assignment 91_none"):
        proving.main(["91_none"], root=root)
    (root / "solutions" / MINI / "mutants.toml").unlink()
    with pytest.raises(CourseError, match="write at least 4"):
        proving.main([MINI], root=root)
    (root / "solutions" / MINI / "mutants.toml").write_text("[[mutant]]\nname = 'x'\n", encoding="utf-8")
    with pytest.raises(CourseError, match="has exercise, name, replace and by"):
        proving.main([MINI], root=root)
