"""What AWQ's exponent does to a layer with one loud input: the loud channel's part of the error, and that of the others."""

from dataclasses import dataclass
from functools import cache

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure

from coursepkg import affine, awq
from coursepkg.affine import Scheme
from coursepkg.show.explorer import Explorer
from coursepkg.show.figures import COLOURS, figure

OUTPUTS, INPUTS, LOUD, SEED = 128, 128, 37, 5
#: Exponents tried, from 0 to 1.
RATIOS = tuple(step / 20 for step in range(21))


@dataclass(frozen=True)
class Curve:
    """For each exponent the squared error of the outputs over their square sum: the loud channel's part, and that of the others."""

    loud: list[float]
    others: list[float]
    scales: list[float]

    @property
    def total(self) -> list[float]:
        return [loud + others for loud, others in zip(self.loud, self.others, strict=True)]

    @property
    def best(self) -> int:
        """The place of the least error; of equally good ones the first."""
        return self.total.index(min(self.total))


def example(size: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight (128, 128) of normal values, and the size of each input: about 1, but one is `size`."""
    generator = torch.Generator().manual_seed(SEED)
    weight = torch.randn(OUTPUTS, INPUTS, generator=generator)
    sizes = torch.exp(0.3 * torch.randn(INPUTS, generator=generator))
    sizes[LOUD] = size
    return weight, sizes


@cache
def curve(size: float, scheme: Scheme) -> Curve:
    """The error over r where inputs do not go together, so that each channel adds its own part: size² times its squared changes."""
    weight, sizes = example(size)
    power = (weight.square().sum(0) * sizes**2).sum()
    found = []
    for ratio in RATIOS:
        s = awq.scales(sizes, ratio)
        change = affine.quantize(weight * s, scheme).dequantize() / s - weight
        part = change.square().sum(0) * sizes**2 / power
        loud = part[LOUD].item()
        found.append((loud, part.sum().item() - loud, (s[LOUD] / s.median()).item()))
    return Curve(*map(list, zip(*found, strict=True)))


class AwqCurve(Explorer):
    """Sliders for how large the loud input is, for the bits, and for how many weights share a scale."""

    def __init__(self) -> None:
        self.size = widgets.SelectionSlider(
            options=[1, 2, 4, 8, 16, 32, 64],
            value=16,
            description="Size",
            continuous_update=False,
        )
        self.bits = widgets.IntSlider(3, 2, 6, description="Bits", continuous_update=False)
        self.group = widgets.SelectionSlider(
            options=[4, 16, 32, 64, 128], value=64, description="Group", continuous_update=False
        )
        super().__init__((self.size, self.bits, self.group))

    def curve(self) -> Curve:
        """The errors for the present controls."""
        return curve(self.size.value, Scheme(self.bits.value, granularity=self.group.value))

    def figure(self) -> Figure:
        """The picture for the present state of the controls."""
        return _drawn(self.curve())

    def said(self) -> str:
        """The best exponent, what it gains, and how much larger the loud channel is made by it."""
        found = self.curve()
        errors = [100 * value for value in found.total]
        return (
            f"Rounding loses {errors[0]:.2f} % of the outputs' square sum. The best exponent is r = <b>{RATIOS[found.best]:.2f}</b>: the "
            f"loud channel is made <b>{found.scales[found.best]:.1f} times</b> as large as a typical one, and <b>{min(errors):.2f} %</b> are lost."
        )


def _drawn(found: Curve) -> Figure:
    made, (axis,) = figure(8.0, 3.6)
    lines = (
        ("all", found.total, COLOURS["AWQ"], 2.4),
        ("the loud channel's part", found.loud, COLOURS["gradients"], 1.4),
        ("the others' part", found.others, COLOURS["weights"], 1.4),
    )
    for name, values, colour, width in lines:
        axis.plot(RATIOS, [100 * value for value in values], color=colour, lw=width, label=name)
    best = found.best
    axis.plot([RATIOS[best]], [100 * found.total[best]], "o", color=COLOURS["AWQ"], ms=8)
    axis.annotate(
        f"r = {RATIOS[best]:.2f}",
        (RATIOS[best], 100 * found.total[best]),
        xytext=(0, 11),
        textcoords="offset points",
        ha="center",
        fontsize=9.5,
        color=COLOURS["AWQ"],
    )
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(0, 130 * max(found.total))
    axis.set_xlabel("exponent r;  s = (size of the input)ʳ")
    axis.set_ylabel("outputs' squared error, %")
    axis.legend(frameon=False, fontsize=9, loc="upper center", ncols=3)
    return made
