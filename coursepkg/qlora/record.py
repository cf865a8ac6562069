"""What a folder says of the run in it, so that no run goes on from another one's checkpoints."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState

from coursepkg import lora_model
from coursepkg.chat import Document
from coursepkg.courselm import checkpoint
from coursepkg.files import replaced
from coursepkg.loading import COURSE_LM
from coursepkg.qlora.settings import Settings

#: The file's name.
RECORD = "run.json"
#: What only decides memory, time, and how often it is saved: a run may go on with others.
_MAY_CHANGE = ("batch", "accumulation", "checkpointing", "save_every")
_STEP = "examples a step"


class OtherRun(ValueError):
    """The folder holds another run, or files of a run that nothing is known of."""


def described(model: Any, documents: Sequence[Document], settings: Settings) -> dict[str, Any]:
    """What tells one run from another: the model's name or folder, a hash of the examples, and the settings as they were asked for."""
    name = getattr(model.config, "_name_or_path", "")
    if name and Path(name).is_dir():
        name = str(Path(name).resolve())
        name = COURSE_LM if name == str(checkpoint.shipped().resolve()) else name
    given = asdict(settings) | {_STEP: settings.total * PartialState().num_processes}
    found = {"model": name, "examples": digest(documents), "settings": given}
    return json.loads(json.dumps(found))  # as it will be read: tuples are lists


def digest(documents: Sequence[Document]) -> str:
    """What tells one list of examples from another."""
    text = json.dumps([[each.text, each.answer] for each in documents])
    return f"{len(documents)}, sha256 {hashlib.sha256(text.encode()).hexdigest()}"


def claim(folder: Path, run: dict[str, Any]) -> list[str]:
    """What the run in the folder has said so far; changes nothing. Raises OtherRun where the folder holds checkpoints, an adapter or a
    record that are not of this run."""
    record = folder / RECORD
    if not (record.exists() or any(folder.glob("checkpoint-*")) or (folder / lora_model.TENSORS).exists()):
        return []
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        before, now = _deciding(found), _deciding(run)
        said = [str(each) for each in found.get("said", [])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OtherRun(
            f"{folder} holds a run of which {RECORD} does not tell ({error}); give it another folder"
        ) from error
    if other := sorted(name for name in before | now if before.get(name) != now.get(name)):
        raise OtherRun(
            f"{folder} holds another run: its {other[0]} is {str(before.get(other[0]))[:80]}, not {str(now.get(other[0]))[:80]}; give it another folder"
        )
    return said


def write(folder: Path, run: dict[str, Any], **outcome: Any) -> None:
    """Write the record, with what came of the run as far as that is known."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(run | outcome, indent=1) + "\n"
    replaced(folder / RECORD, lambda path: path.write_text(text, encoding="utf-8"))


def _deciding(run: dict[str, Any]) -> dict[str, Any]:
    """By name, what decides a run's result."""
    settings = {name: value for name, value in run["settings"].items() if name not in _MAY_CHANGE}
    return {"model": run["model"], "examples": run["examples"], **settings}
