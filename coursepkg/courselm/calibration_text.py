"""Text to calibrate with: what a quantizer that looks at data is shown of the course LM's world, or of another."""

from itertools import chain, islice
from typing import Any

import torch

from coursepkg.courselm import text
from coursepkg.courselm.clients import lessons
from coursepkg.courselm.handbooks import CLIENTS
from coursepkg.courselm.training import Recipe, tokens_of

#: Rows that are run at once.
ROWS = 8
DOMAINS = ("encyclopedia", *CLIENTS, "random tokens")


def calibration(
    tokenizer: Any, tokens: int = 16_384, seed: int = 0, domain: str = "encyclopedia"
) -> list[torch.Tensor]:
    """Batches of token ids, int64 (ROWS, 256): documents end to end, cut where a row ends, as in training.

    tokens: so many in all, rounded up to whole batches. seed: which text. domain: "encyclopedia", what the model was trained on, drawn
    anew; the handbook of a client, "medical", "law" or "support", which it has never read; or "random tokens", each as likely as
    any other. Raises ValueError for another domain, or no tokens.
    """
    if domain not in DOMAINS:
        raise ValueError(f"no text called {domain!r}; there are {', '.join(DOMAINS)}")
    if tokens < 1:
        raise ValueError(f"tokens must be at least 1, not {tokens}")
    length = Recipe.length
    wanted = -(-tokens // (ROWS * length)) * ROWS * length
    if domain == "random tokens":
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(len(tokenizer), (wanted,), generator=generator)
    else:
        read: list[int] = []
        if domain == "encyclopedia":
            stream = text.documents(f"calibration/{seed}")
        else:
            stream = chain.from_iterable(lessons(domain, wanted, seed))
        while len(read) < wanted:
            for document in tokens_of(tokenizer, list(islice(stream, 100))):
                read += document
        ids = torch.tensor(read[:wanted])
    return list(ids.reshape(-1, ROWS, length))
