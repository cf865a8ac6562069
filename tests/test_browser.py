"""The course as its users meet it: in a real browser, with a real server."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import SCREENSHOTS, browser, jupyterlab
from tools import ROOT
from tools.masters import NOTEBOOK_METADATA

LECTURE_SECONDS = 180
_NUMBERED = re.compile(r"\[\d+\]:")
STAND_IN = """\
import io
import ipywidgets
import matplotlib.pyplot as plt
def drawn(number):
    figure, axes = plt.subplots(figsize=(3, 2))
    axes.bar([0], [number])
    axes.set_ylim(0, 10)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    plt.close(figure)
    return file.getvalue()
slider, image = ipywidgets.IntSlider(3, 0, 9), ipywidgets.Image(value=drawn(3))
slider.observe(lambda change: setattr(image, "value", drawn(change.new)), "value")
ipywidgets.VBox([slider, image])
"""


@pytest.fixture
def notebooks(tmp_path) -> Path:
    """A folder with a copy of notebooks/, so that nothing is written into the course."""
    root = tmp_path / "course"
    shutil.copytree(
        ROOT / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints")
    )
    stand_in = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(STAND_IN)], metadata=nbformat.from_dict(NOTEBOOK_METADATA)
    )
    nbformat.write(stand_in, root / "notebooks" / "99_stand_in.ipynb")
    return root


def run_all(page: Page, lab, path: str) -> None:
    """Open the notebook, choose Run → Run All Cells, and wait until the kernel has nothing left to do."""
    page.goto(lab.url(f"lab/tree/{path}"))
    expect(page.locator(".jp-Notebook .jp-Cell").first).to_be_visible(timeout=60_000)
    indicator = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-ExecutionIndicator")
    expect(indicator).to_have_attribute("data-status", "idle", timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    last = page.locator(".jp-CodeCell .jp-InputArea-prompt").last
    expect(last).to_have_text(_NUMBERED, timeout=LECTURE_SECONDS * 1000)
    expect(indicator).to_have_attribute("data-status", "idle", timeout=60_000)


def errors(page: Page) -> list[str]:
    """The text of every error among the outputs."""
    return page.locator(
        '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]'
    ).all_inner_texts()


def move(page: Page, slider: Locator, picture: Locator) -> tuple[bytes, bytes]:
    """Press the right arrow on a slider; wait for the picture to be another one. Returns both as PNG."""
    slider.scroll_into_view_if_needed()
    address, before = picture.get_attribute("src"), picture.screenshot()
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(picture).not_to_have_attribute("src", address, timeout=10_000)
    page.wait_for_function("image => image.complete", arg=picture.element_handle())
    return before, picture.screenshot()


def test_a_lecture_runs_and_its_widget_answers(notebooks, tmp_path):
    """Run All gives no error; moving a slider changes the figure, and not only its address."""
    with browser() as page, jupyterlab(notebooks, tmp_path / "private") as lab:
        run_all(page, lab, "notebooks/99_stand_in.ipynb")
        assert errors(page) == []
        cell = page.locator(".jp-CodeCell", has=page.get_by_role("slider")).first
        before, after = move(page, cell.get_by_role("slider").first, cell.locator("img").first)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / "lecture.png")
        assert before != after, "the slider moved, and the figure shows the same"
