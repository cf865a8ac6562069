"""Levels under the bell curve: how many bits, which rule, how large a block; and what each choice costs."""

from functools import cache

import ipywidgets as widgets
from matplotlib.figure import Figure

from coursepkg import lloyd
from coursepkg.codebooks import normal_float, uniform
from coursepkg.lloyd import Distribution
from coursepkg.show.explorer import Explorer
from coursepkg.show.figures import COLOURS, figure

QUANTILES, EVEN = "quantiles (NF)", "evenly spaced (int)"
SQUARED, ABSOLUTE = "least squared error", "least absolute error"
RULES = {
    QUANTILES: COLOURS["NF4"],
    EVEN: COLOURS["int4"],
    ABSOLUTE: COLOURS["least absolute error"],
    SQUARED: COLOURS["least squared error"],
}


class LevelExplorer(Explorer):
    """Controls over `coursepkg.codebooks` and `coursepkg.lloyd`: a rule, the bits, the block size of normal weights."""

    def __init__(self) -> None:
        self.rule = widgets.Dropdown(options=list(RULES), description="Levels")
        self.bits = widgets.IntSlider(4, 2, 5, description="Bits", continuous_update=False)
        self.block_size = widgets.SelectionSlider(
            options=[2**n for n in range(4, 13)], value=64, description="Block", continuous_update=False
        )
        super().__init__((self.rule, self.bits, self.block_size))

    def said(self) -> str:
        """What the choice costs, and how evenly the levels are used."""
        values, levels = _blocks(self.block_size.value), self.levels
        used = values.use(levels)
        squared, absolute = (values.error(levels, error) for error in ("squared", "absolute"))
        return (
            f"Of the scaled weight: mean squared error <b>{1e3 * squared:.3f}</b> and mean absolute error "
            f"<b>{1e3 * absolute:.2f}</b> thousandths. The most used level takes {100 * used.max():.1f} % of the weights, the "
            f"least used {100 * used.min():.1f} %; equal use would be {100 / len(levels):.1f} %."
        )

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels of the present state, ascending."""
        return _levels(self.rule.value, self.bits.value, self.block_size.value)

    def figure(self) -> Figure:
        """The picture for the present state of the controls."""
        made, (axis,) = figure(8.0, 3.0)
        values, levels = _blocks(self.block_size.value), self.levels
        x, density = values.density()
        axis.fill_between(x, density, color=COLOURS["16 bit"], alpha=0.3, lw=0)
        top = max(density) * 1.15
        borders = [-1.0, *[(a + b) / 2 for a, b in zip(levels, levels[1:], strict=False)], 1.0]
        for number, (left, right) in enumerate(zip(borders, borders[1:], strict=False)):
            if number % 2:
                axis.axvspan(left, right, color=COLOURS["16 bit"], alpha=0.12, lw=0)
        axis.vlines(levels, 0, top, color=RULES[self.rule.value], lw=1.6)
        axis.set_ylim(0, top)
        axis.set_xlim(-1.03, 1.03)
        axis.set_xlabel(
            f"normal weight / absmax of its block of {self.block_size.value}; stripes: what goes to each level"
        )
        axis.set_ylabel("density")
        return made


@cache
def _blocks(block_size: int) -> Distribution:
    return lloyd.normal_blocks(block_size)


@cache
def _levels(rule: str, bits: int, block_size: int) -> tuple[float, ...]:
    if rule == QUANTILES:
        return normal_float(bits)
    if rule == EVEN:
        return uniform(bits)
    error = "squared" if rule == SQUARED else "absolute"
    return lloyd.fit(_blocks(block_size), error, start=normal_float(bits), tolerance=1e-5)
