"""Putting the points of a graded notebook into the gradebook."""

from collections.abc import Sequence
from logging import Logger

from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbgrader import utils
from nbgrader.api import Assignment, Gradebook, SubmittedAssignment
from nbgrader.preprocessors import NbGraderPreprocessor

from coursepkg.grading import findings, record
from coursepkg.grading.notes import noted
from coursepkg.grading.record import Record
from coursepkg.grading.scores import score_of
from coursepkg.grading.verdicts import Verdict


class SaveGrades(NbGraderPreprocessor):
    """Stores a notebook's grades: the step of `nbgrader autograde` that `store` is for `coursepkg grade`."""

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        where = resources["nbgrader"]
        with Gradebook(where["db_url"]) as gradebook:
            submission = gradebook.find_submission(where["assignment"], where["student"])
            earlier = record.load(gradebook, where["assignment"], where["student"])
            now = store(submission, nb, earlier, names(submission.assignment), self.log)
            record.put(gradebook, where["assignment"], where["student"], now)
            gradebook.db.commit()
        return nb, resources


def names(assignment: Assignment) -> dict[str, str]:
    """The names of an assignment's cells by their ids in the gradebook. (Asked for one by one, each is a query.)"""
    kinds = ("grade_cells", "solution_cells", "task_cells")
    found = (getattr(notebook, kind) for notebook in assignment.notebooks for kind in kinds)
    return {cell.id: cell.name for cells in found for cell in cells}


def store(
    submission: SubmittedAssignment, nb: NotebookNode, earlier: Record, named: dict[str, str], log: Logger
) -> Record:
    """Put a graded notebook's points into the gradebook's session, and return what the gradebook has no place for.

    Where nothing could be scored no score is stored, and a person is asked for. Manual grades are never touched; one
    that had been settled stays settled while what it grades is unchanged. `named`: see `names`. Commits nothing.
    """
    now = Record(
        failed=noted(nb, "failed", ""),
        state=noted(nb, "state", ""),
        notes=list(noted(nb, "changes", [])),
        sandbox=noted(nb, "sandbox", ""),
        unanswered=findings.unanswered(nb),
    )
    if not now.failed:
        now.failures = {name: list(said) for name, said in findings.failures(nb).items()}
        earned = findings.earned_unanswered(nb)
        now.notes += [
            f"{name}: earned {points:g} points without an answer: look" for name, points in earned.items()
        ]
    cells = {cell.metadata.nbgrader["grade_id"]: cell for cell in nb.cells if "nbgrader" in cell.metadata}
    (notebook,) = submission.notebooks
    for grade in notebook.grades:
        name = named[grade.cell_id]
        score = None if now.failed else score_of(cells[name], log)
        now.answers[name] = _graded_text(cells[name], score)
        settled = earlier.answers.get(name) == now.answers[name] and not grade.needs_manual_grade
        by_hand = grade.manual_score is not None
        grade.needs_manual_grade = not settled if by_hand else score is None
        grade.auto_score = score
    for comment in notebook.comments:
        cell = cells[named[comment.cell_id]]
        unanswered = cell.metadata.nbgrader.get("checksum") == utils.compute_checksum(cell)
        comment.auto_comment = "No response." if unanswered and not utils.is_task(cell) else None
    return now


def nothing(submission: SubmittedAssignment, verdict: Verdict, notes: Sequence[str] = ()) -> Record:
    """As `store`, of a submission of which nothing could be run: no score, not an earlier one's either."""
    for notebook in submission.notebooks:
        for grade in notebook.grades:
            grade.auto_score, grade.needs_manual_grade = None, True
    return Record(failed=verdict.reason, state=verdict.state, notes=list(notes))


def _graded_text(cell: NotebookNode, score: float | None) -> str:
    """What a person who grades the cell by hand would base the grade on."""
    return utils.compute_checksum(cell) if utils.is_solution(cell) else f"{score}"
