"""What a model reads: texts, and questions with answers; in one format for training and for exams."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Document:
    """Something to read: a text, or a question with its answer."""

    text: str
    answer: str | None = None


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
    return (
        whole
        if whole.startswith((asked + answer, asked + answer.strip()))
        else f"{asked}{answer}{tokenizer.eos_token or ''}"
    )


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of texts that already hold their special tokens."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"]
