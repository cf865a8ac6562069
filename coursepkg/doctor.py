"""`coursepkg doctor`: is everything here that the course needs, and if not, what to do about it."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from coursepkg.memory.units import GB, GiB, in_gb

INSTALL = "pip install -r requirements.txt && pip install --no-deps -e ."
EXTRAS = {
    "lab": "JupyterLab",
    "hub": "reading data sets from a hub",
    "grading": "releasing and grading assignments",
    "dev": "building and testing the course",
}
FREE_DISK = 5 * GB
FREE_MEMORY = 4 * GiB


class State(StrEnum):
    """Fine; not as it should be, but the course runs; or the course cannot run."""

    OK = "ok"
    OFF = "off"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and what to do where it is off."""

    what: str
    found: str
    state: State = State.OK
    advice: str = ""


def examine(pins: Path | None = None) -> Iterator[Finding]:
    """Look at everything, the cheap things first. `pins` is a requirements.txt to compare with, if there is one."""
    yield python()
    yield from packages()
    if pins and pins.exists():
        yield pinned(pins)
    if metadata_version("torch") is not None:
        yield from machine()
        yield course_lm()
    yield disk(Path.cwd())
    yield from notebooks()


def metadata_version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def python() -> Finding:
    """This Python against the versions the package allows."""
    allowed = SpecifierSet(metadata.metadata("coursepkg")["Requires-Python"])
    found = ".".join(map(str, sys.version_info[:3]))
    if allowed.contains(found):
        return Finding("Python", f"{found} ({sys.executable})")
    return Finding(
        "Python", found, State.BROKEN, f"the course needs Python {allowed}; make lab PYTHON=python3.11"
    )


def packages() -> Iterator[Finding]:
    """Each package that coursepkg names, against the range it names. Without extras the course cannot be broken."""
    missing: dict[str, list[str]] = {extra: [] for extra in EXTRAS}
    for line in metadata.requires("coursepkg") or []:
        requirement = Requirement(line)
        extra = next(
            (e for e in EXTRAS if requirement.marker and requirement.marker.evaluate({"extra": e})), None
        )
        if requirement.marker and extra is None:
            continue
        found = metadata_version(requirement.name)
        if found is not None and requirement.specifier.contains(found, prereleases=True):
            if extra is None:
                yield Finding(requirement.name, found)
        elif extra is None or found is not None:
            state = State.BROKEN if extra is None else State.OFF
            advice = f"pip install '{requirement.name}{requirement.specifier}'"
            yield Finding(requirement.name, found or "not installed", state, advice)
        else:
            missing[extra].append(requirement.name)
    for extra, names in missing.items():
        if names:
            what = f"for {EXTRAS[extra]}"
            yield Finding(
                what, f"not installed: {', '.join(names)}", State.OFF, f"pip install 'coursepkg[{extra}]'"
            )


def pinned(pins: Path) -> Finding:
    """The installed versions against the ones the course is tested with."""
    differing = []
    for line in pins.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate():
            continue
        found = metadata_version(canonicalize_name(requirement.name))
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            tested = str(requirement.specifier).removeprefix("==")
            differing.append(f"{requirement.name} {found or 'missing'} (tested: {tested})")
    if not differing:
        return Finding("versions", f"as tested, all of {pins.name}")
    return Finding("versions", ", ".join(differing), State.OFF, INSTALL)


def machine() -> Iterator[Finding]:
    """Device, dtype, memory and the model hub, from coursepkg.runtime."""
    from coursepkg import runtime  # imports torch

    found = runtime.machine()
    yield Finding("system", f"{found.system}, {found.place}")
    yield Finding("device", f"{found.device} ({found.device_name})")
    yield Finding("dtype", f"{found.dtype.name}: {found.dtype.reason}")
    if found.device_memory:
        yield Finding("device memory", str(found.device_memory))
    low = found.host_memory.free < FREE_MEMORY
    advice = "stop other kernels or programs: a lecture may need up to 4 GiB" if low else ""
    yield Finding("memory", str(found.host_memory), State.OFF if low else State.OK, advice)
    hub = runtime.hub()
    advice = (
        ""
        if hub.reachable
        else "nothing, for the lectures: they run offline; models of the hub will not load"
    )
    state = State.OK if hub.reachable else State.OFF
    yield Finding("model hub", f"{hub.address}: {hub.reason}", state, advice)


def course_lm() -> Finding:
    """The model that ships with the course, against its digests."""
    from coursepkg.courselm import checkpoint  # imports torch

    try:
        checkpoint.verify(checkpoint.shipped())
    except checkpoint.Damaged as error:
        return Finding("course LM", "damaged", State.BROKEN, str(error))
    return Finding("course LM", "whole")


def disk(folder: Path) -> Finding:
    """Free space where the course lies."""
    free = shutil.disk_usage(folder).free
    found = f"{in_gb(free, 1)} free in {folder}"
    if free >= FREE_DISK:
        return Finding("disk", found)
    return Finding("disk", found, State.OFF, f"free some: an environment takes about {in_gb(FREE_DISK, 0)}")


def notebooks() -> Iterator[Finding]:
    """What JupyterLab and nbgrader need around them: the kernel, the extensions, the commands on the path."""
    if metadata_version("jupyterlab") is None:
        return
    yield kernel()
    if metadata_version("nbgrader") is None:
        return
    from jupyter_core.paths import jupyter_config_path, jupyter_path

    page = any(Path(folder, "@jupyter", "nbgrader").exists() for folder in jupyter_path("labextensions"))
    server = any(
        Path(folder, "jupyter_server_config.d", "nbgrader.json").exists() for folder in jupyter_config_path()
    )
    absent = [name for name, there in (("its pages", page), ("its server part", server)) if not there]
    if absent:
        advice = "pip install --force-reinstall --no-deps nbgrader"
        yield Finding("nbgrader in JupyterLab", f"{' and '.join(absent)} missing", State.OFF, advice)
    else:
        yield Finding("nbgrader in JupyterLab", "enabled")
    if shutil.which("nbgrader"):
        yield Finding("nbgrader's commands", "on the path")
    else:
        scripts = Path(sys.executable).parent
        activate = f"{scripts}\\activate" if sys.platform == "win32" else f"source {scripts}/activate"
        advice = f"to type `nbgrader` and `coursepkg` without a path, activate the environment: {activate}"
        yield Finding("nbgrader's commands", "not on the path", State.OFF, advice)


def kernel() -> Finding:
    """The kernel that notebooks ask for, against the Python that runs this."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    advice = f"{sys.executable} -m ipykernel install --sys-prefix"
    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Finding("kernel python3", "not installed", State.BROKEN, advice)
    if command in ("python", "python3") or Path(command) == Path(sys.executable):
        return Finding("kernel python3", "this environment's")
    return Finding("kernel python3", f"starts {command}, another Python", State.OFF, advice)
