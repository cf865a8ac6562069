"""A block of weights and the rulers that they share: what one large weight does to the others."""

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from coursepkg import affine, distortion
from coursepkg.affine import Quantized, Scheme
from coursepkg.memory.storage import FP16, StorageFormat
from coursepkg.show.explorer import Explorer
from coursepkg.show.figures import COLOURS, figure

COUNT, PLACE, SEED = 64, 21, 3
WINDOW = 3.6
_MOST_MARKS = 40


def block(outlier: float, count: int = COUNT) -> torch.Tensor:
    """`count` normal values, and one that is `outlier` standard deviations large, at PLACE; float32 (1, count)."""
    values = torch.randn(1, count, generator=torch.Generator().manual_seed(SEED)).clamp(-3, 3)
    values[0, PLACE] = outlier
    return values


class OutlierBlock(Explorer):
    """64 weights, one of them as large as you like: sliders for its size, for how many weights share a ruler, and for bits.

    The picture is redrawn whenever a control moves. `picture` is the figure's Image widget, `verdict` the text below.
    """

    def __init__(self) -> None:
        self.outlier = widgets.FloatSlider(
            12, min=0, max=40, step=1, description="Outlier", continuous_update=False, readout_format=".0f"
        )
        self.group = widgets.SelectionSlider(
            options=[4, 8, 16, 32, 64], value=64, description="Group", continuous_update=False
        )
        self.bits = widgets.IntSlider(4, 2, 8, description="Bits", continuous_update=False)
        super().__init__((self.outlier, self.group, self.bits))

    def quantized(self) -> tuple[torch.Tensor, Quantized]:
        """The weights and what they are rounded to, in the present state of the controls."""
        weights = block(self.outlier.value)
        scheme = Scheme(self.bits.value, granularity=self.group.value, scale_dtype=torch.float16)
        return weights, affine.quantize(weights, scheme)

    def figure(self) -> Figure:
        """The picture for the present state of the controls."""
        return _drawn(*self.quantized())

    def said(self) -> str:
        """How many weights are lost, how well the others are kept, and what that takes."""
        weights, made = self.quantized()
        others = torch.arange(weights.shape[1]) != PLACE
        zeros = int((made.codes[:, others] == 0).sum())
        bits, size = made.scheme.bits, made.scheme.granularity
        effective = StorageFormat("block", bits, size, FP16).effective_bits()
        quality = distortion.sqnr(weights[:, others], made.dequantize()[:, others])
        return (
            f"<b>{zeros} of the other {int(others.sum())} weights</b> have code 0. SQNR of the others: "
            f"<b>{quality:.1f} dB</b>. Effective bits with fp16 scales: <b>{effective:.2f}</b>."
        )


def _drawn(weights: torch.Tensor, made: Quantized) -> Figure:
    """Weights as grey bars, what they are rounded to as dots, and for each group the marks of its ruler."""
    drawn, (axis,) = figure(9.0, 3.7)
    values, back = weights[0].numpy(), made.dequantize()[0].numpy()
    _rulers(axis, made, len(values) // made.scale.numel())
    places = np.arange(len(values))
    bars = axis.vlines(places, 0, values.clip(-WINDOW, WINDOW), COLOURS["16 bit"], linewidth=6, alpha=0.55)
    lost, seen = made.codes[0].numpy() == 0, np.abs(back) <= WINDOW
    dots = []
    for which, colour in ((~lost & seen, COLOURS["weights"]), (lost, COLOURS["gradients"])):
        dots += axis.plot(places[which], back[which], "o", color=colour, markersize=4.5, zorder=3)
    if abs(values[PLACE]) > WINDOW:
        axis.text(PLACE, WINDOW * 1.04, f"{values[PLACE]:.0f} ↑", ha="center", fontsize=10)
    axis.set_xlim(-0.7, len(values) - 0.3)
    axis.set_ylim(-WINDOW, WINDOW)
    axis.set_xlabel("weight, number in the row")
    axis.set_ylabel("standard deviations")
    handles = [bars, *dots, Line2D([], [], color=COLOURS["scales"], linewidth=1.4)]
    names = ("weight", "rounded", "rounded to 0", "marks of its group's ruler")
    drawn.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return drawn


def _rulers(axis: Axes, made: Quantized, size: int) -> None:
    """The marks of each group's ruler as lines over its weights; a band where they are too many to tell apart."""
    _, highest = made.scheme.code_range
    steps = np.arange(-highest, highest + 1)
    for number, scale in enumerate(made.scale[0].tolist()):
        left, right = number * size - 0.35, (number + 1) * size - 0.65
        marks = steps[np.abs(steps * scale) <= WINDOW] * scale
        if len(marks) <= _MOST_MARKS:
            axis.hlines(marks, left, right, COLOURS["scales"], linewidth=0.9, zorder=1)
        else:
            axis.fill_between([left, right], marks[0], marks[-1], color=COLOURS["scales"], alpha=0.3, lw=0)
        if number:
            axis.axvline(left - 0.15, color=COLOURS["device"], linewidth=0.7, linestyle=(0, (2, 2)))
