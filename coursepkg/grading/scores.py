"""From a cell's outputs to points."""

import math
import re
from logging import Logger

from nbformat import NotebookNode
from nbgrader import utils

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
