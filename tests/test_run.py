"""`make run` on tiny lectures: it measures, it writes pages, and it fails when a lecture does or is over a limit."""

import nbformat
import pytest

from tools import lab, run
from tools.run import Run

HOG = "block = bytearray(300 * 2**20)\nimport time; time.sleep(0.3)\nprint('held')"


@pytest.fixture
def course(tmp_path):
    """A repository root with one lecture that holds 300 MiB for a moment."""
    (tmp_path / "notebooks").mkdir()
    write(tmp_path, "00_hog", HOG)
    return tmp_path


def write(course, slug: str, source: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbformat.write(notebook, course / "notebooks" / f"{slug}.ipynb")


def test_a_lecture_is_timed_weighed_and_written_as_a_page(course, capsys):
    one = run.run(course / "notebooks/00_hog.ipynb", course / "build/html")
    assert one.result == "ok" and one.failure == ""
    assert 0.3 < one.seconds < 60
    assert 300 * 2**20 < one.peak < 2**30
    assert "held" in (course / "build/html/00_hog.html").read_text(encoding="utf-8")
    assert run.main([], course) == 0
    assert "00_hog" in capsys.readouterr().out


def test_one_that_fails_is_named_and_the_others_still_run(course, capsys):
    write(course, "01_bad", "1 / 0")
    write(course, "02_dead", "import os; os._exit(3)")
    assert run.main(["01_bad", "02_dead"], course) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "ZeroDivisionError: division by zero" in printed
    assert "DeadKernelError" in printed


def test_each_limit_of_the_standard_is_reported():
    within = Run("00_ok", seconds=60, peak=4 * 2**30, size=1_500_000)
    assert within.result == "ok"
    over = Run("00_over", seconds=60.1, peak=4 * 2**30 + 1, size=1_500_001)
    assert over.result == "over 60 s, over 4 GiB, over 1.5 MB"


def test_without_lectures_it_says_so(tmp_path, capsys):
    assert run.main([], tmp_path) == 0
    assert "no lecture to run" in capsys.readouterr().out


def test_lab_listens_to_this_machine_only_also_for_root():
    for is_root in (False, True):
        options = lab.options(["--port=1"], is_root)
        assert ("--allow-root" in options) is is_root
        assert "--LabApp.default_url=/lab/tree/notebooks/00_welcome.ipynb" in options
        assert not any("ip=" in option or "token" in option or "password" in option for option in options)
        assert options[-1] == "--port=1"
