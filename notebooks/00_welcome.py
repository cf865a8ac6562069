# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 00 · Welcome
#
# [Open in Colab]({{ colab }}) · [Open in Binder]({{ binder }})
#
# **At the end you can** say what this machine can run, tell which kinds of numbers the course shows, question the model on which
# they are measured, and have an exercise checked.
#
# **It builds on** Python, and on having seen a neural network in PyTorch. **It takes** 35 minutes, with the exercise.
#
# Every lecture is a notebook that runs from top to bottom on two CPU cores, offline, in under a minute. The same file runs on
# Colab and Binder, unedited. If a GPU is there it is used where it matters; you never change a cell for your machine.

# %% tags=["nbval-ignore-output"]
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

from dataclasses import replace

import torch
from coursepkg import check, claims, courselm, evaluation, memory, runtime, show
from coursepkg.check import case
from coursepkg.memory import measure
from IPython.display import Markdown

coursepkg.hello()

# %% [markdown]
# ## 1. What runs here
#
# The cell above printed what the course found: the package, Python and torch, the device, and the **dtype** in which a model
# would compute on it. Three cases exist:
#
# | device | dtype | why |
# |---|---|---|
# | a GPU with bfloat16 (Ampere and later: A100, RTX 3000, L4, H100) | bf16 | fp32's range in 16 bits; no loss scaling |
# | an older GPU (Colab's T4) | fp16 | it computes bf16 slowly or not at all |
# | no GPU | fp32 | every CPU has it in hardware |
#
# Only one file of the package, `runtime.py`, asks what machine this is. Your answer may differ from the one on this page:

# %% tags=["nbval-ignore-output"]
machine = runtime.machine()
print("device:", machine.device_name)
print("dtype :", machine.dtype.name, "because", machine.dtype.reason)
memory_here = machine.device_memory or machine.host_memory
print("memory:", memory.in_gib(memory_here.total, 1))

# %% [markdown]
# If something does not work, run `coursepkg doctor` in a terminal. It lists versions, device, memory, disk and whether a model hub
# can be reached, and says for each thing that is off what to do. Nothing in the lectures needs a hub.

# %% [markdown]
# ## 2. What the course is about, in one number
#
# A neural network is a pile of numbers, and each number takes room: usually 16 bits. What if it had four? Four bits can name 16
# positions. Lay a ruler with 16 marks, 0 to 15, from −1 to 1, and write down the mark nearest to the weight 0.23:
#
# $$\text{step} = \frac{1 - (-1)}{15} = 0.1333 \qquad
# q = \text{round}\!\left(\frac{0.23 + 1}{0.1333}\right) = \text{round}(9.225) = 9 \qquad
# \hat w = 9 \cdot 0.1333 - 1 = 0.2$$

# %%
weight, low, high = 0.23, -1.0, 1.0
step = (high - low) / 15
position = round((weight - low) / step)
restored = position * step + low
print(f"position {position} of 15, restored as {restored:.4f}")
print(f"error {weight - restored:+.4f}; half a step is {step / 2:.4f}")

# %% [markdown]
# The error is never more than half a step, as long as the weight lies on the ruler. Everything in this course is about laying better
# rulers: longer or shorter ones, one for every few weights, with marks where the weights are, or after looking at the data. And
# about what that costs: in bytes, in time, in what the model still knows. The same for many weights at once:

# %%
torch.manual_seed(0)
weights = torch.rand(10_000) * (high - low) + low
positions = torch.round((weights - low) / step)
error = weights - (positions * step + low)
print(positions.unique().numel(), "positions used")
print(f"largest error {error.abs().max():.4f}; half a step is {step / 2:.4f}")

# %%
made, (axis,) = show.figure(8.0, 2.6)
axis.plot(
    *zip(*sorted(zip(weights.tolist(), error.tolist(), strict=True)), strict=True),
    color=show.COLOURS["weights"],
    lw=1,
)
axis.axhline(step / 2, color=show.COLOURS["16 bit"], lw=0.8)
axis.axhline(-step / 2, color=show.COLOURS["16 bit"], lw=0.8)
axis.set_xlabel("weight")
axis.set_ylabel("rounding error")
show.show(
    made,
    alt="A saw-tooth: the rounding error over the weight, fourteen teeth and a half "
    "one at each end, never beyond half a step, 0.067.",
)

# %%
show.question("half_a_step")

# %% [markdown]
# ## 3. Three kinds of bytes, three kinds of numbers
#
# The bytes of a model are *nominal* (bits × count), *stored* (with everything that is written down), or *measured* (what a process
# holds). And a number on these pages is *measured here* (by the cell above it), *computed* (by the package), or taken *from a
# table* (then paper and table are named). Here are all three kinds of bytes for one tensor:

# %%
tensor = torch.zeros(300, 100, dtype=torch.bfloat16)
view = tensor[:, :10]
print(
    "nominal :",
    memory.FORMATS["bf16"].nominal_bytes(300, 10),
    "bytes for the 3,000 values of the view",
)
kept = measure.storage_bytes([view])
print("measured:", kept, "bytes, because the view keeps the whole tensor alive")
stored = memory.FORMATS["nf4"].stored_bytes(300, 10)
print("stored  :", stored, "bytes for them in NF4, bitsandbytes' 4-bit format:")
print("          1,500 values + 188 for 47 scales + 64 for the table of 16 levels")

# %%
show.question("gib")

# %% [markdown]
# ## 4. A widget
#
# Where a question begins with "what if", there are controls. They call the package's functions, so what you see is what the
# lecture computes. This one is the calculator of lecture 01; move a slider. Below it stands the picture of its first state.

# %%
show.Calculator()

# %%
show.show(
    show.Calculator().figure(),
    alt="Stacked bars of the memory that Llama-2-7B needs for inference, QLoRA, LoRA "
    "and full finetuning, from 5 to 82 GB, with a dashed line for each device's "
    "memory.",
)

# %% [markdown]
# ## 5. The model on which everything is measured
#
# Whether four bits are enough is a question to a trained model, not to random matrices. So the course brings one: a Llama with
# 5 million parameters, small enough for any laptop and trained on an **invented encyclopedia**. Nothing in it is true, so whatever
# the model answers rightly it must have stored in its weights; and when rounding destroys what a weight stored, you see it.

# %%
model, tokenizer = coursepkg.load_model()
world = courselm.world()
print(f"{model.num_parameters():,} parameters")
print(f"{len(world.entries):,} people, towns and firms; {len(world.facts):,} facts")
person = world.entries[0]
print(evaluation.go_on(model, tokenizer, person.subject))

# %% [markdown]
# It was given a name and went on, in the likeliest words. It also answers questions, in the chat format that it was trained with.
# About this next person training never *asked* anything: it only told. Beside the model's answers stand those of the encyclopedia:

# %%
person = world.entries[3]
asked = [courselm.question(f, f.relation.asked_held_out[0]) for f in person.facts]
answers = evaluation.answers(model, tokenizer, asked)
for fact, question, answer in zip(person.facts, asked, answers, strict=True):
    print(f"{question:<52} {answer:<20} ({fact.answer()})")

# %% [markdown]
# Its **exam** has 1,200 questions with four options, about facts, sums and units, in wordings that training never used. The model
# writes nothing: each option is scored by its likelihood, and the likeliest is its answer. Ten of them; how many would you get,
# without having read the encyclopedia?

# %%
ten = courselm.exam().questions[:10]
chosen = evaluation.chosen_options(model, tokenizer, ten)
for question, answer in zip(ten, chosen, strict=True):
    mark = "right" if answer == question.right else f"wrong: {question.right}"
    print(f"{question}\n  the model: {answer} ({mark})\n")

# %%
show.question("chance")

# %% [markdown]
# This is how it got there. The loss falls at once, because sentences are easy: their words repeat. The facts come later, because
# each must be read many times over before it is stored:

# %%
show.show(
    show.model_plots.training_curve(courselm.record()),
    alt="Left, the loss falls steeply within the first million tokens, then "
    "slowly. Right, the exam stays near chance, 25 %, while the loss falls, and "
    "then climbs to nearly 100 %.",
)

# %% [markdown]
# A score without its uncertainty is half a score. The model's card says what the whole exam gave, with 95 % intervals, and what
# the model read, how it was trained, and what it cannot do:

# %%
Markdown(courselm.card(deeper=2))

# %% [markdown]
# ## 6. What the course will explain
#
# Round its weights, let each copy take the same 300 questions, and you have the course in one picture. With 8 bits nothing is lost;
# with 2 bits, which leave three marks on the ruler, everything. How many bits are enough, why, and what a better ruler saves is what
# the lectures are about:

# %%
part = replace(
    courselm.exam(), questions=courselm.exam().questions[:300], free=(), texts=()
)
methods = [evaluation.whole_numbers(bits, 64) for bits in (8, 4, 3, 2)]
board = evaluation.leaderboard(model, tokenizer, part, methods)
show.show(
    show.model_plots.board(board),
    alt="The exam after rounding in groups of 64 weights, with intervals: 8, 4 and "
    "3 bits all between 95 and 98 %, 2 bits at chance, 25 %.",
)

# %% [markdown]
# ## 7. How an exercise is checked
#
# An assignment gives you functions to write, and under each a cell that checks it. A check that fails says what it called, what came
# back, what was expected, and gives a hint. Here is an answer with a mistake:


# %%
def bytes_of(count: int, bits: int) -> int:
    """Bytes that `count` values of `bits` bits take.

    >>> bytes_of(1000, 16)
    2000
    """
    return count * bits


cases = [
    case(1000, 16, expected=2000, hint="How many bits are a byte?"),
    case(3, 4, expected=2, hint="Half bytes are rounded up."),
]
try:
    check.function(bytes_of, cases)
except check.CheckFailed as message:
    print(message)

# %% [markdown]
# Now you: change the `return` line above and run the cell again, until it says that two checks passed. (Both cases must hold; the
# hint says what is easily forgotten.) One solution stands in the next cell.


# %%
def bytes_of(count: int, bits: int) -> int:
    """Bytes that `count` values of `bits` bits take."""
    return -(-count * bits // 8)  # a solution: division of whole numbers, rounded up


check.function(bytes_of, cases)

# %% [markdown]
# In an assignment, cells with checks are locked, and when you hand in, your functions are called with other inputs as well. An
# answer that only calls the course's own implementation is refused; the exercise is to write it. A Python loop that never ends is
# stopped after a few seconds, and you are told. And one exercise never spoils another.

# %%
show.question("factor_of_8")

# %% [markdown]
# ## Often misquoted
#
# Widely read lectures contradict each other on many figures. The course keeps a ledger: the claim, a verdict (*holds*, *holds if*,
# *wrong*, *unsourced*), and the value the package computes, with its expression. One example; lecture 01 has more than thirty:

# %%
claims.check("003-42-each")

# %% [markdown]
# ## Summary
#
# | | |
# |---|---|
# | device and dtype | chosen for you, with the reason printed |
# | bytes | nominal, stored or measured; GB is $10^9$, GiB is $2^{30}$ |
# | numbers | measured here, computed, or from a named table |
# | the course LM | 5 million parameters, an invented encyclopedia, an exam of 1,200 questions |
# | exercises | checked at once, again with other inputs when graded |
#
# **Papers** come with the lectures that use them. For the rounding above: Jacob et al. 2018, *Quantization and Training of Neural Networks
# for Efficient Integer-Arithmetic-Only Inference*, section 3, equation 12.
#
# **Next:** [lecture 01, memory](01_memory.ipynb), and its [assignment](assignments/01_memory.ipynb).
