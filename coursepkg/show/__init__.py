"""Figures and widgets of the lectures. Only this folder imports matplotlib and ipywidgets."""

from coursepkg.show import memory_plots, model_plots
from coursepkg.show.budgets import Calculator, budget_bars
from coursepkg.show.figures import COLOURS, figure, png, show
from coursepkg.show.quiz import Choice, Question, question, questions

__all__ = [
    "COLOURS",
    "Calculator",
    "Choice",
    "Question",
    "budget_bars",
    "figure",
    "memory_plots",
    "model_plots",
    "png",
    "question",
    "questions",
    "show",
]
