"""Putting a process of the student's where it can do no harm, with what this machine has for it.

    namespaces   its own file system, processes and network; calls of the kernel that it does not need are refused
    landlock     the machine's files, to read only, as far as libraries need; no sockets; no signals to others
    plain        limits only

Each bounds memory, processes, files and time, and gives up root's rights. Linux only; see cold.py for other systems.
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coursepkg.grading.sandbox import jail, landlock, seccomp, system
from coursepkg.grading.sandbox.limits import Limits, restrict, used

#: The levels at which a fork of the warm process can be confined, the safest first.
FORKED = ("namespaces", "landlock", "plain")
NOBODY = 65534
#: Users that own nothing on this machine: where root grades, each submission's processes belong to one of these.
FIRST_USER, USERS = 1_500_000_000, 500_000_000
#: Seconds between two looks at the memory in use; more where looking takes long.
LOOK = 0.25
#: Bytes that count as a submission's though it has them from the warm process. One process alone meets its own limit
#: first, and gets a MemoryError where it asks for more.
SHARED = 500_000_000
#: Processes of a submission that are a crowd.
MANY = 8
#: How a supervisor ends where it was not told to. A student's process may end in the same way, and gains nothing.
OUT_OF_MEMORY, NOT_CONFINED = 71, 72
#: What a student's process has for itself, besides processes, and where this is not root, users.
NAMESPACES = system.CLONE_NEWNS | system.CLONE_NEWNET | system.CLONE_NEWIPC | system.CLONE_NEWUTS
_SIGNALS = (signal.SIGTERM, signal.SIGCHLD) if os.name == "posix" else ()


@dataclass(frozen=True)
class Cell:
    """A place for one submission. `root`: an empty folder on which its file system is mounted; `files`: the notebook's
    folder, which is copied, or without namespaces used itself; `hidden`: folders of which nothing may be seen."""

    level: str
    root: Path
    files: Path
    hidden: tuple[Path, ...]
    limits: Limits


def supervise(cell: Cell, run: Callable[[], None], user: int | None) -> None:
    """Run `run` in the cell, in a process below this one, and wait for it and all that it has started; never returns.

    Called in a new process of one thread; it may be the first one of a namespace of processes. `user`: whose the
    student's process is to be, where this one is root's. It ends on SIGTERM, or with its parent, and leaves nothing
    behind. Its exit status is the student's, 128 and the signal that ended it, or one of those above.
    """
    status = NOT_CONFINED
    try:
        system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
        system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        if cell.level != "namespaces":
            status = _watch(_student(cell, run, user), _descendants, cell.limits)
            _end_all(_descendants())
        elif os.getpid() == 1:
            system.unshare(NAMESPACES)
            status = _first(cell, run, user)
        else:
            status = _below(cell, run, user)
    finally:
        os._exit(status)


def _first(cell: Cell, run: Callable[[], None], user: int | None) -> int:
    """The first process of a namespace: when it ends, the kernel ends all others."""
    jail.build(cell.root, cell.hidden, cell.files, cell.limits, user)
    return _watch(_student(cell, run, user), _everyone, cell.limits)


def _below(cell: Cell, run: Callable[[], None], user: int | None) -> int:
    """Make the namespaces, of users too unless this is root, and wait for their first process."""
    if user is None:
        ids = {"uid_map": f"{NOBODY} {os.geteuid()} 1", "gid_map": f"{NOBODY} {os.getegid()} 1"}
        system.unshare(NAMESPACES | system.CLONE_NEWPID | system.CLONE_NEWUSER)
        for name, text in ({"setgroups": "deny"} | ids).items():
            Path("/proc/self", name).write_text(text, encoding="ascii")
    else:
        system.unshare(NAMESPACES | system.CLONE_NEWPID)
    first = os.fork()
    if not first:
        status = NOT_CONFINED
        try:
            system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
            status = _first(cell, run, user)
        finally:
            os._exit(status)
    while True:
        if signal.sigwait(_SIGNALS) == signal.SIGTERM:
            os.kill(first, signal.SIGKILL)
        ended, status = os.waitpid(first, os.WNOHANG)
        if ended:
            return exit_status(status)


def _student(cell: Cell, run: Callable[[], None], user: int | None) -> int:
    """Start the student's process; its id."""
    student = os.fork()
    if student:
        return student
    status = NOT_CONFINED
    try:
        system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
        _confine(cell, user)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        status = 1
        run()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except MemoryError:
        status = OUT_OF_MEMORY
    finally:
        os._exit(status & 0x7F)


def _confine(cell: Cell, user: int | None) -> None:
    """Give up, in this process and for good, what the student's code is not to have."""
    os.setsid()
    own = cell.files
    if cell.level == "namespaces":
        own = Path(jail.FOLDER)
        socket.sethostname("notebook")
    elif user is not None:
        jail.give(own, user)
    os.chdir(own)
    os.environ["HOME"] = os.environ["TMPDIR"] = str(own if cell.level != "namespaces" else Path("/tmp"))
    restrict(cell.limits, alone=user is not None or cell.level == "namespaces")
    if cell.level == "landlock":
        if landlock.version() < (landlock.SAFE if user is not None else landlock.SAFE_FOR_SIGNALS):
            raise OSError("this kernel's Landlock lets too much through")
        devices = [Path("/dev", name) for name in jail.DEVICES]
        readable = [*jail.libraries_without(cell.hidden), Path("/proc"), *devices]
        landlock.apply(readable, [own, Path("/dev/null")])
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)  # a new user clears it
    elif cell.level == "namespaces" or os.geteuid() == 0:
        system.drop_capabilities()
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    if cell.level != "plain":
        seccomp.apply(alone=cell.level == "namespaces")


def _watch(student: int, others: Callable[[], list[int]], limits: Limits) -> int:
    """Wait until the student's process has ended, or all of them together take too much memory."""
    look = time.monotonic() + LOOK
    while True:
        told = signal.sigtimedwait(_SIGNALS, max(0.0, look - time.monotonic()))
        if told is not None and told.si_signo == signal.SIGTERM:
            return 128 + signal.SIGTERM
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return NOT_CONFINED
            if ended == student:
                return exit_status(status)
            if not ended:
                break
        if time.monotonic() >= look:
            started = time.monotonic()
            pids = others()
            if used(pids) > limits.memory + SHARED:
                return OUT_OF_MEMORY
            if len(pids) > MANY:
                _stand_back(pids)
            ended = time.monotonic()
            look = ended + max(LOOK, 10 * (ended - started))


def _stand_back(pids: list[int]) -> None:
    """Let a crowd of processes have the processor only when other submissions do not need it."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, 19)


def exit_status(status: int) -> int:
    """What `waitpid` gave, as a shell would say it: 128 and the number of the signal that ended the process."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def _everyone() -> list[int]:
    """All processes that can be seen, but for the first: in a namespace of processes, the student's."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]
    except OSError:
        return []


def _descendants() -> list[int]:
    """The processes below this one."""
    parents: dict[int, int] = {}
    for pid in _everyone():
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                parents[pid] = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, mine = [], {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in mine} - set(found):
        found += sorted(new)
        mine |= new
    return found


def _end_all(pids: list[int]) -> None:
    """End these processes and what they start meanwhile: this one inherits what loses its parent."""
    while True:
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return  # whose parents have ended come here, so there is none that was not seen
        time.sleep(0.001)
        pids = _descendants()
