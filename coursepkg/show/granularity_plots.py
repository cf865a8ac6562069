"""The figures of lecture 03: which weights share a scale, what that does to their errors, what it costs, how codes are packed."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from coursepkg.affine import Quantized
from coursepkg.evaluation.boards import Leaderboard
from coursepkg.show.figures import COLOURS, figure

#: The same granularity has the same colour in every figure.
SHADES = {"tensor": COLOURS["gradients"], "channel": COLOURS["optimizer"], "group": COLOURS["weights"]}
#: So have codes of the same width.
BITS = {4: COLOURS["weights"], 3: COLOURS["optimizer"], 2: COLOURS["gradients"]}
_LINES = {"fp32": (0, (5, 2)), "fp16": "-", "fp8": (0, (1, 1))}


def blocks_by_hand(matrix: torch.Tensor, made: Mapping[str, Quantized]) -> Figure:
    """For each label a small matrix: its values, below each its code, the blocks that share a scale outlined, and cells
    the darker the larger the error."""
    drawn, axes = figure(3.2 * len(made), 3.1, columns=len(made))
    errors = {label: (each.dequantize() - matrix).abs() for label, each in made.items()}
    worst = max(error.max().item() for error in errors.values())
    rows, columns = matrix.shape
    for axis, (label, each) in zip(axes, made.items(), strict=True):
        axis.imshow(errors[label], cmap="Oranges", vmin=0, vmax=1.6 * worst)
        for row in range(rows):
            for column in range(columns):
                axis.text(
                    column,
                    row - 0.14,
                    f"{matrix[row, column]:.2f}",
                    ha="center",
                    va="center",
                    fontsize=10,
                )
                code = f"{each.codes[row, column]:d}"
                axis.text(
                    column,
                    row + 0.26,
                    code,
                    ha="center",
                    va="center",
                    fontsize=9,
                    color=COLOURS["weights"],
                    fontweight="bold",
                )
        _outline(axis, matrix.shape, each.scale.shape)
        count = each.scale.numel()
        axis.set_title(f"{label}: {count} scale{'s' if count > 1 else ''}", fontsize=11)
        axis.set_axis_off()
    return drawn


def _outline(axis: Axes, shape: Sequence[int], scales: Sequence[int]) -> None:
    """A frame around each block."""
    height, width = (whole / part for whole, part in zip(shape, scales, strict=True))
    for row in range(scales[0]):
        for column in range(scales[1]):
            axis.add_patch(
                Rectangle(
                    (column * width - 0.47, row * height - 0.47),
                    width - 0.06,
                    height - 0.06,
                    fill=False,
                    linewidth=1.8,
                    edgecolor=COLOURS["device"],
                )
            )


def error_maps(weight: torch.Tensor, made: Mapping[str, Quantized]) -> Figure:
    """For each label the errors of a matrix's weights as a picture, in one scale of colours, and the share of codes 0."""
    drawn, axes = figure(8.6, 3.5, columns=len(made))
    errors = {label: (each.dequantize() - weight).abs() for label, each in made.items()}
    worst = torch.stack(list(errors.values())).quantile(0.999).item()
    few_colours = colormaps["viridis"].resampled(6)  # noise in many colours makes a large file
    for number, (axis, (label, each)) in enumerate(zip(axes, made.items(), strict=True)):
        image = axis.imshow(errors[label], cmap=few_colours, vmin=0, vmax=worst, aspect="auto")
        zeros = (each.codes == 0).float().mean().item()
        axis.set_title(f"{label}\n{100 * zeros:.1f} % of codes are 0", fontsize=10)
        axis.set_xlabel("input feature")
        if number:
            axis.set_yticklabels([])
        else:
            axis.set_ylabel("output feature")
    drawn.colorbar(image, ax=axes, label="size of the error", fraction=0.04, pad=0.02)
    return drawn


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


def axes_of_sharing(outputs: int = 4, inputs: int = 8, group: int = 4) -> Figure:
    """Which weights of y = W x share a scale, a colour for each: rows, groups along the inputs, columns."""
    kinds = {
        "per output channel\n$y_j = s_j\\,\\Sigma_i\\, q_{ji} x_i$": (1, inputs),
        "groups along the inputs\n$y_j = \\Sigma_g\\, s_{jg} \\,\\Sigma_{i \\in g}\\, q_{ji} x_i$": (
            1,
            group,
        ),
        "per input channel\n$y_j = \\Sigma_i\\, s_i\\, q_{ji} x_i$": (outputs, 1),
    }
    drawn, axes = figure(9.2, 2.25, columns=len(kinds))
    shades = [COLOURS[name] for name in ("weights", "scales", "optimizer", "KV cache", "activations")]
    shades += [COLOURS[name] for name in ("gradients", "adapters", "16 bit")]
    for axis, (label, (height, width)) in zip(axes, kinds.items(), strict=True):
        for row in range(outputs):
            for column in range(inputs):
                block = row // height * (inputs // width) + column // width
                axis.add_patch(
                    Rectangle((column + 0.05, row + 0.05), 0.9, 0.9, color=shades[block % len(shades)])
                )
        axis.set_xlim(-0.1, inputs + 0.1)
        axis.set_ylim(outputs + 0.1, -0.1)
        axis.set_aspect("equal")
        axis.set_title(label, fontsize=10)
        axis.set_xlabel("inputs i: the sum runs this way →", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    axes[0].set_ylabel("outputs j", fontsize=9)
    return drawn


def bit_stream(codes: Sequence[int], bits: int, first: int = 0, word: int = 8) -> Figure:
    """The bits of codes in a row, the lowest bit of the first code first, each code in a colour of its own, with a line
    where a byte or a word ends.

    first: the number of the first code that is drawn; it begins at bit first · bits of its stream.
    """
    drawn, (axis,) = figure(9.2, 1.75)
    shades = [COLOURS[name] for name in ("activations", "scales", "optimizer", "KV cache", "adapters")]
    start = first * bits
    for number, code in enumerate(codes, first):
        at = number * bits
        for bit in range(bits):
            axis.add_patch(
                Rectangle((at + bit, 0), 1, 1, color=shades[number % len(shades)], alpha=0.55, linewidth=0)
            )
            axis.text(at + bit + 0.5, 0.5, str(code >> bit & 1), ha="center", va="center", fontsize=10)
        axis.text(at + bits / 2, 1.12, f"{code}", ha="center", fontsize=10, fontweight="bold")
        axis.text(at + bits / 2, -0.12, f"{number}", ha="center", va="top", fontsize=8)
    end = start + len(codes) * bits
    for edge in range(-(-start // word) * word, end + 1, word):
        axis.plot([edge, edge], [-0.35, 1.6], color=COLOURS["device"], linewidth=2)
    name = "byte" if word == 8 else f"{word}-bit word"
    for number in range(start // word, -(-end // word)):
        left, right = max(start, number * word), min(end, (number + 1) * word)
        axis.text(
            (left + right) / 2, 1.75, f"{name} {number}", ha="center", fontsize=9, color=COLOURS["device"]
        )
    axis.text(start - 0.3, 1.12, "code", ha="right", fontsize=9)
    axis.text(start - 0.3, 0.5, "bits", ha="right", va="center", fontsize=9)
    axis.text(start - 0.3, -0.12, "number", ha="right", va="top", fontsize=9)
    axis.set_xlim(start - 2.2, end + 0.2)
    axis.set_ylim(-0.6, 2.1)
    axis.set_axis_off()
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
