"""AWQ: the inputs that matter most get finer steps, by a scale that leaves the product as it is.

x Wᵀ = (x / s) (W s)ᵀ. Where s is above 1 the weights of an input grow against the step that their group shares, so that rounding
costs them less, unless they become the group's largest and stretch the step for all. Which inputs matter is seen in the activations:
s = mean|x|^r, and r is searched for. The search looks at what comes out of the layer.

Source: Lin et al. 2024, "AWQ", section 3.2, equations 4 and 5; clipping and the norm of s as in the authors' code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from coursepkg import affine
from coursepkg.affine import Scheme

#: The least mean magnitude that an input counts with.
LEAST = 1e-4


@dataclass(frozen=True)
class Search:
    """What was tried and what was best.

    ratios: the exponents r, from 0 (plain rounding) up. errors: for each the squared error of the outputs, over their square sum, all layers
    together. scales: s of the best, float32 (in_features,).
    """

    ratios: tuple[float, ...]
    errors: tuple[float, ...]
    scales: torch.Tensor

    @property
    def ratio(self) -> float:
        """The best exponent."""
        return self.ratios[self.errors.index(min(self.errors))]


@torch.no_grad()
def search(
    weights: Sequence[torch.Tensor],
    mean_abs: torch.Tensor,
    sample: torch.Tensor,
    scheme: Scheme,
    grid: int = 20,
) -> Search:
    """Find the scales for Linear layers that read the same inputs.

    weights: each (out_features, in_features). mean_abs: mean magnitude of each input over some text, (in_features,).
    sample: some of these inputs, (tokens, in_features). scheme: how weights are rounded. grid: so many exponents from 0 on,
    1 / grid apart. Of equally good ones the smallest is taken. Raises ValueError for shapes that do not go together, an empty
    sample, and as `affine.quantize` does.
    """
    _check(weights, mean_abs, sample)
    x = sample.float()
    weights = [weight.detach().float() for weight in weights]
    outputs = [x @ weight.T for weight in weights]
    power = sum(y.square().sum() for y in outputs)
    tried = [step / grid for step in range(grid)]
    found = [scales(mean_abs, ratio) for ratio in tried]
    errors = []
    for s in found:
        rounded = ((affine.quantize(weight * s, scheme).dequantize() / s) for weight in weights)
        lost = sum((x @ back.T - y).square().sum() for back, y in zip(rounded, outputs, strict=True))
        errors.append((lost / power).item())
    return Search(tuple(tried), tuple(errors), found[errors.index(min(errors))])


def scales(mean_abs: torch.Tensor, ratio: float) -> torch.Tensor:
    """s = mean|x|^r, divided by √(max s · min s) so that it lies around 1; float32 (in_features,)."""
    s = mean_abs.float().clamp(min=LEAST) ** ratio
    return s / (s.max() * s.min()).sqrt()


@torch.no_grad()
def clip(
    weight: torch.Tensor, sample: torch.Tensor, scheme: Scheme, grid: int = 20, least: float = 0.5
) -> torch.Tensor:
    """The weight with each group cut off at the share of its absmax that makes the group's part of the outputs err least.

    weight: (out_features, in_features). sample: inputs, (tokens, in_features). Shares from 1 down to `least`, 1 / grid apart; of equally
    good ones the largest. Returns float32, of the weight's shape. Raises ValueError as `search` does.
    """
    _check([weight], sample.float().abs().mean(0), sample)
    if scheme.granularity == "tensor":
        raise ValueError(
            "clipping is for groups or channels: with one scale for all, rows cannot be cut off one by one"
        )
    rows, columns = weight.shape
    size = affine.block_shape((rows, columns), scheme.granularity)[1]
    groups = weight.detach().float().reshape(rows, -1, size)
    x = sample.float().reshape(len(sample), -1, size)
    gram = torch.einsum("tgi,tgj->gij", x, x)  # the error of a group's part, over all tokens, is d G dᵀ
    absmax = groups.abs().amax(2, keepdim=True)
    best, smallest = groups, torch.full_like(absmax, torch.inf)
    for step in range(int(round((1 - least) * grid)) + 1):
        limit = absmax * (1 - step / grid)
        cut = groups.clamp(-limit, limit)
        away = affine.quantize(cut.reshape(rows, columns), scheme).dequantize().reshape(groups.shape) - groups
        error = (torch.einsum("ogi,gij->ogj", away, gram) * away).sum(2, keepdim=True)
        better = error < smallest
        best, smallest = torch.where(better, cut, best), torch.where(better, error, smallest)
    return best.reshape(rows, columns)


def _check(weights: Sequence[torch.Tensor], mean_abs: torch.Tensor, sample: torch.Tensor) -> None:
    features = mean_abs.shape
    if not weights or any(weight.shape[1:] != features for weight in weights) or sample.shape[1:] != features:
        shapes = [tuple(weight.shape) for weight in weights]
        raise ValueError(
            f"weights (out, in), mean_abs (in,) and sample (tokens, in) must have the same inputs, not {shapes}, "
            f"{tuple(features)} and {tuple(sample.shape)}"
        )
    if not len(sample):
        raise ValueError("the sample is empty: no text shows which inputs matter")
    if not (sample.isfinite().all() and mean_abs.isfinite().all()):
        raise ValueError("the inputs hold infinities or NaN")
