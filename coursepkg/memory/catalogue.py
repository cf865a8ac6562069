"""Architectures by name: a catalogue that works offline, any checkpoint directory, any hub id."""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from coursepkg.memory.architecture import Architecture


def catalogue() -> dict[str, dict[str, Any]]:
    """The architectures that ship with the course: name to {"hub_id": …, "config": the sizes of its config.json}.

    A new dict each time, which the caller may change. Multimodal models (Gemma 3 4B and larger) stand here as their
    language model, without the vision tower.
    """
    return json.loads(_catalogue_text())


@cache
def _catalogue_text() -> str:
    return files("coursepkg.memory").joinpath("catalogue.json").read_text(encoding="utf-8")


def architecture(model: str | Path | Architecture) -> Architecture:
    """The architecture of `model`: a catalogue name, a directory with a config.json, or a hub id ("org/name").

    An Architecture is passed through. Only a hub id that the catalogue does not hold needs the network.
    Raises ValueError where the name means nothing, the config cannot be read, or the hub does not answer;
    the message says what to do.
    """
    if isinstance(model, Architecture):
        return model
    name = str(model)
    by_hub_id = {entry["hub_id"].lower(): known for known, entry in catalogue().items()}
    known = by_hub_id.get(name.lower(), name.lower())
    if known in catalogue():
        return Architecture.from_config(catalogue()[known]["config"], known)
    if Path(name).is_dir():
        return _from_file(Path(name) / "config.json", name)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _from_file(_download_config(name), name)
    raise ValueError(
        f"no architecture {name!r}: it is neither a directory nor a hub id, and the catalogue has {', '.join(catalogue())}"
    )


def _from_file(path: Path, name: str) -> Architecture:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{name}: there is no config.json in this directory; give the folder of a checkpoint"
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a readable config.json ({error})") from None
    if not isinstance(config, dict):
        raise ValueError(
            f"{path}: a config.json holds one object, and this one holds a {type(config).__name__}"
        )
    return Architecture.from_config(config, name)


def _download_config(hub_id: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, "config.json", etag_timeout=5))
    except (
        Exception
    ) as error:  # the hub client raises a dozen kinds, and none of them tells a student what to do
        raise ValueError(
            f"{hub_id}: the hub gave no config.json ({type(error).__name__}). Check the name and the network, log in "
            f"where the model is gated, or use one that works offline: {', '.join(catalogue())}"
        ) from error
