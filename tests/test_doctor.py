"""`coursepkg doctor` finds what is off, says what to do, and fails only where the course cannot run."""

import json
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from coursepkg import doctor, runtime
from coursepkg.cli import app
from coursepkg.doctor import State


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def pretend_installed(monkeypatch, **versions: str | None) -> None:
    """Other installed versions of some packages; None is not installed."""
    real = doctor.metadata_version
    monkeypatch.setattr(
        doctor, "metadata_version", lambda name: versions[name] if name in versions else real(name)
    )


def test_it_exits_0_here_and_says_what_the_machine_is():
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    for what in (
        "Python",
        "torch",
        "device",
        "dtype",
        "memory",
        "disk",
        "model hub",
        "kernel python3",
        "nbgrader",
    ):
        assert what in result.output


def test_json_is_the_same_in_a_form_for_programs():
    result = CliRunner().invoke(app, ["doctor", "--json"])
    findings = {finding["what"]: finding for finding in json.loads(result.output)}
    assert findings["torch"]["state"] == "ok"
    assert findings["model hub"]["found"].endswith("HF_HUB_OFFLINE is set, so nothing asked")
    assert all(finding["advice"] for finding in findings.values() if finding["state"] != "ok")


def test_help_does_not_wait_for_torch():
    code = "import sys, coursepkg.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("found", [None, "0.1"])
def test_without_a_package_it_needs_the_course_is_broken(monkeypatch, found):
    pretend_installed(monkeypatch, peft=found)
    (finding,) = [finding for finding in doctor.packages() if finding.what == "peft"]
    assert finding.state is State.BROKEN and finding.advice == "pip install 'peft>=0.17'"
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 1


def test_without_an_extra_the_course_runs(monkeypatch):
    pretend_installed(monkeypatch, nbval=None, jupytext=None, sqlalchemy="2.1.0")
    findings = {finding.what: finding for finding in doctor.packages()}
    tools = findings["for building and testing the course"]
    assert (tools.state, tools.found) == (State.OFF, "not installed: jupytext, nbval")
    assert tools.advice == "pip install 'coursepkg[dev]'"
    assert findings["sqlalchemy"].state is State.OFF and findings["sqlalchemy"].found == "2.1.0"


def test_another_version_than_the_tested_one_is_named(monkeypatch, tmp_path):
    pretend_installed(monkeypatch, peft="0.99", rich=None)
    pins = tmp_path / "requirements.txt"
    pins.write_text(
        "# a comment\npeft==0.21.2\nrich==15.0.0\ntorch==2.13.0\nno-such==1 ; python_version < '3'\n"
    )
    finding = doctor.pinned(pins)
    assert finding.state is State.OFF
    assert finding.found == "peft 0.99 (tested: 0.21.2), rich missing (tested: 15.0.0)"


def test_another_python_is_broken(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    assert doctor.python().state is State.BROKEN


def test_little_disk_and_little_memory_are_off(monkeypatch, tmp_path):
    class Usage:
        free = 10**9

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: Usage)
    assert doctor.disk(tmp_path).state is State.OFF
    monkeypatch.setattr(runtime, "host_memory", lambda: runtime.Memory(8 * 2**30, 2**30))
    (memory,) = [finding for finding in doctor.machine() if finding.what == "memory"]
    assert (memory.state, memory.found) == (State.OFF, "8.0 GiB, 1.0 GiB free")


def test_a_kernel_of_another_python_is_noticed(monkeypatch, tmp_path):
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    kernel = {
        "argv": ["/another/python", "-f", "{connection_file}"],
        "display_name": "other",
        "language": "python",
    }
    (folder / "kernel.json").write_text(json.dumps(kernel))
    assert doctor.kernel().state is State.OK
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert doctor.kernel().state is State.OFF


def test_commands_that_are_not_on_the_path_are_noticed(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    (finding,) = [finding for finding in doctor.notebooks() if finding.what == "nbgrader's commands"]
    assert finding.state is State.OFF and "activate" in finding.advice


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_course_lm_breaks_the_course(monkeypatch, tmp_path, damage):
    from coursepkg.courselm import checkpoint

    copy = tmp_path / "checkpoint"
    if damage == "changed":
        shutil.copytree(checkpoint.shipped(), copy)
        (copy / checkpoint.CARD).write_text("another card")
    monkeypatch.setattr(checkpoint, "shipped", lambda: copy)
    found = doctor.course_lm()
    assert found.state is State.BROKEN and "git checkout -- coursepkg/courselm/checkpoint" in found.advice
