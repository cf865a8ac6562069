"""What fails for a reason of the machine's own is tried again; what cannot be written is said before it costs time."""

import nbformat
import pytest

from coursepkg.grading import classroom as grading
from coursepkg.grading.course import CourseError
from coursepkg.grading.pages import OURS
from coursepkg.grading.states import State
from tests import classroom
from tests.test_grading_class import make_class, regrade, submit
from tests.test_grading_feedback import page

MINI = classroom.MINI
FULL = OSError(28, "No space left on device")


@pytest.fixture
def root(tmp_path):
    return make_class(tmp_path, {"ann": "    return 2 * x"})


def fail_once(monkeypatch: pytest.MonkeyPatch, converter: str) -> list[str]:
    """Have the disk be full the next time that this converter runs; lists the converters that ran since."""
    run, ran = Submissions._run, []

    def once(self: Submissions, converter_class: type, student: str) -> None:
        ran.append(converter_class.__name__)
        if ran.count(converter) == 1 and ran[-1] == converter:
            raise FULL
        run(self, converter_class, student)

    monkeypatch.setattr(Submissions, "_run", once)
    return ran


def test_a_failure_of_the_machine_is_tried_again_by_the_next_run(root, monkeypatch) -> None:
    ran = fail_once(monkeypatch, "Autograde")
    standings, printed = regrade(root)
    assert (standings["ann"].state, standings["ann"].score) == (State.FAILED, None)
    assert standings["ann"].reason == "OSError: [Errno 28] No space left on device"
    assert "To try again: coursepkg grade 90_mini --force --student ann" in printed
    text = page(root, "ann", MINI)
    assert OURS in text and "No space" not in text
    standings, printed = regrade(root)
    assert (standings["ann"].state, standings["ann"].automatic) == (State.GRADED, 2)
    assert "Score: 2.0" in page(root, "ann", MINI)
    assert "To try again" not in printed
    regrade(root)
    assert ran == ["Autograde", "Autograde", "GenerateFeedback"]


def test_a_regrading_that_fails_takes_back_what_it_would_have_replaced(root, monkeypatch) -> None:
    regrade(root)
    fail_once(monkeypatch, "Autograde")
    submit(root, "ann", "    return x + x")
    assert regrade(root)[0]["ann"].automatic is None
    assert regrade(root)[0]["ann"].automatic == 2


def test_a_feedback_page_that_could_not_be_written_costs_no_grade_and_is_written_next_time(
    root, monkeypatch
) -> None:
    ran = fail_once(monkeypatch, "GenerateFeedback")
    standings, printed = regrade(root)
    assert standings["ann"].automatic == 2
    assert "no feedback page: OSError" in " ".join(printed.split())
    assert "no feedback page" not in regrade(root)[1]
    assert "Score: 2.0" in page(root, "ann", MINI)
    assert ran == ["Autograde", "GenerateFeedback", "GenerateFeedback"]


def test_a_failure_of_the_submission_is_not_tried_again(root, monkeypatch) -> None:
    submit(root, "bob", "    import os\n    os._exit(1)")
    classroom.submit(root, "cat", "{not json")
    (classroom.submit(root, "dan", "{}")).rename(root / "submitted" / "dan" / MINI / "mine.ipynb")
    nb = (root / "submitted" / "ann" / MINI / f"{MINI}.ipynb").read_text(encoding="utf-8")
    classroom.submit(root, "eve", nb.replace('"schema_version": 3', '"schema_version": 99'))
    before, printed = regrade(root)
    assert [one.student for one in before.values() if one.state is State.FAILED] == [
        "bob",
        "cat",
        "dan",
        "eve",
    ]
    assert "--student bob --student cat --student dan --student eve" in printed
    ran = fail_once(monkeypatch, "Autograde")
    assert regrade(root)[0] == before
    assert ran == []


def test_a_longer_timeout_grades_anew(root) -> None:
    submit(root, "bob", "    import time\n    time.sleep(1.4)\n    return 2 * x")
    classroom.shorten_limits(root, seconds=1)
    standings, printed = regrade(root)
    assert standings["bob"].automatic == 0 and "stopped after 1 s" in printed
    classroom.shorten_limits(root, seconds=10)
    standings, _ = regrade(root)
    assert standings["bob"].automatic == 2


@pytest.mark.parametrize(
    ("to", "message"),
    [("missing/folder/grades.csv", "There is no folder"), ("submitted", "is a folder. Name a file in it")],
)
def test_a_table_that_cannot_be_written_is_said_before_anything_is_graded(root, to, message) -> None:
    before = sorted(root.rglob("*"))
    with pytest.raises(CourseError, match=message):
        grading.main(MINI, to=root / to, root=root)
    assert sorted(root.rglob("*")) == before


def test_a_table_that_is_open_elsewhere_costs_no_grade(root, monkeypatch) -> None:
    def locked(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("coursepkg.grading.export.write", locked)
        with pytest.raises(CourseError, match="Permission denied. Is it open in another program"):
            grading.main(MINI, root=root)
    ran = fail_once(monkeypatch, "Autograde")
    assert regrade(root)[0]["ann"].automatic == 2
    assert ran == []


def test_points_without_an_answer_are_pointed_out(root) -> None:
    submit(root, "bob", "    return 2 * x")
    path = root / "submitted" / "bob" / MINI / f"{MINI}.ipynb"
    nb = nbformat.read(path, as_version=4)
    answer = next(cell for cell in nb.cells if classroom.grade_id(cell) == "double")
    largest = next(cell for cell in nb.cells if classroom.grade_id(cell) == "largest")
    nb.cells.insert(0, nbformat.v4.new_code_cell(answer.source + "\n\n" + classroom.LARGEST))
    nb.cells.remove(largest)
    released = classroom.submission(nb, {})
    answer = next(cell for cell in released.cells if classroom.grade_id(cell) == "double")
    answer.source = "# YOUR CODE HERE\nraise NotImplementedError()"
    nbformat.write(released, path)
    standings, printed = regrade(root)
    assert standings["bob"].automatic == 5
    said = " ".join(printed.split())
    assert "double: earned 2 points without an answer: look" in said
    assert "largest: earned 3 points without an answer: look" in said
    assert printed.count("without an answer") == 2
