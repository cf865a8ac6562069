"""SmoothQuant's α, moved by hand: which side takes the outliers, and what the rounded product loses."""

from functools import cache

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure

from coursepkg import distortion, smoothquant, w8a8
from coursepkg.show.explorer import Explorer
from coursepkg.show.outlier_plots import maxima

TOKENS, FEATURES, OUTPUTS, SEED = 128, 64, 64, 0
PLACES = (9, 30, 52)
PER_TOKEN, PER_TENSOR = "per token", "per tensor"


class SmoothExplorer(Explorer):
    """Controls over `smoothquant.smoothing` and `w8a8.linear`: α, the size of three steady outliers, who shares a scale."""

    def __init__(self) -> None:
        self.alpha = widgets.FloatSlider(
            0.5, min=0, max=1, step=0.05, description="α", continuous_update=False, readout_format=".2f"
        )
        self.outlier = widgets.SelectionSlider(
            options=[0, 5, 10, 20, 50, 100], value=50, description="Outlier", continuous_update=False
        )
        self.granularity = widgets.Dropdown(options=[PER_TOKEN, PER_TENSOR], description="Scales")
        super().__init__((self.alpha, self.outlier, self.granularity))

    def figure(self) -> Figure:
        """The picture for the present state of the controls."""
        x, weight = layer(self.outlier.value)
        s = smoothing(self.outlier.value, self.alpha.value)
        before = x.abs().amax(0), weight.abs().amax(0)
        return maxima(before, ((x / s).abs().amax(0), (weight * s).abs().amax(0)))

    def said(self) -> str:
        """What the rounded product loses now, without smoothing, and at the best α."""
        size, granularity = self.outlier.value, self.granularity.value
        now = error(size, self.alpha.value, granularity)
        best = min((each / 20 for each in range(21)), key=lambda alpha: error(size, alpha, granularity))
        return (
            f"Error of the product, 1 is as large as what it is to say: <b>{now:.4f}</b>. Without smoothing "
            f"{error(size, None, granularity):.4f}; at the best α, {best:.2f}, {error(size, best, granularity):.4f}."
        )


@cache
def layer(outlier: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations (tokens, features), three of whose features are `outlier` larger for every token, and normal weights
    (outputs, features) of standard deviation 0.02."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(TOKENS, FEATURES, generator=generator)
    x[:, list(PLACES)] += outlier
    return x, 0.02 * torch.randn(OUTPUTS, FEATURES, generator=generator)


def smoothing(outlier: float, alpha: float) -> torch.Tensor:
    """SmoothQuant's s for the layer."""
    x, weight = layer(outlier)
    return smoothquant.smoothing(x.abs().amax(0), [weight], alpha)


@cache
def error(outlier: float, alpha: float | None, granularity: str) -> float:
    """Squared error of the product in 8 bits, over the square of what differs from token to token: the constant part of the
    outliers says nothing. alpha: None does not smooth."""
    x, weight = layer(outlier)
    y = x @ weight.T
    s = torch.ones(FEATURES) if alpha is None else smoothing(outlier, alpha)
    scales = "channel" if granularity == PER_TOKEN else "tensor"
    rounded = w8a8.linear(x / s, w8a8.quantize_weight(weight * s), granularity=scales)
    constant = y.mean(0)
    return distortion.relative_error(y - constant, rounded - constant)
