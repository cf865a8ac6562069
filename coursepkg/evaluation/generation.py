"""Text that a model writes by itself, the likeliest token at each step, and whether an answer is exactly right."""

from collections.abc import Sequence
from typing import Any

import torch

from coursepkg.chat import ask, token_ids
from coursepkg.evaluation.batches import pad


def answers(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int = 16, batch_size: int = 128
) -> list[str]:
    """What the model answers to each prompt, in the format that its tokenizer's chat template gives.

    Up to `batch_size` prompts are read at once. Answers come in the order of the prompts, without special tokens and
    without blanks around them.
    """
    asked = token_ids(tokenizer, [ask(tokenizer, prompt) for prompt in prompts]) if prompts else []
    order = sorted(range(len(asked)), key=lambda i: len(asked[i]))
    written = [""] * len(asked)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        made = _written(model, [asked[i] for i in rows], max_new_tokens)
        for row, text in zip(rows, tokenizer.batch_decode(made, skip_special_tokens=True), strict=True):
            written[row] = text.strip()
    return written


def go_on(model: Any, tokenizer: Any, start: str, max_new_tokens: int = 64) -> str:
    """`start` and the text with which the model goes on until it ends by itself, or has written `max_new_tokens`."""
    read = tokenizer(start)["input_ids"]
    made = _written(model, [read], max_new_tokens)[0]
    return tokenizer.decode([*read, *made.tolist()], skip_special_tokens=True).strip()


@torch.inference_mode()
def _written(model: Any, rows: Sequence[list[int]], max_new_tokens: int) -> torch.Tensor:
    """The tokens with which the model goes on after each row, (rows, at most max_new_tokens).

    What a checkpoint's own generation settings say of sampling or of penalties for repetition is put aside.
    """
    ids, mask = pad(rows, model.device, left=True)
    ends = model.generation_config.eos_token_id
    padding = model.generation_config.pad_token_id
    if padding is None:
        padding = ends[0] if isinstance(ends, list) else ends
    was_training = model.training
    model.eval()
    try:
        made = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=padding,
        )
    finally:
        model.train(was_training)
    return made[:, ids.shape[1] :]


def same(written: str, right: str) -> bool:
    """Whether an answer matches exactly: its first line, without regard to case, blanks or a full stop at its end.

    >>> same(" The Blue Anchor.", "the Blue Anchor"), same("48", "4")
    (True, False)
    """

    def bare(text: str) -> str:
        first = next(iter(text.strip().splitlines()), "")
        return " ".join(first.casefold().split()).rstrip(".")

    return bare(written) == bare(right)
