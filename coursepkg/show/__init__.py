"""Figures and widgets of the lectures. Only this folder imports matplotlib and ipywidgets."""

from coursepkg.show.budgets import budget_bars, calculator
from coursepkg.show.figures import COLOURS, figure, png, show
from coursepkg.show.quiz import Choice, question

__all__ = ["COLOURS", "Choice", "budget_bars", "calculator", "figure", "png", "question", "show"]
