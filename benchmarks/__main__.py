"""`make bench`: how fast the package answers, quantizes and its model works, and, where there is a CUDA device, how its memory compares with the budgets.

The measurement of the device writes the results that lecture 01 plots; without a device they stay as they are.
"""

import subprocess
import sys
from pathlib import Path

from coursepkg import runtime

HERE = Path(__file__).resolve().parent
SPEED = (
    "-m",
    "pytest",
    "-p",
    "no:cacheprovider",
    "--benchmark-columns=min,median,max,rounds",
    "--benchmark-sort=name",
)


def main() -> int:
    status = subprocess.run([sys.executable, *SPEED, str(HERE / "test_speed.py")], cwd=HERE.parent).returncode
    for name in ("benchmarks.quantize", "benchmarks.course_lm", "benchmarks.step"):
        status |= subprocess.run([sys.executable, "-m", name], cwd=HERE.parent).returncode
    if runtime.device().type != "cuda":
        print("No CUDA device: its memory was not measured, and the results of lecture 01 stay as they are.")
        return status
    measured = subprocess.run([sys.executable, "-m", "benchmarks.device_memory"], cwd=HERE.parent).returncode
    return status or measured


if __name__ == "__main__":
    sys.exit(main())
