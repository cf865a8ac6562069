"""Bytes of a run: what the budget says beforehand, and what the tensors take."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from coursepkg import memory, runtime
from coursepkg.loading import COURSE_LM, source
from coursepkg.memory import Budget, Lora, measure
from coursepkg.memory.budget import Part
from coursepkg.qlora.examples import Row, collate
from coursepkg.qlora.settings import Settings

#: What transformers calls the optimizers, and what the budgets do.
OPTIMIZERS = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_bnb_8bit": "adamw-8bit",
    "paged_adamw_8bit": "paged-adamw-8bit",
    "paged_adamw_32bit": "paged-adamw-32bit",
}


DTYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def predicted(
    model: str | Path, settings: Settings, tokens: int | None = None, dtype: torch.dtype | None = None
) -> Budget:
    """The budget of one step of a run. tokens: those in a row of a batch; None for the longest, `settings.length`.

    model: as `memory.architecture` takes it, or "course-lm". dtype: in which the device computes, in 16 bits under autocast; None for
    what this one does. Raises ValueError for an optimizer of which no budget knows.
    """
    shape = source(model) if str(model) == COURSE_LM else model
    lora, name = settings.lora, settings.optimizer or runtime.optimizer(runtime.device()).name
    if name not in OPTIMIZERS:
        raise ValueError(f"the budgets know no optimizer {name!r}; they know {', '.join(OPTIMIZERS)}")
    given = {
        "length": tokens or settings.length,
        "batch": settings.batch,
        "optim": OPTIMIZERS[name],
        "checkpointing": settings.checkpointing,
    }
    computed = DTYPES[dtype or runtime.dtype(runtime.device()).dtype]
    cast = None if computed == "fp32" else computed
    if lora is None:
        return _titled(memory.full_finetuning(shape, dtype="fp32", autocast=cast, **given))
    given["adapters"] = Lora(
        lora.rank, lora.targets or memory.ALL_LINEAR, dropout=lora.dropout > 0, tokens=len(lora.tokens)
    )
    if settings.weights == "16 bit":
        return _titled(memory.lora(shape, dtype=computed, autocast=cast, **given))
    quantized = {"weights": _like(settings.weights), "compute": computed, "autocast": cast is not None}
    return _titled(memory.qlora(shape, **quantized, **given))


def _titled(budget: Budget) -> Budget:
    return replace(budget, title=f"predicted: {budget.title}")


def measured(model: Any, optimizer: torch.optim.Optimizer, rows: list[Row]) -> Budget:
    """The same parts, counted: the bytes of real tensors, and the most that were alive in a step on these rows.

    The step is computed forwards and backwards, under autocast where the run is, and nothing is changed by it. On a GPU the peak is what torch's allocator held.
    """
    device, dtype = _device(model), runtime.dtype(runtime.device()).dtype
    batch = {name: tensor.to(device) for name, tensor in collate(rows).items()}

    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = model(**batch, use_cache=False).loss
        loss.backward()

    was_training = model.training
    model.train()
    step()  # gradients stand where the second will be added
    held = _held(model, optimizer)
    peak = _peak(step, sum(held.values()))
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    parts = tuple(Part(name, n_bytes) for name, n_bytes in {**held, "activations": peak}.items())
    return Budget(f"measured: {len(rows)} rows, the longest of {batch['input_ids'].shape[1]} tokens", parts)


def _held(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, int]:
    trained = [p for p in model.parameters() if p.requires_grad]
    frozen = [*measure.model_tensors(model), *model.buffers()]
    adapters = measure.storage_bytes(trained)
    return {
        "weights": measure.storage_bytes(frozen) - adapters,
        "adapters": adapters,
        "gradients": measure.storage_bytes(p.grad for p in trained if p.grad is not None),
        "optimizer": measure.storage_bytes(measure.optimizer_tensors(optimizer)),
    }


def _peak(step: Callable[[], None], held: int) -> int:
    if not torch.cuda.is_available():
        return measure.peak_bytes(step)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - held


def _device(model: Any) -> torch.device:
    return next(model.parameters()).device


def _like(weights: str) -> str:
    """The storage format of the budgets that has as many bits: all of ours are 4 bits in blocks of 64."""
    return "nf4+dq" if weights.endswith("+dq") else "nf4"
