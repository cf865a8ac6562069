"""Starting and ending a student's process: forked from the warm one where this system can, else a new Python."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from coursepkg.grading.sandbox import bubblewrap
from coursepkg.grading.sandbox.channel import Channel
from coursepkg.grading.sandbox.confine import NOT_CONFINED, OUT_OF_MEMORY, Cell
from coursepkg.grading.sandbox.limits import Limits
from coursepkg.grading.sandbox.link import Link, environment


@dataclass(frozen=True)
class End:
    """How a student's process came to its end, which it can choose."""

    status: int

    @property
    def is_out_of_memory(self) -> bool:
        return self.status == OUT_OF_MEMORY

    @property
    def is_not_confined(self) -> bool:
        return self.status == NOT_CONFINED

    @property
    def said(self) -> str:
        """In words."""
        if self.status > 128:
            with contextlib.suppress(ValueError):
                return f"ended by {signal.Signals(self.status - 128).name}"
        return f"ended with exit status {self.status}"


class Student(Protocol):
    """A student's process."""

    channel: Channel

    def end(self, wait: bool) -> End:
        """End it and all that it has started. Without `wait` that is under way, and how it ended is not known."""


class Launcher(Protocol):
    """Starts students' processes. `level` names how they are confined."""

    level: str

    def start(self, files: Path, hidden: tuple[Path, ...] = ()) -> Student:
        """A process in a folder that holds `files`, from which more files and folders are hidden than from others."""


def cell_request(cell: Cell) -> dict:
    """A request for a student's process; the file that goes with it is its channel."""
    return {
        "do": "student",
        "level": cell.level,
        "root": str(cell.root),
        "files": str(cell.files),
        "hidden": [str(path) for path in cell.hidden],
        "limits": asdict(cell.limits),
    }


class Forking:
    """Forks of the warm process."""

    def __init__(self, link: Link, level: str, root: Path, hidden: tuple[Path, ...], limits: Limits) -> None:
        self.link, self.level, self.root, self.hidden, self.limits = link, level, root, hidden, limits

    def start(self, files: Path, hidden: tuple[Path, ...] = ()) -> "Forked":
        ours, theirs = socket.socketpair()
        cell = Cell(self.level, self.root, files, self.hidden + hidden, self.limits)
        with theirs:
            pid = self.link.ask(cell_request(cell), (theirs.fileno(),))["pid"]
        file = ours.detach()
        os.set_blocking(file, False)
        return Forked(Channel(file, file), self.link, pid)


@dataclass
class Forked:
    """A process that was forked from the warm one."""

    channel: Channel
    link: Link
    pid: int

    def end(self, wait: bool) -> End:
        self.channel.close()
        return End(self.link.ask({"do": "end", "pid": self.pid, "wait": wait})["status"])


class Spawning:
    """New Python processes, each of which imports everything anew: on systems without a fork that can be trusted."""

    def __init__(self, level: str, imports: str, hidden: tuple[Path, ...], limits: Limits) -> None:
        self.level, self.imports, self.hidden, self.limits = level, imports, hidden, limits

    def start(self, files: Path, hidden: tuple[Path, ...] = ()) -> "Spawned":
        command = [sys.executable, "-m", "coursepkg.grading.sandbox.cold"]
        if self.level == "bubblewrap":
            command = bubblewrap.command(command, files, self.hidden + hidden, self.limits)
        given = {"COURSEPKG_IMPORTS": self.imports, "COURSEPKG_LIMITS": json.dumps(asdict(self.limits))}
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=files,
            env=_inherited() | environment() | given,
            start_new_session=os.name == "posix",
        )
        channel = Channel(process.stdout.fileno(), process.stdin.fileno(), process.kill)
        return Spawned(channel, process)


@dataclass
class Spawned:
    """A Python of its own."""

    channel: Channel
    process: subprocess.Popen

    def end(self, wait: bool) -> End:
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                stream.close()
        status = self.process.wait()
        return End(128 - status if status < 0 else status)


def _inherited() -> dict[str, str]:
    """What Windows cannot start Python without."""
    names = (
        "SYSTEMROOT",
        "SYSTEMDRIVE",
        "TEMP",
        "TMP",
        "APPDATA",
        "LOCALAPPDATA",
        "USERPROFILE",
        "HOMEDRIVE",
    )
    return {name: os.environ[name] for name in names if name in os.environ} if os.name == "nt" else {}


def remove(folder: Path) -> None:
    """Delete a folder that a student's process has written to, whatever it left there."""
    shutil.rmtree(folder, ignore_errors=True)
