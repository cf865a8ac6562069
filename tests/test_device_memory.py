"""The script that measures a device, at small size on the CPU: it runs, and its predictions hold there too."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from coursepkg import results

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks.device_memory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")


def test_predictions_hold_within_5_percent_on_every_row(tmp_path):
    output = tmp_path / "rows.json"
    done = run("--model", "tiny", "--device", "cpu", "--lengths", "64", "256", "512", "--output", str(output))
    assert done.returncode == 0, done.stderr
    written = json.loads(output.read_text(encoding="utf-8"))
    assert [(r["method"], r["length"]) for r in written["rows"]] == [
        (method, length)
        for method in ("inference", "lora", "qlora", "qlora, ours")
        for length in (64, 256, 512)
    ]
    for row in written["rows"]:
        assert row["predicted"] == pytest.approx(row["measured_peak"], rel=0.05), row


def test_the_lectures_results_are_never_overwritten_from_a_cpu():
    done = run("--model", "tiny", "--device", "cpu")
    assert done.returncode == 1 and "give --output" in done.stderr


def test_results_file_is_empty_or_says_what_made_it():
    found = results.load("device_memory")
    if found.measured:
        assert {"device", "memory", "context"} <= set(found.machine) and found.versions and found.rows
        for row in found.rows:
            assert row["predicted"] == pytest.approx(row["measured_peak"], rel=0.05), row
    else:
        assert found.rows == () and "not yet measured" in str(found)
    with pytest.raises(ValueError, match="no results called"):
        results.load("nothing")
