"""How far numbers are from what they were before they were rounded."""

import math

import torch


def mse(x: torch.Tensor, rounded: torch.Tensor) -> float:
    """Mean squared error, computed in float64."""
    return (rounded.double() - x.double()).square().mean().item()


def relative_error(x: torch.Tensor, rounded: torch.Tensor) -> float:
    """Squared error for each unit of the numbers' own square sum: 0 is exact, 1 is what rounding all to 0 gets."""
    error, power = (rounded.double() - x.double()).square().sum().item(), x.double().square().sum().item()
    return error / power if power else math.inf if error else 0.0


def sqnr(x: torch.Tensor, rounded: torch.Tensor) -> float:
    """Signal-to-quantization-noise ratio in decibels, −10 log10 of the relative error; infinite where it is exact.

    Each bit more gives 6.02 dB on uniform data, for half the step is a quarter of the squared error (Bennett 1948).
    """
    error = relative_error(x, rounded)
    return -10 * math.log10(error) if 0 < error < math.inf else math.inf if not error else -math.inf
