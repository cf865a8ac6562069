"""Lecture 11 as on a GPU: a model that is not the course LM, products in bf16, and every cell runs as it stands."""

import nbformat
import pytest

import coursepkg
from tools import ROOT
from tools.lecture import execute

#: What a GPU runtime would answer: bf16, and a model of the hub, here a folder. {folder} is filled in.
GPU = """
import torch
from dataclasses import replace
from coursepkg import qlora, runtime

runtime.dtype = lambda where: runtime.Choice(torch.bfloat16, "as on a GPU")
asked = qlora.choose


def choose(*given, **named):
    if given or named:
        return asked(*given, **named)
    settings = replace(qlora.HUB, length=128)
    return qlora.Choice({folder!r}, settings, qlora.predicted({folder!r}, settings), "it fits")


qlora.choose = choose
"""
#: So that it takes seconds: fewer questions, in exams and in training.
LESS = {
    "epochs=20": "epochs=2",
    "count=200": "count=16",
    ", 96)": ", 16)",
    "questions[:320]": "questions[:64]",
}


def test_lecture_11_runs_with_a_hub_model_in_16_bits(tmp_path):
    model, tokenizer = coursepkg.load_model()
    model.save_pretrained(tmp_path), tokenizer.save_pretrained(tmp_path)
    lecture = nbformat.read(ROOT / "notebooks" / "11_qlora.ipynb", as_version=4)
    code = [cell for cell in lecture.cells if cell.cell_type == "code"]
    for long, short in LESS.items():
        assert any(long in cell.source for cell in code), long
        for cell in code:
            cell.source = cell.source.replace(long, short)
    lecture.cells.insert(0, nbformat.v4.new_code_cell(GPU.format(folder=str(tmp_path))))
    execute(lecture, ROOT / "notebooks")
    said = "".join(o.get("text", "") for cell in lecture.cells for o in cell.get("outputs", ()))
    assert "as on a GPU" in said and "because: it fits" in said
    assert "the two are apart by less than 0.001: True" in said
    predicted, measured = next(
        line.split()[1:]
        for line in said.splitlines()
        if line.startswith("activations") and len(line.split()) == 3
    )
    assert float(predicted) == pytest.approx(float(measured), rel=1 / 8)
