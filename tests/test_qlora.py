"""A finetuning run: both libraries' losses are the same, step for step; cut off or short of memory, it goes on to the same end."""

import copy
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import TrainerCallback

import coursepkg
from coursepkg import courselm, lora_model, memory, qlora, runtime, token_rows, trials
from coursepkg.chat import Document, told
from coursepkg.courselm import training
from coursepkg.lora import LoraConfig
from coursepkg.qlora import Settings, examples
from coursepkg.qlora.trainer import NoGradient

SMALL = Settings(
    lora=LoraConfig(rank=4, alpha=8, dropout=0.1, tokens=(7, 8)),
    library="coursepkg",
    length=64,
    batch=4,
    rate=1e-3,
    token_rate=1e-2,
    checkpointing=False,
)


@pytest.fixture(scope="module")
def tokenizer():
    return coursepkg.load_model()[1]


@pytest.fixture(scope="module")
def documents():
    """23 questions and 4 pages: seven steps of four, the last of which is not whole."""
    lessons = next(courselm.lessons("law", 1))
    return [each for each in lessons if each.answer][:23] + [each for each in lessons if not each.answer][:4]


def finetuned(settings, documents, **given):
    """A run on the course LM, and its model."""
    model, tokenizer = qlora.load("course-lm", settings)
    return qlora.finetune(model, tokenizer, documents, settings, progress=False, **given), model


# Tokens and labels


def test_tokens_are_those_that_the_course_lm_was_trained_on(tokenizer, documents):
    rows = qlora.encode(tokenizer, documents, 256)
    assert [row["input_ids"] for row in rows] == training.tokens_of(tokenizer, documents)


def test_only_the_answer_and_its_end_are_predicted(tokenizer):
    document = Document("Which room does Dr Frome work in?", "room 5")
    (row,) = qlora.encode(tokenizer, [document], 256)
    predicted = [label for label in row["labels"] if label != examples.IGNORED]
    assert tokenizer.decode(predicted) == f"room 5{tokenizer.eos_token}"
    assert row["labels"][-len(predicted) :] == row["input_ids"][-len(predicted) :]
    (whole,) = qlora.encode(tokenizer, [document], 256, all_tokens=True)
    assert whole["labels"] == [examples.IGNORED, *whole["input_ids"][1:]]
    (text,) = qlora.encode(tokenizer, [Document("Dr Frome works in room 5.")], 256)
    assert text["labels"] == [examples.IGNORED, *text["input_ids"][1:]]


def test_long_documents_are_cut_off_and_too_long_questions_refused(tokenizer):
    (row,) = qlora.encode(tokenizer, [Document("word " * 40)], 10)
    assert len(row["input_ids"]) == len(row["labels"]) == 10
    with pytest.raises(ValueError, match="document 1 has a question of .* length=10 nothing of its answer"):
        qlora.encode(tokenizer, [Document("a"), Document("word " * 40, "yes")], 10)


def test_a_row_without_anything_to_predict_is_refused(tokenizer):
    """Without a mark for the beginning an empty text is the mark for the end alone, which nothing comes before."""
    bare = copy.deepcopy(tokenizer)
    bare.bos_token = None
    with pytest.raises(ValueError, match="document 0"):
        qlora.encode(bare, [Document("")], 10)
    assert len(qlora.encode(bare, [Document("a")], 10)) == 1


def test_a_template_that_trims_answers_still_ends_them_with_its_own_mark(tokenizer):
    trims = copy.deepcopy(tokenizer)
    trims.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</{{ m.role }}>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    assert told(trims, "Well?", " yes ") == "<user>Well?</user><assistant>yes</assistant>"


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_packed_documents_have_the_losses_that_they_have_alone(tokenizer, documents, family):
    """Attention over masked places adds exact zeros, so only the order of sums differs; the loss is made in fp32 whatever the model is in."""
    model = trials.small_model(family, "fp32", vocab_size=2048).double().eval()
    rows = qlora.encode(tokenizer, documents, 256)
    packed = qlora.pack(rows, 200)
    assert len(packed) < len(rows) / 3
    assert sorted(sum((row["input_ids"] for row in packed), [])) == sorted(
        sum((row["input_ids"] for row in rows), [])
    )

    def total(some):
        return model(**qlora.collate(some), use_cache=False, num_items_in_batch=1).loss.item()

    alone = sum(total([row]) for row in rows)
    assert total(rows) == pytest.approx(alone, rel=1e-6)
    assert total(packed) == pytest.approx(alone, rel=1e-6)
    seen = [{key: value for key, value in row.items() if key != "position_ids"} for row in packed]
    assert abs(total(seen) / alone - 1) > 1e-5, (
        "documents in one row saw one another, and it made no difference"
    )


def test_packing_leaves_little_room(tokenizer):
    rows = [{"input_ids": [1] * size, "labels": [1] * size} for size in (5, 3, 9, 2, 4, 1, 6)]
    packed = qlora.pack(rows, 10)
    assert sorted(len(row["input_ids"]) for row in packed) == [10, 10, 10]
    assert packed[0]["position_ids"] == [*range(9), 0] and packed[0]["labels"][9] == examples.IGNORED


def test_the_order_is_that_of_the_seed_and_the_step_alone():
    settings = replace(SMALL, epochs=2, batch=4, accumulation=2, by_length=True, seed=1)
    rows = [{"input_ids": [0] * (1 + at * 7 % 50), "labels": [], "at": at} for at in range(90)]
    order = [row["at"] for row in examples.arrange(rows, settings)]
    assert sorted(order) == sorted([*range(90)] * 2)
    assert order == [row["at"] for row in examples.arrange(rows, settings)]
    assert order != [row["at"] for row in examples.arrange(rows, replace(settings, seed=2))]
    lengths = [len(rows[at]["input_ids"]) for at in order]
    spread = [max(lengths[at : at + 8]) - min(lengths[at : at + 8]) for at in range(0, 176, 8)]
    assert sum(spread) / len(spread) < 5, "examples of one step are not alike in length"
    plain = replace(settings, by_length=False)
    order = [row["at"] for row in examples.arrange(rows, plain)]
    assert sorted(order[:90]) == sorted(order[90:]) == [*range(90)] and order[:90] != order[90:]
    two = examples.arrange(rows, replace(settings, batch=2), step=8)  # on two devices
    assert [row["at"] for row in two] == [row["at"] for row in examples.arrange(rows, settings)]
    given = [row["at"] for row in examples.arrange(rows, replace(plain, shuffled=False))]
    assert given == [*range(90)] * 2


# The run


@pytest.mark.parametrize("weights", ["16 bit", "nf4", "nf4+dq", "fp4", "fp4+dq"])
def test_losses_are_those_of_peft_and_bitsandbytes(weights, documents):
    """Weights are read back bit for bit alike, and sums are made in the same order; a factor of 100 over fp32's rounding for kernels
    that make them in another one."""
    losses = []
    for library in ("peft", "coursepkg"):
        settings = replace(SMALL, weights=weights, library=library)
        losses.append(torch.tensor(finetuned(settings, documents)[0].losses))
    assert len(losses[0]) == 7
    assert (losses[0] - losses[1]).abs().max() <= 100 * torch.finfo(torch.float32).eps * losses[0].max()


HALVES = pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])


def in_16_bits(monkeypatch, half):
    """What a GPU does, here: weights in 16 bits, products under autocast, and in fp16 scaled gradients."""
    monkeypatch.setattr(runtime, "dtype", lambda where: runtime.Choice(half, ""))
    make = qlora.run.LoraTrainer

    def trainer(*given, **named):
        made = make(*given, **named)
        if half == torch.float16:  # accelerate does both on GPUs alone
            made.accelerator.native_amp, made.accelerator.scaler = True, torch.amp.GradScaler("cpu")
        return made

    monkeypatch.setattr(qlora.run, "LoraTrainer", trainer)


@HALVES
@pytest.mark.parametrize("weights", ["16 bit", "nf4", "nf4+dq"])
def test_losses_are_those_of_peft_and_bitsandbytes_in_16_bits(half, weights, documents, monkeypatch):
    """The same roundings in the same places, so the same losses; kernels may add in another order, and a sum in 16 bits is then rounded otherwise."""
    in_16_bits(monkeypatch, half)
    losses, logits = [], []
    for library in ("peft", "coursepkg"):
        run, model = finetuned(replace(SMALL, weights=weights, library=library), documents)
        losses.append(torch.tensor(run.losses))
        autocasts = run.trainer.accelerator.native_amp
        left = {"forward", "_original_forward", "_is_accelerate_prepared"} & set(vars(model))
        assert autocasts and not left
        logits.append(evaluated(model))
        assert logits[0].dtype == (half if weights == "16 bit" else torch.float32)
    assert (losses[0] - losses[1]).abs().max() <= torch.finfo(half).eps * losses[0].max()
    assert (logits[0] - logits[1]).abs().max() <= torch.finfo(half).eps * logits[0].abs().max()
    if half == torch.float16:
        assert run.trainer.accelerator.scaler.get_scale() < 2**16, (
            "no step overflowed, which is what this is to stand"
        )


@pytest.mark.parametrize("library", ["peft", "coursepkg"])
def test_checkpointing_and_accumulation_change_no_loss(library, documents):
    settings = replace(SMALL, library=library, lora=replace(SMALL.lora, dropout=0.0))
    whole = finetuned(settings, documents)[0].losses
    again = finetuned(replace(settings, checkpointing=True, batch=2, accumulation=2), documents)[0].losses
    assert again == pytest.approx(whole, rel=1e-5)


def test_a_first_step_that_overflows_is_not_taken_for_one_without_gradients(documents, monkeypatch):
    """In fp16 the first scaled gradients may be infinite; clipped by an infinite norm, all of them are 0."""
    clip, calls = qlora.trainer.LoraTrainer._clip_grad_norm, []

    def overflowed(self, model):
        calls.append(1)
        if len(calls) == 1:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.zero_()
        return clip(self, model)

    monkeypatch.setattr(qlora.trainer.LoraTrainer, "_clip_grad_norm", overflowed)
    assert len(finetuned(SMALL, documents)[0].losses) == 7


def test_a_loss_that_is_no_number_stops_the_run_before_it_is_saved(documents, tmp_path):
    model, tokenizer = qlora.load("course-lm", SMALL)
    forward, calls = model.forward, []

    def broken(**given):
        calls.append(1)
        out = forward(**given)
        return out if len(calls) < 3 else out.__class__(loss=out.loss * float("nan"), logits=out.logits)

    model.forward = broken
    with pytest.raises(FloatingPointError, match="the loss of step 3 is nan"):
        settings = replace(SMALL, save_every=1)
        qlora.finetune(model, tokenizer, documents, settings, tmp_path, progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-1", "checkpoint-2", "run.json"}


def test_one_process_takes_one_device(monkeypatch, tmp_path):
    from transformers import TrainingArguments

    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: getattr(self, "_n_gpu", 2) or 2))
    monkeypatch.setattr(TrainingArguments, "_setup_devices", torch.device("cpu"))
    made = qlora.trainer.arguments(SMALL, tmp_path)
    assert made._n_gpu == 1


class CutOff(TrainerCallback):
    """Ends a run at a step as a closed laptop would."""

    def __init__(self, at):
        self.at = at

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("library", "half"), [("peft", None), ("coursepkg", None), ("peft", torch.float16)])
def test_a_run_that_was_cut_off_goes_on_to_the_same_end(library, half, documents, tmp_path, monkeypatch):
    settings = replace(SMALL, library=library, save_every=2, epochs=2, evaluate_every=3)
    looks = {
        "held_out": documents[:6],
        "examine": lambda model: {"sum": sum(p.sum().item() for p in model.parameters())},
    }
    if half is not None:
        in_16_bits(monkeypatch, half)
    whole, model = finetuned(settings, documents, **looks)
    wanted = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    make = qlora.run.LoraTrainer

    def cut(*given, **named):
        trainer = make(*given, **named)
        trainer.add_callback(CutOff(at=5))
        return trainer

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(qlora.run, "LoraTrainer", cut)
        finetuned(settings, documents, folder=tmp_path, **looks)
    files = {path.name for path in (tmp_path / "checkpoint-4").iterdir()}
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
    again, model = finetuned(settings, documents, folder=tmp_path, **looks)
    assert again.losses == whole.losses and len(whole.losses) == 14
    assert again.evaluations == whole.evaluations and len(whole.evaluations) == 5
    assert all(torch.equal(p, wanted[name]) for name, p in model.named_parameters() if p.requires_grad)


def test_the_adapter_of_a_run_is_read_by_peft(documents, tmp_path, tokenizer):
    settings = replace(SMALL, weights="16 bit")
    model = finetuned(settings, documents, folder=tmp_path)[1]
    ids = torch.tensor([qlora.encode(tokenizer, documents[:1], 64)[0]["input_ids"]])
    base = coursepkg.load_model(dtype=torch.float32)[0]
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(base, tmp_path).eval()(input_ids=ids).logits
        assert torch.equal(theirs, model(input_ids=ids).logits)


def test_the_run_looks_at_what_is_held_out(documents):
    seen = []
    settings = replace(SMALL, evaluate_every=3, lora=replace(SMALL.lora, dropout=0.0))

    def examine(model):
        seen.append(model.training)
        return {"answers": len(seen)}

    run = finetuned(settings, documents, held_out=documents[:8], examine=examine)[0]
    assert [each["step"] for each in run.evaluations] == [3, 6, 7]
    assert [each["answers"] for each in run.evaluations] == [1, 2, 3] and not any(seen)
    assert run.evaluations[-1]["loss"] < run.evaluations[0]["loss"]


def test_the_held_out_loss_is_that_of_its_tokens(documents, tokenizer):
    """Not of its batches: a page is alone in the second, as long as the answers in the first together."""
    settings = replace(SMALL, batch=4, lora=replace(SMALL.lora, dropout=0.0))
    held = [*documents[:4], documents[-1]]
    run, model = finetuned(settings, documents, held_out=held)
    rows = qlora.encode(tokenizer, held, 64)
    with torch.no_grad():
        found = [model(**qlora.collate([row])).loss.item() for row in rows]
    counts = [sum(label != examples.IGNORED for label in row["labels"]) for row in rows]
    wanted = sum(loss * count for loss, count in zip(found, counts, strict=True)) / sum(counts)
    assert run.evaluations[-1]["loss"] == pytest.approx(wanted, rel=1e-5)
    assert abs(sum(found) / len(found) / wanted - 1) > 0.01


def test_what_examine_gives_is_kept_as_numbers(documents, tmp_path):
    """Tensors and numpy's numbers would not go into a checkpoint's state."""
    settings = replace(SMALL, evaluate_every=3, save_every=3)
    given = {"examine": lambda model: {"one": np.float32(1), "two": torch.tensor(2.0)}}
    run = finetuned(settings, documents, folder=tmp_path, **given)[0]
    assert run.evaluations[-1] == {"step": 7, "one": 1.0, "two": 2.0}
    assert finetuned(settings, documents, folder=tmp_path, **given)[0].evaluations == run.evaluations


def test_a_look_at_which_memory_ran_out_is_made_again(documents, tmp_path):
    calls = []

    def examine(model):
        calls.append(1)
        if len(calls) in (1, 3):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {"looks": len(calls)}

    settings = replace(SMALL, batch=4, evaluate_every=4)
    given = {"examine": examine, "say": lambda text: None, "folder": tmp_path}
    run = finetuned(settings, documents, **given)[0]
    assert [each["step"] for each in run.evaluations] == [4, 7] and len(calls) == 4
    assert len(run.losses) == 7 and len(run.said) == 2
    again = finetuned(settings, documents, **given)[0]
    assert again.said == run.said and json.loads((tmp_path / "run.json").read_text())["said"] == list(
        run.said
    )


def test_a_look_at_which_memory_ran_out_draws_what_it_draws(documents):
    """Random numbers are those of a run with memory enough: what a look draws, it draws at its step."""
    settings = replace(
        SMALL, batch=1, accumulation=4, evaluate_every=3, lora=replace(SMALL.lora, dropout=0.5)
    )
    calls = []

    def examine(model):
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {"drawn": torch.rand(7).sum()}

    given = {"held_out": documents[:5], "say": lambda text: None}
    narrow = finetuned(settings, documents, examine=examine, **given)[0]
    whole = finetuned(settings, documents, examine=examine, **given)[0]
    assert narrow.said and not whole.said
    assert narrow.losses == pytest.approx(whole.losses, rel=1e-5)
    assert [each["step"] for each in narrow.evaluations] == [each["step"] for each in whole.evaluations]


@pytest.mark.parametrize("how", ["cut off", "out of memory"])
def test_a_checkpoint_that_was_not_written_to_its_end_is_not_taken(how, documents, tmp_path, monkeypatch):
    settings = replace(SMALL, save_every=2, lora=replace(SMALL.lora, dropout=0.0))
    whole = finetuned(settings, documents)[0]
    write, calls = qlora.trainer.LoraTrainer._save_optimizer_and_scheduler, []

    def broken(self, place):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt if how == "cut off" else torch.OutOfMemoryError("CUDA out of memory.")
        write(self, place)

    monkeypatch.setattr(qlora.trainer.LoraTrainer, "_save_optimizer_and_scheduler", broken)
    given = {"folder": tmp_path, "say": lambda text: None}
    if how == "cut off":
        with pytest.raises(KeyboardInterrupt):
            finetuned(settings, documents, **given)
        assert not qlora.trainer.is_whole(tmp_path / "checkpoint-4")
    assert finetuned(settings, documents, **given)[0].losses == pytest.approx(whole.losses, rel=1e-5)


def test_a_run_that_goes_on_saves_as_often_as_it_is_asked_to(documents, tmp_path, monkeypatch):
    settings, make, saved = replace(SMALL, save_every=2), qlora.run.LoraTrainer, []

    def cut(*given, **named):
        trainer = make(*given, **named)
        trainer.add_callback(CutOff(at=3))
        return trainer

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(qlora.run, "LoraTrainer", cut)
        finetuned(settings, documents, folder=tmp_path)
    monkeypatch.setattr(
        make, "_save_checkpoint", lambda self, *given, **named: saved.append(self.state.global_step)
    )
    finetuned(replace(settings, save_every=3), documents, folder=tmp_path)
    assert saved[:2] == [3, 6]


def test_a_finished_run_that_is_called_again_stays_as_it_is(documents, tmp_path):
    """Also where the one checkpoint is that at which memory ran out."""
    model, tokenizer = qlora.load("course-lm", SMALL)
    Narrow(model, rows=2, after=3)
    quiet = {"say": lambda text: None, "progress": False}
    said = qlora.finetune(model, tokenizer, documents, SMALL, tmp_path, **quiet).said
    kept = (tmp_path / lora_model.TENSORS).read_bytes()
    model, tokenizer = qlora.load("course-lm", SMALL)
    model.forward = lambda **given: (_ for _ in ()).throw(RuntimeError("a step too many"))
    run = qlora.finetune(model, tokenizer, documents, SMALL, tmp_path, **quiet)
    assert len(run.losses) == 7 and run.said == said and len(said) == 1
    assert (tmp_path / lora_model.TENSORS).read_bytes() == kept


@pytest.mark.parametrize("library", ["peft", "coursepkg"])
def test_a_base_in_another_format_is_refused(library):
    model, _ = qlora.load_base("course-lm", replace(SMALL, library=library))
    other = replace(SMALL, library="coursepkg" if library == "peft" else "peft")
    same = replace(SMALL, library=library)
    for settings in (other, *(replace(same, weights=each) for each in ("nf4", "fp4+dq", "16 bit"))):
        with pytest.raises(ValueError, match=rf"q_proj is stored as nf4\+dq by {library}, and"):
            qlora.adapt(model, settings)
    qlora.adapt(model, same)


def test_examine_is_refused_where_a_model_is_sharded(documents, monkeypatch):
    model, tokenizer = qlora.load("course-lm", SMALL)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="examine is asked in one"):
        qlora.finetune(model, tokenizer, documents, SMALL, examine=lambda model: {})


def test_what_is_held_out_is_looked_at_in_the_end_in_any_case(documents):
    run = finetuned(SMALL, documents, held_out=documents[:8])[0]
    assert [each["step"] for each in run.evaluations] == [7]


def test_full_finetuning_trains_every_weight(documents):
    settings = replace(SMALL, lora=None, weights="16 bit", rate=1e-4, token_rate=None)
    before = coursepkg.load_model(dtype=torch.float32)[0].state_dict()
    after = finetuned(settings, documents)[1].state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)


# Memory


class Narrow:
    """A device that takes so many rows (or tokens a row) at once; from a call on."""

    def __init__(self, model, rows, tokens=10_000, after=0):
        self.forward, self.rows, self.tokens, self.calls, self.after = model.forward, rows, tokens, 0, after
        model.forward = self

    def __call__(self, input_ids=None, **given):
        self.calls += 1
        if self.calls > self.after and (len(input_ids) > self.rows or input_ids.shape[1] > self.tokens):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return self.forward(input_ids=input_ids, **given)


@pytest.mark.parametrize("library", ["peft", "coursepkg"])
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("half", [None, torch.bfloat16], ids=["fp32", "bf16"])
def test_out_of_memory_halves_the_batch_and_loses_nothing(library, after, half, documents, monkeypatch):
    settings = replace(SMALL, library=library, lora=replace(SMALL.lora, dropout=0.0))
    if half is not None:
        in_16_bits(monkeypatch, half)
    whole = finetuned(settings, documents)[0].losses
    model, tokenizer = qlora.load("course-lm", settings)
    Narrow(model.base_model.model if library == "peft" else model, rows=2, after=after)
    said = []
    run = qlora.finetune(model, tokenizer, documents, settings, say=said.append, progress=False)
    assert (run.settings.batch, run.settings.accumulation) == (2, 2)
    at = f"step {after}" if after else "the beginning"
    assert said == [
        f"memory ran out (CUDA out of memory. Tried to allocate 20.00 MiB.); on from {at} with batches of 2, 2 to a step"
    ]
    assert run.losses == pytest.approx(whole, rel=1e-5 if half is None else 0.01) and len(whole) == 7


@pytest.mark.parametrize("library", ["peft", "coursepkg"])
def test_each_trainer_of_a_model_computes_in_16_bits(library, documents, monkeypatch):
    """Also after memory ran out, and in a second run."""
    in_16_bits(monkeypatch, torch.bfloat16)
    settings, seen = replace(SMALL, library=library), []
    model, tokenizer = qlora.load("course-lm", settings)
    inner = model.base_model.model if library == "peft" else model
    Narrow(inner, rows=2, after=2)
    head = inner.get_output_embeddings()
    head.register_forward_hook(
        lambda *given: seen.append(torch.is_autocast_enabled("cpu")) if model.training else None
    )
    for _ in range(2):
        qlora.finetune(model, tokenizer, documents, settings, say=lambda text: None, progress=False)
    assert len(seen) > 20 and all(seen)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("whatever"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED."), False),
        (RuntimeError("The size of tensor a (3) must match"), False),
    ],
)
def test_a_lack_of_memory_is_known_by_its_words(error, is_one):
    assert qlora.run.is_out_of_memory(error) == is_one


def test_a_checkpoint_is_never_written_over_when_memory_runs_out(documents, tmp_path):
    """Here before the first step of a run that goes on: the optimizer has not been filled yet."""
    settings = replace(SMALL, save_every=2)
    finetuned(settings, documents, folder=tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    model, tokenizer = qlora.load("course-lm", settings)
    trainer = qlora.run.LoraTrainer(model, settings, tmp_path, qlora.encode(tokenizer, documents, 64))
    trainer.state.global_step = 6
    assert trainer.keep() is None
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept


def test_memory_that_runs_out_while_weights_change_begins_anew(documents, monkeypatch):
    settings = replace(SMALL, lora=replace(SMALL.lora, dropout=0.0))
    whole = finetuned(settings, documents)[0].losses
    step, calls = torch.optim.AdamW.step, []

    def half_a_step(self, *given, **named):
        calls.append(1)
        step(self, *given, **named)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.optim.AdamW, "step", half_a_step)
    run = finetuned(settings, documents, say=lambda text: None)[0]
    assert "on from the beginning" in run.said[0]
    assert run.losses == pytest.approx(whole, rel=1e-5)


def test_examples_that_are_cut_off_keep_their_order_and_something_to_predict(documents):
    """A run that steps down to shorter rows goes on where it was, whatever is longer than that."""
    long = replace(SMALL, batch=1, checkpointing=True, length=256, packing=True)
    question = Document("word " * 90, "yes")
    model, tokenizer = qlora.load("course-lm", long)
    rows = examples.cut(qlora.encode(tokenizer, [question, *documents], 256), 128)
    assert all(any(label != examples.IGNORED for label in row["labels"][1:]) for row in rows)
    assert max(len(row["input_ids"]) for row in rows) == 128
    assert (
        rows[0]["labels"][-1] == tokenizer.eos_token_id and rows[0]["input_ids"][0] != tokenizer.bos_token_id
    )
    packed = qlora.pack(qlora.encode(tokenizer, [question, *documents], 256), 256)
    Narrow(model, rows=1, tokens=128, after=1)
    run = qlora.finetune(
        model, tokenizer, [*documents, question], long, say=lambda text: None, progress=False
    )
    assert run.settings.length == 128 and "examples of at most 128 tokens" in run.said[0]
    assert len(run.losses) == len(packed)


def test_where_a_model_is_too_large_the_next_smaller_one_begins_anew(documents, tmp_path, monkeypatch):
    folders = [str(tmp_path / name) for name in ("large", "small")]
    for folder in folders:
        model, tokenizer = coursepkg.load_model(dtype=torch.float32)
        model.save_pretrained(folder), tokenizer.save_pretrained(folder)
    load = qlora.run.load

    def narrow(name, settings):
        model, tokenizer = load(name, settings)
        if name == folders[0]:
            Narrow(model, rows=0)
        return model, tokenizer

    monkeypatch.setattr(qlora.run, "load", narrow)
    said = []
    _, _, choice, run = qlora.finetune_largest(
        documents, SMALL, folders, tmp_path / "out", free=memory.GiB, say=said.append, progress=False
    )
    assert choice.model == folders[1] and len(run.losses) == 7
    assert f"memory is not enough for {folders[0]}; on with a smaller model, from the beginning" in said
    assert (tmp_path / "out" / "small" / lora_model.TENSORS).exists()
    with pytest.raises(qlora.OutOfMemory):
        monkeypatch.setattr(qlora.run, "load", lambda *given: _narrowed(load, *given))
        qlora.finetune_largest(documents, SMALL, [], free=1, say=said.append, progress=False)


def _narrowed(load, *given):
    model, tokenizer = load(*given)
    Narrow(model, rows=0)
    return model, tokenizer


def test_what_cannot_be_sharded_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="FSDP shards bitsandbytes' layers in bf16 only"):
        qlora.load("course-lm", SMALL)


def test_an_adapter_of_any_name_is_trained_and_saved(documents, tmp_path):
    model, tokenizer = coursepkg.load_model(dtype=torch.float32)
    lora_model.add(model, SMALL.lora, "law")
    settings = replace(SMALL, weights="16 bit", save_every=5)
    qlora.finetune(model, tokenizer, documents, settings, tmp_path, progress=False)
    other = coursepkg.load_model(dtype=torch.float32)[0]
    lora_model.load(other, tmp_path)
    assert torch.equal(evaluated(model), evaluated(other))
    lora_model.add(model, LoraConfig(rank=2), "more")
    lora_model.activate(model, "law", "more")
    with pytest.raises(ValueError, match="one adapter is trained at a time, and law, more are active"):
        qlora.finetune(model, tokenizer, documents, settings, progress=False)


def test_where_nothing_is_left_to_give_up_it_says_so(documents):
    model, tokenizer = qlora.load("course-lm", SMALL)
    Narrow(model, rows=0)
    said = []
    with pytest.raises(qlora.OutOfMemory, match="even with one example of 64 tokens at a time"):
        qlora.finetune(model, tokenizer, documents, SMALL, say=said.append, progress=False)
    assert [text.rpartition("with ")[2] for text in said] == [
        "batches of 2, 2 to a step",
        "batches of 1, 4 to a step",
        "activations computed again rather than kept",
    ]


def test_other_errors_are_not_taken_for_a_lack_of_memory(documents):
    model, tokenizer = qlora.load("course-lm", SMALL)
    model.forward = lambda **given: (_ for _ in ()).throw(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        qlora.finetune(model, tokenizer, documents, SMALL, progress=False)


def test_what_is_given_up_first_and_last():
    given, steps = replace(SMALL, batch=6, length=512), []
    while (lowered := qlora.lower(given)) is not None:
        given = lowered[0]
        steps.append((given.batch, given.accumulation, given.checkpointing, given.length))
    assert steps == [
        (3, 2, False, 512),
        (1, 6, False, 512),
        (1, 6, True, 512),
        (1, 6, True, 256),
        (1, 6, True, 128),
    ]


def test_the_largest_model_that_fits_is_chosen():
    """On the devices of lecture 01, and never beyond nine tenths of what is free."""
    hub = SimpleNamespace(reachable=True, reason="")
    settings = Settings(length=512, batch=8)
    order = [qlora.ladder.COURSE_LM, *reversed(qlora.MODELS)]
    chosen = []
    for gib in (0.1, 2, 4, 6, 8, 12, 15, 22, 39, 79):
        choice = qlora.choose(settings, free=int(gib * memory.GiB), hub=hub)
        chosen.append(order.index(choice.model))
        assert choice.budget.total <= 0.9 * gib * memory.GiB or choice.model == qlora.ladder.COURSE_LM
        if choice.model != qlora.ladder.COURSE_LM:
            assert choice.settings.total == 8 and choice.settings.length == 512
    assert chosen == sorted(chosen) and chosen[0] == 0 and chosen[-1] == len(qlora.MODELS)
    away = SimpleNamespace(reachable=False, reason="no answer")
    choice = qlora.choose(settings, free=80 * memory.GiB, hub=away)
    assert choice.model == "course-lm" and "does not answer (no answer)" in choice.reason


def test_without_a_gpu_it_is_the_course_lm(monkeypatch):
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cpu"))
    choice = qlora.choose()
    assert (choice.model, choice.settings) == ("course-lm", qlora.COURSE)


@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "settings",
    [
        SMALL,
        replace(SMALL, library="peft"),
        replace(SMALL, weights="16 bit"),
        replace(SMALL, checkpointing=True),
        replace(SMALL, weights="16 bit", lora=None),
    ],
    ids=["ours", "peft", "16 bit", "checkpointing", "full"],
)
def test_the_budget_is_what_a_step_takes(settings, half, documents, monkeypatch):
    """Weights, adapters, gradients and states to the byte, but for small buffers (4 KB), and for the tables that bitsandbytes keeps with each
    layer, which the budget counts and our layers share; activations within an eighth, which on a model of 5 million weights is what
    attention's inner tensors are. With the dtypes of a GPU, too."""
    if half is not None:
        in_16_bits(monkeypatch, half)
    if settings.lora is not None:
        settings = replace(settings, lora=replace(settings.lora, dropout=0.0))
    tables = 42 * (1024 + 64) if (settings.library, settings.weights) == ("coursepkg", "nf4+dq") else 0
    model, tokenizer = qlora.load("course-lm", settings)
    run = qlora.finetune(model, tokenizer, documents, settings, progress=False)
    rows = qlora.encode(tokenizer, documents[-4:], 64)
    found = qlora.measured(model, run.trainer.optimizer, rows)
    told = qlora.predicted("course-lm", settings, tokens=max(len(row["input_ids"]) for row in rows))
    names = {part.name for part in told.parts} - {"weights", "activations"}
    assert {"gradients", "optimizer"} <= names
    for name in names:
        assert abs(told[name] - found[name]) <= 4096, name
    weights = found["weights"] + (found["adapters"] if settings.lora is None else 0)
    assert abs(told["weights"] - tables - weights) <= 4096
    assert told["activations"] == pytest.approx(found["activations"], rel=1 / 8)


# Settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": "nf5"}, "no weights 'nf5'; there are 16 bit, nf4"),
        ({"library": "trl"}, "no library 'trl'"),
        ({"library": "peft", "weights": "int4"}, "bitsandbytes stores no int4"),
        ({"lora": None, "weights": "nf4"}, "full finetuning takes weights='16 bit'"),
        ({"batch": 0}, "batch must be a whole number from 1 on, not 0"),
        ({"rate": 0.0}, "rate must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **given)


def test_pages_are_for_cuda_alone():
    assert runtime.optimizer(torch.device("cuda")).name == "paged_adamw_8bit"
    assert runtime.optimizer(torch.device("cpu")).name == "adamw_torch"


def test_no_run_goes_on_from_another_ones_checkpoints(documents, tmp_path):
    """Also where every tensor would fit; and nothing in the folder changes."""
    settings = replace(SMALL, save_every=2)
    finetuned(settings, documents, folder=tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for other, some, what in (
        (replace(settings, seed=1), documents, "its seed is 0, not 1"),
        (replace(settings, batch=2), documents, "its examples a step is 4, not 2"),
        (settings, documents[1:], "its examples is 27, sha256 .*, not 26"),
    ):
        with pytest.raises(qlora.OtherRun, match=what):
            finetuned(other, some, folder=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept
    same = replace(settings, batch=2, accumulation=2, checkpointing=True, save_every=3)
    assert len(finetuned(same, documents, folder=tmp_path)[0].losses) == 7
    for broken in ("[]", "{}", "no json", None):
        (tmp_path / "run.json").write_text(broken or "", encoding="utf-8")
        if broken is None:
            (tmp_path / "run.json").unlink()
        with pytest.raises(qlora.OtherRun, match="of which run.json does not tell"):
            finetuned(settings, documents, folder=tmp_path)


def test_a_checkpoint_that_was_swapped_is_refused(documents, tmp_path):
    settings = replace(SMALL, save_every=2)
    other = replace(settings, lora=replace(SMALL.lora, rank=2))
    for each, place in ((settings, "one"), (other, "two")):
        finetuned(each, documents, folder=tmp_path / place)
    (tmp_path / "two" / "run.json").write_bytes((tmp_path / "one" / "run.json").read_bytes())
    with pytest.raises(lora_model.NotAnAdapter, match="of another rank"):
        finetuned(settings, documents, folder=tmp_path / "two")


def test_tokens_that_training_never_read_look_alike(tokenizer, documents):
    """Rows that were never read point the same way to 4 digits; those that were, differ by 25 degrees and more from any other."""
    model = coursepkg.load_model(dtype=torch.float32)[0]
    found = set(token_rows.alike(model, range(len(model.get_input_embeddings().weight))))
    read = {
        token
        for rows in training.batches(tokenizer, training.Recipe(steps=64))
        for token in rows.flatten().tolist()
    }
    assert not found & read
    handbook = {token for row in qlora.encode(tokenizer, documents, 256) for token in row["input_ids"]}
    assert len(found & handbook) > len(handbook) / 3


# Traps of bitsandbytes on a CPU


def loaded(bits, monkeypatch=None):
    """The course LM as bitsandbytes stores it, mended or, with a monkeypatch, not."""
    from transformers import BitsAndBytesConfig

    kind = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"} if bits == 4 else {"load_in_8bit": True}
    return coursepkg.load_model(dtype=torch.float32, quantization_config=BitsAndBytesConfig(**kind))


def evaluated(model):
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(40)[None]).logits


needs_bf16 = pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16", False),
    reason="bitsandbytes packs 4-bit weights anew only on a CPU with AVX512-BF16",
)


@needs_bf16
def test_after_an_evaluation_gradients_arrive_and_merging_is_right(documents, monkeypatch):
    """The first trap. Without `mend` a run is refused for want of gradients, and the weight that merging reads is another one."""
    settings = replace(SMALL, library="peft", weights="nf4", lora=LoraConfig(rank=4))
    model, tokenizer = loaded(4)
    weight = coursepkg.load_model(dtype=torch.float32)[0].model.layers[0].self_attn.q_proj.weight

    def error(layer):
        from bitsandbytes.functional import dequantize_4bit

        return (
            (dequantize_4bit(layer.weight.data, layer.weight.quant_state) - weight).norm() / weight.norm()
        ).item()

    assert qlora.mend(model) == ["42 4-bit layers no longer packed for evaluation"]
    evaluated(model)
    assert error(model.model.layers[0].self_attn.q_proj) < 0.1
    model = qlora.base.adapt(model, settings)
    evaluated(model)
    qlora.finetune(model, tokenizer, documents, settings, progress=False)

    monkeypatch.setattr(qlora.base, "mend", lambda model: [])
    model, tokenizer = loaded(4)
    evaluated(model)
    assert error(model.model.layers[0].self_attn.q_proj) > 0.5
    model = qlora.base.adapt(model, settings)
    with pytest.raises(NoGradient, match="no gradient arrives at 30 adapters, .*layers.0.self_attn.q_proj"):
        qlora.finetune(model, tokenizer, documents, settings, progress=False)


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="bitsandbytes reads rows back wrongly only on a CPU with AVX-512",
)
def test_weights_that_bitsandbytes_reads_back_wrongly_are_refused(tmp_path, tokenizer):
    """A fourth trap: rows of 96, which are not whole blocks of 64, come back with more than twice the error. Ours read them rightly."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weight = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    theirs = dequantize_4bit(*quantize_4bit(weight, quant_type="nf4"))
    kind = qlora.WEIGHTS["nf4"]
    ours = kind.dequantize(kind.quantize(weight), weight.shape, torch.float32)
    assert (ours - weight).norm() < 0.1 * weight.norm() < 0.2 * weight.norm() < (theirs - weight).norm()
    assert [qlora.traps.reads_back(width, 64, "nf4") for width in (72, 96, 128)] == [True, False, True]
    trials.small_model("llama", "fp32", hidden_size=96, vocab_size=2048).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    settings = replace(SMALL, lora=LoraConfig(rank=2), weights="nf4")
    with pytest.raises(ValueError, match="layers.0.self_attn.q_proj: its rows are not whole blocks"):
        qlora.load(tmp_path, replace(settings, library="peft"))
    qlora.load(tmp_path, settings)


def test_8_bit_layers_compute_in_training_what_they_compute_afterwards():
    """The second trap: without `mend` inputs are not rounded in training, and the threshold is ignored."""
    model, _ = loaded(8)
    wanted = evaluated(model)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        assert not torch.equal(model.train()(input_ids=ids).logits, wanted), (
            "bitsandbytes has mended it itself"
        )
        assert qlora.mend(model) == ["42 8-bit layers kept in evaluation mode"] and qlora.mend(model) == []
        assert torch.equal(model.train()(input_ids=ids).logits, wanted)


def test_no_paged_optimizer_runs_unpaged_without_being_asked_for(documents, caplog):
    """The third trap: on a CPU bitsandbytes' paged optimizers keep their states as others do, and warn."""
    if runtime.device().type != "cpu":
        pytest.skip("pages are real on this device")
    settings = replace(SMALL, library="peft", lora=LoraConfig(rank=4))
    with caplog.at_level("WARNING"):
        run = finetuned(settings, documents)[0]
    assert type(run.trainer.optimizer.optimizer).__name__ == "AdamW"
    assert "aged optimizer" not in caplog.text
    with pytest.raises(ValueError, match="paged_adamw_8bit pages between a CUDA GPU and its host"):
        finetuned(replace(settings, optimizer="paged_adamw_8bit"), documents)


def test_paged_optimizers_page_large_states_alone(monkeypatch):
    """Which, the budgets know; on meta nothing is allocated."""
    from bitsandbytes.optim import PagedAdamW8bit, optimizer

    asked = []

    def get_paged(*shape, **given):
        asked.append(shape)
        return torch.empty(shape, device="meta")

    monkeypatch.setattr(optimizer.F, "get_paged", get_paged)
    monkeypatch.setattr(optimizer.F, "fill", lambda *given: None)
    made = PagedAdamW8bit([torch.nn.Parameter(torch.zeros(1))])
    for size in (memory.PAGED_FROM - 1, memory.PAGED_FROM):
        made.get_state_buffer(torch.empty(size, device="meta"), torch.uint8)
    assert asked == [(memory.PAGED_FROM,)]


# Merging


@pytest.fixture(scope="module")
def trained(documents, tmp_path_factory):
    """An adapter that was trained beside NF4 weights, and its model."""
    folder = tmp_path_factory.mktemp("adapter")
    settings = replace(SMALL, weights="nf4", rate=1e-2, lora=replace(SMALL.lora, rank=16))
    return folder, finetuned(settings, documents, folder=folder)[1]


def original():
    return coursepkg.load_model(dtype=torch.float32)[0]


def test_ways_of_merging_are_what_they_say(trained):
    folder, model = trained
    kind = qlora.WEIGHTS["nf4"]
    name = "model.layers.2.mlp.up_proj"
    layer = model.get_submodule(name)
    delta, base = layer.delta("default"), original().get_submodule(name).weight
    rounded = kind.dequantize(kind.quantize(base), base.shape, torch.float32)

    def q(weight):
        return kind.dequantize(kind.quantize(weight), weight.shape, torch.float32)

    wanted = {
        "into the dequantized": rounded + delta,
        "into the original": base + delta,
        "quantized once": q(base + delta),
        "quantized twice": q(rounded + delta),
    }
    for way in qlora.WAYS:
        made = qlora.merged(original, folder, kind, way)
        if way == "beside":
            assert torch.equal(evaluated(made), evaluated(model))
            continue
        found = made.get_submodule(name)
        weight = found.weight if isinstance(found, torch.nn.Linear) else found.dequantize()
        assert torch.equal(weight, wanted[way]), way
    near = evaluated(qlora.merged(original, folder, kind, "into the dequantized"))
    assert torch.allclose(near, evaluated(model), atol=1e-4)
    with pytest.raises(ValueError, match="no way 'twice'"):
        qlora.merged(original, folder, kind, "twice")


def test_peft_quantizes_twice(trained):
    """What merge_and_unload does with a base of bitsandbytes: read back, added, quantized again."""
    from bitsandbytes.functional import dequantize_4bit

    folder, _ = trained
    base, _ = loaded(4)
    qlora.mend(base)
    theirs = PeftModel.from_pretrained(base, folder).merge_and_unload()
    ours = qlora.merged(original, folder, qlora.WEIGHTS["nf4"], "quantized twice")
    layer = theirs.model.layers[2].mlp.up_proj
    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    assert torch.equal(weight, ours.model.layers[2].mlp.up_proj.dequantize())
    assert json.loads((folder / lora_model.CONFIG).read_text(encoding="utf-8"))["r"] == 16
