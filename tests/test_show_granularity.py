"""The figures of lecture 03 draw what they are given; the block with an outlier follows its controls."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from coursepkg import affine, claims, distortion, show
from coursepkg.affine import Scheme
from coursepkg.evaluation.boards import Leaderboard, Row
from coursepkg.evaluation.divergence import Divergence
from coursepkg.evaluation.exam import Exam, Marks
from coursepkg.evaluation.perplexity import Likelihood

plots, trades = show.granularity_plots, show.trade_plots
LECTURE = (Path(__file__).parents[1] / "notebooks" / "03_granularity.py").read_text(encoding="utf-8")


def quantized(weight: torch.Tensor, **granularities) -> dict[str, affine.Quantized]:
    return {
        name: affine.quantize(weight, Scheme(4, granularity=each)) for name, each in granularities.items()
    }


class TestOutlierBlock:
    @pytest.mark.parametrize(("control", "value"), [("outlier", 30), ("group", 8), ("bits", 7)])
    def test_every_control_changes_picture_and_verdict(self, control, value):
        block = show.OutlierBlock()
        before = block.picture.value, block.verdict.value
        getattr(block, control).value = value
        assert block.picture.value != before[0] and block.verdict.value != before[1]

    @pytest.mark.parametrize("outlier", [0, 3, 40])
    @pytest.mark.parametrize("group", [4, 64])
    @pytest.mark.parametrize("bits", [2, 8])
    def test_every_corner_has_an_answer(self, outlier, group, bits):
        block = show.OutlierBlock()
        block.outlier.value, block.group.value, block.bits.value = outlier, group, bits
        assert "dB" in block.verdict.value

    def test_the_verdict_is_the_packages(self):
        block = show.OutlierBlock()
        weights, made = block.quantized()
        others = weights != block.outlier.value
        zeros = (made.codes[others] == 0).sum()
        sqnr = distortion.sqnr(weights[others], made.dequantize()[others])
        assert f"{zeros} of the other 63" in block.verdict.value
        assert f"{sqnr:.1f} dB" in block.verdict.value and "4.25" in block.verdict.value

    def test_marks_are_those_of_each_groups_ruler(self):
        block = show.OutlierBlock()
        block.group.value = 32
        (axis,) = block.figure().axes
        marks = [
            sorted({round(line[0][1], 4) for line in lines.get_segments()}) for lines in axis.collections[:2]
        ]
        _, made = block.quantized()
        for found, scale in zip(marks, made.scale[0].tolist(), strict=True):
            steps = [k * scale for k in range(-7, 8) if abs(k * scale) <= 3.6]
            assert found == pytest.approx(steps, abs=1e-4)

    def test_the_outlier_stands_where_it_is_said_to(self):
        block = show.outlier_block.block(12.0)
        assert block.argmax() == show.outlier_block.PLACE == 21 and block.max() == 12
        assert block[0, :21].abs().max() <= 3


def test_a_small_matrix_is_drawn_with_its_codes_and_its_blocks():
    weight = torch.tensor([[0.7, -0.2], [0.1, 1.4]])
    drawn = plots.blocks_by_hand(weight, quantized(weight, all="tensor", rows="channel"))
    assert [axis.get_title() for axis in drawn.axes] == ["all: 1 scale", "rows: 2 scales"]
    assert [len(axis.patches) for axis in drawn.axes] == [1, 2]
    texts = [text.get_text() for text in drawn.axes[1].texts]
    assert texts == ["0.70", "7", "-0.20", "-2", "0.10", "0", "1.40", "7"]


def test_error_maps_show_the_errors_in_one_scale_of_colours():
    weight = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    made = quantized(weight, tensor="tensor", groups=8)
    maps = [axis for axis in plots.error_maps(weight, made).axes if axis.images and axis.get_title()]
    for axis, each in zip(maps, made.values(), strict=True):
        assert axis.images[0].get_array().data == pytest.approx((each.dequantize() - weight).abs().numpy())
    assert maps[0].images[0].get_clim() == maps[1].images[0].get_clim()


def test_the_front_is_what_nothing_beats():
    points = [(4.0, 14.0), (4.5, 20.0), (4.25, 13.0), (4.25, 18.0), (5.0, 20.0)]
    assert trades.front(points) == [(4.0, 14.0), (4.25, 18.0), (4.5, 20.0)]
    for point in points:
        beaten = any(
            other[0] <= point[0] and other[1] >= point[1] and other != point for other in trades.front(points)
        )
        assert beaten != (point in trades.front(points))


def test_trade_offs_are_drawn_line_by_line():
    lines = {
        (b, kind): [(b + 0.1, 6.0 * b), (b + 0.5, 6.0 * b + 2)] for b in (2, 3, 4) for kind in ("fp16", "fp8")
    }
    left, right = trades.trade_off({"one": lines, "two": lines}).axes
    drawn = [line.get_xdata().tolist() for line in right.lines[1:]]
    assert drawn == [[x for x, _ in points] for points in lines.values()]
    assert {text.get_text() for text in left.texts} == {"2 bits", "3 bits", "4 bits"}


def test_measured_points_and_best_sizes():
    sizes, measured = (16, 32, 64, 128), [2.1, 2.3, 2.6, 2.8]
    (axis,) = trades.absmax_growth(sizes, measured, measured).axes
    assert axis.lines[-1].get_ydata().tolist() == measured
    (axis,) = trades.net_gain(
        sizes, {"data": {"fp16": [1.0, 3.0, 2.0, 0.0], "fp8": [4.0, 2.0, 1.0, 0.0]}}
    ).axes
    assert [text.get_text() for text in axis.texts] == ["fp16: 32", "fp8: 16"]


def test_lines_have_their_names():
    (axis,) = trades.steps_of_granularity(["tensor", "64"], {"a": [1.0, 2.0], "b": [3.0, 4.0]}).axes
    assert [text.get_text() for text in axis.texts] == ["a", "b"]
    left, right = trades.stretched((1.0, 1.02), {"per channel": [(0.001, 0.003), (0.002, 0.004)]}).axes
    assert left.lines[0].get_ydata().tolist() == pytest.approx([1, 2])
    assert right.lines[0].get_ydata().tolist() == pytest.approx([3, 4])


def test_each_way_to_share_has_as_many_colours_as_scales():
    for axis, scales in zip(plots.axes_of_sharing(4, 8, 4).axes, (4, 8, 8), strict=True):
        assert len({patch.get_facecolor() for patch in axis.patches}) == scales


@pytest.mark.parametrize(("bits", "word", "first"), [(3, 8, 0), (4, 8, 0), (3, 32, 9)])
def test_a_stream_has_the_bits_of_its_codes_and_the_ends_of_its_words(bits, word, first):
    codes = [5, 3, 6, 1, 2, 7, 0, 4]
    (axis,) = plots.bit_stream(codes, bits, first=first, word=word).axes
    texts = [text.get_text() for text in axis.texts]
    digits = [text for text in texts if text in "01" and len(text) == 1]
    wanted = [str(code >> bit & 1) for code in codes for bit in range(bits)]
    assert len(axis.patches) == len(wanted) and all(digits.count(d) >= wanted.count(d) for d in "01")
    edges = [line.get_xdata()[0] for line in axis.lines]
    start, end = first * bits, (first + len(codes)) * bits
    assert edges == [at for at in range(start, end + 1) if at % word == 0]


def row(name: str, bits: float, nats: float, kl: float) -> Row:
    tokens = np.array([10, 10])
    marks = Marks(
        Exam("x", ()), np.array([1]), np.array([1.0]), (), np.array([]), Likelihood(nats * tokens, tokens)
    )
    return Row(name, 1, 4, bits, marks, Divergence(kl * tokens, tokens))


def test_rows_that_are_better_than_the_first_are_left_out_at_the_right():
    rows = (
        row("fp32", 32, 0.5, 0.0),
        row("int4, per channel", 4.1, 0.6, 0.01),
        row("int4, group of 64", 4.2, 0.4, 0.02),
    )
    left, right = trades.divergences(Leaderboard(rows)).axes
    seen = [axis.lines[0].get_xdata()[0] for axis in (left, right)]
    assert seen == [4.1, 4.1]
    assert 4.2 not in [x for line in right.lines for x in line.get_xdata()]


def test_every_claim_about_granularity_stands_in_the_lecture():
    ours = [key for key, entry in claims.ledger().items() if entry.topic == "03_granularity"]
    assert ours and not [key for key in ours if f'"{key}"' not in LECTURE]


def test_every_question_that_the_lecture_asks_is_there():
    asked = re.findall(r'show\.question\("(\w+)"\)', LECTURE)
    assert len(asked) == 6 and set(asked) <= set(show.questions())
