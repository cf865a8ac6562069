"""Figures of lectures 10 and 11: how many directions a change has, what the rank and the way of training do, and the ways to merge."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from coursepkg.intervals import Interval
from coursepkg.show.figures import COLOURS, figure

#: A layer's kind has the same colour and line in both panels that show layers.
KINDS = {
    "q_proj": (COLOURS["weights"], "-"),
    "k_proj": (COLOURS["weights"], "--"),
    "v_proj": (COLOURS["weights"], ":"),
    "o_proj": (COLOURS["optimizer"], "-"),
    "gate_proj": (COLOURS["gradients"], "-"),
    "up_proj": (COLOURS["gradients"], "--"),
    "down_proj": (COLOURS["KV cache"], "-"),
}
CHANCE = 25


def spectra(layers: Sequence[Mapping[str, Any]], cut: Sequence[tuple[int, Interval]]) -> Figure:
    """Left: the share of each layer's change that its first r directions hold, the mean over the layers of a kind. Right: the exam with all changes
    cut to rank r. layers: name and singular values. cut: rank and score."""
    made, (left, right) = figure(9.4, 3.7, columns=2)
    for kind, (colour, line) in KINDS.items():
        found = [torch.tensor(row["values"]).square() for row in layers if row["name"].endswith(kind)]
        kept = torch.stack([each.cumsum(0) / each.sum() for each in found]).mean(0)
        left.plot(
            range(1, len(kept) + 1),
            100 * kept,
            color=colour,
            ls=line,
            lw=1.6,
            label=kind.removesuffix("_proj"),
        )
    left.set_xscale("log", base=2)
    left.set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
    left.set_xlabel("rank r (logarithmic)")
    left.set_ylabel("of the change's square sum, %")
    left.set_ylim(0, 102)
    left.legend(frameon=False, fontsize=8.5, ncols=2, loc="lower right")
    _scores(right, [(max(rank, 0.5), score) for rank, score in cut], COLOURS["weights"])
    right.set_xscale("log", base=2)
    right.set_xticks([0.5, 1, 4, 16, 64, 256], ["0", "1", "4", "16", "64", "256"])
    right.set_xlabel("all layers' changes cut to rank r")
    _exam(right)
    return made


def alike(cosines: Mapping[str, torch.Tensor]) -> Figure:
    """For each kind of token, how near the nearest other row of the embedding points: a histogram of cosines."""
    made, (axis,) = figure(8.0, 3.0)
    bins = torch.linspace(0, 1, 41).tolist()
    colours = (COLOURS["16 bit"], COLOURS["weights"], COLOURS["gradients"])
    for (name, values), colour in zip(cosines.items(), colours, strict=False):
        weights = [100 / len(values)] * len(values)
        axis.hist(values.tolist(), bins, weights=weights, histtype="step", lw=2, color=colour, label=name)
    axis.set_xlabel("cosine of the angle to the nearest other row")
    axis.set_ylabel("tokens, %")
    axis.legend(frameon=False, fontsize=9, loc="upper center")
    return made


def ranks(
    lines: Mapping[str, Sequence[tuple[int, Interval]]], marks: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)
) -> Figure:
    """The exam over the rank, a line for each way to choose α. lines: rank and score."""
    made, (axis,) = figure(8.0, 3.3)
    for (name, points), colour in zip(lines.items(), (COLOURS["weights"], COLOURS["scales"]), strict=False):
        _scores(axis, points, colour, name)
    axis.set_xscale("log", base=2)
    axis.set_xticks(marks, [str(rank) for rank in marks])
    axis.set_xlabel("rank r (logarithmic)")
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    _exam(axis)
    return made


def learnt(rows: Mapping[str, Sequence[Interval]], titles: Sequence[str]) -> Figure:
    """A row for each way, a panel for each exam: the score with its interval. rows: by the way's name, a score for each panel."""
    made, axes = figure(9.4, 0.9 + 0.34 * len(rows), columns=len(titles))
    for panel, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        for place, (name, scores) in enumerate(rows.items()):
            score, colour = scores[panel], way_colour(name)
            axis.plot([100 * score.low, 100 * score.high], [place, place], color=colour, lw=1.8)
            axis.plot([100 * score.value], [place], "o", color=colour, ms=6)
        axis.set_yticks(range(len(rows)), list(rows) if panel == 0 else [""] * len(rows), fontsize=9)
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_xlabel("right, %")
        axis.set_title(title, fontsize=10.5)
        axis.grid(axis="x", linewidth=0.3)
    return made


def losses(runs: Mapping[str, Sequence[float]]) -> Figure:
    """The loss of each step of some runs, and how far they lie apart from the first."""
    made, (left, right) = figure(9.4, 3.2, columns=2)
    styles = ((COLOURS["weights"], 3.2, "-"), (COLOURS["scales"], 1.2, "-"), (COLOURS["16 bit"], 1.2, "--"))
    first = torch.tensor(next(iter(runs.values())))
    for (name, values), (colour, width, line) in zip(runs.items(), styles, strict=False):
        left.plot(range(1, len(values) + 1), values, color=colour, lw=width, ls=line, label=name)
        if values is not next(iter(runs.values())):
            apart = (torch.tensor(values) - first).abs().tolist()
            right.plot(range(1, len(values) + 1), apart, color=colour, lw=1.4, ls=line, label=name)
    left.set_ylabel("loss, nats a predicted token")
    left.set_yscale("log")
    left.legend(frameon=False, fontsize=9)
    right.set_ylabel(f"apart from {next(iter(runs))}")
    right.legend(frameon=False, fontsize=9)
    for axis in (left, right):
        axis.set_xlabel("step")
    return made


def way_colour(name: str) -> str:
    """The colour of a way to train or to merge: that of the format that the base is stored in."""
    known = {"nf4": COLOURS["NF4"], "fp4": COLOURS["FP4"], "int4": COLOURS["int4"]}
    return next((colour for kind, colour in known.items() if kind in name.lower()), COLOURS["device"])


def _scores(
    axis: Any, points: Sequence[tuple[float, Interval]], colour: str, label: str | None = None
) -> None:
    at = [place for place, _ in points]
    axis.plot(at, [100 * score.value for _, score in points], "o-", color=colour, ms=5, lw=1.6, label=label)
    for place, score in points:
        axis.plot([place, place], [100 * score.low, 100 * score.high], color=colour, lw=1.2)


def _exam(axis: Any) -> None:
    axis.set_ylim(0, 102)
    axis.set_ylabel("exam, % right")
    axis.axhline(CHANCE, color=COLOURS["16 bit"], lw=0.8, ls="--")
    axis.text(
        1,
        CHANCE + 1,
        "chance",
        transform=axis.get_yaxis_transform(),
        ha="right",
        color=COLOURS["16 bit"],
        fontsize=9,
    )
