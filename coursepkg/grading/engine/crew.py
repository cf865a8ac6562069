"""The workers that grade a class on this machine, and the warm process that they and the students are forked from."""

import contextlib
import copy
import itertools
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nbformat import NotebookNode, from_dict

from coursepkg.grading import notes
from coursepkg.grading.cells import is_answer, is_locked, is_test
from coursepkg.grading.engine.names import imports_of, names_defined
from coursepkg.grading.sandbox import bubblewrap, link
from coursepkg.grading.sandbox.channel import Channel, Closed, Garbled, Late
from coursepkg.grading.sandbox.limits import Limits
from coursepkg.grading.verdicts import Verdict

#: Levels of confinement, the safest first. "best" is the first that this machine has.
LEVELS = ("namespaces", "landlock", "bubblewrap", "plain")
#: Seconds beyond the notebook's own that a worker may take before it is taken for dead.
PATIENCE = 120


def cores() -> int:
    """How many submissions are examined at a time unless it is said."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Spec:
    """What workers know of an assignment.

    release: the student's version, its locked cells with hidden tests. instructors: the version with solutions; its
    imports are made in advance, and the names its solutions define are the students'. released: folder of the files
    that are released with it, or None. hidden: folders of which students' processes see nothing.
    """

    assignment: str
    release: NotebookNode
    instructors: NotebookNode
    limits: Limits = field(default_factory=Limits)
    released: Path | None = None
    hidden: tuple[Path, ...] = ()

    @property
    def imports(self) -> str:
        """The import statements of the instructor's notebook, one a line."""
        code = [cell.source for cell in self.instructors.cells if cell.cell_type == "code"]
        lines = [line for source in code for line in imports_of(source)]
        return "\n".join(dict.fromkeys(lines))

    @property
    def answers(self) -> list[str]:
        """The names that the solutions define."""
        cells = filter(is_answer, self.instructors.cells)
        return sorted({name for cell in cells for name in names_defined(cell.source)})


@dataclass(frozen=True)
class Job:
    """A notebook to run, and the files beside it. `together`: its tests run in the student's process, as nbgrader alone
    runs them; for proofs, never for grades."""

    notebook: NotebookNode
    files: dict[str, bytes] = field(default_factory=dict)
    together: bool = False

    def request(self) -> dict[str, Any]:
        """What a worker is sent of it: its code, and the names of its files."""
        cells = [
            {"role": _role(cell), "source": cell.source, "place": place}
            for place, cell in enumerate(self.notebook.cells, start=1)
            if cell.cell_type == "code" and cell.source.strip()
        ]
        return {"cells": cells, "files": list(self.files), "together": self.together}

    def with_outputs(self, cells: list[dict[str, Any]], verdict: Verdict, level: str) -> NotebookNode:
        """The notebook as it came out, with notes on how."""
        nb = copy.deepcopy(self.notebook)
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        for told in cells:
            cell = nb.cells[told["place"] - 1]
            cell.outputs, cell.execution_count = from_dict(told["outputs"]), told["count"]
            if told["stopped"]:
                notes.note(cell, stopped=told["stopped"])
        notes.note(nb, sandbox=level)
        if verdict.state:
            notes.note(nb, failed=verdict.reason, state=verdict.state)
        return nb


def _role(cell: NotebookNode) -> str:
    return "test" if is_test(cell) else "locked" if is_locked(cell) else "theirs"


@dataclass
class Result:
    """One notebook, run. `notebook`: with its outputs; None where it was not the submission that failed."""

    verdict: Verdict
    notebook: NotebookNode | None = None


class Crew:
    """`jobs` workers for one assignment; a context manager. `level`: "best", or one of LEVELS at most."""

    def __init__(self, spec: Spec, jobs: int = 1, level: str = "best") -> None:
        self.spec, self.jobs = spec, max(1, jobs)
        self.wanted = LEVELS[0] if level == "best" else level

    def __enter__(self) -> "Crew":
        self._folder = tempfile.mkdtemp(prefix="grading-")
        self.scratch = Path(self._folder).resolve()
        for name in ("root", "released"):
            (self.scratch / name).mkdir()
        os.chmod(self.scratch, 0o711)
        if self.spec.released is not None:
            shutil.copytree(self.spec.released, self.scratch / "released", dirs_exist_ok=True)
        self.base = self._base()
        self._leaving = False
        self._at_work: dict[threading.Thread, Member] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving = True
        for thread, member in list(self._at_work.items()):
            member.stop()
            thread.join(10)
        shutil.rmtree(self._folder, ignore_errors=True)

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
            while (entry := waiting.get()) is not None and not self._leaving:
                ready.put((*entry, self._done(entry[1])))
        except BaseException as error:
            ready.put(("", None, error))
        finally:
            self._end_worker()

    def _done(self, job: Job) -> Result:
        """What became of a job; a worker that ends over it is replaced, once."""
        thread = threading.current_thread()
        for _ in range(2):
            try:
                if thread not in self._at_work:
                    self._at_work[thread] = self._worker()
                return self._at_work[thread].do(job, self.spec.limits.notebook_seconds + PATIENCE)
            except (Closed, Late, Garbled) as error:
                reason = f"its worker ended twice ({type(error).__name__}); try again"
                self._end_worker()
                if self._leaving:
                    break
        return Result(Verdict("failed", reason, ours=True))

    def _worker(self) -> "Member":
        """A new worker; where the warm process has ended, from a new one."""
        try:
            return self.base.worker(self._told())
        except Closed:
            self.base = self._base()
            return self.base.worker(self._told())

    def _end_worker(self) -> None:
        if member := self._at_work.pop(threading.current_thread(), None):
            member.stop()
            member.channel.close()

    def _told(self) -> dict[str, Any]:
        """What a worker is told first."""
        spec = self.spec
        return {
            "answers": spec.answers,
            "imports": spec.imports,
            "limits": asdict(spec.limits),
            "released": str(self.scratch / "released"),
            "scratch": str(self.scratch),
            "hidden": [str(path) for path in spec.hidden],
            "level": self.base.level,
        }

    @property
    def level(self) -> str:
        """How students' processes are confined."""
        return self.base.level

    def _base(self) -> "WarmBase | ColdBase":
        if sys.platform == "linux" and self.wanted != "bubblewrap":
            return WarmBase(self.spec.imports, self.wanted, self.scratch)
        return ColdBase(self.wanted if self.wanted == "plain" or bubblewrap.is_there() else "plain")


class Member:
    """A worker, as its owner sees it. `stop` ends its process."""

    def __init__(self, channel: Channel, level: str, stop: Callable[[], None]) -> None:
        self.channel, self.level, self.stop = channel, level, stop

    def do(self, job: Job, seconds: float) -> Result:
        """Raises Closed where the worker has ended, Late where it does not answer."""
        self.channel.send(job.request(), list(job.files.values()))
        told = self.channel.receive(seconds)[0]
        verdict = Verdict(**told["verdict"])
        return Result(verdict, None if verdict.ours else job.with_outputs(told["cells"], verdict, self.level))


class WarmBase:
    """The warm process, from which workers are forked."""

    def __init__(self, imports: str, level: str, scratch: Path) -> None:
        self.warm = link.shared()
        self.wanted, self.scratch = level, scratch
        self.warm.promise({"do": "load", "imports": imports})

    @cached_property
    def level(self) -> str:
        """How students' processes are confined; known when everything has been imported."""
        return self.ask({"do": "confine", "level": self.wanted, "root": str(self.scratch)})["level"]

    def ask(self, request: dict, files: tuple[int, ...] = ()) -> dict:
        """Raises Closed where the warm process has ended."""
        try:
            return self.warm.ask(request, files)
        except EOFError as error:
            raise Closed from error

    def worker(self, told: dict[str, Any]) -> Member:
        """A new worker, told what it is to know."""
        ours, theirs = socket.socketpair()
        with theirs:
            request = {"do": "worker", "module": "coursepkg.grading.engine.worker", "argument": ""}
            pid = self.ask(request, (theirs.fileno(),))["pid"]
        file = ours.detach()
        channel = Channel(file, file)
        channel.send(told)

        def stop() -> None:
            with contextlib.suppress(Closed):
                self.ask({"do": "end", "pid": pid})

        return Member(channel, told["level"], stop)


class ColdBase:
    """Workers that are Pythons of their own."""

    def __init__(self, level: str) -> None:
        self.level = level

    def worker(self, told: dict[str, Any]) -> Member:
        process = subprocess.Popen(
            [sys.executable, "-m", "coursepkg.grading.engine.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        reading, writing = (os.dup(stream.fileno()) for stream in (process.stdout, process.stdin))
        for stream in (process.stdout, process.stdin):
            stream.close()
        channel = Channel(reading, writing, process.kill)
        channel.send(told)

        def stop() -> None:
            process.kill()
            process.wait()

        return Member(channel, told["level"], stop)
