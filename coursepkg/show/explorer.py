"""What every "what if" widget is: controls, a picture that is redrawn whenever one of them moves, a line of text."""

from collections.abc import Sequence

import ipywidgets as widgets
from matplotlib.figure import Figure

from coursepkg.show.figures import png


class Explorer(widgets.VBox):
    """Rows of controls over a picture. `picture` is the figure's Image widget, `verdict` the text below it.

    A subclass makes its controls, hands them over, and says what they show: `figure` and `said`.
    """

    def __init__(self, *rows: Sequence[widgets.Widget]) -> None:
        self.picture = widgets.Image(format="png")
        self.picture.layout.max_width = "100%"
        self.verdict = widgets.HTML()
        for row in rows:
            for control in row:
                control.observe(lambda _: self.draw(), "value")
        wrapped = widgets.Layout(flex_flow="row wrap")
        boxes = [widgets.HBox(row, layout=wrapped) for row in rows]
        super().__init__([*boxes, self.picture, self.verdict])
        self.draw()

    def draw(self) -> None:
        """Show the picture and the verdict for the present state of the controls."""
        self.picture.value = png(self.figure())
        self.verdict.value = self.said()

    def figure(self) -> Figure:
        """The picture for the present state of the controls."""
        raise NotImplementedError

    def said(self) -> str:
        """What the present state comes to, as HTML."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}: run this cell to move its controls"
