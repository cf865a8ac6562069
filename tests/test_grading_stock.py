"""nbgrader as it comes, without a line of ours, gives an honest class the same scores."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from tests import classroom
from tests.conftest import Graded

STOCK = 'c = get_config()\nc.CourseDirectory.root = r"{root}"\nc.CourseDirectory.source_directory = "solutions"\nc.ClearMarkScheme.enforce_metadata = False\n'
#: A loop without end takes nbgrader half a minute for every cell that meets it; and it takes text on stderr for a
#: failure, which is what this course does not.
LEFT_OUT = ("loops", "noisy")


def scores(root: Path, assignment: str) -> dict[tuple[str, str], float | None]:
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}") as gradebook:
        return {
            (submission.student.id, grade.name): grade.auto_score
            for submission in gradebook.find_assignment(assignment).submissions
            for notebook in submission.notebooks
            for grade in notebook.grades
            if submission.student.id not in LEFT_OUT
        }


@pytest.mark.parametrize("assignment", [classroom.MINI, *classroom.ASSIGNMENTS])
def test_the_same_scores(assignment: str, grade_class, tmp_path: Path) -> None:
    ours: Graded = grade_class(assignment)
    for folder in ("solutions", "submitted"):
        shutil.copytree(ours.root / folder, tmp_path / folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (tmp_path / "nbgrader_config.py").write_text(STOCK.format(root=tmp_path), encoding="utf-8")
    for command in ("generate_assignment", "autograde"):
        nbgrader = [sys.executable, "-m", "nbgrader", command, assignment]
        done = subprocess.run(nbgrader, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    found = scores(tmp_path, assignment)
    assert len(found) > 10
    assert found == scores(ours.root, assignment)
