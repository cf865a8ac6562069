"""Walking the models of transformers: which of their layers a method may change."""

from collections.abc import Iterator

import torch


def linears(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Linear]]:
    """The Linear layers that are quantized by default, with their names: all but the output head.

    Raises ValueError where there is none, with the kinds of layers that the model has.
    """
    head = model.get_output_embeddings()
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
