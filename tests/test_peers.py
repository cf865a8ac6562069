"""The comparison with other libraries: measured whole, and what it found still says that ours is theirs."""

from itertools import product

import pytest
from packaging.requirements import Requirement

from coursepkg import results
from tools import ROOT

LIBRARIES = ("gptqmodel", "llmcompressor")
FOLDER = ROOT / "benchmarks" / "peers"


@pytest.fixture(scope="module")
def found():
    return results.load("peers")


def rows(found, what):
    return [row for row in found.rows if row["what"] == what]


def test_every_case_was_measured_once(found):
    """With two threads as far as the machine was idle."""
    assert found.measured and {"gptqmodel", "llmcompressor", "torch"} <= set(found.versions)
    cases = [
        tuple(row[name] for name in ("peer", "features", "zero_point", "act_order", "threads"))
        for row in rows(found, "gptq")
    ]
    assert len(set(cases)) == len(cases)
    wanted = set(product(LIBRARIES, (1024, 4096), (None, "integer"), (False, True), (1,)))
    assert {case for case in cases if case[-1] == 1} == wanted
    for library in LIBRARIES:
        assert (library, 4096, None, False, 2) in cases
    grams = [(row["peer"], row["features"]) for row in rows(found, "gram") if row["threads"] == 1]
    assert sorted(grams) == sorted(product(LIBRARIES, (1024, 4096)))
    assert [row["act_order"] for row in rows(found, "gptq of a model")] == [False, True]
    assert [row["alpha"] for row in rows(found, "smoothquant of a model")] == [0.5, 0.8]


def test_times_are_a_median_and_its_ends(found):
    for row in rows(found, "gptq") + rows(found, "gram"):
        for name in ("ours", "theirs", "times_faster"):
            median, *ends = row[name]
            low, high = ends or (median, median)
            assert 0 < low <= median <= high, row
        assert len(row["times_faster"]) == 3
        assert row["clock"] == ("processor" if row["threads"] == 1 else "wall")


def test_ours_are_the_codes_of_the_libraries(found):
    """One code that float32 rounds the other way changes what comes after it in its row, and where groups get their scales from moved
    weights, the scales of the rest. So a few in a thousand differ, and what is lost does not."""
    for row in rows(found, "gptq"):
        ours, theirs, rounding = row["lost"]
        assert row["same_codes"] > 0.98, row
        assert ours == pytest.approx(theirs, rel=0.01) and max(ours, theirs) < 0.5 * rounding, row
    for row in rows(found, "gptq of a model"):
        assert row["same_codes_first"] > 0.99, row
    for row in rows(found, "smoothquant of a model"):
        assert row["theirs_from_ours"] < 1e-5, row


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_environment_is_pinned_whole_with_the_courses_torch(library):
    """pip installs it without dependencies, one version each."""
    lines = (FOLDER / f"{library}.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all([only.operator for only in pin.specifier] == ["=="] and pin.url is None for pin in pins)
    assert {library, "torch", "transformers", "accelerate"} <= {pin.name for pin in pins}
    courses = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert next(line for line in lines if line.startswith("torch==")) in courses
