"""Scoring options by their likelihood: nothing is generated, and no letters are asked for.

Each option is read after the question, and the sum of its tokens' log-probabilities is its score; the likeliest option
is the answer. lm-evaluation-harness scores ARC and HellaSwag so ("acc"); MMLU is scored by likelihood too, but of the
letters A to D. Sums favour short options a little; the course's exams offer options of one kind.

The options of a question share its prompt, so the prompt is read once and its keys and values are kept; then all
options are read after it, in one batch. The result is that of reading each prompt with each option alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from coursepkg.chat import ask, token_ids, told
from coursepkg.evaluation.batches import batches, log_probabilities, pad
from coursepkg.evaluation.questions import Question

Split = tuple[list[int], list[list[int]]]


@torch.inference_mode()
def option_scores(
    model: Any, tokenizer: Any, questions: Sequence[Question], batch_size: int = 64
) -> list[np.ndarray]:
    """The log-likelihood of each option of each question, in nats, summed over the option's tokens.

    model: a causal LM of transformers with a key-value cache, and its own tokenizer. batch_size: questions read at
    once, at most; fewer where the vocabulary is large.
    Returns one float64 array for each question, as long as it has options. Raises ValueError where an option has no
    tokens of its own, and FloatingPointError where the model's logits are not finite.
    """
    split = [_split(tokenizer, question) for question in questions]
    scores: list[np.ndarray] = [np.empty(0)] * len(split)
    was_training = model.training
    model.eval()
    try:
        costs = [len(prompt) + sum(map(len, options)) for prompt, options in split]
        for group in batches(costs, batch_size, model.config.get_text_config().vocab_size):
            for row, values in zip(group, _batch(model, [split[i] for i in group]), strict=True):
                scores[row] = values
    finally:
        model.train(was_training)
    if not all(np.isfinite(values).all() for values in scores):
        raise FloatingPointError(
            f"the model's logits are not finite in {model.dtype}; load it with another dtype"
        )
    return scores


def _split(tokenizer: Any, question: Question) -> Split:
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


def _batch(model: Any, rows: Sequence[Split]) -> list[np.ndarray]:
    """The scores of some questions' options: the prompts are read once, the options after their cache."""
    counts = [len(options) for _, options in rows]
    repeats = torch.tensor(counts, device=model.device)
    ids, mask = pad([prompt for prompt, _ in rows], model.device, left=True)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    read = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
    options, option_mask = pad([option for _, each in rows for option in each], model.device, left=False)
    first = read.logits[:, -1].repeat_interleave(repeats, 0)
    logs = log_probabilities(first, options[:, 0])[:, None]
    if options.shape[1] > 1:
        cache, mask = read.past_key_values, mask.repeat_interleave(repeats, 0)
        cache.batch_select_indices(torch.arange(len(rows), device=model.device).repeat_interleave(repeats))
        inner = options[:, :-1]
        logits = model(
            input_ids=inner,
            attention_mask=torch.cat([mask, option_mask[:, :-1]], 1),
            position_ids=mask.sum(1, keepdim=True) + torch.arange(inner.shape[1], device=model.device),
            past_key_values=cache,
            use_cache=True,
        ).logits
        logs = torch.cat([logs, log_probabilities(logits, options[:, 1:])], 1)
    sums = torch.where(option_mask.bool(), logs, 0.0).cpu().double().sum(1)
    return [part.numpy() for part in sums.split(counts)]
