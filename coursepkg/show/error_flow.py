"""How GPTQ goes through a small matrix: what each column has lost when it is rounded, and how the others answer."""

from dataclasses import dataclass

import ipywidgets as widgets
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coursepkg import affine, gptq
from coursepkg.affine import Scheme
from coursepkg.show.explorer import Explorer
from coursepkg.show.figures import COLOURS, figure

OUTPUTS, INPUTS, SEED = 6, 10, 7
#: Largest change that has a colour of its own.
MOST = 0.6


def example(together: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight (6, 10) of normal values, and a Gram matrix of inputs of which neighbours have the correlation `together`,
    those further apart a lower one."""
    weight = torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(SEED))
    places = torch.arange(INPUTS)
    return weight, together ** (places[:, None] - places).abs().sqrt()


@dataclass(frozen=True)
class Step:
    """After some columns have been rounded: which they are, in order, and what has become of the weight, as in GPTQ and without."""

    done: list[int]
    weight: torch.Tensor
    plain: torch.Tensor


def walk(weight: torch.Tensor, gram: torch.Tensor, scheme: Scheme, act_order: bool) -> list[Step]:
    """Every state on the way, from none rounded to all. Each output has one scale, from the weight as it was.

    The rule is `gptq.quantize`'s, one column at a time and the columns to the right at once.
    """
    scale, zero_point = affine.choose_qparams(weight, scheme)
    order = gram.diagonal().argsort(descending=True, stable=True) if act_order else torch.arange(len(gram))
    moves = gptq.moves(gram[order][:, order])
    moved, plain = weight.clone(), weight.clone()
    steps = [Step([], moved.clone(), plain.clone())]
    for place, column in enumerate(order.tolist()):
        for each in (moved, plain):
            codes = affine.nearest_codes(each[:, column : column + 1], scale, zero_point, scheme)
            rounded = affine.values(codes, scale, zero_point)[:, 0]
            if each is moved:
                lost = moved[:, column] - rounded
                rest = order[place + 1 :]
                moved[:, rest] -= lost[:, None] * moves[place, place + 1 :]
            each[:, column] = rounded
        steps.append(Step(order[: place + 1].tolist(), moved.clone(), plain.clone()))
    return steps


def output_error(change: torch.Tensor, weight: torch.Tensor, gram: torch.Tensor) -> float:
    """What the outputs change by, squared and summed over the text, over the outputs' own square sum."""
    return (((change @ gram) * change).sum() / ((weight @ gram) * weight).sum()).item()


class ErrorFlow(Explorer):
    """A slider for the columns that are rounded, one for how much inputs go together, one for the bits."""

    def __init__(self) -> None:
        self.columns = widgets.IntSlider(3, 0, INPUTS, description="Rounded", continuous_update=False)
        self.together = widgets.FloatSlider(
            0.9, min=0, max=0.99, step=0.03, description="Correlation", continuous_update=False
        )
        self.bits = widgets.IntSlider(3, 2, 5, description="Bits", continuous_update=False)
        super().__init__((self.columns, self.together, self.bits))

    def steps(self) -> tuple[torch.Tensor, torch.Tensor, list[Step]]:
        """Weight, Gram matrix and all states for the present controls."""
        weight, gram = example(self.together.value)
        return weight, gram, walk(weight, gram, Scheme(self.bits.value), act_order=False)

    def said(self) -> str:
        """What has been lost so far, with the others' answer and without."""
        weight, gram, steps = self.steps()
        now, last = steps[self.columns.value], steps[-1]
        errors = [
            100 * output_error(each - weight, weight, gram)
            for each in (now.plain, now.weight, last.plain, last.weight)
        ]
        return (
            f"Of the outputs' square sum, <b>{errors[0]:.2f} %</b> is lost by rounding these columns, <b>{errors[1]:.2f} %</b> with the "
            f"answer of the others. When all are rounded: {errors[2]:.2f} % and <b>{errors[3]:.2f} %</b>."
        )

    def figure(self) -> Figure:
        """The picture for the present state of the controls."""
        weight, gram, steps = self.steps()
        made, (left, right) = figure(9.0, 3.3, columns=2)
        _changes(left, weight, steps[self.columns.value])
        _errors(right, weight, gram, steps, self.columns.value)
        return made


def _changes(axis: Axes, weight: torch.Tensor, step: Step) -> None:
    change = (step.weight - weight).numpy()
    axis.imshow(change, cmap="PuOr", vmin=-MOST, vmax=MOST, aspect="auto")
    for (row, column), value in _each(change):
        axis.text(
            column,
            row,
            f"{value:+.2f}" if abs(value) >= 0.005 else "0",
            ha="center",
            va="center",
            fontsize=7.5,
        )
    axis.axvline(len(step.done) - 0.5, color=COLOURS["device"], lw=2)
    axis.set_xticks(range(INPUTS), range(1, INPUTS + 1))
    axis.set_yticks(range(OUTPUTS), range(1, OUTPUTS + 1))
    axis.set_xlabel("column (input)")
    axis.set_ylabel("row (output)")
    axis.set_title("changes: left of the line by rounding, right of it in answer", fontsize=9.5)


def _each(matrix):
    return (
        ((row, column), matrix[row, column])
        for row in range(len(matrix))
        for column in range(matrix.shape[1])
    )


def _errors(axis: Axes, weight: torch.Tensor, gram: torch.Tensor, steps: list[Step], now: int) -> None:
    for name, what, colour in (
        ("rounding", [step.plain for step in steps], COLOURS["rounding"]),
        ("GPTQ", [step.weight for step in steps], COLOURS["GPTQ"]),
    ):
        lost = [100 * output_error(each - weight, weight, gram) for each in what]
        axis.plot(range(len(lost)), lost, "o-", color=colour, ms=3.5, lw=1.4)
        axis.text(len(lost) - 0.8, lost[-1], name, color=colour, va="center", fontsize=9.5)
    axis.axvline(now, color=COLOURS["device"], lw=1, ls=":")
    axis.set_xlim(-0.3, INPUTS + 2.4)
    axis.set_xticks(range(0, INPUTS + 1, 2))
    axis.set_ylim(0, None)
    axis.set_xlabel("columns rounded")
    axis.set_ylabel("outputs' error, %")
