"""Figures that have words, questions that answer back, a calculator that follows its controls."""

import pytest

from coursepkg import memory, results, show


def test_a_figure_without_words_is_refused():
    made, _ = show.figure()
    assert show.show(made, "A line.").alt == "A line."
    with pytest.raises(ValueError, match="alt text"):
        show.show(made, "  ")


def test_the_same_figure_gives_the_same_bytes():
    draw = show.memory_plots.parameter_shares
    assert show.png(draw(["llama-2-7b"])) == show.png(draw(["llama-2-7b"])) != show.png(draw(["gemma-3-1b"]))


class TestQuestion:
    right = show.Choice("4", "Two and two.", right=True)
    wrong = show.Choice("5", "One too many.")

    def test_pressing_a_button_explains(self):
        asked = show.Question("2 + 2?", self.right, self.wrong)
        asked.buttons[1].click()
        assert asked.answer.value == "<b>No.</b> One too many."
        asked.buttons[0].click()
        assert asked.answer.value == "<b>Right.</b> Two and two."

    @pytest.mark.parametrize("choices", [(wrong,), (right, right), (right, show.Choice("3", ""))])
    def test_needs_one_right_choice_and_feedback_for_all(self, choices):
        with pytest.raises(ValueError, match="exactly one right"):
            show.Question("?", *choices)

    @pytest.mark.parametrize("name", show.questions())
    def test_every_question_of_the_lectures_is_complete(self, name):
        assert len(show.question(name).buttons) >= 3

    def test_an_unknown_name(self):
        with pytest.raises(ValueError, match="there are"):
            show.question("nothing")


def test_bars_are_stacked_part_by_part():
    budgets = [("a", memory.qlora("llama-2-7b", 2048)), ("b", memory.inference("llama-2-7b"))]
    (axis,) = show.budget_bars(budgets).axes
    for row, (_, budget) in enumerate(budgets):
        bars = [
            p for p in axis.patches if p.get_width() and p.get_y() + p.get_height() / 2 == pytest.approx(row)
        ]
        assert [bar.get_width() for bar in bars] == pytest.approx(
            [p.n_bytes / memory.GB for p in budget.parts]
        )
        ends = [bar.get_x() + bar.get_width() for bar in bars]
        assert [bar.get_x() for bar in bars] == pytest.approx([0, *ends[:-1]])


def test_device_lines_stand_where_the_memory_for_tensors_ends():
    (axis,) = show.budget_bars([("full", memory.full_finetuning("llama-2-7b"))]).axes
    lines = [line.get_xdata()[0] for line in axis.lines]
    assert memory.device("T4").usable / memory.GB in lines
    assert memory.device("H200").usable / memory.GB not in lines


def test_measured_devices_are_drawn_a_point_for_each_row():
    rows = tuple(
        {"method": method, "length": 512, "predicted": n * memory.GB, "measured_peak": (n + 1) * memory.GB}
        for n, method in enumerate(("inference", "lora", "qlora"), start=3)
    )
    found = results.Results("x", True, "command", {"device": "a GPU"}, {}, rows)
    (axis,) = show.memory_plots.device_rows(found).axes
    points = [tuple(c.get_offsets()[0]) for c in axis.collections]
    assert points == [(3, 4), (4, 5), (5, 6)]


class TestCalculator:
    def test_every_control_changes_picture_or_verdict(self):
        for control, value in [
            *[("model", "gemma-3-1b"), ("method", "inference"), ("weights", "int8"), ("batch", 4)],
            *[("length", 512), ("checkpointing", False)],
        ]:
            calculator = show.Calculator()
            before = calculator.picture.value, calculator.verdict.value
            getattr(calculator, control).value = value
            assert calculator.picture.value != before[0] and calculator.verdict.value != before[1], control

    @pytest.mark.parametrize("method", ["inference", "QLoRA", "LoRA", "full finetuning"])
    @pytest.mark.parametrize("weights", ["fp32", "bf16", "int8", "int4-g128", "nf4", "nf4+dq"])
    def test_every_combination_has_an_answer(self, method, weights):
        calculator = show.Calculator()
        calculator.method.value, calculator.weights.value = method, weights
        assert "llama-2-7b" in calculator.verdict.value

    def test_the_verdict_is_the_packages(self):
        budget = memory.qlora("llama-2-7b", 2048)
        text = show.Calculator().verdict.value
        assert memory.in_gb(budget.total) in text
        for fit in budget.fits_on():
            assert (fit.device.name in text) == fit.fits

    def test_a_model_that_fits_nowhere(self):
        calculator = show.Calculator()
        calculator.model.value, calculator.method.value = "llama-3.1-405b", "full finetuning"
        assert "none of the devices listed" in calculator.verdict.value


def test_the_course_lms_figures_draw_what_they_are_given():
    record = {
        "tokens": 2_000_000,
        "curve": [
            {"step": 1, "tokens": 1_000_000, "loss": 2.0, "exam": 0.3},
            {"step": 2, "tokens": 2_000_000, "loss": 1.0},
        ],
    }
    losses, exams = show.model_plots.training_curve(record).axes
    assert losses.lines[0].get_ydata().tolist() == [2.0, 1.0]
    assert exams.lines[0].get_ydata().tolist() == [30.0]
