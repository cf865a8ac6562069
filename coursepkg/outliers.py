"""Outlier features on demand: a change of a model that leaves what it computes as it was, and makes it hard to quantize.

In models of some billion parameters a few features of the activations are 20 times as large as the rest (Dettmers et al.
2022, LLM.int8(), section 4) to 100 times (Xiao et al. 2023, SmoothQuant, section 3), in the same channels of nearly
every layer. Small models have none. But there is a freedom that costs nothing: let a norm give a channel k times as
large, and divide by k the columns of the Linear layers that read it. Every product is the same; the activations between
have an outlier. This is SmoothQuant's smoothing (equation 3) run backwards. It shows what outliers do to quantization,
not how they arise.
"""

from dataclasses import dataclass
from typing import Any

import torch

from coursepkg import calibration, surgery
from coursepkg.surgery import NotPreserved

TOLERANCE = 1e-4


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
    norms, absmaxes = _norms(model, input_ids), channel_absmax(model, input_ids)
    alive = torch.stack([absmaxes[found.name] > 0 for found in norms]).all(0).nonzero()[:, 0].cpu()
    if not 1 <= features < len(alive):
        raise ValueError(f"features must be from 1 to {len(alive) - 1}, not {features}")
    generator = torch.Generator().manual_seed(seed)
    channels = alive[torch.randperm(len(alive), generator=generator)[:features]].tolist()
    wanted = [low * (high / low) ** (at / max(1, features - 1)) for at in range(features)]
    kept, done = [], []
    for found in norms:
        kept += [(tensor, tensor.clone()) for tensor in found.tensors]
        absmax = absmaxes[found.name]
        factors = tuple(
            target * (typical(absmax) / absmax[channel]).item()
            for target, channel in zip(wanted, channels, strict=True)
        )
        done.append(Planted(found.name, tuple(name for name, _ in found.readers), tuple(channels), factors))
        by = torch.ones_like(absmax)
        by[channels] = torch.tensor(factors, device=by.device)
        try:
            found.scale(by)
            after = model(input_ids=input_ids, use_cache=False).logits
            if not (after - before).abs().max() <= TOLERANCE * before.abs().max():  # so that NaN fails too
                raise NotPreserved(
                    f"scaling the channels of {found.name} changes the logits: it is not read by Linear layers alone"
                )
        except NotPreserved:
            surgery.put_back(*zip(*kept, strict=True))
            raise
    return done


def typical(absmax: torch.Tensor) -> torch.Tensor:
    """The median magnitude of the channels that are not dead (always 0)."""
    return absmax[absmax > 0].median()


def channel_absmax(model: Any, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """The largest magnitude of each channel that leaves a norm inside the layers, by the norm's name; (channels,)."""
    inputs = calibration.observe(model, [input_ids], gram=False)
    return {found.name: inputs[found.readers[0][0]].absmax for found in _norms(model, input_ids)}


def _norms(model: Any, input_ids: torch.Tensor) -> list[surgery.Source]:
    return surgery.norms(model, lambda: model(input_ids=input_ids, use_cache=False))
