"""`coursepkg prove`: that an assignment's tests tell right answers from wrong ones.

The blank notebook must earn nothing, the solution everything, and each mutant, a plausible wrong answer, must lose the
points of its exercise and no other. All run as submissions do, in the engine that grades a class.

nbgrader alone runs tests in the student's own process. There, too, the blank notebook must earn nothing and the
solution everything, and so must two more solutions: one that empties the lists and dicts it is called with, and one
that leaves other things under the names that test cells use.
"""

import logging
import re
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coursepkg.grading import variants
from coursepkg.grading.assignment import Prepared
from coursepkg.grading.cells import exercise, is_answer, is_test
from coursepkg.grading.course import Course, CourseError
from coursepkg.grading.engine.crew import Crew, cores
from coursepkg.grading.engine.jobs import Job, Result
from coursepkg.grading.scores import score_of
from coursepkg.grading.summary import default_console
from coursepkg.grading.variants import Mutant

#: Every exercise needs so many plausible wrong answers.
MUTANTS = 4
SOLUTION, SOLUTION_ALONE = "solution", "solution, by nbgrader alone"
_QUIET = logging.Logger("coursepkg.grading.prove", logging.CRITICAL)
#: A mutant that ends in one of these was not written with care; a student's wrong answer runs.
BROKEN = re.compile(r"\b(SyntaxError|NameError|UnboundLocalError|ImportError|ModuleNotFoundError)\b")


@dataclass
class Variant:
    """A notebook that was run. `alone`: by nbgrader alone; `lost`: the exercises that it must lose, and no other.

    `points` and `errors` by exercise; `problems`: what the proof demands and it lacks.
    """

    name: str
    exercise: str | None
    nb: NotebookNode
    lost: set[str] = field(default_factory=set)
    alone: bool = False
    points: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
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
    prepared = Prepared.of(course, assignment)
    right, blank = prepared.instructors, prepared.release
    maxima = {exercise(cell): float(cell.metadata.nbgrader.points) for cell in filter(is_test, right.cells)}
    mutants = read_mutants(course.instructors(assignment).with_name("mutants.toml"))
    problems = _unsuited(mutants, maxima, right)
    suited = [one for one in mutants if not _unsuited([one], maxima, right, counted=False)]
    found = list(_variants(blank, right, suited, set(maxima)))
    by_number = {str(number): variant for number, variant in enumerate(found)}
    with Crew(prepared.spec, cores()) as crew:
        jobs = ((number, Job(one.nb, together=one.alone)) for number, one in by_number.items())
        for number, _, result in crew.results(jobs):
            _read(by_number[number], result)
    solutions = {one.alone: one for one in found if one.name in (SOLUTION, SOLUTION_ALONE)}
    for variant in found:
        solution = solutions[variant.alone]
        _judge(variant, unsolved=set(solution.errors) if variant is not solution else set())
    _explain(solutions[False], set(solutions[False].errors) - set(solutions[True].errors))
    return Proof(assignment, maxima, found, problems, time.perf_counter() - start)


def _variants(
    blank: NotebookNode, solution: NotebookNode, mutants: list[Mutant], everything: set[str]
) -> Iterator[Variant]:
    """The notebooks to run, and what each must lose."""
    yield Variant("blank", None, blank, everything)
    yield Variant(SOLUTION, None, solution)
    yield Variant("blank, by nbgrader alone", None, blank, everything, alone=True)
    yield Variant(SOLUTION_ALONE, None, solution, alone=True)
    yield Variant("solution that consumes its arguments", None, variants.consuming(solution), alone=True)
    yield Variant("solution that leaves names behind", None, variants.leaving_names(solution), alone=True)
    for mutant in mutants:
        nb = variants.mutated(solution, mutant)
        yield Variant(mutant.name, mutant.exercise, nb, {mutant.exercise})


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
        cell.metadata.nbgrader.grade_id: cell.source for cell in instructors.cells if is_answer(cell)
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


def _read(variant: Variant, result: Result) -> None:
    """Note what each exercise of a variant earned, why it did not, and what else went wrong."""
    if result.notebook is None or result.verdict.state:
        variant.problems.append(f"could not be run: {result.verdict.reason}")
        return
    for number, cell in enumerate(result.notebook.cells, start=1):
        if cell.cell_type != "code":
            continue
        error = next((output for output in cell.outputs if output.output_type == "error"), None)
        said = _first_line(error) if error else ""
        if is_test(cell):
            variant.points[exercise(cell)] = score_of(cell, _QUIET) or 0.0
            if error:
                variant.errors[exercise(cell)] = said
        elif error and not (variant.lost and is_answer(cell) and variant.exercise is None):
            variant.problems.append(f"cell {number} ({exercise(cell)}) raised {said}")


def _judge(variant: Variant, unsolved: set[str]) -> None:
    """Note where a variant did not lose exactly what it must, besides what the solution loses."""
    for name, points in variant.points.items():
        error = variant.errors.get(name)
        if (points == 0.0) != (name in variant.lost | unsolved):
            variant.problems.append(
                f"loses {name}: {error}" if error else f"is not caught by the tests of {name}"
            )
        elif error and variant.exercise == name and BROKEN.search(error):
            variant.problems.append(f"is not a wrong answer but a broken one: {error}")
    if variant.exercise in unsolved:
        variant.problems.append("proves nothing: the solution loses these points, too")


def _explain(solution: Variant, names: set[str]) -> None:
    """Say of exercises that the solution loses here but not by nbgrader alone what their tests do wrong."""
    solution.problems += [
        f"{name} is lost only where tests run apart from answers: they can call what an answer defines and compare "
        "what comes back, but not look into it"
        for name in sorted(names)
    ]


def _first_line(error: NotebookNode) -> str:
    """An error in a line; of a check, what was called and what came of it."""
    lines = strip_ansi(error.evalue).strip().split("\n")
    text = " ".join(lines[:2]) if error.ename == "CheckFailed" else lines[0]
    return f"{error.ename}: {text}" if text else error.ename


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
