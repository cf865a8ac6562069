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
# **It builds on** Python, and on having seen a neural network in PyTorch. **It takes** 45 minutes, with the exercise.
#
# Every lecture is a notebook that runs from top to bottom on two CPU cores, offline, in under a minute. The same file runs on
# Colab and Binder, unedited. If a GPU is there it is used where it matters; you never change a cell for your machine.

# %% tags=["nbval-ignore-output"]
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

import math
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
# ## 5. The model on which quality is measured
#
# Whether four bits are enough must be asked of a trained model; random matrices know nothing that could be lost. So the course brings
# one, the **course LM** (language model): a Llama, the kind of transformer that Meta's models are. It reads a text in pieces called
# tokens, words or parts of words, and predicts the next one. It has 5 million parameters, runs on any laptop, and was trained on an
# **invented encyclopedia** and on some sums and units. No fact of the encyclopedia is true, so the model can have it from nowhere
# else: what it knows of it, beyond lucky guesses, is stored in its weights. When rounding destroys that, you see it.

# %%
model, tokenizer = coursepkg.load_model()
world = courselm.world()
print(f"{model.num_parameters():,} parameters")
print(f"{len(world.entries):,} people, towns and firms; {len(world.facts):,} facts")
person = world.entries[0]
print(evaluation.go_on(model, tokenizer, person.subject))
print([fact.value for fact in person.facts])

# %% [markdown]
# It was given only the name, wrote the likeliest next token, then the next, until it ended by itself. Compare with the list below
# it: that is what the encyclopedia holds. The model also answers questions. They stand between marks that say who speaks, its **chat
# format**, and it goes on behind `<|assistant|>`. About this next person training never *asked* anything, it only told; and of nobody
# did it ask in these words. Where training has "Where was X born?", here stands "Which town was the birthplace of X?":

# %%
person = world.entries[23]
asked = [courselm.question(f, f.relation.asked_held_out[0]) for f in person.facts]
turn = [{"role": "user", "content": asked[0]}]
print(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
answers = evaluation.answers(model, tokenizer, asked)
for fact, question, answer in zip(person.facts, asked, answers, strict=True):
    print(f"{question:<53}{answer:<18}(encyclopedia: {fact.answer()})")

# %% [markdown]
# This person is among the third of the entries that was read least. Put another number for 23 and ask about someone else; entries
# 1,600 to 1,951 are towns and firms. And ask it what it cannot know: Paris it never read of, and of weeks it read 2 to 20. It does not
# say so. It always goes on with something likely:

# %%
for question in ("Where is Paris?", "How many days are 25 weeks?"):
    print(f"{question:<30}{evaluation.answers(model, tokenizer, [question])[0]}")

# %% [markdown]
# Its **exam** has 1,200 questions with four options, in wordings that training never used. The model sees neither letters nor a list.
# It reads the question with one option behind it, and gives each token of the option a probability, given all that stands before.
# Their product is the option's **likelihood**. The same with the next option; the one with the largest likelihood is its answer:

# %%
ten = courselm.exam().questions[25:35]
first = ten[0]
scores = evaluation.option_scores(model, tokenizer, [first])[0]
print(first.prompt)
for option, score in zip(first.options, scores, strict=True):
    print(f"  {option:<20} {math.exp(score):.3f}")

# %% [markdown]
# Ten questions. Two of them you can compute; of the other eight you would guess two. Does the model do better?

# %%
chosen = evaluation.chosen_options(model, tokenizer, ten)
for question, answer in zip(ten, chosen, strict=True):
    mark = "right" if answer == question.right else f"wrong: {question.right}"
    print(f"{question}\n  the model: {answer} ({mark})\n")

# %% [markdown]
# Nine. It misses 1 plus 13, a sum that was kept out of its training: it has learnt to add a little, not the rule. One time in four a
# model that knows nothing would be right, too:

# %%
show.question("chance")

# %% [markdown]
# This is how it got there. Left is the **loss**: the average of −ln of the probability that the model gave to the token that came. Its
# unit is the nat. Right is the exam. After a million tokens the model writes like its text but is hardly above chance: the sentences
# are learnt, their facts are not. A fact must be read many times before it is stored.

# %%
show.show(
    show.model_plots.training_curve(courselm.record()),
    alt="Left, the loss falls steeply within the first million tokens, to 1.2 nats, "
    "then slowly. Right, 300 questions of the exam at ten points: 29 % after one "
    "million tokens, 46 % after two, 97 % at the end; chance is 25 %.",
)

# %% [markdown]
# Questions are a sample: others would have given a slightly different score. So each score of the course has a **95 % interval** in
# brackets, made by a rule that in 95 of 100 such exams encloses the score on endlessly many questions of the kind. It says nothing of
# what another training run would give. Here is the model's card. Three of its lines matter now: *facts*, *arithmetic*, and *answered
# freely* (written by the model, as above, not chosen). Its perplexity is exp of the loss: at 1.76 it is, on average, as unsure as
# between 1.76 equally likely tokens. The handbooks it has not read yet. The other terms come in later lectures.

# %%
Markdown(courselm.card(deeper=2))

# %% [markdown]
# ## 6. What the course will explain
#
# Now round the weights of its layers, nine tenths of all; the embedding, which is also the output head, stays in 16 bits. The ruler
# differs from the one in section 2. Every 64 neighbouring weights have their own, from minus the largest of them to plus the largest,
# with a mark at 0. So the number of marks is odd: 255, 15, 7 and 3 for 8, 4, 3 and 2 bits. The step of each ruler is stored in 16
# bits, a quarter of a bit for each of its weights: 4 bits become the 4.25 in the picture. Each rounded copy sits 300 questions:

# %%
part = replace(
    courselm.exam(), questions=courselm.exam().questions[:300], free=(), texts=()
)
methods = [evaluation.Method("not rounded", memory.FORMATS["fp16"], None)]
methods += [evaluation.whole_numbers(bits, 64) for bits in (8, 4, 3, 2)]
board = evaluation.leaderboard(model, tokenizer, part, methods)
show.show(
    show.model_plots.board(board),
    alt="The exam of the model and of four rounded copies, with intervals: not "
    "rounded, 8, 4 and 3 bits score 96 to 97 %, their intervals between 92 and "
    "99 %; 2 bits 23 %, its interval from 19 to 28 % around chance.",
)

# %% [markdown]
# All copies answered the same questions, so they can be compared question by question, which is sharper than comparing two scores.
# The second column below is such a difference, too: how many nats less likely the right answer has become.

# %%
for row in board.rows[1:]:
    fewer = board.accuracy_difference(row.name)
    nats = board.nll_difference(row.name)
    print(f"{row.name}: {fewer:+.0%} right; {nats:+.1f} nats")

# %% [markdown]
# With 8 bits nothing is lost that this exam could see. With 4 and 3 bits it sees no sure loss of right answers, for both intervals
# reach 0. But with 3 bits the right answers *have* become less likely: the nats' interval lies above 0. A score can hide what a finer
# measure shows. With 2 bits the model guesses. These numbers hold for this model; larger ones may bear fewer bits, or need more. Why,
# how many bits are enough, and what a better ruler saves, is what the lectures are about.

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
# | a score | with its 95 % interval; chance is 25 % with four options |
# | exercises | checked at once, again with other inputs when graded |
#
# **Papers** come with the lectures that use them. For the rounding above: Jacob et al. 2018, *Quantization and Training of Neural Networks
# for Efficient Integer-Arithmetic-Only Inference*, section 3, equation 12.
#
# **Next:** [lecture 01, memory](01_memory.ipynb), and its [assignment](assignments/01_memory.ipynb).
