"""A large class on a dask cluster of this machine, whose workers are killed at random: `python -m benchmarks.cluster`.

Every submission must come out with the grade that its answers deserve. Workers are ended by SIGKILL, one every few
seconds; dask's nannies start others. (A LocalCluster lets a worker go for good that is away 15 s after another of its name
was lost; here it is to wait, as the schedulers of real clusters do.)
"""

import argparse
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import dask
from distributed import LocalCluster
from rich.console import Console

from benchmarks import grading
from coursepkg.grading import classroom


def kill_now_and_then(cluster: LocalCluster, seconds: float, done: threading.Event, kills: list[int]) -> None:
    """End one of the cluster's workers every `seconds`, give or take half of them."""
    dice = random.Random(0)
    while not done.wait(dice.uniform(0.5, 1.5) * seconds):
        known = set(cluster.scheduler.workers)  # one that is killed while it starts is not started again
        running = [one.pid for one in cluster.workers.values() if one.pid and one.worker_address in known]
        if running:
            os.kill(dice.choice(running), signal.SIGKILL)
            kills.append(1)


def main() -> None:
    """Grade, and compare with what each submission deserves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=float, default=20, help="seconds between two kills")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="grading-cluster-"))
    try:
        grading.make_course(folder, given.students, imports="")
        deserved = Counter(grading.deserved(number) for number in range(given.students))
        done, kills = threading.Event(), []
        waits = dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"})
        with waits, LocalCluster(given.workers, threads_per_worker=1, dashboard_address=None) as cluster:
            killer = threading.Thread(target=kill_now_and_then, args=(cluster, given.every, done, kills))
            killer.start()
            start = time.perf_counter()
            with (folder / "printed.txt").open("w", encoding="utf-8") as printed:
                options = {"cluster": cluster.scheduler_address, "feedback": False}
                found = classroom.main(
                    grading.ASSIGNMENT, console=Console(file=printed), root=folder, **options
                )
            seconds = time.perf_counter() - start
            done.set()
            killer.join()
        points = Counter(standing.automatic for standing in found)
        states = Counter(str(standing.state) for standing in found)
        right = points == deserved
        print(
            f"{len(found)} submissions in {seconds:.0f} s ({seconds / len(found):.3f} s each), {len(kills)} workers killed"
        )
        print(
            f"states: {dict(states)}; grades are {'as deserved' if right else f'WRONG: {points} instead of {deserved}'}"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(not right)


if __name__ == "__main__":
    main()
