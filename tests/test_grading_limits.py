"""What takes too long or prints too much is stopped, and costs its own exercise where that is possible."""

import time

import pytest
from nbformat import NotebookNode

from coursepkg.grading.notes import noted
from tests.engine import error, run

AFTER = "print('the next cell ran')"


def size(nb: NotebookNode) -> int:
    return len(str(nb.cells[0].outputs))


def goes_on(nb: NotebookNode) -> bool:
    return not noted(nb, "failed") and "the next cell ran" in str(nb.cells[-1].outputs)


@pytest.mark.parametrize(
    "loop",
    [
        "while True:\n    pass",
        "import time\ntime.sleep(60)",
        "while True:\n    try:\n        x = int('a')\n    except:\n        pass",
    ],
    ids=["busy", "asleep", "bare except"],
)
def test_a_loop_costs_its_own_cell(loop: str) -> None:
    start = time.perf_counter()
    nb = run(loop, AFTER, cell_seconds=2)
    assert time.perf_counter() - start < 10
    assert (
        error(nb.cells[0]) == "Stopped: stopped after 2 s: it had not ended, perhaps a loop that never does"
    )
    assert goes_on(nb)


def test_what_cannot_be_interrupted_fails_the_submission_and_says_where() -> None:
    stubborn = "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True:\n    pass"
    nb = run("1", stubborn, AFTER, cell_seconds=1)
    assert noted(nb, "failed") == "cell 2 ran longer than 1 s and could not be interrupted"
    assert error(nb.cells[1]) == f"NotGraded: {noted(nb, 'failed')}"
    assert nb.cells[2].outputs == []


def test_a_kernel_that_dies_fails_the_submission_and_says_where() -> None:
    nb = run("import os\nos._exit(1)", AFTER)
    assert noted(nb, "failed") == "the process died while it ran cell 1 (ended with exit status 1)"


def test_a_notebook_has_a_limit_of_its_own() -> None:
    nb = run(*["import time\ntime.sleep(1.2)"] * 3, AFTER, notebook_seconds=3)
    assert noted(nb, "failed") == "the notebook took longer than 3 s; cell 4 and those after it were not run"


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("print('x' * 100_000_000)", 1_000_000),
        ("while True:\n    print('endless')", 1_000_000),
        (
            "import sys\nfor _ in range(1_000_000):\n    print(end='.')\n    print(end='.', file=sys.stderr)",
            1_000_000,
        ),
        ("'x' * 100_000_000", 1000),
        ("from IPython.display import HTML\nHTML('x' * 30_000_000)", 1000),
        ("raise ValueError('x' * 10_000_000)", 500_000),
    ],
    ids=["a line of 100 MB", "endless", "two streams", "a value", "a display", "a message"],
)
def test_output_is_limited_while_it_arrives(source: str, kept: int) -> None:
    nb = run(source, AFTER, cell_seconds=3)
    assert size(nb) < 1.2 * kept
    assert goes_on(nb)


def test_a_cell_that_prints_far_too_much_is_stopped() -> None:
    start = time.perf_counter()
    nb = run("while True:\n    print('x' * 10_000)", AFTER, cell_seconds=60)
    assert time.perf_counter() - start < 20
    assert error(nb.cells[0]) == "Stopped: stopped: it had printed more than 20 MB"


def test_what_a_cell_prints_first_is_kept() -> None:
    nb = run("print('first')\nprint('x' * 5000)", kept_output=1000)
    text = "".join(output.text for output in nb.cells[0].outputs)
    assert text.startswith("first\nxxx") and text.endswith("[cut: this cell printed more than 0.001 MB]")
    assert error(nb.cells[0]) == ""


def test_printed_text_is_one_output_a_stream_and_a_progress_bar_is_its_last_state() -> None:
    nb = run(
        "import sys\nfrom tqdm import tqdm\n"
        "for i in tqdm(range(3)):\n    print(i, flush=True)\n    sys.stderr.flush()",
    )
    streams = {output.name: output.text for output in nb.cells[0].outputs}
    assert len(nb.cells[0].outputs) == 2
    assert streams["stdout"] == "0\n1\n2\n"
    assert "100%" in streams["stderr"] and "33%" not in streams["stderr"]
