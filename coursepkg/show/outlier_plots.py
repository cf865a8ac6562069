"""Figures of lecture 04: outliers in activations, what they do to a ruler, and what takes them away."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from coursepkg.show.figures import COLOURS, figure

#: Colour of the method that a name begins with.
METHODS = {name: COLOURS[name] for name in ("W8A8", "LLM.int8()", "SmoothQuant")}
#: How each model is drawn: outliers' kind, marker, line.
MODELS = {
    "steady outliers": ("s", "-"),
    "swinging outliers": ("o", "--"),
    "as trained": ("^", ":"),
}


def scales_of_a_product(tokens: int = 3, features: int = 5, outputs: int = 4) -> Figure:
    """Which scale goes where: a colour for each row of x and each row of W, and the element of y that has both."""
    drawn, axes = figure(9.2, 2.5, columns=3)
    rows = [COLOURS[name] for name in ("scales", "activations", "optimizer")]
    columns = [COLOURS[name] for name in ("weights", "KV cache", "gradients", "adapters")]
    for row in range(tokens):
        for feature in range(features):
            _cell(axes[0], feature, row, rows[row % len(rows)])
        for output in range(outputs):
            _cell(axes[2], output, row, rows[row % len(rows)], width=0.45)
            _cell(axes[2], output + 0.45, row, columns[output % len(columns)], width=0.45)
            axes[2].text(
                output + 0.48, row + 0.5, f"$s_{row + 1}\\,t_{output + 1}$", ha="center", va="center"
            )
    for output in range(outputs):
        for feature in range(features):
            _cell(axes[1], feature, output, columns[output % len(columns)])
    shapes = ((features, tokens), (features, outputs), (outputs, tokens))
    titles = (
        "x: a scale $s_i$ for each token",
        "W: a scale $t_j$ for each output",
        "y: one product of scales each",
    )
    labels = ("feature: the sum runs this way →", "feature: the sum runs this way →", "output j")
    for axis, (width, height), title, label in zip(axes, shapes, titles, labels, strict=True):
        axis.set_xlim(-0.1, width + 0.1)
        axis.set_ylim(max(tokens, outputs) + 0.1, -0.1)
        axis.set_aspect("equal")
        axis.set_title(title, fontsize=10)
        axis.text(width / 2, height + 0.15, label, ha="center", va="top", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    for axis, label in zip(axes, ("token i", "output j", "token i"), strict=True):
        axis.set_ylabel(label, fontsize=9)
    return drawn


def _cell(axis: Axes, x: float, y: float, colour: str, width: float = 0.9) -> None:
    axis.add_patch(Rectangle((x + 0.05, y + 0.05), width, 0.9, color=colour, alpha=0.75, lw=0))


def least_times(tokens: Sequence[int], times: Mapping[str, Sequence[float]]) -> Figure:
    """The least time of a product by each way over the tokens that are multiplied at once, as a share of 16 bit's."""
    drawn, (axis,) = figure(8.0, 3.4)
    colours = {"16 bit": COLOURS["16 bit"], "W8A8": COLOURS["W8A8"], "W4A16": COLOURS["NF4"]}
    for name, values in times.items():
        axis.plot(tokens, values, color=colours[name], lw=1.8, marker="o", markersize=3.5)
        axis.annotate(
            name, (tokens[0], values[0]), (-6, 0), textcoords="offset points", ha="right", va="center",
            color=colours[name], fontsize=10,
        )  # fmt: skip
    axis.set_xscale("log", base=2)
    axis.set_xticks(tokens[::2], [f"{each:,}" for each in tokens[::2]])
    axis.set_xlim(tokens[0] / 2.6, tokens[-1] * 1.15)
    axis.set_ylim(0, 1.12)
    axis.set_xlabel("tokens multiplied at once")
    axis.set_ylabel("least time, 16 bit = 1")
    return drawn


def tails(values: Mapping[str, torch.Tensor], largest: float = 300.0) -> Figure:
    """What share of the values is more than t times their root mean square, for each name a line over t; both logarithmic."""
    drawn, (axis,) = figure(8.0, 3.6)
    t = torch.logspace(0, torch.tensor(largest).log10().item(), 60)
    colours = (COLOURS["weights"], COLOURS["activations"], COLOURS["16 bit"], COLOURS["gradients"])
    for colour, (name, x) in zip(colours, values.items(), strict=False):
        sizes = (x.flatten() / x.square().mean().sqrt()).abs().sort().values
        share = 1 - torch.searchsorted(sizes, t).double() / len(sizes)
        seen = share > 0
        axis.plot(t[seen].tolist(), share[seen].tolist(), color=colour, lw=2)
        end = t[seen][-1].item(), share[seen][-1].item()
        beside = (
            {"ha": "right", "va": "top"} if end[0] < 10 else {"ha": "left", "va": "bottom"}
        )  # no line below
        axis.annotate(name, end, (4, 0), textcoords="offset points", color=colour, fontsize=9, **beside)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    axis.set_xlim(0.9, largest * 2)
    axis.set_xlabel("t, in root mean squares, logarithmic")
    axis.set_ylabel("share of values above t")
    return drawn


def magnitudes(panels: Mapping[str, torch.Tensor], label: str = "size of the value") -> Figure:
    """Matrices as pictures of their sizes, one logarithmic scale of colours for all: rows downwards, features to the right."""
    drawn, axes = figure(10.4, 3.3, columns=len(panels))
    few_colours = colormaps["viridis"].resampled(8)  # noise in many colours makes a large file
    norm = LogNorm(0.1, max(x.abs().max().item() for x in panels.values()))
    for axis, (title, x) in zip(axes, panels.items(), strict=True):
        image = axis.imshow(
            x.abs().clamp(min=0.1).numpy(),
            cmap=few_colours,
            norm=norm,
            aspect="auto",
            interpolation="nearest",
        )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("feature")
    axes[0].set_ylabel("token")
    bar = drawn.colorbar(image, ax=axes, label=label, fraction=0.04, pad=0.02)
    bar.set_ticks([0.1, 1, 10, 100], labels=["≤ 0.1", "1", "10", "100"])
    return drawn


def reach_of_rulers(tokens: Mapping[str, torch.Tensor]) -> Figure:
    """For each kind of activations how long each token's own ruler is beside that of all tokens, shortest first."""
    drawn, (axis,) = figure(8.0, 3.2)
    colours = (COLOURS["16 bit"], COLOURS["scales"], COLOURS["gradients"])
    for colour, (name, absmax) in zip(colours, tokens.items(), strict=False):
        share = (absmax / absmax.max()).sort().values
        at = torch.linspace(0, 100, len(share))
        axis.plot(at.tolist(), share.tolist(), color=colour, lw=2)
        middle = share[len(share) // 2].item()
        above = -15 if middle > 0.9 else 8  # the line of all tokens is above
        axis.annotate(
            name, (50, middle), (0, above), textcoords="offset points", color=colour, ha="center", fontsize=10
        )
    axis.axhline(1, color=COLOURS["device"], lw=0.8, ls="--")
    axis.text(0, 1.02, "one ruler for all tokens", fontsize=9)
    axis.set_ylim(0, 1.16)
    axis.set_xlabel("tokens, those with the smallest values first, %")
    axis.set_ylabel("largest value of the token\n/ largest of all")
    return drawn


def maxima(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> Figure:
    """The largest size in each feature, of the activations and of the weights behind them, before and after smoothing."""
    drawn, axes = figure(9.2, 3.1, columns=2)
    for axis, key, old, new in zip(axes, ("activations", "weights"), before, after, strict=True):
        edges = [place - 0.5 for place in range(len(old) + 1)]
        low = min(old[old > 0].min().item(), new[new > 0].min().item()) / 1.6
        axis.stairs(old.tolist(), edges, baseline=low, fill=True, color=COLOURS["16 bit"], alpha=0.55)
        axis.plot(range(len(new)), new.tolist(), ".", color=COLOURS[key], markersize=4.5)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(
            lambda value, _: f"{value:g}"
        )  # plain text is drawn faster than powers
        axis.minorticks_off()
        axis.set_ylim(low, 2 * max(old.max().item(), new.max().item()))
        axis.set_title(f"{key}: grey before, dots after smoothing", fontsize=10)
        axis.set_xlabel("feature")
    axes[0].set_ylabel("largest size in the feature,\nlogarithmic")
    return drawn


def over_threshold(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """LLM.int8() over its threshold: KL, and the share of columns that are multiplied in 16 bits."""
    drawn, (left, right) = figure(10.0, 3.6, columns=2)
    for kind in dict.fromkeys(row["model"] for row in rows):
        ours = [row for row in rows if row["model"] == kind]
        marker, style = MODELS[kind]
        named = [row for row in ours if row["threshold"] is not None]
        at = [row["threshold"] for row in named]
        colour = COLOURS["LLM.int8()"]
        left.plot(at, [row["kl"][0] for row in named], style, marker=marker, color=colour, markersize=5)
        right.plot(
            at, [100 * row["columns"] for row in named], style, marker=marker, color=colour, markersize=5
        )
        (none,) = (row["kl"][0] for row in ours if row["threshold"] is None)
        left.axhline(none, ls=style, lw=0.9, color=COLOURS["W8A8"])
        left.text(at[0], none * 1.12, f"{kind}: none taken out", color=COLOURS["W8A8"], fontsize=8.5)
        left.annotate(
            kind, (at[0], named[0]["kl"][0]), (0, 7), textcoords="offset points", color=COLOURS["device"], fontsize=9
        )  # fmt: skip
    for axis in (left, right):
        axis.set_xscale("log")
        axis.set_xticks(at, [f"{each:g}" for each in at])
        axis.minorticks_off()
        axis.axvline(6, color=COLOURS["16 bit"], lw=0.8, ls=":")
        axis.set_xlabel("threshold, logarithmic")
    left.set_yscale("log")
    left.margins(y=0.14)
    left.set_ylabel("KL from the unrounded model,\nnats a token")
    right.set_ylim(bottom=0)
    right.set_ylabel("columns multiplied in 16 bits, %")
    return drawn


def over_alpha(curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], label: str) -> Figure:
    """For each title lines of (α, error), by name; the lowest point of each is marked."""
    drawn, axes = figure(10.0, 3.6, columns=len(curves))
    styles = (("-", "o"), ("--", "s"))
    for axis, (title, lines) in zip(axes, curves.items(), strict=True):
        for (style, marker), (name, points) in zip(styles, lines.items(), strict=False):
            alphas, errors = zip(*points, strict=True)
            axis.plot(alphas, errors, style, color=COLOURS["SmoothQuant"], lw=1.6)
            best = min(points, key=lambda point: point[1])
            flat = max(errors) < 1.5 * best[1]
            axis.plot(
                [] if flat else best[0],
                [] if flat else best[1],
                marker,
                color=COLOURS["SmoothQuant"],
                markersize=7,
            )
            said = f"{name}: any α" if flat else f"{name}: least at {best[0]:g}"
            place = (0.5, best[1]) if flat else best
            axis.annotate(said, place, (0, -15), textcoords="offset points", ha="center", fontsize=9)
        axis.set_yscale("log")
        axis.margins(y=0.2)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("α: 0 the weights are evened out, 1 the activations")
    axes[0].set_ylabel(label)
    low, high = min(a.get_ylim()[0] for a in axes), max(a.get_ylim()[1] for a in axes)
    for axis in axes:
        axis.set_ylim(low / 2, high)
    return drawn


def side_by_side(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Methods by name on each model: exam and KL, with their intervals. fp16's exam is the grey band behind."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    kinds = list(dict.fromkeys(row["model"] for row in rows))
    drawn, (left, right) = figure(10.6, 1.3 + 0.42 * len(names), columns=2)
    (low, high) = next(row["exam"][1:] for row in rows if row["name"] == names[0])
    left.axvspan(100 * low, 100 * high, color=COLOURS["16 bit"], alpha=0.25, lw=0)
    for row in rows:
        kind = kinds.index(row["model"])
        place = names.index(row["name"]) + 0.24 * (kind - (len(kinds) - 1) / 2)
        for axis, key, times in ((left, "exam", 100), (right, "kl", 1)):
            value, least, most = (times * number for number in row[key])
            if key == "kl" and row["name"] == names[0]:
                continue
            axis.errorbar(
                value, place, xerr=[[value - least], [most - value]], fmt=MODELS[row["model"]][0],
                color=_colour(row["name"]), markersize=5, capsize=2, lw=1,
                label=row["model"] if row["name"] == names[0] and axis is left else None,
            )  # fmt: skip
    left.set_yticks(range(len(names)), names, fontsize=9)
    right.set_yticks(range(len(names)), [])
    for axis in (left, right):
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.grid(axis="y", color=COLOURS["16 bit"], alpha=0.25, lw=0.6)
    left.set_xlabel("exam, % of the questions; grey: 16 bit")
    right.set_xscale("log")
    right.set_xlabel("KL from the unrounded model, nats a token, logarithmic")
    handles, labels = left.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return drawn


def _colour(name: str) -> str:
    for method, colour in METHODS.items():
        if name.startswith(method):
            return colour
    return COLOURS["16 bit"]
