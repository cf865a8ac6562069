"""Which version of a submission, its tests and the settings a grade belongs to."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from nbgrader.api import Assignment

from coursepkg.grading.intake import reading
from coursepkg.grading.sandbox.limits import Limits

#: Counted up when the same submission and the same tests would now get another grade or another feedback page.
GRADER = "3"
#: Bytes of a file that are read: more are not graded with anyway.
MOST = 60_000_000


def of_tests(assignment: Assignment, limits: Limits) -> str:
    """Names the tests, the other cells of the release, and the limits."""
    digest = hashlib.sha256((GRADER + json.dumps(asdict(limits), sort_keys=True)).encode())
    for notebook in sorted(assignment.notebooks, key=lambda one: one.name):
        cells = sorted((cell.name, cell.checksum or "", cell.source) for cell in notebook.source_cells)
        digest.update(repr((notebook.name, cells)).encode())
    return digest.hexdigest()


def of_submission(tests: str, folder: Path) -> str:
    """Names a submission as it lies in its folder, and the tests that grade it. Raises OSError.

    No link is followed, and nothing is read but regular files.
    """
    digest = hashlib.sha256(tests.encode())
    for name, path, status in _entries(folder, ""):
        kind = stat.S_IFMT(status.st_mode)
        digest.update(f"{name}\0{kind}\0".encode("utf-8", "surrogatepass"))
        if stat.S_ISREG(status.st_mode):
            digest.update(_content(path).encode())
        elif stat.S_ISLNK(status.st_mode):
            digest.update(os.readlink(path).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _entries(folder: Path, under: str) -> Iterator[tuple[str, str, os.stat_result]]:
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        yield under, str(folder), status
        return
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        status = entry.stat(follow_symlinks=False)
        name = f"{under}/{entry.name}"
        yield name, entry.path, status
        if stat.S_ISDIR(status.st_mode):
            yield from _entries(Path(entry.path), name)


def _content(path: str) -> str:
    try:
        return hashlib.sha256(reading.content(Path(path), MOST)).hexdigest()
    except reading.Refused as refused:
        return str(refused)
