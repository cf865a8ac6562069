"""Running cells as a class's are run, in a test: the warm process of all tests, and a crew for one notebook."""

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from coursepkg.grading.engine.crew import Crew
from coursepkg.grading.engine.jobs import Job, Spec
from coursepkg.grading.sandbox.limits import Limits


def run(
    *sources: str, level: str = "best", files: dict[str, bytes] | None = None, **limits: float
) -> NotebookNode:
    """The cells, run by themselves with these limits."""
    nb = nbformat.v4.new_notebook(cells=[new_code_cell(source) for source in sources])
    return run_notebook(nb, level, files, **limits)


def run_notebook(
    nb: NotebookNode, level: str = "best", files: dict[str, bytes] | None = None, **limits: float
) -> NotebookNode:
    """The notebook, run with these limits."""
    spec = Spec.of(nb, limits=Limits(**limits))
    with Crew(spec, level=level) as crew:
        ((_, _, result),) = crew.results([("one", Job(nb, files or {}))])
    assert result.notebook is not None, result.verdict
    return result.notebook


def test_cell(name: str, source: str, points: int = 1) -> NotebookNode:
    """A cell of tests, as nbgrader marks it."""
    marks = {"grade": True, "solution": False, "locked": True, "points": points, "grade_id": name}
    return new_code_cell(source, metadata={"nbgrader": {**marks, "schema_version": 3, "task": False}})


def error(cell: NotebookNode) -> str:
    """The error that a cell ended in, or an empty text."""
    return next((f"{o.ename}: {o.evalue}" for o in cell.outputs if o.output_type == "error"), "")
