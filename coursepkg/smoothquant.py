"""SmoothQuant: what makes activations hard to round is moved into the weights, before either is rounded.

x Wᵀ = (x / s) (W s)ᵀ for any s > 0, a number for each input. Activations have a few features that are far larger than the others;
weights have none. With s large there, both become easier than the activations were. x / s is had for nothing where a norm comes
before: its gain is divided by s.

Source: Xiao et al. 2023, "SmoothQuant", equations 3 and 4.
"""

from collections.abc import Sequence

import torch

#: The least magnitude that a channel counts with.
LEAST = 1e-5


def smoothing(absmax: torch.Tensor, weights: Sequence[torch.Tensor], alpha: float = 0.5) -> torch.Tensor:
    """s = max|X|^α / max|W|^(1 − α) for each input, float32 (in_features,).

    absmax: the largest magnitude of each input over some text, (in_features,). weights: those of all Linear layers that read the
    input, each (out_features, in_features). alpha: 0 to 1; 0.5 for most models, larger where activations have larger outliers.
    An input that is always 0, or has no weight, keeps s = 1. Raises ValueError for shapes that do not go together, another alpha,
    infinities and NaN.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, not {alpha}")
    if not weights or any(weight.shape[1:] != absmax.shape for weight in weights):
        shapes = [tuple(weight.shape) for weight in weights]
        raise ValueError(f"weights must be (out, in) with the {len(absmax)} inputs of absmax, not {shapes}")
    largest = torch.stack([weight.detach().abs().amax(0).float() for weight in weights]).amax(0)
    x = absmax.float()
    if not (x.isfinite().all() and largest.isfinite().all()):
        raise ValueError("absmax or a weight holds infinities or NaN")
    s = x.clamp(min=LEAST) ** alpha / largest.clamp(min=LEAST) ** (1 - alpha)
    return torch.where((x > 0) & (largest > 0), s, 1.0)
