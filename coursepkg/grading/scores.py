"""From outputs to points."""

import math
import re
from logging import Logger

from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbgrader import utils
from nbgrader.api import Grade, Gradebook
from nbgrader.preprocessors import SaveAutoGrades

from coursepkg.grading import record
from coursepkg.grading.notes import noted

#: How numpy 2 and torch print a number that is a cell's last value.
_WRAPPED = re.compile(r"(?:np\.\w+|tensor)\((.*?)(?:, dtype=.*)?\)", re.DOTALL)


def score_of(cell: NotebookNode, log: Logger) -> float | None:
    """The points of a graded cell, between 0 and its maximum; None where a person must grade it.

    A test cell earns all of its points unless it ended in an error, or unless its last value is a number: then that
    many. stderr is not an error. What is out of bounds or not a number is bounded, with a warning in the log.
    """
    if cell.cell_type != "code" or utils.is_solution(cell):
        return utils.determine_grade(cell, log)[0]
    maximum = float(cell.metadata.nbgrader["points"])
    if any(output.output_type == "error" for output in cell.outputs):
        return 0.0
    for output in cell.outputs:
        if output.output_type == "execute_result":
            return _partial(output, maximum, cell.metadata.nbgrader["grade_id"], log)
    return maximum


def _partial(output: NotebookNode, maximum: float, name: str, log: Logger) -> float:
    text = "".join(output.data.get("text/plain", "")).strip()
    wrapped = _WRAPPED.fullmatch(text)
    try:
        points = float(wrapped[1] if wrapped else text)
    except ValueError:
        return maximum
    bounded = 0.0 if math.isnan(points) else min(max(points, 0.0), maximum)
    if bounded != points:
        log.warning("%s returned %s points of %g; %g were given", name, text, maximum, bounded)
    return bounded


class SaveGrades(SaveAutoGrades):
    """Stores the points of one notebook in the gradebook, and in our record what the gradebook has no place for.

    Where nothing could be scored no score is stored, and a person is asked for. Manual grades are never touched; one
    that had been settled stays settled while what it grades is unchanged.
    """

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        where = resources["nbgrader"]
        with Gradebook(where["db_url"]) as gradebook:
            self._earlier = record.load(gradebook, where["assignment"], where["student"])
            self._now = record.Record(failed=noted(nb, "failed", ""), notes=list(noted(nb, "changes", [])))
            submission = gradebook.find_submission_notebook(
                where["notebook"], where["assignment"], where["student"]
            )
            present = {cell.metadata.nbgrader["grade_id"] for cell in nb.cells if utils.is_grade(cell)}
            for grade in submission.grades:
                if grade.name not in present:
                    grade.auto_score, grade.needs_manual_grade = None, True
                    self._now.notes.append(f"{grade.name} is missing from the notebook")
            gradebook.db.commit()
        nb, resources = super().preprocess(nb, resources)
        with Gradebook(where["db_url"]) as gradebook:
            record.save(gradebook, where["assignment"], where["student"], self._now)
        return nb, resources

    def _add_score(self, cell: NotebookNode, resources: ResourcesDict) -> None:
        name = cell.metadata.nbgrader["grade_id"]
        grade = self.gradebook.find_grade(name, self.notebook_id, self.assignment_id, self.student_id)
        score = None if self._now.failed else score_of(cell, self.log)
        self._now.answers[name] = _graded_text(cell, score)
        grade.needs_manual_grade = (
            not self._settled(grade) if grade.manual_score is not None else score is None
        )
        grade.auto_score = score
        self.gradebook.db.commit()

    def _settled(self, grade: Grade) -> bool:
        """Whether a person has graded exactly this before."""
        unchanged = self._earlier.answers.get(grade.name) == self._now.answers[grade.name]
        return unchanged and not grade.needs_manual_grade


def _graded_text(cell: NotebookNode, score: float | None) -> str:
    """What a person who grades the cell by hand would base the grade on."""
    return utils.compute_checksum(cell) if utils.is_solution(cell) else f"{score}"
