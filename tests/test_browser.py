"""The course as its users meet it: in a real browser, with a real server."""

from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect

from coursepkg.show import questions
from tests.browser import SCREENSHOTS, Lab, browser, jupyterlab
from tools import ROOT
from tools.masters import NOTEBOOK_METADATA

LECTURE_SECONDS = 180
# JupyterLab gives errors and what is printed to stderr the same type; a lecture may have neither.
ERROR = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]'


@pytest.fixture
def notebooks(tmp_path) -> Path:
    """A folder with a copy of notebooks/ without outputs, so that whatever is seen comes from this run."""
    folder = tmp_path / "course" / "notebooks"
    folder.mkdir(parents=True)
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / path.name)
    return folder.parent


def run_all(page: Page, lab: Lab, path: str) -> None:
    """Open the notebook, choose Run → Run All Cells, and wait until it is through or a cell has failed."""
    page.goto(lab.url(f"lab/tree/{path}"))
    expect(page.locator(".jp-Notebook .jp-Cell").first).to_be_visible(timeout=60_000)
    idle = page.get_by_text(
        "Python 3 (ipykernel) | Idle", exact=True
    )  # the status bar; before that, clicks get lost
    expect(idle).to_be_visible(timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    through = f"""() => document.querySelector('{ERROR}')
        || /\\d/.test([...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')].at(-1).textContent)"""
    page.wait_for_function(through, timeout=LECTURE_SECONDS * 1000)
    expect(idle).to_be_visible(timeout=60_000)


def picture(page: Page, name: str) -> None:
    """Keep what is to be seen now as build/screenshots/<name>.png."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def errors(page: Page) -> list[str]:
    """The text of every output that is an error or was printed to stderr."""
    return page.locator(ERROR).all_inner_texts()


def move(page: Page, slider: Locator, figure: Locator) -> tuple[bytes, bytes]:
    """Press the right arrow on a slider; wait for the figure to be another one. Returns both as PNG."""
    slider.scroll_into_view_if_needed()
    address, before = figure.get_attribute("src"), figure.screenshot()
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(figure).not_to_have_attribute("src", address, timeout=10_000)
    page.wait_for_function("image => image.complete", arg=figure.element_handle())
    return before, figure.screenshot()


def test_the_lecture_runs_and_its_calculator_answers(notebooks, tmp_path):
    """Run All gives no error; moving a slider changes the figure, and not only its address."""
    with browser() as page, jupyterlab(notebooks, tmp_path / "private") as lab:
        run_all(page, lab, "notebooks/01_memory.ipynb")
        assert errors(page) == []
        cell = page.locator(".jp-CodeCell", has=page.get_by_role("slider")).first
        before, after = move(page, cell.get_by_role("slider").first, cell.locator("img").first)
        picture(page, "lecture")
        assert before != after, "the slider moved, and the figure shows the same"


def test_every_choice_of_every_question_can_be_read(tmp_path):
    """A button that is narrower than its text cuts it."""
    code = "from coursepkg import show\nfor name in show.questions():\n    display(show.question(name))"
    folder = tmp_path / "course"
    folder.mkdir()
    cells = [nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=NOTEBOOK_METADATA), folder / "asked.ipynb")
    with browser() as page, jupyterlab(folder, tmp_path / "private") as lab:
        run_all(page, lab, "asked.ipynb")
        assert errors(page) == []
        buttons = page.locator(".jp-OutputArea-output button")
        expected = [choice["text"] for each in questions().values() for choice in each["choices"]]
        expect(buttons).to_have_count(len(expected))
        cut = "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.textContent)"
        assert buttons.evaluate_all(cut) == []
        picture(page, "questions")


def test_formgrader_shows_a_graded_submission(graded_course, tmp_path):
    """From JupyterLab's menu to one student's work, the way an instructor goes."""
    with browser() as page, jupyterlab(graded_course.root, tmp_path / "private") as lab:
        page.goto(lab.url("lab"))
        page.get_by_role("menuitem", name="Nbgrader", exact=True).click()
        page.get_by_role("menuitem", name="Formgrader", exact=True).click()
        formgrader = page.frame_locator("iframe").first
        formgrader.get_by_role("link", name="Manual Grading").click()
        formgrader.get_by_role("link", name=graded_course.assignment, exact=True).click()
        formgrader.get_by_role("link", name=graded_course.assignment, exact=True).last.click()
        formgrader.get_by_role("button", name="Show All Names").click()
        row = formgrader.get_by_role("row").filter(has_text="perfect")
        expect(row).to_contain_text("5 / 5")
        row.get_by_role("link").last.click()
        for test, points in (("test_double", "2"), ("test_largest", "3")):
            expect(formgrader.locator(f"input#{test}")).to_have_attribute("placeholder", points)
        expect(formgrader.locator("input#why.needs_manual_grade")).to_be_visible()
        expect(formgrader.get_by_text("4 points: the sign bit costs one pattern.")).to_be_visible()
        picture(page, "formgrader")
