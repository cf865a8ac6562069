"""Feedback pages hold no hidden test, rubric or solution, nor what was printed or raised about one."""

import html
import re
import signal

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_output

from coursepkg.grading import classroom as grading
from coursepkg.grading.feedback import HIDDEN, LATER, QUOTES, STOPPED, VISIBLE, WITHHELD
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
        "    from coursepkg.check import CheckFailed\n"
        "    if x > 100:\n        raise CheckFailed(f'the input was {x}')\n    return 4",
        "Not yet: double\ndid not give what was expected.",
    ),
    "forges": (
        "double",
        "    class CheckFailed(BaseException):\n        def _render_traceback_(self):\n"
        "            return [f'Cell In[2], line 1\\n{x}', f'Cell In[3], line 9\\n{x}']\n"
        "    if x > 100:\n        raise CheckFailed(f'double({x})\\nreturned {x}.\\nHint: {x}')\n    return 4",
        "Not yet: double\ndid not give what was expected.",
    ),
    "points": (
        "double",
        "    class KeyError(BaseException):\n        def _render_traceback_(self):\n"
        "            return ['Cell In[3], line 1', f'Cell In[5], line {len(In)}']\n"
        "    if x > 100:\n        raise KeyError(x)\n    return 4",
        f"KeyError: {HIDDEN}\n",
    ),
    "limits": (
        "double",
        "    class OutputLimit(BaseException):\n        pass\n"
        "    if x > 100:\n        raise OutputLimit(x)\n    return 4",
        f"Exception: {HIDDEN}\n",
    ),
    "counts": (
        "double",
        "    if x > 100:\n        get_ipython().execution_count = x\n    return 2 * x",
        "In\N{NO-BREAK SPACE}[6]:",
    ),
    "visibly": ("double", "    return {1: 2}[x]", f"KeyError: {VISIBLE}\n  in your line: return {{1: 2}}[x]"),
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
        nb.cells.append(new_code_cell("print(In)\nIn[3]"))
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


#: How a submission ends, which its own process decides, once that knows a hidden input; and what its page says.
ENDING = {
    "exits": ("os._exit(x % 100)", "the process died while it ran cell 4."),
    "is killed": ("os.kill(os.getpid(), x % 9)", "the process died while it ran cell 4."),
    "babbles": (
        "os.write(1, b'x' * 20)\n        [os.write(n, b'{%d}' % x * 9) for n in range(3, 60) if writes(n)]",
        "while cell 4 ran, its process sent what no notebook sends.",
    ),
    "stops": ("SHELL.run = lambda *_: ([], 'late')", STOPPED["stopped after"]),
    "says more": ("SHELL.run = lambda *_: ([], f'stopped after {x} s: {x}')", "Comments: No response."),
}
TOOLS = (
    "import os\nfrom coursepkg.grading.sandbox.shell import Shell as SHELL\n\ndef writes(n):\n    try:\n"
    "        return os.write(n, b'') == 0\n    except OSError:\n        return False\n\n"
)


@pytest.fixture(scope="module")
def ending(tmp_path_factory):
    root = classroom.make_course(tmp_path_factory.mktemp("ending"))
    released = student_version(classroom.notebook(), classroom.MINI, root)
    for student, (deed, _) in ENDING.items():
        double = f"{TOOLS}def double(x):\n    if x > 100:\n        {deed}\n    return 4\n"
        classroom.submit(root, student, classroom.submission(released, {"double": double}))
    grading.main(classroom.MINI, root=root)
    return root


@pytest.mark.parametrize("student", ENDING)
def test_how_a_submission_ends_tells_nothing_of_hidden_inputs(ending, student: str) -> None:
    text = page(ending, student, classroom.MINI)
    assert ENDING[student][1] in text
    for secret in ("31337", str(31337 % 100), signal.Signals(31337 % 9).name):
        assert secret not in text, secret


@pytest.mark.parametrize(("lines", "is_quoted"), [(900, True), (1600, False)])
def test_of_a_thousand_lines_none_is_quoted(tmp_path, lines: int, is_quoted: bool) -> None:
    root = classroom.make_course(tmp_path)
    nb = classroom.submission(
        student_version(classroom.notebook(), classroom.MINI, root), {"double": KEEPING}
    )
    forged = "compile('\\n' * (LOG[-1] % 800) + 'raise KeyError', sys._getframe().f_code.co_filename, 'exec')"
    numbers = "\n".join(f"# {number}" for number in range(lines))
    nb.cells.append(new_code_cell(f"import sys; exec({forged})\n{numbers}"))
    classroom.submit(root, "ann", nb)
    grading.main(classroom.MINI, root=root)
    text = page(root, "ann", classroom.MINI)
    assert f"KeyError: {LATER}" in text
    assert (f"in your line: # {31337 % 800 - 1}" in text) == is_quoted
    assert ("in your line" in text) == is_quoted


#: What an answer does with its arguments, and what the student's later cells do with what it has kept.
KEEPING = "LOG, kept = [], {}\n\ndef double(x):\n    LOG.append(x)\n    return 2 * x\n"
KEPT = {
    "prints": "print(LOG)\nLOG",
    "displays": "from IPython.display import HTML, Markdown\ndisplay(HTML(f'<b>{LOG}</b>'), Markdown(f'{LOG}'))",
    "raises": "raise KeyError(LOG)",
    "names": "raise type(f'Got{LOG}', (Exception,), {})()",
    "updates": "from IPython.display import update_display\nupdate_display(LOG, display_id='early')",
    "warns": "import warnings\nwarnings.warn(str(LOG))",
    "charts": "display({'image/svg+xml': f'<svg><text>{LOG}</text></svg>'}, raw=True, metadata={'alt': str(LOG)})",
}


@pytest.fixture(scope="module")
def keeping(tmp_path_factory) -> str:
    """The page of a student who keeps hidden inputs and shows them in every later way."""
    root = classroom.make_course(tmp_path_factory.mktemp("keeping"))
    released = student_version(classroom.notebook(), classroom.MINI, root)
    early = "from pathlib import Path\ndisplay('before', display_id='early')\n"
    files = "print('files:', sorted(path.name for path in Path().iterdir()))\n"
    answers = {
        "double": early + files + KEEPING,
        "largest": "print(LOG)\ndef largest(values):\n    Path('kept.txt').write_text(str(LOG))\n    raise KeyError(LOG)",
    }
    nb = classroom.submission(released, answers)
    nb.cells += [new_code_cell(source) for source in KEPT.values()]
    nb.cells.insert(2, new_code_cell("print('an early cell of mine')\n1 + 1"))
    path = classroom.submit(root, "kay", nb)
    path.with_name("data.csv").write_text("1", encoding="utf-8")
    grading.main(classroom.MINI, root=root)
    written = {
        step: {file.name for file in (root / step).rglob("*") if file.is_file()}
        for step in ("feedback", "autograded")
    }
    assert written == {
        "feedback": {f"{classroom.MINI}.html"},
        "autograded": {f"{classroom.MINI}.ipynb", "data.csv", "numbers.csv"},
    }, "nothing that the student's code has written"
    raw = next(root.glob("feedback/*/*/*.html")).read_text(encoding="utf-8").partition("<body")[2]
    return html.unescape(raw)


def test_what_an_answer_keeps_of_hidden_inputs_reaches_no_later_output(keeping: str) -> None:
    for secret in ("31337", "77123"):
        assert secret not in keeping
    assert keeping.count(WITHHELD) >= 4
    assert f"KeyError: {LATER}\n  in your line: raise KeyError(LOG)" in keeping
    assert f"Exception: {LATER}" in keeping
    assert f"KeyError: {VISIBLE}\n  in your line: raise KeyError(LOG)" in keeping


def test_outputs_before_the_hidden_tests_stay_as_they_were(keeping: str) -> None:
    assert "an early cell of mine" in keeping and "'before'" in keeping and "Welcome." in keeping
    assert "files: ['data.csv', 'numbers.csv']" in keeping, (
        "the notebook with the hidden tests is not beside the student's code"
    )


def test_the_score_of_an_answer_nobody_has_graded_is_not_shown_as_a_zero(graded_course: Graded) -> None:
    assert "Not graded yet" in page(graded_course.root, "perfect", classroom.MINI)
    assert "Not graded yet" not in page(graded_course.root, "blank", classroom.MINI)


def test_ordinary_output_is_left_alone(graded_course: Graded) -> None:
    text = page(graded_course.root, "blank", classroom.MINI)
    assert "----> 2 raise NotImplementedError()" in text, "before the hidden tests"
    assert f"NameError: {VISIBLE}" in text
    assert f"NotImplementedError: {LATER}\n  in your line: raise NotImplementedError()" in text
    assert WITHHELD not in text and QUOTES not in text


def test_outputs_are_compared_as_text_whatever_their_form() -> None:
    from coursepkg.grading.feedback import _unless_telling

    secret = {"assert double(31337) == 62674"}
    source = "x\n    assert double(31337) == 62674\ny"
    for output in (
        new_output("stream", text=source),
        new_output("execute_result", data={"text/html": f"<pre>{source}</pre>"}),
        new_output("error", ename="A", evalue="", traceback=["\x1b[31massert \x1b[0mdouble(31337) == 62674"]),
    ):
        assert _unless_telling(output, secret).text.strip() == QUOTES
