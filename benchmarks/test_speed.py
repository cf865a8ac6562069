"""How long an answer takes: `make bench`. The standard for a widget is 200 ms on a laptop."""

import pytest

from coursepkg import memory, show

METHODS = (memory.inference, memory.lora, memory.qlora, memory.full_finetuning)


def test_moving_a_control_of_the_calculator(benchmark):
    calculator = show.Calculator()
    benchmark.group = "widget, redrawn after a control moved"
    benchmark(calculator.draw)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_budget(benchmark, method):
    benchmark.group = "budget of llama-2-7b"
    benchmark(method, "llama-2-7b")


def test_counting_the_parameters_of_the_largest_model(benchmark):
    benchmark.group = "parameters of llama-3.1-405b"
    benchmark(lambda: memory.architecture("llama-3.1-405b").parameters())
