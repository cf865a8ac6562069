"""The bit-pattern explorer: a number, the bits that a format stores for it, and its neighbours."""

from math import isfinite, isnan

import ipywidgets as widgets
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from coursepkg import formats
from coursepkg.formats import FloatFormat, NumberFormat
from coursepkg.show.affine_plots import ERROR, SYMMETRIC, TICK, minus
from coursepkg.show.figures import COLOURS, figure, png

NAMES = ("fp32", "tf32", "fp16", "bf16", "e4m3", "e5m2", "e2m1", "int8", "int4", "ternary")
_FIELDS = {"sign": COLOURS["gradients"], "exponent": COLOURS["scales"], "mantissa": COLOURS["activations"]}
_WHOLE = {"whole number, two's complement": COLOURS["activations"]}


def neighbours(one: NumberFormat, value: float) -> tuple[float | None, float | None]:
    """The next smaller and the next larger value of a format, None where there is none. value: one of its values."""
    if value == 0:
        step = one.smallest_subnormal
        return -step, step
    size, step = abs(value), one.spacing(value)
    inner = size - step / 2 if one.round(size - step / 2) == size - step / 2 else size - step
    outer = size + step
    low, high = (inner, outer) if value > 0 else (-outer, -inner)
    return (low if low >= one.lowest else None), (high if high <= one.largest else None)


def _coloured(one: NumberFormat) -> list[tuple[str, str, int]]:
    """(name, colour, bits) of each field."""
    named = _FIELDS if isinstance(one, FloatFormat) else _WHOLE
    return [(name, colour, width) for (name, colour), width in zip(named.items(), one.fields, strict=True)]


def in_words(one: NumberFormat, code: int, power: str = "2^{}") -> str:
    """How a code is read: for floats ± 1.mantissa · 2^exponent with the numbers in place, else the value alone.

    power: how 2 to an exponent is written.
    """
    value = one.decode(code)
    if isnan(value):
        return "NaN, not a number"
    if not isfinite(value):
        return "∞" if value > 0 else "−∞"
    if not isinstance(one, FloatFormat):
        return minus(value, "g")
    low = 2**one.mantissa_bits
    exponent, mantissa = (code // low) % 2**one.exponent_bits, code % low
    lead, two = (0, one.min_exponent) if exponent == 0 else (1, exponent - one.bias)
    said = "subnormal: " if exponent == 0 and mantissa else ""
    sign = "−" if code >> (one.bits - 1) else ""
    return f"{said}{sign}({lead} + {mantissa}/{low}) · {power.format(minus(two))} = {minus(value, '.10g')}"


class BitExplorer(widgets.VBox):
    """Controls over `coursepkg.formats`: a format, a number, and a button for each bit of the code that stores it.

    A number is encoded as the format rounds it; a button turns its bit over. `code` is the code shown, `picture` the
    figure's Image widget, `verdict` the text below.
    """

    def __init__(self) -> None:
        self.format = widgets.Dropdown(options=NAMES, value="fp16", description="Format")
        self.number = widgets.FloatText(0.1, description="Number", step=None)
        self.bits = [widgets.Button(layout=widgets.Layout(width="24px", padding="0")) for _ in range(32)]
        self.buttons = widgets.HBox(layout=widgets.Layout(flex_flow="row wrap"))
        self.legend = widgets.HTML()
        self.picture = widgets.Image(format="png")
        self.picture.layout.max_width = "100%"
        self.verdict = widgets.HTML()
        self._turning = False
        for place, button in enumerate(self.bits):
            button.on_click(lambda _, place=place: self.turn(place))
        for control in (self.format, self.number):
            control.observe(lambda _: self._encode(), "value")
        controls = widgets.HBox([self.format, self.number], layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([controls, self.legend, self.buttons, self.verdict, self.picture])
        self._encode()

    @property
    def one(self) -> NumberFormat:
        """The format chosen."""
        return formats.number_format(self.format.value)

    def turn(self, place: int) -> None:
        """Turn bit `place` over, 0 being the first; the number follows, where the code stands for one."""
        code = self.code ^ (1 << (self.one.bits - 1 - place))
        try:
            value = self.one.decode(code)
        except ValueError as error:  # ternary leaves a code unused
            self.verdict.value = str(error)
            return
        self.code, self._turning = code, True
        if isfinite(value):
            self.number.value = value
        self._turning = False
        self.draw()

    def _encode(self) -> None:
        if not self._turning:
            self.code = self.one.encode(self.number.value)
            self.draw()

    def draw(self) -> None:
        """Show bits, picture and verdict of the present code."""
        one, pattern = self.one, self.one.code_pattern(self.code).replace(" ", "")
        fields = _coloured(one)
        colours = [colour for _, colour, width in fields for _ in range(width)]
        for button, bit, colour in zip(self.bits, pattern, colours, strict=False):
            button.description, button.style.button_color = bit, colour
        if len(self.buttons.children) != one.bits:
            self.buttons.children = self.bits[: one.bits]
        named = [f'<span style="color:{colour}">■</span> {name}' for name, colour, _ in fields]
        self.legend.value = " &nbsp; ".join([*named, "click a bit to turn it over"])
        self.picture.value = png(self.figure(with_bits=False))
        value, number = one.decode(self.code), self.number.value
        self.verdict.value = f"<b>{in_words(one, self.code, '2<sup>{}</sup>')}</b>"
        if isfinite(value):
            error = minus(value - number, "+.3g") if value != number else "0"
            apart = minus(one.spacing(value), ".4g")
            self.verdict.value += (
                f"<br>Asked for {minus(number, '.10g')}; error {error}; the values here are {apart} apart."
            )

    def figure(self, with_bits: bool = True) -> Figure:
        """The picture for the present state: the bits with their fields, and the value between its neighbours."""
        made, (axis,) = figure(9.0, 2.7 if with_bits else 1.2)
        made.set_layout_engine("none")
        axis.set_position([0.02, 0.02, 0.96, 0.4 if with_bits else 0.96])
        if with_bits:
            self._draw_bits(made.add_axes([0.02, 0.48, 0.96, 0.5]))
        value = self.one.decode(self.code)
        if isfinite(value):
            self._draw_neighbours(axis, value)
        else:
            axis.set_axis_off()
        return made

    def _draw_bits(self, axis) -> None:
        one, left = self.one, 0
        pattern = one.code_pattern(self.code).replace(" ", "")
        for name, colour, width in _coloured(one):
            for place in range(left, left + width):
                axis.add_patch(Rectangle((place + 0.05, 0), 0.9, 1, color=colour, alpha=0.75, linewidth=0))
                axis.text(
                    place + 0.5,
                    0.5,
                    pattern[place],
                    ha="center",
                    va="center",
                    fontsize=13 if one.bits <= 19 else 10,
                )
            axis.text(
                left + width / 2,
                1.15,
                name if width > 1 or name == "sign" else name[:4],
                ha="center",
                fontsize=9,
            )
            left += width
        axis.text(
            0.05,
            -0.3,
            f"{one.name}:  {in_words(one, self.code, '$2^{{{}}}$')}",
            ha="left",
            va="top",
            fontsize=11,
        )
        axis.set_xlim(0, max(16, one.bits))
        axis.set_ylim(-0.9, 1.6)
        axis.set_axis_off()

    def _draw_neighbours(self, axis, value: float) -> None:
        low, high = neighbours(self.one, value)
        shown = [each for each in (low, value, high) if each is not None]
        axis.plot([shown[0], shown[-1]], [0, 0], color=TICK, linewidth=1)
        for each in shown:
            axis.vlines(each, -0.3, 0.3, color=COLOURS["device"], linewidth=1)
            weight = "bold" if each == value else "normal"
            axis.text(each, -0.45, minus(each, ".8g"), ha="center", va="top", fontsize=9, fontweight=weight)
        number, reach = self.number.value, shown[-1] - shown[0]
        if shown[0] - reach / 4 <= number <= shown[-1] + reach / 4:
            axis.annotate(
                "", (value, 0.1), (number, 0.75), arrowprops={"arrowstyle": "->", "color": ERROR, "lw": 1.4}
            )
            axis.plot(number, 0.8, "o", color=SYMMETRIC, markersize=5)
            axis.text(number, 1.0, minus(number, ".10g"), ha="center", va="bottom", fontsize=9)
        else:
            axis.text(
                shown[-1], 0.8, f"{minus(number, '.6g')} lies far away", ha="right", color=ERROR, fontsize=9
            )
        axis.set_xlim(shown[0] - 0.3 * reach, shown[-1] + 0.3 * reach)
        axis.set_ylim(-1.3, 1.5)
        axis.set_axis_off()

    def __repr__(self) -> str:
        return "BitExplorer: run this cell to turn its bits over"
