"""A class's submissions, examined on a cluster: dask.distributed, wherever its scheduler runs.

dask gives the work of a worker that is lost to another. Each of its workers keeps a warm process of its own; what
crosses is notebooks and files, and results are handed on as they arrive.
"""

import atexit
import contextlib
import itertools
import queue
import time
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from coursepkg.grading.engine.jobs import Job, NoWorkers, Result, Spec
from coursepkg.grading.engine.station import LEVELS, Station
from coursepkg.grading.verdicts import Verdict

if TYPE_CHECKING:
    from distributed import Future

#: Jobs under way for each thread of the cluster.
AHEAD = 3
#: What is said of a submission that takes workers with it, also when it is alone.
LOST = "every worker of the cluster that graded it was lost over it"
#: Seconds to wait for a result before looking whether anyone is at work, and for a worker before giving up.
LOOK, PATIENCE = 30.0, 600.0
#: Seconds until a result that was lost is asked for again.
AGAIN = 0.2


class Cluster:
    """The workers of a cluster for one assignment; a context manager, as Crew. `address`: its scheduler's, such as
    tcp://10.0.0.1:8786, or the path of its scheduler file."""

    def __init__(self, spec: Spec, address: str, level: str = "best", seconds: float = 30) -> None:
        self.spec, self.address, self.level_at_most, self.seconds = spec, address, level, seconds

    def __enter__(self) -> "Cluster":
        try:
            from distributed import Client
        except ImportError as error:
            raise NoWorkers("A cluster needs dask: `pip install distributed`.") from error
        where = (
            {"scheduler_file": self.address} if self.address.endswith(".json") else {"address": self.address}
        )
        try:
            self.client = Client(**where, timeout=self.seconds, set_as_default=False)
            self.client.wait_for_workers(1, timeout=self.seconds)
        except (OSError, ValueError, TimeoutError) as error:
            raise NoWorkers(f"No cluster with a worker at {self.address}: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @property
    def level(self) -> str:
        """How students' processes are confined where they are confined least, of the workers that there are now."""
        found = self.client.run(_level, self.spec, self.level_at_most, on_error="ignore").values()
        return max(found, key=LEVELS.index, default=self.level_at_most)

    def results(self, jobs: Iterable[tuple[str, Job]]) -> Iterator[tuple[str, Job, Result]]:
        """The result of every named job, as they are ready. Jobs are taken from the iterable as they are needed.

        dask blames every job that a worker had when it was lost. So one that was blamed too often is done once more, at
        the end and alone, before it is said of it that workers are lost over it.
        """
        suspects = []
        for name, job, result in self._results(jobs, AHEAD):
            if result is None:
                suspects.append((name, job))
            else:
                yield name, job, result
        for suspect in suspects:
            for name, job, result in self._results([suspect], 1):
                yield name, job, result or Result(Verdict("failed", LOST))

    def _results(
        self, jobs: Iterable[tuple[str, Job]], ahead: int
    ) -> Iterator[tuple[str, Job, Result | None]]:
        """As `results`; no result for a job that was blamed too often. `ahead`: jobs under way for each thread."""
        # A task, and not scattered: dask does a task again where its result is lost.
        spec = self.client.submit(_handed_over, self.spec, pure=False)
        source, known, ready = iter(jobs), {}, queue.SimpleQueue()
        self._without_since: float | None = None

        def send(count: int) -> None:
            for name, job in itertools.islice(source, max(0, count)):
                future = self.client.submit(run, spec, job, self.level_at_most, pure=False)
                known[future.key] = name, job
                future.add_done_callback(ready.put)

        send(ahead * self._threads())
        while known:
            try:
                future = ready.get(timeout=LOOK)
                result = _result(future)
            except queue.Empty:
                self._must_have_workers()
                continue
            except TimeoutError:  # lost on its way, and to be done again
                self._must_have_workers()
                time.sleep(AGAIN)
                ready.put(future)
                continue
            name, job = known.pop(future.key)
            yield name, job, result
            future.release()
            send(ahead * self._threads() - len(known))

    def _must_have_workers(self) -> None:
        """Raise NoWorkers where the cluster has had no worker for too long."""
        now = time.monotonic()
        if self.client.nthreads():
            self._without_since = None
        elif self._without_since is None:
            self._without_since = now
        elif now - self._without_since > PATIENCE:
            raise NoWorkers(
                f"The cluster at {self.address} has had no worker for {PATIENCE / 60:g} minutes. What was graded is "
                "stored: start workers and run this again, which goes on from there."
            )

    def _threads(self) -> int:
        return max(1, sum(self.client.nthreads().values()))


def _result(future: "Future") -> Result | None:
    """What became of a job that is done, or None where too many workers were lost with it. Raises TimeoutError where
    the cluster does not hand it over."""
    from distributed import KilledWorker

    error = future.exception(timeout=LOOK) if future.status == "error" else None
    if isinstance(error, KilledWorker):
        return None
    if future.status == "lost":  # with the worker that had it, and under way again
        raise TimeoutError
    if error is not None or future.status not in ("finished", "pending"):
        reason = f"{type(error).__name__}: {error}" if error else f"it was {future.status}"
        return Result(Verdict("failed", reason[:300], ours=True))
    return future.result(timeout=LOOK)


def _handed_over(spec: Spec) -> Spec:
    return spec


def run(spec: Spec, job: Job, level: str) -> Result:
    """What a worker of the cluster does."""
    return _station(_Known(spec), level).done(job)


def _level(spec: Spec, level: str) -> str:
    return _station(_Known(spec), level).level


class _Known:
    """A spec, to look a station up by: equal to another of the same content."""

    def __init__(self, spec: Spec) -> None:
        self.spec, self.key = spec, repr(spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@cache
def _station(known: _Known, level: str) -> Station:
    """This process's station for an assignment."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(Station(known.spec, level))
