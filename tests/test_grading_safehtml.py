"""What students write and show cannot run on a page that their instructor opens."""

import nbformat
import pytest
from nbconvert.exporters import HTMLExporter

from coursepkg.grading.course import Course
from coursepkg.grading.release import student_version
from coursepkg.grading.safehtml import clean_html
from tests import classroom
from tests.test_grading_class import regrade

MARKDOWN = """Because $x < y$ and **bold**.

<script>alert("markdown")</script> <img src=x onerror="alert(2)">

Links: [a](javascript:alert(3)) [b](https://example.org)

| a |
|---|
| 1 |
"""
SHOWN = (
    "from IPython.display import HTML, Javascript, display\n"
    "display(HTML('<table><tr><th>head</th></tr></table><' + 'script>ale' + 'rt(4)</' + 'script>'))\n"
    "display(Javascript('ale' + 'rt(5)'))"
)
#: What would run, as it would stand in a page.
RUNS = ("<script>alert", "onerror=", 'href="javascript', "<script>ale", "alert(5)")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    root = classroom.make_course(tmp_path_factory.mktemp("safe"))
    released = student_version(classroom.notebook(), classroom.MINI, root)
    nb = classroom.submission(released, {"why": MARKDOWN})
    nb.cells.insert(1, nbformat.v4.new_code_cell(SHOWN))
    classroom.submit(root, "eve", nb)
    regrade(root)
    return root


def formgraders_page(root) -> str:
    """The graded notebook through the exporter that formgrader makes of the course's settings."""
    config = Course.open(root).config
    path = root / "autograded" / "eve" / classroom.MINI / f"{classroom.MINI}.ipynb"
    return HTMLExporter(config=config, template_name="classic").from_filename(str(path))[0]


@pytest.mark.parametrize("page", ["feedback", "formgrader"])
def test_nothing_of_theirs_runs_and_their_formatting_stays(course, page) -> None:
    if page == "feedback":
        path = course / "feedback" / "eve" / classroom.MINI / f"{classroom.MINI}.html"
        text = path.read_text(encoding="utf-8")
    else:
        text = formgraders_page(course)
    assert [text[text.index(what) - 60 :][:120] for what in RUNS if what in text] == []
    assert "<strong>bold</strong>" in text and "$x &lt; y$" in text
    assert 'href="https://example.org"' in text
    assert "<th>head</th>" in text


@pytest.mark.parametrize(
    ("html", "cleaned"),
    [
        ("<b onclick='x()'>a</b>", "<b>a</b>"),
        ("<a href='data:text/html,x'>a</a>", "<a>a</a>"),
        ("<img src='data:image/png;base64,AA=='>", '<img src="data:image/png;base64,AA==">'),
        ("<iframe src='x'></iframe>", "&lt;iframe src='x'&gt;&lt;/iframe&gt;"),
        ("<style>*{display:none}</style>", "&lt;style&gt;*{display:none}&lt;/style&gt;"),
        (b"<p>bytes</p>", "<p>bytes</p>"),
    ],
)
def test_what_is_left_of_a_tag(html, cleaned) -> None:
    assert clean_html(html) == cleaned
