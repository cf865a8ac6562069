"""Which model a device can take, known beforehand from the memory budget; and what to give up when memory runs out all the same."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from coursepkg import memory, runtime
from coursepkg.loading import COURSE_LM
from coursepkg.memory import Budget
from coursepkg.qlora.measuring import predicted
from coursepkg.qlora.settings import COURSE, HUB, Settings

#: Models of the hub that nobody has to ask for, under Apache 2.0 (as all of Qwen2.5 but 3B and 72B), the largest first.
MODELS = (
    "Qwen/Qwen2.5-32B",
    "Qwen/Qwen2.5-14B",
    "Qwen/Qwen2.5-7B",
    "Qwen/Qwen2.5-1.5B",
    "Qwen/Qwen2.5-0.5B",
)
#: What of the free memory a budget may take: allocators lose some, and kernels want room of their own.
SHARE = 0.9
#: Examples are not cut shorter than this.
SHORTEST = 128


@dataclass(frozen=True)
class Choice:
    """A model with settings, the bytes that they will take, and why it is this one."""

    model: str
    settings: Settings
    budget: Budget
    reason: str

    def __str__(self) -> str:
        return f"{self.model}: {self.reason}\n{self.budget}"


def choose(
    settings: Settings = HUB,
    models: Sequence[str] = MODELS,
    free: int | None = None,
    hub: Any = None,
    dtype: torch.dtype | None = None,
) -> Choice:
    """The largest of the models that fits, with as much of the settings given up as that takes.

    free: bytes; None for those that the device has now. hub: what `runtime.hub` says, None to ask it where a model is to be loaded from
    there. dtype: as `predicted` takes it, for another device than this. Without a GPU, without the hub, or where nothing fits, it is the course LM, with settings of its own.
    """
    where = runtime.device()
    if free is None and where.type == "cpu":
        return _course_lm("no GPU here; a larger model would take hours on a CPU")
    if free is None:
        free = runtime.device_memory(where).free
    if any(not Path(model).is_dir() for model in models):
        hub = hub or runtime.hub()
        if not hub.reachable:
            return _course_lm(f"the model hub does not answer ({hub.reason})")
    allowed = int(SHARE * free)
    for model in models:
        given: Settings | None = settings
        what: list[str] = []
        while given is not None:
            budget = predicted(model, given, dtype=dtype)
            if budget.total <= allowed:
                changed = f", with {'; '.join(what[-1:])}" if what else ""
                room = f"{memory.in_gb(budget.total, 1)} of {memory.in_gb(free, 1)} that are free"
                return Choice(model, given, budget, f"the largest that fits: {room}{changed}")
            lowered = _lower_but_length(given)
            given = None if lowered is None else lowered[0]
            what += [] if lowered is None else [lowered[1]]
    return _course_lm(f"none of the others fits in {memory.in_gb(free, 1)}")


def lower(settings: Settings) -> tuple[Settings, str] | None:
    """What to give up next, and how to say it; None where nothing is left.

    First the batch, with more batches to a step: the same steps, a little slower. Then activations are computed again: the same steps, a
    third slower. Then examples are cut off, which loses some of what they say. (The model comes last, for it begins anew: `finetune_largest`.)
    """
    if settings.batch > 1:
        by = next(n for n in range(2, settings.batch + 1) if settings.batch % n == 0)
        given = replace(settings, batch=settings.batch // by, accumulation=settings.accumulation * by)
        return given, f"batches of {given.batch}, {given.accumulation} to a step"
    if not settings.checkpointing:
        return replace(settings, checkpointing=True), "activations computed again rather than kept"
    if settings.length >= 2 * SHORTEST:
        given = replace(settings, length=settings.length // 2)
        return given, f"examples of at most {given.length} tokens"
    return None


def _lower_but_length(settings: Settings) -> tuple[Settings, str] | None:
    """The same, but a smaller model is better than examples cut off."""
    given = lower(settings)
    return None if given is None or given[0].length < settings.length else given


def _course_lm(reason: str) -> Choice:
    return Choice(COURSE_LM, COURSE, predicted(COURSE_LM, COURSE), reason)
