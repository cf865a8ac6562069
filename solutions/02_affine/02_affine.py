# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Assignment 02: affine quantization
#
# Seven functions and one written answer, about 110 minutes. Everything you need is in lecture 02 and in the text of the exercises.
#
# **How it works.** Each exercise has a cell for your code and, below it, a cell that checks it. The checks call your
# function, and where something is off they say what they called, what came back, what was expected, and give a hint.
# Run them as often as you like. They do not try every rule in the text: when you hand in, the same functions are called
# with other inputs as well, other shapes and dtypes among them, so write the rule and not the example.
# Keep the line `# grade_id: …` at the top of a cell: it says which exercise the cell answers.
#
# **Rules.** Use Python and `torch`. The exercises ask you to write what `coursepkg.formats`, `coursepkg.affine` and
# `coursepkg.distortion` do, so an answer that calls one of them, or copies a function of it, is refused. Exercises do
# not depend on each other: if one resists, go on with the next.
#
# **Rounding** is to the nearest whole number, ties to even, as `round` and `torch.round` do it.

# %%
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

import math

import torch

from coursepkg import affine, check, distortion, formats
from coursepkg.check import case

coursepkg.hello()

# %% [markdown]
# ## 1. What a bit pattern stands for (3 points)
#
# A small floating-point format has one sign bit, then `exponent_bits` exponent bits $E$, then `mantissa_bits` mantissa bits
# $M$. Its bias is $2^{E-1} - 1$. It has **no infinities and no NaN**: all exponent fields stand for numbers. Field 0 holds zero and the
# subnormals, as in lecture 02.
#
# `code` is the bit pattern read as a whole number, from 0 to $2^{1 + E + M} - 1$. Return the value as a `float`. The code with only
# the sign bit set stands for zero, too; −0.0 and 0.0 both count.


# %% solution="decode_float"
def decode_float(code: int, exponent_bits: int, mantissa_bits: int) -> float:
    """The value of a bit pattern: sign, exponent, mantissa.

    >>> decode_float(0b0_11_1, exponent_bits=2, mantissa_bits=1)   # e2m1: (1 + 1/2) · 2^(3 − 1)
    6.0
    >>> decode_float(0b1_00_1, exponent_bits=2, mantissa_bits=1)   # subnormal: −(1/2) · 2^0
    -0.5
    """
    ### BEGIN SOLUTION
    bias = 2 ** (exponent_bits - 1) - 1
    mantissa = code % 2**mantissa_bits
    exponent = (code >> mantissa_bits) % 2**exponent_bits
    negative = code >> (mantissa_bits + exponent_bits)
    fraction = mantissa / 2**mantissa_bits
    if exponent == 0:
        size = fraction * 2.0 ** (1 - bias)
    else:
        size = (1 + fraction) * 2.0 ** (exponent - bias)
    return -size if negative else size
    ### END SOLUTION


# %% test="decode_float" points=3
from coursepkg import check, formats
from coursepkg.check import case

check.function(
    decode_float,
    [
        case(0b0_11_1, 2, 1, expected=6.0, label="e2m1's largest",
             hint="(1 + m/2^M) · 2^(e − bias), and the bias of two exponent bits is 1."),
        case(0b1_01_0, 2, 1, expected=-1.0, label="e2m1, negative", hint="The first bit is the sign."),
        case(0b0_00_1, 2, 1, expected=0.5, label="e2m1, subnormal",
             hint="In field 0 there is no leading 1, and the exponent is 1 − bias."),
        case(0b0_01011_1001100110, 5, 10, expected=0.0999755859375, label="0.1 as fp16 has it",
             hint="fp16's bias is 15, and its mantissa counts in 1/1024."),
    ],
    without=[formats],
)
### BEGIN HIDDEN TESTS
e3m2 = formats.FloatFormat("e3m2", 3, 2, 3, "values", "OCP MX v1.0", saturates=True)
e2m3 = formats.FloatFormat("e2m3", 2, 3, 1, "values", "OCP MX v1.0", saturates=True)
check.hidden(
    decode_float,
    [
        case(0b0_111_11, 3, 2, expected=e3m2.decode(0b0_111_11), label="the last exponent field",
             hint="There is no infinity here: the last field stands for numbers like the others."),
        case(0b1_000_11, 3, 2, expected=e3m2.decode(0b1_000_11), label="a negative subnormal",
             hint="Subnormals have a sign like all others, and the exponent 1 − bias."),
        case(0b0_00_101, 2, 3, expected=e2m3.decode(0b0_00_101), label="a subnormal of three bits",
             hint="The mantissa counts in 1/2^M."),
        case(0b1_10_011, 2, 3, expected=e2m3.decode(0b1_10_011), label="another small format",
             hint="The fields are cut out of the code from the right: mantissa, exponent, sign."),
        case(0, 4, 3, expected=0.0, label="zero", hint="Field 0 with mantissa 0 is 0."),
        case(0b1_11110_1111111111, 5, 10, expected=-65504.0, label="a 16-bit format",
             hint="The bias is 2^(E − 1) − 1."),
        case(0b0_00000000_0000001, 8, 7, expected=formats.BF16.smallest_subnormal,
             label="a subnormal of bf16", hint="2.0 ** negative is fine: work with floats."),
    ],
    without=[formats],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. Cutting mantissa bits (4 points)
#
# fp32 has 23 mantissa bits. Round a float32 tensor to the `mantissa_bits` first of them (from 1 to 22): the rest, the last
# 23 − `mantissa_bits` bits, is dropped if it is less than half; 1 is added to what is kept if it is more; and if it is exactly half, 1 is added if the last kept
# bit is 1. A carry may run into the exponent. The result is a float32 tensor of the same shape whose dropped bits are 0. With 7 bits it is bf16, with 10 tf32.
#
# `x.view(torch.int32)` gives the same 32 bits as whole numbers, and `.view(torch.float32)` takes them back. The sign is the first bit, so nothing below it needs to
# know of it. Infinities and NaN do not occur. A tensor may have any shape, also none, and may be empty. Leave `x` as it is.


# %% solution="round_mantissa"
def round_mantissa(x: torch.Tensor, mantissa_bits: int) -> torch.Tensor:
    """float32 numbers rounded to `mantissa_bits` bits of mantissa, ties to even; float32, of x's shape.

    >>> round_mantissa(torch.tensor([1.003, 1.005]), 7)
    tensor([1.0000, 1.0078])
    """
    ### BEGIN SOLUTION
    dropped = 23 - mantissa_bits
    bits = x.view(torch.int32)
    last_kept = (bits >> dropped) & 1
    half = 1 << (dropped - 1)
    bits = bits + (half - 1) + last_kept
    return ((bits >> dropped) << dropped).view(torch.float32)
    ### END SOLUTION


# %% test="round_mantissa" points=4
import torch

from coursepkg import check, formats
from coursepkg.check import case

check.function(
    round_mantissa,
    [
        case(torch.tensor([1.003, 1.005]), 7, expected=torch.tensor([1.0, 1.0078125]),
             label="bf16", hint="1.005 lies above the middle: 1 is added to what is kept."),
        case(torch.tensor([1 + 2**-8, 1 + 3 * 2**-8]), 7, expected=torch.tensor([1.0, 1 + 2**-6]),
             label="ties", hint="Exactly half: add 1 only if the last kept bit is 1."),
        case(torch.tensor([[-1.003], [-1.005]]), 7, expected=torch.tensor([[-1.0], [-1.0078125]]),
             label="negative numbers, another shape", hint="The sign bit stays; the bits below it are those of the size."),
        case(torch.tensor([1.999]), 3, expected=torch.tensor([2.0]),
             label="a carry", hint="Add to the bits as to a whole number: a carry then reaches the exponent."),
    ],
    without=[formats],
)
### BEGIN HIDDEN TESTS
torch.manual_seed(1)
many = torch.randn(5, 3, 4) * 100
ties = torch.arange(1, 64, 2).float() / 4  # with 3 bits kept, many of them lie half way
tf32 = formats.TF32.round(many)
check.hidden(
    round_mantissa,
    [
        case(many, 10, expected=tf32, rel=0, label="10 bits, three dimensions",
             hint="The number of dropped bits is 23 − mantissa_bits."),
        case(many.to(torch.bfloat16).float() + 0, 7, expected=many.to(torch.bfloat16).float(), rel=0,
             label="numbers that have 7 bits already", hint="What needs no rounding stays as it is."),
        case(ties, 3, expected=formats.FloatFormat("e8m3", 8, 3, 127, "ieee", "").round(ties), rel=0,
             label="ties, 3 bits", hint="Exactly half goes to the neighbour whose last bit is 0."),
        case(-ties, 2, expected=formats.FloatFormat("e8m2", 8, 2, 127, "ieee", "").round(-ties), rel=0,
             label="negative ties, 2 bits", hint="Ties do not depend on the sign."),
        case(torch.tensor(0.1), 7, expected=torch.tensor(0.10009765625), rel=0,
             label="no dimension", hint="x.view(torch.int32) works for any shape."),
        case(torch.zeros(0, 2), 7, expected=torch.zeros(0, 2), label="an empty tensor",
             hint="No loop over elements is needed."),
        case(torch.tensor([0.0, 2.0**-130, 1.5]), 22, expected=torch.tensor([0.0, 2.0**-130, 1.5]), rel=0,
             label="22 bits", hint="One bit is dropped: half is 1."),
        case(many.transpose(0, 2), 5,
             expected=formats.FloatFormat("e8m5", 8, 5, 127, "ieee", "").round(many.transpose(0, 2)), rel=0,
             label="5 bits, a transposed tensor", hint="Keep x's shape."),
    ],
    without=[formats],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. Scale and zero-point from data (4 points)
#
# For the integer zero-point convention, $\hat w = s (q - Z)$ with codes $0 \dots 2^b - 1$, choose $s$ and $Z$ for all values of a tensor:
#
# - the range runs from the least value to the largest, **widened to hold 0** where it does not;
# - $s$ = range / $(2^b - 1)$, and $Z = \text{round}(-\text{low}/s)$, where low is the range's lower end;
# - if all values are 0, $s = 1$ and $Z = 0$.
#
# Return `(s, Z)`, a `float` and an `int`. `x` has at least one value, any shape, and is float16, bfloat16, float32 or float64.
# Compute with Python's floats or in float64, whatever `x` is: `x.min().item()` is a Python float.


# %% solution="choose_qparams"
def choose_qparams(x: torch.Tensor, bits: int) -> tuple[float, int]:
    """Scale and integer zero-point of a tensor for codes of `bits` bits.

    >>> choose_qparams(torch.tensor([-0.5, 0.25, 1.0], dtype=torch.float64), bits=4)
    (0.1, 5)
    """
    ### BEGIN SOLUTION
    low, high = min(x.min().item(), 0.0), max(x.max().item(), 0.0)
    if low == high:
        return 1.0, 0
    scale = (high - low) / (2**bits - 1)
    return scale, round(-low / scale)
    ### END SOLUTION


# %% test="choose_qparams" points=4
import torch

from coursepkg import affine, check
from coursepkg.check import case

check.function(
    choose_qparams,
    [
        case(torch.tensor([-0.5, 0.25, 1.0], dtype=torch.float64), 4, expected=(0.1, 5),
             label="a range with 0 in it", hint="16 codes have 15 steps between them."),
        case(torch.tensor([[10.0, 10.3], [10.7, 11.0]]), 8, expected=(11 / 255, 0),
             label="a range above 0", hint="Widen it: from 0 to 11."),
        case(torch.tensor([-2.0, -1.0]), 2, expected=(2 / 3, 3),
             label="a range below 0", hint="Widen it: from −2 to 0. Then 0 has the last code."),
        case(torch.zeros(3, 2), 4, expected=(1.0, 0), label="zeros", hint="A scale of 0 could not be divided by."),
    ],
    without=[affine],
)
### BEGIN HIDDEN TESTS
torch.manual_seed(2)
some = torch.randn(4, 5, 6, dtype=torch.float64) * 3 + 1
low, high = some.min().item(), some.max().item()
half = some.to(torch.bfloat16)
low16, high16 = half.min().item(), half.max().item()
check.hidden(
    choose_qparams,
    [
        case(some, 8, expected=((high - low) / 255, round(-low / ((high - low) / 255))),
             label="three dimensions, float64", hint="One scale for the whole tensor."),
        case(half, 3, expected=((high16 - low16) / 7, round(-low16 / ((high16 - low16) / 7))),
             label="bfloat16, 3 bits", hint="Take minimum and maximum out as Python floats first: bf16 would round the scale."),
        case(torch.tensor([0.1], dtype=torch.float16), 8, expected=(torch.tensor(0.1, dtype=torch.float16).item() / 255, 0),
             label="one value, float16", hint="A constant that is not 0 has the range from 0 to it."),
        case(torch.full((2, 2), -0.75), 4, expected=(0.05, 15),
             label="a negative constant", hint="The range is widened on the side where 0 is missing."),
        case(torch.tensor([-1.0, 0.875]), 4, expected=(0.125, 8),
             label="an exact zero-point", hint="Z = round(−low/s)."),
        case(torch.tensor([-0.37, 1.13], dtype=torch.float64), 4, expected=(0.1, 4),
             label="a zero-point to be rounded up", hint="Round −low/s, do not cut it off."),
        case(torch.tensor(-0.0), 2, expected=(1.0, 0), label="a single zero", hint="All values are 0: scale 1."),
    ],
    without=[affine],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. Symmetric codes, row by row (4 points)
#
# Each row of `w`, its last dimension, gets its own scale. `w` has one or more dimensions, at least one value in a row, and is float16, bfloat16 or float32;
# compute in float32. With $b$ bits the codes run from $-(2^{b-1} - 1)$ to $2^{b-1} - 1$. The ruler reaches to `share` times the row's largest size: the
# limit is `share` · max|w|, and the scale limit / $(2^{b-1} - 1)$. Values beyond the limit get the code at the end. A row of zeros has scale 1 and codes 0.
#
# Return `(codes, scale)`: int8 of `w`'s shape, and float32 of the same shape with 1 in place of the row's length.


# %% solution="quantize_symmetric"
def quantize_symmetric(
    w: torch.Tensor, bits: int, share: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales of the rows of w.

    >>> codes, scale = quantize_symmetric(torch.tensor([0.23, -0.71, 0.02, 1.05]), bits=4)
    >>> codes
    tensor([ 2, -5,  0,  7], dtype=torch.int8)
    >>> scale
    tensor([0.1500])
    """
    ### BEGIN SOLUTION
    w = w.float()
    highest = 2 ** (bits - 1) - 1
    scale = share * w.abs().amax(-1, keepdim=True) / highest
    scale = torch.where(scale == 0, 1.0, scale)
    codes = (w / scale).round().clamp(-highest, highest)
    return codes.to(torch.int8), scale
    ### END SOLUTION


# %% test="quantize_symmetric" points=4
import torch

from coursepkg import affine, check
from coursepkg.check import case

check.function(
    quantize_symmetric,
    [
        case(torch.tensor([0.23, -0.71, 0.02, 1.05]), 4,
             expected=(torch.tensor([2, -5, 0, 7], dtype=torch.int8), torch.tensor([0.15])), rel=1e-6,
             label="the lecture's row", hint="The largest size has code 7."),
        case(torch.tensor([[0.9, -2.0], [0.0, 0.0]]), 8,
             expected=(torch.tensor([[57, -127], [0, 0]], dtype=torch.int8), torch.tensor([[2 / 127], [1.0]])), rel=1e-6,
             label="two rows, one of zeros", hint="Each row has its scale, of shape (2, 1); that of zeros is 1."),
        case(torch.tensor([0.4, -0.3, 2.0]), 3, share=0.5,
             expected=(torch.tensor([1, -1, 3], dtype=torch.int8), torch.tensor([1 / 3])), rel=1e-6,
             label="half of the range", hint="2.0 lies beyond the limit 1.0 and gets the last code, 3."),
    ],
    without=[affine],
)
### BEGIN HIDDEN TESTS
torch.manual_seed(3)


def reference(x, bits, share=1.0):
    rows = x.double().reshape(-1, x.shape[-1])
    highest = 2 ** (bits - 1) - 1
    steps = (x.float().abs().amax(-1, keepdim=True) * share / highest).float()
    steps = torch.where(steps == 0, 1.0, steps)
    codes = (rows / steps.double().reshape(-1, 1)).round().clamp(-highest, highest)
    return codes.reshape(x.shape).to(torch.int8), steps


deep, half = torch.randn(2, 3, 7), torch.randn(4, 9).to(torch.float16)
brain = torch.randn(5).to(torch.bfloat16)
check.hidden(
    quantize_symmetric,
    [
        case(deep, 8, expected=reference(deep, 8), rel=1e-6, label="three dimensions",
             hint="The rows run along the last dimension, whatever stands before it."),
        case(half, 4, expected=reference(half, 4), rel=1e-6, label="float16",
             hint="Go to float32 first; the scale is float32."),
        case(brain, 2, expected=reference(brain, 2), rel=1e-6, label="bfloat16, 2 bits, one row",
             hint="Two bits have the codes −1, 0, 1."),
        case(deep, 4, share=0.6, expected=reference(deep, 4, 0.6), rel=1e-6, label="a limit of 60 %",
             hint="Clamp on both sides, to codes of the same size."),
        case(-deep.abs(), 3, share=0.5, expected=reference(-deep.abs(), 3, 0.5), rel=1e-6,
             label="negative values beyond the limit",
             hint="The lowest code is −(2^(b−1) − 1): −3 for 3 bits, not −4. The largest size counts, not the largest value."),
        case(torch.tensor([[1.0, 3.0, 5.0, 14.0, -14.0]]) / 2, 4,
             expected=(torch.tensor([[0, 2, 2, 7, -7]], dtype=torch.int8), torch.ones(1, 1)), rel=1e-6,
             label="ties", hint="Half goes to the even code, as torch.round does it."),
        case(torch.zeros(2, 1), 4, expected=(torch.zeros(2, 1, dtype=torch.int8), torch.ones(2, 1)),
             label="rows of one zero", hint="The scale of zeros is 1."),
    ],
    without=[affine],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. There and back, with an integer zero-point (3 points)
#
# Given a scale $s$ and a zero-point $Z$ for the whole tensor: $q = \text{round}(x/s) + Z$, clamped to $0 \dots 2^b - 1$, and $\hat x = s (q - Z)$.
#
# `x` has any shape and is float16, bfloat16 or float32; divide in float32. Return `(codes, back)`: uint8 and float32, both of `x`'s shape.
# Mind what uint8 does below 0 and above 255.


# %% solution="there_and_back"
def there_and_back(
    x: torch.Tensor, scale: float, zero_point: int, bits: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes, uint8, and the values that they stand for, float32.

    >>> codes, back = there_and_back(torch.tensor([-0.25, 0.5, 9.0]), scale=0.125, zero_point=3, bits=4)
    >>> codes
    tensor([ 1,  7, 15], dtype=torch.uint8)
    >>> back
    tensor([-0.2500,  0.5000,  1.5000])
    """
    ### BEGIN SOLUTION
    codes = (x.float() / scale).round() + zero_point
    codes = codes.clamp(0, 2**bits - 1)
    return codes.to(torch.uint8), (codes - zero_point) * scale
    ### END SOLUTION


# %% test="there_and_back" points=3
import torch

from coursepkg import affine, check
from coursepkg.check import case

check.function(
    there_and_back,
    [
        case(torch.tensor([-0.25, 0.5, 9.0]), 0.125, 3, 4,
             expected=(torch.tensor([1, 7, 15], dtype=torch.uint8), torch.tensor([-0.25, 0.5, 1.5])), rel=1e-6,
             label="one value beyond the range", hint="Clamp before you go to uint8; subtract the zero-point as floats."),
        case(torch.tensor([[0.0], [-2.0]]), 0.5, 2, 2,
             expected=(torch.tensor([[2], [0]], dtype=torch.uint8), torch.tensor([[0.0], [-1.0]])), rel=1e-6,
             label="2 bits", hint="0 has the code Z, and is read back as exactly 0."),
    ],
    without=[affine],
)
### BEGIN HIDDEN TESTS
torch.manual_seed(4)
wide = torch.randn(3, 4, 5) * 40
integer = affine.Scheme(8, "integer", granularity="tensor")
eight = affine.encode(wide, torch.full((1, 1), 0.25), torch.full((1, 1), 100, dtype=torch.uint8), integer)
small = (torch.arange(-8, 9) / 8).to(torch.bfloat16)
four = affine.Scheme(3, "integer", granularity="tensor")
three = affine.encode(small.float(), torch.full((1, 1), 0.28), torch.full((1, 1), 3, dtype=torch.uint8), four)
check.hidden(
    there_and_back,
    [
        case(wide, 0.25, 100, 8, expected=(eight, (eight.float() - 100) * 0.25), rel=1e-6,
             label="8 bits, three dimensions, far beyond the range",
             hint="Codes below 0 and above 255 wrap around in uint8: clamp first."),
        case(small, 0.28, 3, 3, expected=(three, (three.float() - 3) * 0.28), rel=1e-5,
             label="bfloat16, 3 bits", hint="Go to float32 before you divide."),
        case(torch.tensor([0.5, 1.5, 2.5, -0.5, 3.5]), 1.0, 1, 4,
             expected=(torch.tensor([1, 3, 3, 1, 5], dtype=torch.uint8), torch.tensor([0.0, 2.0, 2.0, 0.0, 4.0])), rel=1e-6,
             label="ties with an odd zero-point",
             hint="Round x/s first, to even, and add Z afterwards: round(x/s + Z) breaks ties the other way."),
        case(torch.tensor([-1.0, 0.0, 1.0]), 0.125, 0, 4,
             expected=(torch.tensor([0, 0, 8], dtype=torch.uint8), torch.tensor([0.0, 0.0, 1.0])), rel=1e-6,
             label="zero-point 0", hint="Then the range begins at 0."),
        case(torch.tensor([-1.0, 0.5], dtype=torch.float16), 0.0625, 255, 8,
             expected=(torch.tensor([239, 255], dtype=torch.uint8), torch.tensor([-1.0, 0.0])), rel=1e-6,
             label="float16, zero-point 255", hint="Then the range ends at 0."),
        case(torch.zeros(0, 3), 0.5, 1, 4,
             expected=(torch.zeros(0, 3, dtype=torch.uint8), torch.zeros(0, 3)), label="an empty tensor",
             hint="Nothing to do, and the shape stays."),
    ],
    without=[affine],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 6. From one convention to another (3 points)
#
# A file has rulers with a real offset: $\hat w = s q + z$, codes $q$ from 0 to $2^b - 1$. A kernel wants *signed* codes $p = q - 2^{b-1}$ and an integer
# zero-point: $\hat w = s (p - P)$.
#
# Find the whole number $P$ that comes nearest: with $Z = \text{round}(-z/s)$ the zero-point of the unsigned codes, $P = Z - 2^{b-1}$. Then say by how much all values move: new value
# minus old value, the same for each code. Return `(P, moved)`, an `int` and a `float`. If $Z$ is not one of the codes 0 to $2^b - 1$, 0 is not on the ruler; raise a `ValueError` whose message
# says `zero-point`.


# %% solution="to_signed"
def to_signed(scale: float, offset: float, bits: int) -> tuple[int, float]:
    """Integer zero-point for signed codes, and by how much the values move.

    >>> to_signed(0.25, -1.0, bits=4)      # Z = 4, P = 4 − 8
    (-4, 0.0)
    >>> to_signed(0.5, -1.125, bits=4)     # Z = 2: values start at −1.0
    (-6, 0.125)
    """
    ### BEGIN SOLUTION
    unsigned = round(-offset / scale)
    if not 0 <= unsigned <= 2**bits - 1:
        raise ValueError(f"the zero-point {unsigned} is not one of the codes")
    return unsigned - 2 ** (bits - 1), -scale * unsigned - offset
    ### END SOLUTION


# %% test="to_signed" points=3
from coursepkg import affine, check
from coursepkg.check import case

check.function(
    to_signed,
    [
        case(0.25, -1.0, 4, expected=(-4, 0.0), label="an offset of whole steps",
             hint="z = −s · Z; the signed zero-point is 8 less."),
        case(0.5, -1.125, 4, expected=(-6, 0.125), label="an offset between two steps",
             hint="Code 0 stood for −1.125 and now stands for −s · Z."),
        case(0.5, 2.0, 4, expected=ValueError, naming=["zero-point"],
             label="0 below the ruler", hint="−z/s is −4, which is no code."),
    ],
    without=[affine],
)
### BEGIN HIDDEN TESTS
check.hidden(
    to_signed,
    [
        case(0.125, -16.0, 8, expected=(0, 0.0), label="8 bits, in the middle",
             hint="For 8 bits signed codes are 128 less."),
        case(0.25, 0.0, 2, expected=(-2, 0.0), label="2 bits, offset 0",
             hint="Z = 0, so P is the lowest signed code."),
        case(0.5, -7.5, 4, expected=(7, 0.0), label="the last code",
             hint="Z may be any code from 0 to 2^b − 1."),
        case(0.5, -8.0, 4, expected=ValueError, naming=["zero-point"], label="just beyond the last code",
             hint="2^b is no code."),
        case(0.5, -0.875, 3, expected=(-2, -0.125), label="values move down",
             hint="Moved is new minus old: −s · Z − z."),
        case(0.25, 0.0625, 4, expected=(-8, -0.0625), label="an offset above 0 that rounds to code 0",
             hint="Check Z, not the sign of z."),
        case(2.0, -5.0, 4, expected=(-6, 1.0), label="a tie",
             hint="round goes to the even number."),
    ],
    without=[affine],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 7. Where to clip (4 points)
#
# A tensor of any shape, one symmetric ruler for all of it, codes $-(2^{b-1} - 1) \dots 2^{b-1} - 1$. Try the limits at 1 %, 2 %, …, 100 % of the largest size; clip what lies
# beyond; and find the limit with the least **squared** error over all values, clipping and rounding together.
#
# Return `(percent, sqnr)`: the best limit as a whole number from 1 to 100, and the SQNR there in dB, a `float`. Of two limits with the same error take the larger
# one. Compute in float64. `x` is float16, bfloat16, float32 or float64 and has at least one value that is not 0. Where nothing is lost at all, the SQNR is `math.inf`.


# %% solution="best_limit"
def best_limit(x: torch.Tensor, bits: int) -> tuple[int, float]:
    """The best limit in percent of the largest size, and the SQNR in dB that it gives.

    >>> percent, sqnr = best_limit(torch.tensor([0.5, -0.5, 1.0]), bits=2)   # ticks at 0 and ±limit
    >>> percent, round(sqnr, 2)
    (67, 9.54)
    """
    ### BEGIN SOLUTION
    x = x.double()
    highest = 2 ** (bits - 1) - 1
    largest = x.abs().max().item()
    best, least = 100, math.inf
    for percent in range(100, 0, -1):
        scale = largest * percent / 100 / highest
        back = (x / scale).round().clamp(-highest, highest) * scale
        error = (back - x).square().sum().item()
        if error < least:
            best, least = percent, error
    if least == 0:
        return best, math.inf
    return best, 10 * math.log10(x.square().sum().item() / least)
    ### END SOLUTION


# %% test="best_limit" points=4
import math

import torch

from coursepkg import affine, check, distortion
from coursepkg.check import case

check.function(
    best_limit,
    [
        case(torch.tensor([0.5, -0.5, 1.0]), 2, expected=(67, 9.54155659227676), rel=1e-6,
             label="2 bits", hint="With the limit 0.67 the errors are 0.17, −0.17 and −0.33. Square them; values beyond the limit get the code at its end."),
        case(torch.tensor([[1.0, -1.0], [0.0, 1.0]]), 4, expected=(100, math.inf),
             label="nothing is lost", hint="Only the full limit is exact; no error means an infinite SQNR."),
    ],
    without=[affine, distortion],
)
### BEGIN HIDDEN TESTS
torch.manual_seed(5)


def searched(x, bits):
    x = x.double()
    top = 2 ** (bits - 1) - 1
    steps = x.abs().max() * torch.arange(1, 101, dtype=torch.float64) / 100 / top
    codes = (x.reshape(1, -1) / steps[:, None]).round().clamp(-top, top)
    lost = (codes * steps[:, None] - x.reshape(1, -1)).square().sum(1)
    at = 100 - int(lost.flip(0).argmin())
    return at, 10 * math.log10(x.square().sum().item() / lost[at - 1].item())


bell, small = torch.randn(6, 50), torch.randn(40) * 1e-3
half = (torch.randn(3, 4, 10) * 300).to(torch.float16)
check.hidden(
    best_limit,
    [
        case(bell, 4, expected=searched(bell, 4), rel=1e-6, label="bell-shaped, 4 bits",
             hint="What is clipped counts with all that sticks out."),
        case(bell, 2, expected=searched(bell, 2), rel=1e-6, label="bell-shaped, 2 bits",
             hint="Two bits have the codes −1, 0, 1."),
        case(bell, 8, expected=searched(bell, 8), rel=1e-6, label="bell-shaped, 8 bits",
             hint="Squared errors, not sizes; and over all values."),
        case(half, 3, expected=searched(half, 3), rel=1e-6, label="float16, large values",
             hint="300² overflows float16: go to float64 first."),
        case(small.to(torch.bfloat16), 3, expected=searched(small.to(torch.bfloat16), 3), rel=1e-6,
             label="bfloat16, small values", hint="Limits are shares of the largest size."),
        case(torch.tensor([-3.0]), 4, expected=(100, math.inf), label="one negative value",
             hint="The largest size, not the largest value; its own limit is exact."),
        case(torch.tensor([2.0, 2.0, -2.0], dtype=torch.float64), 2, expected=(100, math.inf),
             label="all of one size", hint="The full limit is exact."),
    ],
    without=[affine, distortion],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 8. In your own words (4 points)
#
# A colleague writes:
#
# > I quantized our model to 4 bits, symmetric, one scale for each row. Then I chose each row's clipping limit for the least squared error of the weights. The SQNR rose from
# > 17 to 18.6 dB, so the model must be better now. For the 8-bit version I clip at the 99.9th percentile; that can only help.
#
# Write 100 to 200 words to your colleague. Say what 1.6 dB are in errors and in bits; why the model may be worse all the same, and how to find out; what the percentile does at 8 bits, and on what that
# depends; and what you would do. Give numbers with units, from lecture 02 or your own.

# %% [markdown] written="better_now" points=4
# ### BEGIN SOLUTION
# 1.6 dB less noise is a squared error of 69 % (10^(−0.16)), errors of 83 % in size, about a quarter of a bit (6.02 dB are one). So much for the weights.
#
# The model multiplies weights by inputs. Your search took every weight to be equally important, and clipping hits the largest. Where these meet large inputs, as in the course LM's down_proj, the output gets
# worse: there the weights' error fell from 3.1 to 1.8 %, the outputs' rose from 1.3 to 1.9 %, and the KL divergence of the predictions from 0.0035 to 0.0053 nats. So measure output errors on real inputs
# layer by layer, and the model itself: KL divergence or perplexity on held-out text, paired, with an interval.
#
# At 8 bits the steps are short, and what the percentile cuts off costs more than all rounding: on Gaussian rows of 4,096 it loses 3.7 dB. The best limit there is nearly the largest
# value; with very many values on one ruler, or outliers, it lies lower. I would keep absmax at 8 bits, and at 4 bits clip only where the outputs get better, which excludes down_proj here.
# ### END SOLUTION

# %% [markdown] rubric="better_now"
# *This answer is graded by a person.*
#
# <!-- BEGIN MARK SCHEME -->
#
# One point each:
#
# 1. What 1.6 dB mean: squared error about 0.69 times (errors 0.83 times), about a quarter of a bit.
# 2. Why the model may be worse: weights are not equally important; clipped weights are the largest, and may meet large inputs; the error of outputs decides.
# 3. How to find out: output error on real inputs, or KL, perplexity, exam of the model, paired or with an interval.
# 4. At 8 bits the percentile hurts (about 3.7 dB on rows of 4,096 Gaussian values), because clipping outweighs rounding there; depends on how many values share a scale or on outliers. A sensible plan.
#
# No point is lost for length or style. Numbers must agree with lecture 02 within rounding, or be the student's own and say how they were measured.
#
# <!-- END MARK SCHEME -->
