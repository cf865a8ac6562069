"""What is learnt, as tokens and labels: in padded batches or packed rows."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

import torch

from coursepkg.chat import Document, ask, token_ids, told
from coursepkg.qlora.settings import Settings

#: A label that is not predicted.
IGNORED = -100
#: How many steps' worth of examples are sorted by length at a time.
SORTED = 50
Row = dict[str, list[int]]


def encode(tokenizer: Any, documents: Sequence[Document], length: int, all_tokens: bool = False) -> list[Row]:
    """Tokens (input_ids) and what is predicted of them (labels), for each document.

    A question is written as the model's chat template writes it, and only the answer and the mark that ends it are predicted; with
    `all_tokens` the question as well. A text stands between the tokenizer's begin and end. What is longer than `length` tokens is cut off at its end.
    Raises ValueError where nothing of a document would be predicted: its question is as long as `length`.
    """
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    rows = []
    for number, document in enumerate(documents):
        if document.answer is None:
            ids = [*begin, *token_ids(tokenizer, [document.text])[0], *end]
            asked = len(begin)
        else:
            prompt, ids = token_ids(
                tokenizer,
                [ask(tokenizer, document.text), told(tokenizer, document.text, document.answer)],
            )
            pairs = zip(
                prompt, ids, strict=False
            )  # a tokenizer may merge the prompt's last sign with the answer's first
            asked = next((at for at, (one, other) in enumerate(pairs) if one != other), len(prompt))
            asked = 1 if all_tokens else asked
        ids = ids[:length]
        if len(ids) <= max(asked, 1):  # the first token is never predicted
            raise ValueError(
                f"document {number} has a question of {asked} tokens, and with length={length} nothing of its answer is left"
            )
        rows.append({"input_ids": ids, "labels": [IGNORED] * asked + ids[asked:]})
    return rows


def cut(rows: Sequence[Row], length: int) -> list[Row]:
    """The same rows, none longer than `length`: cut off at their end, or at their beginning where nothing would be left to predict."""

    def shorter(row: Row) -> Row:
        ends_late = all(label == IGNORED for label in row["labels"][1:length])
        return {name: values[-length:] if ends_late else values[:length] for name, values in row.items()}

    return [row if len(row["input_ids"]) <= length else shorter(row) for row in rows]


def pack(rows: Sequence[Row], length: int) -> list[Row]:
    """Rows put end to end, as many as fit into `length` tokens: the longest first, each where the least room is left.

    position_ids begin at 0 with each example, by which transformers tells that they do not see one another; the first token of each is not
    predicted.
    """
    order = sorted(range(len(rows)), key=lambda at: (-len(rows[at]["input_ids"]), at))
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # tokens left and the bin's number, sorted
    for at in order:
        size = len(rows[at]["input_ids"])
        place = bisect_left(room, (size, -1))
        if place == len(room):
            left, number = length, len(bins)
            bins.append([])
        else:
            left, number = room.pop(place)
        bins[number].append(at)
        insort(room, (left - size, number))
    packed = []
    for members in bins:
        row: Row = {"input_ids": [], "labels": [], "position_ids": []}
        for at in members:
            ids, labels = rows[at]["input_ids"], rows[at]["labels"]
            row["input_ids"] += ids
            row["labels"] += [IGNORED, *labels[1:]]
            row["position_ids"] += range(len(ids))
        packed.append(row)
    return packed


def collate(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """A batch, each (rows, longest) of int64: what is missing at the end is not predicted and, where nothing is packed, not seen."""
    longest = max(len(row["input_ids"]) for row in rows)

    def filled(name: str, filler: int) -> torch.Tensor:
        return torch.tensor([row[name] + [filler] * (longest - len(row[name])) for row in rows])

    batch = {"input_ids": filled("input_ids", 0), "labels": filled("labels", IGNORED)}
    if "position_ids" in rows[0]:
        padding = [list(range(longest - len(row["input_ids"]))) for row in rows]
        batch["position_ids"] = torch.tensor(
            [row["position_ids"] + more for row, more in zip(rows, padding, strict=True)]
        )
    else:
        batch["attention_mask"] = torch.tensor(
            [[int(at < len(row["input_ids"])) for at in range(longest)] for row in rows]
        )
    return batch


def arrange(rows: Sequence[Row], settings: Settings, step: int | None = None) -> list[Row]:
    """All epochs, one after the other, in the order in which they are read: shuffled anew in each, or as they were given.

    by_length: each step's examples are alike in length, so that little is padding. Some steps' worth at a time are sorted, and the steps
    shuffled. step: rows in one step of all devices; None for one device's. The order depends on the seed and on `step` alone, so that a batch
    of 8 is read in the order of two batches of 4.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    order: list[int] = []
    for _ in range(settings.epochs):
        order += (
            torch.randperm(len(rows), generator=generator).tolist() if settings.shuffled else range(len(rows))
        )
    if settings.by_length:
        steps, total = [], step or settings.total
        for at in range(0, len(order), SORTED * total):
            some = sorted(order[at : at + SORTED * total], key=lambda index: -len(rows[index]["input_ids"]))
            steps += [some[first : first + total] for first in range(0, len(some), total)]
        rest = [] if len(steps[-1]) == total else steps.pop()
        order = [
            index
            for place in torch.randperm(len(steps), generator=generator).tolist()
            for index in steps[place]
        ]
        order += rest
    return [rows[index] for index in order]
