"""Rows of tokens as one tensor, in batches whose logits fit; log-probabilities without a copy of all logits."""

from collections.abc import Iterator, Sequence

import torch

LOGITS_BYTES = 256 * 10**6


def pad(rows: Sequence[Sequence[int]], device: torch.device, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of tokens as one int64 tensor (rows, longest), and the mask of those that are real (1) and not padding (0).

    left: padding stands before the tokens, as generation needs it; else after them. It is token 0, which the mask or
    a causal model's direction hides.
    """
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for at, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[at, place] = torch.tensor(row)
        mask[at, place] = 1
    return ids.to(device), mask.to(device)


def batches(costs: Sequence[int], most: int, vocabulary: int) -> Iterator[list[int]]:
    """Indices in groups of at most `most`, alike in cost, whose float32 logits take at most 256 MB (or one index).

    costs: the tokens for which index i needs logits, padding to the group's largest.
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], i))
    tokens = max(1, LOGITS_BYTES // (4 * vocabulary))
    group: list[int] = []
    for index in order:
        if group and (len(group) == most or (len(group) + 1) * costs[index] > tokens):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def log_probabilities(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log softmax(logits) at the targets, float32, of their shape; row by row, so that one row's copy is the most."""
    rows = [
        each.float().gather(-1, wanted[..., None])[..., 0] - each.float().logsumexp(-1)
        for each, wanted in zip(logits, targets, strict=True)
    ]
    return torch.stack(rows)
