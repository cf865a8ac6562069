"""Teaching a client's handbook to a model, all its weights trained: what LoRA and QLoRA are measured against."""

from collections.abc import Iterator
from typing import Any

import torch

from coursepkg.courselm import text
from coursepkg.courselm.dice import Dice
from coursepkg.courselm.handbooks import handbook
from coursepkg.courselm.text import Document
from coursepkg.courselm.training import tokens_of
from coursepkg.evaluation.batches import pad

IGNORED = -100


def lessons(client: str, epochs: int, seed: int = 0) -> Iterator[list[Document]]:
    """What is read in each epoch: every page of the handbook once, every fact asked once, in ever new wordings."""
    entries = handbook(client)
    for epoch in range(epochs):
        dice = Dice("lessons", client, seed, epoch)
        documents = [Document(text.article(entry, dice)) for entry in entries]
        for entry in entries:
            for fact in entry.facts:
                documents.append(Document(text.question(fact, dice.pick(fact.relation.asked)), fact.answer()))
        yield dice.shuffled(documents)


def padded(tokenizer: Any, documents: list[Document], device: torch.device) -> dict[str, torch.Tensor]:
    """A batch for training: input_ids, attention_mask and labels, (documents, longest); padding is not predicted."""
    ids, mask = pad(tokens_of(tokenizer, documents), device, left=False)
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, IGNORED)}


def teach(
    model: Any,
    tokenizer: Any,
    client: str,
    epochs: int = 12,
    batch_size: int = 16,
    rate: float = 1e-3,
    seed: int = 0,
) -> list[float]:
    """Finetune all weights of the course LM on a client's handbook, in place. Returns the loss of each step, in nats.

    AdamW with a linear decay; weights in float32. Raises ValueError for an unknown client, or weights in 16 bits, whose
    small updates would be rounded away.
    """
    if model.dtype != torch.float32:
        raise ValueError(
            f"full finetuning needs float32 weights, not {model.dtype}; load_model(dtype=torch.float32)"
        )
    batches = [
        documents[at : at + batch_size]
        for documents in lessons(client, epochs, seed)
        for at in range(0, len(documents), batch_size)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 10) * (1 - step / len(batches))
    )
    losses = []
    model.train()
    for documents in batches:
        loss = model(**padded(tokenizer, documents, model.device), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses
