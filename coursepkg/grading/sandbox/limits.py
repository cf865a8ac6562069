"""How much a submission may take."""

import os
from dataclasses import dataclass

MB = 10**6


@dataclass(frozen=True)
class Limits:
    """Seconds of a cell and of the whole notebook; characters of output a cell keeps, and after which it is stopped;
    bytes of memory, all of a submission's processes together; of files, together too where namespaces confine it, else of
    each; how many processes and threads there may be."""

    cell_seconds: float = 30
    notebook_seconds: float = 120
    kept_output: int = 1_000_000
    max_output: int = 20_000_000
    memory: int = 3000 * MB
    files: int = 200 * MB
    processes: int = 64


def restrict(limits: Limits, alone: bool) -> None:
    """Set what the kernel counts for each process: address space, file size, processes, open files, no core files.

    The address space is counted from what the process has now: the libraries that it started with. Processes are
    counted for a user: `alone` says that this user has no others.
    """
    import resource

    others = 0 if alone else _threads_of_user()
    with open("/proc/self/statm", encoding="ascii") as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    for kind, value in (
        (resource.RLIMIT_AS, mapped + limits.memory),
        (resource.RLIMIT_FSIZE, limits.files),
        (resource.RLIMIT_NPROC, others + limits.processes),
        (resource.RLIMIT_NOFILE, 512),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_CPU, int(limits.notebook_seconds * limits.processes)),
    ):
        resource.setrlimit(kind, (value, value))


def used(pids: list[int]) -> int:
    """Bytes of memory of these processes; what several share is divided among them."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                total += sum(
                    int(line.split()[1]) * 1024
                    for line in file
                    if line.startswith(("Pss_Anon:", "Pss_Shmem:"))
                )
        except PermissionError:
            total += _resident(pid)
        except OSError:
            continue  # it has just ended
    return total


def _resident(pid: int) -> int:
    """Bytes of memory of a process that does not let itself be looked into, what it shares among them."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _threads_of_user() -> int:
    """How many threads the processes of this user have."""
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == os.geteuid():
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue
    return count
