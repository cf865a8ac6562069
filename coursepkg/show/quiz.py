"""Questions that answer back: each wrong choice is a mistake that people make, and is told why."""

from dataclasses import dataclass
from html import escape

import ipywidgets as widgets


@dataclass(frozen=True)
class Choice:
    """One answer to choose, what to say about it, and whether it is right."""

    text: str
    feedback: str
    right: bool = False


class Question(widgets.VBox):
    """A question with a button for each choice; pressing one says whether and why it is right or wrong.

    Raises ValueError unless exactly one choice is right and all have feedback.
    """

    def __init__(self, text: str, *choices: Choice) -> None:
        if sum(choice.right for choice in choices) != 1 or not all(choice.feedback for choice in choices):
            raise ValueError("a question needs exactly one right choice, and feedback for every choice")
        self.text, self.choices = text, choices
        self.answer = widgets.HTML()
        self.buttons = [
            widgets.Button(description=c.text, layout=widgets.Layout(width="auto")) for c in choices
        ]
        for button, choice in zip(self.buttons, choices, strict=True):
            button.on_click(lambda _, choice=choice: self._chosen(choice))
        super().__init__([widgets.HTML(f"<b>{escape(text)}</b>"), widgets.HBox(self.buttons), self.answer])

    def _chosen(self, choice: Choice) -> None:
        mark = "Right." if choice.right else "No."
        self.answer.value = f"<b>{mark}</b> {escape(choice.feedback)}"

    def __repr__(self) -> str:
        return f"{self.text} " + " | ".join(choice.text for choice in self.choices)
