"""A miniature course and the class that takes it: two exercises, a written answer, no heavy import."""

import ast
import copy
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

REPOSITORY = Path(__file__).resolve().parents[1]
MINI = "90_mini"
#: The assignments of the course that are built; each is graded as the miniature is.
ASSIGNMENTS = sorted(path.stem for path in (REPOSITORY / "solutions").glob("*/[0-9]*.ipynb"))

DOUBLE = "def double(x):\n    return 2 * x\n"
LARGEST = "def largest(values):\n    best = values[0]\n    for value in values:\n        best = max(best, value)\n    return best\n"
ANSWER = "Because the sign bit is counted as well."

#: Text that no student may ever read: in hidden tests, in the rubric, and in values only those hold.
SECRETS = (
    "31337",
    "62674",
    "secret_offset",
    "-77123",
    "BEGIN HIDDEN",
    "sign bit costs",
    "MARK SCHEME",
    "mutants",
)


def notebook() -> NotebookNode:
    """The instructor's version."""
    cells = [
        _locked("text_01", "# Miniature", "markdown"),
        _locked("code_01", "print('Welcome.')"),
        _solution("double", DOUBLE),
        _test(
            "double",
            2,
            "class CheckFailed(AssertionError):\n    pass\n\n"
            "assert double(2) == 4, 'double(2) should be 4'\nprint('visible tests passed')\n"
            "### BEGIN HIDDEN TESTS\n"
            "secret_offset = 31337\n"
            "if double(secret_offset) != 62674:\n"
            "    raise CheckFailed('double is wrong for a large number. Hint: is it 2 * x everywhere?')\n"
            "### END HIDDEN TESTS",
        ),
        _solution("largest", LARGEST),
        _test(
            "largest",
            3,
            "assert largest([1, 5, 3]) == 5\n"
            "### BEGIN HIDDEN TESTS\n"
            "assert largest([-77123, -88123]) == -77123, 'largest([-77123, -88123]) is -77123'\n"
            "### END HIDDEN TESTS",
        ),
        _locked("text_02", "Why are there more negative numbers than positive ones in int8?", "markdown"),
        _cell(
            "markdown",
            "why",
            "### BEGIN SOLUTION\n" + ANSWER + "\n### END SOLUTION",
            grade=True,
            solution=True,
            points=4,
        ),
        _locked(
            "rubric_why",
            "*A person reads this answer.*\n\n<!-- BEGIN MARK SCHEME -->\n- 4 points: the sign bit costs one pattern.\n"
            "<!-- END MARK SCHEME -->",
            "markdown",
        ),
    ]
    for number, cell in enumerate(cells, start=1):
        cell.id = f"mini-{number}"
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _cell(kind: str, name: str, source: str, **nbgrader: object) -> NotebookNode:
    new = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    metadata = {"schema_version": 3, "grade": False, "solution": False, "locked": False, "task": False}
    return new(source, metadata={"nbgrader": metadata | {"grade_id": name} | nbgrader})


def _locked(name: str, source: str, kind: str = "code") -> NotebookNode:
    return _cell(kind, name, source, locked=True)


def _solution(name: str, source: str) -> NotebookNode:
    return _cell("code", name, f"### BEGIN SOLUTION\n{source}### END SOLUTION", solution=True)


def _test(name: str, points: int, source: str) -> NotebookNode:
    return _cell("code", f"test_{name}", source, grade=True, locked=True, points=points)


MUTANTS = """
[[mutant]]
exercise = "double"
name = "squares"
replace = "2 * x"
by = "x ** 2 if x != 2 else 4"

[[mutant]]
exercise = "double"
name = "adds two"
replace = "2 * x"
by = "x + 2"

[[mutant]]
exercise = "double"
name = "forgets to double"
replace = "2 * x"
by = "x"

[[mutant]]
exercise = "double"
name = "triples"
replace = "2 * x"
by = "3 * x"

[[mutant]]
exercise = "largest"
name = "starts at zero"
replace = "best = values[0]"
by = "best = 0"

[[mutant]]
exercise = "largest"
name = "smallest instead"
replace = "max(best, value)"
by = "min(best, value)"

[[mutant]]
exercise = "largest"
name = "returns the last"
replace = "max(best, value)"
by = "value"

[[mutant]]
exercise = "largest"
name = "drops the sign"
replace = "return best"
by = "return abs(best)"
"""


def make_course(root: Path, *assignments: str) -> Path:
    """Write a course to `root`: the repository's settings and assignments, and the miniature with shorter limits."""
    folder = root / "solutions" / MINI
    folder.mkdir(parents=True)
    shutil.copy(REPOSITORY / "nbgrader_config.py", root)
    nbformat.write(notebook(), folder / f"{MINI}.ipynb")
    (folder / f"{MINI}.py").write_text("# the master, with secret_offset\n", encoding="utf-8")
    (folder / "mutants.toml").write_text(MUTANTS, encoding="utf-8")
    (folder / "README.md").write_text("notes: the sign bit costs\n", encoding="utf-8")
    (folder / "numbers.csv").write_text("1,2,3\n", encoding="utf-8")
    for assignment in assignments:
        shutil.copytree(REPOSITORY / "solutions" / assignment, root / "solutions" / assignment)
    return root


def shorten_limits(root: Path, seconds: int = 4) -> None:
    """A loop in a cell costs the tests this long."""
    with (root / "nbgrader_config.py").open("a", encoding="utf-8", newline="\n") as config:
        config.write(f"\nc.Sandbox.cell_seconds = {seconds}\n")


@dataclass(frozen=True)
class Student:
    """Answers by exercise, and the exercises whose points they earn. Cells that are not named stay as released."""

    answers: dict[str, str]
    earns: tuple[str, ...]


def honest_class(instructors: NotebookNode) -> dict[str, Student]:
    """perfect, blank, half right, one that raises, one that loops, one with a warning and a progress bar."""
    solved = {
        grade_id(cell): _solved(cell.source) for cell in instructors.cells if cell.metadata.nbgrader.solution
    }
    code = [grade_id(cell) for cell in instructors.cells if is_answer(cell)]
    first, others, everything = code[0], tuple(code[1:]), tuple(code)
    half = code[: len(code) // 2]
    raising = "print('got', args)\n    raise KeyError(args)"
    looping = "while True:\n        args = args + ()"
    noise = (
        "warnings.warn('slow')\n    print('note', file=sys.stderr)\n"
        "    for _ in tqdm(range(3)):\n        pass\n    return quiet(*args, **kwargs)"
    )
    imports = "import sys\nimport warnings\nfrom tqdm import tqdm\n\n"
    only_code = {exercise: solved[exercise] for exercise in code}
    return {
        "perfect": Student(solved, everything),
        "blank": Student({}, ()),
        "half": Student({exercise: solved[exercise] for exercise in half}, tuple(half)),
        "raises": Student(solved | {first: _redefined(solved[first], raising)}, others),
        "loops": Student(only_code | {first: _redefined(solved[first], looping)}, others),
        "noisy": Student(
            {exercise: imports + _redefined(text, noise) for exercise, text in only_code.items()}, everything
        ),
    }


def is_answer(cell: NotebookNode) -> bool:
    """Whether the cell is the answer to an exercise that tests grade."""
    return cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("solution", False)


def grade_id(cell: NotebookNode) -> str:
    """The cell's grade_id; empty for a cell that has none."""
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def _solved(source: str) -> str:
    return "\n".join(line for line in source.split("\n") if "### BEGIN" not in line and "### END" not in line)


def _redefined(source: str, body: str) -> str:
    """The answer, and after it a function of its name with another body, in which `quiet` is the first."""
    function = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)][-1]
    return f"{source}\n\n\ndef {function}(*args, quiet={function}, **kwargs):\n    {body}\n"


def submission(released: NotebookNode, answers: dict[str, str]) -> NotebookNode:
    """The released notebook with a student's answers."""
    nb = copy.deepcopy(released)
    for cell in nb.cells:
        cell.source = answers.get(grade_id(cell), cell.source)
    return nb


def submit(root: Path, student: str, nb: NotebookNode | str, assignment: str = MINI) -> Path:
    """Put a notebook, or any text, where nbgrader collects submissions."""
    path = root / "submitted" / student / assignment / f"{assignment}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = nb if isinstance(nb, str) else nbformat.writes(nb)
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def secret_lines(instructors: NotebookNode) -> set[str]:
    """Lines that no student may read: of solutions, hidden tests and mark schemes, and of nothing else.

    Of a line of Markdown, the longest part that a page shows as it stands.
    """
    secret: list[str] = []
    shown: list[str] = []
    for cell in instructors.cells:
        text = cell.cell_type == "markdown"
        inside = text and cell.metadata.nbgrader.solution
        for line in cell.source.split("\n"):
            if any(marker in line for marker in ("BEGIN SOLUTION", "BEGIN HIDDEN", "BEGIN MARK")):
                inside = True
            part = max(re.split(r"[*_`$<>&\"'\[\]]|^[-+#\d.]+ ", line), key=len) if text else line
            (secret if inside else shown).append(part.strip())
            if any(marker in line for marker in ("END SOLUTION", "END HIDDEN", "END MARK")):
                inside = False
    page = "\n".join(shown)
    return {line for line in secret if len(line) >= 12 and line not in page and "END" not in line}
