"""Where the bytes go: one call for inference, full finetuning, LoRA and QLoRA, each giving a `Budget`."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from coursepkg.memory.activation import activations
from coursepkg.memory.architecture import Architecture
from coursepkg.memory.catalogue import architecture
from coursepkg.memory.devices import DEVICES, Device
from coursepkg.memory.serving import kv_cache_bytes, prefill_bytes, weight_bytes
from coursepkg.memory.storage import BF16, FP32, NF4_DQ, StorageFormat, storage_format
from coursepkg.memory.training import Lora, Optimizer, optimizer, stored
from coursepkg.memory.units import in_gb, in_gib


@dataclass(frozen=True)
class Part:
    """One named share of a budget, in bytes."""

    name: str
    n_bytes: int


@dataclass(frozen=True)
class Fit:
    """Whether a budget fits on a device, and the bytes to spare (negative: the bytes that are missing)."""

    device: Device
    spare: int

    @property
    def fits(self) -> bool:
        return self.spare >= 0


@dataclass(frozen=True)
class Budget:
    """The memory that a task needs, part by part. Stored bytes; the device's own context is not in it."""

    title: str
    parts: tuple[Part, ...]

    @property
    def total(self) -> int:
        """Bytes of all parts together."""
        return sum(part.n_bytes for part in self.parts)

    def __getitem__(self, name: str) -> int:
        """Bytes of the part called `name`; KeyError with the names there are."""
        for part in self.parts:
            if part.name == name:
                return part.n_bytes
        raise KeyError(f"no part {name!r} in this budget; it has {', '.join(p.name for p in self.parts)}")

    def fits_on(self, devices: Sequence[Device] = DEVICES) -> tuple[Fit, ...]:
        """For each device whether the total fits in what it has left for tensors."""
        return tuple(Fit(d, d.usable - self.total) for d in devices)

    def __str__(self) -> str:
        rows = [(p.name, p.n_bytes) for p in self.parts] + [("total", self.total)]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {in_gb(n):>12}  {in_gib(n):>13}" for name, n in rows]
        return "\n".join([self.title, *lines])


def inference(
    model: str | Path | Architecture,
    context: int = 2048,
    batch: int = 1,
    weights: str | StorageFormat = BF16,
    cache: str | StorageFormat | None = None,
) -> Budget:
    """Budget of generating text: weights, the KV cache at `context` tokens, and the prompt's intermediate tensors.

    cache: format of the KV cache; None stands for the dtype that is computed in: that of the weights, or bf16 where
    they are quantized.
    """
    arch, fmt = architecture(model), storage_format(weights)
    dtype = BF16 if fmt.scale is not None else fmt
    parts = (
        Part("weights", weight_bytes(arch, fmt)),
        Part("KV cache", kv_cache_bytes(arch, context, batch, dtype if cache is None else cache)),
        Part("activations", prefill_bytes(arch, context, batch, dtype)),
    )
    return Budget(f"{arch.name}, inference in {fmt.name}, batch {batch}, context {context}", parts)


def full_finetuning(
    model: str | Path | Architecture,
    length: int = 512,
    batch: int = 1,
    dtype: str | StorageFormat = BF16,
    optim: str | Optimizer = "adamw-fp32",
    checkpointing: bool = True,
    autocast: str | StorageFormat | None = None,
) -> Budget:
    """Budget of training every parameter.

    dtype: of weights, gradients and activations. optim: see `OPTIMIZERS`; "adamw-fp32" keeps two fp32 moments,
    "adamw-master" an fp32 copy of the weights as well. Gradients stand in it whole, as they do from the second
    micro-batch of an accumulated step on. autocast: see `activations`.
    """
    arch, fmt, opt = architecture(model), storage_format(dtype), optimizer(optim)
    if fmt.scale is not None:
        raise ValueError(
            f"full finetuning trains the weights themselves, and {fmt.name} has no gradients; use lora or qlora"
        )
    parts = (
        Part("weights", weight_bytes(arch, fmt)),
        Part("gradients", stored(arch.tensors, fmt)),
        Part("optimizer", opt.state_bytes(arch.tensors, fmt)),
        Part("activations", activations(arch, length, batch, fmt, None, checkpointing, autocast).peak),
    )
    return Budget(
        f"{arch.name}, full finetuning in {fmt.name} with {opt.name}, batch {batch}, length {length}", parts
    )


def lora(
    model: str | Path | Architecture,
    length: int = 512,
    batch: int = 1,
    adapters: Lora | None = None,
    dtype: str | StorageFormat = BF16,
    optim: str | Optimizer = "adamw",
    checkpointing: bool = True,
    autocast: str | StorageFormat | None = None,
) -> Budget:
    """Budget of LoRA on frozen weights in `dtype` (Hu et al. 2021): only the adapters have gradients and states.

    autocast: see `activations`.
    """
    arch, fmt, adapters = architecture(model), storage_format(dtype), adapters or Lora()
    if fmt.scale is not None:
        raise ValueError(f"LoRA on {fmt.name} weights is QLoRA; use qlora(…, weights={fmt.name!r})")
    return Budget(
        f"{arch.name}, LoRA r={adapters.rank} on {fmt.name}, batch {batch}, length {length}",
        (
            Part("weights", weight_bytes(arch, fmt)),
            *_adapter_parts(arch, adapters, optim),
            Part(
                "activations",
                activations(arch, length, batch, fmt, adapters, checkpointing, autocast).peak
                + _copy(arch, adapters, fmt),
            ),
        ),
    )


def qlora(
    model: str | Path | Architecture,
    length: int = 512,
    batch: int = 1,
    adapters: Lora | None = None,
    weights: str | StorageFormat = NF4_DQ,
    optim: str | Optimizer = "paged-adamw-8bit",
    checkpointing: bool = True,
    prepared: bool = True,
    compute: str | StorageFormat = BF16,
    autocast: bool = False,
) -> Budget:
    """Budget of QLoRA (Dettmers et al. 2023): frozen quantized Linear weights (4-bit NF4 by default), adapters beside them.

    prepared: whether peft's `prepare_model_for_kbit_training` was called. It casts what is not quantized (embeddings,
    norms, head) up to fp32, and the residual stream with it; without it both stay in bf16.
    The activations hold one weight matrix, dequantized to `compute` for its matrix product. autocast: whether all else is computed in
    `compute`, too, as trainers do on a GPU.
    """
    arch, fmt, adapters = architecture(model), storage_format(weights), adapters or Lora()
    if fmt.scale is None:
        raise ValueError(
            f"qlora needs a quantized format such as nf4+dq, not {fmt.name}; for 16-bit weights use lora"
        )
    stream = FP32 if prepared else BF16
    dequantized = max(storage_format(compute).nominal_bytes(prod(shape)) for shape in arch.linears.values())
    cast = compute if autocast else None
    peak = activations(arch, length, batch, stream, adapters, checkpointing, cast).peak
    return Budget(
        f"{arch.name}, QLoRA r={adapters.rank} on {fmt.name}, batch {batch}, length {length}",
        (
            Part("weights", weight_bytes(arch, fmt, stream)),
            *_adapter_parts(arch, adapters, optim),
            Part("activations", peak + dequantized + (0 if autocast else _copy(arch, adapters, stream))),
        ),
    )


def _copy(arch: Architecture, adapters: Lora, fmt: StorageFormat) -> int:
    """The embedding's copy that trained rows are written into, and that the tied head reads. (Autocast's own copy takes its place.)"""
    return fmt.nominal_bytes(arch.vocab_size * arch.hidden_size) if adapters.tokens else 0


def _adapter_parts(arch: Architecture, adapters: Lora, optim: str | Optimizer) -> tuple[Part, ...]:
    tensors = adapters.tensors(arch)
    n_bytes = stored(tensors, adapters.adapter)
    return (
        Part("adapters", n_bytes),
        Part("gradients", n_bytes),
        Part("optimizer", optimizer(optim).state_bytes(tensors, adapters.adapter)),
    )
