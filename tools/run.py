"""Run every lecture from a fresh kernel: `python -m tools.run [slug ...]`.

Prints a table (seconds, peak memory, size of the committed file, result) and writes each lecture, as it came out of
this run, to build/html/. Exits 1 if a lecture fails or is over a limit of the standard.
"""

import argparse
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
from nbconvert import HTMLExporter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from coursepkg.memory.units import MB, GiB, MiB
from tools import ROOT
from tools.build import MAX_BYTES, write
from tools.lecture import LectureFailed, clean, execute

MAX_SECONDS = 60
MAX_MEMORY = 4 * GiB


@dataclass(frozen=True)
class Run:
    """One lecture's run: wall-clock seconds, peak resident bytes of its kernel, size of its file in bytes."""

    slug: str
    seconds: float
    peak: int
    size: int
    failure: str = ""

    @property
    def over(self) -> list[str]:
        """The limits of the standard that it exceeds, in words."""
        limits = {
            f"over {MAX_SECONDS} s": self.seconds > MAX_SECONDS,
            f"over {MAX_MEMORY // GiB} GiB": self.peak > MAX_MEMORY,
            f"over {MAX_BYTES / MB} MB": self.size > MAX_BYTES,
        }
        return [words for words, exceeded in limits.items() if exceeded]

    @property
    def result(self) -> str:
        return "failed" if self.failure else ", ".join(self.over) or "ok"


class PeakMemory(threading.Thread):
    """Samples the resident memory of a process and its children, summed, 20 times a second; keeps the largest."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process(pid)
        self.peak = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.05):
            try:
                tree = [self.process, *self.process.children(recursive=True)]
                self.peak = max(self.peak, sum(process.memory_info().rss for process in tree))
            except psutil.Error:  # a child that ended between being listed and being read
                continue

    def end(self) -> None:
        self._ended.set()
        self.join()


def run(path: Path, html: Path, on_cell=lambda: None) -> Run:
    """Execute the lecture in `path` in a fresh kernel and write what came out to the folder `html`."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    samplers: list[PeakMemory] = []

    def sample(pid: int) -> None:
        samplers.append(PeakMemory(pid))
        samplers[-1].start()

    failure, started = "", time.perf_counter()
    try:
        execute(notebook, path.parent, on_start=sample, on_cell=on_cell)
    except LectureFailed as error:
        failure = str(error)
    seconds = time.perf_counter() - started
    for sampler in samplers:
        sampler.end()
    clean(notebook)
    page, _ = HTMLExporter().from_notebook_node(notebook, resources={"metadata": {"name": path.stem}})
    write(html / f"{path.stem}.html", page)
    return Run(path.stem, seconds, max((s.peak for s in samplers), default=0), path.stat().st_size, failure)


def table(runs: list[Run]) -> Table:
    """The runs as a table, with the limits of the standard in its head."""
    made = Table(title="Lectures, each from a fresh kernel")
    made.add_column("lecture")
    made.add_column(f"seconds (max {MAX_SECONDS})", justify="right")
    made.add_column(f"peak memory, MiB (max {MAX_MEMORY // MiB})", justify="right")
    made.add_column(f"file, kB (max {MAX_BYTES // 1000})", justify="right")
    made.add_column("result")
    for one in runs:
        figures = (f"{one.seconds:.1f}", f"{one.peak / MiB:,.0f}", f"{one.size / 1000:,.0f}")
        made.add_row(one.slug, *figures, one.result, style="" if one.result == "ok" else "red")
    return made


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.run", description=__doc__.splitlines()[0])
    parser.add_argument("slugs", nargs="*", metavar="slug", help="only these lectures, such as 01_memory")
    slugs = parser.parse_args(arguments).slugs
    paths = sorted((root / "notebooks").glob("*.ipynb"))
    unknown = set(slugs) - {path.stem for path in paths}
    if unknown:
        parser.error(f"no lecture {', '.join(sorted(unknown))}")
    paths = [path for path in paths if not slugs or path.stem in slugs]
    console = Console()
    if not paths:
        console.print("There is no lecture to run: notebooks/ holds no .ipynb. `make build` makes them.")
        return 0
    html, runs = root / "build" / "html", []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for path in paths:
            notebook = nbformat.read(path, as_version=4)
            cells = sum(cell.cell_type == "code" for cell in notebook.cells)
            task = progress.add_task(path.stem, total=cells)
            runs.append(run(path, html, on_cell=lambda task=task: progress.advance(task)))
    console.print(table(runs))
    for one in runs:
        if one.failure:
            console.print(f"{one.slug}: {one.failure}", markup=False, style="red")
    console.print(f"The pages are in {html.relative_to(root).as_posix()}/")
    return 1 if any(one.result != "ok" for one in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
