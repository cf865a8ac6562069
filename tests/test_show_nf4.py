"""The figures of lecture 05 show what they are given, and its widget what the package computes."""

import pytest
import torch

from coursepkg import double_quant, lloyd, results
from coursepkg.codebooks import E2M1, FP4, NF4, normal_float, uniform
from coursepkg.show import figures, level_explorer, nf4_plots
from coursepkg.show.level_explorer import ABSOLUTE, EVEN, QUANTILES, SQUARED, LevelExplorer

BOOKS = {"int4": uniform(4), "FP4 (bitsandbytes)": FP4.levels, "E2M1": E2M1.levels, "NF4": NF4.levels}


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
    assert [len(line.get_xdata()) for line in marks] == [15, 16, 16, 16]
    assert [label.get_text() for label in axis.get_yticklabels()] == list(BOOKS)


def test_bars_of_use_add_up(normal):
    for axis in nf4_plots.use(normal, BOOKS).axes:
        heights = [bar.get_height() for bar in axis.patches]
        assert sum(heights) == pytest.approx(100) and max(heights) < axis.get_ylim()[1]
        assert f"1/{len(heights)}" in axis.texts[0].get_text()


def test_strips_have_equal_areas_and_levels_at_their_borders():
    (axis,) = nf4_plots.quantile_steps().axes
    borders = sorted(line.get_xdata()[0] for line in axis.lines if line.get_ydata()[1] == 0)
    found = sorted({round(border / borders[-1], 6) for border in borders})
    assert found == pytest.approx(sorted(normal_float(4)), abs=1e-6)


def test_what_lies_at_the_ends_is_said_where_it_is_not_drawn(normal):
    (axis,) = nf4_plots.scaled_weights(normal, normal, NF4.levels).axes
    assert "1.6 %" in axis.texts[0].get_text()  # 1/64


def test_sizes_of_blocks_stand_once_each():
    sizes = (16, 32, 64)
    lines = {name: [(4 + 16 / size, 20.0, size) for size in sizes] for name in ("NF4", "int4")}
    (axis,) = nf4_plots.error_for_bits(lines).axes
    said = [text.get_text() for text in axis.texts]
    assert sorted(said) == sorted(["NF4", "int4", "blocks of 16", "32", "64"])


def test_methods_of_four_bits_stand_by_name_the_nearest_on_top():
    def row(name, bits, kl):
        return {
            "name": name,
            "effective_bits": bits,
            "kl": [kl, 0.9 * kl, 1.1 * kl],
            "stored_bytes": int(1e6 * bits),
        }

    rows = [
        row("fp32", 32.0, 0.0),
        row("NF4, block of 64", 4.5, 0.002),
        row("int4, group of 64", 4.25, 0.003),
        row("int4, per tensor", 4.0, 0.08),
        row("int3, group of 64", 3.25, 0.03),
    ]
    left, right = nf4_plots.divergences(rows).axes
    beside = [label.get_text().split("\n") for label in right.get_yticklabels()]
    assert beside == [["int4, group of 64", "4.25 bits"], ["NF4, block of 64", "4.50 bits"]]
    named = [text.get_text() for text in left.texts]
    assert {"int4, per tensor", "int3, group of 64"} < set(named) and "fp32" not in named


@pytest.mark.parametrize("name", ["AF4-64, block of 64", "least absolute, block of 64", "E2M1, block of 64"])
def test_each_codebook_has_its_own_colour_and_marker(name):
    assert [nf4_plots._style(name)] == [
        style for method, style in nf4_plots.STYLES.items() if name.startswith(method)
    ]
    assert len(set(nf4_plots.STYLES.values())) == len(nf4_plots.STYLES)


def test_speeds_are_drawn_for_one_weight():
    """2 ms for a thousand weights are 2,000 ns for one."""
    row = {"name": "slow", "weights": 1000, "ms": [2.0, 1.5, 3.0], "bytes": 12}
    (axis,) = nf4_plots.nearest_times([row, row | {"weights": 4000}]).axes
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([2000, 500])
    assert axis.texts[0].get_text().startswith("2000.0 ns")
    assert [label.get_text() for label in axis.get_yticklabels()] == ["slow\nmoves 12 bytes"]


def test_the_measured_speeds_are_complete():
    measured = results.load("nearest")
    assert measured.measured and len(measured.rows) == 2 * 5
    assert len({(row["name"], row["weights"]) for row in measured.rows}) == 2 * 5
    for row in measured.rows:
        median, low, high = row["ms"]
        assert 0 < low <= median <= high and row["bytes"] >= 5


def test_figures_are_drawn(normal):
    scales = torch.rand(600, generator=torch.Generator().manual_seed(0)) + 0.5
    for made in (
        nf4_plots.scaled_weights(normal, normal, NF4.levels),
        nf4_plots.double_quantized(scales, double_quant.quantize(scales)),
        nf4_plots.error_for_bits({"NF4": [(4.5, 20.0, 32), (4.25, 19.0, 64)]}),
        nf4_plots.divergences(results.load("leaderboard").rows),
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
