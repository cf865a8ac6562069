"""A class on a dask cluster: the same grades, the work of lost workers done again, a submission that kills them named."""

import io
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, LocalCluster, WorkerPlugin
from rich.console import Console

from coursepkg.grading import classroom as grading
from coursepkg.grading.course import Course, CourseError
from coursepkg.grading.release import student_version
from coursepkg.grading.states import State
from tests import classroom

MINI = classroom.MINI
DEADLY = "# this submission is deadly"


class Deadly(WorkerPlugin):
    """Has a worker of the cluster end over submissions that hold a certain comment, as no submission can."""

    def setup(self, worker: object) -> None:
        from coursepkg.grading.engine import cluster

        whole = cluster.run

        def run(spec: object, job: object, level: str) -> object:
            if any(DEADLY in cell.source for cell in job.notebook.cells):
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(spec, job, level)

        cluster.run = run


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as made:
        yield made


def make_class(root: Path, students: int) -> Path:
    classroom.make_course(root)
    released = student_version(Course.open(root).instructors_notebook(MINI), MINI, root)
    for number in range(students):
        answers = {
            "double": classroom.DOUBLE,
            "largest": classroom.LARGEST if number % 3 else "def largest(v):\n    pass",
        }
        classroom.submit(root, f"student{number:03}", classroom.submission(released, answers))
    return root


def grade(root: Path, address: str, **options: object) -> dict:
    console = Console(file=io.StringIO(), width=140)
    found = grading.main(MINI, console=console, root=root, cluster=address, feedback=False, **options)
    return {one.student: one for one in found}


def expected(students: int) -> dict[str, tuple[State, float]]:
    return {f"student{number:03}": (State.GRADED, 5.0 if number % 3 else 2.0) for number in range(students)}


def test_workers_that_are_lost_cost_nobody_a_grade(cluster: LocalCluster, tmp_path: Path) -> None:
    root = make_class(tmp_path, 40)
    dice, done = random.Random(0), threading.Event()

    def kill() -> None:
        for _ in range(3):
            if done.wait(4):
                return
            known = set(cluster.scheduler.workers)
            running = [one for one in cluster.workers.values() if one.pid and one.worker_address in known]
            if running:
                os.kill(dice.choice(running).pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    found = grade(root, cluster.scheduler_address)
    done.set()
    killer.join()
    assert {student: (one.state, one.score) for student, one in found.items()} == expected(40)


def test_a_submission_that_always_kills_its_worker_is_recorded_as_such(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    root = make_class(tmp_path, 4)
    released = student_version(Course.open(root).instructors_notebook(MINI), MINI, root)
    classroom.submit(root, "deadly", classroom.submission(released, {"double": DEADLY}))
    with Client(cluster.scheduler_address) as client:
        client.register_plugin(Deadly(), name="deadly")
        found = grade(root, cluster.scheduler_address)
        client.unregister_worker_plugin("deadly")
    deadly = found.pop("deadly")
    assert (deadly.state, deadly.automatic) == (State.FAILED, None)
    assert deadly.reason == "every worker of the cluster that graded it was lost over it"
    assert {student: (one.state, one.score) for student, one in found.items()} == expected(4), [
        one.reason for one in found.values()
    ]


def test_no_cluster_is_said_before_anything_is_graded(tmp_path: Path) -> None:
    root = make_class(tmp_path, 1)
    since = time.monotonic()
    with pytest.raises(CourseError, match="No cluster with a worker at tcp://127.0.0.1:9"):
        grade(root, "tcp://127.0.0.1:9")
    assert time.monotonic() - since < 120
    assert not (root / "autograded").exists()
