"""One call of a student's function and what should come of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """A call with `args` and `kwargs`, and what is expected of it.

    expected: the value it should return, or an exception class that it should raise.
    rel: relative tolerance for floating-point results; whole numbers, text and shapes must be equal.
    label: what this case is about, for the message of a hidden check. hint: the likeliest mistake, as a question or
        an advice. Both are shown to students; inputs and expected values of hidden checks are not.
    naming: where an exception is expected, texts that its message must contain.
    """

    args: tuple[Any, ...]
    expected: Any
    kwargs: dict[str, Any] = field(default_factory=dict)
    rel: float = 1e-9
    label: str = ""
    hint: str = ""
    naming: tuple[str, ...] = ()

    def call_of(self, name: str) -> str:
        """The call as source text, for example ``double(2, twice=True)``; long arguments are cut."""
        shown = [short(a) for a in self.args] + [f"{k}={short(v)}" for k, v in self.kwargs.items()]
        return f"{name}({', '.join(shown)})"


def case(
    *args: Any,
    expected: Any,
    rel: float = 1e-9,
    label: str = "",
    hint: str = "",
    naming: Sequence[str] = (),
    **kwargs: Any,
) -> Case:
    """The call with these arguments, as a `Case`."""
    return Case(args, expected, kwargs, rel, label, hint, tuple(naming))


def short(value: Any, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
