"""One process that has imported everything, and forks itself: into workers, and into students' processes.

It runs no operation of torch and starts no thread, because a process that is forked from several threads can hang.
Workers (trusted) are forked at its owner's word, and each asks it for students' processes. A student's process is
forked from here and not from a worker, so it has never held a test.
"""

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from coursepkg.grading.sandbox import jail, student, system
from coursepkg.grading.sandbox.channel import Channel
from coursepkg.grading.sandbox.confine import (
    FIRST_USER,
    FORKED,
    NOT_CONFINED,
    USERS,
    Cell,
    exit_status,
    supervise,
)
from coursepkg.grading.sandbox.limits import Limits
from coursepkg.grading.sandbox.link import Link, pair
from coursepkg.grading.sandbox.shell import Shell

#: Seconds between two looks at processes whose end somebody waits for.
LOOK = 0.001


class Warm:
    """The warm process's loop."""

    def __init__(self, owner: Link) -> None:
        self.selector = selectors.DefaultSelector()
        self.selector.register(owner.socket, selectors.EVENT_READ, owner)
        self.owner = owner
        self.shell = Shell()
        self.shell.rehearse()
        self.forked: set[int] = set()
        self.ending: dict[int, Link | None] = {}
        self.started = 0
        self.is_root = os.geteuid() == 0 and _has_users()
        self.students: dict[Link, set[int]] = {}

    def serve(self) -> None:
        """Answer requests until the owner is gone."""
        while True:
            for key, _ in self.selector.select(LOOK if any(self.ending.values()) else None):
                link: Link = key.data
                try:
                    request, files = link.receive()
                except EOFError:
                    if link is self.owner:
                        self._end_all()
                        return
                    self._forget(link)
                    continue
                self.asking = link
                answer = getattr(self, request.pop("do"))(files, **request)
                if answer is not None:
                    _send(link, answer)
                for file in files:
                    os.close(file)
            self._reap()

    def load(self, _: list[int], imports: str) -> dict:
        """Run import statements, of which some may fail: the notebook will say so itself."""
        problems = []
        for line in imports.splitlines():
            try:
                exec(line, {})
            except Exception as error:
                problems.append(f"{line}: {type(error).__name__}: {error}")
        gc.freeze()
        return {"threads": len(os.listdir("/proc/self/task")), "problems": problems}

    def confine(self, _: list[int], level: str, root: str) -> dict:
        """The level at which students' processes can be confined, at most `level`. `root`: a folder to try it in."""
        return {"level": self._best(level, root)}

    def worker(self, opened: list[int], module: str, argument: str) -> dict:
        """Fork a worker: it calls `main` of a module with its channel, its link to this process and the argument."""
        ours, theirs = pair()
        pid = self._fork(
            [opened[0], theirs.socket.fileno()], lambda: _work(module, opened[0], theirs, argument)
        )
        theirs.socket.close()
        self.selector.register(ours.socket, selectors.EVENT_READ, ours)
        return {"pid": pid}

    def student(
        self, opened: list[int], level: str, root: str, files: str, hidden: list[str], limits: dict
    ) -> dict:
        """Fork a student's process, confined; the id of its supervisor."""
        cell = Cell(level, Path(root), Path(files), tuple(map(Path, hidden)), Limits(**limits))
        pid = self._fork_supervisor(cell, opened, lambda: self._study(opened[0]))
        self.students.setdefault(self.asking, set()).add(pid)
        return {"pid": pid}

    def end(self, _: list[int], pid: int, wait: bool = True) -> dict | None:
        """End a process that was forked here, and all below it; its exit status, if that is waited for.

        Others are served meanwhile: whoever waits is answered when the process has ended.
        """
        if pid not in self.forked:
            return {"status": 0}
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        self.ending[pid] = self.asking if wait else None
        return None if wait else {"status": 0}

    def _forget(self, worker: Link) -> None:
        """A worker is gone: end what it has left."""
        self.selector.unregister(worker.socket)
        worker.socket.close()
        for pid in self.students.pop(worker, set()) & self.forked:
            self.end([], pid, wait=False)

    def _reap(self) -> None:
        """Forget those that have ended since they were told to, and answer who waits for that."""
        for pid in sorted(self.ending):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            self.forked.discard(pid)
            if waiting := self.ending.pop(pid):
                _send(waiting, {"status": exit_status(status)})

    def _end_all(self) -> None:
        for pid in sorted(self.forked):
            self.end([], pid, wait=False)
        for pid in sorted(self.forked):
            os.waitpid(pid, 0)

    def _study(self, file: int) -> None:
        student.main(Channel(file, file), self.shell)

    def _fork(self, kept: list[int], run: Callable[[], None]) -> int:
        """A new process that has these files open and no others; its id."""
        pid = os.fork()
        if pid:
            self.forked.add(pid)
            return pid
        status = 1
        try:
            system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
            self.selector.close()
            _keep_open(kept)
            gc.enable()
            run()
            status = 0
        finally:
            os._exit(status)

    def _fork_supervisor(self, cell: Cell, kept: list[int], run: Callable[[], None]) -> int:
        """A new supervisor. Where root grades it is the first of its namespace of processes, which saves a fork."""
        self.started += 1
        if not self.is_root:
            return self._fork(kept, lambda: supervise(cell, run, None))
        user: int | None = FIRST_USER + (os.getpid() * 9973 + self.started) % USERS
        if cell.level != "namespaces" and not jail.open_to_all():
            user = (
                None  # another user could not read Python's own files: it stays root's, without root's rights
            )
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):  # then it does without, or says that it cannot be confined
                if cell.level == "namespaces":
                    system.unshare(system.CLONE_NEWPID)
            return self._fork(kept, lambda: supervise(cell, run, user))
        finally:
            with contextlib.suppress(OSError):
                system.enter(own, system.CLONE_NEWPID)
            os.close(own)

    def _best(self, level: str, root: str) -> str:
        """The first level, from `level` on, that this machine has."""
        for name in FORKED[FORKED.index(level) :]:
            with tempfile.TemporaryDirectory(dir=root) as files:
                cell = Cell(name, Path(root, "root"), Path(files), (), Limits())
                pid = self._fork_supervisor(cell, [], lambda: None)
                self.forked.discard(pid)
                if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != NOT_CONFINED:
                    return name
        return FORKED[-1]


def _send(link: Link, answer: dict) -> None:
    """Answer; who asked may be gone by now."""
    with contextlib.suppress(OSError):
        link.send(answer)


def _has_users() -> bool:
    """Whether root can give processes to the users that submissions get; in a container of a user's own it cannot."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return any(first <= FIRST_USER and FIRST_USER + USERS <= first + count for first, _, count in ranges)


def _work(module: str, file: int, link: Link, argument: str) -> None:
    importlib.import_module(module).main(Channel(file, file), link, argument)


def _keep_open(files: list[int]) -> None:
    """Close every file but these; standard input, output and errors lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    start = 3
    for file in sorted(files):
        os.closerange(start, file)
        start = file + 1
    os.closerange(start, 65536)


def main() -> None:
    """Serve on an inherited socket, whose number is the argument."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C is for the owner, which then closes the link
    owner = Link(socket.socket(fileno=int(sys.argv[1])))
    assert threading.active_count() == 1
    Warm(owner).serve()
    os._exit(0)  # giving back the memory of all that was imported takes a second
