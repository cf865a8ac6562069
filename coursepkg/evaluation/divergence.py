"""How far a model's predictions are from those of the model it was made from: the KL divergence, token by token.

It sees what accuracy and perplexity do not: a change that makes the truth likelier is a change all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from coursepkg import intervals
from coursepkg.evaluation.perplexity import Piece, sums
from coursepkg.intervals import Interval


@dataclass(frozen=True)
class Divergence:
    """For each piece the sum of the tokens' divergences, in nats, and the tokens counted."""

    kl: np.ndarray
    tokens: np.ndarray

    @property
    def nats(self) -> Interval:
        """The mean divergence of a token, in nats, with its 95 % interval over the pieces."""
        return intervals.ratio(self.kl, self.tokens)

    def less(self, other: "Divergence") -> Interval:
        """This mean less another over the same pieces, paired."""
        return intervals.ratio(self.kl - other.kl, self.tokens)


def divergence(model: Any, reference: Any, pieces: Sequence[Piece], batch_size: int = 64) -> Divergence:
    """KL(reference ‖ model) over the next token, at every token of the pieces after the first.

    Both are causal LMs with one vocabulary. Raises FloatingPointError where logits are not finite.
    """

    def measure(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        theirs = (
            reference(input_ids=ids.to(reference.device), use_cache=False).logits[:, :-1].to(logits.device)
        )
        return torch.stack([_kl(p, q) for p, q in zip(theirs, logits, strict=True)])

    was_training = reference.training
    reference.eval()
    try:
        return Divergence(*sums(model, pieces, batch_size, measure))
    finally:
        reference.train(was_training)


def _kl(reference: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Σ p (log p − log q) of each row of logits; float32."""
    p, q = (each.float().log_softmax(-1) for each in (reference, logits))
    return (p.exp() * (p - q)).sum(-1)
