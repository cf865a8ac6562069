"""LoRA: beside a frozen Linear layer two small matrices learn what is to be added to it.

y = x Wᵀ + b + α/r · (x Aᵀ) Bᵀ, with A (rank, in_features) and B (out_features, rank). B begins at 0, so that the first step starts from the
model as it was.

Source: Hu et al. 2021, "LoRA", section 4.1, equation 3. Scaling by α/√r: Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for
Fine-Tuning with LoRA". The order of operations and the first values of A are those of the library peft, bit for bit.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from coursepkg.quantized_linear import QuantizedLinear


@dataclass(frozen=True)
class LoraConfig:
    """How a layer is adapted.

    rank: r, columns of B. alpha: the adapter's output is multiplied by alpha / rank, or with `rank_stabilized` by alpha / √rank.
    dropout: the share of the adapter's inputs that a training step leaves out. targets: the last parts of the names of the layers that are
    adapted ("q_proj"), or whole names; None for every Linear layer but the head. tokens: those whose rows of the embedding are trained as well.
    Raises ValueError for a rank below 1, a dropout that is not in [0, 1), and for no targets.
    """

    rank: int = 16
    alpha: float = 16
    dropout: float = 0.0
    rank_stabilized: bool = False
    targets: tuple[str, ...] | None = None
    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"the rank must be at least 1, not {self.rank}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share from 0 to below 1, not {self.dropout}")
        if isinstance(self.targets, str):
            raise ValueError(f"targets is a tuple of names: ({self.targets!r},)")
        object.__setattr__(self, "tokens", tuple(int(token) for token in self.tokens))
        if self.targets is not None:
            object.__setattr__(self, "targets", tuple(self.targets))
            if not self.targets:
                raise ValueError("targets names no layer; None adapts all of them")

    @property
    def scaling(self) -> float:
        """What the product B A is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)


class LoraLinear(torch.nn.Module):
    """A Linear layer, or a QuantizedLinear, with adapters beside it, each under a name; those that are active are added.

    base_layer: frozen, computes x Wᵀ + b. An adapter's A and B are the weights of `lora_A[name]` and `lora_B[name]`, float32 where the layer
    is in 16 bits, so that small updates are not rounded away. The output has the dtype of the base layer's.
    """

    def __init__(self, base_layer: torch.nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer.requires_grad_(False)
        self.in_features, self.out_features = base_layer.in_features, base_layer.out_features
        self.lora_A, self.lora_B = torch.nn.ModuleDict(), torch.nn.ModuleDict()
        self.lora_dropout = torch.nn.ModuleDict()
        self.configs: dict[str, LoraConfig] = {}
        self.active: tuple[str, ...] = ()
        self.merged: tuple[str, ...] = ()
        self._unmerged: dict[str, torch.Tensor] | None = None

    def add(self, name: str, config: LoraConfig) -> None:
        """Put an adapter beside the layer: A drawn as torch draws a Linear layer's weight (uniform, ±1/√in_features), B = 0.

        Beside a layer in 16 bits A's first values are rounded to its dtype, as peft's are. It becomes the active one. Raises ValueError where the name is taken, or holds a dot.
        """
        check_name(name, self.configs)
        first = torch.nn.Linear(self.in_features, config.rank, bias=False)
        second = torch.nn.Linear(config.rank, self.out_features, bias=False)
        torch.nn.init.kaiming_uniform_(first.weight, a=math.sqrt(5))
        torch.nn.init.zeros_(second.weight)
        held = [*self.base_layer.buffers(), *self.base_layer.parameters()]
        device = held[0].device
        if isinstance(self.base_layer, torch.nn.Linear) and self.base_layer.weight.is_floating_point():
            first = first.to(self.base_layer.weight.dtype).float()
        self.lora_A[name], self.lora_B[name] = first.to(device), second.to(device)
        self.lora_dropout[name] = torch.nn.Dropout(config.dropout) if config.dropout else torch.nn.Identity()
        self.configs[name] = config
        self.activate(name)

    def activate(self, *names: str) -> None:
        """Make these adapters, and no others, the ones that are added and trained. Raises KeyError for a name that is none, and
        RuntimeError while adapters are merged."""
        for name in names:
            if name not in self.configs:
                raise KeyError(f"no adapter {name!r}; there are {', '.join(self.configs) or 'none'}")
        if self.merged:
            raise RuntimeError(f"{', '.join(self.merged)} is merged into the weight; unmerge it first")
        self.active = names
        for name in self.configs:
            self.lora_A[name].requires_grad_(name in names)
            self.lora_B[name].requires_grad_(name in names)

    @torch.no_grad()
    def delta(self, name: str) -> torch.Tensor:
        """ΔW = scaling · B A of an adapter, (out_features, in_features), in the dtype of A; computed in float32 on a CPU."""
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        if a.device.type == "cpu" and a.dtype in (torch.float16, torch.bfloat16):
            return (b.float() @ a.float() * self.configs[name].scaling).to(a.dtype)
        return b @ a * self.configs[name].scaling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = self.base_layer(x)
        if self.merged:
            return result
        dtype = result.dtype
        for name in self.active:
            x = x.to(self.lora_A[name].weight.dtype)
            change = self.lora_B[name](self.lora_A[name](self.lora_dropout[name](x)))
            result = result + change * self.configs[name].scaling
        return result.to(dtype)

    @torch.no_grad()
    def merge(self) -> None:
        """Add ΔW of the active adapters to the weight, in place; the layer then costs what it did without them.

        In 16 bits the sum is rounded, and changes much smaller than the weight are lost. A QuantizedLinear's weight is read back, changed
        and quantized again. Raises TypeError for other layers whose weight is packed, and ValueError where the sum is not finite; nothing
        is changed then.
        """
        if self.merged or not self.active:
            return
        base = self.base_layer
        if isinstance(base, QuantizedLinear):
            weight = base.dequantize()
            for name in self.active:
                weight += self.delta(name)
            _finite(weight)
            kept = base.stored
            base.put(base.kind.quantize(weight))
            self._unmerged = kept
        elif type(base) is torch.nn.Linear:
            weight = base.weight.clone()
            for name in self.active:
                weight += self.delta(name)
            _finite(weight)
            base.weight.data = weight
        else:
            raise TypeError(f"the weight of a {type(base).__name__} is not one to add to; merge it with peft")
        self.merged = self.active

    @torch.no_grad()
    def unmerge(self) -> None:
        """Undo `merge`: exactly for a QuantizedLinear; for a Linear layer ΔW is subtracted, which leaves the rounding of two sums."""
        if self._unmerged is not None:
            now = self.base_layer.stored
            self.base_layer.put({name: t.to(now[name].device) for name, t in self._unmerged.items()})
            self._unmerged = None
        else:
            weight = self.base_layer.weight
            for name in reversed(self.merged):
                weight.data -= self.delta(name).to(weight.dtype)
        self.merged = ()

    def extra_repr(self) -> str:
        return f"adapters: {', '.join(self.configs) or 'none'}; active: {', '.join(self.active) or 'none'}"


def check_name(name: str, taken: Iterable[str]) -> None:
    """Raises ValueError where an adapter cannot be called so."""
    if name in taken or not name or "." in name:
        raise ValueError(f"{name!r} cannot be an adapter's name: it is taken, empty, or holds a dot")


def _finite(weight: torch.Tensor) -> None:
    if not torch.isfinite(weight).all():
        raise ValueError("the merged weight is not finite: the adapter is broken, or the dtype too narrow")
