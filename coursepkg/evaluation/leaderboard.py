"""A leaderboard: methods on the same exam, with what they store, what they score, and how sure that is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from coursepkg.evaluation import intervals, rounding
from coursepkg.evaluation.exam import Exam, Marks, take
from coursepkg.evaluation.intervals import Interval
from coursepkg.evaluation.rounding import Method


@dataclass(frozen=True)
class Row:
    """One method: bytes of the model as stored, bits of a quantized weight without and with its scales, its marks."""

    name: str
    stored_bytes: int
    nominal_bits: int
    effective_bits: float
    marks: Marks


@dataclass(frozen=True)
class Leaderboard:
    """Rows that took the same exam. The first one is what the others are compared with."""

    rows: tuple[Row, ...]

    def __getitem__(self, name: str) -> Row:
        """The row of a method. Raises KeyError with the known names."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no row {name!r}; there are {', '.join(row.name for row in self.rows)}")

    def loss(self, name: str, against: str | None = None) -> Interval:
        """Accuracy of one row less that of another (the first, by default), paired on the same questions."""
        other = self.rows[0] if against is None else self[against]
        return intervals.difference(self[name].marks.right, other.marks.right)

    def more_nats(self, name: str, against: str | None = None) -> Interval:
        """How many nats more one row needs for the right option than another, paired on the same questions."""
        other = self.rows[0] if against is None else self[against]
        return intervals.difference(self[name].marks.nll, other.marks.nll)

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        head = (
            f"{'':<{width}}  {'stored, MB':>10} {'bits':>5} {'eff.':>6}  {'exam, %':<20} "
            f"{'less the first, %':<20} {'nats an answer':<24} {'perplexity':<22} exact, %"
        )
        lines = [head]
        for row in self.rows:
            marks = row.marks
            exam, less = _percent(marks.accuracy), _percent(self.loss(row.name))
            text = f"{marks.perplexity:.3f}" if marks.text is not None else ""
            exact = f"{100 * marks.exact_match.value:.1f}" if len(marks.exact) else ""
            lines.append(
                f"{row.name:<{width}}  {row.stored_bytes / 1e6:>10.3f} {row.nominal_bits:>5} "
                f"{row.effective_bits:>6.3f}  {f'{exam:.1f}':<20} {f'{less:+.1f}':<20} "
                f"{f'{marks.mean_nll:.3f}':<24} {text:<22} {exact}"
            )
        first = self.rows[0].marks
        lines.append(
            f"{len(first.right):,} questions; stored bytes of the whole model (MB = 10^6 bytes), bits of the quantized "
            "weights without and with scales; 95 % intervals in brackets, differences paired."
        )
        return "\n".join(lines)


def leaderboard(
    model: Any,
    tokenizer: Any,
    exam: Exam,
    methods: Sequence[Method] | None = None,
    after: Callable[[Row], None] = lambda row: None,
) -> Leaderboard:
    """Let a model take the exam once for each method of rounding its weights.

    methods: by default fp32, fp16, int8, NF4 and plain rounding to 4, 3 and 2 bits. after: called with each new row.
    """
    rows = []
    for method in rounding.first_board() if methods is None else methods:
        made = rounding.rounded_model(model, method)
        rows.append(
            Row(
                method.name,
                rounding.stored_bytes(model, method),
                method.format.bits,
                rounding.effective_bits(model, method),
                take(made, tokenizer, exam),
            )
        )
        after(rows[-1])
    return Leaderboard(tuple(rows))


def _percent(interval: Interval) -> Interval:
    return Interval(*(100 * each for each in (interval.value, interval.low, interval.high)))
