"""A file system of its own for a submission: libraries to read, an empty folder to write, and nothing else.

Called in a mount namespace that was just made, before privileges are dropped.
"""

import os
import shutil
import site
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

import coursepkg
from coursepkg.grading.sandbox import system
from coursepkg.grading.sandbox.limits import Limits

#: Where a notebook finds itself, with the files that came with it.
FOLDER = "/tmp/notebook"
DEVICES = ("null", "zero", "full", "random", "urandom")
#: What of /etc libraries read: names of users and hosts, certificates, fonts, the loader's cache.
ETC = "passwd group hosts nsswitch.conf localtime ld.so.cache ld.so.conf ld.so.conf.d fonts ssl alternatives mime.types"
_TEMPORARY = system.MS_NOSUID | system.MS_NODEV


def libraries() -> list[Path]:
    """The folders that Python and what it imports are read from, the course's own package among them."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, *site.getsitepackages()}
    found = {Path(path).resolve() for path in prefixes} | {Path(path) for path in prefixes}
    found |= {Path(path) for path in ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")}
    found |= {Path(path) for path in sys.path if Path(path).name == "site-packages"}
    found |= {Path("/sys/devices/system/cpu"), Path(coursepkg.__file__).resolve().parent}
    found |= {Path("/etc", name) for name in ETC.split()}
    return sorted(path for path in found if path.exists() or path.is_symlink())


def libraries_without(hidden: Iterable[Path]) -> list[Path]:
    """The libraries, in parts where something in them is hidden; one that lies in a hidden folder stays."""
    secret = {path.resolve() for path in hidden}
    return [part for path in libraries() for part in _parts(path, secret)]


def _parts(path: Path, secret: set[Path]) -> list[Path]:
    if not any(path in (one, *one.parents) for one in secret):
        return [path]
    if path in secret:
        return []
    return [part for inside in sorted(path.iterdir()) for part in _parts(inside, secret)]


def open_to_all() -> bool:
    """Whether every user may read the libraries, and not only the one that grades."""
    here = [path.resolve() for path in libraries()]
    ways = {folder for path in here for folder in path.parents} | set(here)
    return all(os.stat(path).st_mode & (stat.S_IXOTH if path.is_dir() else stat.S_IROTH) for path in ways)


def build(root: Path, hidden: Iterable[Path], files: Path, limits: Limits, owner: int | None) -> None:
    """Make `root`, an empty folder, this process's file system.

    It shows `libraries()`, but nothing of the files and folders `hidden` unless a library lies in them. The notebook's folder
    holds a copy of `files`; it belongs to `owner`, if one is given. Raises OSError where the kernel refuses.
    """
    system.mount("none", "/", None, system.MS_REC | system.MS_PRIVATE)
    system.mount("tmpfs", str(root), "tmpfs", _TEMPORARY, "size=4m,mode=755")
    temporary = root / "tmp"
    _make(temporary)
    system.mount("tmpfs", str(temporary), "tmpfs", _TEMPORARY, f"size={limits.files},nr_inodes=20k,mode=1777")
    shown = [(path, True) for path in libraries()] + [(path.resolve(), False) for path in hidden]
    for path, visible in sorted(shown):
        inside = root / path.relative_to("/")
        if visible:
            _show(path, inside)
        elif inside.is_dir():
            system.mount("tmpfs", str(inside), "tmpfs", _TEMPORARY, "size=1m,mode=755")
        elif inside.exists():
            system.mount("/dev/null", str(inside), None, system.MS_BIND)
    _devices(root)
    folder = root / FOLDER[1:]
    shutil.copytree(files, folder)
    if owner is not None:
        give(folder, owner)
    _make(root / "proc")
    try:
        system.mount("proc", str(root / "proc"), "proc", _TEMPORARY | system.MS_NOEXEC)
    except OSError:
        pass  # in a container whose own /proc is covered up; little misses it
    system.read_only(str(root), recursive=False)
    system.pivot_root(str(root))


def give(folder: Path, owner: int) -> None:
    """Make a folder and all in it another user's."""
    for place, folders, names in os.walk(folder):
        for name in [".", *folders, *names]:
            os.chown(os.path.join(place, name), owner, owner)


def _show(path: Path, inside: Path) -> None:
    """Let a file or folder be seen at `inside`, to read only; a link is made again."""
    if path.is_symlink():
        _make(inside.parent)
        if not inside.is_symlink() and not inside.exists():
            inside.symlink_to(os.readlink(path))
        return
    if path.is_dir():
        if not inside.is_dir():
            _make(inside)
    elif not inside.exists():
        _make(inside.parent)
        inside.touch()
    system.mount(str(path), str(inside), None, system.MS_BIND | system.MS_REC)
    system.read_only(str(inside), attributes=system.MS_RDONLY | system.MS_NOSUID | system.MS_NODEV)


def _devices(root: Path) -> None:
    folder = root / "dev"
    _make(folder)
    for name in DEVICES:
        (folder / name).touch()
        system.mount(f"/dev/{name}", str(folder / name), None, system.MS_BIND)
    shared = folder / "shm"
    _make(shared)
    system.mount("tmpfs", str(shared), "tmpfs", _TEMPORARY, "size=64m,mode=1777")
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (folder / name).symlink_to(target)


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
