# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 11 · QLoRA: the whole run
#
# [Open in Colab]({{ colab }}) · [Open in Binder]({{ binder }})
#
# **At the end you can** say beforehand how many bytes a finetuning run takes, and measure it; prepare examples so that only answers are learnt and packed ones do not see one another; finetune a model in 4 bits, with bitsandbytes and peft and with this course's own layers;
# judge what it learnt and what it forgot; and merge the result without ending up with another model.
#
# **It builds on** lectures 01 (bytes), 05 (NF4, double quantization) and 10 (LoRA). **It takes** 80 minutes. The same notebook runs on a laptop's CPU, where it teaches the course LM in a minute, and on a GPU, where it takes the largest model that fits.

# %% tags=["nbval-ignore-output"]
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

import torch
from coursepkg import (
    courselm,
    evaluation,
    lora_model,
    memory,
    qlora,
    results,
    show,
    token_rows,
)
from coursepkg.evaluation import Exam

coursepkg.hello()

# %% [markdown]
# ## 1. What fits
#
# QLoRA is LoRA beside a base in 4 bits (Dettmers et al. 2023). Where do its bytes go? Llama-2-7B, one sequence of 512 tokens, parts as lecture 01 counts them:

# %%
ways = {
    "all weights, bf16": memory.full_finetuning("llama-2-7b", 512),
    "LoRA, bf16": memory.lora("llama-2-7b", 512),
    "QLoRA, NF4 + DQ": memory.qlora("llama-2-7b", 512),
}
parts = ("weights", "adapters", "gradients", "optimizer", "activations")
print(f"{'GB':<20}" + "".join(f"{part:>13}" for part in parts) + f"{'total':>9}")
for name, budget in ways.items():
    found = {part.name: part.n_bytes for part in budget.parts}
    print(
        f"{name:<20}"
        + "".join(f"{found.get(part, 0) / 1e9:>13.2f}" for part in parts)
        + f"{budget.total / 1e9:>9.1f}"
    )

# %% [markdown]
# LoRA takes away nearly all gradients and optimizer states, QLoRA also three quarters of most of the weights. (Not of all: embedding and head stay, and peft casts them up to fp32 for training, and with them what runs through the layers, the residual stream: so QLoRA's activations are larger than LoRA's. Its optimizer states are smaller because they are kept in 8 bits.) Beside QLoRA's weights activations are the largest part, and the only one that grows with the batch and the length; checkpointing (lecture 01) is on in all rows.
#
# So the question "which model can I finetune here?" has an answer before anything is downloaded. `qlora.choose` goes down a ladder: the largest model first; if it does not fit, smaller batches with more of them to a step, then a smaller model. A tenth of the memory is left free, for what no budget knows. On some devices it would take:

# %%
from dataclasses import replace
from types import SimpleNamespace

reachable = SimpleNamespace(reachable=True, reason="")
paged = replace(qlora.HUB, optimizer="paged_adamw_8bit")
for name in ("RTX 4060", "RTX 3060", "T4", "L4", "A100 40GB", "H100 80GB"):
    free = memory.device(name).usable
    choice = qlora.choose(paged, free=free, hub=reachable, dtype=torch.bfloat16)
    given = choice.settings
    print(
        f"{name:<11} {choice.model:<18} batch {given.batch:>2} × {given.accumulation:<3} {memory.in_gb(choice.budget.total, 1):>8} of {memory.in_gb(memory.device(name).usable, 1)}"
    )

# %% [markdown]
# (On a GPU, trainers run the model under *autocast*: torch computes each product in 16 bits, whatever its inputs are in. Each layer then keeps a 16-bit copy of what it reads, and the head one of its weight. The budgets count these copies: for LoRA and QLoRA on small models, in bf16 on a CPU, what is kept for the backward pass is within 3 % of the budget, and the highest moment within 6 %.)
#
# ### What if?
#
# Choose QLoRA, a model and a device. What does twice the length cost, what twice the batch? What without checkpointing? From where on is it not the weights that decide?

# %%
show.Calculator()

# %%
show.show(
    show.Calculator().figure(),
    alt="The calculator's first state: stacked bars for Llama-2-7B at 2,048 tokens. "
    "Inference in NF4 takes 5.1 GB, QLoRA 6.8 GB (emphasised), LoRA 15.5 GB, full "
    "finetuning 82 GB, with a line for each device's memory.",
)

# %% [markdown]
# And here, now:

# %%
choice = qlora.choose()
settings, small = choice.settings, choice.model == "course-lm"
print(choice.model, "because:", choice.reason)

# %% [markdown]
# Should memory run out all the same, the run goes on from its last whole step with the next rung of the ladder: a smaller batch and more of them to a step, which computes the same steps; then activations computed again; then shorter examples. It says so. No finished step is lost; only the last rung cuts off examples. (The loss of a step is the mean over its predicted tokens, each token alike, not each batch.)
#
# ## 2. What is learnt
#
# The handbook of a medical practice, as questions with answers. A question is put in the model's chat format. **Only the answer and the mark that ends it are predicted**: labels of −100 are skipped by the loss. The question is given anyway, and learning to write questions would cost capacity.

# %%
model, tokenizer = qlora.load_base(choice.model, settings)
questions = [
    d for epoch in courselm.lessons("medical", epochs=20) for d in epoch if d.answer
]
rows = qlora.encode(tokenizer, questions, settings.length)
row = rows[0]
print(questions[0].text, "|", questions[0].answer)
for token, label in zip(row["input_ids"], row["labels"], strict=True):
    print(repr(tokenizer.decode([token])), end=" " if label == -100 else "* ")
print("\n(* is predicted)")

# %% [markdown]
# Rows of one batch have to be equally long. What is missing is filled with padding, which is computed and thrown away. **Packing** puts several examples into one row instead. That is right only if each sees itself alone: its positions begin at 0, from which transformers makes a mask, block by block.

# %%
some = rows[:96]
lengths = [len(row["input_ids"]) for row in some]
batches = [lengths[at : at + 16] for at in range(0, 96, 16)]
padding = 1 - sum(lengths) / sum(16 * max(batch) for batch in batches)
packed = qlora.pack(some, settings.length)
room = 1 - sum(lengths) / (settings.length * len(packed))
print(
    f"{len(some)} questions of {min(lengths)} to {max(lengths)} tokens: {padding:.0%} padding in batches of 16, {room:.0%} in {len(packed)} packed rows of {settings.length}"
)
print("positions of a packed row:", packed[0]["position_ids"][:40], "…")


# %%
def total_loss(model, rows):
    """Σ over predicted tokens."""
    batch = {
        name: tensor.to(model.device) for name, tensor in qlora.collate(rows).items()
    }
    with torch.no_grad():
        return model(**batch, use_cache=False, num_items_in_batch=1).loss.item()


apart = total_loss(model, some)
together = total_loss(model, packed)
mixed = total_loss(
    model, [{key: row[key] for key in ("input_ids", "labels")} for row in packed]
)
print(
    f"packed over padded: {together / apart:.4f};  packed without positions: {mixed / apart:.4f}"
)

# %% [markdown]
# The same loss, to rounding; without positions it is another loss, 3 % lower: each example also reads its neighbours, which it will not be given later. A fifth of the padded batches is padding here, so packing, which leaves 5 % empty, would compute a seventh fewer tokens (`Settings(packing=True)`). Below we do not pack, so that every step has sixteen questions whatever their length.
#
# Grouping examples of like length is another way to save padding. Take care: questions of like length are often questions of one kind, and steps of one kind may learn worse (here they did). `Settings(by_length=True)` is not the default.

# %%
show.question("qlora_mask")

# %% [markdown]
# ## 3. The base, frozen and in 4 bits
#
# Each Linear layer's weight is stored as NF4 codes and scales. For a product it is read back, and thrown away again. In the backward pass, too: the gradient has to go *through* the layer, to the adapters before it,
#
# $$ y = x\,\hat W^\top + s\,(x A^\top) B^\top, \qquad \frac{\partial L}{\partial x} = g\,\hat W + s\,(g B)\,A , $$
#
# but there is none *for* $\hat W$, which never changes. (So this is not quantization-aware training. Nothing learns to be rounded; the adapters learn beside weights that already are.)
#
# Before adapters are added: which tokens has the base hardly read (lecture 10)? Their rows are trained, too.

# %%
tokens = sorted({token for row in rows for token in row["input_ids"]})
alike = token_rows.alike(model, tokens) if small else ()
settings = replace(settings, lora=replace(settings.lora, tokens=alike))
print(
    f"{len(tokens)} tokens in the handbook, {len(alike)} of them look like others to the base"
)


# %%
def score(model, name, count=200):
    """The share of an exam's first questions that a model answers rightly, with its interval."""
    exam = Exam(name, courselm.exam(name).questions[:count])
    return evaluation.take(model, tokenizer, exam).accuracy


def said(interval, digits=0):
    """An interval in per cent."""
    return f"{interval:.{digits}%}".rjust(22)


bases = {"NF4 + DQ": model}
if small:  # a hub model in 16 bits may not fit beside itself
    bases = {"16 bits": coursepkg.load_model()[0], **bases}
print(f"{'exam, % right':<18}" + "".join(f"{name:>22}" for name in bases))
for name in ("medical", "encyclopedia"):
    found = [score(each, name) for each in bases.values()]
    print(f"{name:<18}" + "".join(map(said, found)))

# %% [markdown]
# Rounding cost the base nothing that 200 questions show. (`score` asks at most the first 200 of an exam; chance is 25 %.) Now the bytes. Predicted for a step of 16 questions:

# %%
settings_here = replace(settings, batch=16)
longest = max(lengths)
told = qlora.predicted(choice.model, settings_here, tokens=longest)
print(told.title.split("checkpoint, ")[-1], "(16 questions)")
for part in told.parts:
    print(f"  {part.name:<12}{part.n_bytes / 1e6:>9.2f} MB")

# %% [markdown]
# ## 4. The run
#
# First as practitioners run it: bitsandbytes stores the base, peft puts the adapters beside it, transformers' trainer trains. Then the same with this course's NF4 layers and LoRA. Same seed, same data, same order; 20 steps each.

# %%
import gc

curves = {}
for library in ("peft", "coursepkg"):
    model = bases = None  # one model at a time: the last one makes room
    gc.collect()
    given = replace(settings, library=library)
    model, tokenizer = qlora.load(choice.model, given)
    curves[library] = qlora.finetune(model, tokenizer, questions[:320], given).losses
apart = max(abs(a - b) for a, b in zip(*curves.values(), strict=True))
print(
    f"losses {curves['peft'][0]:.1f} … {curves['peft'][-1]:.1f}; the two are apart by less than 0.001: {apart < 1e-3}"
)

# %%
named = {"bitsandbytes and peft": curves["peft"], "coursepkg": curves["coursepkg"]}
show.show(
    show.lora_plots.losses(named),
    alt="Left: loss over 20 steps, from 16 to 3, one curve on the other. Right: how far they are apart, zero or nearly so at each step.",
)

# %% [markdown]
# One curve on the other. That is the point of writing your own: if you know exactly what each library computes, your hundred lines and their thousands agree, here to less than a thousandth in each loss.
#
# Now all of it, 120 steps, with a look at what was held out on the way: the exam asks in wordings that training never uses.


# %%
def examine(model):
    """What the run looks at on the way."""
    return {"exam": score(model, "medical", 96).value}


# %% tags=["nbval-ignore-output"]
settings = replace(settings, library="coursepkg", evaluate_every=40)
model = None
gc.collect()
model, tokenizer = qlora.load(choice.model, settings)
run = qlora.finetune(model, tokenizer, questions, settings, examine=examine)
for look in run.evaluations:
    print(
        f"step {look['step']:>4}   loss {run.losses[look['step'] - 1]:.2f}   exam {look['exam']:.0%}"
    )

# %% tags=["nbval-ignore-output"]
after = score(model, "medical")
print(f"medical exam, 4-bit base with adapters: {after:.0%}")
if small:
    assert after.value >= 0.9

# %% [markdown]
# From chance to more than nine in ten, with Linear layers frozen in 4 bits (and the rows of 134 tokens trained: without them it would still be at chance, lecture 10). How many bytes did it take?

# %% tags=["nbval-ignore-output"]
batch = sorted(some, key=lambda row: -len(row["input_ids"]))[:16]
found = qlora.measured(model, run.trainer.optimizer, batch)
told = qlora.predicted(choice.model, settings_here, tokens=len(batch[0]["input_ids"]))
print(f"{'MB':<14}{'predicted':>10}{'measured':>10}")
for part in told.parts:
    print(f"{part.name:<14}{part.n_bytes / 1e6:>10.1f}{found[part.name] / 1e6:>10.1f}")
print(f"{'total':<14}{told.total / 1e6:>10.1f}{found.total / 1e6:>10.1f}")

# %% [markdown]
# Weights, adapters, gradients and states are as predicted to a tenth of a megabyte. (Weights are 1 % less: the budget counts two tables for each layer, the 16 levels and 256 values for the scales, as bitsandbytes keeps them, and our layers share theirs.) Activations take 7 % more than predicted, and for such things a tenth of a device is left free. On this model they are six sevenths of all: first what six layers keep of 16 questions, then logits over the whole vocabulary. For a 7B and one sequence the weights lead (section 1).
#
# **If a run is cut off**, call it again with the same `folder`: it goes on from the last checkpoint, which holds adapters, optimizer, schedule and the random generators' state, and ends where it would have ended. A test says so, loss for loss. **Check that gradients arrive**: the run does, in its first step, and stops if some adapter's B gets none. (A's are zero in the first step: lecture 10.) It is not an idle check.
# On CPUs with AVX512-BF16, a base in 4 bits of bitsandbytes 0.50 that was *evaluated before training* packs its weights for a kernel without gradients. Training then goes on without an error, and most adapters never learn. (`qlora.mend`, which `load` calls, undoes it.) And on CPUs with AVX-512, bitsandbytes 0.50 dequantizes a weight wrongly whose rows are a multiple of 16 long but not of 64: the rounding error more than doubles, without a warning. `load` tries that out, and refuses such layers. (Tests of both are in `tests/test_qlora.py`.)
#
# ## 5. What it learnt, and what it forgot

# %% tags=["nbval-ignore-output"]
print(f"{'exam':<14}{'base, 4 bits':>22}{'with adapters':>22}")
for name in (*courselm.CLIENTS, "encyclopedia"):
    with lora_model.disabled(model):
        before = score(model, name, 96)
    print(f"{name:<14}{said(before)}{said(score(model, name, 96))}")

# %% [markdown]
# It knows its client, and guesses about the two others as before: nothing carried over. And the encyclopedia is a few points lower, too little to tell with 96 questions; the next table can.
#
# Is that the price of 4 bits? One run cannot say. So: full finetuning, once of everything and once of all layers but only those rows of the embedding that LoRA trains, too; LoRA on the unrounded base; and QLoRA with six ways to store it. Five seeds each, for every method the same questions in the same order, 180 steps (30 epochs; above it was 20; `python -m benchmarks.finetuning`). Two rates were looked for, of layers and of embedding rows, with five pairs each for full finetuning and LoRA, one seed, on this same exam (`table="rates"`): full has 0.0001 and 0.01, LoRA and QLoRA 0.003 and 0.03, "rows only" 0.0001 and 0.03. Several pairs of each score alike within the error, four of full's and three of LoRA's, and keep between 28 and 77 % and between 89 and 94 % of the encyclopedia; the exam alone did not choose these. Values are means over seeds, intervals cover the questions. (Each fact is asked in two wordings, and the intervals take them for two questions.)

# %%
from coursepkg import intervals

measured = results.load("finetuning")
print(measured)
compared = [
    row
    for row in measured.rows
    if row["table"] == "methods" and "no rows" not in row["name"]
]
names = list(dict.fromkeys(row["name"] for row in compared))
right = {
    name: torch.tensor(
        [row["right"] for row in compared if row["name"] == name], dtype=torch.float64
    )
    for name in names
}


# %%
def spread(name, exam):
    """The mean over seeds of an exam's score; the interval is that of one run's questions."""
    found = (
        torch.tensor([row[exam] for row in compared if row["name"] == name])
        .mean(0)
        .tolist()
    )
    return intervals.Interval(*found)


# %%
print(
    f"{'':<16}{'medical exam':>22}{'seeds':>16}{'more than LoRA, points':>28}{'encyclopedia':>22}"
)
base = courselm.record()["scores"]
base = [intervals.Interval(*base[exam]["all"]) for exam in ("medical", "encyclopedia")]
print(f"{'the base':<16}{said(base[0], 1)}{'':>44}{said(base[1], 1)}")
for name in names:
    mean = intervals.mean(right[name].mean(0).numpy())
    more = intervals.difference(
        right[name].mean(0).numpy(), right["LoRA"].mean(0).numpy()
    )
    seeds = right[name].mean(1)
    gain = f"{100 * more.value:+.1f} [{100 * more.low:+.1f}, {100 * more.high:+.1f}]"
    print(
        f"{name:<16}{said(mean, 1)}{f'{seeds.min():.0%} to {seeds.max():.0%}':>16}{gain:>28}{said(spread(name, 'encyclopedia'), 1)}"
    )

# %%
scores = {
    name: (intervals.mean(right[name].mean(0).numpy()), spread(name, "encyclopedia"))
    for name in names
}
show.show(
    show.lora_plots.learnt(scores, ("medical exam, learnt", "encyclopedia, kept")),
    alt="Scores with intervals. Medical exam: full 93 %, full with rows only, LoRA and six kinds of QLoRA between 94 and 96 %, overlapping. Encyclopedia kept: full 71 %, full with rows only 94 %, all others between 89 and 91 %.",
)

# %% [markdown]
# **Storing the base in 4 bits cost nothing that this can show.** No kind of QLoRA is apart from LoRA: each interval of a difference holds 0. For these five runs they bound it, too: NF4 with double quantization is worse by half a point at most. But the intervals cover questions, not the throw of the seed (lecture 05). With that, and the formats beside one another:

# %%
pairs = [
    ("nf4", "fp4"),
    ("nf4", "int4"),
    ("nf4+dq", "fp4+dq"),
    ("nf4+dq", "int4+dq"),
    ("nf4", "nf4+dq"),
]
for one, other in pairs:
    gap = intervals.difference(
        *(right[f"QLoRA, {kind}"].mean(0).numpy() for kind in (one, other))
    )
    print(
        f"{one:<7} more than {other:<8} {100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}] points"
    )

# %%
for one, other in (("nf4+dq", "LoRA"), ("nf4+dq", "QLoRA, int4+dq")):
    gaps = 100 * (right[f"QLoRA, {one}"] - right[other]).mean(1)
    half = 2.776 * gaps.std() / 5**0.5  # Student's t with 4 degrees of freedom
    each = ", ".join(f"{gap:+.1f}" for gap in gaps.tolist())
    print(f"{one} more than {other}: {gaps.mean():+.1f} ± {half:.1f}; by seed {each}")

# %% [markdown]
# For another seed QLoRA may be several points better or worse than LoRA: five runs do not say more. int4 is behind NF4 by one or two points, with an interval over questions that leaves out 0 where both are double quantized (with seeds counted 0 is at its edge: ± is the 95 % interval of the mean over seeds); without double quantization 0 is well within. Among five intervals one without 0 happens by chance about once in four times, so treat it as a hint. By rounding errors alone (lecture 05) you would have expected more, and FP4 behind as well. Perhaps adapters make up for part of what is rounded; perhaps exams of this kind are too easy to show it: before training FP4 and int4 cost nothing on the encyclopedia either (lecture 05). (On other tasks the paper found FP4 a point behind NF4, and NF4 with double quantization level with 16 bits: its table 4.)
#
# **Full finetuning forgot most, and it was not the layers.** With all weights moved, the encyclopedia fell by a quarter, from 96 (the base, all 1,200 questions) to 71 %; with adapters by five or six points. It fits what Biderman et al. found on larger models (2024, *LoRA Learns Less and Forgets Less*; in their section 4.3 both lie near one curve of learning against forgetting). But full finetuning also moves the whole embedding, and LoRA here 134 rows of it (in Biderman et al. none). Take that difference away ("full, rows only"), and it learns what LoRA learns and keeps **94 %**, *more* than LoRA does at this rate. Put every layer of the first one back to the base, and its encyclopedia is still at 76 %, with all its changes at 74 % (`table="truncated"`, seed 0): it was the embedding. (Fewer rows are not always better: with none, lecture 10, it learnt nothing and kept 83 %.)
#
# The rates matter as much. With 0.001 for its layers LoRA keeps 94 %, with 0.01 it keeps 31 %; full finetuning keeps 92 % where the embedding's rate is 0.003 (and learns 73 %), 28 % where it is 0.03. And "full, rows only", with nine times LoRA's trained numbers at a thirtieth of its rate, forgot no more. (Lecture 10's ranks were compared at one rate.) LoRA's case is its bytes: in training gradients and optimizer states for 0.5 million numbers instead of 4.6, in serving one base for many (lecture 10). When a method is said to forget less, ask what else differed.

# %%
show.question("qlora_match")

# %% [markdown]
# ## 6. Four ways to merge
#
# The adapter was trained beside $\hat W = Q(W)$. For serving you want one matrix. There are four ways to get it, and they are not the same model. (Beside them stands what was trained, the adapter kept apart.)
#
# | way | what it is | stored in |
# |---|---|---|
# | into the dequantized base | $\hat W + s BA$ | 16 or 32 bits |
# | into the original base | $W + s BA$ | 16 or 32 bits |
# | quantized once | $Q(W + s BA)$ | 4 bits |
# | quantized twice | $Q(\hat W + s BA)$ | 4 bits |
#
# Only the first is what was trained. "Reload the base in 16 bits and merge at full precision" is the second: the adapters have never seen $W$, only $\hat W$. "Quantized twice" sounds worst, and it is what `merge_and_unload` does to a model of bitsandbytes. But think: $\hat W$ lies on the levels already, and where the change is smaller than half a step and the block's largest weight stays, $Q$ puts every weight back where it was. *Then the adapter is gone.* Which way loses most? Measure.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

folder = Path(TemporaryDirectory().name)
lora_model.save(model, folder)
kind = qlora.WEIGHTS[settings.weights]


def original():
    return coursepkg.load_model(choice.model)[0]


pages = evaluation.documents(tokenizer, courselm.exam("medical").texts)

# %% tags=["nbval-ignore-output"]
print(f"{'':<22}{'medical exam':>22}{'KL to the trained one':>24}")
for way in qlora.WAYS if small else ():  # a hub model in 32 bits may not fit here
    made = qlora.merged(original, folder, kind, way)
    kl = evaluation.divergence(made, model, pages).nats
    print(f"{way:<22}{said(score(made, 'medical', 96))}{abs(kl.value):>24.3f}")

# %% [markdown]
# One run, so look at KL, which sees more than an exam of 96 questions. *Into the dequantized base* is what was trained, to the last digit. *Into the original* is another model, by 0.05 nats a token; the exam cannot tell them apart. Quantizing that once is about as far away. **Quantizing twice is furthest, by far.** Is it that codes have to move by whole steps, and small changes are rounded away? How much of the change, along itself, is in what is stored:


# %% tags=["nbval-ignore-output"]
def rounded(weight):
    """Quantized, and read back."""
    return kind.dequantize(kind.quantize(weight), weight.shape, torch.float32)


def share(base, way):
    """Of the adapters' changes, along themselves, what the stored weights show."""
    shown = whole = 0.0
    for name, layer in lora_model.layers(model).items():
        weight, change = base.get_submodule(name).weight, layer.delta("default")
        start = weight if way == "once" else rounded(weight)
        moved = rounded(start + change) - rounded(weight)
        shown, whole = shown + (moved * change).sum(), whole + change.square().sum()
    return float(shown / whole)


if small:
    print({way: round(share(original(), way), 2) for way in ("once", "twice")})

# %% [markdown]
# Rounded once, all of it is there, with noise around it. Rounded twice, a quarter or more is gone: onto levels where weights already lie, $Q$ pulls them back. (A change below half a step moves nothing, unless the block's largest weight changed, and with it the scale.) Over three seeds and two formats, with what each model still knows of the encyclopedia:

# %%
for weights in ("nf4+dq", "int4"):
    for way in qlora.WAYS:
        found = [
            row
            for row in measured.rows
            if row["table"] == "merging"
            and (row["weights"], row["name"]) == (weights, way)
        ]
        exam = torch.tensor([row["right"] for row in found], dtype=torch.float64).mean(
            0
        )
        kl = [round(abs(row["kl"][0]), 2) for row in found]
        kept = sum(row["encyclopedia"][0] for row in found) / len(found)
        print(
            f"{weights:<8}{way:<22}exam {said(intervals.mean(exam.numpy()), 1)}   KL {kl!s:<20} encyclopedia {kept:.1%}"
        )

# %% [markdown]
# Quantized once is further away than the original merged in each of the six runs, by a fifth with NF4 and by a third with int4. On the exam quantizing twice costs a point with NF4 and three with int4; the single run above, of 120 steps, lost more than these. Look at the last column: quantized twice, the models remember *more* of the encyclopedia. Probably because a part of what they were taught is gone, and with it of what that had displaced. (By the distance of *weights* alone, quantizing once is often further away than twice, as you will see in the assignment. Both are right: once errs by more, but at random and around the change; twice errs by less and takes the change itself away.)
#
# So "merge at full precision, quantize once" is good advice, and for a reason that is seldom given: not because rounding twice is worse than once, but because rounding *onto the levels where the weights already lie* takes away small changes. What is never said: the 16-bit model that you get on the way is not the one that you trained. If you can afford 16 bits, merge into the dequantized base; if you cannot, keep the adapter beside it, or quantize once and measure.

# %%
show.question("qlora_merge")

# %% [markdown]
# ## 7. Pages, GPUs, several GPUs
#
# **Paged optimizers** keep their states in memory that the CUDA driver moves between GPU and host, page by page, when the GPU is full. What pages are the *states*: nothing else. How large are they?

# %%
print(f"{'Llama-2-7B':<24}{'optimizer states':>18}")
for name, budget in {
    "all weights, fp32 Adam": memory.full_finetuning("llama-2-7b"),
    "all weights, 8-bit": memory.full_finetuning("llama-2-7b", optim="adamw-8bit"),
    "QLoRA r = 16, fp32": memory.qlora("llama-2-7b", optim="adamw-fp32"),
    "QLoRA r = 16, 8-bit": memory.qlora("llama-2-7b"),
}.items():
    print(f"{name:<24}{memory.in_gb(budget['optimizer'], 2):>18}")
counts = [tensor.count for tensor in memory.Lora(16).tensors("llama-2-7b")]
large = sum(count for count in counts if count >= memory.PAGED_FROM)
print(f"in pages, QLoRA r = 16: {large / sum(counts):.0%} of the states")

# %% [markdown]
# For adapters, in 8 bits, a tenth of a gigabyte, and less than half of it pages: bitsandbytes leaves the states of tensors with fewer than 100,000 values on the GPU, and most of an adapter's are smaller. Paging all of it would free a fiftieth of what one sequence of 4,096 tokens takes (3.9 GB); it makes no larger model fit. When do they move? Out when the driver needs room on the GPU, and back when a step updates their weights, which bitsandbytes announces to the driver (*prefetch*). Which states of the run above are in pages?

# %%
from coursepkg.memory import measure

kept = list(measure.optimizer_tensors(run.trainer.optimizer))
paged = sum(getattr(tensor, "is_paged", False) for tensor in kept)
name = type(run.trainer.optimizer.optimizer).__name__
print(f"{name}: {paged} of {len(kept)} states in pages")

# %% [markdown]
# Where there is no CUDA there is nothing to page, and bitsandbytes' paged optimizers quietly become plain ones; `runtime.optimizer` chooses by device.
#
# **On a GPU** this notebook takes the model that section 1 names, computes in bf16 where the hardware has it and in fp16 on a T4, and pages its optimizer, as the paper does: little is gained, and it costs nothing while there is room. Peak memory, time and tokens a second of 16-bit LoRA and of QLoRA, with bitsandbytes and with our own layers, at three lengths are measured by a script:

# %%
device = results.load("device_memory")
print(device)

# %% [markdown]
# **On several GPUs**, each holds a share of the 4-bit base, and gathers a layer when its turn comes (FSDP). The configuration comes with the package:
#
#     accelerate launch --config_file coursepkg/qlora/fsdp.yaml --num_processes 2 \
#         -m coursepkg finetune my-adapter --model Qwen/Qwen2.5-7B --data my.jsonl
#
# `coursepkg finetune` is this notebook's run as a command; `--data` takes a JSON object in each line, `{"text": "a question", "answer": "…"}`.
#
# ## Often misquoted

# %%
from coursepkg import claims

claims.check(
    "000-qlora-matches",
    "004-qlora-qat",
    "003-merge-once",
    "003-paged-spike",
    "003-qlora-3.7",
)

# %% [markdown]
# ## Summary
#
# | idea | in a line | watch out for |
# |---|---|---|
# | budget | weights, adapters, gradients, states, activations: known beforehand | embedding and head stay in fp32; activations grow |
# | labels | −100 over the question | the mark that ends the answer is learnt, too |
# | packing | positions begin anew: nobody sees a neighbour | without them it still runs, and is wrong |
# | frozen base | read back for each product, forwards and backwards | it is not quantization-aware training |
# | gradients | look whether they arrive | silence is not success |
# | seeds | several, with intervals, before you compare | an interval over questions knows nothing of seeds |
# | forgetting | ask for what was known, too | compare with the same parts moved, at tuned rates |
# | merging | only $\hat W + sBA$ is what was trained | measure before you ship |
#
# **Papers.** Dettmers et al. 2023, *QLoRA: Efficient Finetuning of Quantized LLMs*, sections 3 (NF4, double quantization, paged optimizers; equation 5) and 4 (does it match 16 bits). Hu et al. 2021, *LoRA*. Krell et al. 2021, *Efficient Sequence Packing without Cross-contamination*. Biderman et al. 2024, *LoRA Learns Less and Forgets Less*.
#
# **Now you:** [assignment 11](assignments/11_qlora.ipynb).
