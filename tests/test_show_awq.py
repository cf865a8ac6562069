"""The figures of lecture 07, and the widget that shows AWQ's curve."""

import pytest
import torch

from coursepkg import awq
from coursepkg.affine import Scheme
from coursepkg.show import awq_curve, awq_plots, figures
from coursepkg.show.awq_curve import INPUTS, LOUD, RATIOS, AwqCurve

SCHEME = Scheme(3, granularity=64)


def test_the_curve_is_that_of_the_package():
    weight, sizes = awq_curve.example(16)
    found = awq_curve.curve(16, SCHEME)
    # inputs that come one at a time do not go together: their squared errors add up, as the curve's parts do
    searched = awq.search([weight], sizes, torch.diag(sizes), SCHEME)
    assert found.total[:-1] == pytest.approx(searched.errors, rel=1e-4)
    assert RATIOS[found.best] == searched.ratio


def test_scaling_serves_the_loud_channel_and_the_others_pay():
    found = awq_curve.curve(64, SCHEME)
    assert found.loud[0] > found.others[0] and found.loud[-1] < found.loud[0] / 100
    assert found.others[-1] > 2 * found.others[0]
    assert 0 < found.best < len(RATIOS) - 1


def test_no_loud_channel_no_gain_to_speak_of():
    assert min(awq_curve.curve(1, SCHEME).total) > 0.9 * awq_curve.curve(1, SCHEME).total[0]


def test_in_smaller_groups_fewer_pay():
    small, large = (awq_curve.curve(16, Scheme(3, granularity=size)).others[-1] for size in (4, 128))
    assert small < large / 2


def test_the_verdict_gives_the_best_exponent_and_the_errors():
    explorer = AwqCurve()
    found = explorer.curve()
    assert f"r = <b>{RATIOS[found.best]:.2f}</b>" in explorer.verdict.value
    assert f"{100 * found.total[0]:.2f} %" in explorer.verdict.value
    assert f"<b>{100 * min(found.total):.2f} %</b>" in explorer.verdict.value
    assert repr(explorer) == "AwqCurve: run this cell to move its controls"


def test_moving_a_control_draws_anew():
    explorer = AwqCurve()
    for control, value in ((explorer.size, 2), (explorer.bits, 4), (explorer.group, 16)):
        before = explorer.picture.value
        control.value = value
        assert explorer.picture.value != before


def test_the_picture_has_the_sum_its_parts_and_the_minimum():
    explorer = AwqCurve()
    found = explorer.curve()
    (axis,) = explorer.figure().axes
    whole, loud, others, least = (line.get_ydata() for line in axis.lines)
    assert [a + b for a, b in zip(loud, others, strict=True)] == pytest.approx(list(whole))
    assert least[0] == pytest.approx(100 * min(found.total))
    assert axis.get_xlabel() and axis.get_ylabel()


def test_the_example_has_one_loud_input():
    _, sizes = awq_curve.example(32)
    assert len(sizes) == INPUTS and sizes.argmax() == LOUD and sizes[LOUD] == 32


def test_inputs_stand_by_size_and_ways_by_layer():
    left, right = awq_plots.salient(
        {"a": torch.tensor([1.0, 4.0, 2.0])},
        {"at random": [1.0, 0.9], "by inputs": [0.5, 0.4]},
        ["0 q", "0 k"],
    ).axes
    assert left.lines[0].get_ydata().tolist() == [2.0, 1.0, 0.5]
    assert [list(line.get_ydata()) for line in right.lines] == [[100.0, 90.0], [50.0, 40.0]]
    assert [label.get_text() for label in right.get_xticklabels()] == ["0 q", "0 k"]


def test_what_is_expected_stands_beside_what_was_measured():
    rows = [(1.0, 1.0, 1.0, 1.0, 1.0), (2.0, 1.1, 0.55, 0.5, 1.1)]
    (axis,) = awq_plots.scaled(rows).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
    assert drawn["1 / s"] == [1.0, 0.5] and drawn["expected, Δ′/Δ · 1/s"] == [1.0, 0.55]
    assert drawn["measured, scaled weights"] == [1.0, 0.5]
    assert drawn["measured, their neighbours"] == [1.0, 1.1]


def test_each_search_has_its_minimum_marked():
    found = awq.Search((0.0, 0.5), (0.4, 0.1), torch.ones(2))
    (axis,) = awq_plots.curves({"a": found}).axes
    line, mark = axis.lines[:2]
    assert list(line.get_ydata()) == [1.0, 0.25]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (0.5, 0.25)


def test_tokens_are_drawn_by_how_loud_they_are():
    power, ratio = torch.arange(1.0, 101), torch.linspace(2, 0.5, 100)
    axes = awq_plots.tokens({"a": (power, ratio), "b": (power, ratio)}).axes
    assert [axis.get_title() for axis in axes] == ["a", "b"]
    dots, _, *spots = axes[0].lines
    assert len(dots.get_xdata()) == 100 and len(spots) == 10
    assert spots[0].get_ydata()[0] > spots[-1].get_ydata()[0]


def test_where_a_cut_is_best_is_marked():
    (axis,) = awq_plots.clipping([1.0, 0.75, 0.5], {"a": [1.0, 0.7, 1.5]}).axes
    assert (axis.lines[1].get_xdata()[0], axis.lines[1].get_ydata()[0]) == (0.75, 0.7)
    assert axis.get_xlim()[0] > axis.get_xlim()[1]  # from no cut to the right
    assert figures.png(axis.figure).startswith(b"\x89PNG")
