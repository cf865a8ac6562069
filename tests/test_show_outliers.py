"""The figures of lecture 04 show what they are given, its widget what the package computes, and its results file is complete."""

import re
from pathlib import Path

import pytest
import torch

from benchmarks import outliers as benchmark
from coursepkg import claims, distortion, llm_int8, results, show, w8a8
from coursepkg.int8_linear import LlmInt8Linear
from coursepkg.show import figures, smooth_explorer
from coursepkg.show import outlier_plots as plots
from coursepkg.show.smooth_explorer import PER_TENSOR, PER_TOKEN, SmoothExplorer

LECTURE = (Path(__file__).parents[1] / "notebooks" / "04_outliers.py").read_text(encoding="utf-8")
KINDS = ("steady outliers", "swinging outliers", "as trained")


def colours(axis):
    return {patch.get_facecolor()[:3] for patch in axis.patches}


def test_a_colour_for_each_scale_and_both_in_each_product():
    x, weight, y = plots.scales_of_a_product(3, 5, 4).axes
    assert len(colours(x)) == 3 and len(colours(weight)) == 4
    assert colours(y) == colours(x) | colours(weight) and len(y.patches) == 2 * 3 * 4
    said = {text.get_text() for text in y.texts}
    assert {"$s_1\\,t_1$", "$s_3\\,t_4$"} < said


def test_each_way_has_its_line_and_name():
    times = {"16 bit": [1.0, 1.0], "W8A8": [0.5, 0.5], "W4A16": [0.25, 1.0]}
    (axis,) = plots.least_times([1, 256], times).axes
    assert [list(line.get_ydata()) for line in axis.lines] == list(times.values())
    assert [text.get_text() for text in axis.texts] == list(times)


def test_shares_above_t_are_those_of_the_values():
    """Of 0, …, 0, 1 (the root mean square is 0.1) one in 100 is above 5, and nothing above 10."""
    x = torch.zeros(100)
    x[3] = -1
    (axis,) = plots.tails({"one": x}, largest=100).axes
    t, share = axis.lines[0].get_xdata(), axis.lines[0].get_ydata()
    assert set(share) == {0.01} or max(abs(each - 0.01) for each in share) < 1e-9
    assert 9 < max(t) <= 10.001 and axis.texts[0].get_text() == "one"


def test_sizes_are_drawn_on_one_scale():
    panels = {"a": torch.full((4, 8), -2.0), "b": torch.full((4, 8), 50.0)}
    axes = plots.magnitudes(panels).axes
    left, right = (axis.images[0] for axis in axes[:2])
    assert left.get_array().max() == 2 and right.get_array().min() == 50
    assert left.norm is right.norm and left.norm.vmax == 50


def test_rulers_are_sorted_and_relative_to_the_longest():
    (axis,) = plots.reach_of_rulers({"some": torch.tensor([4.0, 1.0, 2.0])}).axes
    assert list(axis.lines[0].get_ydata()) == [0.25, 0.5, 1.0]


def test_maxima_before_are_grey_and_after_are_dots():
    before = torch.tensor([1.0, 50.0]), torch.tensor([0.1, 0.2])
    after = torch.tensor([1.5, 5.0]), torch.tensor([0.3, 2.0])
    for axis, old, new in zip(plots.maxima(before, after).axes, before, after, strict=True):
        assert list(axis.lines[0].get_ydata()) == new.tolist()
        values, _, _ = axis.patches[0].get_data()
        assert values == pytest.approx(old.tolist())


def test_without_a_threshold_is_a_line_of_its_own():
    rows = [
        {"model": "steady outliers", "threshold": at, "kl": [kl, kl, kl], "columns": 1 / at if at else 0.0}
        for at, kl in ((2.0, 0.1), (6.0, 0.2), (None, 0.5))
    ]
    left, right = plots.over_threshold(rows).axes
    assert left.lines[0].get_xydata().tolist() == [[2, 0.1], [6, 0.2]]
    assert list(left.lines[1].get_ydata()) == [0.5, 0.5]
    assert right.lines[0].get_ydata() == pytest.approx([50, 100 / 6])


def test_the_lowest_point_is_marked():
    curves = {"one": {"a": [(0.0, 3.0), (0.5, 1.0), (1.0, 2.0)]}, "two": {"a": [(0.0, 1.0), (1.0, 30.0)]}}
    left, right = plots.over_alpha(curves, "KL").axes
    assert left.texts[0].get_text() == "a: least at 0.5" and right.texts[0].get_text() == "a: least at 0"
    assert left.get_ylim() == right.get_ylim()


def test_methods_stand_side_by_side_in_their_colours():
    def row(model, name, exam, kl):
        return {
            "model": model,
            "name": name,
            "exam": [exam, exam - 0.1, exam + 0.1],
            "kl": [kl, 0.9 * kl, 1.1 * kl],
        }

    rows = [
        row(kind, name, 0.5, 0.1) for kind in KINDS for name in ("fp16", "W8A8, per token", "SmoothQuant O3")
    ]
    left, right = plots.side_by_side(rows).axes
    assert [label.get_text() for label in left.get_yticklabels()] == [
        "fp16",
        "W8A8, per token",
        "SmoothQuant O3",
    ]
    assert len(left.containers) == 9 and len(right.containers) == 6  # fp16 is what KL is from
    assert [each[0].get_color() for each in right.containers[:2]] == [
        figures.COLOURS["W8A8"],
        figures.COLOURS["SmoothQuant"],
    ]


def test_figures_are_drawn():
    measured = results.load("outliers").rows
    tables = {name: [row for row in measured if row["table"] == name] for name in benchmark.TABLES}
    lines = {row["model"]: {"a": [(0.0, 1.0), (1.0, 2.0)]} for row in tables["alphas"]}
    for made in (
        plots.scales_of_a_product(),
        plots.over_threshold(tables["thresholds"]),
        plots.over_alpha(lines, "KL"),
        plots.side_by_side(tables["methods"]),
    ):
        assert figures.png(made).startswith(b"\x89PNG")


def test_the_measured_table_is_complete():
    measured = results.load("outliers")
    assert measured.measured and measured.command == "python -m benchmarks.outliers"
    names = list(benchmark.contestants([]))
    found = {(row["model"], row["name"]) for row in measured.rows if row["table"] == "methods"}
    assert found == {
        (kind, name) for kind in KINDS for name in names if kind != "as trained" or name in benchmark.ALWAYS
    }
    for row in (row for row in measured.rows if row["table"] == "methods"):
        for key in ("exam", "kl"):
            value, low, high = row[key]
            assert 0 <= low <= value <= high, (row["name"], key)
        value, low, high = row["exam_against"]
        assert low <= value <= high and (row["name"] != "fp16" or value == 0)
    swept = {(row["model"], row["name"], row["alpha"]) for row in measured.rows if row["table"] == "alphas"}
    assert len(swept) == 2 * 2 * len(benchmark.ALPHAS)
    thresholds = {(row["model"], row["threshold"]) for row in measured.rows if row["table"] == "thresholds"}
    assert len(thresholds) == 2 * len(benchmark.THRESHOLDS)
    sizes = {(row["model"], row["name"]) for row in measured.rows if row["table"] == "sizes"}
    assert len(sizes) == 3 * 4


@pytest.mark.parametrize("kind", ["swinging outliers", "steady outliers"])
def test_outliers_ruin_w8a8_and_both_rescues_bring_the_exam_back(kind):
    """What the lecture says of the measured table: the exam within fp16's interval, or more than 20 points below it."""
    row = {
        each["name"]: each
        for each in results.load("outliers").rows
        if each.get("model") == kind and each["table"] == "methods"
    }
    _, low, high = row["fp16"]["exam"]
    assert row["W8A8, per tensor"]["exam"][2] < low - 0.2
    for name in ("LLM.int8()", "SmoothQuant O1", "SmoothQuant O2", "SmoothQuant O3"):
        assert low <= row[name]["exam"][0] <= high, name


def test_a_row_is_found_by_its_values():
    measured = results.load("outliers")
    row = measured.row(table="methods", model="steady outliers", name="LLM.int8()")
    assert row["kl"][0] > 0
    with pytest.raises(ValueError, match="outliers has 0 rows with"):
        measured.row(name="none")
    with pytest.raises(ValueError, match="rows with"):
        measured.row(model="steady outliers")


def test_a_16_bit_copy_of_the_outliers_weights_is_exact_in_their_columns():
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(32, 8), torch.zeros(4, 32)
    x[:, 5] = torch.tensor([60.0, 61.0, 59.0, 60.5])
    exact = x @ linear.weight.detach().half().float().T + linear.bias.detach()
    made = benchmark.With16BitColumns.of(linear)
    assert torch.allclose(made(x), exact, atol=1e-3)
    assert not torch.allclose(LlmInt8Linear.of(linear)(x), exact, atol=1e-2)


@pytest.mark.parametrize("granularity", [PER_TOKEN, PER_TENSOR])
@pytest.mark.parametrize("outlier", [0, 50])
def test_the_explorer_says_what_the_package_computes(granularity, outlier):
    explorer = SmoothExplorer()
    explorer.alpha.value, explorer.outlier.value, explorer.granularity.value = 0.7, outlier, granularity
    x, weight = smooth_explorer.layer(outlier)
    s = x.abs().amax(0) ** 0.7 / weight.abs().amax(0) ** 0.3
    scales = "channel" if granularity == PER_TOKEN else "tensor"
    y, rounded = x @ weight.T, w8a8.linear(x / s, w8a8.quantize_weight(weight * s), granularity=scales)
    expected = distortion.relative_error(y - y.mean(0), rounded - y.mean(0))
    assert f"<b>{expected:.4f}</b>" in explorer.verdict.value
    left, right = explorer.figure().axes
    assert left.lines[0].get_ydata() == pytest.approx((x / s).abs().amax(0).tolist(), rel=1e-5)
    assert right.lines[0].get_ydata() == pytest.approx((weight * s).abs().amax(0).tolist(), rel=1e-5)


def test_the_best_alpha_lies_between():
    for granularity in (PER_TOKEN, PER_TENSOR):
        errors = [smooth_explorer.error(50, alpha, granularity) for alpha in (None, 0.0, 0.55, 1.0)]
        assert errors[2] < min(errors[0], errors[1], errors[3]) / 1.5


def test_moving_a_control_draws_anew():
    explorer = SmoothExplorer()
    before = explorer.picture.value
    explorer.alpha.value = 0.9
    assert explorer.picture.value != before
    assert repr(explorer) == "SmoothExplorer: run this cell to move its controls"


def test_every_claim_about_outliers_stands_in_the_lecture():
    ours = [key for key, entry in claims.ledger().items() if entry.topic == "04_outliers"]
    assert ours and not [key for key in ours if f'"{key}"' not in LECTURE]


def test_every_question_that_the_lecture_asks_is_there():
    asked = re.findall(r'show\.question\("(\w+)"\)', LECTURE)
    assert len(asked) == 4 and set(asked) <= set(show.questions())


def test_the_threshold_is_the_papers():
    assert llm_int8.THRESHOLD == 6.0 and 6.0 in benchmark.THRESHOLDS
