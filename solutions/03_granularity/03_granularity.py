# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Assignment 03: granularity
#
# Seven functions and one written answer, about 100 minutes. Everything you need is in lecture 03 and in the text of the exercises.
#
# **How it works.** Each exercise has a cell for your code and, below it, a cell that checks it. The checks call your
# function, and where something is off they say what they called, what came back, what was expected, and give a hint.
# Run them as often as you like. They do not try every rule in the text: when you hand in, the same functions are called
# with other inputs as well, so write the rule and not the example.
# Keep the line `# grade_id: …` at the top of a cell: it says which exercise the cell answers.
#
# **Rules.** Use torch and plain Python. The exercises ask you to write what `coursepkg.affine`, `coursepkg.packing` and `coursepkg.memory`
# do, so an answer that calls them, or copies a function of them, is refused. Exercises do not depend on each other: if one resists, go
# on with the next.
#
# **Codes** are symmetric in exercises 1, 2 and 5: with $b$ bits they go from $-(2^{b-1} - 1)$ to $2^{b-1} - 1$. Rounding is `torch.round`: to the
# nearest whole number, and from the middle to the even one.

# %%
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

import torch

from coursepkg import affine, check, memory, packing
from coursepkg.check import case

coursepkg.hello()

# %% [markdown]
# ## 1. Scales of blocks (3 points)
#
# Write `block_scales`: the scale of each block of a matrix, its absmax over the largest code.
#
# - `weight`: shape (rows, columns), of any floating-point dtype. Compute in float32.
# - `granularity`: `"tensor"`, `"channel"` (a row) or an int, the size of a group of neighbours in a row.
# - The result is float32, of shape (row blocks, column blocks): (1, 1), (rows, 1) or (rows, columns / size).
# - A block of zeros has scale 1.
# - If groups do not fill the rows, raise a `ValueError` whose text names the number of columns.


# %% solution="block_scales"
def block_scales(
    weight: torch.Tensor, granularity: int | str, bits: int
) -> torch.Tensor:
    """Scales of the blocks of a matrix, float32, of shape (row blocks, column blocks).

    >>> block_scales(torch.tensor([[0.7, -0.2], [0.1, -1.4]]), "channel", bits=4)
    tensor([[0.1000],
            [0.2000]])
    """
    ### BEGIN SOLUTION
    rows, columns = weight.shape
    if granularity == "tensor":
        height, width = rows, columns
    else:
        height, width = 1, columns if granularity == "channel" else granularity
    if columns % width:
        raise ValueError(f"groups of {width} do not fill rows of {columns}")
    blocks = weight.float().reshape(rows // height, height, columns // width, width)
    absmax = blocks.abs().amax((1, 3))
    scales = absmax / (2 ** (bits - 1) - 1)
    return torch.where(absmax == 0, torch.ones_like(scales), scales)
    ### END SOLUTION


# %% test="block_scales" points=3
import torch

from coursepkg import affine, check
from coursepkg.affine import Scheme
from coursepkg.check import case

small = torch.tensor(
    [[0.7, -0.3, 0.2, 0.5], [0.4, 1.4, -0.6, 0.1], [-0.5, 0.2, 8.4, -0.7]]
)
check.function(
    block_scales,
    [
        case(small, "channel", 4, expected=torch.tensor([[0.1], [0.2], [1.2]]), rel=1e-5,
             label="a scale for each row", hint="Absmax of the row over 7. Keep two dimensions."),
        case(small, 2, 4, rel=1e-5,
             expected=torch.tensor([[0.1, 0.5 / 7], [0.2, 0.6 / 7], [0.5 / 7, 1.2]]),
             label="groups of two", hint="Neighbours in a row share a scale, not neighbours in a column."),
        case(small, "tensor", 4, expected=torch.tensor([[1.2]]), rel=1e-5,
             label="one scale", hint="One block, shape (1, 1)."),
        case(small, 3, 4, expected=ValueError, naming=["4"],
             label="groups that do not fill the rows",
             hint="Raise a ValueError whose text names the number of columns."),
    ],
    without=[affine],
)
### BEGIN HIDDEN TESTS
def scales_of(x, granularity, bits):
    return affine.choose_qparams(x, Scheme(bits, granularity=granularity))[0]


wide = torch.randn(5, 48, generator=torch.Generator().manual_seed(1))
negative = -torch.rand(4, 8, generator=torch.Generator().manual_seed(2)) - 1
zeros = wide.clone()
zeros[2, 16:32] = 0
check.hidden(
    block_scales,
    [
        case(wide, 16, 3, expected=scales_of(wide, 16, 3), rel=1e-5,
             label="3 bits, groups of 16", hint="The largest code is 2^(bits−1) − 1."),
        case(wide, "channel", 8, expected=scales_of(wide, "channel", 8), rel=1e-5,
             label="8 bits per channel", hint="127 is the largest code."),
        case(wide, "tensor", 2, expected=scales_of(wide, "tensor", 2), rel=1e-5,
             label="2 bits per tensor", hint="1 is the largest code."),
        case(zeros, 16, 4, expected=scales_of(zeros, 16, 4), rel=1e-5,
             label="a block of zeros", hint="Its scale is 1, so that nothing is divided by 0."),
        case(negative, 4, 4, expected=scales_of(negative, 4, 4), rel=1e-5,
             label="all values negative", hint="The size counts: absmax, not max."),
        case(wide.half(), 48, 4, expected=scales_of(wide.half(), 48, 4), rel=1e-5,
             label="float16, one group for each row", hint="Compute in float32, return float32."),
        case(torch.zeros(2, 6), "channel", 4, expected=torch.ones(2, 1),
             label="nothing but zeros", hint="A block of zeros has scale 1."),
        case(wide, 10, 4, expected=ValueError, naming=["48"],
             label="groups that do not fill the rows", hint="10 does not divide 48."),
    ],
    without=[affine],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. Round in groups (4 points)
#
# Write `round_in_groups`: what is read back after values were rounded in groups whose scales are stored in fp16.
#
# - `values`: shape (n,), floating point; the result has the same shape, in float32.
# - Each `group_size` neighbours share a scale: their absmax over the largest code. The last group may be shorter; it has a scale of its own.
# - The scale is rounded to fp16 *first* (`.half().float()`), and what is stored decides the codes: code = round(value / scale), value = scale · code.
# - A group of zeros comes back as zeros.


# %% solution="round_in_groups"
def round_in_groups(values: torch.Tensor, group_size: int, bits: int) -> torch.Tensor:
    """The values as they are read back, float32, of the same shape.

    >>> round_in_groups(torch.tensor([0.5, 0.07, 0.5, 28.0]), group_size=2, bits=4)
    tensor([ 0.4999,  0.0714,  0.0000, 28.0000])
    """
    ### BEGIN SOLUTION
    largest = 2 ** (bits - 1) - 1
    done = []
    for group in values.float().split(group_size):
        absmax = group.abs().max()
        scale = (absmax / largest).half().float()
        if absmax == 0:
            scale = torch.tensor(1.0)
        done.append(scale * torch.round(group / scale))
    return torch.cat(done)
    ### END SOLUTION


# %% test="round_in_groups" points=4
import torch

from coursepkg import affine, check
from coursepkg.check import case

check.function(
    round_in_groups,
    [
        case(torch.tensor([0.5, 0.07, 0.5, 28.0]), 2, 4, rel=1e-5,
             expected=torch.tensor([0.499878, 0.071411, 0.0, 28.0]),
             label="two groups",
             hint="0.5 / 7 in fp16 is 0.071411; the second group has the scale 4."),
        case(torch.tensor([1.4, -0.55, 0.7, 0.32, 0.2]), 2, 4, rel=1e-5,
             expected=torch.tensor([1.399658, -0.599854, 0.699829, 0.299927, 0.199951]),
             label="a short last group", hint="The last group is one value here, with a scale of its own."),
        case(torch.zeros(4), 2, 4, expected=torch.zeros(4),
             label="zeros", hint="0 / 0 is not a number: take another scale for a group of zeros."),
    ],
    without=[affine],
)
### BEGIN HIDDEN TESTS
from coursepkg.affine import Scheme


def read_back(x, size, bits):
    scheme = Scheme(bits, granularity=size, scale_dtype=torch.float16)
    whole = len(x) // size * size
    parts = [affine.quantize(x[:whole], scheme).dequantize()]
    if whole < len(x):
        rest = Scheme(bits, granularity=len(x) - whole, scale_dtype=torch.float16)
        parts.append(affine.quantize(x[whole:], rest).dequantize())
    return torch.cat(parts)


some = torch.randn(130, generator=torch.Generator().manual_seed(3)) * 0.05
half_zero = torch.cat([torch.zeros(16), some[:16]])
# 3.5 stored steps: a little above the middle by the exact scale, a little below by the one that is stored.
absmax = torch.tensor(1.0)
exact, stored = absmax / 7, (absmax / 7).half().float()
between = torch.stack([absmax, 3.5 * (exact + stored) / 2, -2.5 * (exact + stored) / 2])
check.hidden(
    round_in_groups,
    [
        case(some, 64, 4, expected=read_back(some, 64, 4), rel=1e-6,
             label="130 values in groups of 64", hint="The last group has two values."),
        case(some[:96], 32, 8, expected=read_back(some[:96], 32, 8), rel=1e-6,
             label="8 bits", hint="127 is the largest code. Is the scale rounded to fp16?"),
        case(some[:70], 16, 2, expected=read_back(some[:70], 16, 2), rel=1e-6,
             label="2 bits, a short last group", hint="Codes are −1, 0 and 1."),
        case(half_zero, 16, 3, expected=read_back(half_zero, 16, 3), rel=1e-6,
             label="one group of zeros, one of others", hint="A group of zeros comes back as zeros."),
        case(some[:8].half(), 100, 4, expected=read_back(some[:8].half(), 8, 4), rel=1e-6,
             label="float16, fewer values than a group", hint="Compute in float32, return float32."),
        case(torch.full((6,), -0.3), 3, 4, expected=read_back(torch.full((6,), -0.3), 3, 4), rel=1e-6,
             label="a constant", hint="All have the code −7."),
        case(between, 3, 4, expected=read_back(between, 3, 4), rel=1e-6,
             label="values near the middle of a step",
             hint="Choose the codes with the scale that is stored, not with the exact one."),
    ],
    without=[affine],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. What a matrix takes for each weight (3 points)
#
# Write `matrix_bits`: all bits that are stored for a matrix, over the number of its weights.
#
# - `bits` for each weight; `scale_bits` for each scale, and `zero_bits` for the zero-point beside it (0: there is none).
# - `granularity` as in exercise 1. Here groups need *not* fill the rows: a group never goes over the end of a row, and a shorter group at the end of a row
#   has a whole scale (and zero-point) of its own.
# - Bits are packed without gaps; nothing is rounded up to bytes.


# %% solution="matrix_bits"
def matrix_bits(
    rows: int,
    columns: int,
    bits: int,
    granularity: int | str,
    scale_bits: int = 16,
    zero_bits: int = 0,
) -> float:
    """Bits for each weight of a matrix, scales and zero-points included.

    >>> matrix_bits(4096, 4096, 4, 128)
    4.125
    """
    ### BEGIN SOLUTION
    if granularity == "tensor":
        scales = 1
    elif granularity == "channel":
        scales = rows
    else:
        scales = rows * -(-columns // granularity)
    count = rows * columns
    return (count * bits + scales * (scale_bits + zero_bits)) / count
    ### END SOLUTION


# %% test="matrix_bits" points=3
from coursepkg import affine, check, memory
from coursepkg.check import case

check.function(
    matrix_bits,
    [
        case(4096, 4096, 4, 128, expected=4.125,
             label="fp16 for each 128", hint="16/128 bits for each weight."),
        case(4096, 4096, 4, 128, zero_bits=4, expected=4.15625,
             label="with zero-points", hint="A zero-point stands beside each scale, not beside each weight."),
        case(768, 256, 4, "channel", scale_bits=32, expected=4.125,
             label="per channel", hint="One scale for each row, and a row has 256 weights."),
        case(2, 100, 4, 64, expected=4.32,
             label="groups that do not fill the rows",
             hint="Each row has two groups: one of 64 weights and one of 36."),
    ],
    without=[memory, affine],
)
### BEGIN HIDDEN TESTS
check.hidden(
    matrix_bits,
    [
        case(10, 20, 3, "tensor", scale_bits=32, zero_bits=8, expected=3 + 40 / 200,
             label="one scale and one zero-point for all", hint="They count once."),
        case(64, 256, 2, 32, scale_bits=8, expected=2.25,
             label="8-bit scales", hint="Use scale_bits; it is not always 16."),
        case(3, 40, 4, 16, zero_bits=4, expected=4 + 3 * 3 * 20 / 120,
             label="a short group in each of three rows",
             hint="A group does not go on in the next row: each row rounds its groups up."),
        case(1, 5, 8, 64, expected=8 + 16 / 5,
             label="a row shorter than a group", hint="It still has a whole scale."),
        case(768, 256, 3, "channel", scale_bits=32, zero_bits=3, expected=3 + 35 / 256,
             label="per channel with zero-points", hint="As many scales as rows."),
        case(256, 768, 4, "channel", expected=4 + 16 / 768,
             label="per channel, long rows", hint="As many scales as rows, not as columns."),
    ],
    without=[memory, affine],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. Trades that nothing beats (4 points)
#
# Somebody has measured the error of many ways to round a weight. Write `pareto_front`, which finds those worth having.
#
# - Each trade is a tuple (bits, group size, bits of a scale, error). It *costs* its effective bits: bits + bits of a scale / group size.
# - One trade **beats** another if it costs no more and its error is no larger, and at least one of the two is smaller.
# - Return the trades that no other one beats, as they are, in a list, the cheapest first.
# - Of trades that are equal in cost and in error keep only the first of the list.


# %% solution="pareto_front"
def pareto_front(
    trades: list[tuple[int, int, int, float]],
) -> list[tuple[int, int, int, float]]:
    """The trades that no other one beats, the cheapest first.

    >>> pareto_front([(4, 64, 16, 0.012), (4, 128, 16, 0.015), (3, 16, 16, 0.041), (4, 64, 8, 0.012)])
    [(3, 16, 16, 0.041), (4, 64, 8, 0.012)]
    """
    ### BEGIN SOLUTION
    def cost(trade):
        bits, size, scale_bits, _ = trade
        return bits + scale_bits / size

    front = []
    for trade in sorted(trades, key=lambda trade: (cost(trade), trade[3])):
        if not front or trade[3] < front[-1][3]:
            front.append(trade)
    return front
    ### END SOLUTION


# %% test="pareto_front" points=4
from coursepkg import check, memory
from coursepkg.check import case

check.function(
    pareto_front,
    [
        case([(4, 64, 16, 0.012), (4, 128, 16, 0.015), (3, 16, 16, 0.041), (4, 64, 8, 0.012)],
             expected=[(3, 16, 16, 0.041), (4, 64, 8, 0.012)],
             label="four trades",
             hint="(4, 64, 8) costs 4.125 as (4, 128, 16) does, with a smaller error; and (4, 64, 16) costs more for the same error."),
        case([(4, 32, 16, 0.010), (4, 64, 16, 0.012), (4, 128, 16, 0.015)],
             expected=[(4, 128, 16, 0.015), (4, 64, 16, 0.012), (4, 32, 16, 0.010)],
             label="all worth having", hint="The cheapest first."),
    ],
    without=[memory],
)
### BEGIN HIDDEN TESTS
measured = [
    (2, 32, 8, 0.43), (2, 16, 8, 0.34), (2, 16, 16, 0.34), (3, 128, 8, 0.081), (3, 128, 16, 0.081),
    (3, 32, 8, 0.054), (3, 16, 8, 0.042), (3, 16, 16, 0.041), (4, 4096, 16, 0.034), (4, 512, 8, 0.022),
    (4, 64, 8, 0.0126), (4, 128, 16, 0.0150), (4, 64, 16, 0.0124), (4, 32, 8, 0.0100), (4, 16, 16, 0.0075),
    (4, 16, 32, 0.0075), (4, 128, 32, 0.0150), (3, 64, 16, 0.067),
]
worth_having = [
    (2, 32, 8, 0.43), (2, 16, 8, 0.34), (3, 128, 8, 0.081), (3, 32, 8, 0.054), (3, 16, 8, 0.042),
    (3, 16, 16, 0.041), (4, 4096, 16, 0.034), (4, 512, 8, 0.022), (4, 64, 8, 0.0126), (4, 32, 8, 0.0100),
    (4, 16, 16, 0.0075),
]
check.hidden(
    pareto_front,
    [
        case(measured, expected=worth_having, label="eighteen trades", hint="Compare each with all others, not with its neighbours."),
        case([(4, 64, 16, 0.01), (3, 64, 16, 0.01), (5, 64, 16, 0.02)], expected=[(3, 64, 16, 0.01)],
             label="one beats all", hint="The same error for fewer bits is better."),
        case([(4, 128, 16, 0.02), (4, 64, 8, 0.02), (4, 32, 4, 0.02)], expected=[(4, 128, 16, 0.02)],
             label="equal in cost and in error", hint="Keep the first of the list."),
        case([(4, 64, 8, 0.03), (4, 128, 16, 0.02)], expected=[(4, 128, 16, 0.02)],
             label="equal in cost", hint="At the same cost the smaller error beats the larger."),
        case([(3, 8, 16, 0.01), (4, 128, 16, 0.02)], expected=[(4, 128, 16, 0.02), (3, 8, 16, 0.01)],
             label="few bits, dear scales", hint="3 bits in groups of 8 with 16-bit scales cost 5."),
        case([(4, 64, 32, 0.012), (4, 64, 16, 0.0121)], expected=[(4, 64, 16, 0.0121), (4, 64, 32, 0.012)],
             label="scales of different width", hint="The bits of a scale are part of each trade."),
        case([], expected=[], label="no trades", hint="Then nothing is worth having."),
    ],
    without=[memory],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. A product in groups (4 points)
#
# Write `grouped_product`: the outputs of a Linear layer whose weights and inputs are codes, with one multiplication by a scale for each group:
#
# $$y_{tj} = s^x_t \sum_g s^w_{jg} \sum_{i \in g} q^w_{ji} \, q^x_{ti}$$
#
# - `w_codes`: int8 (outputs, inputs). `w_scales`: float32 (outputs, groups); groups are of equal size and neighbours in a row.
# - `x_codes`: int8 (tokens, inputs). `x_scales`: float32 (tokens, 1).
# - The result is float32 (tokens, outputs). The inner sums are sums of whole numbers, and they do not fit into int8.


# %% solution="grouped_product"
def grouped_product(
    w_codes: torch.Tensor,
    w_scales: torch.Tensor,
    x_codes: torch.Tensor,
    x_scales: torch.Tensor,
) -> torch.Tensor:
    """Outputs, float32 (tokens, outputs).

    >>> w, x = torch.tensor([[3, -2]], dtype=torch.int8), torch.tensor([[5, 7]], dtype=torch.int8)
    >>> grouped_product(w, torch.tensor([[0.5]]), x, torch.tensor([[0.1]]))
    tensor([[0.0500]])
    """
    ### BEGIN SOLUTION
    outputs, groups = w_scales.shape
    tokens = len(x_codes)
    w = w_codes.int().reshape(outputs, groups, -1)
    x = x_codes.int().reshape(tokens, groups, -1)
    sums = (x[:, None] * w[None]).sum(3)
    return x_scales * (w_scales[None] * sums).sum(2)
    ### END SOLUTION


# %% test="grouped_product" points=4
import torch

from coursepkg import affine, check
from coursepkg.check import case

codes = torch.tensor([[3, -2, 1, 4], [7, 0, -7, 2]], dtype=torch.int8)
inputs = torch.tensor([[5, 7, -1, 2]], dtype=torch.int8)
check.function(
    grouped_product,
    [
        case(codes, torch.tensor([[0.5], [0.1]]), inputs, torch.tensor([[0.1]]),
             expected=torch.tensor([[0.40, 0.46]]), rel=1e-5,
             label="one group for each row: per channel", hint="Then it is one sum for each output."),
        case(codes, torch.tensor([[0.5, 0.02], [0.1, 1.0]]), inputs, torch.tensor([[0.1]]),
             expected=torch.tensor([[0.064, 1.45]]), rel=1e-5,
             label="two groups", hint="The first group is the first two inputs."),
    ],
    without=[affine],
)
### BEGIN HIDDEN TESTS
from coursepkg.affine import Scheme


def product_case(outputs, columns, tokens, size, bits, label, hint):
    draw = torch.Generator().manual_seed(outputs + columns)
    w = affine.quantize(torch.randn(outputs, columns, generator=draw), Scheme(bits, granularity=size))
    x = affine.quantize(torch.randn(tokens, columns, generator=draw) + 1, Scheme(8))
    expected = (x.dequantize().double() @ w.dequantize().double().T).float()
    return case(w.codes, w.scale, x.codes, x.scale, expected=expected, rel=1e-3, label=label, hint=hint)


large = torch.full((2, 256), 127, dtype=torch.int8)
check.hidden(
    grouped_product,
    [
        case(large, torch.tensor([[1.0, 2.0], [0.5, 0.25]]), large[:1], torch.tensor([[0.01]]),
             expected=torch.tensor([[0.01 * 127 * 127 * 128 * 3, 0.01 * 127 * 127 * 128 * 0.75]]), rel=1e-5,
             label="the largest codes", hint="int8 overflows: turn the codes into int32 first."),
        product_case(6, 64, 3, 16, 4, "4-bit weights, three tokens", "Each token has its own scale."),
        product_case(5, 48, 2, 8, 3, "3-bit weights, six groups", "Neighbours are in one group."),
        product_case(3, 32, 4, 32, 8, "one group", "Then there is one scale for each output."),
        case(codes, torch.ones(2, 4), inputs, torch.tensor([[2.0]]),
             expected=torch.tensor([[16.0, 92.0]]), rel=1e-5,
             label="groups of one", hint="As many groups as inputs."),
    ],
    without=[affine],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 6. Two codes in a byte, in both orders (3 points)
#
# Write `nibbles`: 4-bit codes, 0 to 15, as bytes, two codes in each.
#
# - `high_first=True`: the first of two codes is in the byte's high half, as bitsandbytes has it; `False`: in the low half, as GPTQ has it.
# - A last code that is alone stands where a first one stands; the other half is 0.
# - Return the bytes as a list of ints, 0 to 255.
# - For a code that does not fit, raise a `ValueError` whose text names it.


# %% solution="nibbles"
def nibbles(codes: list[int], high_first: bool) -> list[int]:
    """Bytes that hold two codes each.

    >>> nibbles([5, 12], high_first=True), nibbles([5, 12], high_first=False)
    ([92], [197])
    """
    ### BEGIN SOLUTION
    for code in codes:
        if not 0 <= code <= 15:
            raise ValueError(f"{code} is no code of 4 bits")
    done = []
    for at in range(0, len(codes), 2):
        first = codes[at]
        second = codes[at + 1] if at + 1 < len(codes) else 0
        if high_first:
            done.append(first * 16 + second)
        else:
            done.append(second * 16 + first)
    return done
    ### END SOLUTION


# %% test="nibbles" points=3
from coursepkg import check, packing
from coursepkg.check import case

check.function(
    nibbles,
    [
        case([5, 12], True, expected=[0x5C], label="high first", hint="The high half counts sixteens."),
        case([5, 12, 1, 15], False, expected=[0xC5, 0xF1], label="low first",
             hint="The second code of each pair is in the high half."),
        case([5, 12, 9], True, expected=[0x5C, 0x90], label="an odd number",
             hint="The last code stands where a first one stands, and the other half is 0."),
        case([3, 16], True, expected=ValueError, naming=["16"], label="a code too large",
             hint="Name the code in the ValueError."),
    ],
    without=[packing],
)
### BEGIN HIDDEN TESTS
import torch

many = torch.randint(0, 16, (64,), generator=torch.Generator().manual_seed(5)).tolist()
check.hidden(
    nibbles,
    [
        case(many, True, expected=packing.pack_nibbles(torch.tensor(many)).flatten().tolist(),
             label="64 codes, high first", hint="Two neighbours share a byte."),
        case(many, False, expected=packing.pack(torch.tensor(many), 4).tolist(),
             label="64 codes, low first", hint="Two neighbours share a byte."),
        case([1, 2, 3], False, expected=[0x21, 0x03], label="an odd number, low first",
             hint="The last code is in the low half."),
        case([7], True, expected=[0x70], label="one code, high first", hint="The low half is 0."),
        case([], False, expected=[], label="no codes", hint="No byte either."),
        case([15, 15, 0, 0], True, expected=[255, 0], label="the ends of the range", hint="0 to 15 all fit."),
        case([4, -1], False, expected=ValueError, naming=["-1"], label="a negative code",
             hint="Codes are not below 0."),
    ],
    without=[packing],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 7. Reading a stream from 32-bit words (3 points)
#
# Write `read_stream`: the first `count` codes of a stream of bits that lies in 32-bit words, as GPTQ stores 3-bit codes.
#
# - Code $i$ has the bits $i \cdot b$ to $i \cdot b + b - 1$ of the stream, its lowest bit first. Bit $t$ of the stream is bit $t \bmod 32$ of word
#   $\lfloor t / 32 \rfloor$; bit 0 of a word is its lowest.
# - `words` are what `tensor.tolist()` gives for int32: a word whose highest bit is set is a *negative* number.
# - `bits` is 1 to 8. If there are fewer words than the codes need, raise a `ValueError` whose text names how many are needed.


# %% solution="read_stream"
def read_stream(words: list[int], bits: int, count: int) -> list[int]:
    """The first `count` codes of the stream.

    >>> read_stream([0b100_011_010_001], bits=3, count=4)
    [1, 2, 3, 4]
    """
    ### BEGIN SOLUTION
    needed = -(-count * bits // 32)
    if len(words) < needed:
        raise ValueError(f"{count} codes of {bits} bits need {needed} words")
    stream = 0
    for number, word in enumerate(words):
        stream |= (word & 0xFFFFFFFF) << (32 * number)
    return [(stream >> (bits * i)) & (2**bits - 1) for i in range(count)]
    ### END SOLUTION


# %% test="read_stream" points=3
from coursepkg import check, packing
from coursepkg.check import case

check.function(
    read_stream,
    [
        case([0b100_011_010_001], 3, 4, expected=[1, 2, 3, 4],
             label="one word", hint="The first code has the lowest bits."),
        case([-1], 4, 8, expected=[15] * 8,
             label="a negative word", hint="−1 is 32 ones: word & 0xFFFFFFFF."),
        case([1 << 30, 1], 3, 11, expected=[0] * 10 + [5],
             label="a code across two words",
             hint="Code 10 has two bits in word 0 and its highest in word 1."),
        case([7], 3, 11, expected=ValueError, naming=["2"],
             label="too few words", hint="11 codes of 3 bits are 33 bits: name the 2 words."),
    ],
    without=[packing],
)
### BEGIN HIDDEN TESTS
import torch


def words_of(bits, count, seed):
    made = torch.randint(0, 2**bits, (count,), generator=torch.Generator().manual_seed(seed))
    return packing.pack_words(made, bits).tolist(), made.tolist()


streams = {bits: words_of(bits, count, bits) for bits, count in ((2, 40), (3, 96), (4, 24), (5, 33), (8, 7))}
check.hidden(
    read_stream,
    [
        *(case(words, bits, len(found), expected=found, label=f"{len(found)} codes of {bits} bits",
               hint="Are negative words turned into their bits? Do codes go on in the next word?")
          for bits, (words, found) in streams.items()),
        case(streams[3][0], 3, 12, expected=streams[3][1][:12],
             label="fewer codes than the words hold", hint="Return `count` codes, not all."),
        case([5, 6], 4, 0, expected=[], label="no codes", hint="Then the list is empty."),
        case([0, 0, 0], 3, 33, expected=ValueError, naming=["4"],
             label="one code too many for three words", hint="33 codes of 3 bits are 99 bits."),
    ],
    without=[packing],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 8. In your own words (4 points)
#
# A colleague plans to store a Llama-2-7B (6.48 · 10⁹ weights in Linear layers) and writes:
#
# > Smaller groups are always better, and scales are tiny. So let us take 4 bits with groups of 16 and fp16 scales instead of groups of 64. I tried it: perplexity
# > falls from 5.671 to 5.668, so it clearly works. And as `down_proj` has large input columns, let us give each input channel a scale, not each group along the
# > inputs. Later we run everything in integers.
#
# Write 120 to 200 words to your colleague. What do the smaller groups cost, in bits and in GB, and are they a good bargain? What does the perplexity
# show? What is the matter with scales on input channels? What would you do instead? You may use the package to work out the numbers.

# %% [markdown] written="groups_of_16" points=4
# ### BEGIN SOLUTION
# Scales are not tiny there. An fp16 scale for 16 weights is one bit a weight: 5.0 effective bits, against 4.25 with groups of 64. For 6.48 · 10⁹
# weights that is 4.05 GB instead of 3.44, 0.6 GB more. Going from 64 to 16 gains about 2 dB; the same 0.75 bits are worth 4.5 dB as bits of code
# (6.02 dB each). With fp16 scales, halving stops paying at 64 to 128. If you want small groups, store the scales in 8 bits: groups of 32 then take 4.25
# bits, and are better than 64 with fp16.
#
# A perplexity that is 0.05 % lower shows nothing: one rounding is one throw of dice, and longer rulers by 2 % can turn the order around. Measure the KL
# divergence from the 16-bit model, with an interval.
#
# Scales on input channels stay inside the sum, since each term has another one, so there is no integer sum with one multiplication at the end. Groups along
# the inputs need one for each group. If `down_proj`'s columns are the problem, the factors can be multiplied into the activations before these are
# rounded, as SmoothQuant does, or that layer gets more bits.
# ### END SOLUTION

# %% [markdown] rubric="groups_of_16"
# *This answer is graded by a person.*
#
# <!-- BEGIN MARK SCHEME -->
#
# One point each:
#
# 1. The price: 5.0 against 4.25 effective bits, about 0.6 GB (4.05 against 3.44 GB). Nominal bits alone do not count.
# 2. The bargain: weighs what smaller groups gain (about 2 dB) against what the bits would gain elsewhere (6.02 dB a bit), or against 8-bit scales; or gives the
#    break-even of 64 to 128 for fp16 scales. "Too expensive" without a comparison gets no point.
# 3. Perplexity: so small a difference is within the luck of one rounding; names KL from the unrounded model (or repeated roundings) as the better measure.
# 4. Axis: a scale for each input channel cannot be taken out of the integer sum; names a way out (groups along the inputs, factors folded into the activations, more
#    bits for that layer).
#
# No point is lost for length or style.
#
# <!-- END MARK SCHEME -->
