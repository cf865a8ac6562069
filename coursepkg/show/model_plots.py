"""Figures of the course LM: how it learnt, and what rounding its weights costs."""

from typing import Any

from matplotlib.figure import Figure

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
    exams.set_ylabel("exam, % right")
    for axis in (losses, exams):
        axis.set_xlabel("tokens read, millions")
        axis.set_xlim(left=0)
    return made
