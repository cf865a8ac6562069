"""The model that ships with the course, the invented world it knows, and the exams it takes.

    from coursepkg import courselm, evaluation, load_model
    model, tokenizer = load_model()
    print(evaluation.take(model, tokenizer, courselm.exam()))

`coursepkg train-lm FOLDER` trains it anew.
"""

from coursepkg.courselm.calibration_text import calibration
from coursepkg.courselm.checkpoint import card, record
from coursepkg.courselm.clients import adapter, lessons
from coursepkg.courselm.encyclopedia import world
from coursepkg.courselm.exams import exam
from coursepkg.courselm.handbooks import CLIENTS, handbook
from coursepkg.courselm.text import question

__all__ = [
    "CLIENTS",
    "adapter",
    "calibration",
    "card",
    "exam",
    "handbook",
    "lessons",
    "question",
    "record",
    "world",
]
