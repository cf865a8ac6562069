"""Figures of lecture 07: which inputs are loud, what a scale does to a group, the search, clipping, and whose error falls."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import torch
from matplotlib.figure import Figure

from coursepkg.awq import Search
from coursepkg.show.figures import COLOURS, figure

#: Ways to choose what is kept: colour and marker.
KEPT = {
    "at random": (COLOURS["16 bit"], "o"),
    "by weights": (COLOURS["weights"], "s"),
    "by inputs": (COLOURS["activations"], "^"),
}
_LINES = (COLOURS["weights"], COLOURS["gradients"], COLOURS["device"], COLOURS["activations"])
_DASHES = ("-", "-", "--", "-")


def salient(
    sizes: Mapping[str, torch.Tensor], left: Mapping[str, Sequence[float]], names: Sequence[str]
) -> Figure:
    """How large the inputs of some layers are, and how much of rounding's error is left where 1 % of the inputs keep their weights.

    sizes: mean magnitudes by the layer's name. left: shares from 0 to 1 for each layer, by the way of choosing. names: of these layers.
    """
    made, (one, two) = figure(10.0, 3.6, columns=2)
    for (name, size), colour, dash in zip(sizes.items(), cycle(_LINES), cycle(_DASHES)):
        ordered = (size / size.median()).sort(descending=True).values
        one.plot(
            torch.linspace(0, 100, len(ordered)).numpy(),
            ordered.numpy(),
            dash,
            color=colour,
            lw=2,
            label=name,
        )
    one.set_yscale("log")
    one.set_xlabel("inputs, the largest first, %")
    one.set_ylabel("mean size / the median of all")
    one.legend(frameon=False, fontsize=9)
    for way, shares in left.items():
        colour, marker = KEPT[way]
        two.plot([100 * share for share in shares], marker, color=colour, ms=4.5, label=way)
    two.set_xticks(range(len(names)), names, rotation=90, fontsize=6.5)
    two.set_xlim(-0.6, len(names) - 0.4)
    two.set_ylim(0, 109)
    two.set_ylabel("of rounding's error left, %")
    two.legend(frameon=False, fontsize=9, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return made


def scaled(rows: Sequence[tuple[float, float, float, float, float]]) -> Figure:
    """What is left of the error when one weight in each group is scaled.

    rows: for each s the mean of Δ′/Δ, what is expected of the scaled weights' error, what was measured, and what was measured of the others';
    all root mean squares over those at s = 1.
    """
    made, (axis,) = figure(8.0, 3.4)
    s, _, expected, measured, others = zip(*rows, strict=True)
    axis.plot(s, [1 / each for each in s], ":", color=COLOURS["device"], lw=1.2, label="1 / s")
    axis.plot(s, expected, "-", color=COLOURS["AWQ"], lw=1.4, label="expected, Δ′/Δ · 1/s")
    axis.plot(s, measured, "D", color=COLOURS["AWQ"], ms=6, label="measured, scaled weights")
    axis.plot(s, others, "o-", color=COLOURS["weights"], ms=5, lw=1.2, label="measured, their neighbours")
    axis.axhline(1, color=COLOURS["16 bit"], lw=0.8, zorder=0)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set_xticks(s, [f"{each:g}" for each in s])
    ticks = (0.125, 0.25, 0.5, 1, 2)
    axis.set_yticks(ticks, [f"{each:g}" for each in ticks])
    axis.set_xlabel("scale s of one weight in each group of 64")
    axis.set_ylabel("error (rms) / that at s = 1")
    axis.legend(frameon=False, fontsize=9, loc="lower left")
    return made


def curves(searches: Mapping[str, Search]) -> Figure:
    """The error of the outputs over r, over that of rounding (r = 0), for some groups of layers; the least one marked."""
    made, (axis,) = figure(8.0, 3.6)
    for (name, found), colour in zip(searches.items(), cycle(_LINES)):
        shares = [error / found.errors[0] for error in found.errors]
        axis.plot(found.ratios, shares, "-", color=colour, lw=1.8, label=name)
        axis.plot([found.ratio], [min(shares)], "o", color=colour, ms=7)
    axis.axhline(1, color=COLOURS["16 bit"], lw=0.8, zorder=0)
    axis.set_ylim(0, 2)
    axis.set_xlim(-0.02, 0.97)
    axis.set_xlabel("exponent r;  s = (mean size of the input)ʳ")
    axis.set_ylabel("outputs' squared error / at r = 0")
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    return made


def tokens(found: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> Figure:
    """For each token how loud its outputs are, and what the scales have made of its error; a panel for each layer.

    found: by name of the layer the tokens' square sums of outputs, and their errors with scales over those without; (tokens,) each.
    """
    made, axes = figure(9.6, 3.5, columns=len(found))
    for axis, (name, (power, ratio)) in zip(axes, found.items(), strict=True):
        axis.plot(
            (power / power.median()).numpy(),
            ratio.numpy(),
            ".",
            color=COLOURS["AWQ"],
            ms=4,
            alpha=0.6,
            mew=0,
        )
        axis.axhline(1, color=COLOURS["device"], lw=0.9)
        order = power.argsort()
        for part in order.chunk(10):
            spot = (power[part].median() / power.median()).item(), ratio[part].median().item()
            axis.plot(*spot, "o", color=COLOURS["device"], ms=5, mfc="white", zorder=3)
        axis.set_xscale("log")
        axis.set_yscale("log", base=2)
        ticks = (0.25, 0.5, 1, 2, 4)
        axis.set_yticks(ticks, [f"{each:g}" for each in ticks])
        axis.set_ylim(0.15, 5)
        axis.set_xlabel("square sum of the token's outputs / median")
        axis.set_title(name, fontsize=10.5)
    axes[0].set_ylabel("token's error, with scales / without")
    axes[0].text(
        0.98,
        0.97,
        "○ median of a tenth of the tokens",
        transform=axes[0].transAxes,
        ha="right",
        va="top",
        fontsize=9,
    )
    return made


def clipping(shares: Sequence[float], errors: Mapping[str, Sequence[float]]) -> Figure:
    """The error of the outputs over where groups are cut off, by name; the least one marked. errors: over that of no cut."""
    made, (axis,) = figure(8.0, 3.3)
    for (name, values), colour in zip(errors.items(), cycle(_LINES)):
        axis.plot(shares, values, color=colour, lw=1.8, label=name)
        least = values.index(min(values))
        axis.plot([shares[least]], [values[least]], "o", color=colour, ms=7)
    axis.axhline(1, color=COLOURS["16 bit"], lw=0.8, zorder=0)
    axis.set_ylim(0, 2)
    axis.invert_xaxis()
    axis.set_xlabel("cut off at this share of the group's absmax")
    axis.set_ylabel("outputs' squared error / uncut")
    axis.legend(frameon=False, fontsize=9, loc="lower center", ncols=2)
    return made
