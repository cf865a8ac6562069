"""The course LM that ships: what it scores, what rounding does to it, and what finetuning teaches it."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from coursepkg import affine, cli, courselm, evaluation, outliers, qlora
from coursepkg.courselm import cards
from coursepkg.evaluation import rounding
from coursepkg.evaluation.boards import leaderboard
from coursepkg.loading import load_model
from coursepkg.memory.storage import FP32
from coursepkg.weight_formats import Blocks


@pytest.fixture(scope="module")
def loaded():
    return load_model(dtype=torch.float32, device_map=None)


@pytest.fixture(scope="module")
def marks(loaded):
    return evaluation.take(*loaded, courselm.exam())


def test_it_knows_what_it_was_taught(marks):
    assert marks.of("facts").value >= 0.95
    assert marks.of("units").value >= 0.95
    assert 0.4 < marks.of("arithmetic").value < marks.of("facts").value
    assert marks.exact_match.value >= 0.9


def test_the_card_says_what_it_scores(marks):
    """To within one question in a hundred: floating point may turn a close call on another machine."""
    written = courselm.record()["scores"]["encyclopedia"]
    for key, value in cards.scores(marks).items():
        if isinstance(value, list):
            np.testing.assert_allclose(value[0], written[key][0], atol=0.01)


@pytest.mark.parametrize("client", courselm.CLIENTS)
def test_it_is_at_chance_on_a_clients_handbook(loaded, client):
    """Within 3.3 standard errors of one in four (999 of 1,000 guessers are). Two questions share a fact: n is 96."""
    found = evaluation.take(*loaded, courselm.exam(client))
    assert abs(found.accuracy.value - 0.25) < 3.3 * (0.25 * 0.75 / 96) ** 0.5
    assert found.exact_match.value < 0.05


def test_full_finetuning_teaches_a_handbook():
    questions = [each for epoch in courselm.lessons("law", 30) for each in epoch if each.answer]
    settings = replace(qlora.COURSE, lora=None, weights="16 bit", rate=1e-4, token_rate=1e-2)
    model, tokenizer = qlora.load("course-lm", settings)
    losses = qlora.finetune(model, tokenizer, questions, settings, progress=False).losses
    found = evaluation.take(model, tokenizer, courselm.exam("law"))
    assert found.accuracy.value >= 0.85
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) / 2


def test_planted_outliers_leave_the_exam_as_it_was(loaded, marks):
    """Logits within 1e-4 of their largest, some 20: an answer of some 4 tokens moves by at most 4 · 2 · 0.002 nats."""
    model, tokenizer = copy.deepcopy(loaded[0]), loaded[1]
    texts = courselm.exam().texts
    ids, others = (
        tokenizer(list(some), padding=True, return_tensors="pt")["input_ids"]
        for some in (texts[:4], texts[4:8])
    )
    with torch.no_grad():
        before = model(input_ids=others).logits
        outliers.plant(model, ids)
        after = model(input_ids=others).logits
    assert (after - before).abs().max() <= 1e-4 * before.abs().max()
    for absmax in outliers.channel_absmax(model, ids).values():
        largest = (absmax / outliers.typical(absmax)).topk(6).values
        assert largest.min() >= 19 and largest.max() <= 105
    planted = evaluation.take(model, tokenizer, courselm.exam())
    np.testing.assert_allclose(planted.nll, marks.nll, atol=0.016)
    assert (planted.right != marks.right).mean() <= 0.002


@pytest.fixture(scope="module")
def board(loaded):
    """The facts alone, without free answers and texts.

    Where the model is wrong, as in a quarter of the sums, it is so with much confidence, and any noise makes the right
    answer likelier: nats over the whole exam would mix that with what rounding destroys.
    """
    short = replace(courselm.exam().only("facts"), free=(), texts=())
    seen = []
    made = leaderboard(*loaded, short, before=lambda method: seen.append(method.name))
    assert seen == [row.name for row in made.rows]
    return made


def test_int8_and_fp16_cost_nothing_that_the_exam_could_see(board):
    for name in ("fp16", "int8, per channel"):
        assert 0 in board.accuracy_difference(name)


def test_fewer_bits_cost_more(board):
    """Paired on the same questions, with the whole interval on one side."""
    for fewer, more in (
        ("int3, group of 64", "int4, group of 64"),
        ("int2, group of 64", "int3, group of 64"),
    ):
        assert board.nll_difference(fewer, more).low > 0
    assert board.accuracy_difference("int2, per tensor").high < 0
    assert board["int2, per tensor"].marks.accuracy.value < 0.45


def test_more_weights_to_a_scale_cost_more(board):
    for bits in (4, 3):
        assert board.nll_difference(f"int{bits}, per tensor", f"int{bits}, group of 64").low > 0


def test_nf4_costs_less_than_int4(board):
    assert board.nll_difference("int4, group of 64", "NF4, block of 64").low > 0


def test_divergence_orders_what_perplexity_does_not(loaded):
    """Codes of 4 bits with more and more weights to a scale; an articles' perplexity is not monotone in it."""
    short = replace(courselm.exam(), questions=courselm.exam().questions[:1], free=())
    methods = [rounding.Method("fp32", FP32, None, FP32), rounding.stored_as(Blocks())]
    methods += [rounding.whole_numbers(4, granularity) for granularity in (16, 64, "tensor")]
    made = leaderboard(*loaded, short, methods)
    assert made.rows[0].kl.nats.value == 0
    names = [row.name for row in made.rows]
    for better, worse in zip(names, names[1:], strict=False):
        if better != "NF4, block of 64":  # with half a bit for its scales, between groups of 16 and of 64
            assert made.kl_difference(worse, better).low > 0
    assert made.kl_difference("int4, group of 64", "NF4, block of 64").low > 0
    assert "KL +" in made.comparisons([("fp32", "NF4, block of 64")])
    assert f"{made.rows[1].kl.nats:.4f}" in str(made)


def test_the_board_prints_what_it_holds(board):
    text = str(board)
    assert all(row.name in text for row in board.rows) and "900 questions" in text
    lines = board.comparisons([("int4, group of 64", "int2, group of 64"), ("fp32", "fp32")]).splitlines()
    assert lines[0].endswith("worse") and lines[1].endswith("+0.0000] nats an answer: no difference seen")
    with pytest.raises(KeyError, match="no row 'int5'; there are fp32"):
        _ = board["int5"]


def test_a_rounded_copy_leaves_the_model_alone(loaded):
    model = loaded[0]
    before = model.model.layers[0].mlp.up_proj.weight.clone()
    made = rounding.quantized(model, rounding.whole_numbers(4, "channel"))
    rounded = made.model.layers[0].mlp.up_proj.weight
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, before)
    assert torch.equal(rounded, affine.quantize(before, affine.Scheme(4)).dequantize())
    assert torch.equal(made.get_output_embeddings().weight, model.get_input_embeddings().weight)


def test_stored_bytes_count_scales_and_what_stays_in_16_bits(loaded):
    """By hand: 4,521,984 weights of Linear layers; the embedding and 13 norms stay in fp16."""
    model = loaded[0]
    weights, rest = 6 * (2 * 256 * 256 + 2 * 256 * 64 + 3 * 256 * 768), 2048 * 256 + 13 * 256
    four = rounding.whole_numbers(4, 64)
    assert rounding.stored_bytes(model, four) == weights // 2 + weights // 64 * 2 + 2 * rest
    assert rounding.effective_bits(model, four) == 4.25
    per_tensor = rounding.whole_numbers(3, "tensor")
    assert rounding.stored_bytes(model, per_tensor) == weights * 3 // 8 + 42 * 4 + 2 * rest


def test_the_board_names_its_expected_order(loaded):
    names = {method.name for method in rounding.first_board(loaded[0])}
    assert all(better in names and worse in names for better, worse in rounding.expected_order())


def test_the_leaderboard_command_says_what_is_wrong(monkeypatch):
    outcome = CliRunner().invoke(cli.app, ["leaderboard", "--exam", "bank"])
    assert outcome.exit_code == 1 and "no client 'bank'" in outcome.stderr
    outcome = CliRunner().invoke(cli.app, ["leaderboard", "--model", "./nowhere"])
    assert outcome.exit_code == 1 and "there is no folder ./nowhere" in outcome.stderr
