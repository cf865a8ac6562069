"""Loading a causal LM and its tokenizer: the one that ships with the course, a local folder, or a model hub's."""

import os
from pathlib import Path
from typing import Any

import torch

from coursepkg import runtime
from coursepkg.courselm import checkpoint


class ModelNotFound(RuntimeError):
    """There is no such model here, and no hub that could be asked for it."""


def load_model(name: str | Path = checkpoint.NAME, **settings: Any) -> tuple[Any, Any]:
    """A causal LM in evaluation mode, and its tokenizer.

    name: "course-lm" (the default: it ships with the package and needs no network), a folder that holds a checkpoint of
    transformers, or a model's name on the hub ("organisation/name").
    settings: given to `from_pretrained`; `runtime` chooses the dtype and the device where they do not.
    Raises ModelNotFound where there is no such folder and the hub does not have it or does not answer.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = _source(name)
    where = runtime.device()
    settings.setdefault("dtype", runtime.dtype(where).dtype)
    settings.setdefault("device_map", {"": where} if where.type != "cpu" else None)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, **settings)
    except (OSError, ValueError) as error:
        if Path(source).is_dir():
            raise ModelNotFound(
                f"{source} holds no checkpoint that transformers can read: {error}"
            ) from error
        raise ModelNotFound(_not_from_hub(str(name), error)) from error
    return model.eval(), tokenizer


def _source(name: str | Path) -> str:
    """What to give to `from_pretrained`."""
    if str(name) == checkpoint.NAME:
        return str(checkpoint.folder())
    text = str(name)
    if Path(name).is_dir():
        return text
    looks_like_a_path = (
        isinstance(name, Path) or os.path.isabs(text) or text.startswith((".", "~")) or "\\" in text
    )
    if looks_like_a_path or text.count("/") > 1:
        raise ModelNotFound(
            f"there is no folder {text}; load_model() loads the course LM, which ships with the package"
        )
    return text


def _not_from_hub(name: str, error: Exception) -> str:
    """What to say when a name was looked for on the hub in vain."""
    hub = runtime.hub()
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    state = (
        "the hub answers, but did not give it"
        if hub.reachable
        else f"the hub cannot be reached ({hub.reason})"
    )
    return (
        f"{name} is not here, and {state}: {first}\n"
        "The course LM ships with the package and needs no network: load_model()"
    )


def parameter_count(model: torch.nn.Module) -> int:
    """Parameters, each tensor once even where two modules share it."""
    return sum(parameter.numel() for parameter in model.parameters())
