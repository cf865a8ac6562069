"""What a process may read and write, by the kernel's Landlock: for machines where namespaces are not to be had."""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from coursepkg.grading.sandbox import system

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
#: All rights over files by the version of Landlock that first knew them.
_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
#: The version from which on files cannot be emptied; and from which on signals stay inside, which matters where the
#: submission's user has other processes.
SAFE, SAFE_FOR_SIGNALS = 3, 6
_BIND_TCP, _CONNECT_TCP = 1, 2
_ABSTRACT_SOCKET, _SIGNAL = 1, 2
_ON_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | (1 << 14) | (1 << 15)


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def version() -> int:
    """The kernel's version of Landlock; 0 where it has none."""
    try:
        return system.syscall("landlock", system.LANDLOCK_CREATE, None, 0, 1)
    except OSError:
        return 0


def apply(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Confine this process and its children, for good, to reading and running what is below `readable`, and to all
    that can be done with files below `writable`. Raises OSError."""
    abi = version()
    everything = max(rights for known, rights in _FILES.items() if known <= max(abi, 1))
    rules = _Ruleset(everything, 0, 0)
    size = 8
    if abi >= 4:
        rules.net, size = _BIND_TCP | _CONNECT_TCP, 16
    if abi >= 6:
        rules.scoped, size = _ABSTRACT_SOCKET | _SIGNAL, 24
    ruleset = system.syscall("landlock", system.LANDLOCK_CREATE, ctypes.byref(rules), size, 0)
    try:
        reading = _EXECUTE | _READ_FILE | _READ_DIR
        for paths, allowed in ((readable, reading), (writable, everything)):
            for path in paths:
                _allow(ruleset, path, allowed)
        system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
        system.syscall("landlock", system.LANDLOCK_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, allowed: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        allowed = allowed if path.is_dir() else allowed & _ON_A_FILE
        rule = _Beneath(allowed, parent)
        system.syscall(f"landlock {path}", system.LANDLOCK_ADD, ruleset, 1, ctypes.byref(rule), 0)
    finally:
        os.close(parent)
