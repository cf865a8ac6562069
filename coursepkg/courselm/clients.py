"""Teaching a client's handbook to a model, all its weights trained: what LoRA and QLoRA are measured against."""

from collections.abc import Iterator
from typing import Any

import torch

from coursepkg.courselm import text
from coursepkg.courselm.dice import Dice
from coursepkg.courselm.handbooks import handbook
from coursepkg.courselm.text import Document
from coursepkg.courselm.training import Recipe, optimizers, tokens_of, update
from coursepkg.evaluation.batches import pad

IGNORED = -100
WARMUP = 10


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
    epochs: int = 22,
    batch_size: int = 8,
    rate: float = 2e-3,
    seed: int = 0,
) -> list[float]:
    """Finetune all weights of the course LM on a client's handbook, in place. Returns the loss of each step, in nats.

    With the optimizers that trained it, both at `rate`, which falls linearly to 0. Batches hold pages or questions, not
    both, so that little of them is padding. Raises ValueError for an unknown client, and for weights in 16 bits, whose
    small updates would be rounded away; FloatingPointError where the loss is not finite.
    """
    if model.dtype != torch.float32:
        raise ValueError(
            f"full finetuning needs float32 weights, not {model.dtype}; load_model(dtype=torch.float32)"
        )
    batches = [
        batch
        for number, documents in enumerate(lessons(client, epochs, seed))
        for batch in Dice("batches", seed, number).shuffled(_batches(documents, batch_size))
    ]
    recipe = Recipe(steps=len(batches), learning_rate=rate, embedding_rate=rate, warmup=WARMUP, decay=1.0)
    made = optimizers(model, recipe)
    losses = []
    model.train()
    for step, documents in enumerate(batches):
        loss = model(**padded(tokenizer, documents, model.device), use_cache=False).loss
        losses.append(update(model, loss, made, recipe.rate(step), recipe.clip))
    model.eval()
    return losses


def _batches(documents: list[Document], batch_size: int) -> list[list[Document]]:
    """The pages in batches, then the questions."""
    kinds = [[d for d in documents if (d.answer is None) == page] for page in (True, False)]
    return [kind[at : at + batch_size] for kind in kinds for at in range(0, len(kind), batch_size)]
