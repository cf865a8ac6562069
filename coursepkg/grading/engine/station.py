"""The workers of one assignment on one machine, one for each thread that asks, and how each is started."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from coursepkg.grading.engine.jobs import Job, NoWorkers, Result, Spec
from coursepkg.grading.sandbox import bubblewrap, link
from coursepkg.grading.sandbox.channel import Channel, Closed, Garbled, Late
from coursepkg.grading.verdicts import Verdict

#: Levels of confinement, the safest first. "best" is the first that this machine has.
LEVELS = ("namespaces", "landlock", "bubblewrap", "plain")
#: Seconds beyond the notebook's own that a worker may take before it is taken for dead.
PATIENCE = 120
#: Workers that may end over a notebook before it is given up.
TRIES = 2


class Station:
    """A context manager. `level`: "best", or one of LEVELS at most."""

    def __init__(self, spec: Spec, level: str = "best") -> None:
        if level not in (*LEVELS, "best"):
            raise ValueError(f"There is no sandbox {level!r}; there are best, {', '.join(LEVELS)}.")
        self.spec = spec
        self.wanted = LEVELS[0] if level == "best" else level

    def __enter__(self) -> "Station":
        self._folder = tempfile.mkdtemp(prefix="grading-")
        self.scratch = Path(self._folder).resolve()
        os.chmod(self.scratch, 0o711)
        (self.scratch / "root").mkdir()
        released = self.scratch / "released"
        released.mkdir()
        for name, content in self.spec.released.items():
            (released / name).parent.mkdir(parents=True, exist_ok=True)
            (released / name).write_bytes(content)
        self.base = self._base()
        self._leaving = False
        self._lock = threading.Lock()
        self._at_work: dict[threading.Thread, Member] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving = True
        for thread, member in list(self._at_work.items()):
            member.stop()
            if thread is not threading.current_thread():
                thread.join(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def level(self) -> str:
        """How students' processes are confined. Raises NoWorkers where no warm process lives to say it."""
        with self._lock:
            if not self._knows() and not self._knows():
                raise NoWorkers(
                    "The process that imports the assignment's packages ended while it did, twice. Is there enough "
                    f"memory? Does Python survive this: {self.spec.imports.replace(chr(10), '; ') or 'import IPython'}"
                )
            if self.base.level == "plain" and self.wanted != "plain" and bubblewrap.is_there():
                self.base = ColdBase("bubblewrap")
            return self.base.level

    def done(self, job: Job) -> Result:
        """What became of a job. It is run by this thread's worker; one that ends over it is replaced, once."""
        thread = threading.current_thread()
        for _ in range(TRIES):
            if thread not in self._at_work:
                try:
                    self._at_work[thread] = self._worker()
                except (Closed, NoWorkers):
                    return Result(Verdict("failed", "no worker could be started on this machine", ours=True))
            try:
                return self._at_work[thread].do(job, self.spec.limits.notebook_seconds + PATIENCE)
            except (Closed, Late, Garbled):
                self.end_worker()
                if self._leaving:
                    break
        return Result(Verdict("failed", f"{TRIES} workers ended while they graded it, one after the other"))

    def end_worker(self) -> None:
        """End this thread's worker, if it has one."""
        if member := self._at_work.pop(threading.current_thread(), None):
            member.stop()
            member.channel.close()

    def _worker(self) -> "Member":
        """A new worker; where the warm process has ended, from a new one."""
        try:
            return self.base.worker(self._told())
        except Closed:
            with self._lock:
                self.base = self._base()
            return self.base.worker(self._told())

    def _knows(self) -> bool:
        """Whether the level is known by now; else there is another warm process to ask."""
        with contextlib.suppress(Closed):
            return bool(self.base.level)
        self.base = self._base()
        return False

    def _told(self) -> dict[str, Any]:
        """What a worker is told first."""
        spec = self.spec
        return {
            "answers": list(spec.answers),
            "imports": spec.imports,
            "limits": asdict(spec.limits),
            "released": str(self.scratch / "released"),
            "scratch": str(self.scratch),
            "hidden": [str(path) for path in spec.hidden],
            "level": self.level,
        }

    def _base(self) -> "WarmBase | ColdBase":
        if sys.platform == "linux" and self.wanted != "bubblewrap":
            return WarmBase(self.spec.imports, self.wanted, self.scratch)
        return ColdBase("bubblewrap" if self.wanted != "plain" and bubblewrap.is_there() else "plain")


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
