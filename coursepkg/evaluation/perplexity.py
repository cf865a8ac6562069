"""Perplexity: exp of the mean negative log-likelihood of a token, over documents or over windows of a long text.

Every result keeps the sum of each piece (a document, a window), because an interval is drawn from the pieces.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from coursepkg import intervals
from coursepkg.evaluation.batches import batches, log_probabilities, pad
from coursepkg.intervals import Interval


@dataclass(frozen=True)
class Piece:
    """Tokens that are read at once; those from index `scored` on count, the ones before are only context."""

    tokens: tuple[int, ...]
    scored: int = 1


@dataclass(frozen=True)
class Likelihood:
    """What was measured: for each piece the sum of the negative log-likelihoods, in nats, and the tokens counted."""

    nll: np.ndarray
    tokens: np.ndarray

    @property
    def perplexity(self) -> Interval:
        """exp(Σ nll / Σ tokens), with its 95 % interval over the pieces."""
        nats = intervals.ratio(self.nll, self.tokens)
        return Interval(*(float(np.exp(each)) for each in (nats.value, nats.low, nats.high)))


def documents(tokenizer: Any, texts: Sequence[str], longest: int | None = None) -> list[Piece]:
    """Each text as a piece of its own, with the tokens that its tokenizer puts before it.

    longest: texts with more tokens are cut there. Raises ValueError where a text has fewer than two tokens.
    """
    pieces = [Piece(tuple(ids[:longest])) for ids in tokenizer(list(texts))["input_ids"]]
    if any(len(piece.tokens) < 2 for piece in pieces):
        raise ValueError("a text has fewer than two tokens: there is nothing to predict")
    return pieces


def windows(tokenizer: Any, text: str, length: int, stride: int | None = None) -> list[Piece]:
    """A long text in windows of `length` tokens, each `stride` tokens after the one before.

    stride: `length` by default, the protocol of the GPTQ, AWQ and SmoothQuant papers' code: windows side by side, the
    first token of each not predicted, a last window that is not full left out. With a smaller stride each token has at
    least `length` − `stride` tokens before it, and counts once; then the rest at the end counts too.
    Raises ValueError where the text has fewer tokens than a window, or the stride is not from 1 to `length`.
    """
    stride = length if stride is None else stride
    if not 1 <= stride <= length or length < 2:
        raise ValueError(f"the stride must be from 1 to the window's length {length}, not {stride}")
    ids = tuple(tokenizer(text, verbose=False)["input_ids"])
    if len(ids) < length:
        raise ValueError(
            f"the text has {len(ids)} tokens, fewer than one window of {length}; choose a shorter one"
        )
    if stride == length:
        return [Piece(ids[at : at + length]) for at in range(0, len(ids) - length + 1, length)]
    pieces, done = [], 1
    for end in range(length, len(ids) + stride, stride):
        start = min(end, len(ids)) - length
        pieces.append(Piece(ids[start : start + length], done - start))
        done = start + length
        if done == len(ids):
            break
    return pieces


def likelihood(model: Any, pieces: Sequence[Piece], batch_size: int = 64) -> Likelihood:
    """The negative log-likelihood of each piece under a causal LM.

    batch_size: pieces read at once, at most; fewer where the vocabulary is large. Results stand in the order of the
    pieces. Raises FloatingPointError where the model's logits are not finite.
    """
    return Likelihood(
        *sums(model, pieces, batch_size, lambda logits, ids: -log_probabilities(logits, ids[:, 1:]))
    )


@torch.inference_mode()
def sums(
    model: Any,
    pieces: Sequence[Piece],
    batch_size: int,
    measure: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> tuple[np.ndarray, np.ndarray]:
    """For each piece, a measure of its tokens added up, float64, and how many tokens were counted.

    measure: logits (rows, tokens − 1, vocabulary) and ids (rows, tokens) to a number for each token after the first.
    Raises FloatingPointError where a sum is not finite.
    """
    totals, counted = np.zeros(len(pieces)), np.zeros(len(pieces), dtype=np.int64)
    was_training = model.training
    model.eval()
    try:
        costs = [len(piece.tokens) for piece in pieces]
        for group in batches(costs, batch_size, model.config.get_text_config().vocab_size):
            # Padding stands at the right, where a causal model's earlier tokens do not see it: it needs no mask there.
            ids, keep = pad([pieces[i].tokens for i in group], model.device, left=False)
            for row, index in enumerate(group):
                keep[row, : pieces[index].scored] = 0
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
            found = torch.where(keep[:, 1:].bool(), measure(logits, ids), 0.0)
            totals[group] = found.cpu().double().sum(1).numpy()
            counted[group] = keep[:, 1:].sum(1).cpu().numpy()
    finally:
        model.train(was_training)
    if not np.isfinite(totals).all():
        raise FloatingPointError(
            f"the model's logits are not finite in {model.dtype}; load it with another dtype"
        )
    return totals, counted
