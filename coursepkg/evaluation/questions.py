"""Multiple-choice questions, and how a model is asked them in the format it was trained for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Question:
    """A question with its options.

    options: all the answers to choose from; answer: the index of the right one.
    category: what its score is reported under. label: a finer name that a table may group by.
    Raises ValueError where `answer` points at no option, or where two options are the same.
    """

    prompt: str
    options: tuple[str, ...]
    answer: int
    category: str
    label: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.answer < len(self.options):
            raise ValueError(
                f"{self.prompt!r}: answer {self.answer} is none of its {len(self.options)} options"
            )
        if len(set(self.options)) < len(self.options):
            raise ValueError(f"{self.prompt!r}: two options are the same: {', '.join(self.options)}")

    @property
    def right(self) -> str:
        """The right option."""
        return self.options[self.answer]

    def __str__(self) -> str:
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        listed = "   ".join(
            f"{letter}. {option}" for letter, option in zip(letters, self.options, strict=False)
        )
        return f"{self.prompt}\n  {listed}"


def ask(tokenizer: Any, prompt: str) -> str:
    """The text that a model continues with its answer.

    The tokenizer's chat template where it has one; else "Question: … Answer:", as for a model that only completes.
    Templates that let a model think first are asked not to.
    """
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": prompt}]
        return tokenizer.apply_chat_template(
            turn, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    return f"{tokenizer.bos_token or ''}Question: {prompt}\nAnswer:"


def told(tokenizer: Any, prompt: str, answer: str) -> str:
    """The same text with the answer and the mark that ends it.

    The end matters: without it "4" would always be likelier than "48". It is what the template writes after an answer;
    the end-of-text token where the template writes the turns before the answer in another way than `ask` does; a line
    break without a template.
    """
    asked = ask(tokenizer, prompt)
    if not tokenizer.chat_template:
        return f"{asked} {answer}\n"
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False, enable_thinking=False)
    return whole if whole.startswith(asked + answer) else f"{asked}{answer}{tokenizer.eos_token or ''}"


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of texts that already hold their special tokens."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"]
