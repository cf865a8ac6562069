"""Build every notebook from its text master, and the parts of README.md that are made: `python -m tools.build`.

A lecture is executed, so that it carries its outputs; an assignment gives the instructor's version (not executed)
and, through nbgrader, the student's. Running it twice gives the same bytes. `--check` builds nothing: it says which
committed file is not what its master describes, and exits 1.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from coursepkg.grading.release import ReleaseError, student_version
from tools import ROOT, compared, readme
from tools.address import Address
from tools.lecture import LectureFailed, clean, execute
from tools.masters import Master, MasterError, assignments, lectures, read

MAX_BYTES = 1_500_000


def text(notebook: NotebookNode) -> str:
    """The one way a notebook is written to a file."""
    return nbformat.writes(notebook, version=4) + "\n"


def write(path: Path, content: str) -> bool:
    """Put `content` into `path` in one step, or leave the file alone if it holds that already. True if written."""
    if path.exists() and path.read_bytes() == content.encode("utf-8"):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return True


def sources(notebook: NotebookNode) -> list[tuple]:
    """What of a notebook comes from its master: each cell without its outputs."""
    return [(cell.id, cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]


def with_outputs_of(before: Path, notebook: NotebookNode) -> None:
    """Copy the outputs of the notebook in `before` into `notebook`, if all their code cells are the same."""
    if not before.exists():
        return
    old = [cell for cell in nbformat.read(before, as_version=4).cells if cell.cell_type == "code"]
    new = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.source for cell in old] == [cell.source for cell in new]:
        for source, target in zip(old, new, strict=True):
            target.outputs, target.execution_count = source.outputs, source.execution_count


def build_lecture(master: Master, address: Address, run: bool) -> str:
    """The text of the lecture with its outputs; with `run` false, with those it has, if its code did not change."""
    notebook = read(master, address)
    if run:
        execute(notebook, master.notebook.parent)
        clean(notebook)
    else:
        with_outputs_of(master.notebook, notebook)
    content = text(notebook)
    faults = _unfit(master, notebook, content)
    if faults:
        raise MasterError("\n".join(faults))
    return content


def _unfit(master: Master, notebook: NotebookNode, content: str) -> list[str]:
    """What must not stand in a committed lecture: this machine's paths, and more bytes than the standard allows."""
    faults = []
    size = len(content.encode("utf-8"))
    if size > MAX_BYTES:
        faults.append(f"{master.slug}: {size:,} bytes with outputs, the limit is {MAX_BYTES:,}")
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if str(master.root) in str(output.get("text", "")) + str(
                output.get("data", {}).get("text/plain", "")
            ):
                faults.append(f"{master.slug}: the output of cell {cell.id} contains a path of this machine")
    return faults


def build_assignment(master: Master, address: Address) -> dict[Path, str]:
    """The texts of the instructor's and of the student's version, by path."""
    instructor = read(master, address)
    student = student_version(instructor, master.slug, master.root)
    return {master.notebook: text(instructor), master.student: text(student)}


def drift(master: Master, address: Address) -> list[str]:
    """One line for each thing in which the committed notebooks of `master` are not what it describes."""
    if master.graded:
        built = build_assignment(master, address)
        return [line for path, content in built.items() for line in _differences(path, content, master.root)]
    expected = read(master, address)
    lines = _differences(master.notebook, text(expected), master.root, outputs=False)
    if master.notebook.exists():
        committed = nbformat.read(master.notebook, as_version=4)
        name = master.notebook.relative_to(master.root).as_posix()
        for cell in committed.cells:
            if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
                lines.append(f"{name}: cell {cell.id} was never run")
        cleaned = nbformat.from_dict(committed)
        clean(cleaned)
        if text(cleaned) != master.notebook.read_text(encoding="utf-8"):
            lines.append(f"{name}: was saved by something other than the builder")
    return lines


def _differences(path: Path, content: str, root: Path, outputs: bool = True) -> list[str]:
    """Say where the notebook in `path` is not `content`, cell by cell; without `outputs`, compare only sources."""
    name = path.relative_to(root).as_posix()
    if not path.exists():
        return [f"{name}: is missing"]
    found = path.read_text(encoding="utf-8")
    committed, expected = nbformat.reads(found, as_version=4), nbformat.reads(content, as_version=4)
    was, now = sources(committed), sources(expected)
    lines = [
        f"{name}: cell {a[0]} is not what its master says" for a, b in zip(was, now, strict=False) if a != b
    ]
    if len(was) != len(now):
        lines.append(f"{name}: has {len(was)} cells, its master {len(now)}")
    if committed.metadata != expected.metadata:
        lines.append(f"{name}: its metadata is not what the builder writes")
    if not lines and outputs and found != content:
        lines.append(f"{name}: differs from what its master builds (outputs or layout)")
    return lines


def orphans(root: Path) -> list[str]:
    """One line for each committed notebook that no master describes."""
    built = {master.notebook for master in lectures(root)}
    for master in assignments(root):
        built |= {master.notebook, master.student}
    found = [*(root / "notebooks").glob("**/*.ipynb"), *(root / "solutions").glob("*/*.ipynb")]
    found = [path for path in found if ".ipynb_checkpoints" not in path.parts]
    return [
        f"{path.relative_to(root).as_posix()}: has no master" for path in sorted(found) if path not in built
    ]


def check(root: Path, address: Address) -> list[str]:
    """Every difference between what is committed and what the masters describe."""
    lines = orphans(root)
    for master in lectures(root) + assignments(root):
        try:
            lines += drift(master, address)
        except (MasterError, ReleaseError) as error:
            lines.append(str(error))
    if (root / "README.md").read_text(encoding="utf-8") != readme.build(root, address):
        lines.append("README.md: its built parts are out of date")
    floor = root / compared.FLOORS
    if not floor.exists() or floor.read_text(encoding="utf-8") != compared.raised(root):
        lines.append(f"{compared.FLOORS.as_posix()}: is not what the builder writes")
    return lines + compared.fallen(root)


def build(root: Path, address: Address, slugs: list[str], run: bool) -> list[str]:
    """Build the masters named in `slugs` (all when empty). Returns one line for each that failed."""
    failures = []
    for master in lectures(root) + assignments(root):
        if slugs and master.slug not in slugs:
            continue
        started = time.perf_counter()
        try:
            built = (
                build_assignment(master, address)
                if master.graded
                else {master.notebook: build_lecture(master, address, run)}
            )
        except (LectureFailed, MasterError, ReleaseError) as error:
            failures.append(f"{master.path.relative_to(root).as_posix()}: {error}")
            continue
        for path, content in built.items():
            done = "written" if write(path, content) else "same"
            print(
                f"{done:8}{path.relative_to(root).as_posix()}  {time.perf_counter() - started:.1f} s",
                flush=True,
            )
    for path, content in (
        (root / "README.md", readme.build(root, address)),
        (root / compared.FLOORS, compared.raised(root)),
    ):
        print(f"{'written' if write(path, content) else 'same':8}{path.relative_to(root).as_posix()}")
    return failures


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.build", description=__doc__.splitlines()[0])
    parser.add_argument("slugs", nargs="*", metavar="slug", help="only these masters, such as 01_memory")
    parser.add_argument("--check", action="store_true", help="build nothing; say what drifted, and exit 1")
    parser.add_argument("--no-execute", action="store_true", help="do not run lectures; keep their outputs")
    options = parser.parse_args(arguments)
    address = Address.of(root)
    masters = lectures(root) + assignments(root)
    known = {master.slug for master in masters}
    unknown = [slug for slug in options.slugs if slug not in known]
    if unknown:
        parser.error(f"no master {', '.join(unknown)}; there are {', '.join(sorted(known)) or 'none'}")
    if options.check:
        lines = check(root, address)
        print(
            "\n".join(lines) if lines else f"{len(masters)} masters, and every notebook is what they describe"
        )
        if lines:
            print("To mend this: edit the master, never the notebook, and run `make build`.")
        return 1 if lines else 0
    failures = build(root, address, options.slugs, not options.no_execute)
    print("\n".join(f"FAILED  {line}" for line in failures), end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
