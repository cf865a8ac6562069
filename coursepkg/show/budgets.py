"""Pictures of memory budgets, and the calculator that answers "what if"."""

from collections.abc import Sequence

import ipywidgets as widgets
from matplotlib.figure import Figure

from coursepkg import memory
from coursepkg.memory import GB, Budget, Device
from coursepkg.show.explorer import Explorer
from coursepkg.show.figures import COLOURS, figure

_LINES = tuple(memory.device(n) for n in ("RTX 4060", "T4", "RTX 4090", "A100 40GB", "A100 80GB", "H200"))


def budget_bars(
    budgets: Sequence[tuple[str, Budget]], devices: Sequence[Device] = _LINES, emphasis: str | None = None
) -> Figure:
    """One stacked bar for each labelled budget, in GB, with a line where each device's memory for tensors ends.

    emphasis: the label of the bar that is drawn in full colour, the others paler; None draws all of them in full.
    """
    made, (axis,) = figure(9.0, 1.5 + 0.48 * len(budgets))
    end = max(budget.total for _, budget in budgets) / GB * 1.12
    names = list(dict.fromkeys(part.name for _, budget in budgets for part in budget.parts))
    for row, (label, budget) in enumerate(budgets):
        left, alpha = 0.0, 1.0 if emphasis in (None, label) else 0.35
        for part in budget.parts:
            width = part.n_bytes / GB
            axis.barh(row, width, left=left, height=0.62, color=COLOURS[part.name], alpha=alpha)
            left += width
        boxed = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axis.text(left + end * 0.006, row, f"{left:,.1f}", va="center", fontsize=9, bbox=boxed)
    _device_lines(axis, devices, end)
    axis.set_yticks(range(len(budgets)), [label for label, _ in budgets])
    for tick, (label, _) in zip(axis.get_yticklabels(), budgets, strict=True):
        tick.set_fontweight("bold" if label == emphasis else "normal")
    axis.set_ylim(len(budgets) - 0.5, -0.5)
    axis.set_xlim(0, end)
    axis.set_xlabel("GB (10⁹ bytes), stored; a device's line is what it leaves to tensors")
    handles = [axis.barh(0, 0, color=COLOURS[name]) for name in names]
    made.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    return made


def _device_lines(axis, devices: Sequence[Device], end: float) -> None:
    last = -end
    for device in sorted(devices, key=lambda d: d.usable):
        at = device.usable / GB
        if at > end:
            break
        axis.axvline(at, color=COLOURS["device"], linewidth=0.9, linestyle=(0, (4, 2)), zorder=0.5)
        if at - last > 0.03 * end:  # closer lines would print their names over each other
            over_the_axes = axis.get_xaxis_transform()
            axis.text(at, 1.01, device.name, transform=over_the_axes, rotation=35, fontsize=8, va="bottom")
            last = at


METHODS = ("inference", "QLoRA", "LoRA", "full finetuning")


def _budgets(
    model: str, weights: str, batch: int, length: int, checkpointing: bool
) -> list[tuple[str, Budget]]:
    """The budget of every method for one choice of the calculator's controls."""
    quantized = weights if memory.storage_format(weights).scale is not None else "nf4+dq"
    plain = weights if memory.storage_format(weights).scale is None else "bf16"
    return [
        (f"inference, {weights}", memory.inference(model, length, batch, weights)),
        (
            f"QLoRA, {quantized}",
            memory.qlora(model, length, batch, None, quantized, checkpointing=checkpointing),
        ),
        (f"LoRA, {plain}", memory.lora(model, length, batch, None, plain, checkpointing=checkpointing)),
        (f"full, {plain}", memory.full_finetuning(model, length, batch, plain, checkpointing=checkpointing)),
    ]


class Calculator(Explorer):
    """Controls over `coursepkg.memory`: model, method, format, batch, context; a stacked bar and the devices it fits.

    The picture is redrawn whenever a control moves. `picture` is the figure's Image widget, `verdict` the text below.
    """

    def __init__(self) -> None:
        self.model = widgets.Dropdown(
            options=list(memory.catalogue()), value="llama-2-7b", description="Model"
        )
        self.method = widgets.Dropdown(options=METHODS, value="QLoRA", description="Method")
        self.weights = widgets.Dropdown(
            options=["fp32", "bf16", "int8", "int4-g128", "nf4", "nf4+dq"],
            value="nf4+dq",
            description="Weights",
        )
        self.batch = widgets.IntSlider(1, 1, 32, description="Batch", continuous_update=False)
        self.length = widgets.SelectionSlider(
            options=[2**n for n in range(7, 18)], value=2048, description="Tokens", continuous_update=False
        )
        self.checkpointing = widgets.Checkbox(
            value=True, description="activation checkpointing", indent=False
        )
        super().__init__(
            (self.model, self.method, self.weights), (self.batch, self.length, self.checkpointing)
        )

    def figure(self) -> Figure:
        """The picture for the present state of the controls."""
        budgets = self._budgets()
        return budget_bars(budgets, emphasis=budgets[METHODS.index(self.method.value)][0])

    def said(self) -> str:
        """What the chosen method needs, and the devices that it fits on."""
        budget = self._budgets()[METHODS.index(self.method.value)][1]
        fits = [fit.device.name for fit in budget.fits_on() if fit.fits]
        return (
            f"<b>{budget.title}</b>: {memory.in_gb(budget.total)} ({memory.in_gib(budget.total)}). "
            f"Fits on: {', '.join(fits) if fits else 'none of the devices listed'}."
        )

    def _budgets(self) -> list[tuple[str, Budget]]:
        return _budgets(
            self.model.value,
            self.weights.value,
            self.batch.value,
            self.length.value,
            self.checkpointing.value,
        )
