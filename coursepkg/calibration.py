"""Calibration: running text through a model, and keeping of each Linear layer's inputs what a method needs.

`observe` watches the model as it is. `layer_by_layer` is for quantizing on the way: one decoder layer at a time, whose inputs come
from the layers before it as they are by then, rounded (Frantar et al. 2023, GPTQ, section 5, "Setup"). Only that layer, and the
hidden states of the text, need be in fast memory.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.utils import recursively_apply, send_to_device

from coursepkg import surgery
from coursepkg.surgery import NotPreserved

#: What a decoder layer is given besides the hidden states: by place, and by name.
Given = tuple[tuple, dict[str, Any]]

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
    time and memory. The model is in evaluation mode meanwhile. Raises ValueError where there are no batches, or what is none.
    """
    batches = _checked(batches)
    with evaluating(model), watching(surgery.linears(model), gram) as found:
        for ids in batches:
            model(input_ids=ids.to(model.device), use_cache=False)
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
    it is given.

    alone: what else it is given with the first sequence alone.
    """

    name: str
    module: torch.nn.Module
    states: list[torch.Tensor]
    given: list[Given]
    alone: Given
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
            for state, given in zip(self.states, self.given, strict=True):
                left = times
                with suppress(_Enough):
                    self._output(state, given)
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
        with self._one() as run:
            return self._named(surgery.sources(self.module, run))

    def norms(self) -> list[surgery.Source]:
        """The norms that its Linear layers read (`surgery.norms`), with full names. Raises NotPreserved, with the name, where one cannot
        be scaled without a change of what the model computes."""
        with self._one() as run:
            before = run()
            found = self._named(surgery.norms(self.module, run))
            for norm in found:
                if not surgery.is_preserved(norm, run, before):
                    raise NotPreserved(
                        f"scaling {norm.name} changes what {self.name} computes: its output is not its gain times something, or is "
                        "not read by Linear layers alone"
                    )
        return found

    @contextmanager
    def _one(self) -> Iterator[Callable[[], torch.Tensor]]:
        """What runs it on the first sequence, in fp32."""

        def widened(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.float() if tensor.is_floating_point() else tensor

        state, given = recursively_apply(widened, (self.states[0][:1], self.alone))
        with surgery.in_fp32(self.module):
            yield DecoderLayer(self.name, self.module, [state], [given], given, self.device).run

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
        for state, given in zip(self.states, self.given, strict=True):
            yield self._output(state, given).to(state.device)

    def _output(self, state: torch.Tensor, given: Given) -> torch.Tensor:
        state, (more, named) = send_to_device((state, given), self.device)
        output = self.module(state, *more, **named)
        return output if isinstance(output, torch.Tensor) else output[0]

    def _order(self) -> list[tuple[dict[str, torch.nn.Linear], int]]:
        """Its Linear layers by name as they run, those together that read the same tensor, and how often that happens in a pass."""
        names = {module: f"{self.name}.{each}" for each, module in surgery.linears(self.module)}
        found: list[dict[str, torch.nn.Linear]] = []
        times: Counter[str] = Counter()
        now: Counter[str] = Counter()  # in this pass
        read: list[Any] = [None, None]  # the tensor that was read last, and those that it is the first for

        def look(module: torch.nn.Linear, given: tuple) -> None:
            name = names[module]
            now[name] += 1
            if given[0] is not read[0]:
                read[:] = given[0], None
            if now[name] == 1 and not times[name]:
                if read[1] is None:
                    read[1] = {}
                    found.append(read[1])
                read[1][name] = module

        hooks = [module.register_forward_pre_hook(look) for module in names]
        try:
            for _ in self.outputs():
                times |= now  # the larger of each
                now.clear()
                read[:] = None, None
                if len(times) == len(names):
                    break
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
    batches: Iterable[torch.Tensor],
    device: torch.device | str | None = None,
    before: Callable[[str, torch.nn.Module], None] = lambda name, layer: None,
) -> Iterator[DecoderLayer]:
    """The decoder layers of a causal LM, one after the other; each with the inputs that those before it give by then.

    What is done to a layer while it is had is what the next one's inputs come from. batches: as in `observe`. device: where a decoder layer
    goes while it is worked on, by default where it is; the hidden states wait where the model is. before: called with each decoder
    layer's name and the layer before its turn, say to fill it from a file.
    The model is in evaluation mode meanwhile. Where this ends early, it is closed (`contextlib.closing`), and the layer goes back to where
    it was. Raises ValueError where there is no text, and, with the architecture's name, where its layers do not run once each, in order.
    """
    batches, layers = _checked(batches), surgery.decoder_layers(model)
    with evaluating(model):
        before(*layers[0])
        states, arguments = _recorded(model, [layer for _, layer in layers], batches)
        for place, ((name, layer), (alone, *given)) in enumerate(zip(layers, arguments, strict=True)):
            if place:
                before(name, layer)
            home = next(layer.parameters()).device
            turn = DecoderLayer(name, layer.to(device or home), states, given, alone, device or home)
            try:
                yield turn
                states = list(turn.outputs())
            finally:
                layer.to(home)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """The model is in evaluation mode inside the `with` block, and afterwards as it was; what was put in a layer's place, as that was."""
    training = [name for name, module in model.named_modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for name in training:
            model.get_submodule(name).training = True


def _checked(batches: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """The batches. Raises ValueError where there are none, or one is not int64 (sequences, length)."""
    found = list(batches)
    if not found:
        raise ValueError("no text to calibrate with: batches is empty")
    for ids in found:
        if not isinstance(ids, torch.Tensor) or ids.dtype != torch.int64 or ids.ndim != 2 or not ids.numel():
            what = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, torch.Tensor) else type(ids).__name__
            raise ValueError(f"each batch must be token ids, int64 (sequences, length), not {what}")
    return found


def _recorded(
    model: Any, layers: list[torch.nn.Module], batches: list[torch.Tensor]
) -> tuple[list[torch.Tensor], list[list[Given]]]:
    """The hidden states that enter the first decoder layer, for each batch; and for each layer what else it is given: with the first
    sequence alone, then with each batch.

    While this is found out, each decoder layer passes on what it gets, and after the last one nothing is run.
    """
    rest = _rest(model, layers[0], batches[0][:1])
    states: list[torch.Tensor] = []
    arguments: list[list[Given]] = [[] for _ in layers]

    def recorder(place: int) -> Callable:
        def forward(hidden_states: torch.Tensor, *more: Any, **named: Any) -> Any:
            if not place:
                states.append(hidden_states)
            arguments[place].append((more, named))
            if place == len(layers) - 1:
                raise _Enough
            return hidden_states if rest is None else (hidden_states, *rest)

        return forward

    own = [vars(layer).get("forward") for layer in layers]
    for place, layer in enumerate(layers):
        layer.forward = recorder(place)
    try:
        for ids in (batches[0][:1], *batches):
            with suppress(_Enough):
                model(input_ids=ids.to(model.device), use_cache=False)
    finally:
        for layer, forward in zip(layers, own, strict=True):
            del layer.forward
            if forward is not None:
                layer.forward = forward
    if any(len(each) != 1 + len(batches) for each in arguments):
        raise ValueError(f"{type(model).__name__} does not run each of its layers once, in their order")
    return states[1:], arguments


def _rest(model: Any, layer: torch.nn.Module, ids: torch.Tensor) -> tuple | None:
    """What a decoder layer gives behind its hidden states, where it gives a tuple; None where it gives them alone.

    Raises ValueError, with the architecture's name, where it gives no hidden states like those that it gets.
    """
    found: list[Any] = []

    def look(module: torch.nn.Module, given: tuple, named: dict[str, Any], output: Any) -> None:
        state = given[0] if given else named.get("hidden_states")
        found.extend((state, output))
        raise _Enough

    hook = layer.register_forward_hook(look, with_kwargs=True)
    try:
        with suppress(_Enough):
            model(input_ids=ids.to(model.device), use_cache=False)
    finally:
        hook.remove()
    state, output = found or (None, None)
    first = output[0] if isinstance(output, tuple) and output else output
    if not all(isinstance(each, torch.Tensor) for each in (state, first)) or state.shape != first.shape:
        raise ValueError(
            f"the layers of {type(model).__name__} do not make hidden states of hidden states: it cannot be run layer by layer"
        )
    return output[1:] if isinstance(output, tuple) else None
