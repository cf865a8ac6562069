"""The notebooks that `coursepkg prove` runs beside the solution: made of the instructor's by changing answers."""

import ast
import builtins
import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode, from_dict

from coursepkg.grading.cells import exercise, is_answer, is_locked, is_test
from coursepkg.grading.engine.names import names_read, syntax


@dataclass(frozen=True)
class Mutant:
    """A wrong answer: in the solution of `exercise`, `replace`, which occurs there once, is replaced by `by`."""

    exercise: str
    name: str
    replace: str
    by: str


def mutated(instructors: NotebookNode, mutant: Mutant) -> NotebookNode:
    """The solution with one wrong answer."""
    nb = from_dict(instructors)
    for cell in nb.cells:
        if is_answer(cell) and exercise(cell) == mutant.exercise:
            cell.source = cell.source.replace(mutant.replace, mutant.by)
    return nb


def with_tests(released: NotebookNode, instructors: NotebookNode) -> NotebookNode:
    """The released notebook as it is graded: with its hidden tests put back."""
    sources = {cell.metadata.nbgrader.grade_id: cell.source for cell in instructors.cells if is_locked(cell)}
    for cell in released.cells:
        if is_locked(cell):
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
    return [node.name for node in syntax(source).body if isinstance(node, ast.FunctionDef)]


def _names(source: str) -> Iterator[str]:
    """The names that a cell imports or reads."""
    yield from names_read(source)
    for node in ast.walk(syntax(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
