"""Grading side by side: `nbgrader autograde` as it comes, and `coursepkg grade` with one process and with two.

    python -m benchmarks.grading                  20 submissions that import torch, transformers, peft and bitsandbytes
    python -m benchmarks.grading --students 200 --without-nbgrader

All rows grade the same submissions, each in a course of its own and a process of its own, from start to end; the
grades are compared. Times are of this machine; the ratios are what to look at.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from rich.console import Console
from rich.table import Table

from coursepkg.grading.cells import is_test
from coursepkg.grading.course import Course
from coursepkg.grading.release import student_version

ASSIGNMENT = "01_memory"
ROOT = Path(__file__).resolve().parents[1]
IMPORTS = "import torch, transformers, peft, bitsandbytes\n"
#: nbgrader as it comes, but for the folder in which this course keeps the instructor's versions.
STOCK = 'c = get_config()\nc.CourseDirectory.root = r"{root}"\nc.CourseDirectory.source_directory = "solutions"\nc.ClearMarkScheme.enforce_metadata = False\n'
COMMAND = (sys.executable, "-m")


def solution() -> NotebookNode:
    """The instructor's version of the assignment."""
    return nbformat.read(ROOT / "solutions" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb", as_version=4)


@cache
def deserved(number: int) -> float:
    """What tests should give the submission of this number: every fourth leaves an exercise out."""
    points = [float(cell.metadata.nbgrader.points) for cell in solution().cells if is_test(cell)]
    return sum(points) - (0 if number % 4 else points[number // 4 % 7])


def make_course(root: Path, students: int, imports: str = IMPORTS) -> None:
    """A course with this many submissions of the assignment: every fourth leaves an exercise out."""
    folder = root / "solutions" / ASSIGNMENT
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "nbgrader_config.py", root)
    solved = solution()
    first = next(cell for cell in solved.cells if cell.cell_type == "code")
    first.source = imports + first.source
    nbformat.write(solved, folder / f"{ASSIGNMENT}.ipynb")
    released = student_version(solved, ASSIGNMENT, root)
    answers = {
        cell.metadata.nbgrader.grade_id: cell.source
        for cell in solved.cells
        if cell.metadata.nbgrader.solution
    }
    for number in range(students):
        nb = nbformat.from_dict(released)
        for index, cell in enumerate(cell for cell in nb.cells if cell.metadata.nbgrader.solution):
            if number % 4 or index != number // 4 % 7:
                cell.source = answers[cell.metadata.nbgrader.grade_id]
        path = root / "submitted" / f"student{number:05}" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(nb, path)


def run(root: Path, *arguments: str) -> float:
    """Seconds of a command in the course's folder. Raises where it fails."""
    start = time.perf_counter()
    done = subprocess.run([*COMMAND, *arguments], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - start


def grades(root: Path) -> dict[tuple[str, str], float | None]:
    """What tests gave every student for every exercise."""
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}", "quantization") as gradebook:
        found = gradebook.find_assignment(ASSIGNMENT).submissions
        return {
            (one.student.id, grade.name): grade.auto_score
            for one in found
            for notebook in one.notebooks
            for grade in notebook.grades
        }


def measure(students: int, folder: Path, nbgrader: bool) -> list[tuple[str, float, dict]]:
    """Name, seconds and grades of each way to grade the class."""
    ways = [(f"coursepkg grade --jobs {jobs}", jobs) for jobs in (1, 2)]
    rows = []
    if nbgrader:
        root = folder / "stock"
        make_course(root, students)
        (root / "nbgrader_config.py").write_text(STOCK.format(root=root), encoding="utf-8")
        run(root, "nbgrader", "generate_assignment", ASSIGNMENT)
        rows.append(("nbgrader autograde", run(root, "nbgrader", "autograde", ASSIGNMENT), grades(root)))
    for name, jobs in ways:
        root = folder / f"jobs{jobs}"
        make_course(root, students)
        Course.open(root)
        run(root, "nbgrader", "generate_assignment", ASSIGNMENT)
        rows.append(
            (
                name,
                run(root, "coursepkg", "grade", ASSIGNMENT, "--jobs", str(jobs), "--no-feedback"),
                grades(root),
            )
        )
    root = folder / "feedback"
    make_course(root, students)
    rows.append(
        (
            "with feedback pages, --jobs 2",
            run(root, "coursepkg", "grade", ASSIGNMENT, "--jobs", "2"),
            grades(root),
        )
    )
    return rows


def main() -> None:
    """Measure, compare the grades, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=20)
    parser.add_argument("--without-nbgrader", action="store_true", help="leave out the row that takes long")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="grading-benchmark-") as folder:
        rows = measure(given.students, Path(folder), not given.without_nbgrader)
    table = Table(title=f"{given.students} submissions, {os.cpu_count()} cores")
    for heading in ("", "seconds", "seconds a submission", "times as fast", "grades"):
        table.add_column(heading, justify="left" if heading in ("", "grades") else "right")
    first = rows[0]
    for name, seconds, found in rows:
        same = "the same" if found == first[2] else "NOT THE SAME"
        ratio = f"{first[1] / seconds:.1f}"
        table.add_row(name, f"{seconds:.1f}", f"{seconds / given.students:.2f}", ratio, same)
    Console().print(table)
    if any(found != first[2] for _, _, found in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
