"""Lecture 02's figures draw what the package computes; its two widgets follow their controls."""

from pathlib import Path

import numpy as np
import pytest
import torch

from coursepkg import affine, claims, distortion, formats, show
from coursepkg.affine import Scheme
from coursepkg.intervals import Interval
from coursepkg.show import affine_plots
from coursepkg.show.bit_explorer import NAMES, in_words, neighbours
from coursepkg.show.number_line import RULERS

FEW = torch.tensor([0.23, -0.71, 0.02, 1.05])


class TestBitExplorer:
    @pytest.mark.parametrize("name", [name for name in NAMES if formats.number_format(name).bits <= 16])
    def test_neighbours_are_the_next_values(self, name):
        one = formats.number_format(name)
        values = one.values().tolist()
        for place in range(0, len(values), max(1, len(values) // 500)):
            low = values[place - 1] if place else None
            high = values[place + 1] if place + 1 < len(values) else None
            assert neighbours(one, values[place]) == (low, high)

    def test_a_number_is_encoded_and_a_bit_turned_over(self):
        explorer = show.BitExplorer()
        assert explorer.code == formats.FP16.encode(0.1)
        before = explorer.picture.value
        explorer.bits[15].click()
        assert explorer.code == formats.FP16.encode(0.1) + 1
        assert explorer.number.value == formats.FP16.decode(explorer.code)
        assert explorer.picture.value != before and "615/1024" in explorer.verdict.value

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("number", [0.0, 0.1, -1.0, 1e9])
    def test_every_format_takes_every_number(self, name, number):
        explorer = show.BitExplorer()
        explorer.format.value, explorer.number.value = name, number
        one = formats.number_format(name)
        assert explorer.code == one.encode(number) and len(explorer.buttons.children) == one.bits
        pattern = one.code_pattern(explorer.code).replace(" ", "")
        assert "".join(button.description for button in explorer.buttons.children) == pattern
        assert explorer.figure().axes

    def test_the_number_stays_when_the_code_stands_for_none(self):
        explorer = show.BitExplorer()
        explorer.number.value = 65504
        explorer.bits[5].click()  # the last exponent field: NaN
        assert "NaN" in explorer.verdict.value and explorer.number.value == 65504
        for bit in explorer.bits[6:16]:
            bit.click()
        assert "∞" in explorer.verdict.value

    def test_a_code_that_ternary_does_not_use(self):
        explorer = show.BitExplorer()
        explorer.format.value = "ternary"
        explorer.turn(0)
        assert "does not use" in explorer.verdict.value and explorer.code == 0

    def test_a_code_in_words(self):
        assert in_words(formats.FP16, 1) == "subnormal: (0 + 1/1024) · 2^−14 = 5.960464478e−08"
        assert in_words(formats.E2M1, 0b1111) == "−(1 + 1/2) · 2^2 = −6"
        assert in_words(formats.INT4, 0b1110) == "−2"
        assert in_words(formats.FP16, 0b1_11111_0000000000) == "−∞"


class TestNumberLine:
    def test_the_first_state_is_the_lectures_example(self):
        assert "code <b>2</b> → 0.3000; error +0.0700, within s/2 = 0.0750" in show.NumberLine().verdict.value

    @pytest.mark.parametrize("ruler", RULERS)
    @pytest.mark.parametrize("bits", [2, 8])
    def test_the_code_is_the_packages(self, ruler, bits):
        line = show.NumberLine()
        line.bits.value, line.ruler.value = bits, ruler
        scheme = Scheme(bits, granularity="tensor", **RULERS[ruler])
        scale, zero = affine.choose_qparams(torch.tensor([-0.71, 1.05]), scheme)
        code = affine.encode(torch.tensor([0.23]), scale, zero, scheme).item()
        assert f"code <b>{affine_plots.minus(code)}</b>" in line.verdict.value

    def test_every_control_changes_picture_and_verdict(self):
        for control, value in [
            ("value", 0.5),
            ("bits", 3),
            ("ruler", "symmetric, full range"),
            ("range", (-0.5, 0.8)),
        ]:
            line = show.NumberLine()
            before = line.picture.value, line.verdict.value
            getattr(line, control).value = value
            assert line.picture.value != before[0] and line.verdict.value != before[1], control

    def test_a_value_beyond_the_ruler_is_said_to_be_clipped(self):
        line = show.NumberLine()
        assert "clipped" not in line.verdict.value
        line.value.value = 1.5
        assert "clipped" in line.verdict.value

    @pytest.mark.parametrize("ruler", RULERS)
    def test_a_range_of_one_point(self, ruler):
        line = show.NumberLine()
        line.ruler.value, line.range.value = ruler, (0.0, 0.0)
        assert "step s = 1.0000" in line.verdict.value


def test_a_tick_for_every_value():
    (axis,) = affine_plots.format_values(["int4", "e2m1"]).axes
    assert [len(ticks.get_segments()) for ticks in axis.collections] == [7, 7]


def test_spacings_are_the_formats():
    (axis,) = affine_plots.spacings(["fp16", "int8"]).axes
    sizes, distances = axis.lines[0].get_data()
    assert np.array_equal(formats.FP16.spacing(torch.tensor(np.asarray(sizes))), distances)
    assert set(np.asarray(axis.lines[1].get_ydata())) == {1.0}


@pytest.mark.parametrize(
    ("codes", "labels"), [((-7, 7), 15), ((0, 255), 16), ((0, 3), 4)], ids=["4 bits", "8 bits", "2 bits"]
)
def test_a_ruler_has_a_tick_for_every_code(codes, labels):
    _, (axis,) = show.figure()
    affine_plots.draw_ruler(axis, 0.0, 0.15, 0.3, codes)
    places = [segment[0][0] for segment in axis.collections[0].get_segments()]
    assert places == pytest.approx([0.15 * q + 0.3 for q in range(codes[0], codes[1] + 1)])
    assert len(axis.texts) == labels


def test_values_snap_to_what_is_read_back():
    (axis,) = affine_plots.snapped(FEW, Scheme(4, granularity="tensor")).axes
    arrows = [text.xy[0] for text in axis.texts if hasattr(text, "arrow_patch")]
    assert arrows == pytest.approx([0.3, -0.75, 0.0, 1.05])


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("limit", [0.4, 1.5, 5.0])
def test_the_two_parts_of_the_error_add_up_to_it(bits, limit):
    torch.manual_seed(0)
    x = torch.randn(1000)
    scheme = Scheme(bits, granularity="tensor")
    scale = torch.full((1, 1), limit / scheme.code_range[1])
    back = affine.decode(affine.encode(x, scale, None, scheme), scale)
    inside, beyond = affine_plots.clipping_parts(x, bits, [limit])
    assert inside[0] + beyond[0] == pytest.approx(distortion.relative_error(x, back))
    assert (beyond[0] == 0) == (limit >= x.abs().max().item())


def test_the_other_figures_draw_what_they_are_given():
    (axis,) = affine_plots.sqnr_lines([2, 3], {"ideal": [12.0, 18.1], "data": [10.0, 16.0]}).axes
    assert [line.get_ydata().tolist() for line in axis.lines] == [[12.0, 18.1], [10.0, 16.0]]
    (axis,) = affine_plots.divergences(
        (4, 2), {"a": [Interval(0.1, 0.05, 0.2), Interval(1.0, 0.9, 1.1)]}
    ).axes
    assert axis.lines[0].get_ydata().tolist() == [0.1, 1.0]
    (axis,) = affine_plots.columns(torch.tensor([1.0, 9.0]), torch.tensor([0.2, 0.8]), {1: "feature 1"}).axes
    assert axis.texts[0].get_text() == "feature 1" and axis.lines[0].get_xdata().tolist() == [1.0, 9.0]
    panels = affine_plots.clipping_curves(torch.randn(100), [8, 2], {"absmax": [3.0, 3.0]}).axes
    assert [axis.get_title() for axis in panels] == ["8 bits", "2 bits"]
    schemes = {"a": Scheme(4, granularity="tensor"), "b": Scheme(4, "integer", granularity="tensor")}
    (axis,) = affine_plots.two_rulers(torch.rand(100), schemes).axes
    assert [text.get_text() for text in axis.texts if text.get_text() in schemes] == ["a", "b"]


def test_every_claim_of_the_topic_stands_in_the_lecture():
    lecture = (Path(__file__).parents[1] / "notebooks" / "02_affine.py").read_text(encoding="utf-8")
    ours = [key for key, entry in claims.ledger().items() if entry.topic == "02_affine"]
    assert ours and [key for key in ours if f'"{key}"' not in lecture] == []
