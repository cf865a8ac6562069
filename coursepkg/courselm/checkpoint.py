"""The checkpoint that ships with the package: where it lies, and whether it is whole."""

import hashlib
import json
import re
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

NAME = "course-lm"
DIGESTS = "SHA256SUMS"
WEIGHTS = "model.safetensors"
RECORD = "training.json"
CARD = "README.md"
MEND = "install the package again, or in a clone: git checkout -- coursepkg/courselm/checkpoint"


class Damaged(RuntimeError):
    """The shipped checkpoint is not what it should be."""


@cache
def folder() -> Path:
    """The folder of the shipped checkpoint, after its files were compared with their digests.

    Raises Damaged where a file is missing or differs: for example a Git LFS pointer, or a download that broke off.
    """
    found = shipped()
    verify(found)
    return found


def shipped() -> Path:
    """Where the checkpoint lies in the installed package."""
    with as_file(files(__package__).joinpath("checkpoint")) as path:
        return Path(path)


def verify(checkpoint: Path) -> None:
    """Compare each file with its SHA-256 digest. Raises Damaged with the names of those that differ."""
    if not (checkpoint / DIGESTS).is_file():
        raise Damaged(f"the course LM is not in {checkpoint}; {MEND}")
    wrong = [
        name
        for name, digest in digests(checkpoint).items()
        if not (checkpoint / name).is_file() or sha256(checkpoint / name) != digest
    ]
    if wrong:
        raise Damaged(f"the course LM is damaged ({', '.join(wrong)}); {MEND}")


def digests(checkpoint: Path) -> dict[str, str]:
    """The digests that were written with the checkpoint, by file name. Raises Damaged where they cannot be read."""
    lines = (checkpoint / DIGESTS).read_text(encoding="utf-8").splitlines()
    try:
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except ValueError:
        raise Damaged(f"the digests of the course LM cannot be read; {MEND}") from None


def write_digests(checkpoint: Path) -> None:
    """Write the digests of all files of a checkpoint, in the format of sha256sum."""
    kept = sorted(path for path in checkpoint.iterdir() if path.is_file() and path.name != DIGESTS)
    lines = [f"{sha256(path)}  {path.name}\n" for path in kept]
    (checkpoint / DIGESTS).write_text("".join(lines), encoding="utf-8", newline="\n")


def sha256(path: Path) -> str:
    """The SHA-256 digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record() -> dict[str, Any]:
    """How the shipped checkpoint was trained: recipe, versions, curve, and what it scored."""
    return json.loads((folder() / RECORD).read_text(encoding="utf-8"))


def card(deeper: int = 0) -> str:
    """The model card in Markdown, its headings `deeper` levels below their own, to stand inside another page."""
    text = (folder() / CARD).read_text(encoding="utf-8")
    body = text.split("---\n", 2)[2] if text.startswith("---\n") else text
    return re.sub(r"^(#+) ", lambda found: "#" * deeper + found[0], body, flags=re.MULTILINE)
