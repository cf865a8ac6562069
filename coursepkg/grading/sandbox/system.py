"""Linux's calls that Python does not offer, by ctypes. Each raises OSError where the kernel refuses."""

import ctypes
import os
import platform

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND = 0x1, 0x2, 0x4, 0x8, 0x1000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_CAPBSET_DROP = 1, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 36, 38, 22
#: Numbers that are the same on all machines of today, and one that is not.
MOUNT_SETATTR, LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 442, 444, 445, 446
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
CAPSET = {"x86_64": 126, "aarch64": 91}
AT_FDCWD, AT_RECURSIVE = -100, 0x8000

_libc = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None


def machine() -> str:
    """The processor's kind, as the tables of this module name it."""
    return platform.machine()


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(what: str, number: int, *arguments: object) -> int:
    """A call by its number; integers are passed as longs."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *converted), what)


def unshare(flags: int) -> None:
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def enter(namespace: int, flag: int) -> None:
    """Enter a namespace that is open as a file."""
    _checked(_libc.setns(ctypes.c_int(namespace), ctypes.c_int(flag)), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    texts = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _checked(
        _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]),
        f"mount {kind} at {target}",
    )


def umount(target: str) -> None:
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def read_only(target: str, recursive: bool = True, attributes: int = MS_RDONLY | MS_NOSUID) -> None:
    """Make a mount, and by default those below it, read-only. (The kernel's MOUNT_ATTR_ bits are those of MS_.)"""
    wanted = _MountAttributes(attributes, 0, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    size = ctypes.sizeof(wanted)
    syscall(
        f"read-only {target}", MOUNT_SETATTR, AT_FDCWD, target.encode(), flags, ctypes.byref(wanted), size
    )


def pivot_root(new: str) -> None:
    """Make `new`, a mount, the root of this process's file system; the old one is gone."""
    os.chdir(new)
    syscall("pivot_root", PIVOT_ROOT[machine()], b".", b".")
    umount(".")
    os.chdir("/")


def prctl(option: int, value: int = 0, other: object = 0) -> None:
    third = ctypes.c_ulong(other) if isinstance(other, int) else other
    nothing = ctypes.c_ulong(0)
    _checked(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), third, nothing, nothing), "prctl")


def drop_capabilities() -> None:
    """Give up every capability for good."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    syscall("capset", CAPSET[machine()], header, (ctypes.c_uint32 * 6)())
