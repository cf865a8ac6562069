"""Every check of the course: `python -m tools.test`. `make test` is this, after setting up.

Lint; notebooks against their masters; the proof that each assignment grades rightly; the tests, those of grading side by side with the
others, a half of the machine's cores to each; every lecture again, its outputs compared by nbval. All of them run even if one fails. The
last lines count what passed, failed and was skipped, and say why.
"""

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from tools import ROOT, compared
from tools.lecture import CELL_SECONDS, ENVIRONMENT

PYTEST = ("-m", "pytest", "-p", "no:cacheprovider")
#: Tests of grading and of browsers: they wait for processes that they start, and leave most of a core to the others.
GRADING = ("test_grading_*.py", "test_browser.py")
NBVAL = ("--nbval", "--nbval-current-env", f"--nbval-cell-timeout={CELL_SECONDS}")


@dataclass(frozen=True)
class Outcome:
    """What one check came to: its exit status, seconds, and the counts of its tests, if it counts any."""

    name: str
    status: int
    seconds: float
    counts: dict[str, int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        verdict = "passed" if self.status == 0 else "FAILED"
        counts = ", ".join(f"{number} {what}" for what, number in self.counts.items())
        return f"{verdict}  {self.name:<20}{self.seconds:6.1f} s  {counts}".rstrip()


def counted(report: Path) -> tuple[dict[str, int], list[str]]:
    """The counts of passed, failed and skipped tests in a JUnit report, and one line for each skip."""
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    skips = [(case, case.find("skipped")) for case in cases if case.find("skipped") is not None]
    lines = [f"{case.get('classname')}::{case.get('name')}: {skip.get('message')}" for case, skip in skips]
    return {"passed": len(cases) - failed - len(skips), "failed": failed, "skipped": len(skips)}, lines


def check(
    name: str,
    *command: str,
    report: Path | None = None,
    output: Path | None = None,
    threads: int | None = None,
) -> Outcome:
    """Run Python with `command` in the repository root. Its output goes straight to ours, or to a file."""
    if report:
        report.unlink(missing_ok=True)
        command = (*command, f"--junitxml={report}")
    environment = os.environ | ENVIRONMENT | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    if output is None:
        print(f"\n== {name} ==", flush=True)
    started = time.perf_counter()
    with output.open("wb") if output else nullcontext() as written:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT if output else None,
        )
    seconds = time.perf_counter() - started
    return Outcome(name, done.returncode, seconds, *(counted(report) if report else ()))


def tests(reports: Path) -> list[Outcome]:
    """All tests, in two processes; the output of the second is shown after that of the first."""
    half = max(1, (os.cpu_count() or 1) // 2)
    grading = sorted(path for pattern in GRADING for path in (ROOT / "tests").glob(pattern))
    named, others = [str(path) for path in grading], [f"--ignore={path}" for path in grading]
    name, report, output = "grading, browsers", reports / "grading.xml", reports / "grading.txt"
    with ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(check, name, *PYTEST, *named, report=report, output=output, threads=half)
        outcomes = [check("tests", *PYTEST, *others, report=reports / "tests.xml", threads=half)]
        outcomes.append(waiting.result())
    print(f"\n== {name} ==", flush=True)
    sys.stdout.buffer.write(output.read_bytes())  # whatever its encoding
    sys.stdout.flush()
    return outcomes


def main() -> int:
    reports = ROOT / "build" / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    outcomes = [
        check("lint", "-m", "ruff", "check", "."),
        check("format", "-m", "ruff", "format", "--check", "."),
        check("masters", "-m", "tools.build", "--check"),
        check("grading proofs", "-m", "coursepkg", "prove"),
        *tests(reports),
    ]
    cells = compared.counts(ROOT)
    if cells:
        # In a fresh environment matplotlib says, in the first cell that draws, that it builds its list of fonts.
        subprocess.run(
            [sys.executable, "-c", "import matplotlib.font_manager"], check=True, capture_output=True
        )
        notebooks = [f"notebooks/{slug}.ipynb" for slug in cells]
        outcomes.append(check("lectures (nbval)", *PYTEST, *NBVAL, *notebooks, report=reports / "nbval.xml"))

    print("\n== summary ==")
    floors = compared.floors(ROOT)
    for slug, number in cells.items():
        print(f"nbval compared the text outputs of {number} cells of {slug} (floor {floors.get(slug, 0)})")
    if not cells:
        print("no lecture has been built: nbval had nothing to compare")
    for outcome in outcomes:
        for line in outcome.skipped:
            print(f"skipped  {line}")
    print("\n".join(outcome.line for outcome in outcomes))
    failed = [outcome.name for outcome in outcomes if outcome.status]
    print(f"FAILED: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
