"""Exams: batched and cached scores against one option at a time, intervals against theory, perplexity by hand."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from coursepkg import evaluation, intervals, trials
from coursepkg.chat import ask, told
from coursepkg.courselm import tokenizer as course_tokenizer
from coursepkg.courselm.exams import exam
from coursepkg.evaluation import Exam, Question
from coursepkg.evaluation.batches import batches
from coursepkg.evaluation.generation import same
from coursepkg.evaluation.perplexity import Piece

# Two orders of summation in float32: logits of a small model differ by some 1e-6, sums over an option's tokens by 1e-5.
CLOSE = 1e-4


@pytest.fixture(scope="module")
def tokenizer():
    return course_tokenizer.train(documents=3000)


@pytest.fixture(scope="module", params=trials.FAMILIES)
def model(request):
    """A small model with random weights, its attention made sharp enough that a wrong position shows."""
    made = trials.small_model(request.param, "fp32", vocab_size=2048).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                parameter.mul_(8)
    return made


@pytest.fixture(scope="module")
def questions():
    return exam().questions[:16] + exam("law").questions[:6]


def one_at_a_time(model, tokenizer, question):
    """The definition: read the prompt with one option, and add up the log-probabilities of the option's tokens."""
    scores = []
    for option in question.options:
        prompt = tokenizer.encode(ask(tokenizer, question.prompt), add_special_tokens=False)
        whole = tokenizer.encode(told(tokenizer, question.prompt, option), add_special_tokens=False)
        with torch.no_grad():
            logs = model(torch.tensor([whole]), use_cache=False).logits[0].log_softmax(-1)
        scores.append(sum(logs[at - 1, whole[at]].item() for at in range(len(prompt), len(whole))))
    return np.array(scores)


def test_batched_and_cached_scores_are_those_of_one_option_at_a_time(model, tokenizer, questions):
    expected = [one_at_a_time(model, tokenizer, question) for question in questions]
    for batch_size in (1, 7, 64):
        scores = evaluation.option_scores(model, tokenizer, questions, batch_size)
        np.testing.assert_allclose(scores, expected, atol=CLOSE)


def test_options_of_one_token_and_of_unequal_number_are_scored(model, tokenizer):
    tokenizer = _without_template(tokenizer)
    questions = [
        Question("Where was Ada Marlby born?", ("Aberford", "Aberford or Belton, on the Cassow"), 0, "facts"),
        Question("What is 1 plus 1?", ("1", "2", "3", "4", "5"), 1, "arithmetic"),
    ]
    scores = evaluation.option_scores(model, tokenizer, questions)
    assert [len(each) for each in scores] == [2, 5]
    for question, found in zip(questions, scores, strict=True):
        np.testing.assert_allclose(found, one_at_a_time(model, tokenizer, question), atol=CLOSE)


def _without_template(tokenizer):
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    return plain


def test_a_tokenizer_that_merges_prompt_and_answer_is_scored_from_where_they_part(model):
    """Characters in pairs: the prompt's last one is read together with the option's first."""

    class Pairs:
        chat_template, bos_token = None, ""

        def __call__(self, texts, add_special_tokens):
            return {
                "input_ids": [[hash_of(text[i : i + 2]) for i in range(0, len(text), 2)] for text in texts]
            }

    def hash_of(pair):
        return sum(ord(c) * 7**i for i, c in enumerate(pair)) % 1000

    question = Question("ab?", ("cd", "efg"), 0, "any")
    scores = evaluation.option_scores(model, Pairs(), [question])[0]
    prompt = Pairs()([ask(Pairs(), "ab?")], False)["input_ids"][0]
    for option, found in zip(question.options, scores, strict=True):
        whole = Pairs()([told(Pairs(), "ab?", option)], False)["input_ids"][0]
        shared = next(i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b)
        with torch.no_grad():
            logs = model(torch.tensor([whole]), use_cache=False).logits[0].log_softmax(-1)
        expected = sum(logs[at - 1, whole[at]].item() for at in range(shared, len(whole)))
        assert shared == len(prompt) - 1 and abs(found - expected) < CLOSE


def test_prompts_longer_than_a_sliding_window_are_scored_alike(tokenizer):
    """Gemma's window is 64 tokens here, and the prompts have some 40 to 120."""
    model = trials.small_model("gemma3", "fp32", vocab_size=2048).eval()
    some = exam().questions[:6]
    long = [
        Question(" ".join([question.prompt] * (3 + 2 * at)), question.options, question.answer, "long")
        for at, question in enumerate(some)
    ]
    scores = evaluation.option_scores(model, tokenizer, long)
    np.testing.assert_allclose(scores, [one_at_a_time(model, tokenizer, each) for each in long], atol=CLOSE)


def test_a_tokenizer_without_padding_will_do(tokenizer, questions):
    model, plain = trials.small_model("llama", "fp32", vocab_size=2048).eval(), copy.deepcopy(tokenizer)
    plain.pad_token = None
    prompts = [question.prompt for question in questions[:5]]
    assert evaluation.answers(model, plain, prompts) == evaluation.answers(model, tokenizer, prompts)


THINKING = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}<think></think>{% endif %}{{ m.content }}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)
ALWAYS_THINKING = THINKING.split("{% if add_generation_prompt %}")[0] + (
    "{% if add_generation_prompt %}<|assistant|><think>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (THINKING, "<|user|>Why?<|end|><|assistant|><think></think>So.<|end|>"),
        (ALWAYS_THINKING, "<|user|>Why?<|end|><|assistant|><think>So.<|end|>"),
    ],
)
def test_a_model_that_thinks_first_is_asked_not_to(tokenizer, template, expected):
    """Its answer is scored right after the prompt, and always with an end."""
    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    assert told(other, "Why?", "So.") == expected
    assert expected.startswith(ask(other, "Why?"))


def test_a_checkpoints_own_penalties_do_not_change_an_answer(tokenizer, questions):
    model = trials.small_model("llama", "fp32", vocab_size=2048).eval()
    prompts = [question.prompt for question in questions[:5]]
    plain = evaluation.answers(model, tokenizer, prompts)
    model.generation_config.repetition_penalty = 1.5
    model.generation_config.do_sample = True
    model.generation_config.temperature = 0.7
    assert evaluation.answers(model, tokenizer, prompts) == plain


def test_logits_that_are_not_finite_are_an_error_and_not_a_guess(tokenizer, questions):
    model = trials.small_model("llama", "fp32", vocab_size=2048).eval()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite in torch.float32"):
        evaluation.option_scores(model, tokenizer, questions[:2])
    with pytest.raises(FloatingPointError, match="not finite in torch.float32"):
        evaluation.likelihood(model, evaluation.documents(tokenizer, ["Ada was born."]))


def test_batches_keep_to_their_limits_and_lose_nothing():
    costs = [5, 900, 3, 3, 7, 40, 900, 1]
    groups = list(batches(costs, most=3, vocabulary=64_000))
    assert sorted(index for group in groups for index in group) == list(range(len(costs)))
    assert all(len(group) <= 3 for group in groups)
    for group in groups:
        logits = 4 * 64_000 * len(group) * max(costs[index] for index in group)
        assert logits <= 256e6 or len(group) == 1


def test_the_end_of_an_answer_is_scored_too(tokenizer):
    assert told(tokenizer, "What is 40 plus 8?", "4").endswith("4<|end|>")
    assert told(_without_template(tokenizer), "What is 40 plus 8?", "4").endswith("Answer: 4\n")


def test_a_model_comes_back_in_the_mode_it_was_in(tokenizer, questions):
    model = trials.small_model("llama", "fp32", vocab_size=2048)
    assert model.training
    evaluation.take(model, tokenizer, Exam("short", questions[:3], questions[:2], ("Ada was born.",)))
    assert model.training


def test_generation_in_a_batch_is_generation_alone(model, tokenizer, questions):
    prompts = [question.prompt for question in questions[:12]]
    together = evaluation.answers(model, tokenizer, prompts, max_new_tokens=6, batch_size=5)
    alone = [evaluation.answers(model, tokenizer, [prompt], max_new_tokens=6)[0] for prompt in prompts]
    assert together == alone


@pytest.mark.parametrize(
    ("written", "right", "expected"),
    [
        ("Aberford", "Aberford", True),
        ("aberford.", "Aberford", True),
        ("the  Blue Anchor\nand more", "the Blue Anchor", True),
        ("4", "48", False),
        ("Aberford or Belton", "Aberford", False),
        ("", "Aberford", False),
    ],
)
def test_exact_match(written, right, expected):
    assert same(written, right) is expected


@pytest.mark.parametrize(("answer", "options"), [(4, "abcd"), (-1, "abcd"), (0, "abca")])
def test_a_question_without_one_right_option_is_refused(answer, options):
    with pytest.raises(ValueError, match="none of its 4 options|two options are the same"):
        Question("?", tuple(options), answer, "any")


class Coin:
    """A model of two tokens that gives token 1 one probability, whatever came before."""

    def __init__(self, probability=0.75):
        self.probability = probability

    training, device = False, torch.device("cpu")
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=2))

    def eval(self):
        return self

    def train(self, mode):
        return self

    def __call__(self, input_ids, use_cache):
        logits = torch.tensor([1 - self.probability, self.probability]).log().expand(*input_ids.shape, 2)
        return SimpleNamespace(logits=logits)


def test_perplexity_by_hand():
    """Of the tokens 1 1 0 the last two count: nll = −ln(3/4) − ln(1/4); of 1 1 only the last."""
    found = evaluation.likelihood(Coin(), [Piece((1, 1, 0)), Piece((1, 1))])
    np.testing.assert_allclose(found.nll, [-math.log(3 / 16), -math.log(3 / 4)], rtol=1e-6)
    assert found.tokens.tolist() == [2, 1]
    assert found.perplexity.value == pytest.approx((64 / 9) ** (1 / 3), rel=1e-6)


def test_tokens_that_are_only_context_do_not_count():
    """Of 1 1 0 1, scored from index 3, the last token alone: −ln(3/4)."""
    found = evaluation.likelihood(Coin(), [Piece((1, 1, 0, 1), scored=3)])
    np.testing.assert_allclose(found.nll, [-math.log(3 / 4)], rtol=1e-6)
    assert found.tokens.tolist() == [1]


class Numbers:
    """A tokenizer for texts of numbers."""

    def __call__(self, text, verbose=False):
        return {"input_ids": [int(each) for each in text.split()]}


TEN = " ".join(map(str, range(10)))


def test_windows_side_by_side_as_the_papers_have_them():
    pieces = evaluation.windows(Numbers(), TEN, length=4)
    assert pieces == [Piece((0, 1, 2, 3)), Piece((4, 5, 6, 7))]


@pytest.mark.parametrize("length", range(2, 11))
@pytest.mark.parametrize("stride", range(1, 10))
def test_overlapping_windows_count_each_token_once_with_enough_before_it(length, stride):
    if stride >= length:
        if stride > length:
            with pytest.raises(ValueError, match="stride must be"):
                evaluation.windows(Numbers(), TEN, length, stride)
        return
    pieces = evaluation.windows(Numbers(), TEN, length, stride)
    counted = [token for piece in pieces for token in piece.tokens[piece.scored :]]
    assert counted == list(range(1, 10))
    assert all(len(piece.tokens) == length for piece in pieces)
    assert all(piece.scored >= length - stride for piece in pieces[1:])


def test_a_text_shorter_than_a_window_is_refused():
    with pytest.raises(ValueError, match="10 tokens, fewer than one window of 11"):
        evaluation.windows(Numbers(), TEN, 11)


def test_padding_does_not_change_a_documents_likelihood(model, tokenizer):
    texts = ["Ada Marlby was born in Aberford.", "It opened in 1841. " * 8, "Ada lived."]
    pieces = evaluation.documents(tokenizer, texts)
    together = evaluation.likelihood(model, pieces)
    alone = [evaluation.likelihood(model, [piece]) for piece in pieces]
    np.testing.assert_allclose(together.nll, np.concatenate([each.nll for each in alone]), rtol=1e-5)
    assert together.tokens.tolist() == [len(piece.tokens) - 1 for piece in pieces]


@pytest.mark.parametrize("interval", [intervals.mean, intervals.share])
def test_an_interval_is_as_wide_as_theory_says(interval):
    """A share p of n answers: 1.96 standard errors of sqrt(p (1 − p) / n) to each side, within 10 %."""
    right = np.array([1] * 800 + [0] * 200)
    found = interval(right)
    error = 1.96 * math.sqrt(0.8 * 0.2 / 1000)
    assert found.value == 0.8
    assert found.high - 0.8 == pytest.approx(error, rel=0.1)
    assert 0.8 - found.low == pytest.approx(error, rel=0.1)


def test_pairing_narrows_the_interval_of_a_difference():
    """Two methods that differ on 10 of 1,000 questions: the paired interval excludes 0 on either side of 10 answers."""
    first = np.array([1] * 600 + [0] * 400)
    second = first.copy()
    second[:10] = 0
    found = intervals.difference(second, first)
    assert found.value == -0.01
    error = 1.96 * math.sqrt(0.01 * 0.99 / 1000)
    assert found.high - found.low == pytest.approx(2 * error, rel=0.1)
    assert found.high < 0 < intervals.mean(second).high - intervals.mean(first).low


def test_a_perfect_score_is_not_certain():
    """Wilson's bounds of 150 of 150: from n / (n + z²) to 1; of none the other way round."""
    z = 1.959964
    full, none = intervals.share(np.ones(150)), intervals.share(np.zeros(150))
    assert (full.value, full.high) == (1.0, 1.0) and full.low == pytest.approx(150 / (150 + z**2))
    half = intervals.share(np.array([1] * 30 + [0] * 10))  # (0.75 + z²/80) / (1 + z²/40) is its middle
    assert (half.low + half.high) / 2 == pytest.approx((0.75 + z**2 / 80) / (1 + z**2 / 40))
    assert (none.value, none.low) == (0.0, 0.0) and none.high == pytest.approx(z**2 / (150 + z**2))


def test_intervals_hold_the_truth_nineteen_times_in_twenty():
    """Of 400 exams of 500 questions with p = 0.7, 95 % ± 5 standard deviations (5 · 1.09 %) hold 0.7."""
    draws = np.random.default_rng(1).random((400, 500)) < 0.7
    held = sum(0.7 in intervals.mean(each) for each in draws)
    assert abs(held / 400 - 0.95) < 5 * math.sqrt(0.95 * 0.05 / 400)


def test_intervals_repeat_and_refuse_nothing_or_unequal():
    values = np.arange(50) % 3
    assert intervals.mean(values) == intervals.mean(values)
    with pytest.raises(ValueError, match="shape"):
        intervals.mean(np.array([]))
    with pytest.raises(ValueError, match="as many: 50 and 49"):
        intervals.difference(values, values[1:])


def test_going_on_with_a_text_keeps_its_start(tokenizer):
    model = trials.small_model("llama", "fp32", vocab_size=2048)
    written = evaluation.go_on(model, tokenizer, "Ada Marlby lived", max_new_tokens=5)
    assert (
        written.startswith("Ada Marlby lived") and len(written) > len("Ada Marlby lived") and model.training
    )


def test_the_option_that_is_chosen_is_the_likeliest(model, tokenizer, questions):
    scores = evaluation.option_scores(model, tokenizer, questions)
    chosen = evaluation.chosen_options(model, tokenizer, questions)
    assert chosen == [q.options[int(s.argmax())] for q, s in zip(questions, scores, strict=True)]


def test_an_exam_knows_its_categories(tokenizer, questions):
    assert {question.category for question in exam().only("units").questions} == {"units"}
    with pytest.raises(ValueError, match="no questions of category 'history'; there are"):
        exam().only("history")
    model = trials.small_model("llama", "fp32", vocab_size=2048).eval()
    marks = evaluation.take(model, tokenizer, Exam("short", questions[:8], questions[:2]))
    with pytest.raises(ValueError, match="no texts"):
        _ = marks.perplexity
    with pytest.raises(ValueError, match="no question .* belongs to 'history'"):
        marks.of("history")
    assert "8 questions" in str(marks) and "exact match" in str(marks)


def test_divergence_by_hand_is_from_the_reference_to_the_model():
    """1/4 ln(1/4 : 1/2) + 3/4 ln(3/4 : 1/2) for each token after the first; the other way round it is another number."""
    found = evaluation.divergence(Coin(0.5), Coin(0.75), [Piece((1, 1, 0)), Piece((1, 1))])
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    np.testing.assert_allclose(found.kl, [2 * expected, expected], rtol=1e-6)
    assert found.tokens.tolist() == [2, 1]
    assert abs(0.5 * math.log(2) + 0.5 * math.log(2 / 3) - expected) > 0.01


def test_the_reference_predicts_without_dropout_and_keeps_its_mode():
    reference = trials.small_model("llama", "fp32", vocab_size=2048)
    for layer in reference.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model = copy.deepcopy(reference).eval()
    reference.train()
    found = evaluation.divergence(model, reference, [Piece(tuple(range(20)))])
    assert found.kl.tolist() == [0.0] and reference.training and not model.training


def test_rows_and_methods_of_one_name_are_refused(tokenizer, questions):
    model = trials.small_model("llama", "fp32", vocab_size=2048)
    plain = evaluation.rounding.whole_numbers(8, "channel")
    with pytest.raises(ValueError, match="two rows are called 'int8, per channel'"):
        evaluation.leaderboard(
            model, tokenizer, Exam("short", questions[:2], ()), (plain, plain), lambda _: pytest.fail("begun")
        )
    row = evaluation.boards.Row("a", 1, 4, 4.0, None)
    with pytest.raises(ValueError, match="two rows are called 'a'"):
        evaluation.boards.Leaderboard((row, row))
