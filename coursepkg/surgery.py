"""Walking the models of transformers: which of their layers a method may change."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch


class NotPreserved(RuntimeError):
    """The model would compute something else afterwards; it was left as it was."""


def linears(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Linear]]:
    """The Linear layers that are quantized by default, with their names: all but the output head.

    A layer with several names comes once, with the first. Raises ValueError where there is none, with the kinds of the other
    layers that the model has.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]
    if not found:
        kinds = sorted(
            {
                type(module).__name__
                for module in model.modules()
                if module is not head and not list(module.children()) and module.state_dict()
            }
        )
        raise ValueError(
            f"{type(model).__name__} has no torch.nn.Linear to quantize; its layers are {', '.join(kinds)}"
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


def swap(model: torch.nn.Module, convert: Callable[[str, torch.nn.Linear], torch.nn.Module]) -> list[str]:
    """Put other layers in the places of `linears`: what `convert` makes of a name and a layer. The names that were swapped.

    A layer with several names is swapped under all of them, and is in the list with the first. A layer for which `convert`
    gives itself stays. The new ones are in training or evaluation mode as the old ones were; hooks of the old ones go with them.
    Raises ValueError as `linears` does, and what `convert` raises, with the layer's name; then the model is as it was.
    """
    made: dict[str, tuple[torch.nn.Linear, torch.nn.Module]] = {}
    for name, layer in linears(model):
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
class Norm:
    """A norm, and the Linear layers that read exactly its output, with their names."""

    name: str
    module: torch.nn.Module
    readers: tuple[tuple[str, torch.nn.Linear], ...]

    @property
    def tensors(self) -> list[torch.Tensor]:
        """What `scale` changes: the gain, the bias where there is one, and the readers' weights."""
        bias = getattr(self.module, "bias", None)
        own = [self.module.weight] if bias is None else [self.module.weight, bias]
        return [*own, *(reader.weight for _, reader in self.readers)]

    @torch.no_grad()
    def scale(self, by: torch.Tensor) -> None:
        """Make each channel `by` times as large, and divide the readers' columns by it, in place: their products stay.

        by: float32 (channels,), above 0. Raises NotPreserved, with nothing changed, where the norm's output is not its gain
        times something (Gemma adds 1 to its gain).
        """
        gain, channels = self.module.weight, len(by)
        probe = torch.linspace(-1, 1, 4 * channels, device=gain.device, dtype=gain.dtype).reshape(4, channels)
        before, kept = self.module(probe), [tensor.clone() for tensor in self.tensors]
        for tensor in self.tensors:
            factor = by.to(tensor.device)
            tensor.copy_(tensor.float() / factor if tensor.ndim == 2 else tensor.float() * factor)
        wanted = before.float() * by.to(before.device)
        off = (self.module(probe).float() - wanted).abs().max()
        if not off <= 8 * torch.finfo(gain.dtype).eps * wanted.abs().max():
            for tensor, value in zip(self.tensors, kept, strict=True):
                tensor.copy_(value)
            raise NotPreserved(
                f"{self.name}'s output is not its gain times something: its channels cannot be scaled"
            )


@torch.no_grad()
def norms(model: Any, input_ids: torch.Tensor) -> list[Norm]:
    """The norms that Linear layers other than the head read, found by watching a forward pass of a causal LM.

    input_ids: some text, int64 (batch, length). Raises ValueError where there are none.
    """
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

    hooks = [module.register_forward_pre_hook(look(name)) for name, module in linears(model)]
    for name, module in model.named_modules():
        if "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None:
            hooks.append(module.register_forward_hook(keep(name)))
    try:
        model(input_ids=input_ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    if not readers:
        raise ValueError(f"{type(model).__name__} has no norm that torch.nn.Linear layers read")
    return [Norm(name, modules[name], tuple(read)) for name, read in readers.items()]
