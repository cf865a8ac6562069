"""The workers that grade a class on this machine, and the warm process that they and the students are forked from."""

import contextlib
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from coursepkg.grading.cells import is_answer
from coursepkg.grading.engine.testcell import imports_of, names_defined
from coursepkg.grading.sandbox import warm
from coursepkg.grading.sandbox.channel import Channel, Closed, Garbled, Late
from coursepkg.grading.sandbox.limits import Limits

#: Levels of confinement, the safest first. "best" is the first that this machine has.
LEVELS = ("namespaces", "landlock", "bubblewrap", "plain")
#: Seconds beyond the notebook's own that a worker may take before it is taken for dead.
PATIENCE = 120
WARM = "import coursepkg.grading.engine.worker\nimport coursepkg.check\nimport IPython.display"


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
        lines = [line for cell in self.instructors.cells for line in imports_of(cell)]
        return "\n".join(dict.fromkeys(lines))

    @property
    def answers(self) -> list[str]:
        """The names that the solutions define."""
        cells = filter(is_answer, self.instructors.cells)
        return sorted({name for cell in cells for name in names_defined(cell.source)})


@dataclass
class Result:
    """One submission, examined. `notebook`: the text of the notebook with its outputs; None where there is none.

    `state`, `reason`, `ours`: see verdicts.Verdict. `changes`: lines for the instructor. `unanswered`: answers that
    were not found. `files`: those that came with the notebook. `sandbox`: how it was confined.
    """

    state: str
    reason: str = ""
    ours: bool = False
    notebook: str | None = None
    changes: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    sandbox: str = ""
    seconds: float = 0.0


class Crew:
    """`jobs` workers for one assignment; a context manager. `level`: "best", or one of LEVELS at most."""

    def __init__(self, spec: Spec, jobs: int = 1, level: str = "best") -> None:
        self.spec, self.jobs = spec, max(1, jobs)
        self.wanted = LEVELS[0] if level == "best" else level
        self.level = ""
        self.problems: list[str] = []

    def __enter__(self) -> "Crew":
        self._folder = tempfile.mkdtemp(prefix="grading-")
        self.scratch = Path(self._folder).resolve()
        (self.scratch / "root").mkdir()
        (self.scratch / "released").mkdir()
        os.chmod(self.scratch, 0o711)
        if self.spec.released is not None:
            shutil.copytree(self.spec.released, self.scratch / "released", dirs_exist_ok=True)
        try:
            self.base = self._base()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if base := getattr(self, "base", None):
            base.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def results(self, jobs: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, Result]]:
        """The result of every (name, job), as they are ready. A job is {"folder": …} or {"notebook": …}."""
        waiting: queue.SimpleQueue = queue.SimpleQueue()
        ready: queue.SimpleQueue = queue.SimpleQueue()
        count = 0
        for entry in jobs:
            waiting.put(entry)
            count += 1
        stop = threading.Event()
        members = [
            threading.Thread(target=self._work, args=(waiting, ready, stop), daemon=True)
            for _ in range(min(self.jobs, count))
        ]
        for member in members:
            member.start()
        try:
            for _ in range(count):
                name, result = ready.get()
                if isinstance(result, BaseException):
                    raise result
                yield name, result
        finally:
            stop.set()

    def _work(self, waiting: queue.SimpleQueue, ready: queue.SimpleQueue, stop: threading.Event) -> None:
        """One worker's thread: hand out what is waiting until nothing is."""
        worker = None
        try:
            while not stop.is_set():
                try:
                    name, job = waiting.get_nowait()
                except queue.Empty:
                    break
                for attempt in (1, 2):
                    worker = worker or self.base.worker(self._told())
                    try:
                        ready.put((name, worker.do(job, self.spec.limits.notebook_seconds + PATIENCE)))
                        break
                    except (Closed, Late, Garbled) as error:
                        worker.end()
                        worker = None
                        if attempt == 2:
                            reason = f"its worker ended twice ({type(error).__name__}); try again"
                            ready.put((name, Result("failed", reason, ours=True)))
        except BaseException as error:
            ready.put(("", error))
        finally:
            if worker:
                worker.end()

    def _told(self) -> dict[str, Any]:
        """What a worker is told first."""
        spec = self.spec
        return {
            "assignment": spec.assignment,
            "release": spec.release,
            "answers": spec.answers,
            "imports": spec.imports,
            "limits": asdict(spec.limits),
            "released": str(self.scratch / "released"),
            "scratch": str(self.scratch),
            "hidden": [str(path) for path in spec.hidden],
            "level": self.level,
        }

    def _base(self) -> "WarmBase | ColdBase":
        if sys.platform == "linux" and self.wanted != "bubblewrap":
            base = WarmBase(self.spec.imports, self.wanted, self.scratch)
            self.level, self.problems = base.level, base.problems
            if self.level != "plain" or self.wanted == "plain" or not shutil.which("bwrap"):
                return base
            base.close()
            self.level = "bubblewrap"
        else:
            self.level = self.wanted if shutil.which("bwrap") else "plain"
        return ColdBase()


class Member:
    """A worker, as its owner sees it."""

    def __init__(self, channel: Channel, end: Any) -> None:
        self.channel, self.end = channel, end

    def do(self, job: dict[str, Any], seconds: float) -> Result:
        """Raises Closed where the worker has ended, Late where it does not answer."""
        self.channel.send(job)
        told, buffers = self.channel.receive(seconds)
        return Result(notebook=buffers[0].decode("utf-8", "surrogatepass") if buffers else None, **told)


class WarmBase:
    """The warm process, from which workers are forked."""

    def __init__(self, imports: str, level: str, scratch: Path) -> None:
        ours, theirs = warm.pair()
        file = theirs.socket.fileno()
        with theirs.socket:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "coursepkg.grading.sandbox.warm", str(file)],
                pass_fds=[file],
                env=warm.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.link, self.lock = ours, threading.Lock()
        request = {"do": "prepare", "imports": f"{WARM}\n{imports}", "level": level, "root": str(scratch)}
        told = self.ask(request)
        self.level, self.problems = told["level"], told["problems"]

    def ask(self, request: dict, files: tuple[int, ...] = ()) -> dict:
        """Raises Closed where the warm process has ended."""
        with self.lock:
            try:
                return self.link.ask(request, files)
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

        def end() -> None:
            channel.close()
            with contextlib.suppress(Closed):
                self.ask({"do": "end", "pid": pid})

        return Member(channel, end)

    def close(self) -> None:
        """End it, and with it all that it has forked."""
        self.link.socket.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class ColdBase:
    """Workers that are Pythons of their own."""

    def worker(self, told: dict[str, Any]) -> Member:
        process = subprocess.Popen(
            [sys.executable, "-m", "coursepkg.grading.engine.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        channel = Channel(process.stdout.fileno(), process.stdin.fileno(), process.kill)
        channel.send(told)

        def end() -> None:
            process.kill()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()
            process.wait()

        return Member(channel, end)

    def close(self) -> None:
        """There is nothing that outlives the workers."""
