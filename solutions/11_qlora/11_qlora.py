# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Assignment 11: QLoRA
#
# Seven functions and one written answer, about 110 minutes. Everything you need is in lectures 01, 03 and 11 and in the text of the exercises.
#
# **How it works.** Each exercise has a cell for your code and, below it, a cell that checks it. The checks call your
# function, and where something is off they say what they called, what came back, what was expected, and give a hint.
# They do not try every rule in the text: when you hand in, the same functions are called with other inputs as well.
# Keep the line `# grade_id: …` at the top of a cell: it says which exercise the cell answers.
#
# **Rules.** Use torch and Python's standard library. The exercises ask you to write what `coursepkg.qlora` and `memory` do, with the
# rounding of `affine`, `nf4` and `weight_formats`, so an answer that calls them, or copies a function of theirs, is refused. Exercises do not depend on each other.
#
# **Numbers.** Bytes, tokens and numbers of documents are whole numbers (`int`), and what is counted begins at 0. The shape of a Linear layer's weight is (outputs, inputs).
# Tensors are float64 unless a text says otherwise, so that nobody loses points to rounding. The first check takes a few seconds: it loads the libraries of the lecture.

# %%
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

from math import ceil

import torch

from coursepkg import check
from coursepkg.check import case

coursepkg.hello()

# %% [markdown]
# ## 1. The bytes before the first activation (4 points)
#
# `linears` lists the shapes (out, in) of a model's Linear layers. Each of them is stored in NF4 with double quantization, and each has an adapter of rank `rank`. `others` is the number of all other parameters (embedding, norms, head). Return
# a `dict` with exactly these keys, in bytes:
#
# - `"weights"`: For each Linear on its own, half a byte for each value, an 8-bit scale for each block of 64 values, and an fp32 for each group of 256 of these scales. What is begun, a byte, a block or a group, counts whole. All other
#   parameters are in fp32, as peft prepares them.
# - `"adapters"`: For each Linear a tensor $A$ of shape (rank, in) and a tensor $B$ of shape (out, rank), in fp32.
# - `"gradients"`: Those of the adapters, in fp32. The base has none.
# - `"optimizer"`: 8-bit AdamW keeps two states of each of these tensors. A state has a byte for each value, and an fp32 for each block of 256 values; a block that is begun counts whole. A tensor of fewer than 4,096 values keeps two fp32 states instead, without blocks.
#
# Tables of levels, the offset of the scales, and whatever else is stored once whatever the size, are left out.


# %% solution="run_bytes"
def run_bytes(
    linears: list[tuple[int, int]], others: int, rank: int
) -> dict[str, int]:
    """Bytes of a QLoRA run before activations, by what they are for.

    >>> run_bytes([(256, 256)], others=100, rank=16)
    {'weights': 34208, 'adapters': 32768, 'gradients': 32768, 'optimizer': 16640}
    """
    ### BEGIN SOLUTION
    weights, values, states = 4 * others, 0, 0
    for outputs, inputs in linears:
        blocks = ceil(outputs * inputs / 64)
        weights += ceil(outputs * inputs / 2) + blocks + 4 * ceil(blocks / 256)
        for n in (rank * inputs, outputs * rank):
            values += n
            states += 2 * 4 * n if n < 4096 else 2 * (n + 4 * ceil(n / 256))
    return {
        "weights": weights,
        "adapters": 4 * values,
        "gradients": 4 * values,
        "optimizer": states,
    }
    ### END SOLUTION


# %% test="run_bytes" points=4
from coursepkg import affine, check, memory, nf4, qlora, weight_formats
from coursepkg.check import case

check.function(
    run_bytes,
    [
        case([(256, 256)], 100, 16,
             expected={"weights": 32768 + 1024 + 16 + 400, "adapters": 32768, "gradients": 32768, "optimizer": 16640},
             label="one Linear", hint="65,536 values in 1,024 blocks, whose scales are four groups. A and B have 4,096 values each: 8-bit states, with 16 fp32 beside each."),
        case([(256, 256)], 0, 8,
             expected={"weights": 32768 + 1024 + 16, "adapters": 16384, "gradients": 16384, "optimizer": 32768},
             label="small adapters", hint="A and B are two tensors of 2,048 values each; both keep two states of four bytes a value."),
        case([(5, 13), (5, 13)], 1, 2,
             expected={"weights": 2 * (33 + 2 + 4) + 4, "adapters": 288, "gradients": 288, "optimizer": 576},
             label="65 values, twice", hint="Each Linear on its own: 33 bytes, two blocks, one group of scales that is hardly begun."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### BEGIN HIDDEN TESTS
bare = memory.StorageFormat("bare", 4, 64, memory.StorageFormat("scales", 8, 256, memory.storage_format("fp32")))
state = memory.StorageFormat("state", 8, 256, memory.storage_format("fp32"))


def by_formats(linears, others, rank):
    tensors = [shape for out, into in linears for shape in ((rank, into), (out, rank))]
    fp32 = sum(4 * a * b for a, b in tensors)
    return {
        "weights": sum(bare.stored_bytes(*shape) for shape in linears) + 4 * others,
        "adapters": fp32,
        "gradients": fp32,
        "optimizer": sum(2 * (4 * a * b if a * b < 4096 else state.stored_bytes(a, b)) for a, b in tensors),
    }


qwen = [(896, 896), (128, 896), (128, 896), (896, 896), (4864, 896), (4864, 896), (896, 4864)] * 24
check.hidden(
    run_bytes,
    [
        case(qwen, 136_178_560, 16, expected=by_formats(qwen, 136_178_560, 16),
             label="a model of 24 layers", hint="B of a narrow Linear has fewer than 4,096 values, the other tensors have more."),
        case([(4096, 4095)], 7, 1, expected=by_formats([(4096, 4095)], 7, 1),
             label="tensors of 4,095 and of 4,096 values", hint="Fewer than 4,096 keep fp32 states; 4,096 do not."),
        case([(5000, 4100)], 0, 1, expected=by_formats([(5000, 4100)], 0, 1),
             label="adapters that are no whole number of blocks", hint="A block of 256 that is begun needs a whole fp32."),
        case([(300, 100)] * 3, 0, 2, expected=by_formats([(300, 100)] * 3, 0, 2),
             label="three Linears of 469 blocks", hint="Groups of 256 scales do not go on from one Linear to the next."),
        case([(3, 21), (1, 1)], 0, 1, expected=by_formats([(3, 21), (1, 1)], 0, 1),
             label="an odd number of values", hint="Half a byte is stored as a whole one, for each Linear on its own."),
        case([], 1000, 4, expected={"weights": 4000, "adapters": 0, "gradients": 0, "optimizer": 0},
             label="no Linear at all", hint="Then nothing is quantized and nothing trained; other parameters have four bytes."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. What is predicted (3 points)
#
# An example is a prompt and an answer, both as lists of token ids. Return two lists of the same length, `(input_ids, labels)`:
#
# 1. `input_ids` are the prompt's tokens and then the answer's, cut off at the end to at most `length` tokens.
# 2. `labels` says for each token what is to be predicted in its place: the token itself, or −100 where nothing is. (The model shifts them by one; you do not.) The prompt is not predicted.
# 3. An example with an empty prompt is a plain text: all of it is predicted but its first token, which nothing stands before.
#
# Raise a `ValueError` where no token would be predicted.


# %% solution="labelled"
def labelled(
    prompt: list[int], answer: list[int], length: int
) -> tuple[list[int], list[int]]:
    """The tokens of an example, and what is predicted of them.

    >>> labelled([5, 6, 7], [8, 9], length=10)
    ([5, 6, 7, 8, 9], [-100, -100, -100, 8, 9])
    """
    ### BEGIN SOLUTION
    ids = (prompt + answer)[:length]
    given = max(1, len(prompt))
    if len(ids) <= given:
        raise ValueError(f"with {length} tokens nothing is left to be predicted")
    return ids, [-100] * given + ids[given:]
    ### END SOLUTION


# %% test="labelled" points=3
from coursepkg import affine, check, memory, nf4, qlora, weight_formats
from coursepkg.check import case

check.function(
    labelled,
    [
        case([5, 6, 7], [8, 9], 10, expected=([5, 6, 7, 8, 9], [-100, -100, -100, 8, 9]),
             label="a question and its answer", hint="−100 for each token of the prompt; each token of the answer stands in its own place."),
        case([5, 6], [7, 8, 9], 4, expected=([5, 6, 7, 8], [-100, -100, 7, 8]),
             label="too long by one token", hint="Tokens and labels are cut off at the end alike."),
        case([], [4, 5, 6], 10, expected=([4, 5, 6], [-100, 5, 6]),
             label="a text", hint="Its first token has nothing before it, from which it could be predicted."),
        case([5, 6, 7], [8, 9], 3, expected=ValueError,
             label="no room for the answer", hint="The prompt alone teaches nothing."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### BEGIN HIDDEN TESTS
check.hidden(
    labelled,
    [
        case([1, 2, 3], [4, 5, 6, 7], 4, expected=([1, 2, 3, 4], [-100, -100, -100, 4]),
             label="room for one token of the answer", hint="One token is enough."),
        case([3] * 9, [3, 3], 11, expected=([3] * 11, [-100] * 9 + [3, 3]),
             label="as long as there is room, all tokens alike", hint="The place says what is the prompt, not the token."),
        case([1, 2, 3, 4, 5], [6], 4, expected=ValueError,
             label="a prompt longer than the room", hint="The prompt is never shortened for the answer's sake."),
        case([1, 2], [], 8, expected=ValueError,
             label="an empty answer", hint="Nothing of it can be predicted."),
        case([], [7], 8, expected=ValueError,
             label="a text of one token", hint="Its only token is its first."),
        case([], [7, 8, 9], 1, expected=ValueError,
             label="a text cut to one token", hint="Look at what is left after the cut."),
        case([], [7, 8, 9], 2, expected=([7, 8], [-100, 8]),
             label="a text cut to two tokens", hint="The second is predicted."),
        case([2], [0, 0, 9], 3, expected=([2, 0, 0], [-100, 0, 0]),
             label="a prompt of one token, and tokens numbered 0", hint="0 is a token like others."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. Several documents to a row (4 points)
#
# `lengths` holds the numbers of tokens of documents 0, 1, 2, …, each at least 1. Put them into rows of at most `room` tokens, by *best fit, the longest first*:
#
# 1. Take the documents from the longest to the shortest; of several that are equally long, the one with the lower number first.
# 2. Put each into the row in which the **least room is left**, among those that still hold all of it; of several with equally little room, into the one that was opened first. If no row has room for it, open a new one.
#
# Return the rows in the order in which they were opened, each as a list of the numbers of its documents in the order in which they were put there. Raise a `ValueError` where a document is longer than `room`.


# %% solution="packed"
def packed(lengths: list[int], room: int) -> list[list[int]]:
    """The documents of each row.

    >>> packed([4, 13, 8, 8], room=20)
    [[1], [2, 3, 0]]
    """
    ### BEGIN SOLUTION
    rows, left = [], []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        size = lengths[number]
        if size > room:
            raise ValueError(f"document {number} has {size} tokens, a row {room}")
        fitting = [row for row in range(len(rows)) if left[row] >= size]
        if fitting:
            row = min(fitting, key=lambda row: left[row])
        else:
            row = len(rows)
            rows.append([])
            left.append(room)
        rows[row].append(number)
        left[row] -= size
    return rows
    ### END SOLUTION


# %% test="packed" points=4
from coursepkg import affine, check, memory, nf4, qlora, weight_formats
from coursepkg.check import case

check.function(
    packed,
    [
        case([4, 13, 8, 8], 20, expected=[[1], [2, 3, 0]],
             label="four documents", hint="13 leaves 7; 8 + 8 leave 4, and there the 4 fits best."),
        case([3, 5, 5, 2], 8, expected=[[1, 0], [2, 3]],
             label="two rows with equally little room", hint="Document 1 comes before 2, and 0 goes into the row that was opened first."),
        case([6, 9, 6], 8, expected=ValueError,
             label="a document longer than a row", hint="It cannot be put anywhere."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### BEGIN HIDDEN TESTS
import random


def by_package(lengths, room):
    rows = [{"input_ids": [number] * size, "labels": [number] * size} for number, size in enumerate(lengths)]
    return [list(dict.fromkeys(row["input_ids"])) for row in qlora.pack(rows, room)]


draw = random.Random(0)
many = [draw.randint(1, 60) for _ in range(80)]
few = [draw.choice([2, 3, 5, 7]) for _ in range(40)]
check.hidden(
    packed,
    [
        case(many, 64, expected=by_package(many, 64),
             label="80 documents", hint="Least room left, not the first row that has room."),
        case(few, 11, expected=by_package(few, 11),
             label="many documents of equal lengths", hint="Both rules for ties: the lower number, and the row that was opened first."),
        case([1, 2, 3, 4], 10, expected=[[3, 2, 1, 0]],
             label="one row, filled to the last token", hint="A row may be full, and its documents stand in the order in which they were put."),
        case([7, 7, 7], 7, expected=[[0], [1], [2]],
             label="documents as long as a row", hint="Each fills one."),
        case([], 5, expected=[],
             label="no document", hint="Then there is no row."),
        case([1, 11], 10, expected=ValueError,
             label="too long by one token", hint="The text says what to raise."),
        case([10, 1, 9, 1, 8, 1, 1], 12, expected=by_package([10, 1, 9, 1, 8, 1, 1], 12),
             label="small ones at the end", hint="A row with room may be left out for one with less."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. Who sees whom in a packed row (4 points)
#
# A packed row holds documents end to end. Its `position_ids` count 0, 1, 2, … in each document, and begin at 0 with the next. A document may have a single token; the row has at least one. Return a tensor of dtype `torch.bool`, shape $(n, n)$ for $n$ tokens: entry $[i, j]$ says whether token $i$ may
# attend to token $j$. It may where both are of the same document and $j \le i$; so each token sees itself.


# %% solution="sees"
def sees(position_ids: list[int]) -> torch.Tensor:
    """Whether token i, a row of the result, may attend to token j, a column.

    >>> sees([0, 1, 0]).int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    """
    ### BEGIN SOLUTION
    document = (torch.tensor(position_ids) == 0).cumsum(0)
    same = document[:, None] == document
    return same & torch.ones_like(same).tril()
    ### END SOLUTION


# %% test="sees" points=4
import torch

from coursepkg import affine, check, memory, nf4, qlora, weight_formats
from coursepkg.check import case

check.function(
    sees,
    [
        case([0, 1, 0], expected=torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1]]).bool(),
             label="a document of two tokens and one of one", hint="The last token begins a document, and sees itself only."),
        case([0, 1, 2], expected=torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool(),
             label="one document", hint="Then it is the usual causal mask: row i sees columns 0 to i."),
        case([0, 0], expected=torch.tensor([[1, 0], [0, 1]]).bool(),
             label="two documents of one token", hint="Each 0 begins a document."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### BEGIN HIDDEN TESTS
def by_documents(*sizes):
    return torch.block_diag(*(torch.ones(size, size).tril() for size in sizes)).bool()


check.hidden(
    sees,
    [
        case([0, 1, 2, 3, 0, 1, 0, 1, 2], expected=by_documents(4, 2, 3),
             label="three documents", hint="Blocks along the diagonal, each a triangle."),
        case([0, 0, 1, 2, 0, 0, 0, 1], expected=by_documents(1, 3, 1, 1, 2),
             label="documents of one token between others", hint="A document begins at every 0, also where the token before has position 0."),
        case([0, 1, 0, 1, 2, 3, 4], expected=by_documents(2, 5),
             label="the longer one last", hint="A higher position is not enough: the other document is not seen."),
        case([0], expected=by_documents(1),
             label="one token", hint="It sees itself."),
        case([*range(30), *range(30), *range(40)], expected=by_documents(30, 30, 40),
             label="a hundred tokens", hint="Two documents of the same length are two."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. The loss of an accumulated step (3 points)
#
# A step reads several micro-batches, and makes one update. `losses` has a list for each micro-batch: the losses of the tokens that are predicted in it. Their numbers differ, and a micro-batch may have none. Return the loss, a `float`, that the step would have if all
# were read as **one** batch: the mean over all its predicted tokens. Raise a `ValueError` where the step has no such token.


# %% solution="step_loss"
def step_loss(losses: list[list[float]]) -> float:
    """The loss of a step, whatever its micro-batches.

    >>> step_loss([[2.0], [1.0, 1.0, 1.0]])
    1.25
    """
    ### BEGIN SOLUTION
    tokens = [loss for batch in losses for loss in batch]
    if not tokens:
        raise ValueError("no token of this step is predicted")
    return sum(tokens) / len(tokens)
    ### END SOLUTION


# %% test="step_loss" points=3
from coursepkg import affine, check, memory, nf4, qlora, weight_formats
from coursepkg.check import case

check.function(
    step_loss,
    [
        case([[2.0], [1.0, 1.0, 1.0]], expected=1.25,
             label="one token and three", hint="5 over 4 tokens: each token counts alike, not each micro-batch."),
        case([[3.0, 1.0]], expected=2.0,
             label="a single micro-batch", hint="Then it is its mean."),
        case([[4.0], []], expected=4.0,
             label="a micro-batch without a predicted token", hint="It adds nothing, neither above nor below."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### BEGIN HIDDEN TESTS
uneven = [[0.5 + 0.25 * place for place in range(size)] for size in (17, 1, 0, 4, 60)]
check.hidden(
    step_loss,
    [
        case(uneven, expected=sum(map(sum, uneven)) / 82, rel=1e-6,
             label="five micro-batches, one of them empty", hint="Add up all losses, count all tokens, divide once."),
        case([token for batch in uneven for token in [batch[:3], batch[3:]]], expected=sum(map(sum, uneven)) / 82, rel=1e-6,
             label="the same tokens, split in another way", hint="How a step is split must not matter."),
        case([[1.0, 3.0], [5.0, 7.0]], expected=4.0,
             label="micro-batches of equal sizes", hint="A mean over tokens."),
        case([[0.0, 0.0], [0.0]], expected=0.0,
             label="losses of 0", hint="A loss of 0 is a token, too."),
        case([[], []], expected=ValueError,
             label="no token at all", hint="The text says what to raise."),
        case([], expected=ValueError,
             label="no micro-batch", hint="Such a step has no token."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 6. What to give up (4 points)
#
# `settings` is a `dict` with the keys `"batch"`, `"accumulation"`, `"checkpointing"` (a bool) and `"length"`. A run takes `fixed` bytes, and for each of the batch · length tokens that are read at once `plain` bytes of activations without checkpointing,
# `checkpointed` with it. It fits where that is **at most** `memory`. Where it does not fit, give up one thing and look again, in this order:
#
# 1. As long as the batch is above 1: divide it by its smallest prime factor, and multiply the accumulation by that, so that a step keeps its examples.
# 2. Then, if checkpointing is off, switch it on.
# 3. Then halve the length (rounded down), as long as it is at least 256: examples are never cut shorter than 128 tokens.
#
# Return the first settings that fit, a `dict` with the same keys; these may be the ones that were given. Return `None` where nothing is left to give up. Leave `settings` as they are.


# %% solution="step_down"
def step_down(
    settings: dict, fixed: int, plain: int, checkpointed: int, memory: int
) -> dict | None:
    """The settings with as little given up as it takes to fit, or None.

    >>> start = {"batch": 8, "accumulation": 1, "checkpointing": False, "length": 512}
    >>> step_down(start, fixed=1000, plain=10, checkpointed=2, memory=12_000)
    {'batch': 2, 'accumulation': 4, 'checkpointing': False, 'length': 512}
    """
    ### BEGIN SOLUTION
    given = dict(settings)
    while True:
        each = checkpointed if given["checkpointing"] else plain
        if fixed + given["batch"] * given["length"] * each <= memory:
            return given
        if given["batch"] > 1:
            by = next(n for n in range(2, given["batch"] + 1) if given["batch"] % n == 0)
            given["batch"] //= by
            given["accumulation"] *= by
        elif not given["checkpointing"]:
            given["checkpointing"] = True
        elif given["length"] >= 2 * 128:
            given["length"] //= 2
        else:
            return None
    ### END SOLUTION


# %% test="step_down" points=4
from coursepkg import affine, check, memory, nf4, qlora, weight_formats
from coursepkg.check import case


def of(batch, accumulation, checkpointing, length):
    return {"batch": batch, "accumulation": accumulation, "checkpointing": checkpointing, "length": length}


check.function(
    step_down,
    [
        case(of(8, 1, False, 512), 1000, 10, 2, 12_000, expected=of(2, 4, False, 512),
             label="a smaller batch is enough", hint="1,000 + 2 · 512 · 10 = 11,240 fits; with a batch of 4 it is 21,480. Each step still reads 8 examples."),
        case(of(6, 2, False, 300), 0, 10, 4, 2_000, expected=of(1, 12, True, 300),
             label="then checkpointing", hint="6 becomes 3, then 1: 3,000 bytes are too many. With checkpointing it is 1,200."),
        case(of(1, 16, True, 512), 100, 10, 4, 612, expected=of(1, 16, True, 128),
             label="then the length", hint="512 becomes 256, then 128: 100 + 128 · 4 = 612, which is just enough."),
        case(of(1, 16, True, 128), 100, 10, 4, 611, expected=None,
             label="nothing is left", hint="Examples are not cut below 128 tokens."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### BEGIN HIDDEN TESTS
def by_ladder(start, fixed, plain, checkpointed, most):
    given = qlora.Settings(**start)
    while fixed + given.batch * given.length * (checkpointed if given.checkpointing else plain) > most:
        given = qlora.lower(given)[0]
    return of(given.batch, given.accumulation, given.checkpointing, given.length)


check.hidden(
    step_down,
    [
        case(of(8, 1, False, 512), 10**9, 10**5, 10**4, 10**10, expected=of(8, 1, False, 512),
             label="it fits as it is", hint="Look first, and give up nothing that need not be given up."),
        case(of(45, 3, False, 100), 0, 10, 1, 6_000, expected=of(5, 27, False, 100),
             label="an odd batch", hint="45 is divided by 3, and by 3 again."),
        case(of(7, 1, False, 200), 0, 10, 9, 13_999, expected=of(1, 7, False, 200),
             label="a batch that is a prime number", hint="Its smallest prime factor is 7 itself."),
        case(of(12, 1, False, 1024), 500, 100, 60, 65_000, expected=by_ladder(of(12, 1, False, 1024), 500, 100, 60, 65_000),
             label="all the way down to checkpointing", hint="12, 6, 3, 1, and only then checkpointing."),
        case(of(4, 1, True, 2048), 7, 50, 3, 1_600, expected=by_ladder(of(4, 1, True, 2048), 7, 50, 3, 1_600),
             label="checkpointing was on already", hint="Then the length comes after the batch."),
        case(of(1, 4, False, 515), 0, 10, 5, 700, expected=of(1, 4, True, 128),
             label="an odd length", hint="515, 257, 128: half a token is left out."),
        case(of(1, 1, True, 255), 0, 2, 1, 254, expected=None,
             label="half of it would be too short", hint="255 is less than 256, so it stays."),
        case(of(2, 1, False, 256), 5_000, 10, 1, 4_999, expected=None,
             label="no room even for what is fixed", hint="None, once all has been given up."),
        case(of(10, 2, False, 256), 40, 10, 10, 5_160, expected=of(1, 20, False, 256),
             label="a batch of ten", hint="10 is divided by 2 first, then by 5; only the batch is read at once, not the whole step."),
        case(of(4, 1, False, 100), 0, 3, 1, 600, expected=of(2, 2, False, 100),
             label="just enough", hint="As many bytes as there are fit."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 7. Four ways to merge (5 points)
#
# $W$, shape (outputs, inputs), was rounded, and an adapter was trained beside $Q(W)$. `change` is what the adapter adds, $D = \text{scaling} \cdot BA$, already multiplied, of the same shape. So what was trained computes with $T = Q(W) + D$.
#
# $Q$ rounds to `bits` bits in groups of `group` neighbours in a row (`group` divides the inputs): the step of a group is its largest magnitude divided by $2^{b-1} - 1$; values are divided by it, rounded to whole numbers as `torch.round` does it, and multiplied by it
# again. A group of zeros stays zeros. Each time $Q$ is taken it finds the steps anew.
#
# Return a `dict` with the relative error of each way, $\lVert M - T \rVert / \lVert T \rVert$ as a `float`, where $M$ is the merged weight and $\lVert \cdot \rVert$ the root of the sum of all squares ($T$ is never all 0):
#
# - `"into the dequantized"`: $M = Q(W) + D$
# - `"into the original"`: $M = W + D$
# - `"quantized once"`: $M = Q(W + D)$
# - `"quantized twice"`: $M = Q(Q(W) + D)$
#
# By this measure "twice" often comes nearest to $T$, and in the lecture it is furthest, by KL. Both are right: quantizing once errs by more, but at random and around $D$; quantizing twice errs by less, and takes $D$ itself away.


# %% solution="merge_errors"
def merge_errors(
    weight: torch.Tensor, change: torch.Tensor, bits: int, group: int
) -> dict[str, float]:
    """How far each merged weight is from the one that was trained.

    >>> w = torch.tensor([[3.0, 1.4, -0.6, 0.2]], dtype=torch.float64)
    >>> d = torch.tensor([[0.3, 0.3, 0.0, -0.4]], dtype=torch.float64)
    >>> [round(error, 3) for error in merge_errors(w, d, 3, 4).values()]
    [0.0, 0.162, 0.267, 0.124]
    """
    ### BEGIN SOLUTION
    def rounded(x: torch.Tensor) -> torch.Tensor:
        groups = x.reshape(len(x), -1, group)
        step = groups.abs().amax(2, keepdim=True) / (2 ** (bits - 1) - 1)
        step = torch.where(step == 0, 1.0, step)
        return ((groups / step).round() * step).reshape(x.shape)

    trained = rounded(weight) + change
    merged = {
        "into the dequantized": trained,
        "into the original": weight + change,
        "quantized once": rounded(weight + change),
        "quantized twice": rounded(trained),
    }
    size = trained.norm()
    return {way: ((m - trained).norm() / size).item() for way, m in merged.items()}
    ### END SOLUTION


# %% test="merge_errors" points=5
import torch

from coursepkg import affine, check, memory, nf4, qlora, weight_formats
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


def of(zero, original, once, twice):
    return {"into the dequantized": zero, "into the original": original, "quantized once": once, "quantized twice": twice}


four = exact([[3.0, 1.4, -0.6, 0.2]])
check.function(
    merge_errors,
    [
        case(four, exact([[0.3, 0.3, 0.0, -0.4]]), 3, 4, expected=of(0.0, (0.36 / 13.74) ** 0.5, (0.98 / 13.74) ** 0.5, (0.21 / 13.74) ** 0.5), rel=1e-6,
             label="one group", hint="Q(W) is 3, 1, −1, 0, and T is 3.3, 1.3, −1, −0.4. All errors are against T."),
        case(four, exact([[0.0, 0.0, 0.0, 0.0]]), 3, 4, expected=of(0.0, 0.6 / 11**0.5, 0.0, 0.0), rel=1e-6,
             label="an adapter that adds nothing", hint="Then T is Q(W): the original weight is another one, and rounding it again brings it back."),
        case(exact([[3.0, 1.5, 0.0, 0.0]]), exact([[0.0, 0.0, 0.0, 0.0]]), 3, 2, expected=of(0.0, 0.5 / 13**0.5, 0.0, 0.0), rel=1e-6,
             label="two groups of two, one of them zeros", hint="1.5 is a tie and goes to 2. A group of zeros must not become NaN."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### BEGIN HIDDEN TESTS
def by_groups(x, bits, group):
    most, back = 2 ** (bits - 1) - 1, torch.zeros_like(x)
    for row in range(len(x)):
        for first in range(0, x.shape[1], group):
            part = x[row, first : first + group]
            step = part.abs().max() / most
            if step > 0:
                back[row, first : first + group] = (part / step).round() * step
    return back


def expected(weight, change, bits, group):
    kept = by_groups(weight, bits, group) + change
    ways = (kept, weight + change, by_groups(weight + change, bits, group), by_groups(kept, bits, group))
    return of(*(((way - kept).square().sum() / kept.square().sum()).sqrt().item() for way in ways))


generator = torch.Generator().manual_seed(7)
w = torch.randn(6, 24, generator=generator, dtype=torch.float64)
d = 0.1 * torch.randn(6, 2, generator=generator, dtype=torch.float64) @ torch.randn(2, 24, generator=generator, dtype=torch.float64)
sparse, scaled = w.clone(), w * torch.logspace(-2, 2, 6, dtype=torch.float64)[:, None]
sparse[1], sparse[4, 8:16] = 0.0, 0.0
check.hidden(
    merge_errors,
    [
        case(w, d, 4, 8, expected=expected(w, d, 4, 8), rel=1e-6,
             label="six outputs, three groups", hint="Each row has its own groups, each group its own step, and each rounding finds them anew."),
        case(w, d, 3, 24, expected=expected(w, d, 3, 24), rel=1e-6,
             label="three bits, one group a row", hint="The highest code depends on bits: 3."),
        case(w, d, 8, 4, expected=expected(w, d, 8, 4), rel=1e-6,
             label="eight bits, groups of four", hint="The highest code is 127."),
        case(w, 5 * d, 2, 6, expected=expected(w, 5 * d, 2, 6), rel=1e-6,
             label="a change as large as the weight, two bits", hint="Errors are relative to T, not to W."),
        case(scaled, d, 4, 12, expected=expected(scaled, d, 4, 12), rel=1e-6,
             label="rows four powers of ten apart", hint="One norm over the whole matrix, not a mean over rows."),
        case(sparse, torch.zeros(6, 24, dtype=torch.float64), 4, 8, expected=expected(sparse, torch.zeros(6, 24, dtype=torch.float64), 4, 8), rel=1e-6,
             label="groups and rows of zeros", hint="No division by a step of 0."),
    ],
    without=[affine, memory, nf4, qlora, weight_formats],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 8. In your own words (4 points)
#
# A colleague has written this for the team:
#
# > QLoRA is quantization-aware training: the 4-bit weights learn to be rounded. We trained on the NF4 base, merged the adapter into the original bf16 weights, since that is the exact model, and quantized to NF4 again for serving. The bill said 4 bits a
# > weight, so the 7B model needs 3.5 GB to finetune; paged optimizers make anything fit.
#
# Write 120 to 200 words to them. What learns in QLoRA, and what does not? Which model did they train, which one do they serve, and how would you find out what lies between? What else does a run hold, besides 4 bits a weight? What do the pages hold, and
# how much of the bill is that? Give one number from the lecture for each of two of your points.

# %% [markdown] written="qlora_reply" points=4
# ### BEGIN SOLUTION
# Nothing learns to be rounded. The base is rounded once, before training, and frozen; gradients go through it to the adapters, and only these change. They see the rounded base and may make good some of its error, but know
# nothing of a rounding that comes later.
#
# So the adapter was trained beside Q(W). W + BA is a model that nobody has trained (0.06 nats away in the lecture, quantized 0.07): the error that the adapter had learned to live with is gone, and its answer to it is still there. Quantizing that sum adds an error of its own.
# What was trained is Q(W) + BA: serve it so, the adapter beside the base, or merge into the dequantized weights in 16 bits. If it must be 4 bits in one piece, compare the ways by an exam, and by KL from the trained model.
#
# 3.5 GB are the codes alone. Scales come on top, embedding, norms and head in fp32, adapters, their gradients and states, and above all activations and logits, which grow with batch and length.
#
# Pages hold optimizer states only. Those of adapters are small (0.08 GB for a 7B), so paging saves little; weights and activations stay on the GPU. Checkpointing and a smaller batch help more.
# ### END SOLUTION

# %% [markdown] rubric="qlora_reply"
# *This answer is graded by a person.*
#
# <!-- BEGIN MARK SCHEME -->
#
# One point each:
#
# 1. The base is rounded once and frozen; only the adapters learn. Nothing learns to be rounded: they see the rounded base (and may make good some of its error), but not a rounding that comes afterwards.
# 2. The adapter was trained beside Q(W), so W + BA is another model than the one trained, and quantizing it adds the rounding of the sum. Says what to do: keep Q(W) + BA (beside, or merged into the dequantized weights), or measure the ways, by exam and KL. Not "merging into the original is exact".
# 3. What comes on top of 4 bits a weight: at least three of scales, embedding (norms, head) in fp32, adapters, gradients, states; and, which must be named, activations or logits.
# 4. Pages hold optimizer states only, and these are small where only adapters are trained; what does not fit is activations or weights. Names something that helps (checkpointing, smaller batch, shorter examples) or says that paging costs time and no more.
#
# Numbers that count, for example: 5.4 GB in all and 4.39 GB of weights for Llama-2-7B; KL 0.06 into the original, 0.07 quantized once, 0.19 and more quantized twice; states 0.08 GB against 13.7 or 54 GB; QLoRA against LoRA +1.1 [−0.4, +2.7] points.
#
# One point off with fewer than two numbers of the lecture. No point is lost for length or style.
#
# <!-- END MARK SCHEME -->
