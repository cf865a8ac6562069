"""Walking the models of transformers: which of their layers a method may change."""

from collections.abc import Callable, Iterator

import torch


def linears(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Linear]]:
    """The Linear layers that are quantized by default, with their names: all but the output head.

    Raises ValueError where there is none, with the kinds of layers that the model has.
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
                if next(module.parameters(False), None) is not None
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

    Layers that share their weight get one layer's tensors in common, as long as `convert` gives a module with buffers for
    each; a layer for which `convert` gives itself stays. Raises ValueError as `linears` does, and what `convert` raises,
    with the layer's name; then the model is as it was.
    """
    made: dict[str, torch.nn.Module] = {}
    for name, layer in linears(model):
        try:
            made[name] = convert(name, layer)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    for name, module in made.items():
        model.set_submodule(name, module)
    return list(made)
