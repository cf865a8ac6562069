"""The number line that snaps: one value, a ruler, and what rounding makes of it."""

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure

from coursepkg import affine
from coursepkg.affine import Scheme
from coursepkg.show.affine_plots import CLIPPED, ERROR, SYMMETRIC, TICK, draw_ruler, minus
from coursepkg.show.explorer import Explorer
from coursepkg.show.figures import COLOURS, figure

RULERS: dict[str, dict] = {
    "symmetric": {},
    "symmetric, full range": {"full_range": True},
    "asymmetric, integer zero-point": {"zero_point": "integer"},
    "asymmetric, real offset": {"zero_point": "real"},
}


class NumberLine(Explorer):
    """Controls over `coursepkg.affine`: a value, the bits, the kind of ruler, and the range that it is made for.

    The picture is redrawn whenever a control moves. `picture` is the figure's Image widget, `verdict` the text below.
    """

    def __init__(self) -> None:
        wide = {"layout": widgets.Layout(width="46%", min_width="300px"), "continuous_update": False}
        self.value = widgets.FloatSlider(0.23, min=-1.5, max=1.5, step=0.01, description="Value", **wide)
        self.bits = widgets.IntSlider(4, 2, 8, description="Bits", **wide)
        self.ruler = widgets.Dropdown(options=list(RULERS), description="Ruler", layout=wide["layout"])
        self.range = widgets.FloatRangeSlider(
            value=(-0.71, 1.05), min=-1.5, max=1.5, step=0.01, description="Range", **wide
        )
        super().__init__((self.value, self.bits, self.ruler, self.range))

    def said(self) -> str:
        """The step, the code, what it stands for, and the error."""
        scheme, scale, start, code, back = self._snapped()
        error, half = back - self.value.value, scale / 2
        beyond = abs(error) > half * (1 + 1e-4)
        zero = "" if scheme.is_symmetric else f", code 0 stands for {minus(start, '.4f')}"
        snap = f"{minus(self.value.value, '.2f')} → code <b>{minus(code)}</b> → {minus(back, '.4f')}"
        return (
            f"step s = {scale:.4f}{zero}. {snap}; error {minus(error, '+.4f')}, "
            f"{'more than' if beyond else 'within'} s/2 = {half:.4f}"
            f"{': the value lies beyond the ruler and is clipped to its end.' if beyond else '.'}"
        )

    def figure(self) -> Figure:
        """The picture for the present state of the controls."""
        scheme, scale, start, _, back = self._snapped()
        made, (line,) = figure(9.0, 3.1)
        made.set_layout_engine("none")
        line.set_position([0.01, 0.44, 0.98, 0.55])
        self._draw_line(line, scheme, scale, start, back)
        self._draw_error(made.add_axes([0.3, 0.09, 0.4, 0.1]), back - self.value.value, scale / 2)
        return made

    def _draw_line(self, axis, scheme: Scheme, scale: float, start: float, back: float) -> None:
        value, (low, high) = self.value.value, self.range.value
        axis.axvspan(low, high, ymin=0.05, ymax=0.98, color=COLOURS["activations"], alpha=0.12, linewidth=0)
        draw_ruler(axis, 0.0, scale, start, scheme.code_range)
        axis.annotate(
            "", (back, 0.16), (value, 0.6), arrowprops={"arrowstyle": "->", "color": ERROR, "lw": 1.6}
        )
        axis.plot(value, 0.62, "o", color=SYMMETRIC, markersize=6)
        axis.text(value, 0.74, minus(value, ".2f"), ha="center", va="bottom", fontsize=10)
        axis.text(low, 1.03, "range", color=TICK, fontsize=8, va="top")
        axis.set_xlim(-1.75, 1.75)
        axis.set_ylim(-0.5, 1.1)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.set_xlabel("value; codes are written below the ruler", labelpad=2)

    def _draw_error(self, axis, error: float, half: float) -> None:
        beyond = abs(error) > half * (1 + 1e-4)
        axis.barh(0, error / half, color=CLIPPED if beyond else ERROR, height=0.6)
        for end in (-1, 1):
            axis.axvline(end, color=COLOURS["device"], linewidth=1)
        axis.axvline(0, color=TICK, linewidth=0.8)
        reach = max(1.6, abs(error / half) * 1.1)
        axis.set_xlim(-reach, reach)
        axis.set_yticks([])
        ends = ["−s/2", "0", "s/2"] if reach < 6 else ["", "", "s/2"]  # closer, their texts would overlap
        axis.set_xticks([-1, 0, 1], ends)
        axis.spines[["left", "top", "right"]].set_visible(False)
        axis.set_ylabel("error", fontsize=9, rotation=0, ha="right", va="center")

    def _snapped(self) -> tuple[Scheme, float, float, int, float]:
        """The scheme, its step, the value of code 0, and the code and value that the present value becomes."""
        scheme = Scheme(self.bits.value, granularity="tensor", **RULERS[self.ruler.value])
        scale, zero = affine.choose_qparams(torch.tensor(self.range.value), scheme)
        value = torch.tensor([self.value.value])
        codes = affine.encode(value, scale, zero, scheme)
        start = affine.decode(torch.tensor([0]), scale, zero)
        back = affine.decode(codes, scale, zero)
        return scheme, scale.item(), start.item(), codes.item(), back.item()
