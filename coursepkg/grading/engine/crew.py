"""A class's submissions, examined on this machine, several at a time."""

import itertools
import os
import queue
import threading
from collections.abc import Iterable, Iterator

from coursepkg.grading.engine.jobs import Job, Result, Spec
from coursepkg.grading.engine.station import Station


def cores() -> int:
    """How many submissions are examined at a time unless it is said."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Crew:
    """`jobs` workers for one assignment; a context manager. `level`: see station.LEVELS."""

    def __init__(self, spec: Spec, jobs: int = 1, level: str = "best") -> None:
        self.station, self.jobs = Station(spec, level), max(1, jobs)

    def __enter__(self) -> "Crew":
        self.station.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.station.__exit__()

    @property
    def level(self) -> str:
        """How students' processes are confined. Raises NoWorkers."""
        return self.station.level

    def results(self, jobs: Iterable[tuple[str, Job]]) -> Iterator[tuple[str, Job, Result]]:
        """The result of every named job, as they are ready. Jobs are taken from the iterable as they are needed."""
        waiting: queue.SimpleQueue = queue.SimpleQueue()
        ready: queue.SimpleQueue = queue.SimpleQueue()
        threads = [
            threading.Thread(target=self._work, args=(waiting, ready), daemon=True) for _ in range(self.jobs)
        ]
        for thread in threads:
            thread.start()
        source, under_way = iter(jobs), 0
        try:
            while True:
                for entry in itertools.islice(source, 2 * self.jobs - under_way):
                    waiting.put(entry)
                    under_way += 1
                if not under_way:
                    return
                name, job, result = ready.get()
                under_way -= 1
                if isinstance(result, BaseException):
                    raise result
                yield name, job, result
        finally:
            for _ in threads:
                waiting.put(None)

    def _work(self, waiting: queue.SimpleQueue, ready: queue.SimpleQueue) -> None:
        """One worker's thread: hand out what is waiting until it is told to stop."""
        try:
            while (entry := waiting.get()) is not None:
                ready.put((*entry, self.station.done(entry[1])))
        except BaseException as error:
            ready.put(("", None, error))
        finally:
            self.station.end_worker()
