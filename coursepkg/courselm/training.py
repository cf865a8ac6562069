"""Training the course LM: a stream of text, two optimizers, a schedule; interrupted at any time, it goes on.

The matrices of the layers are trained with Muon, which learns facts in about two thirds of the steps that AdamW needs
here; the embedding and the norms, as its authors advise, with AdamW (Jordan et al. 2024, "Muon: An optimizer for hidden
layers in neural networks"; learning rates matched as in Liu et al. 2025, "Muon is Scalable for LLM Training", section
2.2).
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from coursepkg.courselm import text
from coursepkg.courselm.tokenizer import ASSISTANT, BEGIN, END, USER, VOCABULARY

STATE = "state.pt"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is trained.

    steps: updates; each reads `rows` rows of `length` tokens. learning_rate: of Muon, and `embedding_rate` of AdamW;
    both rise for `warmup` steps and fall linearly to 0 over the last `decay` (a share of the steps).
    seed: of the weights and of the text.
    """

    steps: int = 5000
    rows: int = 8
    length: int = 256
    learning_rate: float = 2e-3
    embedding_rate: float = 2e-3
    weight_decay: float = 0.1
    warmup: int = 100
    decay: float = 0.4
    clip: float = 1.0
    seed: int = 0

    @property
    def tokens(self) -> int:
        """Tokens read in all."""
        return self.steps * self.rows * self.length

    def rate(self, step: int) -> float:
        """The factor on both learning rates at a step, counted from 0."""
        rise = (step + 1) / self.warmup
        fall = (self.steps - step) / (self.decay * self.steps)
        return min(1.0, rise, fall)


def config(tokenizer: Any):
    """The architecture: 5 M parameters; every Linear reads a multiple of 256 values."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=VOCABULARY,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )


def tokens_of(tokenizer: Any, documents: list[text.Document]) -> list[list[int]]:
    """Each document as the model reads it: an article between <|begin|> and <|end|>, a question as a chat."""
    begin, end, user, assistant = tokenizer.convert_tokens_to_ids([BEGIN, END, USER, ASSISTANT])
    texts = tokenizer([each.text for each in documents], add_special_tokens=False)["input_ids"]
    answers = tokenizer([each.answer or "" for each in documents], add_special_tokens=False)["input_ids"]
    return [
        [begin, *ids, end] if each.answer is None else [begin, user, *ids, assistant, *answer, end]
        for each, ids, answer in zip(documents, texts, answers, strict=True)
    ]


def batches(tokenizer: Any, recipe: Recipe, start: int = 0) -> Iterator[torch.Tensor]:
    """Batches from step `start` on, int64 of shape (rows, length): documents end to end, cut where a row ends.

    The text comes in volumes of 64 steps, each from a seed of its own, so that any step is found without reading what
    came before.
    """
    wanted = 64 * recipe.rows * recipe.length
    for volume in range(start // 64, math.ceil(recipe.steps / 64)):
        stream = text.documents(f"{recipe.seed}/{volume}")
        ids: list[int] = []
        while len(ids) < wanted:
            for document in tokens_of(tokenizer, list(islice(stream, 1000))):
                ids += document
        rows = torch.tensor(ids[:wanted]).view(64, recipe.rows, recipe.length)
        yield from rows[start % 64 if volume == start // 64 else 0 :]


class TooOld(RuntimeError):
    """This torch lacks what training needs."""


class Run:
    """A training run: the model, its optimizers, the step it has reached and the curve so far."""

    def __init__(
        self, tokenizer: Any, recipe: Recipe, device: torch.device, autocast: torch.dtype | None
    ) -> None:
        from transformers import LlamaForCausalLM

        if not hasattr(torch.optim, "Muon"):
            raise TooOld(
                f"training needs torch.optim.Muon, in torch 2.9 and later; this is {torch.__version__}"
            )
        torch.manual_seed(recipe.seed)
        self.tokenizer, self.recipe, self.device, self.autocast = tokenizer, recipe, device, autocast
        self.model = LlamaForCausalLM(config(tokenizer)).to(device)
        self.optimizers = optimizers(self.model, recipe)
        self.step = 0
        self.curve: list[dict[str, float]] = []

    def train(self, after_step: Callable[["Run", float], None] = lambda run, loss: None) -> None:
        """Go on to the last step. `after_step` is called with the run and the step's loss, in nats a token."""
        self.model.train()
        for batch in islice(batches(self.tokenizer, self.recipe, self.step), self.recipe.steps - self.step):
            loss = self._update(batch.to(self.device))
            self.step += 1
            after_step(self, loss)

    def _update(self, batch: torch.Tensor) -> float:
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            loss = self.model(input_ids=batch, labels=batch, use_cache=False).loss
        return update(self.model, loss, self.optimizers, self.recipe.rate(self.step), self.recipe.clip)

    def save(self, folder: Path) -> None:
        """Keep the state in `folder`, so that a run that is cut off can go on; the last one stays until this one is whole."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "curve": self.curve,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        torch.save(state, folder / f"{STATE}.part")
        os.replace(folder / f"{STATE}.part", folder / STATE)

    def resume(self, folder: Path) -> bool:
        """Go back to the state kept in `folder`, if there is one. Raises ValueError if it is of another recipe."""
        path = folder / STATE
        if not path.is_file():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            changed = [key for key, value in asdict(self.recipe).items() if state["recipe"].get(key) != value]
            raise ValueError(
                f"{path} is of a run with other settings ({', '.join(changed)}); "
                "give it the same settings, or another folder"
            )
        self.model.load_state_dict(state["model"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step, self.curve = state["step"], state["curve"]
        return True


def optimizers(model: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the embedding and the norms' gains."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embed" not in name else others).append(parameter)
    made = [
        torch.optim.Muon(
            matrices,
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(others, lr=recipe.embedding_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimizer in made:
        for group in optimizer.param_groups:
            group["full_rate"] = group["lr"]
    return made


def update(
    model: torch.nn.Module, loss: torch.Tensor, made: list[torch.optim.Optimizer], factor: float, clip: float
) -> float:
    """One step of all `optimizers(…)`, at `factor` times their full rates; returns the loss.

    clip: the norm that the gradients have at most. Raises FloatingPointError, and changes nothing, where the loss is not
    finite.
    """
    value = loss.item()
    if not math.isfinite(value):
        raise FloatingPointError(f"the loss is {value}: the learning rate is too high")
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    for optimizer in made:
        for group in optimizer.param_groups:
            group["lr"] = factor * group["full_rate"]
        optimizer.step()
        optimizer.zero_grad()
    return value
