"""Figures of lecture 05: where levels lie under the bell curve, how often each is used, what an error costs in bits."""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coursepkg.codebooks import tail_offset
from coursepkg.double_quant import DoubleQuantized, dynamic_map
from coursepkg.lloyd import Distribution
from coursepkg.show.figures import COLOURS, figure

#: How a method is drawn wherever it appears.
STYLES = {
    "int4": (COLOURS["int4"], "s"),
    "FP4": (COLOURS["FP4"], "D"),
    "NF4": (COLOURS["NF4"], "o"),
    "AF4": (COLOURS["least absolute error"], "^"),
    "Lloyd–Max": (COLOURS["least squared error"], "v"),
}


def scaled_weights(found: Distribution, expected: Distribution, levels: Sequence[float]) -> Figure:
    """How often scaled weights take a value, against what normal ones would; ticks at the levels of a codebook."""
    made, (axis,) = figure(8.0, 3.2)
    x, heights = found.density()
    axis.bar(
        x, heights, width=x[1] - x[0], color=COLOURS["weights"], alpha=0.45, label="weights of the course LM"
    )
    axis.plot(*expected.density(), color=COLOURS["device"], lw=1.5, label="normal values")
    _ticks(axis, levels, COLOURS["NF4"])
    axis.set_xlabel("weight / absmax of its block of 64")
    axis.set_ylabel("density")
    axis.legend(frameon=False, fontsize=9)
    return made


def quantile_steps(bits: int = 4) -> Figure:
    """The bell curve cut into strips of equal area on each side, and the levels at their borders."""
    made, (axis,) = figure(8.0, 3.2)
    normal, tail = NormalDist(), tail_offset(bits)
    x = torch.linspace(-2.6, 2.6, 521).tolist()
    axis.plot(x, [normal.pdf(each) for each in x], color=COLOURS["device"], lw=1.2)
    for sign, count in ((1, 2 ** (bits - 1)), (-1, 2 ** (bits - 1) - 1)):
        borders = [normal.inv_cdf(0.5 + (tail - 0.5) * step / count) for step in range(count + 1)]
        for number, (left, right) in enumerate(zip(borders, borders[1:], strict=False)):
            strip = [left + (right - left) * step / 40 for step in range(41)]
            axis.fill_between(
                [sign * each for each in strip],
                [normal.pdf(each) for each in strip],
                color=COLOURS["NF4"] if sign > 0 else COLOURS["int4"],
                alpha=0.45 if number % 2 else 0.2,
                lw=0,
            )
        axis.text(
            sign * 1.35, 0.30, f"{count} strips of\n{(tail - 0.5) / count:.4f}", ha="center", fontsize=9
        )
        for border in borders:
            axis.plot([sign * border] * 2, [-0.03, 0], color=COLOURS["device"], lw=1.2, clip_on=False)
    axis.text(2.2, 0.06, f"tail {1 - tail:.4f}", ha="center", fontsize=9)
    axis.text(-2.2, 0.06, f"tail {1 - tail:.4f}", ha="center", fontsize=9)
    axis.set_ylim(-0.03, 0.42)
    axis.set_xlabel(
        "standard deviations; the short lines below are the levels before they are divided by the largest"
    )
    axis.set_ylabel("density")
    return made


def level_rows(books: Mapping[str, Sequence[float]]) -> Figure:
    """Codebooks under each other, a mark for each level."""
    made, (axis,) = figure(8.0, 0.8 + 0.42 * len(books))
    for row, (name, levels) in enumerate(books.items()):
        colour, _ = _style(name)
        axis.plot([-1, 1], [row, row], color=COLOURS["16 bit"], lw=0.6, zorder=0)
        axis.plot(sorted(levels), [row] * len(levels), "|", color=colour, markersize=16, mew=2)
    axis.set_yticks(range(len(books)), list(books))
    axis.set_ylim(len(books) - 0.5, -0.6)
    axis.set_xlabel("level, in units of absmax")
    axis.spines["left"].set_visible(False)
    return made


def use(distribution: Distribution, books: Mapping[str, Sequence[float]]) -> Figure:
    """How many of the values are rounded to each level, beside one sixteenth."""
    made, axes = figure(9.0, 2.8, columns=len(books))
    for axis, (name, levels) in zip(axes, books.items(), strict=True):
        shares = 100 * distribution.use(tuple(levels))
        axis.bar(range(len(shares)), shares.tolist(), color=_style(name)[0], width=0.8)
        axis.axhline(100 / len(shares), color=COLOURS["device"], lw=0.8, ls="--")
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("level, lowest to highest")
        axis.set_xticks([0, len(shares) - 1], ["−1", "1"])
        axis.set_ylim(0, 14)
    axes[0].set_ylabel("% of the values")
    axes[-1].text(len(shares) - 0.5, 100 / len(shares) + 0.3, "1/16", ha="right", fontsize=9)
    return made


def error_for_bits(rows: Mapping[str, Sequence[tuple[float, float, int]]]) -> Figure:
    """Lines of (effective bits, relative error in dB, block size), one for each method."""
    made, (axis,) = figure(8.0, 3.6)
    for name, points in rows.items():
        colour, marker = _style(name)
        bits, errors, sizes = zip(*points, strict=True)
        axis.plot(bits, errors, color=colour, marker=marker, lw=1.4, markersize=5)
        axis.text(
            bits[0] + 0.01, errors[0], f"{name}, blocks of {sizes[0]}", color=colour, va="center", fontsize=9
        )
    axis.set_xlabel("bits a weight, scales included (a 16-bit scale for each block)")
    axis.set_ylabel("SQNR, dB (higher is better)")
    axis.margins(x=0.16)
    return made


def double_quantized(scales: torch.Tensor, stored: DoubleQuantized) -> Figure:
    """The scales of a weight and what is left of them without their mean; below, the places that 8 bits offer."""
    made, (left, right) = figure(9.0, 3.0, columns=2)
    left.hist(1e3 * scales.numpy(), bins=60, color=COLOURS["scales"])
    left.axvline(1e3 * stored.offset.item(), color=COLOURS["device"], lw=1, ls="--")
    left.text(1e3 * stored.offset.item(), left.get_ylim()[1], " mean", va="top", fontsize=9)
    left.set_xlabel("absmax of a block, thousandths")
    left.set_ylabel("blocks")
    levels = dynamic_map()
    rest = (scales - stored.offset) / stored.absmax.repeat_interleave(256)[: len(scales)]
    right.hist(rest.numpy(), bins=60, color=COLOURS["scales"])
    _ticks(right, levels.tolist(), COLOURS["device"])
    right.set_xlabel("(absmax − mean) / largest of 256")
    return made


def divergences(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Of each row of a leaderboard the KL divergence with its interval over the stored size; logarithmic divergence.

    Methods of 4 bits are told apart by their markers, others by the names beside them.
    """
    made, (axis,) = figure(9.0, 4.2)
    drawn: dict[str, Any] = {}
    for row in rows:
        value, low, high = row["kl"]
        if value <= 0:
            continue
        at, (colour, marker) = row["stored_bytes"] / 1e6, _style(row["name"])
        point = axis.errorbar(
            at, value, yerr=[[value - low], [high - value]], fmt=marker, color=colour, capsize=2, markersize=5
        )
        method = next((name for name in STYLES if row["name"].startswith(name)), None)
        if method is None or row["name"].endswith("per tensor"):
            above = "bottom" if row["name"].endswith("per tensor") else "center"
            axis.text(at + 0.03, value, row["name"], fontsize=8, va=above)
        if method is not None:
            drawn[method] = point
    axis.legend(drawn.values(), drawn.keys(), frameon=False, fontsize=9, loc="upper right")
    axis.set_yscale("log")
    axis.margins(x=0.14)
    axis.set_xlabel("stored model, MB (10⁶ bytes)")
    axis.set_ylabel("KL from fp32, nats a token")
    return made


def _style(name: str) -> tuple[str, str]:
    """Colour and marker of the method that a name begins with."""
    for method, style in STYLES.items():
        if name.startswith(method):
            return style
    return COLOURS["16 bit"], "o"


def _ticks(axis: Axes, levels: Sequence[float], colour: str) -> None:
    """Marks below the axis, over the tick labels' line."""
    bottom = -0.05 * axis.get_ylim()[1]
    axis.vlines(list(levels), bottom, 0, color=colour, lw=1)
    axis.set_ylim(bottom=bottom)
