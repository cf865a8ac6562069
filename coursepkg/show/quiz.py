"""Questions that answer back. Their texts stand in `questions.toml`, so that a lecture's cell does not give them away."""

import tomllib
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

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
            widgets.Button(description=c.text, layout=widgets.Layout(width="auto", flex="0 0 auto"))
            for c in choices
        ]
        for button, choice in zip(self.buttons, choices, strict=True):
            button.on_click(lambda _, choice=choice: self._chosen(choice))
        # Buttons that do not fit go to the next line; in one line their texts would be cut.
        row = widgets.HBox(self.buttons, layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([widgets.HTML(f"<b>{escape(text)}</b>"), row, self.answer])

    def _chosen(self, choice: Choice) -> None:
        mark = "Right." if choice.right else "No."
        self.answer.value = f"<b>{mark}</b> {escape(choice.feedback)}"

    def __repr__(self) -> str:
        return f"{self.text} " + " | ".join(choice.text for choice in self.choices)


@cache
def questions() -> dict[str, dict[str, Any]]:
    """The lectures' questions by name, as `questions.toml` has them."""
    return tomllib.loads(files("coursepkg.show").joinpath("questions.toml").read_text(encoding="utf-8"))


def question(name: str) -> Question:
    """The question called `name`, to be shown. Raises ValueError where there is none."""
    if name not in questions():
        raise ValueError(f"no question {name!r}; there are {', '.join(questions())}")
    entry = questions()[name]
    return Question(entry["text"], *(Choice(**choice) for choice in entry["choices"]))
