"""GPTQ, SmoothQuant and AWQ beside the libraries that people use for them: `make bench-peers`.

Each library has a virtual environment of its own under build/peers/, with the versions of its requirements file here; `coursepkg` is
read from this folder's repository. One module of this package runs in one environment, and times ours and theirs there, in one process.
"""

from pathlib import Path

#: Where environments and what they found are kept.
BUILD = Path(__file__).resolve().parents[2] / "build" / "peers"
