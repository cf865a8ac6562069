"""Calibration: running text through a model, and keeping of each Linear layer's inputs what a method needs.

`observe` watches the model as it is. `layer_by_layer` quantizes on the way: one decoder layer at a time, whose inputs come from the
layers before it as they are by then, rounded (Frantar et al. 2023, GPTQ, section 4, "Setup"). Only that layer, and the
hidden states of the text, need be in fast memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import send_to_device

from coursepkg import surgery

#: Rows of inputs that are kept, where a method looks at some.
SAMPLE = 512


class Inputs:
    """What the inputs x of a Linear layer were, token after token.

    absmax: the largest magnitude of each feature, float32 (in_features,). mean_abs: the mean magnitude, likewise.
    gram: Σ xᵀ x, float32 (in_features, in_features), or None where it was not asked for. sample: some of the inputs, evenly
    spread over the tokens, float32 (at most SAMPLE, in_features). tokens: how many were seen.
    """

    def __init__(self, features: int, device: torch.device, gram: bool = True) -> None:
        self.tokens = 0
        self.absmax = torch.zeros(features, dtype=torch.float32, device=device)
        self.total = torch.zeros(features, dtype=torch.float32, device=device)
        self.gram = torch.zeros(features, features, dtype=torch.float32, device=device) if gram else None
        self._kept: list[torch.Tensor] = []
        self._every = 1

    def add(self, x: torch.Tensor) -> None:
        """See some more inputs, (…, in_features)."""
        rows = x.detach().reshape(-1, x.shape[-1]).float()
        if not len(rows):
            return
        magnitudes = rows.abs()
        self.absmax = torch.maximum(self.absmax, magnitudes.amax(0))
        self.total += magnitudes.sum(0)
        if self.gram is not None:
            self.gram.addmm_(rows.T, rows)
        self._sample(rows)
        self.tokens += len(rows)

    @property
    def mean_abs(self) -> torch.Tensor:
        return self.total / max(1, self.tokens)

    @property
    def sample(self) -> torch.Tensor:
        return torch.cat(self._kept)

    def _sample(self, rows: torch.Tensor) -> None:
        """Keep every n-th token; where they become too many, every second of these."""
        first = -self.tokens % self._every
        self._kept.append(rows[first :: self._every].clone())
        while sum(map(len, self._kept)) > SAMPLE:
            self._every *= 2
            self._kept = [self.sample[::2].clone()]


@contextmanager
def watching(
    linears: Iterable[tuple[str, torch.nn.Linear]], gram: bool = True
) -> Iterator[dict[str, Inputs]]:
    """Inputs of Linear layers, by name, of all that runs inside the `with` block.

    Layers that read the same tensor one after the other (q, k and v; gate and up) share one Inputs, which is filled once.
    A layer that is not run has none.
    """
    found: dict[str, Inputs] = {}
    last: list[Any] = [None, None]  # the tensor that was read last, and its Inputs

    def look(name: str) -> Callable:
        def hook(module: torch.nn.Linear, given: tuple) -> None:
            x = given[0]
            if x is last[0]:
                found.setdefault(name, last[1])
                return
            if name not in found:
                found[name] = Inputs(module.in_features, x.device, gram)
            found[name].add(x)
            last[:] = x, found[name]

        return hook

    hooks = [layer.register_forward_pre_hook(look(name)) for name, layer in linears]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def observe(model: Any, batches: Iterable[torch.Tensor], gram: bool = True) -> dict[str, Inputs]:
    """Inputs of every Linear layer of a causal LM (but its head) over some text, the model as it is.

    batches: token ids, int64 (sequences, length), without padding. gram: whether to keep the Gram matrices, which take most of the
    time and memory. Raises ValueError where there are no batches.
    """
    with watching(surgery.linears(model), gram) as found:
        for ids in batches:
            model(input_ids=ids.to(model.device), use_cache=False)
    if not found:
        raise ValueError("no text to calibrate with: batches is empty")
    return found


Quantize = Callable[[str, torch.nn.Linear, Inputs], torch.nn.Module | None]


@torch.no_grad()
def layer_by_layer(
    model: Any,
    batches: Sequence[torch.Tensor],
    quantize: Quantize,
    device: torch.device | str | None = None,
    before: Callable[[str, torch.nn.Module], None] = lambda name, layer: None,
) -> None:
    """Quantize a causal LM in place, each layer with the inputs that the quantized layers before it give.

    batches: as in `observe`. quantize: given a Linear layer's name, the layer, and its Inputs over all batches, the layer to put in
    its place, or None to leave it. Within a decoder layer those that read the same tensor are quantized together, in the order in which
    they run, and what comes later reads what they give then.
    device: where a decoder layer goes while it is worked on, by default where it is; the hidden states wait where the model is.
    before: called with each decoder layer's name and the layer before its turn, say to fill it from a file.
    Raises ValueError where there is no text, and with the name of a layer that no text reaches.
    """
    layers = surgery.decoder_layers(model)
    if not batches:
        raise ValueError("no text to calibrate with: batches is empty")
    states, arguments = _recorded(model, [layer for _, layer in layers], batches)
    for (name, layer), named in zip(layers, arguments, strict=True):
        before(name, layer)
        home = next(layer.parameters()).device
        running = _Running(name, layer.to(device or home), states, named, device or home)
        for group in running.groups():
            with watching(group.items()) as inputs:
                for _ in running.outputs():
                    pass
            for each, linear in group.items():
                made = quantize(each, linear, inputs[each])
                if made is not None:
                    layer.set_submodule(each.removeprefix(f"{name}."), made)
        states = list(running.outputs())
        layer.to(home)


@dataclass
class _Running:
    """A decoder layer with what it is given for each batch: hidden states (sequences, length, hidden), and the rest by name."""

    name: str
    layer: torch.nn.Module
    states: list[torch.Tensor]
    named: list[dict[str, Any]]
    device: torch.device | str

    def outputs(self) -> Iterator[torch.Tensor]:
        """What the layer makes of each batch, where its hidden states are."""
        for state, named in zip(self.states, self.named, strict=True):
            given, others = send_to_device((state, named), self.device)
            yield self.layer(given, **others).to(state.device)

    def groups(self) -> list[dict[str, torch.nn.Linear]]:
        """Its Linear layers by name, in the order in which they run, those together that read the same tensor."""
        names = {module: f"{self.name}.{each}" for each, module in surgery.linears(self.layer)}
        found: list[dict[str, torch.nn.Linear]] = []
        read: list[torch.Tensor | None] = [None]

        def look(module: torch.nn.Linear, given: tuple) -> None:
            if given[0] is not read[0]:
                found.append({})
            read[0] = given[0]
            found[-1][names[module]] = module

        hooks = [module.register_forward_pre_hook(look) for module in names]
        try:
            next(self.outputs())
        finally:
            for hook in hooks:
                hook.remove()
        reached = {name for group in found for name in group}
        if missing := [name for name in names.values() if name not in reached]:
            raise ValueError(
                f"the text to calibrate with reaches no {', '.join(missing)}; use more, or other text"
            )
        return found


def _recorded(
    model: Any, layers: list[torch.nn.Module], batches: Sequence[torch.Tensor]
) -> tuple[list[torch.Tensor], list[list[dict[str, Any]]]]:
    """The hidden states that enter the first decoder layer, for each batch; and for each layer and batch what else it is given.

    While this is found out, each decoder layer passes on what it gets.
    """
    states: list[torch.Tensor] = []
    arguments: list[list[dict[str, Any]]] = [[] for _ in layers]

    def recorder(place: int) -> Callable:
        def forward(hidden_states: torch.Tensor, **named: Any) -> torch.Tensor:
            if not place:
                states.append(hidden_states)
            arguments[place].append(named)
            return hidden_states

        return forward

    for place, layer in enumerate(layers):
        layer.forward = recorder(place)
    try:
        for ids in batches:
            model(input_ids=ids.to(model.device), use_cache=False, logits_to_keep=1)
    finally:
        for layer in layers:
            del layer.forward
    return states, arguments
