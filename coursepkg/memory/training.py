"""Bytes of what training adds to the weights: adapters, gradients, optimizer states."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coursepkg.memory.architecture import Architecture, TensorSpec
from coursepkg.memory.catalogue import architecture
from coursepkg.memory.storage import BF16, FP32, StorageFormat, storage_format

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Lora:
    """A LoRA configuration (Hu et al. 2021): `rank`, the Linear layers it adapts, and how the adapters are stored.

    adapter: peft casts adapters of a 16-bit model up to fp32 (`autocast_adapter_dtype=True`), and so do we.
    dropout: whether lora_dropout is above zero; a mask and a copy of each input are then kept for the backward.
    tokens: rows of the embedding that are trained, too (peft's trainable_token_indices).
    """

    rank: int = 16
    targets: tuple[str, ...] = ALL_LINEAR
    adapter: StorageFormat = FP32
    dropout: bool = False
    tokens: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, not {self.rank}")
        object.__setattr__(self, "targets", tuple(self.targets))
        unknown = [t for t in self.targets if t not in ALL_LINEAR]
        if unknown or not self.targets:
            raise ValueError(f"no Linear layer {unknown}; choose at least one from {', '.join(ALL_LINEAR)}")
        if len(set(self.targets)) < len(self.targets):
            raise ValueError(f"a Linear layer stands twice in {list(self.targets)}; name each once")

    def tensors(self, model: str | Path | Architecture) -> tuple[TensorSpec, ...]:
        """The trainable tensors: for each adapted Linear (out, in) an A of (rank, in) and a B of (out, rank); rows of the embedding."""
        arch = architecture(model)
        found = []
        for i in range(arch.num_layers):
            for name in self.targets:
                out_features, in_features = arch.linears[name]
                prefix = f"layers.{i}.{name}"
                found.append(TensorSpec(f"{prefix}.lora_A", (self.rank, in_features), "linear"))
                found.append(TensorSpec(f"{prefix}.lora_B", (out_features, self.rank), "linear"))
        if self.tokens:
            found.append(TensorSpec("embed_tokens.rows", (self.tokens, arch.hidden_size), "embedding"))
        return tuple(found)

    def parameters(self, model: str | Path | Architecture) -> int:
        """Number of trainable parameters that the adapters add to `model`: rank·(in + out) for each Linear, and rows."""
        return sum(t.count for t in self.tensors(model))


def stored(tensors: Iterable[TensorSpec], fmt: StorageFormat) -> int:
    """Bytes of `tensors`, all in one format: weights, or their gradients."""
    return sum(fmt.stored_bytes(*t.shape) for t in tensors)


#: bitsandbytes pages the states of tensors with so many values or more; those of smaller ones stay on the GPU.
PAGED_FROM = 100_000


@dataclass(frozen=True)
class Optimizer:
    """What an optimizer keeps for each trainable tensor.

    states: format of each state (two moments for Adam). None stands for the dtype of the parameter itself.
    master: whether an fp32 copy of 16-bit weights is kept too (mixed precision; Micikevicius et al. 2018).
    min_size: tensors with fewer values keep their states in fp32 (bitsandbytes: 4,096).
    step_bytes: torch's own optimizers keep the step count of each tensor as a tensor of 4 bytes.
    table_bytes: bytes that the optimizer keeps once (the two 8-bit maps of bitsandbytes).
    paged: the states of tensors with PAGED_FROM values or more may move to the host's memory when the device is full. Their number is the same.
    """

    name: str
    states: tuple[StorageFormat | None, ...]
    master: bool = False
    min_size: int = 0
    step_bytes: int = 0
    table_bytes: int = 0
    paged: bool = False

    def state_bytes(self, tensors: Iterable[TensorSpec], dtype: str | StorageFormat = BF16) -> int:
        """Bytes kept for `tensors`, whose parameters are stored as `dtype`."""
        dtype, total = storage_format(dtype), self.table_bytes
        for t in tensors:
            small = t.count < self.min_size
            for state in self.states:
                total += (FP32 if small else state or dtype).stored_bytes(*t.shape)
            if self.master and dtype.bits < FP32.bits:
                total += FP32.stored_bytes(*t.shape)
            total += self.step_bytes
        return total


_BLOCKWISE_8_BIT = StorageFormat("8-bit state", 8, 256, FP32)
OPTIMIZERS: dict[str, Optimizer] = {
    o.name: o
    for o in (
        Optimizer("sgd", ()),
        Optimizer("sgd-momentum", (None,)),
        # torch.optim.AdamW keeps its moments in the dtype of the parameter: bf16 moments for bf16 parameters.
        Optimizer("adamw", (None, None), step_bytes=4),
        Optimizer("adamw-fp32", (FP32, FP32)),
        Optimizer("adamw-master", (FP32, FP32), master=True),
        # Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization": blocks of 256, an fp32 absmax each.
        Optimizer("adamw-8bit", (_BLOCKWISE_8_BIT,) * 2, min_size=4096, table_bytes=2 * 1024),
        Optimizer(
            "paged-adamw-8bit", (_BLOCKWISE_8_BIT,) * 2, min_size=4096, table_bytes=2 * 1024, paged=True
        ),
        Optimizer("paged-adamw-32bit", (FP32, FP32), paged=True),
    )
}


def optimizer(name: str | Optimizer) -> Optimizer:
    """The optimizer called `name`; an Optimizer is passed through. Raises ValueError with the known names."""
    if isinstance(name, Optimizer):
        return name
    if name not in OPTIMIZERS:
        raise ValueError(f"no optimizer {name!r}; known are {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]
