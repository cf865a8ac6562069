"""Figures of lectures 06 and 07: which inputs go together, what each layer loses, and the methods beside one another."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from coursepkg.papers import Table
from coursepkg.show.figures import COLOURS, figure

#: How a method is drawn wherever it appears: the first whose name begins so.
STYLES = {
    "rounding": (COLOURS["rounding"], "s"),
    "NF": (COLOURS["NF4"], "o"),
    "GPTQ": (COLOURS["GPTQ"], "^"),
    "AWQ + GPTQ": (COLOURS["AWQ + GPTQ"], "X"),
    "AWQ": (COLOURS["AWQ"], "D"),
}


def style(name: str) -> tuple[str, str]:
    """Colour and marker of a method. Raises KeyError for one that has none."""
    for start, found in STYLES.items():
        if name.startswith(start):
            return found
    raise KeyError(f"no style for {name!r}")


def together(gram: torch.Tensor, grams: Mapping[str, torch.Tensor], count: int = 64) -> Figure:
    """How the first inputs of a layer go together, and how large the inputs of some layers are.

    gram: Σ xᵀ x, of which the correlations (about 0, not the means) are shown. grams: likewise, by the layer's name; their diagonals.
    """
    made, (left, right) = figure(9.2, 3.6, columns=2)
    size = gram.diagonal().sqrt()
    shown = (gram / size / size[:, None])[:count, :count]
    picture = left.imshow(shown.numpy(), cmap="PuOr", vmin=-1, vmax=1)
    made.colorbar(picture, ax=left, label="correlation about 0", shrink=0.85)
    left.set_xlabel("input")
    left.set_ylabel("input")
    colours = (COLOURS["activations"], COLOURS["weights"], COLOURS["device"])
    for (name, each), colour in zip(grams.items(), colours, strict=False):
        ordered = (each.diagonal() / each.diagonal().mean()).sort(descending=True).values
        right.plot(
            torch.linspace(0, 100, len(ordered)).numpy(), ordered.numpy(), color=colour, lw=2, label=name
        )
    right.set_yscale("log")
    right.set_xlabel("inputs, the largest first, %")
    right.set_ylabel("mean square / the mean of all")
    right.legend(frameon=False, fontsize=9)
    return made


def layers(errors: Mapping[str, Sequence[float]], names: Sequence[str]) -> Figure:
    """For each method the relative squared error of each layer's outputs. names: of the layers, in order."""
    made, (axis,) = figure(9.0, 3.4)
    for method, values in errors.items():
        colour, marker = style(method)
        hollow = "order" in method
        axis.plot(
            range(len(values)),
            [100 * value for value in values],
            marker,
            color=colour,
            ms=5,
            mfc="white" if hollow else colour,
            label=method,
        )
    axis.set_yscale("log")
    _readable(axis.yaxis)
    axis.set_ylabel("outputs' squared error, %")
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.legend(frameon=False, fontsize=9, ncols=len(errors), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return made


def methods(rows: Sequence[Mapping[str, Any]], titles: Mapping[tuple[str, int], str]) -> Figure:
    """KL of each method with its 95 % interval, and small marks for each text that it was calibrated with.

    rows: of the results file "bakeoff". titles: of the panels, by model and bits.
    """
    made, axes = figure(9.6, 3.7, columns=len(titles))
    for axis, ((model, bits), title) in zip(axes, titles.items(), strict=True):
        found = [row for row in rows if row["model"] == model and row["bits"] == bits]
        found.sort(key=lambda row: -row["kl"][0])
        for place, row in enumerate(found):
            colour, marker = style(row["name"])
            value, low, high = row["kl"]
            axis.plot([low, high], [place, place], color=colour, lw=1.6)
            axis.plot([value], [place], marker, color=colour, ms=6)
            if len(row["kl_by_seed"]) > 1:
                axis.plot(row["kl_by_seed"], [place + 0.28] * len(row["kl_by_seed"]), "|", color=colour, ms=6)
        axis.set_yticks(
            range(len(found)), [row["name"].replace(" + ", " +\n") for row in found], fontsize=8.5
        )
        axis.set_ylim(-0.6, len(found) - 0.2)
        axis.set_xscale("log")
        axis.autoscale_view()
        _readable(axis.xaxis, 1e3)
        axis.set_xlabel("KL, thousandths of a nat (logarithmic)")
        axis.set_title(title, fontsize=10.5)
    return made


def published(table: Table, models: Sequence[str], ours: Sequence[Mapping[str, Any]]) -> Figure:
    """How far each method takes a model at 4 and 3 bits: published perplexities by model, and our KL in a panel of its own.

    table: of which the perplexities are drawn as per cent above that in 16 bits. ours: of the results file "bakeoff".
    """
    made, axes = figure(9.6, 3.5, columns=len(models) + 1)
    for axis, model in zip(axes, models, strict=False):
        whole = next(row.value for row in table.rows if row.model == model and row.bits == 16)
        found = [row for row in table.rows if row.model == model and row.bits in (4, 3)]
        _by_bits(axis, [(row.method, row.bits, 100 * (row.value / whole - 1)) for row in found])
        axis.set_title(f"{model}, published", fontsize=10)
    own = [row for row in ours if row["model"] == "as trained" and "NF" not in row["name"]]
    _by_bits(axes[-1], [(row["name"], row["bits"], row["kl"][0]) for row in own], 1e3)
    axes[-1].set_ylabel("KL from fp32, thousandths of a nat")
    axes[-1].set_title("course LM, measured", fontsize=10)
    axes[0].set_ylabel("perplexity above 16 bits, %")
    return made


def _by_bits(axis: Axes, values: Sequence[tuple[str, int, float]], times: float = 1.0) -> None:
    """A line for each method, over the bits, with its name."""
    for name in dict.fromkeys(name for name, _, _ in values):
        colour, marker = style(name.replace("RTN", "rounding"))
        own = sorted((bits, value) for each, bits, value in values if each == name)
        hollow = "order" in name or "clipped" in name
        axis.plot(
            *zip(*own, strict=True),
            marker + "-",
            color=colour,
            ms=5,
            mfc="white" if hollow else colour,
            label=name,
        )
    axis.set_xticks([3, 4], ["3 bits", "4 bits"])
    axis.set_xlim(2.8, 4.2)
    axis.set_yscale("log")
    _readable(axis.yaxis, times)
    axis.legend(frameon=False, fontsize=7.5)


def _readable(axis: Axis, times: float = 1.0) -> None:
    """Numbers, `times` as large, instead of powers of ten at a logarithmic axis."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1,) if high > 1000 * low else (1, 1.5, 2, 3, 5, 7)))
    axis.set_major_formatter(lambda value, _: f"{times * value:g}")
    axis.set_minor_formatter(NullFormatter())


def texts(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """KL over the length of the calibration text, and by its kind. rows: of the results file "calibration_texts"."""
    made, (left, right) = figure(9.6, 3.4, columns=2)
    names = list(dict.fromkeys(row["name"] for row in rows))
    domains = list(dict.fromkeys(row["domain"] for row in rows))
    for shift, name in enumerate(names):
        own = [row for row in rows if row["name"] == name]
        _lengths(left, [row for row in own if row["domain"] == domains[0]], name)
        length = max((row["tokens"] for row in own if row["domain"] != domains[0]), default=0)
        _kinds(right, [row for row in own if row["tokens"] == length], domains, shift, name)
    right.invert_yaxis()
    left.set_xscale("log", base=2)
    tokens = sorted({row["tokens"] for row in rows})
    left.set_xticks(tokens, [f"{each // 1024}k" for each in tokens])
    left.set_xlim(tokens[0] * 0.85, tokens[-1] * 4)
    left.set_ylim(0, None)
    left.set_xlabel("tokens of the encyclopedia")
    left.set_ylabel("KL from fp32, nats a token")
    right.set_xlabel("KL from fp32, nats a token")
    return made


def _lengths(axis: Axes, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    if len(rows) < 2:
        return
    colour, _ = style(name)
    own = sorted(rows, key=lambda row: row["tokens"])
    axis.plot([row["tokens"] for row in own], [row["kl"][0] for row in own], color=colour, lw=1.4)
    for row in own:
        axis.plot([row["tokens"]] * len(row["kl_by_seed"]), row["kl_by_seed"], "_", color=colour, ms=7)
    axis.text(own[-1]["tokens"] * 1.12, own[-1]["kl"][0], name, color=colour, va="center", fontsize=9)


def _kinds(axis: Axes, rows: Sequence[Mapping[str, Any]], domains: list[str], shift: int, name: str) -> None:
    colour, marker = style(name)
    for row in rows:
        place = domains.index(row["domain"]) + 0.22 * shift
        value, low, high = row["kl"]
        axis.plot([low, high], [place, place], color=colour, lw=1.6)
        axis.plot([value], [place], marker, color=colour, ms=6)
    axis.set_yticks(range(len(domains)), domains, fontsize=9)
    axis.set_xlim(0, None)
