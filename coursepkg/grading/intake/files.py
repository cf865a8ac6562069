"""What lies in a submission's folder: the notebook, and the files that may lie beside it when it runs."""

import itertools
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from coursepkg.grading.intake import reading
from coursepkg.grading.intake.reading import Refused

__all__ = ["Bounds", "Refused", "Taken", "take"]

#: nbgrader puts these beside a submission.
NBGRADERS = ("timestamp.txt", "submission_secret.txt")
#: What operating systems leave behind, besides hidden files.
LITTER = {"__macosx", "__pycache__", "desktop.ini", "thumbs.db"}
#: Code, libraries and settings that programs take from the folder they run in.
CODE = set(
    ".bash .bat .cfg .cmd .com .dll .dylib .egg .exe .ini .jar .js .mjs .ps1 .pth .pxd .py .pyc .pyd .pyi .pyo .pyw "
    ".pyx .r .sh .so .toml .whl .zsh".split()
)
SETTINGS = {"makefile", "matplotlibrc"}
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.I)
_NOT_ON_WINDOWS = set('<>:"|?*\\')


@dataclass(frozen=True)
class Bounds:
    """What is taken of a submission: bytes and cells of the notebook; number of the other files, and their bytes
    together; folders a file may lie in, one in the other; characters of a path; entries that are looked at; notes."""

    notebook: int = 20_000_000
    cells: int = 2_000
    count: int = 200
    total: int = 50_000_000
    depth: int = 5
    path: int = 150
    entries: int = 5_000
    notes: int = 30


@dataclass(frozen=True)
class Taken:
    """A submission as it was taken in.

    `notebook`: in format 4.5, without outputs. `files`: paths of regular files that may lie beside it, relative to the
    folder, with slashes. `notes`: a line for each thing that was left out, and why.
    """

    notebook: NotebookNode
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def take(folder: Path, assignment: str, released: Iterable[str] = (), bounds: Bounds | None = None) -> Taken:
    """Take in the submission of `assignment` that lies in `folder`, following no link and running nothing.

    `released`: paths of the files that came with the release, whose own are used. Raises Refused, and OSError where
    the machine cannot read what is there.
    """
    bounds = bounds or Bounds()
    _must_be_folder(folder)
    path = folder / f"{assignment}.ipynb"
    if not os.path.lexists(path):
        raise Refused(_missing(folder, path.name))
    nb = reading.notebook(reading.content(path, bounds.notebook), path.name, bounds.cells)
    beside = _Beside(bounds, {_key(name) for name in released})
    entries = _walk(folder, "", bounds.depth)
    for name, status in itertools.islice(entries, bounds.entries):
        if name != path.name:
            beside.look_at(name, status)
    if next(entries, None):
        beside.notes.append(f"only the first {bounds.entries} of its files and folders were looked at")
    return Taken(nb, beside.files, beside.said())


def _must_be_folder(folder: Path) -> None:
    try:
        status = os.lstat(folder)
    except FileNotFoundError as error:
        raise Refused(f"there is no folder {folder.name} in it; ask for it") from error
    if reading.is_link(status):
        raise Refused(
            f"the folder {folder.name} is a symbolic link, which is never followed; ask for the files themselves"
        )
    if not stat.S_ISDIR(status.st_mode):
        raise Refused(f"{folder.name} is not a folder; ask for the notebook in a folder of that name")


def _missing(folder: Path, wanted: str) -> str:
    names = sorted(name for name in os.listdir(folder) if name not in NBGRADERS and not name.startswith("."))
    if not names:
        return f"there is no {wanted} in it, and nothing else; ask for it"
    notebooks = [_shown(name) for name in names if name.endswith(".ipynb")]
    listed = ", ".join(map(_shown, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    if len(notebooks) == 1 and len(names) > 1:
        return (
            f"there is no {wanted} in it but {listed}; rename {notebooks[0]}, its one notebook, or ask for it"
        )
    return f"there is no {wanted} in it but {listed}; {'rename it, or ' if notebooks else ''}ask for it"


def _walk(folder: Path, under: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    """What lies in a folder, by name; after each of its folders what lies in that, down to a depth."""
    with os.scandir(folder) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith(".") or entry.name.casefold() in LITTER:
            continue
        status, name = os.lstat(entry.path), under + entry.name
        yield name, status
        if stat.S_ISDIR(status.st_mode) and not reading.is_link(status) and depth:
            yield from _walk(Path(entry.path), f"{name}/", depth - 1)


class _Beside:
    """Sorts the files beside a notebook into those that are taken and those that are left out, with notes."""

    def __init__(self, bounds: Bounds, released: set[str]) -> None:
        self.bounds, self.released = bounds, released
        self.files: list[str] = []
        self.notes: list[str] = []
        self._keys: set[str] = set()
        self._bytes = self._beyond = 0

    def look_at(self, name: str, status: os.stat_result) -> None:
        if name in NBGRADERS or _key(name) in self.released or self._is_folder(name, status):
            return
        if why := self._why_not(name, status):
            self.notes.append(f"{_shown(name)} was left out: {why}")
        elif len(self.files) >= self.bounds.count:
            self._beyond += 1
        else:
            self.files.append(name)
            self._keys.add(_key(name))
            self._bytes += status.st_size

    def said(self) -> list[str]:
        """The notes, of which there are only so many."""
        said = self.notes[: self.bounds.notes]
        if rest := len(self.notes) - len(said):
            said.append(f"{rest} more were left out for such reasons")
        if self._beyond:
            said.append(f"{self._beyond} more files were left out: {self.bounds.count} are enough")
        return said

    def _why_not(self, name: str, status: os.stat_result) -> str:
        parts = name.split("/")
        last = parts[-1].casefold()
        suffix = os.path.splitext(last)[1]
        if reading.is_link(status):
            return "it is a symbolic link, which is never followed"
        if stat.S_ISDIR(status.st_mode):
            return f"folders may lie {self.bounds.depth} deep in each other, not more"
        if not stat.S_ISREG(status.st_mode):
            return "it is a pipe, a socket or a device"
        if any(map(_is_odd, parts)):
            return "its name is not one that every system can have; letters, digits, - and _ are fine"
        if len(name) > self.bounds.path:
            return f"its path has more than {self.bounds.path} characters"
        if suffix == ".ipynb":
            return "only the assignment's own notebook is graded"
        if suffix in CODE or last in SETTINGS or ".so." in last:
            return "code and settings could take the place of the course's; code belongs in the notebook"
        if _key(name) in self._keys:
            return "another file has that name but for upper and lower case"
        if self._is_in_the_way(_key(name)):
            return "a file of the release needs its place"
        if self._bytes + status.st_size > self.bounds.total:
            return f"the files would have more than {self.bounds.total / 1e6:g} MB together"
        return ""

    def _is_folder(self, name: str, status: os.stat_result) -> bool:
        """Whether this is a folder, of which nothing is to be said because what lies in it is looked at."""
        inside = name.count("/") < self.bounds.depth
        return stat.S_ISDIR(status.st_mode) and not reading.is_link(status) and inside

    def _is_in_the_way(self, key: str) -> bool:
        """Whether the file would stand where the release has a folder, or in a folder where it has a file."""
        above = itertools.accumulate(key.split("/"), lambda path, part: f"{path}/{part}")
        return any(path in self.released for path in above) or any(
            path.startswith(f"{key}/") for path in self.released
        )


def _is_odd(part: str) -> bool:
    return (
        not part.isprintable()
        or bool(_NOT_ON_WINDOWS & set(part))
        or part != part.strip()
        or part.endswith(".")
        or bool(_RESERVED.fullmatch(part))
    )


def _key(name: str) -> str:
    """The same for names that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _shown(name: str) -> str:
    """A name as it can stand in one line of a message."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    return printable if len(printable) <= 80 else f"{printable[:77]}..."
