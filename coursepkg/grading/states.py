"""Where each submission stands, so that no missing grade is taken for a zero."""

import glob
import os
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from nbgrader.api import Assignment, Grade, Gradebook, SubmittedAssignment
from nbgrader.coursedir import CourseDirectory

from coursepkg.grading import record, stamps


class State(StrEnum):
    """What an instructor reads in the table and in the export."""

    GRADED = "graded"
    MANUAL = "needs manual grading"
    FAILED = "failed"
    TIMEOUT = "out of time"
    MEMORY = "out of memory"
    REFUSED = "refused"
    NOT_GRADED = "not graded"
    NOT_SUBMITTED = "not submitted"


#: Submissions that could not be graded, though there is something to grade.
BROKEN = (State.FAILED, State.TIMEOUT, State.MEMORY, State.REFUSED)


@dataclass
class Standing:
    """One student's standing in one assignment. Points are None where none have been earned or given yet.

    `raw` and `score`: the whole assignment before and after the late penalty; None until every part is graded. `automatic` and `manual`:
    the points of each part, of `automatic_max` and `manual_max`. `awaiting`: the cells a person must grade.
    `points`: by exercise, None where there are none yet. `failures`, `unanswered`, `sandbox`: as in record.Record.
    """

    student: str
    state: State
    reason: str = ""
    raw: float | None = None
    score: float | None = None
    automatic: float | None = None
    manual: float | None = None
    penalty: float | None = None
    timestamp: datetime | None = None
    awaiting: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    points: dict[str, float | None] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)
    sandbox: str = ""


def standings(gradebook: Gradebook, coursedir: CourseDirectory, assignment: Assignment) -> list[Standing]:
    """The standing of every student that the gradebook knows or who has submitted, in the order of their ids."""
    known = record.load_all(gradebook, assignment.name)
    submissions = {submission.student.id: submission for submission in assignment.submissions}
    students = {student.id for student in gradebook.students} | set(submitters(coursedir, assignment.name))
    return [
        _standing(
            coursedir, assignment, student, submissions.get(student), known.get(student, record.Record())
        )
        for student in sorted(students)
    ]


def _standing(
    coursedir: CourseDirectory,
    assignment: Assignment,
    student: str,
    submission: SubmittedAssignment | None,
    known: record.Record,
) -> Standing:
    """The standing of one student."""
    submitted = folder(coursedir, "submitted", student, assignment.name)
    if submission is None:
        if submitted.is_dir():
            return Standing(student, State.NOT_GRADED, "collected, not graded yet")
        return Standing(student, State.NOT_SUBMITTED)
    result = Standing(student, State.GRADED, timestamp=submission.timestamp, notes=known.notes)
    result.failures, result.unanswered, result.sandbox = known.failures, known.unanswered, known.sandbox
    autograded = folder(coursedir, "autograded", student, assignment.name)
    complete = all((autograded / f"{notebook.name}.ipynb").exists() for notebook in assignment.notebooks)
    newer = _newer(submitted, autograded)
    grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
    result.awaiting = [grade.name for grade in grades if grade.needs_manual_grade]
    result.points = {
        exercise_of(grade.name): None
        if grade.auto_score is None and grade.manual_score is None
        else grade.score
        for grade in grades
    }
    if newer:
        result.state, result.reason = State.NOT_GRADED, "submitted again after it was graded"
    elif known.failed and (result.awaiting or not complete):
        result.state, result.reason = _failed(known), known.failed
    elif not complete:
        result.state, result.reason = State.FAILED, "nbgrader could not grade it; its log says why"
    else:
        _points(result, submission, grades)
    return result


def _failed(known: record.Record) -> State:
    return State(known.state) if known.state else State.FAILED


def _points(result: Standing, submission: SubmittedAssignment, grades: list[Grade]) -> None:
    """The points of a submission that could be graded."""
    result.penalty = submission.late_submission_penalty
    by_hand = [grade for grade in grades if is_manual(grade)]
    automatic = [grade for grade in grades if not is_manual(grade)]
    result.automatic = _total(automatic)
    result.manual = _total(by_hand)
    if result.awaiting:
        result.state, result.reason = State.MANUAL, f"a person must grade {', '.join(result.awaiting)}"
    else:
        result.raw = submission.score
        result.score = max(0.0, submission.score - result.penalty)


def _total(grades: list[Grade]) -> float | None:
    """Their points together; None while one of them has none."""
    if any(grade.auto_score is None and grade.manual_score is None for grade in grades):
        return None
    return sum(grade.score for grade in grades)


def exercise_of(cell: str) -> str:
    """The exercise that a graded cell belongs to."""
    return cell.removeprefix("test_")


def is_manual(grade: Grade) -> bool:
    """Whether a person grades this cell: it is the student's answer, not a test of it."""
    return grade.name in {cell.name for cell in grade.notebook.notebook.solution_cells}


def maxima(assignment: Assignment) -> tuple[float, float]:
    """The points of an assignment that tests give, and those that a person gives."""
    automatic = manual = 0.0
    for notebook in assignment.notebooks:
        answers = {cell.name for cell in notebook.solution_cells}
        for cell in notebook.grade_cells:
            if cell.name in answers:
                manual += cell.max_score
            else:
                automatic += cell.max_score
    return automatic, manual


def folder(coursedir: CourseDirectory, step: str, student: str, assignment: str) -> Path:
    """The folder of a submission in one of nbgrader's steps: source, release, submitted, autograded, feedback."""
    directory = getattr(coursedir, f"{step}_directory")
    return Path(coursedir.format_path(directory, student, assignment))


def submitters(coursedir: CourseDirectory, assignment: str) -> list[str]:
    """The students of whom something has been collected."""
    pattern = folder(coursedir, "submitted", "*", assignment)
    return sorted(Path(path).parent.name for path in glob.glob(str(pattern)) if os.path.lexists(path))


def _newer(submitted: Path, autograded: Path) -> bool:
    """Whether what was collected last is newer than what was graded."""
    collected, graded = stamps.handed_in(submitted)[0], stamps.handed_in(autograded)[0]
    return collected is not None and graded is not None and collected > graded
