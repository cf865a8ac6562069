"""The instructor's page: numbers against ones worked by hand, and nothing of a student's that acts on it."""

import html
import os
import re
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coursepkg.grading import report
from coursepkg.grading.report import Exercise, Failure, Row, clean, page, write
from tests.browser import browser

A, B = Exercise("stored_bytes", 2, False), Exercise("kv_cache", 2, False)
ESSAY = Exercise("seventy_b", 4, True)
EXERCISES = [A, B, ESSAY]


def row(student: str, *points: float | None, **more) -> Row:
    """A student whose every part is graded, with these points of EXERCISES; without points, one who has none."""
    names = [exercise.name for exercise in EXERCISES]
    known = {
        "state": "graded" if points else "failed",
        "reason": "",
        "score": None if None in points or not points else sum(points),
        "points": dict(zip(names, points, strict=False)),
        "failures": {},
    }
    return Row(student, **known | more)


def waits(student: str, *points: float) -> Row:
    """A student whose essay nobody has graded yet."""
    return row(student, *points, None, state="needs manual grading", reason="a person must grade seventy_b")


#: Scores 8, 5, 4 and 1; and two without one.
TINY = [
    row("dora", 2.0, 2.0, 4.0),
    row("ben", 0.0, 2.0, 3.0),
    row("cleo", 2.0, 0.0, 2.0),
    row("ada", 0.0, 0.0, 1.0, unanswered=("kv_cache",)),
    row("eve", reason="the notebook is not valid JSON"),
    row("finn", state="not submitted"),
]


class Reader(HTMLParser):
    """What a browser makes of the page: its tables as rows of texts, its tags and the title."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: list[tuple[str, dict]] = []
        self.title = ""
        self._open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
            self._open = True
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "br":
            self.tables[-1][-1][-1] += " "

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] and self.tags[-1][0] == "title" and not self.tables:
            self.title = self.title or data
        if self._open and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag != "table"

    def table(self, first: str) -> list[list[str]]:
        """The rows under the heading whose first cell is this."""
        (found,) = [table for table in self.tables if table[0][0].strip() == first]
        return [[" ".join(cell.split()) for cell in line] for line in found[1:]]


def words(text: str) -> str:
    """The page's text on one line."""
    body = re.sub(r"<(style|svg).*?</\1>", "", text, flags=re.DOTALL)
    return (
        " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split()).replace(" ,", ",").replace(" .", ".")
    )


def figures(text: str) -> list[str]:
    """What the histograms say to those who cannot see them."""
    return re.findall(r'<desc id="d\d">(.*?)</desc>', text)


def hardness(rows: list[Row], exercises: list[Exercise] = EXERCISES) -> dict[str, list[str]]:
    """The row of each exercise in the table of difficulty, without the words in its pictures."""
    text = re.sub(r"<svg.*?</svg>", "", page("01", exercises, rows), flags=re.DOTALL)
    return {line[0]: line[1:] for line in Reader(text).table("Exercise")}


def test_states_are_counted_the_commonest_first() -> None:
    text = words(page("01", EXERCISES, TINY))
    assert "6 students 4 graded 1 failed 1 not submitted" in text
    assert "1 out of memory" in words(page("01", EXERCISES, [row("x", state="out of memory")]))


def test_scores_are_summed_up_and_those_without_one_are_no_zeros() -> None:
    """Of 1, 4, 5, 8: the quartiles lie a quarter of the way from 4 down to 1 and from 5 up to 8."""
    text = page("01", EXERCISES, TINY)
    assert "n = 4, mean 4.5, median 4.5, quartiles 3.25 and 5.75, of 8 points." in words(text)
    assert "Not counted, and not zeros: 1 failed, 1 not submitted." in words(text)
    assert figures(text)[0] == "1 to under 2: 1; 4 to under 5: 1; 5 to under 6: 1; all 8: 1."


def test_points_from_tests_can_be_read_before_anybody_has_graded_by_hand() -> None:
    rows = [waits("ada", 2.0, 2.0), waits("ben", 0.0, 1.0), row("eve")]
    text = page("01", EXERCISES, rows)
    assert "Scores None yet. Not counted, and not zeros: 2 needs manual grading, 1 failed." in words(text)
    assert "n = 2, mean 2.5, median 2.5, quartiles 1.75 and 3.25, of 4 points." in words(text)
    assert figures(text) == ["1 to under 2: 1; all 4: 1."]


def test_tests_have_no_histogram_of_their_own_where_they_are_all_there_is() -> None:
    assert len(figures(page("01", [A, B], [row("ada", 2.0, 0.0)]))) == 1


@pytest.mark.parametrize(
    ("maximum", "scores", "says"),
    [
        (27, [25.99, 26, 27], "24 to under 26: 1; 26 to under 27: 1; all 27: 1."),
        (1, [0.35, 1], "0.3 to under 0.4: 1; all 1: 1."),
        (1, [1 - 1e-12, 0.3], "0.3 to under 0.4: 1; all 1: 1."),  # 0.3 / 0.1 is a little less than 3
        (10, [12], "all 10: 1."),
        (10, [-2, 9.999], "0 to under 1: 1; 9 to under 10: 1."),
        (1000, [999, 0], "0 to under 50: 1; 950 to under 1000: 1."),
    ],
)
def test_every_score_is_in_the_bar_that_it_belongs_to(maximum: float, scores: list, says: str) -> None:
    exercises = [Exercise("stored_bytes", maximum, False)]
    rows = [row(f"s{number}", score) for number, score in enumerate(scores)]
    assert figures(page("01", exercises, rows)) == [says]


def test_bars_are_as_high_as_they_say() -> None:
    """Three fours and one zero: one bar three times as high as the other, both on the floor."""
    rows = [row(str(n), points) for n, points in enumerate([4.0, 4.0, 4.0, 0.0])]
    text = page("01", [Exercise("stored_bytes", 5, False)], rows)
    figure = re.search(r"<figure>.*?</figure>", text, flags=re.DOTALL)[0]
    bars = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', figure)
    (x0, y0, w0, h0), (x4, y4, w4, h4) = [[float(number) for number in bar] for bar in bars]
    assert h4 == pytest.approx(3 * h0, abs=0.2) and y0 + h0 == pytest.approx(y4 + h4, abs=0.2)
    assert w0 == w4 and x4 - x0 == pytest.approx(4 * (w0 + 2), abs=0.2)
    assert y4 == pytest.approx(report.TOP, abs=0.1), "the highest fills the figure"


def test_difficulty_is_the_mean_share_and_wilsons_interval() -> None:
    """2 of 4 have all points of stored_bytes; Wilson's half width is 1.96/(1 + 3.84/4)·√(0.25/4 + 3.84/64) = 0.35."""
    found = hardness(TINY)
    assert found["stored_bytes"] == ["2", "4", "50 %", "50 % [15 %, 85 %]", "0 (0 %)", "–"]
    assert found["kv_cache"][4] == "1 (25 %)"
    assert found["seventy_b (by hand)"][:4] == ["4", "4", "62 %", "25 % [5 %, 70 %]"]


def test_thirds_of_a_point_add_up_to_all_points() -> None:
    assert hardness([row("ada", 2 - 1e-12, 0.0)])["stored_bytes"][3].startswith("100 %")


#: Ten who have all points or none; four of five with one exercise have the other: a correlation of (4·4 − 1·1)/25.
PAIRS = [(2.0, 2.0)] * 4 + [(2.0, 0.0)] + [(0.0, 0.0)] * 4 + [(0.0, 2.0)]


def test_discrimination_is_the_correlation_with_the_rest() -> None:
    """The essay's points weigh in: with 4 for all it changes nothing, with 4 for those who have stored_bytes, some."""
    same = [row(f"s{n}", *pair, 4.0) for n, pair in enumerate(PAIRS)]
    assert hardness(same)["stored_bytes"][-1] == "0.60"
    assert hardness(same)["seventy_b (by hand)"][-1] == "–", "all have the same"
    other = [row(f"s{n}", *pair, 2 * pair[0]) for n, pair in enumerate(PAIRS)]
    # rest of 6, 6, 6, 6, 4 and 0, 0, 0, 0, 2: means 5.6 and 0.4, variance 5.6²/2 + 0.4²/2 − 9 + 0.64 = 7.4
    assert hardness(other)["stored_bytes"][-1] == f"{5.2 / 2 / 7.4**0.5:.2f}" == "0.96"


def test_discrimination_needs_ten_students_and_the_tests_are_enough() -> None:
    ten = [waits(f"s{n}", *pair) for n, pair in enumerate(PAIRS)]
    assert [line[-1] for line in hardness(ten).values()] == ["0.60", "0.60", "–"]
    assert [line[-1] for line in hardness(ten[:9]).values()] == ["–", "–", "–"]
    assert hardness([*ten[:9], row("eve"), row("finn")])["stored_bytes"][-1] == "–"


def failed(student: str, message: str, hint: str = "", **more) -> Row:
    return row(student, 0.0, 2.0, 4.0, failures={"stored_bytes": Failure(message, hint)}, **more)


def test_the_commonest_failures_stand_first_and_equals_by_the_alphabet() -> None:
    rows = [
        *(failed(f"a{n}", "b: raised KeyError") for n in range(2)),
        *(failed(f"b{n}", "a: returned None") for n in range(2)),
        *(failed(f"c{n}", "z: returned 3", "Round up.") for n in range(3)),
        failed("d", "c: returned 7"),
        *(failed(f"e{n}", "is not written yet", unanswered=("stored_bytes",)) for n in range(9)),
    ]
    text = words(page("01", EXERCISES, rows)).partition("The commonest failed checks")[2]
    assert (
        "stored_bytes 8 failed, in 4 ways; the commonest 3: 3 × z: returned 3 Hint: Round up. "
        "2 × a: returned None 2 × b: raised KeyError All students" in text
    )


def test_messages_that_differ_in_their_colours_alone_are_one() -> None:
    rows = [failed("ada", "returned\n7"), failed("ben", "\x1b[31mreturned\x1b[0m 7"), failed("cleo", "other")]
    assert "3 failed: 2 × returned 7 1 × other" in words(page("01", EXERCISES, rows))


def test_who_needs_a_look_stands_first_with_the_reason() -> None:
    rows = [
        *TINY,
        row("gus", 1.0, 1.0, 1.0, notes=("test_kv_cache is missing", "earned 1 point without an answer")),
        waits("hal", 1.0, 1.0),
        replace(waits("jo", 1.0, 1.0), notes=("test_kv_cache is missing",)),
        row("iris", state="timeout", reason="it ran for longer than 10 minutes"),
    ]
    text = page("01", EXERCISES, rows)
    assert Reader(text).table("Why") == [
        ["the notebook is not valid JSON", "eve", "failed"],
        ["it ran for longer than 10 minutes", "iris", "timeout"],
        ["test_kv_cache is missing earned 1 point without an answer", "gus", "graded"],
        ["a person must grade seventy_b test_kv_cache is missing", "jo", "needs manual grading"],
    ]
    assert "1 waits for nothing but manual grading a person must grade seventy_b : hal" in words(text)
    assert text.index("Who needs a look") < text.index("How scores spread")


def test_a_long_list_is_folded_and_whole() -> None:
    rows = [row(f"s{n:03}", reason="r" * 400, notes=("n" * 400,) * 20) for n in range(101)]
    folded, open_ = page("01", EXERCISES, rows), page("01", EXERCISES, rows[:100])
    assert "<details><summary>101 students" in folded and "<details>" not in open_
    assert [line[1] for line in Reader(folded).table("Why")] == [one.student for one in rows]
    assert "and 10 notes more" in open_


def test_all_students_are_listed_by_id() -> None:
    assert Reader(page("01", EXERCISES, TINY)).table("Student")[:5] == [
        ["ada", "graded", "1", "0", "0*", "1"],
        ["ben", "graded", "5", "0", "2", "3"],
        ["cleo", "graded", "4", "2", "0", "2"],
        ["dora", "graded", "8", "2", "2", "4"],
        ["eve", "failed", "–", "–", "–", "–"],
    ]


def test_warnings_and_isolation_are_told_at_the_top() -> None:
    rows = [row("ada", 2.0, 2.0, 4.0, sandbox="bubblewrap"), row("ben", 2.0, 2.0, 4.0, sandbox="none")]
    text = page("01", EXERCISES, rows, ["No sandbox here: submissions ran as your account."])
    assert text.index("No sandbox here") < text.index("Who needs a look")
    assert "Isolation of submissions: 1 bubblewrap, 1 none." in words(text)
    assert 'class="warnings"' not in page("01", EXERCISES, rows)


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "title": "</title><h1 onclick=alert(1)>All have passed</h1>",
    "attribute": '" onmouseover="alert(1)" \'',
    "svg": "</desc></svg><img src=https://example.org/x onerror=alert(1)>",
    "bidi": "\u202e\u2066100 of 0\u2069\u200f",
    "ansi": "\x1b[31mred\x1b[0m \x1b[2J\x9b2J\x07",
    "control": "a\x00b\x08c\r\nd\u2028e\ufeff",
    "surrogate": "alone \ud800",
    "template": "{{ 7 * 7 }}{% endfor %}",
    "long": "x" * 1_000_000,
}


def hostile(text: str) -> str:
    """The page with this text in every place of the interface."""
    rows = [
        row(text, reason=text, state=text, sandbox=text, notes=(text,)),
        row(f"{text}1", state="needs manual grading", reason=text),
        row(f"{text}2", 0.0, 0.0, 0.0, failures={"stored_bytes": Failure(text, text)}),
        Row(f"{text}3", "graded", text, 1.0, {text: 1.0}, {text: Failure(text, text)}, (text,)),
    ]
    return page(text, [*EXERCISES, Exercise(text, 3, True)], rows, [text])


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_is_hostile_stays_text(text: str) -> None:
    made = hostile(text)
    made.encode("utf-8")
    plain = Reader(hostile("plain"))
    assert [tag for tag, _ in Reader(made).tags] == [tag for tag, _ in plain.tags]
    assert [sorted(given) for _, given in Reader(made).tags] == [sorted(given) for _, given in plain.tags]
    unseen = {c for c in made if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert unseen == {"\n"}
    assert "x" * 301 not in made
    assert Reader(made).title == f"Grading report: {clean(text)}".rstrip() or not clean(text)


def test_a_browser_is_told_to_run_and_load_nothing() -> None:
    reader = Reader(page("01", EXERCISES, TINY))
    policies = [given["content"] for tag, given in reader.tags if given.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert not {"script", "img", "link", "a", "iframe"} & {tag for tag, _ in reader.tags}
    assert not any("src" in given or "href" in given for _, given in reader.tags)


@given(st.text(st.characters(codec=None), max_size=400), st.integers(1, 50))
def test_clean_text_is_one_short_printable_line(text: str, longest: int) -> None:
    found = clean(text, longest)
    assert found.isprintable() and len(found) <= longest
    assert clean(found, longest) == found
    if text.isascii() and text.isalnum() and len(text) <= longest:
        assert found == text


def test_a_long_text_ends_in_an_ellipsis() -> None:
    assert clean("x" * 301) == "x" * 299 + "…" and clean("x" * 300) == "x" * 300


@pytest.mark.parametrize(
    ("exercises", "rows"),
    [
        ([], []),
        (EXERCISES, []),
        (EXERCISES, [row("ada", state="not submitted")]),
        (EXERCISES, [row("ada", 2.0, 2.0, 4.0)]),
        ([ESSAY], [waits("ada", 1.0, 1.0)]),
        ([Exercise("stored_bytes", 0, False)], [row("ada", 0.0)]),
        ([], [Row("ada", "graded", "", 0.0, {}, {})]),
    ],
    ids=["nothing", "no students", "none graded", "one", "by hand alone", "no points", "no exercises"],
)
def test_small_classes_have_a_page(exercises: list[Exercise], rows: list[Row]) -> None:
    text = page("01", exercises, rows)
    assert len(Reader(text).table("Student")) == len(rows)
    assert len(Reader(text).table("Exercise")) == len(exercises)
    assert "nan" not in words(text).lower().replace("unanswered", "")


def test_one_student_is_the_median_and_both_quartiles() -> None:
    text = words(page("01", EXERCISES, TINY[:1]))
    assert "n = 1, mean 8, median 8, quartiles 8 and 8, of 8 points." in text


def large(student: int, **more) -> Row:
    points = [float((student * 7 + k) % 4) for k in range(10)]
    names = [f"exercise_{k}" for k in range(10)]
    known = {
        "state": "graded",
        "reason": "",
        "score": sum(points),
        "points": dict(zip(names, points, strict=True)),
        "failures": {name: Failure(f"{name}({student}): returned {student}") for name in names},
        "unanswered": tuple(names[:2]),
    }
    return Row(f"student_{student:05}", **known | more)


TEN = [Exercise(f"exercise_{k}", 3, k == 9) for k in range(10)]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"state": "failed", "reason": "r" * 2000, "notes": ("n" * 2000,) * 30},
        {"state": "needs manual grading", "reason": "a person must grade exercise_9"},
    ],
    ids=["graded", "failed", "waiting"],
)
def test_five_thousand_students_fit_into_three_megabytes(tmp_path: Path, more: dict) -> None:
    rows = [large(number, **more) for number in range(5000)]
    write(tmp_path / "report.html", "01", TEN, rows)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "report.html").stat().st_size < 3e6
    assert all(row.student in text for row in rows)


def test_the_same_class_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    rows = [*TINY, *(failed(f"x{n}", f"message {n % 5}", f"hint {n}") for n in range(40))]
    made = []
    for name, given_rows in {"a": rows, "b": rows, "c": rows[::-1]}.items():
        write(tmp_path / name, "01", EXERCISES, given_rows, ["é – …"])
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1] == made[2]
    assert b"\r" not in made[0] and "é – …".encode() in made[0]


@pytest.mark.parametrize("broken", ["replace", "page"])
def test_a_page_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "report.html"
    write(path, "01", EXERCISES, TINY)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left")

    if broken == "replace":
        monkeypatch.setattr(os, "replace", fail)
    else:  # half of it is written when the disk is full
        monkeypatch.setattr(report, "page", lambda *_: "x" * 10_000 + "\ud800")
    with pytest.raises((OSError, UnicodeEncodeError)):
        write(path, "02", EXERCISES, [])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


OVERLAPS = """() => [...document.querySelectorAll("figure svg")].flatMap(svg => {
  const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
  const out = svg.getBoundingClientRect();
  const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const inside = r => r.left >= out.left - 1 && r.right <= out.right + 1 && r.top >= out.top - 1 && r.bottom <= out.bottom + 1;
  return texts.flatMap(([name, box], i) => [
    ...(inside(box) ? [] : [`${name} is cut`]),
    ...texts.slice(i + 1).filter(([, other]) => meet(box, other)).map(([other]) => `${name} on ${other}`)]);
})"""


def test_a_browser_shows_labels_apart_and_runs_nothing(tmp_path: Path) -> None:
    """With as many points as there are bars, a last bar that is narrow, and hostile texts everywhere."""
    with browser() as opened:
        opened.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        for name, maximum in {"27": 27, "20": 20, "1000": 1000, "2.5": 2.5, "7.5": 7.5, "20.5": 20.5}.items():
            rows = [row(f"s{n}", n % 211 * maximum / 210) for n in range(5000)]
            write(tmp_path / f"{name}.html", name, [Exercise("stored_bytes", maximum, False)], rows)
            opened.goto((tmp_path / f"{name}.html").as_uri())
            assert opened.evaluate(OVERLAPS) == [], f"of {name} points"
        for name, text in HOSTILE.items():
            (tmp_path / f"{name}.html").write_text(hostile(text), encoding="utf-8")
            opened.goto((tmp_path / f"{name}.html").as_uri())
            assert opened.evaluate("[document.scripts.length, document.images.length]") == [0, 0]
            width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert opened.evaluate(width) == 0, f"{name} widens the page"
