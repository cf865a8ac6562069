"""A worker: takes one submission after the other, and gives each back as a notebook with outputs and a verdict.

It is trusted: it holds the tests, and it reads what students hand in, but runs nothing of it.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from coursepkg.grading import notes
from coursepkg.grading.engine.examiner import examine
from coursepkg.grading.engine.launch import Forking, Launcher, Spawning, remove
from coursepkg.grading.intake import files as intake
from coursepkg.grading.intake.skeleton import rebuild
from coursepkg.grading.sandbox.channel import Channel, Closed
from coursepkg.grading.sandbox.limits import Limits
from coursepkg.grading.sandbox.warm import Link
from coursepkg.grading.verdicts import Verdict


class Worker:
    """One assignment's worker. `spec`: see engine.crew."""

    def __init__(self, spec: dict[str, Any], link: Link | None) -> None:
        self.assignment = spec["assignment"]
        self.release = nbformat.from_dict(spec["release"])
        self.answers = frozenset(spec["answers"])
        self.limits = Limits(**spec["limits"])
        self.released = Path(spec["released"])
        self.scratch = Path(spec["scratch"])
        hidden = tuple(Path(path) for path in spec["hidden"])
        self.launcher: Launcher
        if link is None:
            self.launcher = Spawning(spec["level"], spec["imports"], hidden, self.limits)
        else:
            self.launcher = Forking(link, spec["level"], self.scratch / "root", hidden, self.limits)

    def do(self, job: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Take a submission's folder, or run a notebook as it is; the result, and the notebook's text."""
        started = time.perf_counter()
        result: dict[str, Any] = {"changes": [], "unanswered": [], "files": []}
        nb = None
        try:
            nb, folder = self._taken(job, result)
            verdict = self._run(nb, folder, result["files"])
        except intake.Refused as refused:
            verdict = Verdict("refused", str(refused))
        except OSError as error:
            verdict = Verdict("failed", f"{type(error).__name__}: {error}", ours=True)
        result |= {"state": verdict.state, "reason": verdict.reason, "ours": verdict.ours}
        result |= {"sandbox": self.launcher.level, "seconds": time.perf_counter() - started}
        return result, [] if nb is None else [nbformat.writes(nb).encode("utf-8", "surrogatepass")]

    def _taken(self, job: dict[str, Any], result: dict[str, Any]) -> tuple[NotebookNode, Path | None]:
        """The notebook to run, on the release's skeleton, and the folder of the files that came with it."""
        if "notebook" in job:
            return nbformat.from_dict(job["notebook"]), None
        folder = Path(job["folder"])
        taken = intake.take(folder, self.assignment, self._released_names())
        rebuilt = rebuild(taken.notebook, self.release)
        result["changes"] = [*taken.notes, *rebuilt.notes, *rebuilt.flagged]
        result["unanswered"], result["files"] = rebuilt.missing, taken.files
        notes.clear(rebuilt.nb)
        notes.note(rebuilt.nb, changes=result["changes"])
        return rebuilt.nb, folder

    def _run(self, nb: NotebookNode, folder: Path | None, files: list[str]) -> Verdict:
        place = Path(tempfile.mkdtemp(prefix="notebook-", dir=self.scratch))
        try:
            for name in files:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, place / name, follow_symlinks=False)
            shutil.copytree(self.released, place, dirs_exist_ok=True)
            return examine(nb, self.launcher, place, self.limits, self.answers)
        finally:
            remove(place)

    def _released_names(self) -> list[str]:
        found = (path for path in self.released.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.released).as_posix() for path in found)


def main(channel: Channel, link: Link | None, _: str = "") -> None:
    """Work until the owner is gone."""
    spec = channel.receive()[0]
    os.chdir(spec["released"])
    worker = Worker(spec, link)
    while True:
        try:
            job, _ = channel.receive()
            result, buffers = worker.do(job)
            channel.send(result, buffers)
        except (Closed, EOFError):
            return


def _spawned() -> None:
    """`python -m coursepkg.grading.engine.worker`, where there is no warm process: on standard input and output."""
    reading, writing = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)
    main(Channel(reading, writing), None)


if __name__ == "__main__":
    _spawned()
