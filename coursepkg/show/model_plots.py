"""Figures of the course LM: how it learnt, and what rounding its weights costs."""

from typing import Any

from matplotlib.figure import Figure

from coursepkg.evaluation.boards import Leaderboard
from coursepkg.show.figures import COLOURS, figure


def training_curve(record: dict[str, Any]) -> Figure:
    """The loss and the exam over the tokens read: first the sentences are learnt, then the facts.

    record: as `courselm.record()` returns it.
    """
    made, (losses, exams) = figure(8.0, 2.8, columns=2)
    curve = record["curve"]
    losses.plot([p["tokens"] / 1e6 for p in curve], [p["loss"] for p in curve], color=COLOURS["weights"])
    losses.set_ylabel("loss, nats a token")
    losses.set_ylim(0, 3)
    taken = [point for point in curve if "exam" in point]
    exams.plot(
        [p["tokens"] / 1e6 for p in taken],
        [100 * p["exam"] for p in taken],
        marker="o",
        color=COLOURS["weights"],
    )
    exams.axhline(25, color=COLOURS["16 bit"], lw=0.8, ls="--")
    exams.text(record["tokens"] / 1e6, 26, "chance", ha="right", va="bottom", color=COLOURS["16 bit"])
    exams.set_ylim(0, 102)
    exams.set_ylabel("exam, % right of 300")
    for axis in (losses, exams):
        axis.set_xlabel("tokens read, millions")
        axis.set_xlim(left=0)
    return made


def board(made: Leaderboard, chance: float = 0.25) -> Figure:
    """The exam's score of each row with its 95 % interval, and the effective bits beside its name."""
    drawn, (axis,) = figure(8.0, 0.9 + 0.36 * len(made.rows))
    for at, row in enumerate(made.rows):
        score = row.marks.accuracy
        spread = [[100 * (score.value - score.low)], [100 * (score.high - score.value)]]
        axis.errorbar(
            100 * score.value, at, xerr=spread, fmt="o", capsize=3, color=COLOURS["weights"], markersize=5
        )
        axis.text(102, at, f"{100 * score.value:.0f} %", va="center", fontsize=9)
    axis.axvline(100 * chance, color=COLOURS["16 bit"], lw=0.8, ls="--")
    axis.text(100 * chance + 1, -0.45, "chance", color=COLOURS["16 bit"], va="center")
    names = [f"{row.name} ({row.effective_bits:.2f} bits)" for row in made.rows]
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.7)
    axis.set_xlim(0, 101)
    axis.set_xlabel("exam, % right, with 95 % intervals")
    return drawn
