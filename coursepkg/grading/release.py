"""The student's version of an assignment, made by nbgrader's own converter."""

import logging
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.converters import GenerateAssignment
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader


class ReleaseError(Exception):
    """nbgrader refused the instructor's version; the message is what nbgrader logged."""


class _Kept(logging.Handler):
    """Keeps the messages logged to it."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def student_version(instructor: NotebookNode, slug: str, course: Path = Path(".")) -> NotebookNode:
    """What `nbgrader generate_assignment <slug>` releases for the instructor's notebook.

    `course` is the folder of nbgrader_config.py, whose settings apply. Works in a temporary folder and, like that
    command with --no-db, without a database. Raises ReleaseError.
    """
    if not (course / "nbgrader_config.py").exists():
        raise ReleaseError(
            f"{slug}: no nbgrader_config.py in {course.resolve()}; run this from the repository root"
        )
    with tempfile.TemporaryDirectory(prefix="release-", ignore_cleanup_errors=True) as folder:
        config = PyFileConfigLoader("nbgrader_config.py", path=str(course)).load_config()
        config.merge(_confined(folder, slug))
        directory = CourseDirectory(config=config)
        source = Path(folder, directory.source_directory, slug)
        source.mkdir(parents=True)
        nbformat.write(instructor, source / f"{slug}.ipynb")
        logger, kept = logging.Logger("nbgrader"), _Kept()
        logger.addHandler(kept)
        try:
            GenerateAssignment(coursedir=directory, config=config, log=logger).start()
        except NbGraderException as error:
            raise ReleaseError("\n".join(kept.messages)) from error
        return nbformat.read(Path(folder, directory.release_directory, slug, f"{slug}.ipynb"), as_version=4)


def _confined(folder: str, slug: str) -> Config:
    """Settings that keep nbgrader inside `folder` and away from the gradebook."""
    config = Config()
    config.CourseDirectory.root = folder
    config.CourseDirectory.assignment_id = slug
    config.GenerateAssignment.no_database = True
    config.SaveCells.enabled = False
    return config
