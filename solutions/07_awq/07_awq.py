# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Assignment 07: AWQ
#
# Seven functions and one written answer, about 110 minutes. Everything you need is in lecture 07 and in the text of the exercises.
#
# **How it works.** Each exercise has a cell for your code and, below it, a cell that checks it. The checks call your
# function, and where something is off they say what they called, what came back, what was expected, and give a hint.
# They do not try every rule in the text: when you hand in, the same functions are called with other inputs as well.
# Keep the line `# grade_id: …` at the top of a cell: it says which exercise the cell answers.
#
# **Rules.** Use torch and Python's standard library. The exercises ask you to write what `coursepkg.awq`, `affine`,
# `calibration` and `surgery` do, so an answer that calls them, or copies a function of theirs, is refused. Exercises do not depend on each other.
#
# **Numbers.** A weight has a row for each output and a column for each input. A sample of inputs has a row for each token: shape (tokens, inputs).
# Tensors are float64 unless a text says otherwise, so that nobody loses points to rounding. Codes of $b$ bits are whole numbers from
# $-(2^{b-1} - 1)$ to $2^{b-1} - 1$, ties go to the even code, as `torch.round` does it.

# %%
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

import torch

from coursepkg import check
from coursepkg.check import case

coursepkg.hello()

# %% [markdown]
# ## 1. How large each input is (3 points)
#
# `batches` is a list of tensors of inputs, each of shape $(\ldots, n)$: all dimensions before the last are tokens. They may be float16, bfloat16, float32 or float64, not all alike. Return the mean of $|x|$ for each input over **all tokens of
# all batches**, float32, shape $(n,)$. Every token counts alike, however many there are in its batch. Convert to float32 before you add anything up. A batch may hold no token at all; if no batch holds any, raise a `ValueError`. The list has at
# least one batch.


# %% solution="importance"
def importance(batches: list[torch.Tensor]) -> torch.Tensor:
    """Mean magnitude of each input over all tokens, float32, (n,).

    >>> importance([torch.tensor([[1.0, -10.0], [-3.0, 10.0]])]).tolist()
    [2.0, 10.0]
    """
    ### BEGIN SOLUTION
    n = batches[0].shape[-1]
    total, tokens = torch.zeros(n), 0
    for batch in batches:
        x = batch.reshape(-1, n).float()
        total += x.abs().sum(0)
        tokens += len(x)
    if tokens == 0:
        raise ValueError("no token shows how large the inputs are")
    return total / tokens
    ### END SOLUTION


# %% test="importance" points=3
import torch

from coursepkg import affine, awq, calibration, check, surgery
from coursepkg.check import case

two = torch.tensor([[1.0, -10.0], [-3.0, 10.0]])
check.function(
    importance,
    [
        case([two], expected=torch.tensor([2.0, 10.0]), rel=1e-6,
             label="two tokens", hint="The mean of sizes, without signs."),
        case([two, torch.tensor([[8.0, 1.0]])], expected=torch.tensor([4.0, 7.0]), rel=1e-6,
             label="batches of two tokens and of one", hint="(1 + 3 + 8)/3: each token counts alike, not each batch."),
        case([torch.tensor([[[1.0, 2.0]], [[3.0, -4.0]]])], expected=torch.tensor([2.0, 3.0]), rel=1e-6,
             label="sequences of one token", hint="All dimensions before the last are tokens."),
    ],
    without=[awq, affine, calibration, surgery],
)
### BEGIN HIDDEN TESTS
some = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
check.hidden(
    importance,
    [
        case([some, some[0] * 3], expected=(torch.cat([some.reshape(-1, 4), 3 * some[0].reshape(-1, 4)]).abs().mean(0)).float(), rel=1e-5,
             label="four dimensions and three, float64", hint="Everything before the last dimension is tokens; the result is float32."),
        case([torch.zeros(0, 3), torch.tensor([[1.0, 0.0, -2.0]])], expected=torch.tensor([1.0, 0.0, 2.0]), rel=1e-6,
             label="a batch without tokens, and a dead input", hint="An empty batch adds nothing; a dead input has size 0."),
        case([torch.zeros(0, 3), torch.zeros(2, 0, 3)], expected=ValueError,
             label="no token at all", hint="The text says what to raise."),
        case([torch.full((4, 2), 60000.0, dtype=torch.float16)], expected=torch.full((2,), 60000.0), rel=1e-3,
             label="a sum beyond fp16", hint="60,000 fits into fp16, the sum of four does not."),
        case([torch.tensor([2.0, -1.0], dtype=torch.bfloat16), torch.tensor([[4.0, 0.0]], dtype=torch.float64)], expected=torch.tensor([3.0, 0.5]), rel=1e-6,
             label="a token without a batch dimension; two dtypes", hint="reshape(-1, n) makes rows of everything."),
    ],
    without=[awq, affine, calibration, surgery],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. From sizes to scales (3 points)
#
# `mean_abs` holds the sizes $m_i \ge 0$ of the inputs, float64, shape $(n,)$, and `ratio` is $r$. Return the scales, float64, shape $(n,)$:
#
# 1. Sizes below 0.0001 count as 0.0001, so that an input that is always 0 has a scale, too.
# 2. $s_i = m_i^r$.
# 3. Divide all of them by $\sqrt{\max s \cdot \min s}$.


# %% solution="scales"
def scales(mean_abs: torch.Tensor, ratio: float) -> torch.Tensor:
    """The scale of each input, around 1, (n,).

    >>> scales(torch.tensor([1.0, 1.0, 1.0, 16.0], dtype=torch.float64), 0.5).tolist()
    [0.5, 0.5, 0.5, 2.0]
    """
    ### BEGIN SOLUTION
    s = mean_abs.clamp(min=1e-4) ** ratio
    return s / (s.max() * s.min()).sqrt()
    ### END SOLUTION


# %% test="scales" points=3
import torch

from coursepkg import affine, awq, calibration, check, surgery
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


check.function(
    scales,
    [
        case(exact([1.0, 1.0, 1.0, 16.0]), 0.5, expected=exact([0.5, 0.5, 0.5, 2.0]), rel=1e-6,
             label="one loud input", hint="Roots are 1, 1, 1, 4; √(4 · 1) = 2."),
        case(exact([3.0, 7.0]), 0.0, expected=exact([1.0, 1.0]), rel=1e-6,
             label="r = 0", hint="Then nothing is scaled."),
        case(exact([0.0, 1.0]), 0.5, expected=exact([0.1, 10.0]), rel=1e-6,
             label="a dead input", hint="It counts as 0.0001, whose root is 0.01; √(1 · 0.01) = 0.1."),
    ],
    without=[awq, affine, calibration, surgery],
)
### BEGIN HIDDEN TESTS
some = torch.rand(9, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 5
powers = some**0.35
check.hidden(
    scales,
    [
        case(some, 0.35, expected=powers / (powers.max() * powers.min()) ** 0.5, rel=1e-6,
             label="nine inputs", hint="First the power, then the normalisation."),
        case(1000 * some, 0.35, expected=powers / (powers.max() * powers.min()) ** 0.5, rel=1e-6,
             label="the same inputs in other units", hint="Units cancel for sizes above 0.0001: all scales grow alike, and so does what they are divided by."),
        case(exact([2.0, 8.0, 32.0]), 1.0, expected=exact([0.25, 1.0, 4.0]), rel=1e-6,
             label="r = 1", hint="√(32 · 2) = 8."),
        case(exact([0.0, 0.0]), 0.7, expected=exact([1.0, 1.0]), rel=1e-6,
             label="nothing but dead inputs", hint="They count as 0.0001 each, and are equal."),
        case(exact([0.3]), 0.5, expected=exact([1.0]), rel=1e-6,
             label="one input", hint="It is the largest and the smallest."),
        case(exact([0.00001, 0.0, 0.01]), 1.0, expected=exact([0.1, 0.1, 10.0]), rel=1e-6,
             label="sizes below the least", hint="Sizes are raised to 0.0001 before the power is taken."),
    ],
    without=[awq, affine, calibration, surgery],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. Scaled, rounded, scaled back (5 points)
#
# `weight` has shape (outputs, inputs), `s` shape (inputs,), all above 0. Multiply each column by its scale. Round to `bits` bits in groups of `group` neighbours in a row (`group` divides the inputs): the step of a group is its largest
# magnitude **after scaling**, divided by $2^{b-1} - 1$. Take the values that the codes stand for, divide each column by its scale again, and return that: float64, of the weight's shape. A group of zeros stays zeros. Leave `weight` as it is.


# %% solution="scaled_rounding"
def scaled_rounding(
    weight: torch.Tensor, s: torch.Tensor, bits: int, group: int
) -> torch.Tensor:
    """What is read back of a weight that was scaled before it was rounded, (outputs, inputs).

    >>> w = torch.tensor([[0.7, -1.2, 3.0, 0.3]], dtype=torch.float64)
    >>> s = torch.tensor([1.0, 1.0, 1.0, 4.0], dtype=torch.float64)
    >>> scaled_rounding(w, s, 3, 4).tolist()
    [[1.0, -1.0, 3.0, 0.25]]
    """
    ### BEGIN SOLUTION
    most = 2 ** (bits - 1) - 1
    groups = (weight * s).reshape(len(weight), -1, group)
    step = groups.abs().amax(2, keepdim=True) / most
    step = torch.where(step == 0, 1.0, step)
    back = (groups / step).round() * step
    return back.reshape(weight.shape) / s
    ### END SOLUTION


# %% test="scaled_rounding" points=5
import torch

from coursepkg import affine, awq, calibration, check, surgery
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


four = exact([[0.7, -1.2, 3.0, 0.3]])
check.function(
    scaled_rounding,
    [
        case(four, exact([1.0, 1.0, 1.0, 4.0]), 3, 4, expected=exact([[1.0, -1.0, 3.0, 0.25]]), rel=1e-6,
             label="the lecture's group, s = 4", hint="Codes are 1, −1, 3, 1; the last value, 1, is divided by 4."),
        case(four, exact([1.0, 1.0, 1.0, 20.0]), 3, 4, expected=exact([[0.0, -2.0, 4.0, 0.3]]), rel=1e-6,
             label="s = 20", hint="The scaled weight is the largest now, and the step is 6/3 = 2 for all four."),
        case(exact([[2.0, 1.0, 0.0, 0.0]]), exact([1.0, 1.0, 1.0, 1.0]), 2, 2, expected=exact([[2.0, 0.0, 0.0, 0.0]]), rel=1e-6,
             label="two groups of two, one of them zeros", hint="1/2 is a tie and goes to 0. A group of zeros must not become NaN."),
    ],
    without=[awq, affine, calibration, surgery],
)
### BEGIN HIDDEN TESTS
def by_groups(weight, s, bits, group):
    most, back = 2 ** (bits - 1) - 1, torch.zeros_like(weight)
    for row in range(len(weight)):
        for first in range(0, weight.shape[1], group):
            part = (weight * s)[row, first : first + group]
            step = part.abs().max() / most
            if step > 0:
                back[row, first : first + group] = (part / step).round() * step
    return back / s


generator = torch.Generator().manual_seed(2)
w = torch.randn(5, 12, generator=generator, dtype=torch.float64)
s = torch.rand(12, generator=generator, dtype=torch.float64) * 3 + 0.2
check.hidden(
    scaled_rounding,
    [
        case(w, s, 3, 4, expected=by_groups(w, s, 3, 4), rel=1e-6,
             label="five outputs, three groups", hint="Each row has its own groups, each group its own step."),
        case(w, s, 4, 12, expected=by_groups(w, s, 4, 12), rel=1e-6,
             label="four bits, one group a row", hint="The highest code depends on bits: 7."),
        case(w, s, 8, 2, expected=by_groups(w, s, 8, 2), rel=1e-6,
             label="eight bits, groups of two", hint="The highest code is 127."),
        case(w, 7 * torch.ones(12, dtype=torch.float64), 3, 6, expected=by_groups(w, torch.ones(12, dtype=torch.float64), 3, 6), rel=1e-6,
             label="all scales alike", hint="Then it is plain rounding."),
        case(torch.zeros(2, 4, dtype=torch.float64), exact([1.0, 2.0, 3.0, 4.0]), 3, 2, expected=torch.zeros(2, 4, dtype=torch.float64),
             label="zeros", hint="No division by a step of 0."),
    ],
    without=[awq, affine, calibration, surgery],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. Two errors (4 points)
#
# A layer's weight $W$ becomes $\hat W$. For each token $x$ of the sample let $p = \lVert x W^\top \rVert^2$ be the square sum of its outputs, and $e = \lVert x (\hat W - W)^\top \rVert^2$ its squared error. Return two floats:
#
# 1. the error of all: $\sum e / \sum p$ over the tokens, in which loud tokens count more;
# 2. the even error: the mean of $e / p$ over the tokens, in which each counts alike. Tokens with $p = 0$ are left out of this mean.
#
# Where $\sum p$ is 0, return `(0.0, 0.0)`.


# %% solution="two_errors"
def two_errors(
    weight: torch.Tensor, rounded: torch.Tensor, sample: torch.Tensor
) -> tuple[float, float]:
    """The error of all tokens together, and the mean of the tokens' own errors.

    >>> w = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    >>> back = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    >>> two_errors(w, back, torch.tensor([[10.0, 0.0], [0.0, 1.0]], dtype=torch.float64))
    (0.0024752475247524753, 0.125)
    """
    ### BEGIN SOLUTION
    power = (sample @ weight.T).square().sum(1)
    error = (sample @ (rounded - weight).T).square().sum(1)
    seen = power > 0
    if not seen.any():
        return 0.0, 0.0
    return (error.sum() / power.sum()).item(), (error[seen] / power[seen]).mean().item()
    ### END SOLUTION


# %% test="two_errors" points=4
import torch

from coursepkg import affine, awq, calibration, check, surgery
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


check.function(
    two_errors,
    [
        case(exact([[1.0, 1.0]]), exact([[1.0, 0.5]]), exact([[10.0, 0.0], [0.0, 1.0]]), expected=(0.25 / 101, 0.125),
             label="a loud token and a quiet one", hint="Errors are 0 and 0.25, square sums 100 and 1. (0 + 0.25)/101, and (0/100 + 0.25/1)/2."),
        case(exact([[1.0, 0.0], [0.0, 1.0]]), exact([[1.0, 0.0], [0.0, 3.0]]), exact([[1.0, 1.0]]), expected=(2.0, 2.0),
             label="two outputs, one token", hint="Add up over the outputs first: 4 over 2."),
        case(exact([[1.0, 0.0]]), exact([[1.0, 1.0]]), exact([[2.0, 2.0], [0.0, 3.0]]), expected=(13 / 4, 1.0),
             label="a token without outputs", hint="It has an error, so it counts in the first sum; in the mean it is left out."),
    ],
    without=[awq, affine, calibration, surgery],
)
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
w = torch.randn(4, 6, generator=generator, dtype=torch.float64)
back = (2 * w).round() / 2
x = torch.randn(20, 6, generator=generator, dtype=torch.float64) * torch.logspace(-2, 2, 20, dtype=torch.float64)[:, None]
p, e = (x @ w.T).square().sum(1), (x @ (back - w).T).square().sum(1)
check.hidden(
    two_errors,
    [
        case(w, back, x, expected=((e.sum() / p.sum()).item(), (e / p).mean().item()), rel=1e-6,
             label="twenty tokens, four powers of ten apart", hint="The first is a ratio of sums, the second a mean of ratios."),
        case(w, w, x, expected=(0.0, 0.0),
             label="nothing was changed", hint="No error."),
        case(w, back, torch.zeros(3, 6, dtype=torch.float64), expected=(0.0, 0.0),
             label="inputs of 0", hint="The text says what to return."),
        case(w, back, torch.cat([x, torch.zeros(5, 6, dtype=torch.float64)]), expected=((e.sum() / p.sum()).item(), (e / p).mean().item()), rel=1e-6,
             label="some tokens are all 0", hint="They are left out of the mean, also of its count."),
        case(w[:1], back[:1], x[:1], expected=(((x[:1] @ (back - w)[:1].T) ** 2 / (x[:1] @ w[:1].T) ** 2).item(),) * 2, rel=1e-6,
             label="one token, one output", hint="Both are the same."),
    ],
    without=[awq, affine, calibration, surgery],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. The search (5 points)
#
# `weights` is a list of weights that read the same inputs, each (outputs, inputs); numbers of outputs may differ. `mean_abs` holds the inputs' sizes, all at least 0.0001; `sample` is (tokens, inputs). Try $r = 0, \frac1{g}, \frac2{g}, \ldots, \frac{g - 1}{g}$ with $g$ = `grid`. For each $r$:
#
# 1. $s_i = m_i^r$, divided by $\sqrt{\max s \cdot \min s}$.
# 2. Round each weight with it: scale the columns, round to `bits` bits with **one step for each row** (largest magnitude after scaling over $2^{b-1} - 1$; no row is all 0), scale back.
# 3. Add up $\lVert x \hat W^\top - x W^\top \rVert^2$ over all tokens and all the weights.
#
# Return the $r$ with the least sum, a `float`; of several that are equal the smallest.


# %% solution="best_ratio"
def best_ratio(
    weights: list[torch.Tensor],
    mean_abs: torch.Tensor,
    sample: torch.Tensor,
    bits: int,
    grid: int = 20,
) -> float:
    """The exponent whose scales cost the outputs least.

    >>> w = torch.tensor([[0.7, -1.2, 3.0, 0.3]], dtype=torch.float64)
    >>> sizes = torch.tensor([1.0, 1.0, 1.0, 10.0], dtype=torch.float64)
    >>> best_ratio([w], sizes, torch.diag(sizes), 3)
    0.5
    """
    ### BEGIN SOLUTION
    most, best, least = 2 ** (bits - 1) - 1, 0.0, float("inf")
    for place in range(grid):
        s = mean_abs ** (place / grid)
        s = s / (s.max() * s.min()).sqrt()
        error = 0.0
        for weight in weights:
            scaled = weight * s
            step = scaled.abs().amax(1, keepdim=True) / most
            back = (scaled / step).round() * step / s
            error += (sample @ (back - weight).T).square().sum().item()
        if error < least:
            best, least = place / grid, error
    return best
    ### END SOLUTION


# %% test="best_ratio" points=5
import torch

from coursepkg import affine, awq, calibration, check, surgery
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


sizes = exact([1.0, 1.0, 1.0, 10.0])
check.function(
    best_ratio,
    [
        case([exact([[0.7, -1.2, 3.0, 0.3]])], sizes, torch.diag(sizes), 3, expected=0.5,
             label="the lecture's layer", hint="At r = 0.5 the loud weight is scaled by 3.16, and 0.95 is rounded to 1."),
        case([exact([[3.0, -1.0, 2.0, 1.0]])], exact([1.0, 1.0, 1.0, 1.0]), torch.eye(4, dtype=torch.float64), 3, expected=0.0,
             label="inputs that are all alike", hint="All r are equally good; then the smallest is taken."),
        case([exact([[0.7, -1.2, 3.0, 0.3]]), exact([[0.0, 0.0, 3.0, 2.0]])], sizes, torch.diag(sizes), 3, expected=0.6,
             label="two layers", hint="Errors of all layers are added up before the least is looked for."),
    ],
    without=[awq, affine, calibration, surgery],
)
### BEGIN HIDDEN TESTS
def errors(weights, mean_abs, sample, bits, grid):
    found = []
    for place in range(grid):
        s = mean_abs ** (place / grid)
        back = [(w * s) for w in weights]
        steps = [b.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1) for b in back]
        back = [(b / step).round() * step / s for b, step in zip(back, steps, strict=True)]
        found.append(sum((sample @ (b - w).T).square().sum().item() for b, w in zip(back, weights, strict=True)))
    return found


generator = torch.Generator().manual_seed(4)
size = torch.exp(1.2 * torch.randn(24, generator=generator, dtype=torch.float64))
x = torch.randn(60, 24, generator=generator, dtype=torch.float64) * size
layers = [torch.randn(rows, 24, generator=generator, dtype=torch.float64) for rows in (40, 12, 3)]
mean = x.abs().mean(0)


def best(weights, x, bits, grid):
    found = errors(weights, mean, x, bits, grid)
    return found.index(min(found)) / grid


check.hidden(
    best_ratio,
    [
        case(layers, mean, x, 3, expected=best(layers, x, 3, 20), rel=1e-6,
             label="three layers, 60 tokens", hint="Sums over all tokens and layers."),
        case(layers[:1], mean, x, 4, 10, expected=best(layers[:1], x, 4, 10), rel=1e-6,
             label="a grid of ten", hint="r goes from 0 to 0.9 in tenths."),
        case(layers, mean, x[:1], 3, 40, expected=best(layers, x[:1], 3, 40), rel=1e-6,
             label="one token, a grid of forty", hint="The outputs of that token alone decide."),
        case(layers, mean, x, 3, 1, expected=0.0,
             label="a grid of one", hint="Only r = 0 is tried."),
        case(layers[1:], mean, x, 2, expected=best(layers[1:], x, 2, 20), rel=1e-6,
             label="two bits", hint="Codes of two bits are −1, 0 and 1."),
        case(layers, mean, torch.zeros(5, 24, dtype=torch.float64), 3, expected=0.0,
             label="a sample of zeros", hint="No r has an error; then the smallest is taken."),
    ],
    without=[awq, affine, calibration, surgery],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 6. Folding (4 points)
#
# A **source** gives a Linear layer, the *reader*, its inputs. It is a norm, with a `weight` (its gain) of shape (channels,), or a Linear layer with a `weight` of shape (channels, its inputs). Either may have a `bias` of shape (channels,), or `None`.
# The reader's input $i$ comes from the source's channel `channels[i]` (int64, shape (inputs,)); several inputs may come from one channel, as where heads share values.
#
# `s` has a scale for each *channel* of the source. Divide what the source gives by it, channel by channel, and multiply what reads it, so that the product stays. Return the new weight, the new bias (or `None`) and the new weight of the
# reader, which has shape (outputs, inputs). Leave the arguments as they are.


# %% solution="fold"
def fold(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    reader: torch.Tensor,
    channels: torch.Tensor,
    s: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Weight and bias of the source, and weight of the reader, with the scales folded in.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> fold(3 * one, None, torch.tensor([[0.5]]).double(), torch.tensor([0]), 4 * one)
    (tensor([0.7500], dtype=torch.float64), None, tensor([[2.]], dtype=torch.float64))
    """
    ### BEGIN SOLUTION
    divided = weight / s if weight.ndim == 1 else weight / s[:, None]
    return divided, None if bias is None else bias / s, reader * s[channels]
    ### END SOLUTION


# %% test="fold" points=4
import torch

from coursepkg import affine, awq, calibration, check, surgery
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


check.function(
    fold,
    [
        case(exact([3.0]), None, exact([[0.5]]), torch.tensor([0]), exact([4.0]),
             expected=(exact([0.75]), None, exact([[2.0]])),
             label="the lecture's norm", hint="3 · 0.5 stays 1.5 = 0.75 · 2."),
        case(exact([2.0, 6.0]), exact([1.0, 3.0]), exact([[1.0, 1.0], [0.0, 5.0]]), torch.tensor([0, 1]), exact([2.0, 3.0]),
             expected=(exact([1.0, 2.0]), exact([0.5, 1.0]), exact([[2.0, 3.0], [0.0, 15.0]])),
             label="a norm with a bias", hint="The bias is part of what the source gives, so it is divided, too."),
        case(exact([[4.0, 8.0], [9.0, 3.0]]), None, exact([[1.0, 1.0, 1.0, 1.0]]), torch.tensor([0, 1, 0, 1]), exact([2.0, 3.0]),
             expected=(exact([[2.0, 4.0], [3.0, 1.0]]), None, exact([[2.0, 3.0, 2.0, 3.0]])),
             label="a Linear layer whose channels are read twice", hint="Rows of the source are its channels; each input of the reader has the scale of the channel that it comes from."),
    ],
    without=[awq, affine, calibration, surgery],
)
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(5)
source, shift = torch.randn(3, 3, generator=generator, dtype=torch.float64), torch.randn(3, generator=generator, dtype=torch.float64)
reader = torch.randn(2, 5, generator=generator, dtype=torch.float64)
places, s = torch.tensor([2, 2, 0, 1, 0]), exact([0.5, 4.0, 10.0])
check.hidden(
    fold,
    [
        case(source, shift, reader, places, s, expected=(torch.diag(1 / s) @ source, shift / s, reader @ torch.diag(s[places])), rel=1e-6,
             label="a square source, inputs in any order", hint="Rows of the source, not columns: row c belongs to channel c."),
        case(shift, source[0], reader, places, s, expected=(shift / s, source[0] / s, reader @ torch.diag(s[places])), rel=1e-6,
             label="a norm that is read several times", hint="channels says which scale each column takes."),
        case(source[:, :1], None, reader[:, :3], torch.arange(3), torch.ones(3, dtype=torch.float64), expected=(source[:, :1], None, reader[:, :3]),
             label="scales of 1", hint="Nothing changes; a bias that is None stays None."),
        case(source[:2], shift[:2], reader, torch.tensor([1, 1, 1, 1, 0]), exact([2.0, 0.1]), expected=(source[:2] / exact([[2.0], [0.1]]), shift[:2] / exact([2.0, 0.1]), reader * exact([0.1, 0.1, 0.1, 0.1, 2.0])), rel=1e-6,
             label="more inputs than channels", hint="s has one entry for each channel, not for each input."),
    ],
    without=[awq, affine, calibration, surgery],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 7. Where to cut a group off (4 points)
#
# `group` holds the weights of one group, shape $(n,)$; `sample` their inputs, shape (tokens, $n$). Try the shares $1, 0.95, 0.90, \ldots, 0.5$ (eleven values, each $1 - k/20$). For each, cut the weights off at $\pm$ share · absmax, and round them to
# `bits` bits with the step (share · absmax)$/(2^{b-1} - 1)$. The error is that of the group's part of the outputs against the **uncut** weights: $\sum_x \bigl(\sum_i x_i (\hat w_i - w_i)\bigr)^2$. Return the share with the least error, a `float`; of several that are equal the
# **largest**. For a group of zeros return 1.0.


# %% solution="best_share"
def best_share(group: torch.Tensor, sample: torch.Tensor, bits: int) -> float:
    """The share of its absmax at which a group is best cut off.

    >>> w = torch.tensor([0.7, -1.2, 3.0, 0.3], dtype=torch.float64)
    >>> best_share(w, torch.diag(torch.tensor([1.0, 1.0, 0.2, 1.0], dtype=torch.float64)), 3)
    0.65
    """
    ### BEGIN SOLUTION
    most, absmax = 2 ** (bits - 1) - 1, group.abs().max()
    if absmax == 0:
        return 1.0
    best, least = 1.0, float("inf")
    for k in range(11):
        limit = (1 - k / 20) * absmax
        step = limit / most
        back = (group.clamp(-limit, limit) / step).round() * step
        error = (sample @ (back - group)).square().sum().item()
        if error < least:
            best, least = 1 - k / 20, error
    return best
    ### END SOLUTION


# %% test="best_share" points=4
import torch

from coursepkg import affine, awq, calibration, check, surgery
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


four = exact([0.7, -1.2, 3.0, 0.3])
check.function(
    best_share,
    [
        case(four, torch.diag(exact([1.0, 1.0, 0.2, 1.0])), 3, expected=0.65, rel=1e-6,
             label="the lecture's group", hint="The quiet input lets the weight 3.0 be cut to 1.95 at a small price."),
        case(four, torch.diag(exact([0.0, 0.0, 1.0, 0.0])), 3, expected=1.0, rel=1e-6,
             label="only the largest weight's input is alive", hint="Cutting it off costs, and nobody gains."),
        case(exact([0.0, 0.0]), torch.eye(2, dtype=torch.float64), 3, expected=1.0,
             label="zeros", hint="No division by a step of 0."),
    ],
    without=[awq, affine, calibration, surgery],
)
### BEGIN HIDDEN TESTS
def by_shares(group, sample, bits):
    found = []
    for k in range(11):
        limit = (1 - k / 20) * group.abs().max()
        step = limit / (2 ** (bits - 1) - 1)
        change = (group.clamp(-limit, limit) / step).round() * step - group
        found.append((sample @ change).square().sum().item())
    return 1 - found.index(min(found)) / 20


generator = torch.Generator().manual_seed(6)
w = torch.randn(4, 32, generator=generator, dtype=torch.float64)
x = torch.randn(50, 32, generator=generator, dtype=torch.float64) @ torch.randn(32, 32, generator=generator, dtype=torch.float64)
tailed = w[1].clone()
tailed[5] = -6.0
quiet = x.clone()
quiet[:, 5] *= 0.01
check.hidden(
    best_share,
    [
        case(w[0], x, 3, expected=by_shares(w[0], x, 3), rel=1e-6,
             label="32 weights, inputs that go together", hint="Sum over the group first, then square: errors of inputs that go together may cancel."),
        case(tailed, quiet, 4, expected=by_shares(tailed, quiet, 4), rel=1e-6,
             label="a negative outlier with a quiet input", hint="Cut off on both sides; the absmax may be a negative weight's."),
        case(w[2], x[:1], 2, expected=by_shares(w[2], x[:1], 2), rel=1e-6,
             label="one token, two bits", hint="Eleven shares, from 1 down to 0.5."),
        case(w[3], x, 8, expected=by_shares(w[3], x, 8), rel=1e-6,
             label="eight bits", hint="The highest code is 127."),
        case(exact([3.0, 1.0]), torch.zeros(3, 2, dtype=torch.float64), 3, expected=1.0,
             label="inputs of 0", hint="All shares are equally good; then the largest is taken."),
        case(exact([4.0, 1.0]), exact([[0.001, 1.0]]), 2, expected=by_shares(exact([4.0, 1.0]), exact([[0.001, 1.0]]), 2), rel=1e-6,
             label="a loud weight beside a quiet input", hint="The error is against the weight as it was, not as it was cut off."),
    ],
    without=[awq, affine, calibration, surgery],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 8. In your own words (4 points)
#
# A colleague has written this for the team:
#
# > We use AWQ, since it stores the 1 % salient channels with more bits. Its scales lowered the outputs' error of every layer of our 3-bit model, so the model must have become better; one run of our benchmark confirmed it. On top of it we ran GPTQ,
# > because two methods are better than one.
#
# Write 120 to 200 words to them. What do AWQ's scales do to the bits, and who pays for them? Why may a layer's error fall and the model gain nothing? What is one run worth? What did AWQ before GPTQ gain in lecture 07? Give one number from the lecture for each of
# two of your points.

# %% [markdown] written="awq_reply" points=4
# ### BEGIN SOLUTION
# AWQ gives no channel more bits. It multiplies loud channels before rounding and divides what feeds them; read back, their marks are closer, at the same 3 bits. The neighbours in the group pay as soon as the scaled weight stretches
# the common step: with s = 2 that was so in 20 % of the groups, with s = 8 in 74 %.
#
# A layer's error is a sum over tokens, and a few loud tokens make up most of it. In the down projections the sum fell by 29 %, while the typical token's error grew by 8 %; KL, which counts every token once, stayed where it was. Weighing the tokens
# alike lowered the mean of twelve throws a little, within luck.
#
# One run is one throw of dice. Scales changed by a random 2 % moved KL by more than the difference between rounding and AWQ. Use several roundings or texts, and an interval.
#
# AWQ's clip is chosen for rounding, not for GPTQ. At 3 bits, yours, KL was 12.49 thousandths with both and 12.71 with GPTQ alone, which is no difference; at 4 bits 1.81 and 1.50. Two methods are better only if the second wants what the first prepares; measure each alone, too.
# ### END SOLUTION

# %% [markdown] rubric="awq_reply"
# *This answer is graded by a person.*
#
# <!-- BEGIN MARK SCHEME -->
#
# One point each:
#
# 1. Same bits for all channels; the scaled weights' marks are closer, and neighbours pay where the group's step grows.
# 2. A layer's squared error counts tokens by how loud they are, KL does not (or: the sum falls, the typical token's error grows; or: what the scales changed in KL is within luck).
# 3. One run is one throw: rounding's luck, or the text's, is larger than the difference; says what to do (several, paired, an interval).
# 4. AWQ before GPTQ gained nothing (its scales and its clip were chosen for rounding); each must be measured alone and together. At 3 bits KL was 12.49 thousandths with both and 12.71 with GPTQ alone, at 4 bits 1.81 and 1.50: "no measurable difference at 3 bits, worse at 4" is right.
#
# One point off with fewer than two numbers of the lecture. No point is lost for length or style.
#
# <!-- END MARK SCHEME -->
