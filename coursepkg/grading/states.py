"""Where each submission stands, so that no missing grade is taken for a zero."""

import glob
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from nbgrader.api import Assignment, Grade, Gradebook, MissingEntry, SubmittedAssignment
from nbgrader.coursedir import CourseDirectory

from coursepkg.grading import record


class State(StrEnum):
    """What an instructor reads in the table and in the export."""

    GRADED = "graded"
    MANUAL = "needs manual grading"
    FAILED = "failed"
    NOT_GRADED = "not graded"
    NOT_SUBMITTED = "not submitted"


@dataclass
class Standing:
    """One student's standing in one assignment. Points are None where none have been earned or given yet.

    `raw` and `score`: the whole assignment before and after the late penalty; None until every part is graded. `automatic` and `manual`:
    the points of each part, of `automatic_max` and `manual_max`. `awaiting`: the cells a person must grade.
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


def standings(gradebook: Gradebook, coursedir: CourseDirectory, assignment: Assignment) -> list[Standing]:
    """The standing of every student that the gradebook knows or who has submitted, in the order of their ids."""
    students = {student.id for student in gradebook.students} | set(submitters(coursedir, assignment.name))
    return [standing(gradebook, coursedir, assignment, student) for student in sorted(students)]


def standing(
    gradebook: Gradebook, coursedir: CourseDirectory, assignment: Assignment, student: str
) -> Standing:
    """The standing of one student."""
    submitted = folder(coursedir, "submitted", student, assignment.name)
    known = record.load(gradebook, assignment.name, student)
    try:
        submission = gradebook.find_submission(assignment.name, student)
    except MissingEntry:
        if known.failed:
            return Standing(student, State.FAILED, known.failed)
        if submitted.is_dir():
            return Standing(student, State.NOT_GRADED, "collected, not graded yet")
        return Standing(student, State.NOT_SUBMITTED)
    result = Standing(student, State.GRADED, timestamp=submission.timestamp, notes=known.notes)
    autograded = folder(coursedir, "autograded", student, assignment.name)
    complete = all((autograded / f"{notebook.name}.ipynb").exists() for notebook in assignment.notebooks)
    newer = _newer(coursedir, submitted, autograded)
    grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
    result.awaiting = [grade.name for grade in grades if grade.needs_manual_grade]
    if newer:
        result.state, result.reason = State.NOT_GRADED, "submitted again after it was graded"
    elif known.failed and (result.awaiting or not complete):
        result.state, result.reason = State.FAILED, known.failed
    elif not complete:
        result.state, result.reason = State.FAILED, "nbgrader could not grade it; its log says why"
    else:
        _points(result, submission, grades)
    return result


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
    """The students of whom a submission has been collected."""
    pattern = folder(coursedir, "submitted", "*", assignment)
    return sorted(Path(path).parent.name for path in glob.glob(str(pattern)) if Path(path).is_dir())


def _newer(coursedir: CourseDirectory, submitted: Path, autograded: Path) -> bool:
    """Whether what was collected last is newer than what was graded."""
    collected = coursedir.get_existing_timestamp(str(submitted))
    graded = coursedir.get_existing_timestamp(str(autograded))
    return collected is not None and graded is not None and collected > graded
