# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Assignment 05: NF4
#
# Six functions and one written answer, about 110 minutes. Everything you need is in lectures 03 and 05 and in the text of the exercises.
#
# **How it works.** Each exercise has a cell for your code and, below it, a cell that checks it. The checks call your
# function, and where something is off they say what they called, what came back, what was expected, and give a hint.
# They do not try every rule in the text: when you hand in, the same functions are called with other inputs as well.
# Keep the line `# grade_id: …` at the top of a cell: it says which exercise the cell answers.
#
# **Rules.** Use torch and Python's standard library. The exercises ask you to write what `coursepkg.nf4`, `codebooks`,
# `double_quant`, `packing` and `lloyd` do, so an answer that calls them, or copies a function of theirs, is refused.
# Exercises do not depend on each other.
#
# **Numbers.** Tensors are float32 unless a text says otherwise. Codes are whole numbers, in a tensor of dtype uint8.

# %%
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

from statistics import NormalDist

import torch

from coursepkg import check
from coursepkg.check import case

coursepkg.hello()

# %% [markdown]
# ## 1. The levels of NF-k (4 points)
#
# Write the recipe of lecture 05, section 4, for `bits` from 2 to 8. With $n = 2^{\text{bits}}$ the tail is
# $\frac{1}{2}\left[\left(1 - \frac{1}{2(n-1)}\right) + \left(1 - \frac{1}{2n}\right)\right]$. On the positive side take $n/2$ quantiles
# of the standard normal distribution, at probabilities evenly spaced from the tail towards 0.5, which itself is left
# out; on the negative side $n/2 - 1$ in the same way, with a minus; and 0. Divide all of them by the largest.
# Return them ascending, as a list of `float`. (`NormalDist().inv_cdf(p)` is the quantile.)


# %% solution="nf_levels"
def nf_levels(bits: int) -> list[float]:
    """The levels of NF-k, ascending.

    >>> [round(level, 3) for level in nf_levels(2)]
    [-1.0, 0.0, 0.436, 1.0]
    """
    ### BEGIN SOLUTION
    n = 2**bits
    tail = ((1 - 1 / (2 * (n - 1))) + (1 - 1 / (2 * n))) / 2
    quantile = NormalDist().inv_cdf

    def side(count):
        return [quantile(tail - (tail - 0.5) * i / count) for i in range(count)]

    positive, negative = side(n // 2), side(n // 2 - 1)
    levels = sorted([-q for q in negative] + [0.0] + positive)
    return [level / positive[0] for level in levels]
    ### END SOLUTION


# %% test="nf_levels" points=4
from coursepkg import check, codebooks, double_quant, lloyd, nf4, packing
from coursepkg.check import case

check.function(
    nf_levels,
    [
        case(2, expected=[-1.0, 0.0, 0.4358181645831155, 1.0],
             label="two bits", hint="The tail is 0.8541667; two quantiles on the positive side, one on the negative.", rel=1e-5),
        case(4, expected=list(codebooks.NF4.levels),
             label="NF4", hint="The published table: eight positive levels, seven negative ones, and 0.", rel=1e-5),
    ],
    without=[codebooks, nf4, lloyd],
)
### BEGIN HIDDEN TESTS
check.hidden(
    nf_levels,
    [
        case(3, expected=list(codebooks.normal_float(3)), rel=1e-5,
             label="three bits", hint="n is 8: four quantiles on the positive side, three on the negative."),
        case(5, expected=list(codebooks.normal_float(5)), rel=1e-5,
             label="five bits", hint="The tail depends on the number of levels."),
        case(8, expected=list(codebooks.normal_float(8)), rel=1e-5,
             label="eight bits", hint="256 levels, ascending."),
    ],
    without=[codebooks, nf4, lloyd],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. The nearest level (3 points)
#
# `values` is a tensor of any shape, `levels` a tensor of $k$ levels, ascending, $2 \le k \le 256$. Return the codes of the nearest levels: uint8, of
# the shape of `values`. A value half-way between two levels gets the **lower** one; take the midpoint in float32 as
# `(levels[:-1] + levels[1:]) / 2`. Values below the lowest level get code 0, values above the highest the last code.


# %% solution="nearest_codes"
def nearest_codes(values: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Codes of the nearest levels, uint8, of the shape of `values`.

    >>> nearest_codes(torch.tensor([-0.9, 0.1, 0.5]), torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [0, 1, 1]
    """
    ### BEGIN SOLUTION
    midpoints = (levels[:-1] + levels[1:]) / 2
    codes = torch.zeros(values.shape, dtype=torch.uint8)
    for midpoint in midpoints:
        codes += values > midpoint
    return codes
    ### END SOLUTION


# %% test="nearest_codes" points=3
import torch

from coursepkg import check, codebooks, double_quant, lloyd, nf4, packing
from coursepkg.check import case

three = torch.tensor([-1.0, 0.0, 1.0])
check.function(
    nearest_codes,
    [
        case(torch.tensor([-0.9, 0.1, 0.8]), three, expected=torch.tensor([0, 1, 2], dtype=torch.uint8),
             label="three levels", hint="The code is the place of the level in the table, from 0 on."),
        case(torch.tensor([-0.5, 0.5]), three, expected=torch.tensor([0, 1], dtype=torch.uint8),
             label="values half-way", hint="Half-way belongs to the lower level."),
        case(torch.tensor([[0.3, -0.3], [0.7, 5.0]]), three, expected=torch.tensor([[1, 1], [2, 2]], dtype=torch.uint8),
             label="a matrix", hint="Keep the shape of the values."),
    ],
    without=[nf4, codebooks, lloyd, double_quant],
)
### BEGIN HIDDEN TESTS
sixteen = codebooks.NF4.tensor
some = torch.rand(7, 33, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
dense = torch.linspace(-1, 1, 256)
check.hidden(
    nearest_codes,
    [
        case(some, sixteen, expected=torch.bucketize(some, codebooks.NF4.midpoints).to(torch.uint8),
             label="NF4, values beyond the ends too", hint="What lies beyond the last level gets the last code."),
        case(codebooks.NF4.midpoints, sixteen, expected=torch.arange(15, dtype=torch.uint8),
             label="all midpoints of NF4", hint="Half-way belongs to the lower level, everywhere."),
        case(dense, dense, expected=torch.arange(256).to(torch.uint8),
             label="256 levels", hint="Codes go up to 255."),
        case(torch.tensor(0.9), torch.tensor([-1.0, 0.5]), expected=torch.tensor(1, dtype=torch.uint8),
             label="one number, two levels", hint="Any shape, also that of a single number."),
    ],
    without=[nf4, codebooks, lloyd, double_quant],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. Blocks (4 points)
#
# `x` is a flat tensor of $n \ge 1$ finite values, `levels` as in exercise 2. Cut it into blocks of `block_size` neighbours; the last one may be shorter.
# Return the codes, uint8 of shape $(n,)$, and the absmax of each block, float32 of shape $(\lceil n / \text{block\_size} \rceil,)$. Divide a block by its absmax before you look for the nearest
# level (half-way: the lower). A block of zeros has absmax 0 and the code that a value of 0 gets.


# %% solution="quantize_blocks"
def quantize_blocks(
    x: torch.Tensor, levels: torch.Tensor, block_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (n,), uint8, and absmax (blocks,), float32.

    >>> codes, absmax = quantize_blocks(torch.tensor([0.2, -0.4, 3.0]), torch.tensor([-1.0, 0.0, 1.0]), 2)
    >>> codes.tolist(), absmax.tolist()
    ([1, 0, 2], [0.4000000059604645, 3.0])
    """
    ### BEGIN SOLUTION
    n = len(x)
    padded = torch.nn.functional.pad(x, (0, -n % block_size)).reshape(-1, block_size)
    absmax = padded.abs().amax(1)
    divisor = torch.where(absmax > 0, absmax, torch.ones_like(absmax))
    scaled = padded / divisor[:, None]
    midpoints = (levels[:-1] + levels[1:]) / 2
    codes = torch.bucketize(scaled, midpoints).to(torch.uint8)
    return codes.reshape(-1)[:n], absmax
    ### END SOLUTION


# %% test="quantize_blocks" points=4
import torch

from coursepkg import check, codebooks, double_quant, lloyd, nf4, packing
from coursepkg.check import case

three = torch.tensor([-1.0, 0.0, 1.0])
check.function(
    quantize_blocks,
    [
        case(torch.tensor([0.2, -0.4, 3.0, 1.0]), three, 2,
             expected=(torch.tensor([1, 0, 2, 1], dtype=torch.uint8), torch.tensor([0.4, 3.0])), rel=1e-6,
             label="two blocks", hint="Each block has its own absmax."),
        case(torch.tensor([0.2, -0.4, 3.0]), three, 2,
             expected=(torch.tensor([1, 0, 2], dtype=torch.uint8), torch.tensor([0.4, 3.0])), rel=1e-6,
             label="a short last block", hint="It has an absmax too, and no codes for values that are not there."),
        case(torch.zeros(4), three, 4,
             expected=(torch.tensor([1, 1, 1, 1], dtype=torch.uint8), torch.tensor([0.0])),
             label="a block of zeros", hint="0/0 is not a number: what should the codes be?"),
    ],
    without=[nf4, codebooks, lloyd, double_quant],
)
### BEGIN HIDDEN TESTS
def by_package(x, book, size):
    made = nf4.quantize(x, book, size)
    return made.codes, x.abs().max().reshape(1) if len(x) < size else made.absmax

weights = torch.linspace(-0.31, 0.29, 200).roll(37) * 0.1
mixed = torch.cat((torch.zeros(64), weights[:64], -torch.ones(64) * 0.5))
check.hidden(
    quantize_blocks,
    [
        case(weights[:192], codebooks.NF4.tensor, 64, expected=by_package(weights[:192], codebooks.NF4, 64), rel=1e-6,
             label="NF4 in blocks of 64", hint="Divide by the absmax, then take the nearest level."),
        case(weights, codebooks.NF4.tensor, 64, expected=by_package(weights, codebooks.NF4, 64), rel=1e-6,
             label="200 values in blocks of 64", hint="Three whole blocks and one of eight values."),
        case(mixed, codebooks.NF4.tensor, 64, expected=(nf4.quantize(mixed).codes, torch.tensor([0, 0.031, 0.5]).copy_(mixed.reshape(3, 64).abs().amax(1))), rel=1e-6,
             label="a block of zeros between others", hint="Only the block of zeros is special; a block of one negative value is not."),
        case(weights[:5], codebooks.INT4.tensor, 64, expected=by_package(weights[:5], codebooks.INT4, 64), rel=1e-6,
             label="fewer values than a block", hint="One short block."),
        case(weights[:6], codebooks.NF4.tensor, 1, expected=by_package(weights[:6], codebooks.NF4, 1), rel=1e-6,
             label="blocks of one value", hint="Then each value is 1 or -1 times its own absmax."),
    ],
    without=[nf4, codebooks, lloyd, double_quant],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. Back from bytes (4 points)
#
# bitsandbytes stores two 4-bit codes in a byte, the first one in the **high** four bits (lecture 03, section 6). `packed` is a flat uint8 tensor of
# $\lceil \text{count} / 2 \rceil$ bytes; where `count` is odd, the last low half belongs to nothing. `levels` has 16 entries, in the order of their
# codes, which need not be ascending; `absmax` is float32, one for each block of `block_size` values. Return the `count` values, float32.


# %% solution="dequantize_bytes"
def dequantize_bytes(
    packed: torch.Tensor,
    absmax: torch.Tensor,
    levels: torch.Tensor,
    block_size: int,
    count: int,
) -> torch.Tensor:
    """The values that packed codes stand for, float32, (count,).

    >>> levels = torch.linspace(0, 1, 16)
    >>> dequantize_bytes(torch.tensor([0xF0], dtype=torch.uint8), torch.tensor([2.0]), levels, 64, 2).tolist()
    [2.0, 0.0]
    """
    ### BEGIN SOLUTION
    codes = torch.stack((packed >> 4, packed & 15), 1).reshape(-1)[:count]
    scales = absmax.repeat_interleave(block_size)[:count]
    return levels[codes.long()] * scales
    ### END SOLUTION


# %% test="dequantize_bytes" points=4
import torch

from coursepkg import check, codebooks, double_quant, lloyd, nf4, packing
from coursepkg.check import case

ruler = torch.arange(16.0)
check.function(
    dequantize_bytes,
    [
        case(torch.tensor([0x12, 0x3F], dtype=torch.uint8), torch.tensor([1.0]), ruler, 64, 4,
             expected=torch.tensor([1.0, 2.0, 3.0, 15.0]),
             label="two bytes", hint="The first code of a byte lies in its high half."),
        case(torch.tensor([0x12, 0x34], dtype=torch.uint8), torch.tensor([1.0, 10.0]), ruler, 2, 4,
             expected=torch.tensor([1.0, 2.0, 30.0, 40.0]),
             label="two blocks", hint="Each block of block_size values has its own absmax."),
        case(torch.tensor([0x12, 0x30], dtype=torch.uint8), torch.tensor([1.0]), ruler, 64, 3,
             expected=torch.tensor([1.0, 2.0, 3.0]),
             label="an odd count", hint="The last low half is nobody's."),
    ],
    without=[nf4, codebooks, packing, double_quant],
)
### BEGIN HIDDEN TESTS
values = torch.linspace(-0.7, 0.5, 333).roll(100)
for_nf4, for_fp4 = nf4.quantize(values), nf4.quantize(values, codebooks.FP4, 32)
check.hidden(
    dequantize_bytes,
    [
        case(for_nf4.packed.reshape(-1), for_nf4.absmax, codebooks.NF4.tensor, 64, 333, expected=for_nf4.dequantize(), rel=1e-6,
             label="NF4, an odd count and a short last block", hint="There may be fewer values than the blocks have room for."),
        case(for_fp4.packed.reshape(-1), for_fp4.absmax, codebooks.FP4.tensor, 32, 333, expected=for_fp4.dequantize(), rel=1e-6,
             label="FP4, whose table is not ascending", hint="A code is a place in the table as it is."),
        case(torch.tensor([0x89], dtype=torch.uint8), torch.tensor([2.0, 3.0]), ruler, 1, 2, expected=torch.tensor([16.0, 27.0]),
             label="blocks of one value", hint="A byte may hold codes of two blocks."),
        case(torch.tensor([0x70], dtype=torch.uint8), torch.tensor([0.0]), ruler, 64, 1, expected=torch.tensor([0.0]),
             label="one value, absmax 0", hint="0 times a level is 0."),
    ],
    without=[nf4, codebooks, packing, double_quant],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. Scales in 8 bits (4 points)
#
# Double quantization, with a table of your choice. `scales` is float32 of shape $(n,)$, $n \ge 1$; `levels` has up to 256 entries, ascending.
#
# 1. The `offset` is the mean of all scales, in float32.
# 2. Take it off, and cut what is left into blocks of `block_size`; the last may be shorter.
# 3. Divide each block by its absmax and take the nearest levels (half-way: the lower). Where a block's absmax is 0, take the code of a value of 0.
#
# Return the scales as they are **read back**: `levels[code] * absmax + offset`, float32 of shape $(n,)$.


# %% solution="read_back_scales"
def read_back_scales(scales: torch.Tensor, levels: torch.Tensor, block_size: int = 256) -> torch.Tensor:
    """The scales after double quantization, float32, (n,).

    >>> read_back_scales(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [1.0, 2.0, 3.0]
    """
    ### BEGIN SOLUTION
    n = len(scales)
    offset = scales.mean()
    rest = torch.nn.functional.pad(scales - offset, (0, -n % block_size)).reshape(-1, block_size)
    absmax = rest.abs().amax(1, keepdim=True)
    divisor = torch.where(absmax > 0, absmax, torch.ones_like(absmax))
    midpoints = (levels[:-1] + levels[1:]) / 2
    codes = torch.bucketize(rest / divisor, midpoints)
    return (levels[codes] * absmax + offset).reshape(-1)[:n]
    ### END SOLUTION


# %% test="read_back_scales" points=4
import torch

from coursepkg import check, codebooks, double_quant, lloyd, nf4, packing
from coursepkg.check import case

three = torch.tensor([-1.0, 0.0, 1.0])
check.function(
    read_back_scales,
    [
        case(torch.tensor([1.0, 2.0, 3.0]), three, expected=torch.tensor([1.0, 2.0, 3.0]), rel=1e-6,
             label="three scales", hint="Without their mean they are -1, 0 and 1: all on the table."),
        case(torch.tensor([1.0, 1.9, 2.2, 2.9]), three, 2, expected=torch.tensor([1.0, 2.0, 2.0, 2.9]), rel=1e-6,
             label="two blocks", hint="One mean for all scales, one absmax for each block."),
        case(torch.tensor([0.5, 0.5, 0.5]), three, expected=torch.tensor([0.5, 0.5, 0.5]), rel=1e-6,
             label="equal scales", hint="Nothing is left without the mean: 0/0 is not a number."),
    ],
    without=[nf4, codebooks, double_quant, lloyd],
)
### BEGIN HIDDEN TESTS
# No scale comes nearer than 4e-5 to a midpoint, and rounding to float32 moves none by more than 1e-6: each way of computing the codes finds the same.
several = torch.rand(600, generator=torch.Generator().manual_seed(1693)) * 0.8 + 0.1
exactly = double_quant.quantize(several, grid=None).dequantize()
check.hidden(
    read_back_scales,
    [
        case(several, double_quant.dynamic_map(), expected=exactly, rel=1e-5,
             label="the dynamic map, three blocks of 256", hint="One mean for all 600 scales; each block has its own absmax, and the last one only 88 scales."),
        case(several[:256], double_quant.dynamic_map(), expected=double_quant.quantize(several[:256], grid=None).dequantize(), rel=1e-5,
             label="one whole block", hint="No padding where a block is whole."),
        case(torch.tensor([4.0]), three, expected=torch.tensor([4.0]), rel=1e-6,
             label="a single scale", hint="It is its own mean."),
        case(torch.tensor([1.0, 1.0, 2.0, 4.0]), three, 2, expected=torch.tensor([1.0, 1.0, 2.0, 4.0]), rel=1e-6,
             label="absmax of blocks differ", hint="Divide each block by its own absmax, and multiply with it again."),
    ],
    without=[nf4, codebooks, double_quant, lloyd],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 6. One round of Lloyd's method (3 points)
#
# `values` is a flat tensor, `levels` ascending. Each value goes to its nearest level (half-way: the lower). Move every level to the **mean** of its
# values; a level that has none stays. Levels whose place is in `fixed` stay too. Return the new levels, float32, of the shape of `levels`.


# %% solution="lloyd_round"
def lloyd_round(
    values: torch.Tensor, levels: torch.Tensor, fixed: tuple[int, ...] = ()
) -> torch.Tensor:
    """The levels after one round, float32, (k,).

    >>> lloyd_round(torch.tensor([0.0, 0.25, 1.0]), torch.tensor([0.0, 1.0])).tolist()
    [0.125, 1.0]
    """
    ### BEGIN SOLUTION
    codes = torch.bucketize(values, (levels[:-1] + levels[1:]) / 2)
    moved = levels.clone()
    for place in range(len(levels)):
        own = values[codes == place]
        if len(own) and place not in fixed:
            moved[place] = own.mean()
    return moved
    ### END SOLUTION


# %% test="lloyd_round" points=3
import torch

from coursepkg import check, codebooks, double_quant, lloyd, nf4, packing
from coursepkg.check import case

check.function(
    lloyd_round,
    [
        case(torch.tensor([0.0, 0.25, 1.0]), torch.tensor([0.0, 1.0]), expected=torch.tensor([0.125, 1.0]), rel=1e-6,
             label="two levels", hint="The mean of the values that are nearest to the level."),
        case(torch.tensor([0.1, 0.2]), torch.tensor([0.0, 1.0]), expected=torch.tensor([0.15, 1.0]), rel=1e-6,
             label="a level without values", hint="The mean of nothing is not a number: the level stays."),
        case(torch.tensor([-0.8, 0.1, 0.8]), torch.tensor([-1.0, 0.0, 1.0]), (0, 2), expected=torch.tensor([-1.0, 0.1, 1.0]), rel=1e-6,
             label="fixed ends", hint="fixed names places, not levels."),
    ],
    without=[nf4, codebooks, double_quant, lloyd],
)
### BEGIN HIDDEN TESTS
spread = torch.linspace(-1, 1, 1001).pow(3)
check.hidden(
    lloyd_round,
    [
        case(torch.tensor([0.5, 0.6, 0.9]), torch.tensor([0.0, 1.0]), expected=torch.tensor([0.5, 0.75]), rel=1e-6,
             label="a value half-way", hint="Half-way goes to the lower level."),
        case(torch.tensor([0.1, 0.1, 0.1, 0.3]), torch.tensor([0.0, 1.0]), expected=torch.tensor([0.15, 1.0]), rel=1e-6,
             label="values that occur several times", hint="Each occurrence counts: the mean, not the middle."),
        case(spread, torch.tensor([-1.0, -0.2, 0.0, 0.5, 1.0]), (0, 2, 4),
             expected=torch.tensor([-1.0, float(spread[(spread > -0.6) & (spread <= -0.1)].mean()), 0.0, float(spread[(spread > 0.25) & (spread <= 0.75)].mean()), 1.0]), rel=1e-5,
             label="many values, fixed -1, 0 and 1", hint="Only the levels that are not fixed move."),
        case(torch.tensor([3.0, 5.0]), torch.tensor([-1.0, 1.0]), expected=torch.tensor([-1.0, 4.0]), rel=1e-6,
             label="values beyond the last level", hint="They belong to the last level."),
    ],
    without=[nf4, codebooks, double_quant, lloyd],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 7. In your own words (4 points)
#
# A blog post says:
#
# > NF4 is the information-theoretically optimal 4-bit type, so nothing with 4 bits can beat it. Its levels are $\Phi^{-1}((i+0.5)/16)$. And double
# > quantization makes it exactly 4 bits, for free.
#
# Write 120 to 200 words to its author. Which parts hold, and under which assumptions? Correct the formula, and say in
# your own words why NF4 has a zero. Give the bits a weight with and without double quantization, and one measurement of
# lecture 05 that speaks about "nothing can beat it".

# %% [markdown] written="nf4_optimal" points=4
# ### BEGIN SOLUTION
# "Optimal" holds in one sense: if weights were normal and each level were to be used equally often. But a block is divided by its
# absmax, which changes the distribution with the block size: in blocks of 64 the levels of NF4 take from 1.7 % to 9.2 % of the
# weights. And equal use is not least error: levels fitted to the squared error (Lloyd–Max) have 8 % less of it on normal blocks of 64.
# Only for the absolute error NF4 is nearly the best: 0.1 % above the best table with −1, 0 and 1, and 10 % above it at blocks of 4,096.
#
# The formula has no zero: sixteen symmetric levels stand eight on each side, so a weight of 0 would come back as ±0.04 of absmax. NF4
# takes eight quantiles on the positive side and seven on the negative, from the tail (29/30 + 31/32)/2 inwards, joins them at 0,
# and divides by the largest.
#
# Scales are not free. With an fp32 absmax for each 64 weights it is 4.5 bits; double quantization makes it 4.127, and reads
# scales back slightly rounded, which cost the course LM 0.1 % more squared error.
# ### END SOLUTION

# %% [markdown] rubric="nf4_optimal"
# *This answer is graded by a person.*
#
# <!-- BEGIN MARK SCHEME -->
#
# One point each:
#
# 1. "Optimal" refers to equal use of levels under a normal distribution; says that absmax blocks are not normal, or that use is uneven, with a figure.
# 2. Equal use is not least error; names Lloyd–Max or the table of least absolute error and a measured figure (squared or absolute error, or a block size). AF4 counts if it is said that it is fitted to the absolute error; its own is larger than NF4's, because 0 was put in afterwards.
# 3. The right construction (8 and 7 quantiles from a tail offset, joined at 0) and why zero matters or why the formula has none.
# 4. 4.5 and 4.127 bits, and that double quantization rounds the scales (not for free).
#
# No point is lost for length or style.
#
# <!-- END MARK SCHEME -->
