"""Exams for language models: multiple choice by likelihood, exact match, perplexity, and intervals for all of them.

from coursepkg import evaluation
marks = evaluation.take(model, tokenizer, exam)
"""

from coursepkg.evaluation.exam import Exam, Marks, chosen_options, take
from coursepkg.evaluation.generation import answers, go_on
from coursepkg.evaluation.intervals import Interval
from coursepkg.evaluation.likelihood import option_scores
from coursepkg.evaluation.perplexity import Likelihood, documents, likelihood, windows
from coursepkg.evaluation.questions import Question

__all__ = [
    "Exam",
    "Interval",
    "Likelihood",
    "Marks",
    "Question",
    "answers",
    "chosen_options",
    "documents",
    "go_on",
    "likelihood",
    "option_scores",
    "take",
    "windows",
]
