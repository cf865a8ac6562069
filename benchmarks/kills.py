"""Killing `coursepkg grade` (SIGKILL) at random moments and running it again: `python -m benchmarks.kills [TIMES]`.

Each time a class is graded anew: the command and all that it started is killed after a random time, up to three times,
and then it runs to its end. Its gradebook must be that of a class that was never disturbed, and so must the
graded notebooks and the table of grades.
"""

import argparse
import csv
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks import grading

GRADE = (sys.executable, "-m", "coursepkg", "grade", grading.ASSIGNMENT, "--jobs", "2")
STUDENTS = 12
#: Of the gradebook, all that a grade is.
QUERY = """
SELECT student.id, base_cell.name, grade.auto_score, grade.manual_score, grade.needs_manual_grade
FROM grade JOIN submitted_notebook ON grade.notebook_id = submitted_notebook.id
JOIN submitted_assignment ON submitted_notebook.assignment_id = submitted_assignment.id
JOIN student ON submitted_assignment.student_id = student.id
JOIN base_cell ON grade.cell_id = base_cell.id ORDER BY 1, 2
"""


def state(root: Path) -> dict[str, object]:
    """What the class has come to: rows of the gradebook, the table of grades, the graded notebooks, what is left over."""
    with sqlite3.connect(root / "gradebook.db") as gradebook:
        rows = gradebook.execute(QUERY).fetchall()
        submissions = gradebook.execute("SELECT count(*) FROM submitted_assignment").fetchone()
    with (root / f"grades_{grading.ASSIGNMENT}.csv").open(encoding="utf-8") as table:
        grades = list(csv.reader(table))
    notebooks = {
        path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.glob("autograded/*/*/*"))
    }
    left = sorted(path.name for path in root.glob("autograded/*/.*"))
    return {
        "rows": rows,
        "submissions": submissions,
        "grades": grades,
        "notebooks": notebooks,
        "left over": left,
    }


def kill_after(root: Path, seconds: float) -> bool:
    """Start grading, and kill it after a time; whether it was still at work. Waits until nothing of it is left."""
    process = subprocess.Popen(GRADE, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        started = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if psutil.wait_procs(started, timeout=10)[1]:
            raise SystemExit("processes of a killed run are still there after 10 s") from None
        return True
    return False


def main() -> None:
    """Kill, run again, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("times", type=int, nargs="?", default=100)
    times = parser.parse_args().times
    dice = random.Random(0)
    with tempfile.TemporaryDirectory(prefix="grading-kills-") as folder:
        start = Path(folder, "start")
        grading.make_course(start, STUDENTS, imports="")
        undisturbed = Path(folder, "undisturbed")
        shutil.copytree(start, undisturbed)
        began = time.perf_counter()
        subprocess.run(GRADE, cwd=undisturbed, check=True, stdout=subprocess.DEVNULL)
        whole = time.perf_counter() - began
        expected = state(undisturbed)
        kills = wrong = 0
        while kills < times:
            root = Path(folder, "disturbed")
            shutil.copytree(start, root)
            for _ in range(dice.randint(1, 3)):
                kills += kill_after(root, dice.uniform(0, whole))
            subprocess.run(GRADE, cwd=root, check=True, stdout=subprocess.DEVNULL)
            found = state(root)
            differ = [what for what in expected if found[what] != expected[what]]
            if differ:
                wrong += 1
                print(f"after {kills} kills: another {', '.join(differ)}")
            shutil.rmtree(root)
        print(
            f"{kills} kills of a run of {whole:.1f} s, {STUDENTS} submissions: {wrong} classes were graded otherwise"
        )
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
