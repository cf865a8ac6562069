"""`coursepkg grade`: a whole class, examined by workers and written down by one writer."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from nbgrader.api import Assignment
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from coursepkg.grading import digest, export, record, report, summary
from coursepkg.grading.assignment import Prepared, bring_into_gradebook, on_skeleton
from coursepkg.grading.course import Course, CourseError
from coursepkg.grading.engine.cluster import Cluster
from coursepkg.grading.engine.crew import Crew, cores
from coursepkg.grading.engine.jobs import Job, NoWorkers, Result
from coursepkg.grading.engine.station import LEVELS
from coursepkg.grading.intake import files as intake
from coursepkg.grading.intake import reading
from coursepkg.grading.pages import Pages
from coursepkg.grading.states import Standing, exercise_of, folder, standings, submitters
from coursepkg.grading.verdicts import Verdict
from coursepkg.grading.writer import Writer

#: Submissions that are taken in while the workers still import what they need.
AHEAD = 20


def main(
    assignment: str,
    force: bool = False,
    students: Iterable[str] = (),
    to: Path | None = None,
    console: Console | None = None,
    root: Path | None = None,
    jobs: int | None = None,
    sandbox: str = "best",
    cluster: str | None = None,
    feedback: bool = True,
) -> list[Standing]:
    """Grade what was collected of an assignment, write feedback and grades, print a table, return the standings.

    Only what has changed since it was last graded is graded again, unless `force`. Submissions and manual grades are
    never changed. `students` limits the grading to some; `to` names the table of grades, by default
    grades_ASSIGNMENT.csv in the course's folder; `root` is the course's folder or one in it, by default the current.
    `jobs` submissions are examined at a time, by default as many as there are cores; or as many as the dask cluster at
    the address `cluster` has threads. `sandbox`: see engine.station. `feedback`: whether to write the pages.
    Cut off at any moment, the same call goes on where it was.
    Raises CourseError, with nothing written, where the course, the assignment, the submissions or the folder of `to`
    are not there, or another process grades; and at the end where `to` cannot be written.
    """
    console = console or summary.default_console()
    course = Course.open(root)
    course.instructors(assignment)
    chosen = _chosen(course, assignment, set(students))
    to = to or course.root / f"grades_{assignment}.csv"
    _refuse_unwritable(to)
    with _alone(course), _logged(course, course.root / "build" / f"grade_{assignment}.log") as log:
        bring_into_gradebook(course, assignment)
        class_ = Class(course, assignment)
        workers = class_.workers(jobs or cores(), sandbox, cluster)
        try:
            class_.grade(chosen, force, workers, console)
        except NoWorkers as error:
            raise CourseError(str(error)) from error
        if feedback:
            class_.write_feedback(chosen, jobs or cores(), console)
    with course.gradebook() as gradebook:
        found = gradebook.find_assignment(assignment)
        everyone = standings(gradebook, course.coursedir, found)
        for standing in everyone:
            standing.notes += class_.notes.get(standing.student, [])
        try:
            export.write(to, gradebook, course.coursedir, [assignment])
        except OSError as error:
            raise CourseError(
                f"{to} was not written: {error.strerror}. Is it open in another program? The grades are safe in the "
                "gradebook: run this again, which grades only what has changed."
            ) from error
        written = write_report(course, found, everyone)
        summary.show(console, course, found, everyone, to, log, written)
    return everyone


def write_report(course: Course, assignment: Assignment, everyone: list[Standing]) -> Path:
    """Write report_ASSIGNMENT.html. Raises CourseError where that cannot be."""
    path = course.root / f"report_{assignment.name}.html"
    exercises = [
        report.Exercise(exercise_of(cell.name), cell.max_score, cell.name in answers)
        for notebook in assignment.notebooks
        for answers in [{cell.name for cell in notebook.solution_cells}]
        for cell in notebook.grade_cells
    ]
    rows = [
        report.Row(
            one.student,
            one.state,
            one.reason,
            one.score,
            one.points,
            {name: report.Failure(*said) for name, said in one.failures.items()},
            tuple(one.unanswered),
            tuple(one.notes),
            one.sandbox,
        )
        for one in everyone
    ]
    try:
        report.write(path, assignment.name, exercises, rows, summary.warnings(everyone))
    except OSError as error:
        raise CourseError(
            f"{path} was not written: {error.strerror}. The grades are safe in the gradebook."
        ) from error
    return path


class Class:
    """The submissions of one assignment. `notes`: by student, what the instructor should know of this run."""

    def __init__(self, course: Course, assignment: str) -> None:
        self.course, self.assignment = course, assignment
        self.prepared = Prepared.of(course, assignment)
        self.notes: dict[str, list[str]] = {}

    def workers(self, jobs: int, sandbox: str, cluster: str | None) -> Crew | Cluster:
        """Those that will examine it: of this machine, or of a cluster. Raises CourseError."""
        if sandbox not in (*LEVELS, "best"):
            raise CourseError(f"There is no sandbox {sandbox!r}; there are best, {', '.join(LEVELS)}.")
        if cluster is not None:
            return Cluster(self.prepared.spec, cluster, sandbox)
        return Crew(self.prepared.spec, jobs, sandbox)

    def grade(self, students: list[str], force: bool, workers: Crew | Cluster, console: Console) -> None:
        """Examine what has changed, and store each result as it comes."""
        with Writer(self.course, self.assignment, self.prepared.spec.released) as writer:
            waiting = self._changed(writer, students, force)
            if not waiting:
                return
            with _progress(console, "Grading", len(students)) as advance, workers:
                advance(len(students) - len(waiting))
                taken = self._taken(writer, waiting, advance)
                first = list(itertools.islice(taken, AHEAD))
                if workers.level == "plain":
                    console.print(Text(f"WARNING: {summary.UNCONFINED}", style="bold red"))
                for student, job, result in workers.results(itertools.chain(first, taken)):
                    self._store(writer, student, job, result, waiting[student])
                    advance(1)

    def _changed(self, writer: Writer, students: list[str], force: bool) -> dict[str, str]:
        """The students whose submission is to be graded, with its digest; an empty one where it cannot be read."""
        tests = digest.of_tests(writer.gradebook.find_assignment(self.assignment), self.prepared.spec.limits)
        known = record.load_all(writer.gradebook, self.assignment)
        found = {}
        for student in students:
            try:
                now = digest.of_submission(tests, self._folder("submitted", student))
            except OSError:
                now = ""
            if force or not now or student not in known or known[student].digest != now:
                found[student] = now
        return found

    def _taken(
        self, writer: Writer, waiting: dict[str, str], progress: Callable[[int], None]
    ) -> Iterator[tuple[str, Job]]:
        """The submissions as jobs; one that cannot be taken in is stored as refused at once."""
        for student, version in waiting.items():
            folder = self._folder("submitted", student)
            try:
                taken = intake.take(folder, self.assignment, self.prepared.spec.released)
                files = {name: reading.content(folder / name, intake.Bounds.total) for name in taken.files}
            except reading.Refused as refused:
                writer.failed(student, Verdict("refused", str(refused)), version, [])
            except OSError as error:
                writer.failed(
                    student, Verdict("failed", f"{type(error).__name__}: {error}", ours=True), version, []
                )
            else:
                yield student, Job(on_skeleton(taken, self.prepared.release), files)
                continue
            progress(1)

    def _store(self, writer: Writer, student: str, job: Job, result: Result, version: str) -> None:
        if result.notebook is None:
            writer.failed(student, result.verdict, version, [])
        else:
            writer.graded(student, result.notebook, job.files, version)

    def write_feedback(self, students: list[str], jobs: int, console: Console) -> None:
        """Write the pages whose grades have changed."""
        pages = Pages(self.course, self.assignment)
        with self.course.gradebook() as gradebook:
            due = {}
            for student in students:
                due[student] = pages.due(gradebook, student)
                gradebook.db.expunge_all()
        changed = [student for student, shown in due.items() if shown]
        problems = {}
        with _progress(console, "Feedback", len(students)) as advance:
            advance(len(students) - len(changed))
            for student, problem in pages.write_all(changed, jobs):
                problems[student] = problem
                advance(1)
        with self.course.gradebook() as gradebook:
            for student, problem in problems.items():
                if problem:
                    self.notes.setdefault(student, []).append(problem)
                else:
                    pages.written(gradebook, student, due[student])

    def _folder(self, step: str, student: str) -> Path:
        return folder(self.course.coursedir, step, student, self.assignment)


def _refuse_unwritable(path: Path) -> None:
    """Raise CourseError where a table cannot be written to the path."""
    if path.is_dir():
        raise CourseError(f"{path} is a folder. Name a file in it with --to, such as {path / 'grades.csv'}.")
    if not path.resolve().parent.is_dir():
        raise CourseError(
            f"There is no folder {path.parent}. Make it, or name a file in another folder with --to."
        )


def _chosen(course: Course, assignment: str, students: set[str]) -> list[str]:
    """The students to grade. Raises CourseError where nothing has been collected of them."""
    collected = submitters(course.coursedir, assignment)
    where = folder(course.coursedir, "submitted", "STUDENT", assignment).relative_to(course.root)
    if not collected:
        raise CourseError(
            f"No submissions of {assignment}. Collect them with `nbgrader collect {assignment}` or `nbgrader "
            f"zip_collect {assignment}`, or put each at {where.as_posix()}/{assignment}.ipynb."
        )
    if missing := sorted(students - set(collected)):
        raise CourseError(
            f"No submission of {assignment} by {', '.join(missing)}. There are: {', '.join(collected)}."
        )
    return [student for student in collected if not students or student in students]


@contextmanager
def _alone(course: Course) -> Iterator[None]:
    """While inside, no other process grades this course."""
    (course.root / "build").mkdir(exist_ok=True)
    try:
        with FileLock(course.root / "build" / "grading.lock", timeout=0):
            yield
    except Timeout as error:
        raise CourseError(
            "Another `coursepkg grade` is at work in this course. Wait until it has ended."
        ) from error


@contextmanager
def _logged(course: Course, path: Path) -> Iterator[Path]:
    """Write what nbgrader logs to a file instead of the terminal."""
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    course.log.addHandler(handler)
    try:
        yield path
    finally:
        course.log.removeHandler(handler)
        handler.close()


@contextmanager
def _progress(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar; calling what is given moves it on."""
    bar = Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=total)
        yield lambda steps: bar.advance(task, steps)
