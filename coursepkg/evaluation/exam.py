"""An exam: questions with options, questions to answer freely, text to predict; and what a model scored in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coursepkg import intervals
from coursepkg.evaluation import generation, perplexity
from coursepkg.evaluation.options import option_scores
from coursepkg.evaluation.perplexity import Likelihood, Piece
from coursepkg.evaluation.questions import Question
from coursepkg.intervals import Interval


@dataclass(frozen=True)
class Exam:
    """questions: scored by likelihood. free: those to answer in the model's own words. texts: for perplexity."""

    name: str
    questions: tuple[Question, ...]
    free: tuple[Question, ...] = ()
    texts: tuple[str, ...] = ()

    def only(self, category: str) -> "Exam":
        """The exam with the questions of one category. Raises ValueError where there is none."""
        kept = tuple(q for q in self.questions if q.category == category)
        if not kept:
            known = ", ".join(dict.fromkeys(q.category for q in self.questions))
            raise ValueError(f"no questions of category {category!r}; there are {known}")
        return Exam(self.name, kept, tuple(q for q in self.free if q.category == category), self.texts)


@dataclass(frozen=True)
class Marks:
    """What a model scored.

    right: for each question, whether its likeliest option was the right one; nll: the negative log-likelihood of the
    right option, in nats; written: the free answers; exact: which of them are exactly right; text: the likelihood of
    the texts.
    """

    exam: Exam
    right: np.ndarray
    nll: np.ndarray
    written: tuple[str, ...]
    exact: np.ndarray
    text: Likelihood | None

    @property
    def accuracy(self) -> Interval:
        """The share of questions answered rightly, with its 95 % interval."""
        return intervals.share(self.right)

    def of(self, category: str) -> Interval:
        """The share in one category, with its interval."""
        return self._where(lambda question: question.category == category, category)

    def of_label(self, label: str) -> Interval:
        """The share among the questions with one label, with its interval."""
        return self._where(lambda question: question.label == label, label)

    def _where(self, belongs: Callable[[Question], bool], name: str) -> Interval:
        kept = np.array([belongs(question) for question in self.exam.questions])
        if not kept.any():
            raise ValueError(f"no question of the exam {self.exam.name} belongs to {name!r}")
        return intervals.share(self.right[kept])

    @property
    def mean_nll(self) -> Interval:
        """The mean negative log-likelihood of the right option, in nats, with its interval."""
        return intervals.mean(self.nll)

    @property
    def exact_match(self) -> Interval:
        """The share of free answers that are exactly right, with its interval."""
        return intervals.share(self.exact)

    @property
    def perplexity(self) -> Interval:
        """The perplexity of the exam's texts, with its interval. Raises ValueError where the exam has none."""
        if self.text is None:
            raise ValueError(f"the exam {self.exam.name} has no texts")
        return self.text.perplexity

    def __str__(self) -> str:
        lines = [f"{self.exam.name}: {len(self.right):,} questions with options, 95 % intervals in brackets"]
        lines += [
            f"  {name:<12} {self.of(name):6.1%}"
            for name in dict.fromkeys(question.category for question in self.exam.questions)
        ]
        lines.append(f"  {'all':<12} {self.accuracy:6.1%}")
        if len(self.exact):
            lines.append(f"  {'exact match':<12} {self.exact_match:6.1%}   ({len(self.exact)} free answers)")
        if self.text is not None:
            lines.append(f"  {'perplexity':<12} {self.perplexity:6.3f}   ({self.text.tokens.sum():,} tokens)")
        return "\n".join(lines)


def take(model: Any, tokenizer: Any, exam: Exam, batch_size: int = 64) -> Marks:
    """Let a causal LM of transformers that has a key-value cache take the exam, with its own tokenizer.

    batch_size: questions and texts read at once, at most. Raises FloatingPointError where logits are not finite.
    """
    scores = option_scores(model, tokenizer, exam.questions, batch_size)
    chosen = zip(scores, exam.questions, strict=True)
    right = np.array([int(each.argmax()) == question.answer for each, question in chosen])
    nll = np.array([-each[q.answer] for each, q in zip(scores, exam.questions, strict=True)])
    written = generation.answers(model, tokenizer, [q.prompt for q in exam.free], batch_size=2 * batch_size)
    exact = [generation.same(each, question.right) for each, question in zip(written, exam.free, strict=True)]
    text = perplexity.likelihood(model, pieces(model, tokenizer, exam), batch_size) if exam.texts else None
    return Marks(exam, right, nll, tuple(written), np.array(exact, dtype=bool), text)


def pieces(model: Any, tokenizer: Any, exam: Exam) -> list[Piece]:
    """The exam's texts as a model reads them."""
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return perplexity.documents(tokenizer, exam.texts, longest)


def chosen_options(model: Any, tokenizer: Any, questions: Sequence[Question]) -> list[str]:
    """The option that the model finds likeliest, for each question."""
    scores = option_scores(model, tokenizer, questions)
    return [question.options[int(each.argmax())] for each, question in zip(scores, questions, strict=True)]
