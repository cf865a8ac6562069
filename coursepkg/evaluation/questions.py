"""Multiple-choice questions."""

from dataclasses import dataclass


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
