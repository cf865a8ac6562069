"""Loading a causal LM and its tokenizer: the one that ships with the course, a local folder, or a model hub's."""

import contextlib
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from coursepkg import runtime
from coursepkg.courselm import checkpoint
from coursepkg.quiet import no_bars

#: The model that ships with the package.
COURSE_LM = checkpoint.NAME
OF_THE_HUB = (
    "revision",
    "token",
    "trust_remote_code",
    "cache_dir",
    "subfolder",
    "local_files_only",
    "force_download",
)


class ModelNotFound(RuntimeError):
    """There is no such model here, or it cannot be loaded."""


def load_model(name: str | Path = COURSE_LM, **settings: Any) -> tuple[Any, Any]:
    """A causal LM in evaluation mode, and its tokenizer.

    name: "course-lm" (the default: it ships with the package and needs no network), a folder that holds a checkpoint of
    transformers, or a model's name on the hub ("organisation/name").
    settings: given to `from_pretrained`, those that concern the hub for the tokenizer too. `runtime` chooses `dtype` and
    `device_map` where they are not given.
    Raises ModelNotFound where there is no such folder, where the hub does not have it or does not answer, and where the
    files cannot be read; checkpoint.Damaged where the course LM's own files are not whole.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place, where = source(name), runtime.device()
    local = Path(place).is_dir()
    settings.setdefault("dtype", runtime.dtype(where).dtype)
    settings.setdefault("device_map", {"": where} if where.type != "cpu" else None)
    with no_bars() if local else contextlib.nullcontext():
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                place, **{key: value for key, value in settings.items() if key in OF_THE_HUB}
            )
            model = AutoModelForCausalLM.from_pretrained(place, **settings)
        except (OSError, ValueError, ImportError, SafetensorError) as error:
            raise ModelNotFound(_reason(str(name), local, error)) from error
    return model.eval(), tokenizer


def source(name: str | Path) -> str:
    """What to give to `from_pretrained`, which for "course-lm" and for folders is a folder. Raises ModelNotFound as `load_model` does."""
    if str(name) == COURSE_LM:
        return str(checkpoint.folder())
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    text = str(name)
    like_a_path = isinstance(name, Path) or os.path.isabs(text) or text.startswith((".", "~")) or "\\" in text
    if like_a_path or text.count("/") > 1:
        raise ModelNotFound(
            f"there is no folder {text}; load_model() loads the course LM, which ships with the package"
        )
    return text


def _reason(name: str, local: bool, error: Exception) -> str:
    """Why a model could not be loaded, and the way on."""
    said = str(error).strip() or type(error).__name__
    if local:
        return f"{name} holds no checkpoint that transformers can read: {said}"
    hub = runtime.hub()
    away = "" if hub.reachable else f": it is not here, and the hub cannot be reached ({hub.reason})"
    return (
        f"{name} could not be loaded{away}. The course LM ships with the package and needs no network: load_model()\n"
        f"What transformers said: {said}"
    )
