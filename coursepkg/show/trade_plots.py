"""The figures of lecture 03 that weigh error against bits: trades, the size of a group, what a model makes of it."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from coursepkg.evaluation.boards import Leaderboard
from coursepkg.show.figures import COLOURS, figure

#: The same granularity has the same colour in every figure.
SHADES = {"tensor": COLOURS["gradients"], "channel": COLOURS["optimizer"], "group": COLOURS["weights"]}
#: So have codes of the same width.
BITS = {4: COLOURS["weights"], 3: COLOURS["optimizer"], 2: COLOURS["gradients"]}
_LINES = {"fp32": (0, (5, 2)), "fp16": "-", "fp8": (0, (1, 1))}


def trade_off(curves: Mapping[str, Mapping[tuple[int, str], Sequence[tuple[float, float]]]]) -> Figure:
    """SQNR over effective bits: a panel for each kind of data, a line for each number of bits and format of the scales,
    a point for each group size; the front of the best points lies beneath.

    curves: for each panel's title, for each (bits, scale format) the points (effective bits, dB).
    """
    drawn, axes = figure(9.0, 4.2, columns=len(curves))
    for axis, (title, lines) in zip(axes, curves.items(), strict=True):
        bits, decibels = zip(*front([point for line in lines.values() for point in line]), strict=True)
        axis.step(
            [*bits, 5.2],
            [*decibels, decibels[-1]],
            where="post",
            color=COLOURS["scales"],
            linewidth=6,
            alpha=0.35,
            solid_capstyle="butt",
        )
        for (width, scale), points in lines.items():
            axis.plot(
                *zip(*points, strict=True),
                color=BITS[width],
                linestyle=_LINES[scale],
                marker="o",
                markersize=3,
                linewidth=1.2,
            )
        for width, colour in BITS.items():
            ends = [points for (each, _), points in lines.items() if each == width]
            low = min(point for points in ends for point in points)
            axis.text(
                low[0] - 0.06, low[1], f"{width} bits", color=colour, ha="right", va="center", fontsize=9
            )
        axis.set_title(title, fontsize=11)
        axis.set_xlim(1.45, 5.2)
        axis.set_xlabel("effective bits a weight")
        axis.grid(linewidth=0.3)
    axes[0].set_ylabel("SQNR, dB")
    for axis in axes[1:]:
        axis.sharey(axes[0])
    handles = [axes[0].plot([], [], color="black", linestyle=style)[0] for style in _LINES.values()]
    handles.append(axes[0].plot([], [], color=COLOURS["scales"], linewidth=6, alpha=0.35)[0])
    names = [*(f"scales in {name}" for name in _LINES), "best for a budget"]
    drawn.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return drawn


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, gain), those that no point of the same or a lower cost beats, ascending.

    >>> front([(4.5, 20), (4.0, 14), (4.25, 13), (4.25, 18)])
    [(4.0, 14), (4.25, 18), (4.5, 20)]
    """
    kept: list[tuple[float, float]] = []
    for cost, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or gain > kept[-1][1]:
            kept.append((cost, gain))
    return kept


def absmax_growth(sizes: Sequence[int], measured: Sequence[float], exact: Sequence[float]) -> Figure:
    """The mean absmax of n normal values over n: measured, as the integral has it, and as √(2 ln n) and √(2 ln 2n) have it."""
    drawn, (axis,) = figure(6.4, 3.4)
    n = np.array(sizes)
    curves = {
        "√(2 ln 2n)": (np.sqrt(2 * np.log(2 * n)), COLOURS["16 bit"]),
        "√(2 ln n)": (np.sqrt(2 * np.log(n)), COLOURS["scales"]),
        "exact": (np.array(exact), COLOURS["weights"]),
    }
    for label, (values, colour) in curves.items():
        axis.plot(n, values, color=colour, linewidth=1.6)
        axis.text(n[-1] * 1.1, values[-1], label, color=colour, va="center", fontsize=9)
    axis.plot(n, measured, "o", color=COLOURS["weights"], markersize=5)
    axis.annotate(
        "measured",
        (n[3], measured[3]),
        (n[3] * 1.5, measured[3] - 0.5),
        fontsize=9,
        color=COLOURS["weights"],
        arrowprops={"arrowstyle": "-", "color": COLOURS["weights"], "lw": 0.7},
    )
    axis.set_xscale("log", base=2)
    axis.set_xticks(n, [f"{each}" for each in n])
    axis.set_xlim(n[0] / 1.2, n[-1] * 4)
    axis.set_xlabel("n, values that share a ruler")
    axis.set_ylabel("mean absmax, standard deviations")
    axis.grid(axis="y", linewidth=0.3)
    return drawn


def net_gain(sizes: Sequence[int], nets: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """SQNR less 6.02 dB for each bit of the scales, over the group size: a panel for each kind of data, a line for each format
    of the scales, its best size marked.

    nets: for each panel's title, for each scale format the dB at each size.
    """
    drawn, axes = figure(9.0, 3.5, columns=len(nets))
    colours = {"fp32": COLOURS["gradients"], "fp16": COLOURS["weights"], "fp8": COLOURS["optimizer"]}
    for axis, (title, lines) in zip(axes, nets.items(), strict=True):
        for scale, values in lines.items():
            axis.plot(sizes, values, color=colours[scale], marker="o", markersize=3.5)
            best = int(np.argmax(values))
            axis.plot(
                sizes[best], values[best], "o", color=colours[scale], markersize=10, fillstyle="none", mew=1.8
            )
            axis.annotate(
                f"{scale}: {sizes[best]}",
                (sizes[best], values[best]),
                (0, 9) if scale == "fp8" else (0, -18),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=colours[scale],
            )
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [f"{each}" for each in sizes], rotation=45)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("group size")
        axis.grid(axis="y", linewidth=0.3)
    top = max(max(values) for lines in nets.values() for values in lines.values())
    for axis in axes:
        axis.set_ylim(top - 5, top + 0.8)
    axes[0].set_ylabel("SQNR − 6.02 · bits of the scale, dB")
    return drawn


def steps_of_granularity(ticks: Sequence[str], lines: Mapping[str, Sequence[float]]) -> Figure:
    """SQNR at each granularity, a line for each kind of data with its name at the left end."""
    drawn, (axis,) = figure(7.6, 3.7)
    colours = (COLOURS["16 bit"], COLOURS["optimizer"], COLOURS["weights"], COLOURS["gradients"])
    places = range(len(ticks))
    for (label, values), colour in zip(lines.items(), colours, strict=False):
        axis.plot(places, values, color=colour, marker="o", markersize=4)
        axis.text(-0.12, values[0], label, color=colour, ha="right", va="center", fontsize=9)
    axis.set_xticks(places, ticks)
    axis.set_xlim(-1.6, len(ticks) - 0.8)
    axis.set_xlabel("weights that share a scale")
    axis.set_ylabel("SQNR at 4 bits, dB")
    axis.grid(axis="y", linewidth=0.3)
    return drawn


def divergences(board: Leaderboard) -> Figure:
    """Left the divergence of each row from the first over its effective bits, with intervals; right how much its perplexity
    is above the first one's. Both axes logarithmic; rows without excess are not drawn at the right."""
    drawn, axes = figure(9.0, 3.9, columns=2)
    first = board.rows[0].marks.perplexity.value
    for row in board.rows[1:]:
        kind = next(kind for kind in SHADES if kind in row.name)
        kl = row.kl.nats
        axes[0].errorbar(
            row.effective_bits,
            kl.value,
            yerr=[[kl.value - kl.low], [kl.high - kl.value]],
            fmt="o",
            color=SHADES[kind],
            markersize=6,
            capsize=2,
        )
        above = row.marks.perplexity.value - first
        if above > 0:
            axes[1].plot(row.effective_bits, above, "o", color=SHADES[kind], markersize=6)
    for axis, label in zip(axes, ("KL from fp32, nats a token", "perplexity above fp32's"), strict=True):
        axis.set_yscale("log")
        axis.set_xlabel("effective bits a weight")
        axis.set_ylabel(label)
        axis.set_xlim(1.85, 4.5)
        axis.grid(axis="y", linewidth=0.3)
    names = {"tensor": "per tensor", "channel": "per channel", "group": "group of 64"}
    handles = [axes[0].plot([], [], "o", color=colour)[0] for colour in SHADES.values()]
    drawn.legend(
        handles, [names[kind] for kind in SHADES], loc="outside lower center", ncols=3, frameon=False
    )
    return drawn


def stretched(factors: Sequence[float], found: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """What happens when every ruler is made longer by a factor: left the excess nats on the text that was written, right
    the divergence; a line for each granularity.

    found: for "per channel" and "group of 64", at each factor (excess, divergence) in nats a token.
    """
    drawn, axes = figure(8.6, 3.1, columns=2)
    for label, pairs in found.items():
        colour = SHADES[next(kind for kind in SHADES if kind in label)]
        for axis, values in zip(axes, zip(*pairs, strict=True), strict=True):
            milli = [1000 * value for value in values]
            axis.plot(factors, milli, color=colour, marker="o", markersize=5)
            axis.text(factors[-1] * 1.002, milli[-1], label, color=colour, va="center", fontsize=9)
    for axis, title in zip(axes, ("more nats than fp32 on these articles", "KL from fp32"), strict=True):
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("ruler's length, times absmax")
        axis.set_xlim(factors[0] - 0.004, factors[-1] + 0.028)
        axis.set_xticks(factors, [f"{factor:.2f}" for factor in factors])
        axis.set_ylim(0, 1.12 * axis.dataLim.y1)
        axis.grid(axis="y", linewidth=0.3)
    axes[0].set_ylabel("thousandths of a nat a token")
    return drawn
