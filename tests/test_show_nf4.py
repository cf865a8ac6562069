"""The figures of lecture 05 show what they are given, and its widget what the package computes."""

import pytest
import torch

from coursepkg import double_quant, lloyd
from coursepkg.codebooks import FP4, NF4, normal_float, uniform
from coursepkg.show import figures, level_explorer, nf4_plots
from coursepkg.show.level_explorer import ABSOLUTE, EVEN, QUANTILES, SQUARED, LevelExplorer

BOOKS = {"int4": uniform(4), "FP4": FP4.levels, "NF4": NF4.levels}


@pytest.fixture(scope="module")
def normal() -> lloyd.Distribution:
    return lloyd.normal_blocks(64)


def test_a_density_is_that_of_the_values_inside(normal):
    """All but the blocks' own largest values: 63 of 64."""
    middles, heights = normal.density(50)
    width = middles[1] - middles[0]
    assert sum(heights) * width == pytest.approx(63 / 64, abs=1e-3)
    assert heights == pytest.approx(heights[::-1], rel=1e-6) and max(heights) == pytest.approx(1.03, abs=0.02)


def test_a_row_of_marks_for_each_codebook():
    (axis,) = nf4_plots.level_rows(BOOKS).axes
    marks = [line for line in axis.lines if line.get_marker() == "|"]
    assert [len(line.get_xdata()) for line in marks] == [15, 16, 16]
    assert [label.get_text() for label in axis.get_yticklabels()] == list(BOOKS)


def test_bars_of_use_add_up(normal):
    for axis in nf4_plots.use(normal, BOOKS).axes:
        assert sum(bar.get_height() for bar in axis.patches) == pytest.approx(100)


def test_strips_have_equal_areas_and_levels_at_their_borders():
    (axis,) = nf4_plots.quantile_steps().axes
    borders = sorted(line.get_xdata()[0] for line in axis.lines if line.get_ydata()[1] == 0)
    found = sorted({round(border / borders[-1], 6) for border in borders})
    assert found == pytest.approx(sorted(normal_float(4)), abs=1e-6)


def test_figures_are_drawn(normal):
    scales = torch.rand(600, generator=torch.Generator().manual_seed(0)) + 0.5
    rows = [{"name": "NF4", "kl": [0.01, 0.008, 0.012], "stored_bytes": 10**6}]
    rows.append({"name": "fp32", "kl": [0.0, 0.0, 0.0], "stored_bytes": 10**7})
    for made in (
        nf4_plots.scaled_weights(normal, normal, NF4.levels),
        nf4_plots.double_quantized(scales, double_quant.quantize(scales)),
        nf4_plots.error_for_bits({"NF4": [(4.5, 20.0, 32), (4.25, 19.0, 64)]}),
        nf4_plots.divergences(rows),
    ):
        assert figures.png(made).startswith(b"\x89PNG")


@pytest.mark.parametrize("rule", [QUANTILES, EVEN, SQUARED, ABSOLUTE])
@pytest.mark.parametrize("bits", [2, 4])
def test_the_explorer_shows_the_levels_of_the_rule(rule, bits, normal):
    explorer = LevelExplorer()
    explorer.rule.value, explorer.bits.value = rule, bits
    levels = explorer.levels
    assert len(levels) == (2**bits - 1 if rule == EVEN else 2**bits)
    assert f"<b>{1e3 * normal.error(levels):.3f}</b>" in explorer.verdict.value
    drawn = explorer.figure().axes[0].collections[-1].get_segments()
    assert sorted(segment[0][0] for segment in drawn) == pytest.approx(list(levels))


def test_each_rule_is_best_at_what_it_is_for(normal):
    errors = {
        rule: [normal.error(level_explorer._levels(rule, 4, 64), of) for of in ("squared", "absolute")]
        for rule in level_explorer.RULES
    }
    assert min(errors, key=lambda rule: errors[rule][0]) == SQUARED
    assert min(errors, key=lambda rule: errors[rule][1]) == ABSOLUTE


def test_moving_a_control_draws_anew():
    explorer = LevelExplorer()
    before = explorer.picture.value
    explorer.block_size.value = 1024
    assert explorer.picture.value != before and "1024" not in explorer.verdict.value
    assert repr(explorer) == "LevelExplorer: run this cell to move its controls"
