"""A leaderboard: methods on the same exam, with what they store, what they score, and how sure that is."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from coursepkg import intervals
from coursepkg.evaluation import rounding
from coursepkg.evaluation.divergence import Divergence, divergence
from coursepkg.evaluation.exam import Exam, Marks, pieces, take
from coursepkg.evaluation.rounding import Method
from coursepkg.intervals import Interval


@dataclass(frozen=True)
class Row:
    """One method: bytes of the model as stored, bits of a quantized weight without and with its scales, its marks, and
    on the exam's texts the divergence of its predictions from those of the first row."""

    name: str
    stored_bytes: int
    nominal_bits: int
    effective_bits: float
    marks: Marks
    kl: Divergence | None = None


@dataclass(frozen=True)
class Leaderboard:
    """Rows that took the same exam. The first one is what the others are compared with. Raises ValueError where two have one
    name."""

    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        _no_name_twice(row.name for row in self.rows)

    def __getitem__(self, name: str) -> Row:
        """The row of a method. Raises KeyError with the known names."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no row {name!r}; there are {', '.join(row.name for row in self.rows)}")

    def accuracy_difference(self, name: str, against: str | None = None) -> Interval:
        """Accuracy of one row less that of another (the first, by default), paired on the same questions."""
        other = self.rows[0] if against is None else self[against]
        return intervals.difference(self[name].marks.right, other.marks.right)

    def nll_difference(self, name: str, against: str | None = None) -> Interval:
        """Nats that one row needs for the right option, less those of another, paired on the same questions."""
        other = self.rows[0] if against is None else self[against]
        return intervals.difference(self[name].marks.nll, other.marks.nll)

    def kl_difference(self, name: str, against: str | None = None) -> Interval:
        """Nats a token by which one row diverges further than another. Raises ValueError where the exam has no texts."""
        other = self.rows[0] if against is None else self[against]
        if other.kl is None or self[name].kl is None:
            raise ValueError("the exam has no texts to diverge on")
        return self[name].kl.less(other.kl)

    def rows_as_data(self) -> list[dict[str, Any]]:
        """What the table shows, for a results file: a dict for each row, rounded, an interval as [value, low, high]."""

        def numbers(interval: Interval, digits: int) -> list[float]:
            return [round(each, digits) for each in (interval.value, interval.low, interval.high)]

        found = []
        for row in self.rows:
            marks = row.marks
            made = {
                "name": row.name,
                "stored_bytes": row.stored_bytes,
                "bits": row.nominal_bits,
                "effective_bits": round(row.effective_bits, 4),
                "exam": numbers(marks.accuracy, 4),
                "exam_against_first": numbers(self.accuracy_difference(row.name), 4),
                "nats_an_answer": numbers(marks.mean_nll, 4),
                "nats_against_first": numbers(self.nll_difference(row.name), 4),
            }
            if marks.text is not None:
                made |= {"perplexity": numbers(marks.perplexity, 4), "kl": numbers(row.kl.nats, 5)}
            if len(marks.exact):
                made["exact"] = numbers(marks.exact_match, 4)
            found.append(made)
        return found

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        lines = [
            f"{'':<{width}}  {'stored, MB':>10} {'bits':>5} {'eff.':>6}  {'exam':<23} {'against the first':<23} "
            f"{'nats an answer':<22} {'perplexity':<22} {'KL, nats a token':<25} exact"
        ]
        for row in self.rows:
            marks = row.marks
            text = f"{marks.perplexity:.3f}" if marks.text is not None else ""
            kl = f"{row.kl.nats:.4f}" if row.kl is not None else ""
            exact = f"{marks.exact_match.value:.1%}" if len(marks.exact) else ""
            lines.append(
                f"{row.name:<{width}}  {row.stored_bytes / 1e6:>10.3f} {row.nominal_bits:>5} "
                f"{row.effective_bits:>6.3f}  {f'{marks.accuracy:.1%}':<23} "
                f"{f'{self.accuracy_difference(row.name):+.1%}':<23} {f'{marks.mean_nll:.3f}':<22} {text:<22} {kl:<25} {exact}"
            )
        lines.append(
            f"{len(self.rows[0].marks.right):,} questions. Stored: the whole model, MB = 10^6 bytes; bits of a quantized "
            "weight without and with its scales. KL: of the predictions on the exam's texts, from the first row's. In brackets "
            "95 % intervals; differences are paired, in points."
        )
        return "\n".join(lines)

    def comparisons(self, pairs: Sequence[tuple[str, str]]) -> str:
        """For each pair of rows a line: how many nats more the second needs for an answer, and where the exam has texts, how
        much further it diverges; paired, and what that says."""
        lines = []
        for better, worse in pairs:
            found = self.nll_difference(worse, better)
            line = f"{worse} against {better}: {found:+.4f} nats an answer: {_verdict(found)}"
            if self[better].kl is not None:
                further = self.kl_difference(worse, better)
                line += f"; KL {further:+.5f} nats a token: {_verdict(further)}"
            lines.append(line)
        return "\n".join(lines)


def _no_name_twice(names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"two rows are called {twice[0]!r}: a row is found by its name, so give each its own"
        )


def _verdict(difference: Interval) -> str:
    return "no difference seen" if 0 in difference else "worse" if difference.low > 0 else "better"


def leaderboard(
    model: Any,
    tokenizer: Any,
    exam: Exam,
    methods: Sequence[Method] | None = None,
    before: Callable[[Method], None] = lambda method: None,
) -> Leaderboard:
    """Let a model take the exam once for each method of quantizing it.

    methods: by default rounding.first_board. before: called with each method first. Raises ValueError where two methods have
    one name.
    """
    methods = rounding.first_board(model) if methods is None else methods
    _no_name_twice(method.name for method in methods)
    rows, first = [], None
    texts = pieces(model, tokenizer, exam) if exam.texts else None
    for method in methods:
        before(method)
        made = rounding.quantized(model, method)
        first = made if first is None else first
        marks = take(made, tokenizer, exam)
        kl = divergence(made, first, texts) if texts else None
        stored, effective = rounding.stored_bytes(model, method), rounding.effective_bits(model, method)
        rows.append(Row(method.name, stored, method.format.bits, effective, marks, kl))
    return Leaderboard(tuple(rows))
