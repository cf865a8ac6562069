"""Figures and widgets of the lectures. Only this folder imports matplotlib and ipywidgets."""

from coursepkg.show import (
    affine_plots,
    awq_plots,
    gptq_plots,
    granularity_plots,
    lora_plots,
    memory_plots,
    model_plots,
    nf4_plots,
    outlier_block,
    outlier_plots,
    trade_plots,
)
from coursepkg.show.awq_curve import AwqCurve
from coursepkg.show.bit_explorer import BitExplorer
from coursepkg.show.budgets import Calculator, budget_bars
from coursepkg.show.error_flow import ErrorFlow
from coursepkg.show.figures import COLOURS, figure, png, show
from coursepkg.show.level_explorer import LevelExplorer
from coursepkg.show.number_line import NumberLine
from coursepkg.show.outlier_block import OutlierBlock
from coursepkg.show.quiz import Choice, Question, question, questions
from coursepkg.show.rank_explorer import RankExplorer
from coursepkg.show.smooth_explorer import SmoothExplorer

__all__ = [
    "AwqCurve",
    "BitExplorer",
    "COLOURS",
    "Calculator",
    "Choice",
    "ErrorFlow",
    "LevelExplorer",
    "NumberLine",
    "OutlierBlock",
    "Question",
    "RankExplorer",
    "SmoothExplorer",
    "affine_plots",
    "awq_plots",
    "budget_bars",
    "figure",
    "gptq_plots",
    "granularity_plots",
    "lora_plots",
    "memory_plots",
    "model_plots",
    "nf4_plots",
    "outlier_block",
    "outlier_plots",
    "png",
    "question",
    "questions",
    "show",
    "trade_plots",
]
