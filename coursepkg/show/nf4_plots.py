"""Figures of lecture 05: where levels lie under the bell curve, how often each is used, what an error costs in bits and a way of
finding the nearest level in time."""

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
    "E2M1": (COLOURS["E2M1"], "P"),
    "NF4": (COLOURS["NF4"], "o"),
    "AF4": (COLOURS["AF4"], "<"),
    "least absolute": (COLOURS["least absolute error"], "^"),
    "Lloyd–Max": (COLOURS["least squared error"], "v"),
}


def scaled_weights(found: Distribution, expected: Distribution, levels: Sequence[float]) -> Figure:
    """How often scaled weights take a value, against what normal ones would; ticks at the levels of a codebook.

    What lies at exactly −1 and 1 is not drawn, for it has no width: the figure says how much that is.
    """
    made, (axis,) = figure(8.0, 3.2)
    x, heights = found.density()
    axis.bar(
        x, heights, width=x[1] - x[0], color=COLOURS["weights"], alpha=0.45, label="weights of the course LM"
    )
    axis.plot(*expected.density(), color=COLOURS["device"], lw=1.5, label="normal values")
    _ticks(axis, levels, COLOURS["NF4"])
    at_ends = 100 * (found.mass[0] + found.mass[-1]).item()
    axis.text(1, 0.7, f"not drawn: the {at_ends:.1f} %\nat exactly −1 or 1", ha="right", fontsize=9)
    axis.set_xlabel("weight / absmax of its block of 64")
    axis.set_ylabel("density")
    axis.legend(frameon=False, fontsize=9)
    return made


def quantile_steps(bits: int = 4) -> Figure:
    """The bell curve cut into strips of equal area on each side, and the levels at their borders."""
    made, (axis,) = figure(8.0, 3.2)
    normal, tail = NormalDist(), tail_offset(bits)
    x = torch.linspace(-3, 3, 601).tolist()
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
        axis.annotate(
            f"tail {1 - tail:.4f}",
            (sign * 2.05, 0.015),
            (sign * 2.5, 0.1),
            ha="center",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "lw": 0.8, "color": COLOURS["device"]},
        )
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
    """How many of the values are rounded to each level, beside equal use of all."""
    made, axes = figure(9.0, 2.8, columns=len(books))
    for axis, (name, levels) in zip(axes, books.items(), strict=True):
        shares = 100 * distribution.use(tuple(levels))
        axis.bar(range(len(shares)), shares.tolist(), color=_style(name)[0], width=0.8)
        axis.axhline(100 / len(shares), color=COLOURS["device"], lw=0.8, ls="--")
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("level, lowest to highest")
        axis.set_xticks([0, len(shares) - 1], ["−1", "1"])
        axis.set_ylim(0, 18)
        axis.text(-0.5, 17.8, f"dashed: 1/{len(shares)}, equal use", va="top", fontsize=8)
    axes[0].set_ylabel("% of the values")
    return made


def error_for_bits(rows: Mapping[str, Sequence[tuple[float, float, int]]]) -> Figure:
    """Lines of (effective bits, SQNR in dB, block size), one for each method; sizes stand above the highest line."""
    made, (axis,) = figure(8.0, 4.0)
    highest: dict[tuple[float, int], float] = {}
    for name, points in rows.items():
        colour, marker = _style(name)
        bits, errors, _ = zip(*points, strict=True)
        axis.plot(bits, errors, color=colour, marker=marker, lw=1.4, markersize=5)
        axis.text(bits[0] + 0.02, errors[0], name, color=colour, va="center", fontsize=9)
        for at, error, size in points:
            highest[at, size] = max(error, highest.get((at, size), error))
    for (at, size), error in highest.items():
        said = f"blocks of {size}" if size == min(size for _, size in highest) else str(size)
        axis.annotate(said, (at, error), (2, 7), textcoords="offset points", ha="right", fontsize=9)
    axis.set_xlabel("bits a weight, scales included (a 16-bit scale for each block)")
    axis.set_ylabel("SQNR, dB (higher is better)")
    axis.margins(x=0.14, y=0.09)
    return made


def double_quantized(scales: torch.Tensor, stored: DoubleQuantized) -> Figure:
    """The scales of a weight and what is left of them without their mean; below, the places that 8 bits offer."""
    made, (left, right) = figure(9.0, 3.0, columns=2)
    left.hist(1e3 * scales.numpy(), bins=60, color=COLOURS["scales"])
    left.axvline(1e3 * stored.offset.item(), color=COLOURS["device"], lw=1, ls="--")
    left.text(1e3 * stored.offset.item(), left.get_ylim()[1], " mean", va="top", fontsize=9)
    left.set_xlabel("absmax, thousandths")
    left.set_ylabel("blocks of 64 weights")
    levels = dynamic_map()
    rest = (scales - stored.offset) / stored.absmax.repeat_interleave(256)[: len(scales)]
    right.hist(rest.numpy(), bins=60, color=COLOURS["scales"])
    _ticks(right, levels.tolist(), COLOURS["device"])
    right.set_xlabel("(absmax − mean) / largest of 256")
    right.set_ylabel("blocks of 64 weights")
    return made


def divergences(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Of a leaderboard's rows the KL divergence with its interval: over the stored size, logarithmic, with names for those above and
    below 4 bits; and those of 4 to 5 bits by name, linear, the least at the top, without what is far off the others."""
    made, (left, right) = figure(11.0, 4.4, columns=2)
    rows = [row for row in rows if row["kl"][0] > 0]
    near = sorted((row for row in rows if _in_panel(row)), key=lambda row: -row["kl"][0])
    for row in rows:
        at = row["stored_bytes"] / 1e6
        _interval(left, row, at)
        if row not in near:
            place = {"xytext": (6, 0), "textcoords": "offset points"}
            above = "bottom" if row["name"].endswith("per tensor") else "center"
            left.annotate(row["name"], (at, row["kl"][0]), va=above, fontsize=8, **place)
    if near:
        at, value = near[0]["stored_bytes"] / 1e6, near[-1]["kl"][0]
        left.annotate(
            "the others with 4 bits:\nsee the right",
            (at, value),
            (0, -26),
            textcoords="offset points",
            fontsize=8,
        )
    left.set_yscale("log")
    left.margins(x=0.3, y=0.08)
    left.set_xlabel("stored model, MB (10⁶ bytes)")
    left.set_ylabel("KL from fp32, nats a token")
    for place, row in enumerate(near):
        value, low, high = (1e3 * number for number in row["kl"])
        colour, marker = _style(row["name"])
        right.errorbar(
            value,
            place,
            xerr=[[value - low], [high - value]],
            fmt=marker,
            color=colour,
            capsize=2,
            markersize=5,
        )
    right.set_yticks(
        range(len(near)), [f"{row['name']}\n{row['effective_bits']:.2f} bits" for row in near], fontsize=8
    )
    right.set_xlim(left=0)
    right.set_xlabel("the same, thousandths of a nat, not logarithmic")
    return made


def nearest_times(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """How long each way of finding the nearest level takes, logarithmic, a bar for each size of the array; and how many bytes it moves
    for a weight."""
    ways = {row["name"]: row["bytes"] for row in rows}
    sizes = sorted({row["weights"] for row in rows})
    made, (axis,) = figure(8.0, 0.9 + 0.6 * len(ways))
    for row in rows:
        median, low, high = (1e6 * milliseconds / row["weights"] for milliseconds in row["ms"])
        size = sizes.index(row["weights"])
        place = list(ways).index(row["name"]) + 0.38 * (size - (len(sizes) - 1) / 2)
        axis.barh(place, median, color=COLOURS["NF4"], alpha=0.3 + 0.4 * size, height=0.34)
        error = [[median - low], [high - median]]
        axis.errorbar(median, place, xerr=error, color=COLOURS["device"], capsize=2, lw=1)
        said = f"{median:.1f} ns"
        if row["name"] == rows[0]["name"]:
            said += f", {row['weights'] / 1e6:.0f} million weights"
        axis.annotate(said, (high, place), (6, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set_yticks(range(len(ways)), [f"{name}\nmoves {moved} bytes" for name, moved in ways.items()])
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlim(1, 12e6 * max(row["ms"][2] / row["weights"] for row in rows))
    axis.set_xlabel("nanoseconds a weight, logarithmic; one thread")
    return made


def _in_panel(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of the 4-bit ones that lie together."""
    return 4 <= row["effective_bits"] < 5 and row["kl"][0] < 0.01


def _interval(axis: Axes, row: Mapping[str, Any], at: float) -> None:
    """A row's divergence with its interval, upright."""
    value, low, high = row["kl"]
    colour, marker = _style(row["name"])
    axis.errorbar(
        at, value, yerr=[[value - low], [high - value]], fmt=marker, color=colour, capsize=2, markersize=5
    )


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
