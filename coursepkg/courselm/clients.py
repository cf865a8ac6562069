"""What finetuning is to teach: a client's handbook, in ever new wordings; and adapters that have learnt theirs."""

from collections.abc import Iterator
from pathlib import Path

from coursepkg.chat import Document
from coursepkg.courselm import text
from coursepkg.courselm.dice import Dice
from coursepkg.courselm.handbooks import CLIENTS, handbook


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


def adapter(client: str) -> Path:
    """The folder of an adapter that ships with the course and knows a client's handbook: "medical" or "support". In peft's format.

    Made by `coursepkg finetune FOLDER --client CLIENT --weights "16 bit" --library coursepkg --rank 8 --alpha 16 --no-checkpointing --length 64` (for "support" with
    `--epochs 45`), rounded to fp16. Raises
    ValueError for another name.
    """
    folder = Path(__file__).with_name("adapters") / client
    if client not in CLIENTS or not folder.is_dir():
        raise ValueError(f"no adapter for {client!r} ships with the course; there are medical and support")
    return folder
