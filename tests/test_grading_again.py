"""What fails for a reason of the machine's own is tried again; what cannot be written is said before it costs time."""

import nbformat
import pytest

from coursepkg.grading import classroom as grading
from coursepkg.grading.course import CourseError
from coursepkg.grading.engine.jobs import Result
from coursepkg.grading.engine.station import Station
from coursepkg.grading.pages import OURS, Pages
from coursepkg.grading.release import student_version
from coursepkg.grading.states import State
from coursepkg.grading.verdicts import Verdict
from coursepkg.grading.writer import Writer
from tests import classroom
from tests.test_grading_class import make_class, regrade, submit
from tests.test_grading_feedback import page

MINI = classroom.MINI
FULL = OSError(28, "No space left on device")
#: What is written of a submission, and by what.
WRITTEN = {"notebook": (Writer, "_put_in_place"), "points": (Writer, "_save"), "page": (Pages, "_graded")}


@pytest.fixture
def root(tmp_path):
    return make_class(tmp_path, {"ann": "    return 2 * x"})


def fail_once(monkeypatch: pytest.MonkeyPatch, what: str) -> list[str]:
    """Have the disk be full the next time that this is written; lists what was to be written since."""
    wrote: list[str] = []

    def watch(name: str, owner: type, method: str) -> None:
        write = getattr(owner, method)

        def once(self: object, *args: object) -> object:
            wrote.append(name)
            if name == what and wrote.count(what) == 1:
                raise FULL
            return write(self, *args)

        monkeypatch.setattr(owner, method, once)

    for name, (owner, method) in WRITTEN.items():
        watch(name, owner, method)
    return wrote


def test_a_failure_of_the_machine_is_tried_again_by_the_next_run(root, monkeypatch) -> None:
    wrote = fail_once(monkeypatch, "notebook")
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
    assert wrote == ["notebook", "points", "notebook", "points", "page"]


def test_what_the_machine_could_not_run_is_run_by_the_next_run(root, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        reason = "the sandbox could not be set up"
        patched.setattr(Station, "done", lambda *_: Result(Verdict("failed", reason, ours=True)))
        standings, _ = regrade(root)
    assert (standings["ann"].state, standings["ann"].reason) == (State.FAILED, reason)
    text = page(root, "ann", MINI)
    assert OURS in text and "sandbox" not in text
    assert regrade(root)[0]["ann"].automatic == 2
    assert "Score: 2.0" in page(root, "ann", MINI)


def test_a_regrading_that_fails_takes_back_what_it_would_have_replaced(root, monkeypatch) -> None:
    regrade(root)
    fail_once(monkeypatch, "notebook")
    submit(root, "ann", "    return x + x")
    assert regrade(root)[0]["ann"].automatic is None
    assert regrade(root)[0]["ann"].automatic == 2


def test_a_feedback_page_that_could_not_be_written_costs_no_grade_and_is_written_next_time(
    root, monkeypatch
) -> None:
    wrote = fail_once(monkeypatch, "page")
    standings, printed = regrade(root)
    assert standings["ann"].automatic == 2
    assert "no feedback page: OSError" in " ".join(printed.split())
    assert "no feedback page" not in regrade(root)[1]
    assert "Score: 2.0" in page(root, "ann", MINI)
    assert wrote == ["notebook", "points", "page", "page"]


def test_a_failure_of_the_submission_is_not_tried_again(root, monkeypatch) -> None:
    submit(root, "bob", "    import os\n    os._exit(1)")
    classroom.submit(root, "cat", "{not json")
    (classroom.submit(root, "dan", "{}")).rename(root / "submitted" / "dan" / MINI / "mine.ipynb")
    nb = (root / "submitted" / "ann" / MINI / f"{MINI}.ipynb").read_text(encoding="utf-8")
    classroom.submit(root, "eve", nb.replace('"nbformat": 4', '"nbformat": 99'))
    before, printed = regrade(root)
    refused = dict.fromkeys(("cat", "dan", "eve"), State.REFUSED)
    assert {student: one.state for student, one in before.items() if student != "ann"} == {
        "bob": State.FAILED,
        **refused,
    }
    assert "--student bob --student cat --student dan --student eve" in printed
    wrote = fail_once(monkeypatch, "notebook")
    assert regrade(root)[0] == before
    assert wrote == []


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
    wrote = fail_once(monkeypatch, "notebook")
    assert regrade(root)[0]["ann"].automatic == 2
    assert wrote == []


def test_points_without_an_answer_are_pointed_out(root) -> None:
    nb = student_version(classroom.notebook(), MINI, root)
    hidden_away = f"exec({classroom.DOUBLE!r})\nexec({classroom.LARGEST!r})"
    nb.cells.insert(0, nbformat.v4.new_code_cell(hidden_away))
    classroom.submit(root, "bob", nb)
    standings, printed = regrade(root)
    assert standings["bob"].automatic == 5
    said = " ".join(printed.split())
    assert "double: earned 2 points without an answer: look" in said
    assert "largest: earned 3 points without an answer: look" in said
    assert printed.count("without an answer") == 2


def test_an_answer_in_another_cell_than_its_own_is_one(root) -> None:
    nb = student_version(classroom.notebook(), MINI, root)
    both = classroom.DOUBLE + "\n\n" + classroom.LARGEST
    nb.cells.insert(0, nbformat.v4.new_code_cell(both))
    nb.cells = [cell for cell in nb.cells if classroom.grade_id(cell) != "largest"]
    classroom.submit(root, "bob", nb)
    standings, printed = regrade(root)
    assert (standings["bob"].automatic, standings["bob"].unanswered) == (5, ["why"])
    said = " ".join(printed.split())
    assert "double was left as released; the cell that defines it was graded" in said
    assert "largest was answered in the cell of double" in said


def test_of_what_could_not_be_graded_no_points_are_pointed_out(root) -> None:
    nb = student_version(classroom.notebook(), MINI, root)
    nb.cells.insert(0, nbformat.v4.new_code_cell("import os\nos._exit(1)"))
    classroom.submit(root, "bob", nb)
    standings, printed = regrade(root)
    assert (standings["bob"].state, standings["bob"].failures) == (State.FAILED, {})
    assert "without an answer" not in printed
