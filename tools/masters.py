"""The text masters (jupytext percent scripts) and the notebooks they describe, before anything is run.

A lecture is notebooks/NN_slug.py. An assignment is solutions/NN_slug/NN_slug.py; its cell headers use a short form
of nbgrader's metadata, which `_nbgrader` expands:

    # %% solution="name"                     the student's cell of exercise `name`
    # %% test="name" points=3                its locked, automatically graded tests
    # %% [markdown] written="name" points=4  an answer that is graded by hand
    # %% [markdown] rubric="name"            what the grader of that answer reads; locked
    every other cell                         locked
"""

import ast
import builtins
import re
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from tools.address import Address

SLUG = re.compile(r"\d\d_[a-z][a-z0-9_]*")
NAME = re.compile(r"[a-z][a-z0-9_]*")
NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
ROLES = ("solution", "test", "written", "rubric")


class MasterError(Exception):
    """A master that does not describe a notebook; the message says where and what to write instead."""


@dataclass(frozen=True)
class Master:
    """One text master under the repository `root`."""

    root: Path
    path: Path
    graded: bool

    @property
    def slug(self) -> str:
        return self.path.stem

    @property
    def notebook(self) -> Path:
        """The notebook built from it: the lecture, or the instructor's version of the assignment."""
        return self.path.with_suffix(".ipynb")

    @property
    def student(self) -> Path:
        """The student's version of an assignment."""
        return self.root / "notebooks" / "assignments" / f"{self.slug}.ipynb"


def lectures(root: Path) -> list[Master]:
    """The lectures' masters, in the order of their numbers."""
    return [Master(root, path, graded=False) for path in _numbered(root / "notebooks")]


def assignments(root: Path) -> list[Master]:
    """The assignments' masters, in the order of their numbers."""
    folders = sorted(folder for folder in (root / "solutions").glob("*") if SLUG.fullmatch(folder.name))
    paths = [folder / f"{folder.name}.py" for folder in folders]
    return [Master(root, path, graded=True) for path in paths if path.exists()]


def _numbered(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if SLUG.fullmatch(path.stem))


def read(master: Master, address: Address) -> NotebookNode:
    """The notebook that `master` describes: nbformat 4.5, no outputs, cell ids `<slug>-<n>` counted from 1.

    Raises MasterError where a header is not understood or an exercise is incomplete.
    """
    script = jupytext.reads(master.path.read_text(encoding="utf-8"), fmt="py:percent")
    target = (master.student if master.graded else master.notebook).relative_to(master.root).as_posix()
    cells = []
    for number, cell in enumerate(script.cells, start=1):
        where = f"{master.path.relative_to(master.root).as_posix()}, cell {number}"
        header = {key: value for key, value in cell.metadata.items() if not key.startswith("lines_to_")}
        new = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}.get(
            cell.cell_type
        )
        if new is None:
            raise MasterError(f"{where}: a {cell.cell_type} cell; write code or [markdown]")
        built = new(address.fill(cell.source, target), id=f"{master.slug}-{number}")
        built.metadata = nbformat.from_dict(_metadata(header, cell.cell_type, master.graded, where))
        cells.append(built)
    if master.graded:
        _lock_the_rest(cells)
        _name_answers(cells)
        _check_exercises(cells, master.path.relative_to(master.root).as_posix())
    return nbformat.v4.new_notebook(
        cells=cells, metadata=nbformat.from_dict(NOTEBOOK_METADATA), nbformat=4, nbformat_minor=5
    )


def _metadata(header: dict, cell_type: str, graded: bool, where: str) -> dict:
    """The cell metadata that a percent header stands for."""
    metadata = {key: header.pop(key) for key in ("tags", "jupyter", "nbgrader") if key in header}
    role = [key for key in ROLES if key in header]
    if role and not graded:
        raise MasterError(f"{where}: {role[0]}= belongs in an assignment, not in a lecture")
    if len(role) > 1:
        raise MasterError(f"{where}: {' and '.join(role)} in one cell; give each its own")
    if role:
        metadata["nbgrader"] = _nbgrader(
            role[0], header.pop(role[0]), header.pop("points", None), cell_type, where
        )
    if header:
        raise MasterError(f"{where}: unknown in its header: {', '.join(sorted(header))}")
    return metadata


def _nbgrader(role: str, name: object, points: object, cell_type: str, where: str) -> dict:
    """nbgrader's metadata (schema 3) of a cell with that role."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise MasterError(f'{where}: {role}={name!r}; write a name in lower case, such as {role}="kv_cache"')
    kind = "code" if role in ("solution", "test") else "markdown"
    if cell_type != kind:
        raise MasterError(f"{where}: {role}= stands on a {cell_type} cell; it belongs on a {kind} cell")
    scored = role in ("test", "written")
    if scored != (isinstance(points, int) and points > 0) or (not scored and points is not None):
        raise MasterError(
            f"{where}: points={points!r} on {role}=; tests and written answers, only, have points > 0"
        )
    metadata = {
        "schema_version": 3,
        "grade": scored,
        "grade_id": f"{role}_{name}" if role in ("test", "rubric") else name,
        "locked": role in ("test", "rubric"),
        "solution": role in ("solution", "written"),
        "task": False,
    }
    return metadata | ({"points": points} if scored else {})


def _lock_the_rest(cells: list[NotebookNode]) -> None:
    """Every cell without a role becomes read-only, named text_01, code_01, … in its order."""
    count = {"code": 0, "markdown": 0}
    for cell in cells:
        if "nbgrader" in cell.metadata:
            continue
        count[cell.cell_type] += 1
        name = {"code": "code", "markdown": "text"}[cell.cell_type]
        locked = {"grade": False, "locked": True, "solution": False, "task": False, "schema_version": 3}
        cell.metadata["nbgrader"] = NotebookNode(locked, grade_id=f"{name}_{count[cell.cell_type]:02d}")


def _name_answers(cells: list[NotebookNode]) -> None:
    """A student's cell bears its name in its text, too: other editors and copying lose what stands in the metadata."""
    for cell in cells:
        name = cell.metadata.nbgrader.grade_id
        if cell.metadata.nbgrader.solution:
            comment = "# grade_id: {}" if cell.cell_type == "code" else "<!-- grade_id: {} -->"
            cell.source = f"{comment.format(name)}\n{cell.source}"


def _check_exercises(cells: list[NotebookNode], where: str) -> None:
    """An exercise is one solution cell and one test cell of the same name; names occur once."""
    names = [cell.metadata.nbgrader.grade_id for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MasterError(f"{where}: occurs more than once: {', '.join(twice)}")
    code = [cell for cell in cells if cell.cell_type == "code"]
    solutions = {cell.metadata.nbgrader.grade_id: cell for cell in code if cell.metadata.nbgrader.solution}
    tests = {
        cell.metadata.nbgrader.grade_id.removeprefix("test_"): cell
        for cell in code
        if cell.metadata.nbgrader.grade
    }
    for name in sorted(solutions.keys() ^ tests.keys()):
        raise MasterError(f"{where}: exercise {name} needs one solution cell and one test cell of that name")
    for name, cell in solutions.items():
        _check_region(cell, "SOLUTION", f"{where}: solution {name}")
        borrowed = (
            _names_used(tests[name].source) - _names_bound(tests[name].source) - _names_bound(cell.source)
        )
        if borrowed:
            raise MasterError(
                f"{where}: test {name} uses {', '.join(sorted(borrowed))}, which a student's cell may have bound to "
                "something else; import or define it in the test cell itself"
            )
    for cell in cells:
        if cell.metadata.nbgrader.grade_id.startswith("rubric_"):
            _check_region(cell, "MARK SCHEME", f"{where}: {cell.metadata.nbgrader.grade_id}")


def _names_used(source: str) -> set[str]:
    """Names that a cell reads, Python's own left out."""
    nodes = ast.walk(ast.parse(source))
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return used - set(dir(builtins))


def _names_bound(source: str) -> set[str]:
    """Names that a cell assigns, imports or defines."""
    bound: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
    return bound


def _check_region(cell: NotebookNode, region: str, where: str) -> None:
    """What is between the two lines never reaches the student; without them, all of the cell may."""
    if not re.search(rf"BEGIN {region}.*END {region}", cell.source, re.DOTALL):
        raise MasterError(f"{where} lacks the lines BEGIN {region} and END {region}")
