"""The notebooks that `coursepkg prove` runs beside the solution: made of the instructor's by changing answers."""

import ast
import builtins
import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode, from_dict
from nbgrader import utils


@dataclass(frozen=True)
class Mutant:
    """A wrong answer: in the solution of `exercise`, `replace`, which occurs there once, is replaced by `by`."""

    exercise: str
    name: str
    replace: str
    by: str


def is_test(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and utils.is_grade(cell) and not utils.is_solution(cell)


def is_answer(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and utils.is_solution(cell)


def exercise(cell: NotebookNode) -> str:
    """The exercise that a test cell or an answer belongs to."""
    return cell.metadata.nbgrader.grade_id.removeprefix("test_")


def mutated(instructors: NotebookNode, mutant: Mutant) -> NotebookNode:
    """The solution with one wrong answer."""
    nb = from_dict(instructors)
    for cell in nb.cells:
        if is_answer(cell) and exercise(cell) == mutant.exercise:
            cell.source = cell.source.replace(mutant.replace, mutant.by)
    return nb


def with_tests(released: NotebookNode, instructors: NotebookNode) -> NotebookNode:
    """The released notebook as it is graded: with its hidden tests put back."""
    sources = {
        cell.metadata.nbgrader.grade_id: cell.source for cell in instructors.cells if utils.is_locked(cell)
    }
    for cell in released.cells:
        if utils.is_locked(cell):
            cell.source = sources[cell.metadata.nbgrader.grade_id]
    return released


def consuming(instructors: NotebookNode) -> NotebookNode:
    """The solution, except that its functions empty every list and dict they were given, as `pop` in a loop does."""
    nb = from_dict(instructors)
    for cell in filter(is_answer, nb.cells):
        names = _functions(cell.source)
        lines = [f"{name} = _consumer({name})" for name in names]
        cell.source += "\n\nfrom coursepkg.grading.variants import consumer as _consumer\n" + "\n".join(lines)
    return nb


def consumer(function: Callable) -> Callable:
    """The function, which then empties its arguments; not those of calls that it makes itself."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if consumer.running:
            return function(*args, **kwargs)
        consumer.running = True
        try:
            return copy.deepcopy(function(*args, **kwargs))
        finally:
            consumer.running = False
            _empty([*args, *kwargs.values()])

    return called


consumer.running = False


def _empty(value: Any) -> None:
    """Empty lists and dicts, and those in them first."""
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            _empty(item)
    if isinstance(value, dict | list):
        value.clear()


def leaving_names(instructors: NotebookNode) -> NotebookNode:
    """The solution, whose first cell also gives the names that test cells use another value.

    All names that test cells import or read, but for builtins and those that answers define or read.
    """
    nb = from_dict(instructors)
    answers = list(filter(is_answer, nb.cells))
    theirs = {name for cell in answers for name in (*_functions(cell.source), *_names(cell.source))}
    used = {name for cell in filter(is_test, nb.cells) for name in _names(cell.source)}
    left = sorted(name for name in used - theirs if not hasattr(builtins, name) and not name.startswith("__"))
    if answers:
        answers[0].source += "\n\n" + "\n".join(
            f"{name} = 'left behind by the first answer'" for name in left
        )
    return nb


def _functions(source: str) -> list[str]:
    """The functions that a cell defines."""
    return [node.name for node in _tree(source).body if isinstance(node, ast.FunctionDef)]


def _names(source: str) -> Iterator[str]:
    """The names that a cell imports or reads."""
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)


def _tree(source: str) -> ast.Module:
    """The cell's syntax; of one that is no Python nothing, as running it says what is wrong."""
    try:
        return ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return ast.Module([], [])
