"""Outlier features that are nearly the same for every token: a change of a model that leaves what it computes as it was.

`outliers.plant` makes channels larger by a factor, and the weights behind them smaller: such an outlier swings with the channel's own
value. In large models a feature's outliers vary little from token to token (Xiao et al. 2023, SmoothQuant, section 3), and their weights
are not small. That is made here: a norm's output is shifted by a constant in a few channels, and the Linear layers that read it take
the constant's part of their sums off again, in their bias.
"""

from dataclasses import dataclass
from typing import Any

import torch

from coursepkg import outliers, surgery
from coursepkg.surgery import NotPreserved


class ShiftedNorm(torch.nn.Module):
    """A norm, and a bias added to its output."""

    def __init__(self, norm: torch.nn.Module, bias: torch.Tensor) -> None:
        super().__init__()
        self.norm, self.bias = norm, torch.nn.Parameter(bias)

    @property
    def weight(self) -> torch.nn.Parameter:
        """The norm's gain."""
        return self.norm.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x) + self.bias


@dataclass(frozen=True)
class Shifted:
    """One norm whose channels were shifted: `offsets[i]` on channel `channels[i]`, taken off again in the `readers`."""

    norm: str
    readers: tuple[str, ...]
    channels: tuple[int, ...]
    offsets: tuple[float, ...]


@torch.no_grad()
def plant(
    model: Any,
    input_ids: torch.Tensor,
    features: int = 6,
    ratio: tuple[float, float] = (20.0, 100.0),
    seed: int = 0,
) -> list[Shifted]:
    """Shift `features` channels of every norm inside the layers by `ratio` times what is typical for it, in place.

    model, input_ids, ratio, seed: as in `outliers.plant`, which chooses the same channels where none is dead. Logits stay equal to 1e-4 of
    their largest value. Raises NotPreserved, with the norm's name and the model as it was, where they do not; and ValueError
    for a ratio that is not above 1, for more features than channels, and for weights that are not float32.
    """
    low, high = ratio
    if not 1 < low <= high:
        raise ValueError(f"the ratio must be above 1, its least value first, not {ratio}")
    if model.dtype != torch.float32:
        raise ValueError(f"the weights must be float32, not {model.dtype}")

    def run() -> torch.Tensor:
        return model(input_ids=input_ids, use_cache=False).logits

    before, absmaxes = run(), outliers.channel_absmax(model, input_ids)
    count = min(map(len, absmaxes.values()))
    if not 1 <= features < count:
        raise ValueError(f"features must be from 1 to {count - 1}, not {features}")
    channels = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:features].tolist()
    wanted = [low * (high / low) ** (at / max(1, features - 1)) for at in range(features)]
    done = []
    undo: list[tuple[surgery.Source, list[torch.nn.Parameter | None]]] = []
    for found in surgery.norms(model, run):
        absmax = absmaxes[found.name]
        offset = torch.zeros_like(absmax)
        offset[channels] = outliers.typical(absmax) * torch.tensor(wanted, device=absmax.device)
        undo.append((found, [reader.bias for _, reader in found.readers]))
        for _, reader in found.readers:
            own = 0 if reader.bias is None else reader.bias
            reader.bias = torch.nn.Parameter(own - reader.weight @ offset)
        model.set_submodule(found.name, ShiftedNorm(found.module, offset))
        readers = tuple(name for name, _ in found.readers)
        done.append(Shifted(found.name, readers, tuple(channels), tuple(offset[channels].tolist())))
        if not (run() - before).abs().max() <= outliers.TOLERANCE * before.abs().max():
            for source, biases in undo:
                model.set_submodule(source.name, source.module)
                for (_, reader), bias in zip(source.readers, biases, strict=True):
                    reader.bias = bias
            raise NotPreserved(
                f"shifting the channels of {found.name} changes the logits: it is not read by Linear layers alone"
            )
    return done
