"""One list of versions: requirements.txt. Whatever else installs the course refers to it and names no version."""

import runpy
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tools import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = ("3.11", "3.12", "3.13")


def lines(path: str) -> list[str]:
    text = (ROOT / path).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pins() -> dict[str, Requirement]:
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, lines("requirements.txt"))}


def version(pin: Requirement) -> str:
    (only,) = pin.specifier
    return only.version


def test_every_pin_is_one_exact_version_named_once():
    for pin in pins().values():
        assert [only.operator for only in pin.specifier] == ["=="], pin
        assert pin.url is None, pin
    assert len(pins()) == len(lines("requirements.txt"))


def test_the_ranges_of_the_package_admit_the_pins():
    extras = [name for group in PROJECT["optional-dependencies"].values() for name in group]
    for wanted in map(Requirement, PROJECT["dependencies"] + extras):
        pin = pins().get(canonicalize_name(wanted.name))
        assert pin is not None, f"{wanted} has no pin: make lock"
        assert wanted.specifier.contains(version(pin)), f"{wanted} does not admit the pin {pin}: make lock"
        assert pin.marker is None or wanted.marker is not None, (
            f"{pin} is not for every platform that {wanted} is"
        )


def test_what_is_installed_is_what_is_pinned():
    """`==2.13.0` admits the build 2.13.0+cpu, for pip as for us."""
    here = {name: pin for name, pin in pins().items() if pin.marker is None or pin.marker.evaluate()}
    assert len(here) > 100
    installed = {name: metadata.version(name) for name in here}
    assert [
        f"{here[name]}, but {found}" for name, found in installed.items() if found not in here[name].specifier
    ] == []


def test_conda_takes_python_and_pip_alone_and_the_pins_for_the_rest():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["dependencies"] == ["python=3.11", "pip", {"pip": ["-r requirements.txt", "-e ."]}]


def test_binder_takes_the_pins():
    assert lines("binder/requirements.txt") == ["-r ../requirements.txt"]
    assert lines("binder/runtime.txt") == ["python-3.11"]
    (install,) = [line for line in lines("binder/postBuild") if "pip install" in line]
    assert "--no-deps" in install and install.endswith("-e .")
    files = sorted(path.name for path in (ROOT / "binder").iterdir())
    assert files == [
        "postBuild",
        "requirements.txt",
        "runtime.txt",
    ]  # any other would be read by repo2docker too


def test_make_takes_the_pins():
    installs = [
        line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "pip install" in line
    ]
    assert [line.split("--disable-pip-version-check ")[1] for line in installs] == [
        "-r requirements.txt",
        "--no-deps --no-build-isolation -e .",
    ]


def test_the_same_pythons_everywhere(monkeypatch):
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{minor}" for minor in range(8, 20) if allowed.contains(f"3.{minor}.4")] == list(PYTHONS)
    named = {
        line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if line.startswith("Programming Language")
    }
    assert named == set(PYTHONS)
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    assert set(workflow["jobs"]["test"]["strategy"]["matrix"]["python"]) <= set(PYTHONS)
    for minor in range(8, 20):
        monkeypatch.setattr("sys.version_info", (3, minor, 4))
        if f"3.{minor}" in PYTHONS:
            runpy.run_path(str(ROOT / "tools" / "python_version.py"))
        else:
            with pytest.raises(SystemExit, match=rf"is 3\.{minor}\."):
                runpy.run_path(str(ROOT / "tools" / "python_version.py"))


def test_the_address_of_the_repository_is_written_in_one_place():
    """Everything else is built from pyproject.toml: notebooks, and the parts of README.md between markers."""
    address = PROJECT["urls"]["Repository"].removeprefix("https://")
    written = []
    for pattern in ("*", ".github/**/*", ".ci/*", "binder/*", "tools/*", "coursepkg/**/*.py", "tests/*.py"):
        written += [path for path in ROOT.glob(pattern) if path.is_file() and path.suffix != ".ipynb"]
    written += [*ROOT.glob("notebooks/*.py"), *ROOT.glob("solutions/*/*.py")]
    holders = {path.name for path in written if address in path.read_text(encoding="utf-8", errors="ignore")}
    assert holders == {"pyproject.toml", "README.md"}
    outside = (ROOT / "README.md").read_text(encoding="utf-8")
    for part in outside.split("<!-- build: ")[1:]:
        outside = outside.replace(part.split("<!-- end: ")[0], "")
    assert address not in outside
