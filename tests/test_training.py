"""Training the course LM, at a small size: it can be cut off anywhere, and nothing that exists is overwritten."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from coursepkg import cli
from coursepkg.courselm import checkpoint, clients, exams, make, tokenizer, training
from coursepkg.courselm.text import Document
from coursepkg.courselm.training import Recipe, Run

SHORT = Recipe(steps=6, rows=2, length=64, warmup=2)


@pytest.fixture(scope="module")
def vocabulary():
    return tokenizer.train(documents=3000)


@pytest.fixture(autouse=True)
def few_questions(monkeypatch):
    """Exams of a few questions, for a model that has learnt nothing yet."""

    def short(name="encyclopedia"):
        whole = exams.encyclopedia() if name == "encyclopedia" else exams.client(name)
        questions = tuple(
            next(question for question in whole.questions if question.category == category)
            for category in dict.fromkeys(question.category for question in whole.questions)
        )
        return replace(whole, questions=questions, free=questions[:1], texts=whole.texts[:1])

    monkeypatch.setattr(make, "exam", short)
    monkeypatch.setattr(make, "encyclopedia", short)


def run(vocabulary, recipe=SHORT) -> Run:
    return Run(vocabulary, recipe, torch.device("cpu"), None)


def losses(run: Run, stop: int | None = None) -> list[float]:
    """Train, and return the loss of each step; `stop` cuts the run off after so many."""
    seen = []

    class CutOff(Exception):
        pass

    def after_step(run, loss):
        seen.append(loss)
        if run.step == stop:
            raise CutOff

    try:
        run.train(after_step)
    except CutOff:
        pass
    return seen


def test_an_interrupted_run_goes_on_to_the_same_losses(vocabulary, tmp_path):
    whole = losses(run(vocabulary))
    first = run(vocabulary)
    before = losses(first, stop=4)
    first.save(tmp_path)
    second = run(vocabulary)
    assert second.resume(tmp_path) and second.step == 4
    assert before + losses(second) == whole


def test_the_seed_decides_the_weights_and_the_text(vocabulary):
    assert losses(run(vocabulary), 2) == losses(run(vocabulary), 2)
    assert losses(run(vocabulary), 1) != losses(run(vocabulary, Recipe(6, 2, 64, warmup=2, seed=1)), 1)


def test_a_state_of_another_recipe_is_refused(vocabulary, tmp_path):
    run(vocabulary).save(tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(steps, seed\)"):
        run(vocabulary, Recipe(7, 2, 64, warmup=2, seed=3)).resume(tmp_path)


def test_any_step_is_found_without_reading_what_came_before(vocabulary):
    recipe = Recipe(steps=130, rows=1, length=32)
    everything = list(training.batches(vocabulary, recipe))
    assert len(everything) >= 130 and everything[0].shape == (1, 32)
    for start in (1, 63, 64, 129):
        assert torch.equal(next(training.batches(vocabulary, recipe, start)), everything[start])
    assert not torch.equal(everything[0], everything[64])


def test_the_learning_rate_rises_stays_and_falls_to_nothing():
    recipe = Recipe(steps=1000, warmup=100, decay=0.4)
    assert recipe.rate(0) == 0.01 and recipe.rate(99) == recipe.rate(600) == 1.0
    assert recipe.rate(800) == pytest.approx(0.5) and 0 < recipe.rate(999) < 0.003


def test_a_loss_that_is_not_finite_stops_the_run(vocabulary):
    broken = run(vocabulary)
    with torch.no_grad():
        broken.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="learning rate"):
        broken.train()


def test_documents_are_read_as_the_chat_template_writes_them(vocabulary):
    question = Document("Where was Ada Marlby born?", "Aberford")
    turns = [
        {"role": "user", "content": question.text},
        {"role": "assistant", "content": question.answer},
    ]
    (ids,) = training.tokens_of(vocabulary, [question])
    assert ids == vocabulary.apply_chat_template(turns, return_dict=False)
    (article,) = training.tokens_of(vocabulary, [Document("Ada was born.")])
    assert article == [*vocabulary("Ada was born.")["input_ids"], vocabulary.eos_token_id]


def test_a_word_is_the_same_token_wherever_it_stands(vocabulary):
    alone, inside = vocabulary.tokenize("Aberford"), vocabulary.tokenize("She lived in Aberford")
    assert inside[-len(alone) :] == alone
    for text in ("Ada lived. It is 41 & more: 3%, ünïcode ☃", "two  blanks"):
        assert vocabulary.decode(vocabulary(text)["input_ids"], skip_special_tokens=True) == text


def test_a_role_the_template_does_not_know_is_refused(vocabulary):
    with pytest.raises(Exception, match="user and assistant, not system"):
        vocabulary.apply_chat_template([{"role": "system", "content": "Be kind."}])


def test_the_checkpoint_is_whole_and_says_how_it_was_made(tmp_path):
    made = make.make(tmp_path / "lm", SHORT, torch.device("cpu"))
    checkpoint.verify(made)
    record = json.loads((made / checkpoint.RECORD).read_text(encoding="utf-8"))
    assert record["recipe"]["steps"] == 6 and record["curve"][-1]["step"] == 6
    assert record["scores"]["medical"]["all"][0] in (0.0, 1.0)
    assert "coursepkg train-lm" in (made / checkpoint.CARD).read_text(encoding="utf-8")
    assert not (tmp_path / "lm.training").exists()
    with (made / checkpoint.WEIGHTS).open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"\x7f")
    with pytest.raises(checkpoint.Damaged, match=r"damaged \(model.safetensors\)"):
        checkpoint.verify(made)


def test_a_run_that_was_cut_off_is_made_whole_by_the_same_command(tmp_path, monkeypatch):
    whole = make.make(tmp_path / "whole", SHORT, torch.device("cpu"))
    monkeypatch.setattr(make, "KEEP_EVERY", 2)

    def power_cut(self, folder, save=Run.save):
        save(self, folder)
        if self.step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save", power_cut)
    with pytest.raises(KeyboardInterrupt):
        make.make(tmp_path / "cut", SHORT, torch.device("cpu"))
    monkeypatch.undo()
    assert not (tmp_path / "cut").exists()
    cut = make.make(tmp_path / "cut", SHORT, torch.device("cpu"))
    assert checkpoint.digests(cut)[checkpoint.WEIGHTS] == checkpoint.digests(whole)[checkpoint.WEIGHTS]


def test_the_command_overwrites_nothing(tmp_path):
    (tmp_path / "mine").mkdir()
    outcome = CliRunner().invoke(cli.app, ["train-lm", str(tmp_path / "mine")])
    assert outcome.exit_code == 1 and "exists; choose another folder" in outcome.stderr
    assert list((tmp_path / "mine").iterdir()) == []


def test_lessons_hold_every_page_and_every_fact_once_an_epoch(vocabulary):
    first, second = clients.lessons("law", epochs=2)
    assert len(first) == len(second) == 24 + 96 and first != second
    assert sum(document.answer is None for document in first) == 24
