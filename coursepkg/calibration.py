"""Calibration: running text through a model, and keeping of each Linear layer's inputs what a method needs.

`observe` watches the model as it is. `layer_by_layer` is for quantizing on the way: one decoder layer at a time, whose inputs come
from the layers before it as they are by then, rounded (Frantar et al. 2023, GPTQ, section 5, "Setup"). Only that layer, and the
hidden states of the text, need be in fast memory.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.utils import recursively_apply, send_to_device

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


class _Enough(Exception):
    """What was to be seen has been seen."""


@dataclass(frozen=True)
class Group:
    """Linear layers that read the same tensor, by name, and what it was."""

    linears: dict[str, torch.nn.Linear]
    inputs: Inputs


@dataclass
class DecoderLayer:
    """One decoder layer, with all the text that reaches it: hidden states (sequences, length, hidden) for each batch, and what else
    it is given, by name.
    """

    name: str
    module: torch.nn.Module
    states: list[torch.Tensor]
    named: list[dict[str, Any]]
    device: torch.device | str

    @torch.no_grad()
    def groups(self) -> Iterator[Group]:
        """Its Linear layers in the order in which they run, those together that read the same tensor.

        Each group's inputs are what the layers before it give by then, also those before it in this layer.
        Raises ValueError with the name of a layer that no text reaches.
        """
        for linears, times in self._order():
            yield Group(linears, self._read(next(iter(linears.values())), times))

    def _read(self, linear: torch.nn.Linear, times: int) -> Inputs:
        """What a layer that runs so often in a pass is given. What comes after it is not run."""
        found, left = Inputs(linear.in_features, torch.device(self.device)), times

        def look(_: torch.nn.Module, given: tuple) -> None:
            nonlocal left
            found.add(given[0])
            left -= 1
            if not left:
                raise _Enough

        hook = linear.register_forward_pre_hook(look)
        try:
            for state, named in zip(self.states, self.named, strict=True):
                left = times
                with suppress(_Enough):
                    self._output(state, named)
        finally:
            hook.remove()
        return found

    @torch.no_grad()
    def observe(self) -> list[Group]:
        """All groups at once, as the layer is now, without Gram matrices."""
        order = [linears for linears, _ in self._order()]
        with watching([each for linears in order for each in linears.items()], gram=False) as inputs:
            for _ in self.outputs():
                pass
        return [Group(linears, inputs[next(iter(linears))]) for linears in order]

    def sources(self) -> list[surgery.Source]:
        """What in it can be scaled, channel by channel (`surgery.sources`), with full names; tried out on one sequence."""
        state, named = self.states[0], self.named[0]

        def first(tensor: torch.Tensor) -> torch.Tensor:
            return tensor[:1] if tensor.ndim > 1 and len(tensor) == len(state) else tensor

        one = DecoderLayer(
            self.name, self.module, [first(state)], [recursively_apply(first, named)], self.device
        )
        return self._named(surgery.sources(self.module, one.run))

    def norms(self) -> list[surgery.Source]:
        """The norms that its Linear layers read (`surgery.norms`), with full names, whether they can be scaled or not."""
        return self._named(surgery.norms(self.module, self.run))

    def _named(self, found: list[surgery.Source]) -> list[surgery.Source]:
        return [
            replace(
                each,
                name=f"{self.name}.{each.name}",
                readers=tuple((f"{self.name}.{name}", reader) for name, reader in each.readers),
            )
            for each in found
        ]

    def put(self, name: str, module: torch.nn.Module) -> None:
        """Another module in the place of one of its Linear layers."""
        module.train(self.module.training)
        self.module.set_submodule(name.removeprefix(f"{self.name}."), module)

    @torch.no_grad()
    def run(self) -> torch.Tensor:
        """What it makes of the first batch."""
        return next(self.outputs())

    @torch.no_grad()
    def outputs(self) -> Iterator[torch.Tensor]:
        """What it makes of each batch, where its hidden states are."""
        for state, named in zip(self.states, self.named, strict=True):
            yield self._output(state, named).to(state.device)

    def _output(self, state: torch.Tensor, named: dict[str, Any]) -> torch.Tensor:
        given, others = send_to_device((state, named), self.device)
        return self.module(given, **others)

    def _order(self) -> list[tuple[dict[str, torch.nn.Linear], int]]:
        """Its Linear layers by name as they run, those together that read the same tensor, and how often that happens in a pass."""
        names = {module: f"{self.name}.{each}" for each, module in surgery.linears(self.module)}
        found: list[dict[str, torch.nn.Linear]] = []
        times: Counter[str] = Counter()
        read: list[torch.Tensor | None] = [None]

        def look(module: torch.nn.Linear, given: tuple) -> None:
            name = names[module]
            times[name] += 1
            if times[name] == 1:
                if not found or given[0] is not read[0]:
                    found.append({})
                found[-1][name] = module
            read[0] = given[0]

        hooks = [module.register_forward_pre_hook(look) for module in names]
        try:
            self.run()
        finally:
            for hook in hooks:
                hook.remove()
        if missing := [name for name in names.values() if name not in times]:
            raise ValueError(
                f"the text to calibrate with reaches no {', '.join(missing)}; use more, or other text"
            )
        return [(linears, times[next(iter(linears))]) for linears in found]


@torch.no_grad()
def layer_by_layer(
    model: Any,
    batches: Sequence[torch.Tensor],
    device: torch.device | str | None = None,
    before: Callable[[str, torch.nn.Module], None] = lambda name, layer: None,
) -> Iterator[DecoderLayer]:
    """The decoder layers of a causal LM, one after the other; each with the inputs that those before it give by then.

    What is done to a layer while it is had is what the next one's inputs come from. batches: as in `observe`. device: where a decoder layer
    goes while it is worked on, by default where it is; the hidden states wait where the model is. before: called with each decoder
    layer's name and the layer before its turn, say to fill it from a file.
    Raises ValueError where there is no text.
    """
    layers = surgery.decoder_layers(model)
    if not batches:
        raise ValueError("no text to calibrate with: batches is empty")
    states, arguments = _recorded(model, [layer for _, layer in layers], batches)
    for (name, layer), named in zip(layers, arguments, strict=True):
        before(name, layer)
        home = next(layer.parameters()).device
        turn = DecoderLayer(name, layer.to(device or home), states, named, device or home)
        yield turn
        states = list(turn.outputs())
        layer.to(home)


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
