"""Walking the models of transformers: which of their layers a method may change."""

from collections.abc import Callable, Iterator

import torch


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
