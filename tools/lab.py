"""Open JupyterLab at the first lecture: `python -m tools.lab [any option of jupyter lab]`.

The server listens on this machine only and asks for the token in the address it prints; that stays so for root (a
container's usual user), whom Jupyter lets in only with --allow-root.
"""

import os
import sys
import sysconfig

from jupyterlab import labapp

from tools import ROOT

FIRST = "notebooks/00_welcome.ipynb"


def options(given: list[str], is_root: bool) -> list[str]:
    """What `jupyter lab` gets: the repository is its root, so that nbgrader finds its configuration there."""
    return [
        *("--log-level=WARN", "--ServerApp.root_dir=.", f"--LabApp.default_url=/lab/tree/{FIRST}"),
        *(["--allow-root"] if is_root else []),
        *given,
    ]


def main() -> None:
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if is_root:
        print(
            "You are root: whoever has the address below can run commands as root. Do not pass it on.",
            flush=True,
        )
    os.chdir(ROOT)
    # nbgrader's pages start commands by their names, and so do terminals.
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    labapp.main(options(sys.argv[1:], is_root))


if __name__ == "__main__":
    main()
