"""The course as nbgrader sees it: its folder, its settings, its gradebook."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.apps import NbGrader
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

CONFIG = "nbgrader_config.py"


class CourseError(Exception):
    """What an instructor has to put right first; the message says what to do."""


@dataclass(frozen=True)
class Course:
    """An opened course: the folder of nbgrader_config.py, the settings nbgrader reads there, and a log."""

    root: Path
    config: Config
    coursedir: CourseDirectory
    log: logging.Logger

    @classmethod
    def open(cls, start: Path | None = None) -> "Course":
        """The course that `start` (by default the current folder) lies in. Raises CourseError."""
        here = (start or Path.cwd()).resolve()
        root = next((folder for folder in (here, *here.parents) if (folder / CONFIG).exists()), None)
        if root is None:
            raise CourseError(f"No {CONFIG} in {here} or above it. Run this in your clone of the course.")
        with _inside(root):
            app = NbGrader()
            app.load_config_file()
        log = logging.Logger("coursepkg.grading", logging.INFO)
        log.addHandler(logging.NullHandler())
        return cls(root, app.config, CourseDirectory(config=app.config, log=log), log)

    def gradebook(self) -> Gradebook:
        """nbgrader's gradebook, to be used in a with statement."""
        return Gradebook(self.coursedir.db_url, self.coursedir.course_id)

    def assignments(self) -> list[str]:
        """The assignments that have an instructor's notebook."""
        folder = Path(self.coursedir.format_path(self.coursedir.source_directory, ".", "x")).parent
        return sorted(path.name for path in folder.glob("*") if (path / f"{path.name}.ipynb").exists())

    def instructors(self, assignment: str) -> Path:
        """The instructor's notebook of an assignment. Raises CourseError where there is none."""
        path = Path(self.coursedir.format_path(self.coursedir.source_directory, ".", assignment))
        if not (path / f"{assignment}.ipynb").exists():
            known = ", ".join(self.assignments()) or "none; `make build` makes them from their masters"
            raise CourseError(
                f"No assignment {assignment}: there is no {path.relative_to(self.root)}/{assignment}.ipynb. "
                f"The course has: {known}."
            )
        return path / f"{assignment}.ipynb"

    def instructors_notebook(self, assignment: str) -> NotebookNode:
        """The instructor's version of an assignment, with solutions and hidden tests."""
        return nbformat.read(self.instructors(assignment), as_version=4)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
