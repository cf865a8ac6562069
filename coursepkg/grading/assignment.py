"""An assignment as it is graded: in the gradebook, and as workers need it."""

from dataclasses import dataclass, fields
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader import utils
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import GenerateAssignment
from nbgrader.converters.base import NbGraderException

from coursepkg.grading import notes
from coursepkg.grading.course import Course, CourseError
from coursepkg.grading.engine.jobs import Spec
from coursepkg.grading.intake.files import Taken
from coursepkg.grading.intake.skeleton import rebuild
from coursepkg.grading.release import student_version
from coursepkg.grading.sandbox.limits import Limits
from coursepkg.grading.variants import with_tests

#: The section of nbgrader_config.py that holds the limits.
SECTION = "Sandbox"


def limits_of(course: Course) -> Limits:
    """The limits that nbgrader_config.py sets, as c.Sandbox.cell_seconds and so on. Raises CourseError."""
    given = dict(course.config.get(SECTION, {}))
    known = {field.name for field in fields(Limits)}
    if unknown := sorted(given.keys() - known):
        raise CourseError(
            f"nbgrader_config.py sets c.{SECTION}.{unknown[0]}; there are {', '.join(sorted(known))}."
        )
    return Limits(**given)


@dataclass(frozen=True)
class Prepared:
    """An assignment, ready to be graded. release: the student's version, its locked cells with hidden tests."""

    name: str
    instructors: NotebookNode
    release: NotebookNode
    spec: Spec

    @classmethod
    def of(cls, course: Course, name: str) -> "Prepared":
        """That of a course. Raises CourseError."""
        instructors, source = course.instructors_notebook(name), course.instructors(name).parent
        paths = map(Path, utils.find_all_files(str(source), [*course.coursedir.ignore, "*.ipynb"]))
        released = {path.relative_to(source).as_posix(): path.read_bytes() for path in sorted(paths)}
        known = {"limits": limits_of(course), "released": released, "hidden": (course.root,)}
        release = with_tests(student_version(instructors, name, course.root), instructors)
        return cls(name, instructors, release, Spec.of(instructors, **known))


def on_skeleton(taken: Taken, release: NotebookNode) -> NotebookNode:
    """A submission as it is run: on the release's skeleton, with notes of what was not as released."""
    rebuilt = rebuild(taken.notebook, release)
    notes.clear(rebuilt.nb)
    notes.note(rebuilt.nb, changes=[*taken.notes, *rebuilt.notes, *rebuilt.flagged])
    return rebuilt.nb


def bring_into_gradebook(course: Course, assignment: str) -> None:
    """Run generate_assignment unless the gradebook holds the instructor's cells as they are now."""
    with course.gradebook() as gradebook:
        if _in_step(gradebook, assignment, course.instructors(assignment)):
            return
    with utils.temp_attrs(course.coursedir, assignment_id=assignment):
        converter = GenerateAssignment(coursedir=course.coursedir, config=course.config, log=course.log)
        converter.force = True
        try:
            converter.start()
        except NbGraderException as error:
            raise CourseError(
                f"nbgrader could not take {assignment} into the gradebook; see build/grade_{assignment}.log. If its "
                "cells were added, removed or renamed since submissions were graded, put them back, or move "
                "gradebook.db and autograded/ away and grade anew."
            ) from error


def _in_step(gradebook: Gradebook, assignment: str, path: Path) -> bool:
    """Whether the gradebook holds the same cells, points and tests as the instructor's notebook."""
    try:
        stored = gradebook.find_notebook(path.stem, assignment)
    except MissingEntry:
        return False
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if "nbgrader" in cell.metadata]
    sources = {cell.name: cell.source for cell in stored.source_cells}
    points = {cell.name: cell.max_score for cell in stored.grade_cells}
    if sources.keys() != {cell.metadata.nbgrader.grade_id for cell in cells}:
        return False
    return all(
        (not utils.is_locked(cell) or sources[cell.metadata.nbgrader.grade_id] == cell.source)
        and points.get(cell.metadata.nbgrader.grade_id) == cell.metadata.nbgrader.get("points")
        for cell in cells
    )
