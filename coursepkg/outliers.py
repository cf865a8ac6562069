"""Outlier features on demand: a change of a model that leaves what it computes as it was, and makes it hard to quantize.

In models of some billion parameters a few features of the activations are 20 times as large as the rest (Dettmers et al.
2022, LLM.int8(), section 4) to 100 times (Xiao et al. 2023, SmoothQuant, section 3), in the same channels of nearly
every layer. Small models have none. But there is a freedom that costs nothing: let a norm give a channel k times as
large, and divide by k the columns of the Linear layers that read it. Every product is the same; the activations between
have an outlier. This is SmoothQuant's smoothing (equation 3) run backwards. It shows what outliers do to quantization,
not how they arise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

TOLERANCE = 1e-4


class NotPreserved(RuntimeError):
    """The model would compute something else afterwards; it was left as it was."""


@dataclass(frozen=True)
class Planted:
    """One norm whose channels were scaled: `factors[i]` on channel `channels[i]`, undone in the `readers`."""

    norm: str
    readers: tuple[str, ...]
    channels: tuple[int, ...]
    factors: tuple[float, ...]


@torch.no_grad()
def plant(
    model: Any,
    input_ids: torch.Tensor,
    features: int = 6,
    ratio: tuple[float, float] = (20.0, 100.0),
    seed: int = 0,
) -> list[Planted]:
    """Make `features` channels of every norm inside the layers `ratio` times as large as the typical one, in place.

    model: a causal LM of transformers in float32; it is changed (`copy.deepcopy` it first to keep it).
    input_ids: some text, int64 (batch, length): it shows which Linear layers read a norm, and how large the channels
    are. ratio: least and largest; each channel is given a value between them, the same in every layer.
    Logits stay equal to 1e-4 of their largest value. Raises NotPreserved, with the norm's name and the model as it
    was, where they do not: for example where a norm is read by something that is no Linear layer.
    Raises ValueError for a ratio that is not above 1, or for more features than channels.
    """
    low, high = ratio
    if not 1 < low <= high:
        raise ValueError(f"the ratio must be above 1, its least value first, not {ratio}")
    if model.dtype != torch.float32:
        raise ValueError(
            f"the weights must be float32, not {model.dtype}: in 16 bits nothing stays equal to 1e-4"
        )
    before = model(input_ids=input_ids, use_cache=False).logits
    norms = _norms(model, input_ids)
    alive = torch.stack([found.absmax > 0 for found in norms]).all(0).nonzero()[:, 0].cpu()
    if not 1 <= features < len(alive):
        raise ValueError(f"features must be from 1 to {len(alive) - 1}, not {features}")
    generator = torch.Generator().manual_seed(seed)
    channels = alive[torch.randperm(len(alive), generator=generator)[:features]].tolist()
    wanted = [low * (high / low) ** (at / max(1, features - 1)) for at in range(features)]
    kept, done = [], []
    for found in norms:
        kept += [(tensor, tensor.clone()) for tensor in _touched(found)]
        factors = tuple(
            target * (typical(found.absmax) / found.absmax[channel]).item()
            for target, channel in zip(wanted, channels, strict=True)
        )
        _scale(found, channels, factors)
        done.append(Planted(found.name, tuple(name for name, _ in found.readers), tuple(channels), factors))
        after = model(input_ids=input_ids, use_cache=False).logits
        if not (after - before).abs().max() <= TOLERANCE * before.abs().max():  # so that NaN fails too
            for tensor, value in kept:
                tensor.copy_(value)
            raise NotPreserved(
                f"scaling the channels of {found.name} changes the logits: it is not read by Linear layers alone, or "
                "its gain is not a plain factor"
            )
    return done


@dataclass(frozen=True)
class _Norm:
    """A norm, the Linear layers that read exactly its output, and the absmax of each of its channels."""

    name: str
    module: torch.nn.Module
    readers: Sequence[tuple[str, torch.nn.Linear]]
    absmax: torch.Tensor


def _norms(model: Any, input_ids: torch.Tensor) -> list[_Norm]:
    """The norms that Linear layers other than the head read, found by watching one forward pass."""
    outputs: dict[int, tuple[str, torch.nn.Module, torch.Tensor]] = {}
    readers: dict[str, list[tuple[str, torch.nn.Linear]]] = {}

    def keep(name):
        def hook(module, inputs, output):
            outputs[id(output)] = (name, module, output)  # kept, so that no other tensor takes its id

        return hook

    def look(name):
        def hook(module, inputs):
            if id(inputs[0]) in outputs:
                readers.setdefault(outputs[id(inputs[0])][0], []).append((name, module))

        return hook

    hooks, head = [], model.get_output_embeddings()
    for name, module in model.named_modules():
        if "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None:
            hooks.append(module.register_forward_hook(keep(name)))
        elif isinstance(module, torch.nn.Linear) and module is not head:
            hooks.append(module.register_forward_pre_hook(look(name)))
    try:
        model(input_ids=input_ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    if not readers:
        raise ValueError(f"{type(model).__name__} has no norm that torch.nn.Linear layers read")
    found = {name: (module, output) for name, module, output in outputs.values()}
    return [
        _Norm(name, found[name][0], read, found[name][1].flatten(0, -2).abs().amax(0))
        for name, read in readers.items()
    ]


def _touched(norm: _Norm) -> list[torch.Tensor]:
    """The tensors that scaling a norm's channels changes."""
    bias = getattr(norm.module, "bias", None)
    own = [norm.module.weight] if bias is None else [norm.module.weight, bias]
    return [*own, *(reader.weight for _, reader in norm.readers)]


def _scale(norm: _Norm, channels: Sequence[int], factors: Sequence[float]) -> None:
    """Multiply the norm's channels by the factors and divide the readers' columns by them."""
    by = torch.tensor(factors, device=norm.module.weight.device)
    norm.module.weight[channels] *= by
    if getattr(norm.module, "bias", None) is not None:
        norm.module.bias[channels] *= by
    for _, reader in norm.readers:
        reader.weight[:, channels] /= by


def typical(absmax: torch.Tensor) -> torch.Tensor:
    """The median magnitude of the channels that are not dead (always 0)."""
    return absmax[absmax > 0].median()


@torch.no_grad()
def channel_absmax(model: Any, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """The largest magnitude of each channel that leaves a norm inside the layers, by the norm's name; (channels,)."""
    return {found.name: found.absmax for found in _norms(model, input_ids)}
