"""Answers that a model writes by itself, and whether they are exactly right."""

from collections.abc import Sequence
from typing import Any

import torch

from coursepkg.evaluation.questions import ask, token_ids


@torch.inference_mode()
def answers(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int = 16, batch_size: int = 128
) -> list[str]:
    """What the model answers to each prompt, with the likeliest token at each step (greedy)."""
    if not prompts:
        return []
    asked = token_ids(tokenizer, [ask(tokenizer, prompt) for prompt in prompts])
    order = sorted(range(len(asked)), key=lambda i: len(asked[i]))
    written = [""] * len(asked)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer.pad(
                {"input_ids": [asked[i] for i in rows]}, padding_side="left", return_tensors="pt"
            ).to(model.device)
            made = model.generate(
                **batch,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=pad,
            )[:, batch["input_ids"].shape[1] :]
            texts = tokenizer.batch_decode(made, skip_special_tokens=True)
            for row, text in zip(rows, texts, strict=True):
                written[row] = text.strip()
    finally:
        model.train(was_training)
    return written


@torch.inference_mode()
def go_on(model: Any, tokenizer: Any, start: str, max_new_tokens: int = 64) -> str:
    """`start` and the text with which the model goes on, the likeliest token at each step, until it ends by itself."""
    batch = tokenizer(start, return_tensors="pt").to(model.device)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    made = model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad)
    return tokenizer.decode(made[0], skip_special_tokens=True).strip()


def same(written: str, right: str) -> bool:
    """Whether an answer matches exactly: its first line, without regard to case, blanks or a full stop at its end.

    >>> same(" The Blue Anchor.", "the Blue Anchor"), same("48", "4")
    (True, False)
    """

    def bare(text: str) -> str:
        first = next(iter(text.strip().splitlines()), "")
        return " ".join(first.casefold().split()).rstrip(".")

    return bare(written) == bare(right)
