"""A notebook from a file that anyone may have written: refused with a reason, or brought to one plain form."""

import errno
import json
import os
import re
import stat
from pathlib import Path

import nbformat
from nbformat import NotebookNode

#: The formats that are read; the older of the two is converted.
FORMATS = (3, 4)
KINDS = ("code", "markdown", "raw")
#: Levels that metadata may have.
DEPTH = 20
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_LINKS = tuple(getattr(stat, name, -1) for name in ("IO_REPARSE_TAG_SYMLINK", "IO_REPARSE_TAG_MOUNT_POINT"))


class Refused(Exception):
    """The whole submission is refused; the message is one line that says what is wrong and what to do."""


def is_link(status: os.stat_result) -> bool:
    """Whether an lstat is that of a symbolic link, or of what Windows has for one."""
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) in _LINKS


def content(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes. Follows no link at its end and never waits for a pipe.

    Raises Refused, and OSError where the machine cannot read it.
    """
    _must_be_regular(path.name, os.lstat(path))
    flags = (getattr(os, name, 0) for name in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))
    try:
        opened = os.open(path, os.O_RDONLY | sum(flags))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _linked(path.name) from error
        raise
    with os.fdopen(opened, "rb") as file:
        _must_be_regular(path.name, os.fstat(file.fileno()))
        read = file.read(limit + 1)
    if len(read) > limit:
        raise Refused(
            f"{path.name} has more than {limit / 1e6:g} MB; ask for it again with its outputs cleared"
        )
    return read


def _must_be_regular(name: str, status: os.stat_result) -> None:
    if is_link(status):
        raise _linked(name)
    if stat.S_ISDIR(status.st_mode):
        raise Refused(f"{name} is a folder; ask for the file itself")
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{name} is a pipe, a socket or a device; ask for the file itself")


def _linked(name: str) -> Refused:
    return Refused(f"{name} is a symbolic link, which is never followed; ask for the file itself")


def notebook(data: bytes, name: str, most_cells: int) -> NotebookNode:
    """The notebook in format 4.5 that `data` holds: sources, metadata and attachments, no outputs. Raises Refused."""
    raw = _json(data, name)
    if not isinstance(raw, dict) or not _is_number(raw.get("nbformat")):
        raise _no_notebook(name, "it does not say in which notebook format it is")
    if raw["nbformat"] not in FORMATS:
        raise Refused(
            f"{name} is in notebook format {raw['nbformat']}, and only 3 and 4 are read; ask for it in format 4"
        )
    if raw["nbformat"] == 3:
        raw = _converted(raw, name, most_cells)
    cells = raw.get("cells")
    if not isinstance(cells, list):
        raise _no_notebook(name, "it has no list of cells")
    if len(cells) > most_cells:
        raise Refused(
            f"{name} has {len(cells)} cells, more than {most_cells}; ask for a notebook without the rest"
        )
    plain = [_plain(cell, number, name) for number, cell in enumerate(cells, start=1)]
    _number(plain)
    nb = nbformat.v4.new_notebook()
    nb.cells = plain
    nb.metadata = _metadata(
        raw.get("metadata")
    )  # not given above, where nbformat would refuse what it does not know
    return nb


def _json(data: bytes, name: str) -> object:
    if not data.strip():
        raise Refused(f"{name} is empty; ask for it again")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"{name} is not UTF-8 text; ask for the notebook as Jupyter saves it") from error
    try:
        raw = json.loads(text)
        if "\\ud" in text.lower():  # halves of characters, which no file can hold
            whole = json.dumps(raw, ensure_ascii=False).encode("utf-16", "surrogatepass")
            raw = json.loads(whole.decode("utf-16", "replace"))
    except RecursionError as error:
        raise _no_notebook(name, "it is nested too deeply") from error
    except ValueError as error:
        why = str(error)[:80]
        raise Refused(f"{name} is not JSON ({why}); ask for the notebook as Jupyter saves it") from error
    return raw


def _converted(raw: dict, name: str, most_cells: int) -> NotebookNode:
    """A notebook of format 3 in format 4, by nbformat. Outputs go first: they need not be right to be dropped."""
    try:
        cells = [cell for sheet in raw["worksheets"] for cell in sheet["cells"]]
        for cell in cells[: most_cells + 1]:
            if cell["cell_type"] == "code":
                cell["outputs"] = []
        kept = {"nbformat": 3, "nbformat_minor": 0, "metadata": _dict(raw.get("metadata"))}
        kept["worksheets"] = [{"cells": cells[: most_cells + 1]}]
        converted = nbformat.reads(json.dumps(kept), as_version=4)
    except Exception as error:
        raise _no_notebook(name, "it says format 3 and cannot be converted") from error
    for cell in converted.cells:
        cell.pop("id", None)  # nbformat draws them by lot
    return converted


def _plain(cell: object, number: int, name: str) -> NotebookNode:
    """A cell with what is read of it and nothing else."""
    if not isinstance(cell, dict) or cell.get("cell_type") not in KINDS:
        raise _no_notebook(name, f"its cell {number} is neither code nor Markdown nor raw text")
    source = _text(cell.get("source"))
    if source is None:
        raise _no_notebook(name, f"its cell {number} has no text")
    new = getattr(nbformat.v4, f"new_{cell['cell_type']}_cell")
    plain = new(source=source)
    plain.metadata, plain.id = _metadata(cell.get("metadata")), cell.get("id")
    if cell["cell_type"] != "code" and (attached := _attachments(cell.get("attachments"))):
        plain.attachments = attached
    return plain


def _metadata(value: object) -> NotebookNode:
    """Metadata; none where it is no dict, or so deep that to copy it would fail."""
    level: list[object] = [_dict(value)]
    for _ in range(DEPTH):
        level = [
            inner
            for outer in level
            for inner in (
                outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
            )
        ]
        if not level:
            return nbformat.from_dict(_dict(value))
    return NotebookNode()


def _attachments(value: object) -> NotebookNode:
    """The pictures of a cell: by name a dict from media type to text; of another shape they are dropped."""
    found = NotebookNode()
    for name, bundle in _dict(value).items():
        read = {kind: _text(text) for kind, text in _dict(bundle).items()}
        if read and None not in read.values():
            found[name] = NotebookNode(read)
    return found


def _text(value: object) -> str | None:
    """A text, which may be there as a list of lines; None for anything else."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "".join(value)
    return value if isinstance(value, str) else None


def _number(cells: list[NotebookNode]) -> None:
    """Give cells an id that lack one, or have one that is no id or another's already."""
    ids = [cell.id for cell in cells]
    taken = {one for one in ids if isinstance(one, str)}
    seen: set[str] = set()
    for number, cell in enumerate(cells, start=1):
        if not isinstance(cell.id, str) or not _ID.fullmatch(cell.id) or cell.id in seen:
            free = (f"cell-{number}{more}" for more in ("", *(f"-{count}" for count in range(len(cells)))))
            cell.id = next(one for one in free if one not in taken)
            taken.add(cell.id)
        seen.add(cell.id)


def _no_notebook(name: str, why: str) -> Refused:
    return Refused(f"{name} is not a notebook: {why}; ask for it as Jupyter saves it")


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _dict(value: object) -> dict:
    return value if isinstance(value, dict) else {}
