"""`coursepkg prove`: that an assignment's tests tell right answers from wrong ones.

The blank notebook must earn nothing, the solution everything, and each mutant, a plausible wrong answer, must lose the
points of its exercise and no other. Two more solutions must earn everything: one that empties the lists and dicts it
is called with, and one that leaves other things under the names that test cells use. All variants run in this one
process, without a kernel: every code cell in its order, in a namespace of its own per variant.
"""

import contextlib
import io
import linecache
import os
import re
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coursepkg.grading import variants
from coursepkg.grading.course import Course, CourseError
from coursepkg.grading.release import student_version
from coursepkg.grading.summary import default_console
from coursepkg.grading.variants import Mutant

#: Every exercise needs so many plausible wrong answers.
MUTANTS = 4
#: A mutant that ends in one of these was not written with care; a student's wrong answer runs.
BROKEN = re.compile(r"\b(SyntaxError|NameError|UnboundLocalError|ImportError|ModuleNotFoundError)\b")


@dataclass
class Variant:
    """A notebook that was run. `points` and `errors` by exercise; `problems`: what the proof demands and it lacks."""

    name: str
    exercise: str | None
    points: dict[str, float] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass
class Proof:
    """What was found. `maxima`: points by exercise. `problems`: of the assignment as a whole."""

    assignment: str
    maxima: dict[str, float]
    variants: list[Variant]
    problems: list[str]
    seconds: float

    @property
    def holds(self) -> bool:
        return not self.problems and not any(variant.problems for variant in self.variants)


def main(assignments: list[str], console: Console | None = None, root: Path | None = None) -> bool:
    """Prove the assignments (all of the course, if none is named) and print a table of each; whether all hold.

    `root` is the course's folder or one in it, by default the current. Raises CourseError where there is no such assignment, or none at all.
    """
    console = console or default_console()
    course = Course.open(root)
    assignments = assignments or course.assignments()
    if not assignments:
        raise CourseError(
            "The course has no assignment: `make build` makes them from their masters in solutions/."
        )
    for assignment in assignments:
        course.instructors(assignment)
    proofs = [prove(course, assignment) for assignment in assignments]
    for proof in proofs:
        console.print(table(proof))
        for problem in proof.problems:
            console.print(Text(problem, style="red"))
        verdict = "The proof holds" if proof.holds else "The proof FAILS"
        console.print(
            f"{verdict}: {proof.assignment}, {len(proof.variants)} variants in {proof.seconds:.1f} s."
        )
    return all(proof.holds for proof in proofs)


def prove(course: Course, assignment: str) -> Proof:
    """Run all variants of an assignment: blank, solutions and mutants."""
    start = time.perf_counter()
    os.environ.setdefault("MPLBACKEND", "Agg")
    instructors = course.instructors_notebook(assignment)
    path = course.instructors(assignment).with_name("mutants.toml")
    maxima = {
        variants.exercise(cell): float(cell.metadata.nbgrader.points)
        for cell in instructors.cells
        if variants.is_test(cell)
    }
    mutants = read_mutants(path)
    problems = _unsuited(mutants, maxima, instructors)
    suited = [mutant for mutant in mutants if not _unsuited([mutant], maxima, instructors, counted=False)]
    blank = variants.with_tests(student_version(instructors, assignment, course.root), instructors)
    solution = _run(Variant("solution", None), instructors, lost=set())
    unsolved = set(solution.errors)
    consuming, leaving = variants.consuming(instructors), variants.leaving_names(instructors)
    found = [
        _run(Variant("blank", None), blank, lost=set(maxima)),
        solution,
        _run(Variant("solution that consumes its arguments", None), consuming, unsolved),
        _run(Variant("solution that leaves names behind", None), leaving, unsolved),
    ]
    for mutant in suited:
        variant = Variant(mutant.name, mutant.exercise)
        found.append(_run(variant, variants.mutated(instructors, mutant), {mutant.exercise} | unsolved))
        if mutant.exercise in unsolved:
            variant.problems.append("proves nothing: the solution loses these points, too")
    return Proof(assignment, maxima, found, problems, time.perf_counter() - start)


def read_mutants(path: Path) -> list[Mutant]:
    """The mutants of a mutants.toml. Raises CourseError where it is missing or an entry is not one."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
        return [Mutant(**entry) for entry in entries]
    except FileNotFoundError as error:
        raise CourseError(f"No {path}: write at least {MUTANTS} [[mutant]] for every exercise.") from error
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise CourseError(f"{path}: {error}. A [[mutant]] has exercise, name, replace and by.") from error


def _unsuited(
    mutants: list[Mutant], maxima: dict[str, float], instructors: NotebookNode, counted: bool = True
) -> list[str]:
    """What is wrong with the mutants before anything runs."""
    solutions = {
        cell.metadata.nbgrader.grade_id: cell.source for cell in instructors.cells if variants.is_answer(cell)
    }
    problems = []
    for mutant in mutants:
        where = f"mutant {mutant.exercise}: {mutant.name}"
        if mutant.exercise not in maxima or mutant.exercise not in solutions:
            problems.append(f"{where}: there is no such exercise; there are {', '.join(maxima)}")
            continue
        times = solutions[mutant.exercise].count(mutant.replace)
        if times != 1:
            problems.append(f"{where}: `{mutant.replace}` occurs {times} times in the solution, not once")
        elif mutant.replace == mutant.by:
            problems.append(f"{where}: replaces `{mutant.by}` by itself")
    if counted:
        for exercise in maxima:
            number = sum(mutant.exercise == exercise for mutant in mutants)
            if number < MUTANTS:
                problems.append(f"{exercise} has {number} mutants and needs {MUTANTS}")
    return problems


def _run(variant: Variant, nb: NotebookNode, lost: set[str]) -> Variant:
    """Run the notebook, and note where it did not lose exactly the exercises `lost`."""
    with _main_module() as namespace:
        for number, cell in enumerate(nb.cells, start=1):
            if cell.cell_type != "code":
                continue
            error = _execute(
                cell.source, f"<{variant.exercise or 'all'}: {variant.name}, cell {number}>", namespace
            )
            name = variants.exercise(cell)
            if variants.is_test(cell):
                points = float(cell.metadata.nbgrader.points)
                variant.points[name] = 0.0 if error else points
                if error:
                    variant.errors[name] = error
                if (variant.points[name] == 0.0) != (name in lost):
                    variant.problems.append(_mistake(name, error))
                elif error and variant.exercise == name and _is_broken(error):
                    variant.problems.append(f"is not a wrong answer but a broken one: {_first_line(error)}")
            elif error and not (variant.name == "blank" and variants.is_answer(cell)):
                variant.problems.append(f"cell {number} ({name}) raised {_first_line(error)}")
    return variant


def _mistake(exercise: str, error: BaseException | None) -> str:
    return f"loses {exercise}: {_first_line(error)}" if error else f"is not caught by the tests of {exercise}"


def _is_broken(error: BaseException) -> bool:
    """Whether the answer did not run at all: raised in the test, or, as a check reports it, in the call."""
    return BROKEN.search(f"{type(error).__name__} {error}") is not None


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")
    return f"{type(error).__name__}: {text[0]}" if text[0] else type(error).__name__


@contextlib.contextmanager
def _main_module() -> Iterator[dict]:
    """A new `__main__`, as a kernel's; the earlier one is put back."""
    before = sys.modules["__main__"]
    module = ModuleType("__main__")
    module.__dict__.update(__builtins__=__builtins__, display=lambda *_, **__: None)
    sys.modules["__main__"] = module
    try:
        yield module.__dict__
    finally:
        sys.modules["__main__"] = before


def _execute(source: str, name: str, namespace: dict) -> BaseException | None:
    """Run a cell quietly; what it raised, or None. inspect.getsource finds the functions it defines.

    Magics are understood but there is no IPython to run them; one that runs is an error.
    """
    source = TransformerManager().transform_cell(source)
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        try:
            exec(compile(source, name, "exec", dont_inherit=True), namespace)
        except (Exception, SystemExit) as error:
            return error
    return None


def table(proof: Proof) -> Table:
    """One row a variant: what it earned of each kind, and whether that is what the proof demands."""
    total = sum(proof.maxima.values())
    result = Table(title=f"{proof.assignment}: {total:g} points from tests", title_justify="left")
    result.add_column("Exercise", no_wrap=True)
    result.add_column("Answer")
    result.add_column("Its points", justify="right")
    result.add_column("All points", justify="right")
    result.add_column("Result")
    for variant in sorted(
        proof.variants, key=lambda one: list(proof.maxima).index(one.exercise) if one.exercise else -1
    ):
        own = variant.exercise
        result.add_row(
            own or "all",
            Text(variant.name),
            "" if own is None else f"{variant.points.get(own, 0):g} of {proof.maxima[own]:g}",
            f"{sum(variant.points.values()):g} of {total:g}",
            Text("; ".join(variant.problems), style="red")
            if variant.problems
            else Text("as it should be", style="green"),
        )
    return result
