"""Our GPTQ, SmoothQuant and AWQ beside gptqmodel's and llmcompressor's: `make bench-peers`, or

    python -m benchmarks.peers [--parts gptqmodel llmcompressor models] [--output coursepkg/results/peers.json]

It makes the libraries' environments under build/peers/ (2 GB), runs each part in its own, prints a line for each comparison and writes the results
file; parts that are not named keep their rows. Half an hour on two idle cores. A thread that waits for the other one sleeps: where other programs
run, two that wait in a loop would take each other's time.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks import peers

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "coursepkg" / "results" / "peers.json"
#: Each part, a module of this package, with the environment that it runs in.
PARTS = {"gptqmodel": "gptqmodel", "llmcompressor": "llmcompressor", "models": "llmcompressor"}


def main() -> None:
    """Run the parts, and put their rows in the place of those that they had."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    for part in given.parts:
        write(given.output, part, run(part))


def write(output: Path, part: str, found: dict) -> None:
    """Put what a part found in the place of what the file had of it."""
    before = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    kept = {name: [row for row in before.get("rows", []) if row["part"] == name] for name in PARTS}
    kept[part] = [{"part": part, **row} for row in found["rows"]]
    made = {
        "measured": True,
        "command": "make bench-peers",
        "machine": {
            "device": "a CPU",
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "vectors": torch.backends.cpu.get_cpu_capability(),
        },
        "versions": dict(sorted((before.get("versions", {}) | found["versions"]).items())),
        "rows": [row for rows in kept.values() for row in rows],
    }
    output.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def run(part: str) -> dict:
    """What a part found: its rows, and the versions of what it compared."""
    output = peers.BUILD / f"{part}.json"
    command = [environment(PARTS[part]), "-m", f"benchmarks.peers.{part}", "--output", output]
    print(f"\n{part}", flush=True)
    settings = {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run(command, cwd=ROOT, env=os.environ | settings, check=True)
    return json.loads(output.read_text(encoding="utf-8"))


def environment(name: str) -> Path:
    """The Python of a library's virtual environment, made where it is not there or its requirements have changed.

    The requirements are complete, and installed without dependencies: gptqmodel asks for a newer torch than it needs.
    """
    folder = peers.BUILD / name
    wanted = (Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "installed.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    torch_pin = next(line for line in wanted.splitlines() if line.startswith("torch=="))
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    for options in (
        ["--upgrade", "pip", "setuptools"],
        [torch_pin],
        ["--no-deps", "--no-build-isolation", "-r", Path(__file__).parent / f"{name}.txt"],
    ):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *options], check=True)
    stamp.write_text(wanted, encoding="utf-8")
    return python


if __name__ == "__main__":
    main()
