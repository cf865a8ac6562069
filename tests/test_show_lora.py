"""The figures of lectures 10 and 11, and the widget that takes a change apart."""

import pytest
import torch

from coursepkg.intervals import Interval
from coursepkg.show import COLOURS, RankExplorer, lora_plots

SCORE = Interval(0.5, 0.4, 0.7)


def test_the_nearest_matrix_of_a_rank_is_that_of_the_singular_values():
    """Eckart and Young: what is missing has the square sum of the values that are left out."""
    delta = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    explorer = RankExplorer(delta)
    values = torch.linalg.svdvals(delta).square()
    for rank in explorer.rank.options:
        explorer.rank.value = rank
        missing = (delta - explorer.nearest()).square().sum()
        assert missing.item() == pytest.approx(values[rank:].sum().item(), abs=1e-4)
        assert explorer.kept == pytest.approx((values[:rank].sum() / values.sum()).item(), abs=1e-6)
    explorer.rank.value = 4
    assert "<b>80</b>" in explorer.verdict.value and "83.3% of the matrix's 96" in explorer.verdict.value


def test_moving_the_rank_draws_anew():
    explorer = RankExplorer()
    assert explorer.rank.value == 4 and explorer.kept > 0.9
    before = explorer.picture.value
    explorer.rank.value = 1
    assert explorer.picture.value != before
    assert len(explorer.figure().axes) == 4


def test_a_change_of_zeros_is_kept_whole():
    assert RankExplorer(torch.zeros(4, 4)).kept == 1


def test_kinds_of_layers_have_a_line_each_and_ranks_a_point():
    rows = [{"name": f"model.layers.0.x.{kind}", "values": [2.0, 1.0]} for kind in lora_plots.KINDS]
    left, right = lora_plots.spectra(rows, [(0, SCORE), (4, SCORE)]).axes
    assert len(left.lines) == 7
    assert list(left.lines[0].get_ydata()) == pytest.approx([80.0, 100.0])
    assert list(right.lines[0].get_xdata()) == [0.5, 4]
    assert list(right.lines[1].get_ydata()) == [40.0, 70.0]


def test_ways_have_the_colour_of_their_format():
    assert lora_plots.way_colour("QLoRA, nf4+dq") == COLOURS["NF4"]
    assert lora_plots.way_colour("full") == COLOURS["device"]
    left, right = lora_plots.learnt({"full": (SCORE, SCORE), "QLoRA, int4": (SCORE, SCORE)}, ("a", "b")).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["full", "QLoRA, int4"]
    assert [line.get_color() for line in right.lines[::2]] == [COLOURS["device"], COLOURS["int4"]]


def test_losses_stand_beside_how_far_they_are_apart():
    left, right = lora_plots.losses({"a": [3.0, 1.0], "b": [3.0, 1.5]}).axes
    assert [list(line.get_ydata()) for line in left.lines] == [[3.0, 1.0], [3.0, 1.5]]
    assert list(right.lines[0].get_ydata()) == [0.0, 0.5]


def test_each_way_to_choose_alpha_has_a_line_and_tokens_add_up_to_a_hundred():
    (axis,) = lora_plots.ranks({"α = r": [(1, SCORE), (2, SCORE)]}).axes
    assert list(axis.lines[0].get_xdata()) == [1, 2]
    (axis,) = lora_plots.alike({"all": torch.tensor([0.1, 0.9, 0.95, 0.96])}).axes
    heights = axis.patches[0].get_xy()[:, 1]
    assert heights.max() == pytest.approx(50.0)
