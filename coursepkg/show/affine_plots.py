"""The figures of lecture 02: where the values of a format lie, rulers, their errors, and what clipping trades."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coursepkg import affine, formats
from coursepkg.affine import Scheme
from coursepkg.intervals import Interval
from coursepkg.show.figures import COLOURS, figure

#: Colours of this lecture and the ones after it: kinds of rulers, and kinds of errors.
SYMMETRIC, ASYMMETRIC = COLOURS["weights"], COLOURS["optimizer"]
ERROR, CLIPPED, TICK = COLOURS["gradients"], COLOURS["scales"], COLOURS["16 bit"]
_LINES = (SYMMETRIC, ASYMMETRIC, ERROR, COLOURS["KV cache"], CLIPPED, COLOURS["activations"], TICK)


def format_values(names: Sequence[str], low: float = 2.0**-5, high: float = 512.0) -> Figure:
    """The positive values of number formats between `low` and `high`, a tick for each, on a logarithmic axis."""
    made, (axis,) = figure(8.0, 0.9 + 0.4 * len(names))
    for row, name in enumerate(names):
        values = formats.number_format(name).values()
        inside = values[(values >= low) & (values <= high)]
        axis.vlines(inside, row - 0.32, row + 0.32, color=SYMMETRIC, linewidth=1.1)
        axis.text(high * 1.35, row, f"{len(inside)}", va="center", fontsize=9)
    axis.text(high * 1.35, -0.62, "ticks", va="center", fontsize=8, color=TICK)
    axis.set_xscale("log", base=2)
    axis.set_xlim(low * 0.85, high * 1.2)
    ticks = [2.0**n for n in range(-5, 10, 2)]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.7)
    axis.set_xlabel("value (logarithmic axis); its negative mirrors it")
    return made


def spacings(names: Sequence[str], low: float = 1e-8, high: float = 1e5) -> Figure:
    """The distance between neighbouring values over their size, both axes logarithmic, for each format's range."""
    made, (axis,) = figure(8.0, 3.9)
    for name, colour in zip(names, _LINES, strict=False):
        one = formats.number_format(name)
        start, end = max(low, one.smallest_subnormal), min(high, one.largest)
        sizes = torch.tensor(np.geomspace(start, end, 1500))
        axis.plot(sizes, one.spacing(sizes), color=colour, linewidth=1.8)
        if one.smallest_subnormal > low:  # its name stands where it begins, else at the edge
            axis.text(start, 1.5 * one.spacing(start), name, color=colour, va="bottom", fontsize=9)
        else:
            axis.text(end, one.spacing(end), f" {name} →", color=colour, va="center", fontsize=9)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(low, high * 12)
    axis.set_xlabel("size of the value")
    axis.set_ylabel("distance to the next value")
    axis.grid(linewidth=0.4)
    return made


def draw_ruler(axis: Axes, row: float, scale: float, offset: float, codes: tuple[int, int]) -> None:
    """Ticks of a ruler at scale · q + offset for every code q, with as many of the codes written below as there is
    room for."""
    lowest, highest = codes
    every = max(1, (highest - lowest + 1) // 16)
    all_codes = np.arange(lowest, highest + 1)
    labelled = (all_codes % every == 0) & (np.minimum(all_codes - lowest, highest - all_codes) >= every)
    labelled |= (all_codes == lowest) | (all_codes == highest)
    places = scale * all_codes + offset
    axis.plot(places[[0, -1]], [row, row], color=TICK, linewidth=1)
    half = np.where(labelled, 0.12, 0.06)
    axis.vlines(places, row - half, row + half, color=COLOURS["device"], linewidth=0.8)
    for place, code in zip(places[labelled], all_codes[labelled], strict=True):
        axis.text(place, row - 0.2, minus(code), ha="center", va="top", fontsize=8)


def minus(number: float, spec: str = "") -> str:
    """The number as text, with a minus sign in place of the hyphen."""
    return f"{number:{spec}}".replace("-", "−")


def snapped(x: torch.Tensor, scheme: Scheme) -> Figure:
    """Values above their ruler, each with an arrow to the tick that it is rounded to. x: a row of a few values."""
    made, (axis,) = figure(8.0, 2.0)
    quantized = affine.quantize(x, scheme)
    scale, start = _ruler(quantized)
    draw_ruler(axis, 0.0, scale, start, scheme.code_range)
    for value, back in zip(x.tolist(), quantized.dequantize().tolist(), strict=True):
        axis.annotate(
            "",
            (back, 0.14),
            (value, 0.62),
            arrowprops={"arrowstyle": "->", "color": ERROR, "lw": 1.4, "shrinkA": 0, "shrinkB": 0},
        )
        axis.plot(value, 0.66, "o", color=SYMMETRIC, markersize=5)
        axis.text(value, 0.76, minus(value, ".2f"), ha="center", va="bottom", fontsize=9)
    axis.set_ylim(-0.5, 1.05)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.set_xlabel("value; codes are written below the ruler")
    return made


def _ruler(quantized: affine.Quantized) -> tuple[float, float]:
    """The step of a tensor with one scale, and the value of code 0."""
    scale, zero = quantized.scale.float(), quantized.zero_point
    if zero is None:
        return scale.item(), 0.0
    start = zero.float() if zero.dtype.is_floating_point else affine.offset(scale, zero)
    return scale.item(), start.item()


def two_rulers(x: torch.Tensor, schemes: Mapping[str, Scheme]) -> Figure:
    """A histogram of values, and below it the ruler of each scheme, its ticks where values can be read back."""
    made, (axis,) = figure(8.0, 2.3 + 0.45 * len(schemes))
    counts, edges = np.histogram(x.numpy(), bins=80)
    heights = 2.0 * counts / np.sort(counts)[-2]  # the spike at 0 may be cut
    axis.bar(
        edges[:-1], np.minimum(heights, 2.3), width=np.diff(edges), align="edge", color=COLOURS["activations"]
    )
    for row, (name, scheme) in enumerate(schemes.items(), start=1):
        scale, start = _ruler(affine.quantize(x, scheme))
        draw_ruler(axis, -0.75 * row, scale, start, scheme.code_range)
        axis.text(
            -0.01,
            -0.75 * row,
            name,
            ha="right",
            va="center",
            fontsize=9,
            transform=axis.get_yaxis_transform(),
        )
    axis.set_ylim(-0.75 * len(schemes) - 0.45, 2.4)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.set_xlabel("value; codes are written below each ruler")
    return made


def sqnr_lines(bits: Sequence[int], lines: Mapping[str, Sequence[float]]) -> Figure:
    """SQNR in decibels over the bits, a line for each kind of data, the first one dashed: what 6.02 dB a bit would be."""
    made, (axis,) = figure(8.0, 3.6)
    colours = (TICK, *_LINES[:-1])
    for (name, values), colour in zip(lines.items(), colours, strict=False):
        first = name == next(iter(lines))
        axis.plot(
            bits,
            values,
            color=colour,
            linewidth=1.8,
            linestyle="--" if first else "-",
            marker=None if first else "o",
            markersize=4,
        )
    ends = sorted(
        ((values[-1], name, colour) for (name, values), colour in zip(lines.items(), colours, strict=False)),
        reverse=True,
    )
    last = np.inf
    for value, name, colour in ends:  # labels keep 2.6 dB apart
        last = min(value, last - 2.6)
        axis.text(bits[-1] + 0.15, last, name, color=colour, va="center", fontsize=9)
    axis.set_xticks(list(bits))
    axis.set_xlim(bits[0] - 0.2, bits[-1] + 1.5)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("bits")
    axis.set_ylabel("SQNR, dB")
    axis.grid(axis="y", linewidth=0.4)
    return made


def clipping_parts(x: torch.Tensor, bits: int, limits: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """For each limit of a symmetric ruler, the mean squared error of the values inside it and of those beyond it.

    Both are divided by the mean square of x, so that their sum is the relative error. x: one row.
    """
    scheme = Scheme(bits, granularity="tensor")
    inside, beyond = [], []
    for limit in limits:
        scale = torch.full((1, 1), limit / scheme.code_range[1])
        back = affine.decode(affine.encode(x, scale, None, scheme), scale)
        error = (back - x).double().square()
        cut = x.abs() > limit
        inside.append(error[~cut].sum().item())
        beyond.append(error[cut].sum().item())
    whole = x.double().square().sum().item()
    return np.array(inside) / whole, np.array(beyond) / whole


def clipping_curves(x: torch.Tensor, bits: Sequence[int], ends: Mapping[str, Sequence[float]]) -> Figure:
    """Rounding error, clipping error and their sum over the limit, a panel for each number of bits.

    x: one row with standard deviation 1. ends: limits by the name of the rule, one for each panel; marked on the sum.
    """
    made, axes = figure(9.0, 3.3, columns=len(bits))
    limits = np.linspace(0.6, 4.6, 41)
    for axis, each, at in zip(axes, bits, range(len(bits)), strict=True):
        inside, beyond = clipping_parts(x, each, limits)
        axis.plot(limits, inside, color=SYMMETRIC, linewidth=1.6)
        axis.plot(limits, beyond, color=CLIPPED, linewidth=1.6)
        axis.plot(limits, inside + beyond, color=COLOURS["device"], linewidth=2)
        for (name, marks), marker in zip(ends.items(), "sDo", strict=False):
            parts = clipping_parts(x, each, [marks[at]])
            axis.plot(
                marks[at],
                sum(parts).item(),
                marker,
                color=ERROR,
                markersize=6,
                label=name if at == 0 else None,
            )
        axis.set_yscale("log")
        axis.set_ylim(2e-5, 1)
        axis.set_xlim(0.5, 4.7)
        axis.set_title(f"{each} bits", fontsize=10)
        axis.set_xlabel("limit, in σ")
        if at:
            axis.set_yticklabels([])
    axes[0].set_ylabel("squared error / mean square")
    axes[0].text(0.75, 3.5e-5, "rounding", color=SYMMETRIC, fontsize=9)
    axes[0].text(2.55, 4e-2, "clipping", color=CLIPPED, fontsize=9)
    made.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return made


def divergences(bits: Sequence[int], lines: Mapping[str, Sequence[Interval]]) -> Figure:
    """KL divergence from the unrounded model over the bits, logarithmic, with 95 % intervals; a line for each scheme."""
    made, (axis,) = figure(8.0, 3.4)
    for at, ((name, found), colour) in enumerate(zip(lines.items(), _LINES, strict=False)):
        where = np.arange(len(bits)) + 0.05 * (at - (len(lines) - 1) / 2)
        values = np.array([each.value for each in found])
        spread = np.array([[each.value - each.low, each.high - each.value] for each in found]).T
        axis.errorbar(
            where, values, yerr=spread, color=colour, marker="o", markersize=4, capsize=3, label=name
        )
    axis.set_yscale("log")
    axis.set_xticks(range(len(bits)), [str(each) for each in bits])
    axis.set_xlabel("bits of a weight, a scale for each row")
    axis.set_ylabel("KL divergence, nats a token")
    axis.grid(axis="y", linewidth=0.4)
    axis.legend(frameon=False, fontsize=9)
    return made


def columns(inputs: torch.Tensor, weights: torch.Tensor, named: Mapping[int, str]) -> Figure:
    """One point for each input feature of a Linear: how large its inputs are, and its largest weight.

    inputs: root mean square of each feature, (in_features,). weights: the largest size in each column, (in_features,).
    named: features to be named, with their texts.
    """
    made, (axis,) = figure(6.4, 3.4)
    axis.plot(inputs, weights, "o", color=SYMMETRIC, markersize=3, alpha=0.5)
    for index, text in named.items():
        axis.plot(inputs[index], weights[index], "o", color=ERROR, markersize=6)
        axis.text(
            inputs[index] * 0.85, weights[index], text, color=ERROR, ha="right", va="center", fontsize=9
        )
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("root mean square of the feature's inputs (logarithmic)")
    axis.set_ylabel("largest weight of its column")
    return made
