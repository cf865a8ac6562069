"""Write requirements.txt: every package of the course at one version, for every platform and Python it supports.

Run with `make lock` after changing a dependency in pyproject.toml; versions already in the file are kept
unless they no longer fit (`make lock UPGRADE=1` takes the newest). What torch brings along for CUDA on Linux
is left to torch: a machine whose pip gets a CPU build of torch must not be made to download it.
"""

import subprocess
import sys

from tools import ROOT

HEADER = """\
# The versions the course is built and tested with: the one list that `make`, environment.yml and binder/ install.
# Made from pyproject.toml by `make lock`; edit that file, not this one.
"""
LEFT_TO_TORCH = ("nvidia-", "cuda-", "triton")


def compile_lock(*options: str) -> str:
    """The resolved requirements as text, one `name==version ; marker` a line."""
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--all-extras", "--universal"),
        *("--python-version", "3.11", "--fork-strategy", "fewest", "--no-header", "--no-annotate", "--quiet"),
        *("--output-file", "requirements.txt", *options),
    ]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return (ROOT / "requirements.txt").read_text(encoding="utf-8")


def main() -> None:
    lines = compile_lock(*sys.argv[1:]).splitlines()
    kept = [line for line in lines if not line.startswith((*LEFT_TO_TORCH, "#"))]
    (ROOT / "requirements.txt").write_text(HEADER + "\n".join(kept) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
