"""The page that an instructor opens after grading: who needs a look, how hard each exercise was, what went wrong.

One file with no script and nothing from the network. What stands in it of students is hostile: every text goes through
`clean` and is escaped on its way into the page, and the page forbids the browser to run or to load anything.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from math import ceil
from pathlib import Path
from statistics import correlation, fmean, quantiles
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from nbconvert.filters import strip_ansi

from coursepkg import intervals
from coursepkg.grading.states import State
from coursepkg.intervals import Interval

LONGEST = 300  # characters of one text
SHORTER = 100  # of one text in a table that is MANY rows long
MOST_NOTES = 10  # of one student
MANY = 100  # rows; a longer table of students to look at is folded
COMMONEST = 3  # messages of one exercise
ENOUGH = 10  # students for a correlation
ROUNDING = 1e-9  # points: thirds of a point add up to a little less than one
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 220, 30, 8, 34, 44  # of a histogram and its margins, in px


@dataclass(frozen=True)
class Failure:
    """Why a test cell lost points: one line, and what to do about it."""

    message: str
    hint: str = ""


@dataclass(frozen=True)
class Exercise:
    """One graded cell: its name, its most points, whether a person grades it."""

    name: str
    points: float
    by_hand: bool


@dataclass(frozen=True)
class Row:
    """One student.

    `state`: a value of State, for `reason`. `score`: of the whole assignment after the late penalty, None until every
    part is graded. `points` and `failures` by the name of the exercise. `unanswered`: exercises left as released.
    `notes`: what an instructor should look at. `sandbox`: what kept the submission apart; empty if it has not run.
    """

    student: str
    state: str
    reason: str
    score: float | None
    points: dict[str, float | None]
    failures: dict[str, Failure]
    unanswered: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sandbox: str = ""


def write(
    path: Path, assignment: str, exercises: list[Exercise], rows: list[Row], warnings: Sequence[str] = ()
) -> None:
    """Write the page. The same input gives the same bytes; a page that was there stays until the new one is whole."""
    text = page(assignment, exercises, rows, warnings)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def page(assignment: str, exercises: list[Exercise], rows: list[Row], warnings: Sequence[str] = ()) -> str:
    """The page as a text."""
    environment = Environment(
        autoescape=True, finalize=_plain, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"points": _points, "percent": _percent}
    template = resources.files("coursepkg.grading").joinpath("report.html.j2").read_text(encoding="utf-8")
    waiting = _waiting(rows)
    return environment.from_string(template).render(
        assignment=assignment,
        warnings=warnings,
        total=len(rows),
        states=_counted(row.state for row in rows),
        sandboxes=_counted(row.sandbox for row in rows if row.sandbox),
        urgent=_urgent(rows),
        waiting=waiting,
        waiters=sum(len(students) for _, students in waiting),
        many=MANY,
        spreads=_spreads(exercises, rows),
        difficulties=_difficulties(exercises, rows),
        enough=ENOUGH,
        commonest=[(exercise.name, _commonest(exercise.name, rows)) for exercise in exercises],
        exercises=exercises,
        rows=sorted(rows, key=lambda row: row.student),
        figure={"width": WIDTH, "height": HEIGHT, "left": LEFT, "floor": HEIGHT - BOTTOM},
    )


def clean(text: str, longest: int = LONGEST) -> str:
    """The text on one line, of `longest` characters at most, without colours of a terminal and invisible characters,
    of which some turn the order of what follows them.

    >>> clean("\\x1b[31mred\\x1b[0m\\u202e,\\n and a\\x00 zero")
    'red, and a zero'
    """
    shown = (c for c in strip_ansi(text[: 10 * LONGEST]) if c.isprintable() or c.isspace())
    text = " ".join("".join(shown).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _plain(value: Any) -> Any:
    """What the template may write: texts are cleaned here, and only here is none forgotten."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _points(value: float | None) -> str:
    return "–" if value is None else f"{round(value, 2):g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _counted(texts: Iterable[str]) -> list[tuple[str, int]]:
    """Each text with its count, the commonest first, then by the alphabet."""
    return sorted(Counter(texts).items(), key=lambda item: (-item[1], item[0]))


@dataclass(frozen=True)
class _Look:
    """A student to look at, and why."""

    student: str
    state: str
    why: list[str]


def _urgent(rows: list[Row]) -> list[_Look]:
    """Whom something happened to, those without points first; the same reasons stand together."""
    scored = (State.GRADED, State.MANUAL)
    urgent = [row for row in rows if row.notes or row.state not in (*scored, State.NOT_SUBMITTED)]
    urgent.sort(key=lambda row: (row.state in scored, row.state, row.reason, row.student))
    return [_Look(row.student, row.state, _why(row, len(urgent) > MANY)) for row in urgent]


def _waiting(rows: list[Row]) -> list[tuple[str, list[str]]]:
    """Who only waits to be graded by hand, by reason."""
    waiting: dict[str, list[str]] = {}
    for row in rows:
        if row.state == State.MANUAL and not row.notes:
            waiting.setdefault(clean(row.reason), []).append(row.student)
    return [(reason, sorted(students)) for reason, students in sorted(waiting.items())]


def _why(row: Row, briefly: bool) -> list[str]:
    """The reason and the notes, one a line; briefly: all notes on one, both short."""
    if briefly:
        lines = [clean(row.reason, SHORTER), clean("; ".join(row.notes), SHORTER)]
    else:
        lines = [row.reason, *row.notes[:MOST_NOTES]]
        if len(row.notes) > MOST_NOTES:
            lines.append(f"and {len(row.notes) - MOST_NOTES} notes more")
    return [line for line in lines if line]


@dataclass(frozen=True)
class _Bar:
    """How many have a score from `low` up to `high`, or all points, and where that is drawn, in px."""

    says: str
    count: int
    x: float
    width: float
    height: float
    full: bool


@dataclass(frozen=True)
class _Spread:
    """How scores spread. `absent`: how many have none, by state."""

    title: str
    unit: str
    maximum: float
    n: int
    absent: list[tuple[str, int]]
    mean: float = 0.0
    quartiles: list[float] = field(default_factory=list)
    bars: list[_Bar] = field(default_factory=list)
    ticks: list[tuple[float, float]] = field(default_factory=list)


def _spreads(exercises: list[Exercise], rows: list[Row]) -> list[_Spread]:
    """Of whole scores; and of the points from tests, where a person gives points too."""
    tests = [exercise for exercise in exercises if not exercise.by_hand]
    spreads = [_spread("Scores", "score (points)", exercises, rows, [row.score for row in rows])]
    if 0 < len(tests) < len(exercises):
        sums = [_sum(row, tests) for row in rows]
        spreads.append(_spread("Points from tests alone", "points from tests", tests, rows, sums))
    return spreads


def _sum(row: Row, exercises: list[Exercise]) -> float | None:
    """The points of the exercises together, None while one of them has none."""
    points = [row.points.get(exercise.name) for exercise in exercises]
    return None if None in points or not points else sum(points)


def _spread(
    title: str, unit: str, exercises: list[Exercise], rows: list[Row], scores: list[float | None]
) -> _Spread:
    values = [score for score in scores if score is not None]
    absent = _counted(row.state for row, score in zip(rows, scores, strict=True) if score is None)
    maximum = sum(exercise.points for exercise in exercises)
    if not values or maximum <= 0:
        return _Spread(title, unit, maximum, len(values), absent)
    quartiles = quantiles(values, method="inclusive") if len(values) > 1 else 3 * values
    bars, ticks = _histogram(values, maximum)
    return _Spread(title, unit, maximum, len(values), absent, fmean(values), quartiles, bars, ticks)


def _histogram(values: list[float], maximum: float) -> tuple[list[_Bar], list[tuple[float, float]]]:
    """Bars, and ticks at their edges. All points have a bar of their own, a little apart."""
    step = _step(maximum)
    edges = [number * step for number in range(ceil(maximum / step - ROUNDING))] + [maximum]
    pixels = (WIDTH - LEFT - RIGHT) / (maximum / step + 1.75) / step  # a point's
    full = LEFT + (maximum + step / 2) * pixels
    counts = Counter(min(max(0, int((value + ROUNDING) / step)), len(edges) - 2) for value in values)
    complete = sum(value >= maximum - ROUNDING for value in values)
    counts[len(edges) - 2] -= complete
    highest = max(complete, *counts.values())
    bars = [
        _Bar(
            f"{low:g} to under {high:g}",
            counts[number],
            LEFT + low * pixels,
            (high - low) * pixels,
            _height(counts[number], highest),
            False,
        )
        for number, (low, high) in enumerate(zip(edges, edges[1:], strict=False))
    ]
    bars.append(_Bar(f"all {maximum:g}", complete, full, step * pixels, _height(complete, highest), True))
    crowded = edges[-1] - edges[-2] < 0.6 * step and len(edges) > 2
    shown = edges[:-2] + edges[-1:] if crowded else edges
    return bars, [(edge, LEFT + edge * pixels) for edge in shown]


def _step(maximum: float) -> float:
    """The width of a bar: 1, 2, 5, 10, 20, …, for 20 bars at most; a tenth where there are not even 3 points."""
    if maximum < 3:
        return maximum / 10
    steps = (factor * 10**power for power in range(100) for factor in (1, 2, 5))
    return next(step for step in steps if maximum / step <= 20)


def _height(count: int, highest: int) -> float:
    """In px; what is there at all can be seen."""
    return max(1.5, (HEIGHT - TOP - BOTTOM) * count / highest) if count else 0.0


@dataclass(frozen=True)
class _Difficulty:
    """How an exercise went. `mean`: of the share of its points; `complete`: the share of students with all of them.
    None where there is nothing to tell it from."""

    exercise: Exercise
    graded: int
    mean: float | None
    complete: Interval | None
    unanswered: int
    submitted: int
    discrimination: float | None


def _difficulties(exercises: list[Exercise], rows: list[Row]) -> list[_Difficulty]:
    basis = exercises
    if sum(_sum(row, basis) is not None for row in rows) < ENOUGH:
        basis = [exercise for exercise in exercises if not exercise.by_hand]
    return [_difficulty(exercise, basis, rows) for exercise in exercises]


def _difficulty(exercise: Exercise, basis: list[Exercise], rows: list[Row]) -> _Difficulty:
    name, most = exercise.name, exercise.points
    submitted = [row for row in rows if row.unanswered or any(v is not None for v in row.points.values())]
    points = [row.points[name] for row in rows if row.points.get(name) is not None]
    mean, complete = None, None
    if points and most > 0:
        mean = fmean(points) / most
        complete = intervals.share(np.array(points) >= most - ROUNDING)
    unanswered = sum(name in row.unanswered for row in submitted)
    discrimination = _discrimination(exercise, basis, rows)
    return _Difficulty(exercise, len(points), mean, complete, unanswered, len(submitted), discrimination)


def _discrimination(exercise: Exercise, basis: list[Exercise], rows: list[Row]) -> float | None:
    """The point-biserial correlation of all points in this exercise with the points in the others of `basis`.

    None of fewer than ENOUGH students, or where one of the two is the same for all.
    """
    others = [other for other in basis if other != exercise]
    pairs = [
        (float(row.points[exercise.name] >= exercise.points - ROUNDING), round(_sum(row, others), 9))
        for row in rows
        if exercise in basis and others and _sum(row, basis) is not None
    ]
    if len(pairs) < ENOUGH or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    return correlation(*zip(*pairs, strict=True))


@dataclass(frozen=True)
class _Failures:
    """How many failed an exercise that they had answered, in how many ways, and the commonest of these."""

    students: int
    ways: int
    top: list[tuple[int, Failure]]


def _commonest(name: str, rows: list[Row]) -> _Failures:
    failures = [row.failures[name] for row in rows if name in row.failures and name not in row.unanswered]
    hints: dict[str, list[str]] = {}
    for failure in failures:
        hints.setdefault(clean(failure.message), []).append(clean(failure.hint))
    messages = _counted(clean(failure.message) for failure in failures)
    top = [
        (count, Failure(message, _counted(hints[message])[0][0])) for message, count in messages[:COMMONEST]
    ]
    return _Failures(len(failures), len(messages), top)
