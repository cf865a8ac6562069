# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 10 · LoRA: a change with few directions
#
# [Open in Colab]({{ colab }}) · [Open in Binder]({{ binder }})
#
# **At the end you can** say what a change of low rank is and count what it takes; write LoRA's layer and say why one of its matrices begins at zero; choose rank, α and layers, and say
# what each does; find out why an adapter does not learn; merge adapters, knowing what that rounds; and serve three clients from one base.
#
# **It builds on** lectures 00 (the course LM, exams) and 01 (what training keeps in memory). **It takes** 70 minutes.

# %% tags=["nbval-ignore-output"]
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

import torch
from coursepkg import courselm, lora_model, memory, qlora, results, show, token_rows
from coursepkg.lora import LoraConfig, LoraLinear

coursepkg.hello()

# %% [markdown]
# ## 1. Four rows, one pattern
#
# Finetuning turns a weight $W$ into $W + \Delta W$. Take this change of a 4 × 4 matrix:
#
# | | | | |
# |---|---|---|---|
# | 0.02 | 0.01 | −0.01 | 0.03 |
# | 0.04 | 0.02 | −0.02 | 0.06 |
# | 0.01 | 0.005 | −0.005 | 0.015 |
# | 0.03 | 0.015 | −0.015 | 0.045 |
#
# Every row is $[2, 1, -1, 3]$ times a number: 0.01, 0.02, 0.005, 0.015. So the whole matrix is one column times one row, $\Delta W = b\,a$ with 4 + 4 numbers instead of 16. It has **rank 1**: whatever the input $x$ is, the
# change moves the output in the direction of $b$, by an amount that $a \cdot x$ decides.

# %%
b = torch.tensor([[0.01], [0.02], [0.005], [0.015]])
a = torch.tensor([[2.0, 1.0, -1.0, 3.0]])
change = b @ a
print(change)
print("rank", torch.linalg.matrix_rank(change).item())
x = torch.tensor([1.0, 0.0, 2.0, 1.0])
print(
    "a · x =",
    (a @ x).item(),
    "and the output changes by",
    [round(v, 3) for v in (change @ x).tolist()],
)

# %% [markdown]
# With $r$ columns and $r$ rows, $B$ of shape (out, $r$) and $A$ of shape ($r$, in), the change has rank $r$ at most and takes $r\,(\text{in} + \text{out})$ numbers. For one large matrix, and for all Linear layers of a model:

# %%
print(
    f"4096 × 4096: {4096**2:,} numbers, at rank 16 {16 * (4096 + 4096):,}: 1/{4096**2 // (16 * 8192)}"
)
for name, targets in (
    ("q and v", ("q_proj", "v_proj")),
    ("all Linear layers", memory.ALL_LINEAR),
):
    for rank in (8, 16):
        count = memory.Lora(rank, targets).parameters("llama-2-7b")
        share = count / memory.architecture("llama-2-7b").parameters()
        print(
            f"Llama-2-7B, {name:<17} r = {rank:<3} {count:>11,}, {share:.2%} of its weights, {memory.in_gb(4 * count, 2)} in fp32"
        )

# %% [markdown]
# Only these numbers have gradients and optimizer states. That is what LoRA saves: in lecture 01 the base of a 7B took 13.5 GB in 16 bits, and what training it adds, some 67 GB more, shrinks to half a gigabyte. The base itself is still there, whole. (Lecture 11 shrinks it, too.)
#
# ## 2. The layer
#
# $$ y = x W^\top + s \cdot (x A^\top) B^\top , \qquad s = \frac{\alpha}{r} $$
#
# (Hu et al. 2021, equation 3, with the scaling of the text below it.) $W$ is frozen. In two lines, and as the package has it:

# %%
torch.manual_seed(0)
linear = torch.nn.Linear(8, 6, bias=False)
layer = LoraLinear(linear)
layer.add("mine", LoraConfig(rank=2, alpha=4))
A, B = layer.lora_A["mine"].weight, layer.lora_B["mine"].weight
x = torch.randn(3, 8)
with torch.no_grad():
    B.normal_()
    by_hand = x @ linear.weight.T + 4 / 2 * (x @ A.T) @ B.T
    print(
        "largest difference:",
        f"{(layer(x) - by_hand).abs().max():.0e}",
        " A",
        tuple(A.shape),
        " B",
        tuple(B.shape),
    )
    B.zero_()
    print("with B = 0 the layer is the base:", torch.equal(layer(x), linear(x)))

# %% [markdown]
# **One of the two begins at zero**, so that training starts from the model as it was. Why $B$, and why not both? Look at the gradients. With $g$ for the gradient that arrives at the layer's output,
#
# $$ \frac{\partial L}{\partial B} = s\, g^\top (x A^\top), \qquad \frac{\partial L}{\partial A} = s\, (g B)^\top x . $$
#
# With $B = 0$ the second is zero and the first is not: in the first step only $B$ moves, from then on both. With both at zero nothing ever moves.

# %%
for name, first in (
    ("B = 0, A random", A.detach().clone()),
    ("both 0", torch.zeros_like(A)),
):
    with torch.no_grad():
        A.copy_(first), B.zero_()
    layer.zero_grad()
    layer(x).square().sum().backward()
    print(f"{name:<16} gradient of A {A.grad.norm():.2f}, of B {B.grad.norm():.2f}")

# %% [markdown]
# $A$ is drawn as torch draws any Linear layer's weight: uniform between $\pm 1/\sqrt{\text{in}}$. (The paper says Gaussian; its authors' code, and peft, do this. The package draws the same numbers as peft for the same seed, and computes the
# same outputs, bit for bit; a test says so.)

# %%
show.question("lora_zero")

# %% [markdown]
# ## 3. Does finetuning need only a few directions?
#
# That is the bet. It can be looked at: finetune *all* weights, subtract the base, and take each layer's change apart into a sum of changes of rank one, the largest first (torch's `svd`): into *directions*. The size of each is its *singular value*, and their squares add up to the sum of the change's squared entries. The course LM was taught the handbook of a medical practice so, 2,880 questions (a table of `python -m benchmarks.finetuning`; the run takes most of a minute, so it is not done here). How much of that sum do its first $r$
# directions hold? And what does the model know when every layer's change is cut to rank $r$?

# %%
from coursepkg import intervals

measured = results.load("finetuning")
print(measured)
layers = [row for row in measured.rows if row["table"] == "spectra"]
cut = [row for row in measured.rows if row["table"] == "truncated"]
for rank in (1, 4, 16, 64):
    kept = [
        sum(v * v for v in row["values"][:rank]) / sum(v * v for v in row["values"])
        for row in layers
    ]
    print(
        f"rank {rank:<3} holds {min(kept):.0%} to {max(kept):.0%} of a layer's change"
    )

# %%
scores = [(row["rank"], intervals.Interval(*row["medical"])) for row in cut]
show.show(
    show.lora_plots.spectra(layers, scores),
    alt="Left: share of a change in its first r directions, from 19 to 37 % at r = 1 over 67 to 92 % at 16 to 100 %, by kind of layer; k and v rise fastest. Right: exam over r: 67 % with no layer changed, 90 % at rank 1, 92 % at 16, 93 % at 64 and beyond.",
)

# %% [markdown]
# Look at both panels. **The change itself is not of low rank**: 16 of 64 or 256 directions hold between 63 and 93 % of its square sum. But *what it does* is: cut every layer to a single direction, and 90 % of the questions are still answered rightly; with 16 directions 92 %, with all 93 %. The rest of the change is there, and hardly
# does anything. ("Intrinsic dimension" is a relative of this: how few directions, of all parameters together, are enough.)
#
# One thing is odd. With *no* layer changed the exam is at 67 %. What has learnt is the embedding, which full finetuning trains too and which was kept here. Why that helps so much, you find out in section 4.

# ### What if?
#
# The explorer below takes one layer's change apart; it gets a real one in section 5, trained by you. Here is a change that has four strong directions, with noise. At which rank do you see the pattern? What does the next direction add?

# %%
show.RankExplorer()

# %%
show.show(
    show.RankExplorer().figure(),
    alt="Four pictures at rank 4: a change with a chequered pattern; the nearest matrix of rank 4, which looks the same; what is missing, fine noise; and the singular "
    "values, four large blue ones and sixty small grey ones.",
)

# %% [markdown]
# ## 4. An adapter that does not learn
#
# Now the course LM and the law office's handbook. It has never read a word of it: before training it guesses.

# %%
from coursepkg import evaluation
from coursepkg.evaluation import Exam


def score(model, name, count=192):
    """The share of an exam's first questions that a model answers rightly."""
    exam = Exam(name, courselm.exam(name).questions[:count])
    return evaluation.take(model, tokenizer, exam).accuracy


# %%
model, tokenizer = coursepkg.load_model(dtype=torch.float32)
questions = [
    d for epoch in courselm.lessons("law", epochs=20) for d in epoch if d.answer
]
print(
    len(questions),
    "questions, for example:",
    questions[0].text,
    "|",
    questions[0].answer,
)
print(f"law exam before: {score(model, 'law'):.1%}; chance is 25 %")

# %%
from dataclasses import replace

plain = qlora.Settings(
    lora=LoraConfig(rank=16, alpha=16),
    weights="16 bit",
    library="coursepkg",
    length=64,
    batch=16,
    rate=3e-3,
    clip=1.0,
    shuffled=False,
    checkpointing=False,
)
# %% tags=["nbval-ignore-output"]
model = qlora.adapt(model, plain)
run = qlora.finetune(model, tokenizer, questions[:640], plain)
print(
    f"loss {run.losses[0]:.1f}, after 20 steps {run.losses[19]:.1f}, after 40 steps {run.losses[-1]:.1f} nats a token"
)

# %% [markdown]
# It falls to 4.7, where a model that learns is below 1. Do more steps help? The same was measured with the medical handbook (base in NF4, 180 steps, five seeds):

# %%
stuck = [
    row
    for row in measured.rows
    if row["table"] == "methods" and row["name"].endswith("no rows")
]
print(
    "right after 180 steps, %:",
    [round(100 * row["medical"][0], 1) for row in stuck],
    " loss",
    [round(row["loss"], 1) for row in stuck],
)

# %% [markdown]
# Gradients arrive in all layers (`lora_model.without_gradient` finds none without). Would a higher rank help? You shall see why not. Before turning knobs, **look at what the adapter has to work with**. It sits in the Linear layers. What comes in is rows of the embedding, and what goes out is compared with the rows of the head,
# which in this model is the embedding again. All of these are frozen. The handbook's words are spelled with tokens that the encyclopedia never needed. What do their rows look like?

# %%
weight = torch.nn.functional.normalize(
    model.get_input_embeddings().weight.detach(), dim=1
)
near = weight @ weight.T
near.fill_diagonal_(-1)
near = near.max(1).values
rows = qlora.encode(tokenizer, questions, 64)
handbook = sorted({token for row in rows for token in row["input_ids"]})
unread = token_rows.alike(model, handbook)
read = torch.tensor([token for token in handbook if token not in unread])
print(
    f"{len(handbook)} tokens, of which {len(unread)} have a row that points where another row does"
)
print(
    f"the nearest other row: cosine {near[list(unread)].min():.4f} and more; for the others {near[read].max():.2f} at most"
)

# %%
everything = torch.arange(len(near))
show.show(
    show.lora_plots.alike(
        {
            "all tokens": near[everything],
            "of the handbook, read in training": near[read],
            "of the handbook, never read": near[list(unread)],
        }
    ),
    alt="Cosine to the nearest other row: tokens of the handbook that were read in training lie between 0.3 and 0.9; those never read are all at 1.0; "
    "of all tokens half are at 1.0.",
)

# %% [markdown]
# Half of the vocabulary was never read in training, and the rows of these tokens are all alike: every step pushed them away from what was to be predicted, always together. **To the model they are one token.** No Linear layer can tell apart what arrives the same, nor give different probabilities to rows that are the same. The loss stays
# where guessing among them leaves it.
#
# In a model that has read the web this happens with tokens that a tokenizer has and training hardly saw (Land and Bartolo 2024 search for them in this way), and with those that *you* add: a chat template's marks, product names. The remedy is to train those rows as well. Not the whole embedding, which is a tenth of
# this model and a third of a small multilingual one: only the rows that need it. peft calls it `trainable_token_indices`; here it is `LoraConfig(tokens=…)`.

# %%
show.question("lora_rows")

# %% [markdown]
# ## 5. An adapter that learns


# %%
def settings(tokens):
    """As before, with rows of the embedding, which learn ten times as fast."""
    return replace(plain, lora=replace(plain.lora, tokens=tokens), token_rate=3e-2)


given = settings(unread)
model, tokenizer = coursepkg.load_model(dtype=torch.float32)
model = qlora.adapt(model, given)
print(
    f"trained: {lora_model.trainable(model):,} of {model.num_parameters():,} numbers, {256 * len(unread):,} of them rows"
)
# %% tags=["nbval-ignore-output"]
run = qlora.finetune(model, tokenizer, questions, given)
print(
    f"loss {run.losses[0]:.1f}, after 40 steps {run.losses[39]:.1f}, after {len(run.losses)} steps {run.losses[-1]:.1f}"
)
law = score(model, "law")
print(f"law exam: {law.value:.0%}")
assert law.value >= 0.85

# %% [markdown]
# From a loss of 0.7 after 40 steps, where the other stood at 4.7, to nine in ten right. The same rank, the same layers, the same rate: only 129 rows of the embedding more, 7 % of what is trained.
#
# (Two things were not obvious. The rows learn ten times as fast as the adapters, 0.03 against 0.003: they have far to go. And `shuffled=False` keeps the lessons' order, in which each fact is asked once in an epoch.)
#
# The change that it made in one layer, taken apart. A product of 16 directions has rank 16; do all of them count? (The first alone carries most of it; from the 17th on they are what rounding leaves.)

# %% tags=["nbval-ignore-output"]
delta = model.model.layers[3].mlp.down_proj.delta("default")
values = torch.linalg.svdvals(delta)
print("singular values:", [f"{v:.2g}" for v in values[:18].tolist()])
show.RankExplorer(delta)

# %% [markdown]
# ## 6. Rank, α, and layers
#
# **α** only scales: $s = \alpha / r$. With AdamW, whose steps do not depend on the size of gradients, a larger $s$ lets the same step of $B$ change the weights more, as a higher learning rate would. So if you change $r$ and keep α, you change the scale too. Two ways to sweep the rank, measured on the medical exam:

# %%
lines = {}
for name in ("α = 16", "α = r"):
    lines[name] = []
    for rank in (1, 2, 4, 8, 16, 32, 64):
        found = [
            row
            for row in measured.rows
            if row["table"] == "ranks" and row["name"] == name and row["rank"] == rank
        ]
        right = torch.tensor([row["right"] for row in found], dtype=torch.float64).mean(
            0
        )
        lines[name].append((rank, intervals.mean(right.numpy())))
for name, points in lines.items():
    print(name, "exam", [f"r={rank}: {value.value:.0%}" for rank, value in points])
# %%
for name in lines:
    rows_of = [
        row for row in measured.rows if row["table"] == "ranks" and row["name"] == name
    ]
    kept = [f"r={row['rank']}: {row['encyclopedia'][0]:.0%}" for row in rows_of]
    print(name, "encyclopedia", kept)
    held = [f"r={row['rank']}: {row['held-out loss']:.1f}" for row in rows_of]
    print(name, "held-out loss", held)

# %%
show.show(
    show.lora_plots.ranks(lines),
    alt="Exam over rank from 1 to 64 for α = 16 and α = r: all points lie between 94 and 98 %, and their intervals overlap.",
)

# %% [markdown]
# On the exam, with one seed, there is no trend with the rank: rank 1, with a sixteenth of the adapters' parameters, is where rank 16 is. (The intervals are three points wide to each side, and among 14 runs a few pairs differ by chance.) That fits section 3, and it is a small, uniform task: 96 facts. Do not carry "rank 1 is enough" to yours; carry the way to find out.
#
# **But look at the encyclopedia.** At a constant scale (α = r), and at this one rate, it falls from 94 % at rank 1 to 83 % at rank 64. (One seed; at rank 16 five seeds lie between 88 and 92 %. A lower rate forgets less: lecture 11.) And at rank 1 a scale of 16 (α = 16) costs twelve points that a scale of 1 does not: a very large scale forgets, as a very large rate does. The held-out loss (nats of the right option) shows no trend that one seed could prove.
#
# Kalajdzievski (2023) divides by $\sqrt r$ instead of $r$, so that the size of $s\,BA$ neither grows nor shrinks with the rank: `LoraConfig(rank_stabilized=True)`. Which **layers** to adapt? Rank 16:

# %%
for name in ("q, v", "attention", "MLP", "all"):
    found = [
        row for row in measured.rows if row["table"] == "layers" and row["name"] == name
    ]
    right = torch.tensor([row["right"] for row in found], dtype=torch.float64).mean(0)
    loss = sum(row["held-out loss"] for row in found) / len(found)
    print(
        f"{name:<10} {found[0]['trainable']:>8,} trained   exam {intervals.mean(right.numpy()):.1%}   held-out loss {loss:.2f}   encyclopedia {found[0]['encyclopedia'][0]:.1%}"
    )

# %% [markdown]
# q and v alone, as in the first paper, are nine points behind (one seed); attention alone, the MLP alone and all are not apart on the exam, and all forgets most. QLoRA's authors found that all layers have to be adapted to match 16-bit training, and that the rank hardly matters then (section 4, "default LoRA hyperparameters do not match 16-bit performance"). Here half of them were enough.
#
# ## 7. Merging
#
# $W + s\,BA$ is a matrix of the same shape. Put it in $W$'s place, and the adapter costs nothing any more. In exact arithmetic that changes nothing. In floating point the sum is rounded to $W$'s dtype, and a change that is small beside the weight is lost in part, or whole. By hand, in bf16, which has 8 significant bits: $0.5 + 0.001$ is 0.5, since the next number above 0.5 is 0.50390625.

# %%
print(
    "bf16: 0.5 + 0.001 =",
    (torch.tensor(0.5, dtype=torch.bfloat16) + torch.tensor(0.001))
    .to(torch.bfloat16)
    .item(),
)

# %%
import copy


def rounded(model, dtype):
    """The same model with the adapted layers' weights rounded to a dtype; sums are still made in fp32."""
    for each in lora_model.layers(model).values():
        each.base_layer.weight.data = each.base_layer.weight.to(dtype).float()
    return model


# %% tags=["nbval-ignore-output"]
pages = evaluation.documents(tokenizer, courselm.exam("law").texts)
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    beside = rounded(copy.deepcopy(model), dtype)
    merged = copy.deepcopy(beside)
    lora_model.merge(merged)
    rounded(merged, dtype)
    pairs = [
        (each.base_layer.weight, lora_model.layers(beside)[name].base_layer.weight)
        for name, each in lora_model.layers(merged).items()
    ]
    same = sum((one == other).sum() for one, other in pairs) / sum(
        one.numel() for one, _ in pairs
    )
    print(
        f"{str(dtype)[6:]:<9} as before: {same:>5.1%} of the weights; KL {max(0, evaluation.divergence(merged, beside, pages).nats.value):.5f} nats"
    )

# %% [markdown]
# In fp32 the merged model is the other one. In bf16 every thirtieth weight stayed exactly as it was, since its change was less than half a step, and all others were rounded; and KL is 0.00002 nats. So merging in 16 bits rounds, and here it does no harm: the adapter's changes are large beside a step of bf16. After a short training with a small rate they may not be. Compute the KL,
# as here, before you throw the adapter away. And `unmerge` subtracts the change from a sum that was rounded: in 16 bits the weight does not come back exactly. Keep the base.

# %%
show.question("lora_merge")

# %% [markdown]
# ## 8. One base, three clients
#
# An adapter is a small file, and the base stays as it is. So one base in memory serves several clients, each with its own adapter, switched in place. Yours is the law office's. Save it, in the format of peft; the other two come with the package in the same format.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

folder = Path(TemporaryDirectory().name)
lora_model.save(model, folder)
sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
print("yours:", sizes["adapter_model.safetensors"], "bytes, fp32")
for client in ("medical", "support"):
    place = courselm.adapter(client)
    print(
        f"{client}: {(place / 'adapter_model.safetensors').stat().st_size} bytes, fp16, {lora_model.read_config(place).rank} directions a layer"
    )
base = memory.weight_bytes(courselm.checkpoint.folder(), "fp16")
print(f"the base: {base} bytes, fp16")

# %% tags=["nbval-ignore-output"]
model, tokenizer = coursepkg.load_model(dtype=torch.float32)
for client, place in {
    "law": folder,
    "medical": courselm.adapter("medical"),
    "support": courselm.adapter("support"),
}.items():
    lora_model.load(model, place, client)
print(f"{'active':<10}" + "".join(f"{client:>10}" for client in courselm.CLIENTS))
for active in (None, *courselm.CLIENTS):
    lora_model.activate(model, *([active] if active else []))
    found = [score(model, client, 96).value for client in courselm.CLIENTS]
    print(f"{active or 'the base':<10}" + "".join(f"{each:>10.0%}" for each in found))

# %% [markdown]
# Each adapter knows its client, and guesses about the others. Nothing was loaded anew between the rows: switching sets a name in 42 layers and in the embedding. (Serving engines go further and use *different* adapters for the rows of one batch; you write that in the assignment.)
#
# Without adapters the model is the base again, to the bit. What of the encyclopedia, which the base knows? An adapter that is active has its say there, too:

# %% tags=["nbval-ignore-output"]
asked = courselm.exam("encyclopedia")
some = Exam(
    "facts", tuple(each for each in asked.questions if each.category == "facts")[:200]
)
for active in (None, *courselm.CLIENTS):
    lora_model.activate(model, *([active] if active else []))
    known = evaluation.take(model, tokenizer, some).accuracy
    print(
        f"{active or 'the base':<10}{known.value:>7.0%} of {len(some.questions)} facts of the encyclopedia"
    )

# %% [markdown]
# The base knew them all. An adapter knows nothing of what it must not disturb, and is added to every token: between six and ten points are lost while it is active.
#
# ## Often misquoted

# %%
from coursepkg import claims

claims.check(
    "003-lora-rank-one",
    "003-lora-intrinsic",
    "003-lora-gaussian",
    "003-lora-alpha-2r",
    "003-lora-high-rank",
    "003-lora-no-overhead",
)

# %% [markdown]
# ## Summary
#
# | idea | in a line | watch out for |
# |---|---|---|
# | low rank | $\Delta W = s\,BA$ has $r$ directions and $r(\text{in}+\text{out})$ numbers | a bet: look at the singular values of a real change |
# | beginning | $B = 0$: training starts from the base | both 0 never move |
# | α / r | a scale, much like a learning rate | changing $r$ changes it, unless α goes with it |
# | layers | more than q and v; here attention or the MLP alone did as well as all | the embedding is none of them |
# | tokens never read | rows that look alike: train them, too | more rank does not help |
# | merging | free afterwards, nearly exact in fp32 | 16 bits round small changes away |
# | switching | one base, many adapters | an active adapter speaks everywhere |
#
# **Papers.** Hu et al. 2021, *LoRA: Low-Rank Adaptation of Large Language Models*, section 4.1 (equation 3), section 7 (which layers, which rank). Aghajanyan et al. 2021, *Intrinsic Dimensionality Explains the Effectiveness of Language Model Fine-Tuning*. Kalajdzievski 2023, *A Rank Stabilization Scaling Factor
# for Fine-Tuning with LoRA*. Biderman et al. 2024, *LoRA Learns Less and Forgets Less*. Land and Bartolo 2024, *Fishing for Magikarp*.
#
# **Now you:** [assignment 10](assignments/10_lora.ipynb).
