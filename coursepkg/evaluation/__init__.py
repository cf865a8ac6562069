"""Exams for language models: multiple choice by likelihood, exact match, perplexity, divergence, and intervals for all.

`leaderboard` lets a model take one exam with its weights rounded in many ways.

from coursepkg import evaluation
marks = evaluation.take(model, tokenizer, exam)
"""

from coursepkg.evaluation.boards import Leaderboard, leaderboard
from coursepkg.evaluation.divergence import Divergence, divergence
from coursepkg.evaluation.exam import Exam, Marks, chosen_options, take
from coursepkg.evaluation.generation import answers, go_on
from coursepkg.evaluation.options import option_scores
from coursepkg.evaluation.perplexity import Likelihood, documents, likelihood, windows
from coursepkg.evaluation.questions import Question
from coursepkg.evaluation.rounding import Method, each_weight, lloyd_max, stored_as, whole_numbers
from coursepkg.intervals import Interval

__all__ = [
    "Divergence",
    "Exam",
    "Interval",
    "Leaderboard",
    "Likelihood",
    "Marks",
    "Method",
    "Question",
    "answers",
    "chosen_options",
    "divergence",
    "documents",
    "each_weight",
    "go_on",
    "leaderboard",
    "likelihood",
    "lloyd_max",
    "option_scores",
    "stored_as",
    "take",
    "whole_numbers",
    "windows",
]
