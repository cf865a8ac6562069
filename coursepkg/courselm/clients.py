"""What finetuning is to teach: a client's handbook, in ever new wordings."""

from collections.abc import Iterator

from coursepkg.chat import Document
from coursepkg.courselm import text
from coursepkg.courselm.dice import Dice
from coursepkg.courselm.handbooks import handbook


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
