"""Scoring options by their likelihood, as MMLU and its successors are scored: nothing is generated.

The options of a question share its prompt, so the prompt is read once and its keys and values are kept; then all
options are read after it, in one batch. The result is that of reading each prompt with each option alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from coursepkg.evaluation.questions import Question, ask, token_ids, told


@torch.inference_mode()
def option_scores(
    model: Any, tokenizer: Any, questions: Sequence[Question], batch_size: int = 64
) -> list[np.ndarray]:
    """The log-likelihood of each option of each question, in nats, summed over the option's tokens.

    model: any causal LM of transformers, with its own tokenizer. batch_size: questions read at once.
    Returns one float64 array for each question, as long as it has options. Raises ValueError where an option has no
    tokens of its own.
    """
    split = [_split(tokenizer, question) for question in questions]
    order = sorted(range(len(split)), key=lambda i: len(split[i][0]))
    scores: list[np.ndarray] = [np.empty(0)] * len(split)
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            for row, values in zip(rows, _batch(model, [split[i] for i in rows]), strict=True):
                scores[row] = values
    finally:
        model.train(was_training)
    return scores


def _split(tokenizer: Any, question: Question) -> tuple[list[int], list[list[int]]]:
    """The tokens that the options share, at most the prompt, and what each option adds."""
    asked, *whole = token_ids(
        tokenizer,
        [ask(tokenizer, question.prompt), *(told(tokenizer, question.prompt, o) for o in question.options)],
    )
    shared = len(asked)
    for tokens in whole:  # a tokenizer may merge the prompt's last sign with the answer's first
        same = next((i for i, (a, b) in enumerate(zip(asked, tokens, strict=False)) if a != b), len(asked))
        shared = min(shared, same, len(tokens))
    if shared == 0 or any(len(tokens) == shared for tokens in whole):
        raise ValueError(f"{question.prompt!r}: an option or the prompt has no tokens of its own")
    return asked[:shared], [tokens[shared:] for tokens in whole]


def _batch(model: Any, rows: Sequence[tuple[list[int], list[list[int]]]]) -> list[np.ndarray]:
    """The scores of some questions' options: the prompts are read once, the options after their cache."""
    device = model.device
    counts = torch.tensor([len(options) for _, options in rows], device=device)
    ids, mask = _pad([prompt for prompt, _ in rows], device, left=True)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    read = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
    first = read.logits[:, -1].float().log_softmax(-1).repeat_interleave(counts, 0)

    options, option_mask = _pad([option for _, each in rows for option in each], device, left=False)
    scores = first.gather(1, options[:, :1])[:, 0].double()
    if options.shape[1] > 1:
        cache, mask = read.past_key_values, mask.repeat_interleave(counts, 0)
        cache.batch_select_indices(torch.arange(len(rows), device=device).repeat_interleave(counts))
        inner, inner_mask = options[:, :-1], option_mask[:, :-1]
        after = mask.sum(1, keepdim=True) + torch.arange(inner.shape[1], device=device)
        logits = model(
            input_ids=inner,
            attention_mask=torch.cat([mask, inner_mask], 1),
            position_ids=after,
            past_key_values=cache,
            use_cache=True,
        ).logits
        rest = logits.float().log_softmax(-1).gather(2, options[:, 1:, None])[..., 0]
        scores += (rest * option_mask[:, 1:]).double().sum(1)
    return [part.cpu().numpy() for part in scores.split(counts.tolist())]


def _pad(rows: Sequence[list[int]], device: torch.device, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of tokens as one int64 tensor, and the mask of those that are real (1) and not padding (0)."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for at, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[at, place] = torch.tensor(row)
        mask[at, place] = 1
    return ids.to(device), mask.to(device)
