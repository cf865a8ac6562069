"""Files that are written whole, or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def replaced(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file, and put it at `path` when it is whole; until then, and where that fails, what was there stays."""
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
