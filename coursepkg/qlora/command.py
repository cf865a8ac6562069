"""`coursepkg finetune`: a run from the command line, on one device or, under `accelerate launch`, on several."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from coursepkg import lora_model, token_rows
from coursepkg.chat import Document
from coursepkg.qlora.base import adapt, load_base
from coursepkg.qlora.examples import encode
from coursepkg.qlora.run import Run, finetune
from coursepkg.qlora.settings import Settings


class Unusable(ValueError):
    """The examples cannot be used; the message says why."""


def read(path: Path) -> list[Document]:
    """Examples from a file with a JSON object in each line: "text", and "answer" where the text is a question. Raises Unusable."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would also cut within strings
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            text, answer = given["text"], given.get("answer")
            if not isinstance(text, str) or not isinstance(answer, str | None):
                raise TypeError("text and answer are strings")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unusable(
                f'{path}, line {number}: not an object with "text" and perhaps "answer" ({error!r})'
            ) from error
        found.append(Document(text, answer))
    if not found:
        raise Unusable(f"{path} holds no examples")
    return found


def train(
    name: str,
    documents: Sequence[Document],
    settings: Settings,
    output: Path,
    rows: bool = True,
    say: Any = print,
) -> Run:
    """Train an adapter and write it to `output`, with what the run was and its losses; cut off, the same call goes on.

    rows: train the embedding's rows of those tokens that the base can hardly tell from others. Raises as `load_base` and `finetune` do.
    """
    state = PartialState()
    say = say if state.is_main_process else (lambda text: None)
    model, tokenizer = load_base(name, settings)
    if rows and settings.lora is not None:
        tokens = sorted(
            {token for row in encode(tokenizer, documents, settings.length) for token in row["input_ids"]}
        )
        alike = token_rows.alike(model, tokens)
        if alike:
            say(
                f"{len(alike)} of {len(tokens)} tokens look like another to the base: their rows are trained, too"
            )
            settings = replace(settings, lora=replace(settings.lora, tokens=alike))
    model = adapt(model, settings)
    run = finetune(model, tokenizer, documents, settings, output, say=say)
    if state.is_main_process:
        say(
            f"{lora_model.trainable(model):,} numbers trained in {len(run.losses)} steps; the last losses: "
            + ", ".join(f"{loss:.3f}" for loss in run.losses[-3:])
        )
    return run
