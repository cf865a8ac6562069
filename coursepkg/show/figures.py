"""How the course's figures look: one style, one colour for one thing, and words for those who cannot see them."""

import io

from IPython.display import Image
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette, which stays distinct for colour-blind readers.
_OKABE_ITO = {
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#8C8C8C",
    "black": "#222222",
}
# The same thing has the same colour in every lecture.
COLOURS: dict[str, str] = {
    "weights": _OKABE_ITO["blue"],
    "scales": _OKABE_ITO["orange"],
    "KV cache": _OKABE_ITO["purple"],
    "adapters": _OKABE_ITO["yellow"],
    "gradients": _OKABE_ITO["vermillion"],
    "optimizer": _OKABE_ITO["green"],
    "activations": _OKABE_ITO["sky"],
    "device": _OKABE_ITO["black"],
    "16 bit": _OKABE_ITO["grey"],
    "NF4": _OKABE_ITO["blue"],
    "int4": _OKABE_ITO["orange"],
    "rounding": _OKABE_ITO["orange"],
    "W8A8": _OKABE_ITO["orange"],
    "LLM.int8()": _OKABE_ITO["sky"],
    "SmoothQuant": _OKABE_ITO["vermillion"],
    "GPTQ": _OKABE_ITO["green"],
    "AWQ": _OKABE_ITO["purple"],
    "AWQ + GPTQ": _OKABE_ITO["black"],
    "FP4": _OKABE_ITO["purple"],
    "E2M1": _OKABE_ITO["sky"],
    "AF4": _OKABE_ITO["black"],
    "least absolute error": _OKABE_ITO["green"],
    "least squared error": _OKABE_ITO["vermillion"],
}
_DPI = 110


def figure(width: float = 8.0, height: float = 3.6, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of `columns` axes side by side, sizes in inches; not known to pyplot, so nothing has to be closed."""
    made = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(made)
    axes = list(made.subplots(1, columns, squeeze=False)[0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(length=3)
        axis.set_axisbelow(True)
    return made, axes


def png(made: Figure) -> bytes:
    """The figure as a PNG file, the same bytes for the same figure."""
    file = io.BytesIO()
    made.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def show(made: Figure, alt: str) -> Image:
    """The figure for a cell's last line. `alt` says in words what there is to see; an empty one is refused."""
    if not alt.strip():
        raise ValueError("a figure needs an alt text: say in a sentence what it shows")
    return Image(png(made), alt=alt)
