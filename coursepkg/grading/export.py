"""Grades as a table that keeps a grade that is missing apart from a grade of zero."""

import csv
from pathlib import Path

from nbgrader.api import Assignment, Gradebook, Student
from nbgrader.coursedir import CourseDirectory
from nbgrader.plugins import ExportPlugin

from coursepkg.grading.states import Standing, maxima, standings

COLUMNS = (
    "assignment duedate timestamp student_id last_name first_name email state reason "
    "raw_score late_submission_penalty score max_score "
    "automatic_score automatic_max manual_score manual_max"
).split()


class StateCsv(ExportPlugin):
    """nbgrader's table of grades with a state and its reason.

    `raw_score` and `score` are empty until every part of a submission is graded; what tests and graders have given
    so far stands in `automatic_score` and `manual_score`.
    """

    def export(self, gradebook: Gradebook) -> None:
        """Write the assignments and students asked for, or all, to `--to` (default: grades.csv)."""
        path = Path(self.to or "grades.csv")
        self.log.info("Exporting grades to %s", path)
        write(
            path,
            gradebook,
            self.parent.coursedir,
            [str(name) for name in self.assignment],
            [str(name) for name in self.student],
        )


def write(
    path: Path,
    gradebook: Gradebook,
    coursedir: CourseDirectory,
    assignments: list[str],
    students: list[str] | None = None,
) -> None:
    """Write the grades of the assignments (all, if none is named) and students (all, if none is named)."""
    people = {student.id: student for student in gradebook.students}
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for assignment in sorted(gradebook.assignments, key=lambda one: one.name):
            if assignments and assignment.name not in assignments:
                continue
            for standing in standings(gradebook, coursedir, assignment):
                if not students or standing.student in students:
                    table.writerow(_row(assignment, standing, people.get(standing.student)))


def _row(assignment: Assignment, standing: Standing, student: Student | None) -> dict:
    automatic_max, manual_max = maxima(assignment)
    row = {
        "assignment": assignment.name,
        "duedate": assignment.duedate,
        "timestamp": standing.timestamp,
        "student_id": standing.student,
        "state": standing.state,
        "reason": standing.reason,
        "raw_score": standing.raw,
        "late_submission_penalty": standing.penalty,
        "score": standing.score,
        "max_score": assignment.max_score,
        "automatic_score": standing.automatic,
        "automatic_max": automatic_max,
        "manual_score": standing.manual,
        "manual_max": manual_max,
    }
    if student is not None:
        row |= {key: getattr(student, key) for key in ("last_name", "first_name", "email")}
    return {key: "" if value is None else value for key, value in row.items()}
