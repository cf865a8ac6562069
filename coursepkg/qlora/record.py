"""What a folder says of the run in it, so that no run goes on from another one's checkpoints."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coursepkg import lora_model
from coursepkg.chat import Document
from coursepkg.files import replaced
from coursepkg.loading import COURSE_LM, source
from coursepkg.qlora.settings import Settings

#: The file's name.
RECORD = "run.json"
_SAYS = ("model", "examples", "settings")


class OtherRun(ValueError):
    """The folder holds another run, or files of a run that nothing is known of."""


def described(model: Any, documents: Sequence[Document], settings: Settings) -> dict[str, Any]:
    """What tells one run from another: the model's name, a hash of the examples, the settings as they were asked for."""
    name = getattr(model.config, "_name_or_path", "")
    name = COURSE_LM if Path(name) == Path(source(COURSE_LM)) else name
    found = {"model": name, "examples": digest(documents), "settings": asdict(settings)}
    return json.loads(json.dumps(found))  # as it will be read: tuples are lists


def digest(documents: Sequence[Document]) -> str:
    """What tells one list of examples from another."""
    text = json.dumps([[each.text, each.answer] for each in documents])
    return f"{len(documents)}, sha256 {hashlib.sha256(text.encode()).hexdigest()}"


def claim(folder: Path, run: dict[str, Any]) -> None:
    """Raise OtherRun where the folder holds checkpoints, an adapter or a record that are not of this run; changes nothing."""
    record = folder / RECORD
    used = any(folder.glob("checkpoint-*")) or (folder / lora_model.TENSORS).exists()
    if (used or record.is_file()) and _read(record) != run:
        raise OtherRun(
            f"{folder} holds another run; give it the same model, examples and settings, or another folder"
        )


def write(folder: Path, run: dict[str, Any], **outcome: Any) -> None:
    """Write the record, with what came of the run where that is known."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(run | outcome, indent=1) + "\n"
    replaced(folder / RECORD, lambda path: path.write_text(text, encoding="utf-8"))


def _read(record: Path) -> dict[str, Any]:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        return {key: found[key] for key in _SAYS}
    except (OSError, ValueError, KeyError):
        return {}
