"""Who may import whom: numbers know no model, figures and nbgrader stay in their folders."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "coursepkg"
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Modules that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def importers(*libraries: str) -> set[str]:
    """The parts of the package (folder or file) in which one of the libraries is imported."""
    return {
        path.relative_to(PACKAGE).parts[0]
        for path in FILES
        if any(name.split(".")[0] in libraries for name in imported(path))
    }


def test_figures_and_widgets_are_made_in_show():
    assert importers("matplotlib", "ipywidgets") == {"show"}


def test_nbgrader_is_known_to_grading_alone():
    assert importers("nbgrader") == {"grading"}


def test_memory_knows_no_model():
    assert "memory" not in importers("transformers", "peft", "bitsandbytes")
    for path in (PACKAGE / "memory").glob("*.py"):
        ours = {name for name in imported(path) if name.startswith("coursepkg")}
        assert all(name.startswith("coursepkg.memory") for name in ours), path
        assert "torch" not in imported(path) or path.name == "measure.py"


@pytest.mark.parametrize(
    ("part", "below"),
    [
        ("affine.py", set()),
        ("integer_products.py", set()),
        ("gptq.py", {"affine"}),
        ("llm_int8.py", {"integer_products"}),
        ("w8a8.py", {"affine", "integer_products"}),
        ("smoothquant.py", set()),
        ("awq.py", {"affine"}),
        ("calibration.py", {"surgery"}),
        ("codebooks.py", {"formats"}),
        ("compiled.py", {"codebooks", "double_quant", "nf4"}),
        ("distortion.py", set()),
        ("double_quant.py", set()),
        ("lloyd.py", {"codebooks", "nf4"}),
        ("nf4.py", {"codebooks", "double_quant", "packing"}),
        ("packing.py", set()),
        ("formats", {"formats"}),
        ("intervals.py", set()),
        ("quiet.py", set()),
        ("surgery.py", set()),
        (
            "weight_formats.py",
            {"affine", "codebooks", "double_quant", "memory", "nf4", "packing"},
        ),
        ("quantized_linear.py", {"weight_formats"}),
        ("lora.py", {"quantized_linear"}),
        ("token_rows.py", set()),
        ("lora_model.py", {"files", "lora", "quantized_linear", "surgery", "token_rows"}),
        ("chat.py", set()),
        ("files.py", set()),
        ("quantized_model.py", {"files", "quantized_linear", "surgery", "weight_formats"}),
        (
            "quantize_on_load.py",
            {"quantized_linear", "quantized_model", "surgery", "weight_formats"},
        ),
        (
            "export",
            {
                "affine",
                "export",
                "packing",
                "quantized_linear",
                "quantized_model",
                "surgery",
                "weight_formats",
            },
        ),
        ("outliers.py", {"calibration", "surgery"}),
        ("steady_outliers.py", {"outliers", "surgery"}),
        ("int8_linear.py", {"affine", "llm_int8", "quantized_linear", "w8a8"}),
        (
            "ptq.py",
            {
                "affine",
                "awq",
                "calibration",
                "gptq",
                "int8_linear",
                "llm_int8",
                "quantized_linear",
                "quantized_model",
                "smoothquant",
                "surgery",
                "w8a8",
                "weight_formats",
            },
        ),
        ("runtime.py", {"memory"}),
        (
            "evaluation",
            {
                "affine",
                "chat",
                "codebooks",
                "intervals",
                "lloyd",
                "memory",
                "runtime",
                "surgery",
                "weight_formats",
                "evaluation",
            },
        ),
        ("courselm", {"chat", "runtime", "quiet", "evaluation", "courselm"}),
        ("loading.py", {"runtime", "courselm", "quiet"}),
        (
            "qlora",
            {
                "chat",
                "codebooks",
                "courselm",
                "files",
                "loading",
                "lora",
                "lora_model",
                "memory",
                "qlora",
                "quantize_on_load",
                "quantized_linear",
                "quantized_model",
                "quiet",
                "runtime",
                "surgery",
                "token_rows",
                "weight_formats",
            },
        ),
    ],
)
def test_a_file_imports_only_from_floors_below_its_own(part, below):
    files = [PACKAGE / part] if part.endswith(".py") else sorted((PACKAGE / part).rglob("*.py"))
    for path in files:
        ours = {name.split(".")[1] for name in imported(path) if name.startswith("coursepkg.")}
        assert ours <= below, path


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if ">>> " in p.read_text(encoding="utf-8")],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_examples_in_docstrings_hold(path):
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0 and outcome.failed == 0
