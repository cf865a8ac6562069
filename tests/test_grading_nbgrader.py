"""Stock nbgrader commands, run from the root of a course, from release to export."""

import csv
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import nbformat
import pytest

from tests import classroom
from tests.test_grading_feedback import page

MINI = classroom.MINI
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nbgrader has no exchange on Windows")

NOISY = classroom.honest_class(classroom.notebook())["noisy"].answers


class Shell:
    """Runs `nbgrader` in a course as a shell without an activated environment would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        own = {"JUPYTER_DATA_DIR": str(root / "jupyter"), "JUPYTER_CONFIG_DIR": str(root / "jupyter")}
        scripts = sysconfig.get_path("scripts")
        path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != scripts)
        self.environment = os.environ | own | {"PATH": path, "COLUMNS": "200"}

    def __call__(self, command: str, *arguments: str, status: int = 0) -> str:
        nbgrader = [sys.executable, "-m", "nbgrader", command, *arguments]
        done = subprocess.run(
            nbgrader,
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Shell:
    """A course whose assignment was released, fetched, answered, submitted, collected and graded."""
    root = classroom.make_course(tmp_path_factory.mktemp("stock"))
    classroom.shorten_limits(root)
    nbgrader = Shell(root)
    nbgrader("generate_assignment", MINI)
    nbgrader("release_assignment", MINI)
    nbgrader("fetch_assignment", MINI)
    fetched = root / "fetched" / MINI / f"{MINI}.ipynb"
    released = nbformat.read(fetched, as_version=4)
    half = classroom.honest_class(classroom.notebook())["half"].answers
    for student, answers in {"noisy": NOISY, "half": half}.items():
        nbformat.write(classroom.submission(released, answers), fetched)
        nbgrader("submit", MINI, f"--student={student}")
    nbgrader("collect", MINI)
    classroom.submit(root, "crashed", classroom.submission(released, {"double": "import os\nos._exit(1)"}))
    classroom.submit(root, "broken", "{not json")
    peeking = {"double": "print(open('keys.csv').read())\n" + classroom.DOUBLE}
    answers = classroom.submit(root, "peeks", classroom.submission(released, peeking))
    answers.with_name("keys.csv").symlink_to(root / "solutions" / MINI / f"{MINI}.ipynb")
    classroom.submit(root, "linked", "").unlink()
    (root / "submitted" / "linked" / MINI / f"{MINI}.ipynb").symlink_to(answers)
    nbgrader("autograde", MINI, status=1)
    nbgrader("generate_feedback", MINI)
    return nbgrader


def test_submissions_are_listed_and_collected_with_their_time(course: Shell) -> None:
    assert course("list", "--inbound").count(f"{MINI} ") == 2
    for student in ("noisy", "half"):
        names = {path.name for path in (course.root / "submitted" / student / MINI).iterdir()}
        assert names == {f"{MINI}.ipynb", "numbers.csv", "timestamp.txt", "submission_secret.txt"}


def test_export_has_states_and_scores(course: Shell) -> None:
    course("export")
    with (course.root / "grades.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    found = {student: (row["state"], row["score"], row["reason"]) for student, row in rows.items()}
    assert found == {
        "noisy": ("graded", "5.0", ""),
        "half": ("graded", "2.0", ""),
        "crashed": ("failed", "", "the process died while it ran cell 3 (ended with exit status 1)"),
        "broken": ("refused", "", found["broken"][2]),
        "linked": ("refused", "", found["linked"][2]),
        "peeks": ("graded", "0.0", ""),
    }
    assert found["broken"][2].startswith(f"{MINI}.ipynb is not JSON (")
    assert "symbolic link, which is never followed" in found["linked"][2]


def test_feedback_holds_no_hidden_test(course: Shell) -> None:
    for student in ("noisy", "half", "crashed", "peeks"):
        text = page(course.root, student, MINI)
        assert not [secret for secret in classroom.SECRETS if secret in text]
    assert "the process died while it ran cell 3." in page(course.root, "crashed", MINI)


def test_feedback_comes_back_to_the_student(course: Shell) -> None:
    course("release_feedback", MINI, "--student=half")
    assert len(list((course.root / "exchange" / "quantization" / "feedback").glob("*.html"))) == 1


def test_validate_passes_a_correct_notebook_with_warnings_and_bars(course: Shell, tmp_path) -> None:
    released = nbformat.read(course.root / "release" / MINI / f"{MINI}.ipynb", as_version=4)
    path = tmp_path / "mine.ipynb"
    answers = NOISY | {"why": "Because."}
    nbformat.write(classroom.submission(released, answers), path)
    assert "Success! Your notebook passes all the tests." in course("validate", str(path))
    nbformat.write(classroom.submission(released, answers | {"double": "def double(x):\n    return x"}), path)
    said = course("validate", str(path))
    assert "VALIDATION FAILED ON 1 CELL(S)" in said and "double(2) should be 4" in said


#: What lies in the archive, and whose it is.
DOWNLOADED = {
    f"ann_{MINI}.ipynb": "ann",
    f"max_mueller_{MINI}.ipynb": "max_mueller",
    f"max_kern_{MINI}.ipynb": "max_kern",
    f"jo_42_{MINI}.ipynb": "jo_42",
    f"eve_{MINI} (1).ipynb": "eve",
    f"fay_{MINI}(2).ipynb": "fay",
    f"lea_{MINI}-1.ipynb": "lea",
    f"bob_12_assignsubmission_file_{MINI}.ipynb": "bob",
    f"uwe_x_13_assignsubmission_file_{MINI} (1).ipynb": "uwe_x",
    f"Carl Roe_77_assignsubmission_file/{MINI}.ipynb": "Carl Roe",
    f"ben_b_78_assignsubmission_file_/mine_{MINI}.ipynb": "ben_b",
    f"zed_z/{MINI}.ipynb": "zed_z",
}


def test_zip_collect_reads_what_learning_platforms_hand_out(course: Shell) -> None:
    archive = course.root / "downloaded" / MINI / "archive"
    archive.mkdir(parents=True)
    text = (course.root / "submitted" / "half" / MINI / f"{MINI}.ipynb").read_text(encoding="utf-8")
    for name in DOWNLOADED:
        (archive / name).parent.mkdir(exist_ok=True)
        (archive / name).write_text(text, encoding="utf-8")
    for whose_is_this in (f"{MINI}.ipynb", "gus_91_other.ipynb", "notes.txt"):
        (archive / whose_is_this).write_text("{}", encoding="utf-8")
    with ZipFile(archive / "dora.zip", "w") as packed:
        packed.writestr(f"{MINI}.ipynb", text)
    with ZipFile(archive / f"Course-{MINI}-4711.zip", "w") as packed:
        packed.writestr(f"Ida Ohm_13_assignsubmission_file/my_{MINI}.ipynb", text)
    before = {path.name for path in (course.root / "submitted").iterdir()}
    assert "3 files skipped" in course("zip_collect", MINI)
    collected = {path.parent.parent.name for path in course.root.glob(f"submitted/*/{MINI}/{MINI}.ipynb")}
    assert collected - before == {*DOWNLOADED.values(), "dora", "Ida Ohm"}
