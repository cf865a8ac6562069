"""A worker: takes one notebook after the other, and gives back the outputs of its cells and a verdict.

It is trusted: it holds the tests, and what students hand in is text to it.
"""

import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coursepkg.grading.engine.examiner import CodeCell, examine
from coursepkg.grading.engine.launch import Forking, Launcher, Spawning, remove
from coursepkg.grading.sandbox.channel import Channel, Closed
from coursepkg.grading.sandbox.limits import Limits
from coursepkg.grading.sandbox.link import Link
from coursepkg.grading.verdicts import Verdict


class Worker:
    """One assignment's worker. `told`: see engine.crew."""

    def __init__(self, told: dict[str, Any], link: Link | None) -> None:
        self.answers = frozenset(told["answers"])
        self.limits = Limits(**told["limits"])
        self.released, self.scratch = Path(told["released"]), Path(told["scratch"])
        hidden = tuple(Path(path) for path in told["hidden"])
        self.launcher: Launcher
        if link is None:
            self.launcher = Spawning(told["level"], told["imports"], hidden, self.limits)
        else:
            self.launcher = Forking(link, told["level"], self.scratch / "root", hidden, self.limits)

    def do(self, job: dict[str, Any], buffers: list[bytes]) -> dict[str, Any]:
        """Run the cells of a job beside its files; the verdict and the cells."""
        cells = [CodeCell(**cell) for cell in job["cells"]]
        place = Path(tempfile.mkdtemp(prefix="notebook-", dir=self.scratch))
        try:
            for name, content in zip(job["files"], buffers, strict=True):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(content)
            shutil.copytree(self.released, place, dirs_exist_ok=True)
            verdict = examine(cells, self.launcher, place, self.limits, self.answers, job["together"])
        except OSError as error:
            verdict = Verdict("failed", f"{type(error).__name__}: {error}", ours=True)
        finally:
            remove(place)
        return {"verdict": asdict(verdict), "cells": [asdict(cell) for cell in cells]}


def main(channel: Channel, link: Link | None, _: str = "") -> None:
    """Work until the owner is gone."""
    told = channel.receive()[0]
    os.chdir(told["released"])
    worker = Worker(told, link)
    while True:
        try:
            channel.send(worker.do(*channel.receive()))
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
