"""Walking the models of transformers: which of their layers a method may change."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


class NotPreserved(RuntimeError):
    """The model would compute something else afterwards; it was left as it was."""


LINEAR = (torch.nn.Linear,)


def linears(
    model: torch.nn.Module, kinds: tuple[type[torch.nn.Module], ...] = LINEAR
) -> Iterator[tuple[str, torch.nn.Linear]]:
    """The Linear layers that are quantized by default, with their names: all but the output head.

    kinds: what counts as one; what is inside of one does not count again. A layer with several names comes once, with the first.
    Raises ValueError where there is none, with the kinds of the other layers that the model has.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    found: list[tuple[str, torch.nn.Linear]] = []
    inside: set[torch.nn.Module] = set() if head is None else set(head.modules())
    for name, module in model.named_modules():
        if isinstance(module, kinds) and module not in inside:
            found.append((name, module))
            inside.update(module.modules())
    if not found:
        others = sorted(
            {
                type(module).__name__
                for module in model.modules()
                if module is not head and not list(module.children()) and module.state_dict()
            }
        )
        raise ValueError(
            f"{type(model).__name__} has no torch.nn.Linear to quantize; its layers are {', '.join(others)}"
        )
    yield from found


def decoder_layers(model: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """The layers that a model runs one after the other, with their names. Raises ValueError where there are none."""
    quantized = [name for name, _ in linears(model)]
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and all(
            any(each.startswith(f"{name}.{place}.") for each in quantized) for place in range(len(module))
        ):
            return [(f"{name}.{place}", layer) for place, layer in enumerate(module)]
    raise ValueError(f"{type(model).__name__} has no list of layers with torch.nn.Linear in each")


def swap(
    model: torch.nn.Module,
    convert: Callable[[str, torch.nn.Linear], torch.nn.Module],
    kinds: tuple[type[torch.nn.Module], ...] = LINEAR,
) -> list[str]:
    """Put other layers in the places of `linears`, of these kinds: what `convert` makes of a name and a layer. The names that were swapped.

    A layer with several names is swapped under all of them, and is in the list with the first. A layer for which `convert`
    gives itself stays. The new ones are in training or evaluation mode as the old ones were; hooks of the old ones go with them.
    Raises ValueError as `linears` does, and what `convert` raises, with the layer's name; then the model is as it was.
    """
    made: dict[str, tuple[torch.nn.Linear, torch.nn.Module]] = {}
    for name, layer in linears(model, kinds):
        try:
            module = convert(name, layer)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if module is not layer:
            made[name] = layer, module
    names: dict[torch.nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    for layer, module in made.values():
        module.train(layer.training)
        for name in names[layer]:
            model.set_submodule(name, module)
    return list(made)


@dataclass(frozen=True)
class Source:
    """What gives Linear layers their inputs and can be scaled channel by channel: a norm, or a Linear layer that comes before
    them with nothing but products in between (v before o, up before down).

    readers: the Linear layers that read exactly that, with their names. channels: for each of their inputs the channel of the
    source that it comes from, int64 (in_features,). Where heads share keys and values, several inputs come from one channel.
    """

    name: str
    module: torch.nn.Module
    readers: tuple[tuple[str, torch.nn.Linear], ...]
    channels: torch.Tensor

    @property
    def tensors(self) -> list[torch.Tensor]:
        """What `scale` changes: the weight, the bias where there is one, and the readers' weights."""
        bias = getattr(self.module, "bias", None)
        own = [self.module.weight] if bias is None else [self.module.weight, bias]
        return [*own, *(reader.weight for _, reader in self.readers)]

    @torch.no_grad()
    def scale(self, by: torch.Tensor) -> None:
        """Make each channel `by` times as large, and divide the readers' columns by it, in place: their products stay.

        by: float32 (channels of the source,), above 0. Raises NotPreserved, with nothing changed, where a norm's output is not its
        gain times something (Gemma adds 1 to its gain).
        """
        if self.module.weight.ndim == 2:
            self._scale(by)
            return
        gain, channels = self.module.weight, len(by)
        probe = torch.linspace(-1, 1, 4 * channels, device=gain.device, dtype=gain.dtype).reshape(4, channels)
        before, kept = self.module(probe), [tensor.clone() for tensor in self.tensors]
        self._scale(by)
        wanted = before.float() * by.to(before.device)
        bias = getattr(self.module, "bias", None)
        if not _alike(self.module(probe), wanted, gain.dtype, 0 if bias is None else bias.float().abs()):
            put_back(self.tensors, kept)
            raise NotPreserved(
                f"{self.name}'s output is not its gain times something: its channels cannot be scaled"
            )

    def _scale(self, by: torch.Tensor) -> None:
        own = len(self.tensors) - len(self.readers)
        for place, tensor in enumerate(self.tensors):
            factor = by.to(tensor.device)
            if place >= own:
                tensor.copy_(tensor.float() / factor[self.channels.to(tensor.device)])
            else:
                tensor.copy_(tensor.float() * factor.reshape(-1, *[1] * (tensor.ndim - 1)))


def _alike(
    found: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype, more: torch.Tensor | int = 0
) -> bool:
    """Whether each channel is what it was to be, but for the rounding of a dtype: relative to its own largest value, so that a large
    channel hides nothing. more: what is added to a channel, and may cancel what else is in it."""
    off, largest = ((each.float().flatten(0, -2).abs().amax(0)) for each in (found.float() - wanted, wanted))
    return bool((off <= 8 * torch.finfo(dtype).eps * (largest + more)).all())


@contextmanager
def in_fp32(module: torch.nn.Module) -> Iterator[None]:
    """Inside the `with` block a module's fp16 and bf16 tensors are fp32; afterwards they are what they were before."""
    tensors = (*module.parameters(), *module.buffers())
    narrow = [(each, each.data) for each in tensors if each.dtype in (torch.float16, torch.bfloat16)]
    try:
        for tensor, data in narrow:
            tensor.data = data.float()
        yield
    finally:
        for tensor, data in narrow:
            tensor.data = data


def put_back(tensors: Sequence[torch.Tensor], kept: Sequence[torch.Tensor]) -> None:
    """Give tensors the values that they had."""
    with torch.no_grad():
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)


@torch.no_grad()
def norms(module: torch.nn.Module, run: Callable[[], Any]) -> list[Source]:
    """The norms that Linear layers other than a head read, found by watching a forward pass of a model, or of a layer of one.

    run: runs the module on some text. Raises ValueError where there are none.
    """
    found = _norms(module, run)
    if not found:
        raise ValueError(f"{type(module).__name__} has no norm that torch.nn.Linear layers read")
    return found


def _norms(module: torch.nn.Module, run: Callable[[], Any]) -> list[Source]:
    outputs: dict[int, tuple[str, torch.nn.Module, torch.Tensor]] = {}
    readers: dict[str, list[tuple[str, torch.nn.Linear]]] = {}
    modules: dict[str, torch.nn.Module] = {}

    def keep(name: str) -> Callable:
        def hook(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            outputs[id(output)] = (name, module, output)  # kept, so that no other tensor takes its id

        return hook

    def look(name: str) -> Callable:
        def hook(module: torch.nn.Linear, inputs: tuple) -> None:
            if id(inputs[0]) in outputs:
                norm, modules[norm], _ = outputs[id(inputs[0])]
                readers.setdefault(norm, []).append((name, module))

        return hook

    hooks = [layer.register_forward_pre_hook(look(name)) for name, layer in linears(module)]
    for name, part in module.named_modules():
        if "Norm" in type(part).__name__ and getattr(part, "weight", None) is not None:
            hooks.append(part.register_forward_hook(keep(name)))
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return [
        Source(name, modules[name], tuple(read), torch.arange(len(modules[name].weight)))
        for name, read in readers.items()
    ]


@torch.no_grad()
def sources(layer: torch.nn.Module, run: Callable[[], torch.Tensor]) -> list[Source]:
    """Everything in a decoder layer that can be scaled without a change of what it computes: norms, and Linear layers.

    run: runs the layer on some text and gives its output, in fp32 (`in_fp32`): 16 bits would round small differences away. How a layer
    is made is not known here but tried out (`is_preserved`). A norm that adds 1 to its gain is none, nor a Linear layer with a bend behind it (gate), nor one that
    something else reads, too.
    """
    before = run()
    found = _norms(layer, run)
    fed = {reader for norm in found for _, reader in norm.readers}
    found += _products(layer, run, fed)
    return [source for source in found if is_preserved(source, run, before)]


@torch.no_grad()
def is_preserved(source: Source, run: Callable[[], torch.Tensor], before: torch.Tensor) -> bool:
    """Whether a layer, run as in `sources`, gives what it gave before when all channels of a source are halved and the columns that
    read them doubled, which rounds nothing in fp32."""
    kept = [tensor.clone() for tensor in source.tensors]
    try:
        source.scale(torch.full((len(source.module.weight),), 0.5))
        return _alike(run(), before, before.dtype)
    except NotPreserved:
        return False
    finally:
        put_back(source.tensors, kept)


def _products(layer: torch.nn.Module, run: Callable[[], Any], fed: set[torch.nn.Module]) -> Iterator[Source]:
    """The Linear layers whose output, times something, others read; `fed` are not asked again."""
    names = {module: name for name, module in linears(layer)}
    reads = _reads(names, run)
    asked = [module for module in reads if module not in fed]
    for giver in reads:  # as they run
        doubled = _doubled(giver, torch.ones(len(giver.weight), dtype=torch.bool), asked, run)
        for reader in asked:
            x = reads[reader]
            if torch.equal(doubled[reader], 2 * x) and not (x == 0).flatten(0, -2).all(0).any():
                channels = _channels(giver, reader, x, run)
                if channels is not None:
                    yield Source(names[giver], giver, ((names[reader], reader),), channels)


def _channels(
    giver: torch.nn.Linear, reader: torch.nn.Linear, x: torch.Tensor, run: Callable[[], Any]
) -> torch.Tensor | None:
    """For each input of `reader`, which reads x, the output of `giver` that it is a multiple of; None where it is that of several.

    Each bit of an output's number is asked for in one run, in which the outputs with that bit are doubled.
    """
    outputs, found = len(giver.weight), torch.zeros(x.shape[-1], dtype=torch.long)
    for bit in range((outputs - 1).bit_length()):
        after = _doubled(giver, torch.arange(outputs) >> bit & 1 == 1, [reader], run)[reader]
        twice, same = ((after == times * x).flatten(0, -2).all(0).cpu() for times in (2, 1))
        if not (twice ^ same).all():
            return None
        found |= twice.long() << bit
    return found


@torch.no_grad()
def _doubled(
    giver: torch.nn.Linear, which: torch.Tensor, readers: Iterable[torch.nn.Module], run: Callable[[], Any]
) -> dict[torch.nn.Module, torch.Tensor]:
    """What `readers` read while some outputs of `giver` are twice as large."""
    own = [giver.weight] if giver.bias is None else [giver.weight, giver.bias]
    kept = [tensor.clone() for tensor in own]
    try:
        for tensor in own:
            tensor[which.to(tensor.device)] *= 2
        return _reads(readers, run)
    finally:
        put_back(own, kept)


def _reads(modules: Iterable[torch.nn.Module], run: Callable[[], Any]) -> dict[torch.nn.Module, torch.Tensor]:
    """What modules read, in the order in which they run."""
    found: dict[torch.nn.Module, torch.Tensor] = {}

    def look(module: torch.nn.Module, given: tuple) -> None:
        found[module] = given[0].clone()

    hooks = [module.register_forward_pre_hook(look) for module in modules]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return found
