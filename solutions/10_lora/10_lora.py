# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Assignment 10: LoRA
#
# Seven functions and one written answer, about 110 minutes. Everything you need is in lecture 10 and in the text of the exercises.
#
# **How it works.** Each exercise has a cell for your code and, below it, a cell that checks it. The checks call your
# function, and where something is off they say what they called, what came back, what was expected, and give a hint.
# They do not try every rule in the text: when you hand in, the same functions are called with other inputs as well.
# Keep the line `# grade_id: …` at the top of a cell: it says which exercise the cell answers.
#
# **Rules.** Use torch and Python's standard library. The exercises ask you to write what `coursepkg.lora`, `lora_model`,
# `token_rows` and `memory` do, so an answer that calls them, or copies a function of theirs, is refused. Exercises do not depend on each other.
#
# **Numbers.** A weight $W$ has a row for each output and a column for each input: shape (outputs, inputs). An adapter of rank $r$ is a pair of matrices, $A$ of shape ($r$, inputs) and $B$ of shape (outputs, $r$); read $r$ off their
# shapes. Its change of the weight is $\Delta W = \text{scaling} \cdot B A$. Scaling is $\alpha / r$ unless a text says otherwise. Tensors are float64 unless a text says otherwise, so that nobody loses points to rounding. There are no biases.

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
# ## 1. How much is trained (3 points)
#
# `layers` lists the layers that get an adapter of rank `rank`, as pairs (outputs, inputs); there is at least one, and a pair may occur several times, since a model has many layers of one shape. Besides, `rows` rows of the embedding are
# trained, each of `hidden` values; `rows` may be 0. Return two numbers:
#
# 1. how many values are trained, an `int`: all of $A$, all of $B$, and the rows. The rank may be larger than a layer's inputs or outputs; $A$ and $B$ have $r$ rows and $r$ columns all the same.
# 2. that number over the number of weights in the listed layers, $\sum$ outputs · inputs, a `float`. This denominator counts neither adapters nor the embedding.
#
# Where `rank` is below 1, raise a `ValueError`.


# %% solution="trainable"
def trainable(
    layers: list[tuple[int, int]], rank: int, rows: int, hidden: int
) -> tuple[int, float]:
    """Number of trained values, and that over the layers' own weights.

    >>> trainable([(16, 16), (16, 16)], 2, 0, 16)
    (128, 0.25)
    """
    ### BEGIN SOLUTION
    if rank < 1:
        raise ValueError(f"the rank must be at least 1, not {rank}")
    trained = sum(rank * (out + inputs) for out, inputs in layers) + rows * hidden
    weights = sum(out * inputs for out, inputs in layers)
    return trained, trained / weights
    ### END SOLUTION


# %% test="trainable" points=3
import torch

from coursepkg import check, lora, lora_model, memory, token_rows
from coursepkg.check import case

check.function(
    trainable,
    [
        case([(16, 16), (16, 16)], 2, 0, 16, expected=(128, 0.25),
             label="two layers of one shape", hint="A has 2 · 16 values, B 16 · 2, and there are two layers: 128. The layers have 512 weights."),
        case([(30, 10)], 4, 3, 20, expected=(220, 220 / 300),
             label="three rows of the embedding", hint="4 · (10 + 30) in A and B, and 3 · 20 in the rows. The embedding is not in the denominator."),
        case([(4, 2)], 8, 0, 2, expected=(48, 6.0),
             label="a rank above both sides", hint="A is 8 × 2 and B 4 × 8: more than the weight itself."),
        case([(16, 16)], 0, 0, 16, expected=ValueError,
             label="rank 0", hint="The text says what to raise."),
    ],
    without=[lora, lora_model, token_rows, memory],
)
### BEGIN HIDDEN TESTS
model = [(96, 96), (32, 96), (32, 96), (96, 96), (256, 96), (256, 96), (96, 256)] * 6
weights = sum(out * inputs for out, inputs in model)
check.hidden(
    trainable,
    [
        case(model, 16, 0, 96, expected=(16 * sum(map(sum, model)), 16 * sum(map(sum, model)) / weights),
             label="a model of 42 layers", hint="Each layer of the list counts, also where another has its shape."),
        case(model, 1, 1000, 96, expected=(sum(map(sum, model)) + 96000, (sum(map(sum, model)) + 96000) / weights),
             label="many rows, rank 1", hint="The rows count in the number and in the share; their embedding is not in the denominator."),
        case([(1, 50)], 3, 2, 7, expected=(167, 167 / 50),
             label="one output", hint="r · (inputs + outputs), whichever is larger, and rows · hidden."),
        case([(50, 1), (2, 3)], 64, 0, 7, expected=(64 * 56, 64 * 1.0),
             label="a rank far above", hint="The rank is not cut to the layer's smaller side."),
        case([(16, 16)], -3, 5, 16, expected=ValueError,
             label="a negative rank", hint="The text says what to raise."),
        case([(16, 16)], 0, 5, 16, expected=ValueError,
             label="rank 0, and rows", hint="Rows do not make a rank of 0 allowed."),
    ],
    without=[lora, lora_model, token_rows, memory],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. The nearest matrix of low rank (4 points)
#
# `delta` is a change of a weight, (outputs, inputs). Return
#
# 1. the matrix of rank **at most** `rank` that is nearest to it, that is, with the least sum of squared differences; float64, of the shape of `delta`;
# 2. the share of the square sum of `delta` that this matrix keeps, $\sum_{i \le r} \sigma_i^2 / \sum_i \sigma_i^2$ with the singular values $\sigma_1 \ge \sigma_2 \ge \dots$, a `float`.
#
# `rank` is at least 1; it may be larger than `delta` has rows or columns, and then the answer is `delta` itself. A matrix of nothing but zeros keeps 1.0; the entries of others may be very small. The singular values on both sides of the cut differ wherever they are not 0, so there is
# one nearest matrix.


# %% solution="nearest_of_rank"
def nearest_of_rank(delta: torch.Tensor, rank: int) -> tuple[torch.Tensor, float]:
    """The nearest matrix of at most that rank, and its share of the square sum.

    >>> near, share = nearest_of_rank(torch.tensor([[2.0, 1.0], [1.0, 2.0]]).double(), 1)
    >>> [[round(v, 6) for v in row] for row in near.tolist()], round(share, 6)
    ([[1.5, 1.5], [1.5, 1.5]], 0.9)
    """
    ### BEGIN SOLUTION
    left, values, right = torch.linalg.svd(delta, full_matrices=False)
    near = (left[:, :rank] * values[:rank]) @ right[:rank]
    squares = values.square()
    if squares.sum() == 0:
        return near, 1.0
    return near, (squares[:rank].sum() / squares.sum()).item()
    ### END SOLUTION


# %% test="nearest_of_rank" points=4
import torch

from coursepkg import check, lora, lora_model, token_rows
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


check.function(
    nearest_of_rank,
    [
        case(exact([[2.0, 1.0], [1.0, 2.0]]), 1, expected=(exact([[1.5, 1.5], [1.5, 1.5]]), 0.9), rel=1e-6,
             label="two by two", hint="The singular values are 3 and 1. Keep the larger with its two vectors; it has 9 of 10."),
        case(exact([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]), 1, expected=(exact([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]), 1.0), rel=1e-6,
             label="a matrix that has rank 1", hint="Nothing is lost: the second row is twice the first."),
        case(exact([[2.0, 1.0], [1.0, 2.0]]), 5, expected=(exact([[2.0, 1.0], [1.0, 2.0]]), 1.0), rel=1e-6,
             label="a rank above what there can be", hint="At most that rank: the matrix itself is the nearest."),
        case(torch.zeros(2, 3, dtype=torch.float64), 1, expected=(torch.zeros(2, 3, dtype=torch.float64), 1.0),
             label="zeros", hint="No division by a square sum of 0."),
    ],
    without=[lora, lora_model, token_rows],
)
### BEGIN HIDDEN TESTS
def with_values(rows, columns, values, seed):
    """A matrix that has these singular values, and its parts of rank 1."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(rows, len(values), generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(columns, len(values), generator=generator, dtype=torch.float64)).Q
    parts = [value * torch.outer(left[:, i], right[:, i]) for i, value in enumerate(values)]
    return sum(parts), parts


tall, of_tall = with_values(9, 5, (7.0, 4.0, 2.0, 1.0, 0.5), 0)
wide, of_wide = with_values(4, 11, (5.0, 3.0, 2.5, 0.1), 1)
square, of_square = with_values(6, 6, (6.0, 5.0, 4.0, 3.0, 2.0, 1.0), 2)
check.hidden(
    nearest_of_rank,
    [
        case(tall, 2, expected=(of_tall[0] + of_tall[1], 65 / 70.25), rel=1e-6,
             label="more outputs than inputs", hint="The largest singular values, each with its two vectors; the share is one of squares."),
        case(wide, 3, expected=(of_wide[0] + of_wide[1] + of_wide[2], 40.25 / 40.26), rel=1e-6,
             label="more inputs than outputs", hint="Look at the shapes that torch.linalg.svd gives."),
        case(square, 4, expected=(sum(of_square[:4]), 86 / 91), rel=1e-6,
             label="six by six", hint="torch.linalg.svd gives the right vectors transposed already."),
        case(square, 6, expected=(square, 1.0), rel=1e-6,
             label="full rank", hint="Nothing is cut off."),
        case(tall * 1e-8, 1, expected=(of_tall[0] * 1e-8, 49 / 70.25), rel=1e-6,
             label="a very small change", hint="Small is not zero, and the share has no units."),
        case(torch.zeros(3, 2, dtype=torch.float64), 9, expected=(torch.zeros(3, 2, dtype=torch.float64), 1.0),
             label="zeros, and a rank above", hint="The text says what zeros keep."),
        case(exact([[3.0], [4.0]]), 1, expected=(exact([[3.0], [4.0]]), 1.0), rel=1e-6,
             label="one input", hint="A column has rank 1."),
    ],
    without=[lora, lora_model, token_rows],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. Which rank is enough (3 points)
#
# `values` holds the singular values of a change, float64, shape $(n,)$ with $n \ge 1$, all at least 0, in **any order**. `share` is above $10^{-9}$ and at most 1. Return the smallest rank, an `int`, that can keep at least `share` of the sum of the squares.
# Rounding shall not decide: what a rank keeps is enough where it is at least `share` $-\ 10^{-12}$ of the sum. If all values are 0, rank 0 is enough.


# %% solution="rank_for"
def rank_for(values: torch.Tensor, share: float) -> int:
    """The smallest rank that keeps so much of the square sum.

    >>> rank_for(torch.tensor([3.0, 0.0, 1.0]).double(), 0.9)
    1
    """
    ### BEGIN SOLUTION
    squares = values.square().sort(descending=True).values
    total = squares.sum()
    if total == 0:
        return 0
    enough = squares.cumsum(0) >= (share - 1e-12) * total
    return int(enough.int().argmax()) + 1
    ### END SOLUTION


# %% test="rank_for" points=3
import torch

from coursepkg import check, lora, lora_model, token_rows
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


check.function(
    rank_for,
    [
        case(exact([3.0, 0.0, 1.0]), 0.9, expected=1,
             label="nine tenths", hint="The squares are 9, 0 and 1, and the largest has 9 of 10."),
        case(exact([1.0, 2.0, 2.0, 4.0]), 0.95, expected=3,
             label="ascending values", hint="Begin with the largest: 16, 20 and 24 of 25."),
        case(exact([1.0, 1.0]), 0.5, expected=1,
             label="exactly the share", hint="At least the share: one of two equal values has half."),
        case(exact([0.0, 0.0]), 0.9, expected=0,
             label="zeros", hint="There is nothing to keep."),
    ],
    without=[lora, lora_model, token_rows],
)
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(3)
some = torch.exp(-torch.arange(40, dtype=torch.float64) / 6)[torch.randperm(40, generator=generator)]
ordered = sorted((value**2 for value in some.tolist()), reverse=True)


def counted(share):
    kept, rank = 0.0, 0
    while kept < share * sum(ordered):
        kept, rank = kept + ordered[rank], rank + 1
    return rank


check.hidden(
    rank_for,
    [
        case(some, 0.9, expected=counted(0.9),
             label="forty values in no order", hint="Squares, from the largest to the smallest, added up."),
        case(some, 0.999, expected=counted(0.999),
             label="nearly all", hint="Squares fall twice as fast as values; the share is one of squares."),
        case(some * 1e-6, 0.5, expected=counted(0.5),
             label="small values", hint="The share has no units."),
        case(exact([0.1] * 10), 0.3, expected=3,
             label="equal values", hint="Three of ten are three tenths, also where floating point falls short by its last digit."),
        case(exact([0.0, 2.0, 0.0, 1.0]), 1.0, expected=2,
             label="all of it, with zeros among them", hint="Values of 0 need no rank."),
        case(exact([5e-7, 1.0]), 1.0, expected=1,
             label="a value below the tolerance", hint="The text says by how much a rank may fall short."),
        case(exact([2e-6, 1.0]), 1.0, expected=2,
             label="a small value above the tolerance", hint="The text says by how much a rank may fall short, and it is less than that."),
        case(exact([4.0]), 0.01, expected=1,
             label="one value, a small share", hint="Rank 0 keeps nothing of it."),
        case(torch.zeros(5, dtype=torch.float64), 1.0, expected=0,
             label="five zeros", hint="The text says what to return."),
    ],
    without=[lora, lora_model, token_rows],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. A layer with an adapter (4 points)
#
# Return $y = x W^\top + \text{scaling} \cdot (x A^\top) B^\top$. Scaling is $\alpha / r$, or $\alpha / \sqrt r$ if `rank_stabilized`. `x` has shape $(\ldots, \text{inputs})$ with any number of dimensions before the last, also none; $y$ has the same dimensions, and the outputs last.
#
# `x` and `weight` have one dtype, `A` and `B` another that may be wider: float32 beside float16 or bfloat16, float64 beside float32. Do as the package's layer does:
#
# 1. $x W^\top$ in the dtype of `weight`;
# 2. the adapter's part, with its scaling, in the dtype of `A`: convert `x` to it;
# 3. the sum of both in the dtype of `A`, rounded once to the dtype of `weight`, which is what you return.


# %% solution="adapted"
def adapted(
    x: torch.Tensor,
    weight: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    alpha: float,
    rank_stabilized: bool = False,
) -> torch.Tensor:
    """Outputs of a layer with an adapter beside it, (..., outputs), in the weight's dtype.

    >>> x, weight = torch.tensor([1.0, 2.0]), torch.eye(2)
    >>> A, B = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0], [0.0]])
    >>> adapted(x, weight, A, B, 4.0).tolist()
    [13.0, 2.0]
    """
    ### BEGIN SOLUTION
    rank = len(A)
    scaling = alpha / (rank**0.5 if rank_stabilized else rank)
    base = x @ weight.T
    change = (x.to(A.dtype) @ A.T) @ B.T * scaling
    return (base + change).to(weight.dtype)
    ### END SOLUTION


# %% test="adapted" points=4
import torch

from coursepkg import check, lora, lora_model, token_rows
from coursepkg.check import case


def exact(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


half, single, brain = torch.float16, torch.float32, torch.bfloat16
four = (exact([[1.0, 1.0]]), exact([[1.0, 1.0]]), exact([[1.0, 0.0], [0.0, 1.0]] * 2), exact([[1.0] * 4]), 4.0)
check.function(
    adapted,
    [
        case(exact([1.0, 2.0]), exact([[1.0, 0.0], [0.0, 1.0]]), exact([[1.0, 1.0]]), exact([[1.0], [0.0]]), 4.0, expected=exact([13.0, 2.0]),
             label="one token, rank 1", hint="x Aᵀ is 3; the first output gets 4 · 3 on top of its 1."),
        case(*four, expected=exact([[6.0]]),
             label="rank 4, α = 4", hint="The base gives 2; the adapter gives 4, times 4/4."),
        case(*four, True, expected=exact([[10.0]]),
             label="the same, rank-stabilized", hint="Now the scaling is 4/√4 = 2."),
        case(exact([[1.0, 1.0]], half), exact([[3.0, 0.0]], half), exact([[1 + 2**-12, -1.0]], single), exact([[1024.0]], single), 1.0, expected=exact([[3.25]], half),
             label="a weight in fp16, an adapter in float32", hint="1 + 1/4096 is 1 in fp16: convert x to A's dtype, not A to x's. The result is fp16."),
    ],
    without=[lora, lora_model, token_rows],
)
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(4)
x = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
weight, A, B = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((7, 5), (3, 5), (7, 3)))
tall, flat = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((12, 5), (7, 12)))
one = exact([[1.0]], single)
check.hidden(
    adapted,
    [
        case(x, weight, A, B, 8.0, expected=x @ (weight + 8 / 3 * B @ A).T, rel=1e-6,
             label="sequences, rank 3", hint="α/r with the r of A's shape."),
        case(x, weight, A, B, 8.0, True, expected=x @ (weight + 8 / 3**0.5 * B @ A).T, rel=1e-6,
             label="sequences, rank-stabilized", hint="α/√r."),
        case(x[0, 0], weight, A, B, 0.5, expected=x[0, 0] @ (weight + 0.5 / 3 * B @ A).T, rel=1e-6,
             label="a token without other dimensions", hint="The result has the shape (outputs,)."),
        case(x, weight, tall, flat, 16.0, expected=x @ (weight + 16 / 12 * flat @ tall).T, rel=1e-6,
             label="a rank above inputs and outputs", hint="r is the number of A's rows."),
        case(exact([[1.0, 1.0]], half), exact([[2048.0, 0.0]], half), exact([[1 + 2**-11, 0.0]], single), one, 1.0, expected=exact([[2050.0]], half),
             label="rounded once", hint="Add in A's dtype, and round the sum; a change that is rounded first may end elsewhere."),
        case(exact([[1.0, 1.0]], brain), exact([[256.0, 1.0]], brain), exact([[1.0, 0.0]], single), one, 1.0, expected=exact([[256.0]], brain),
             label="a base in bf16", hint="The base's product is in the weight's dtype, rounding included."),
        case(exact([[1.0, 1.0]], single), exact([[0.5, 0.0]], single), exact([[1 + 2**-30, -1.0]]), exact([[2.0**30]]), 1.0, expected=exact([[1.5]], single),
             label="a weight in float32, an adapter in float64", hint="The adapter's dtype is that of A, whichever it is."),
        case(exact([[[0.5, 2.0]]], brain), exact([[1.0, 1.0], [2.0, 0.0]], brain), torch.ones(4, 2), torch.zeros(2, 4), 8.0, expected=exact([[[2.5, 1.0]]], brain),
             label="B = 0", hint="Then it is the base, in the weight's dtype."),
    ],
    without=[lora, lora_model, token_rows],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. What a step knows of A and B (5 points)
#
# The layer of exercise 4, scaling $\alpha / r$, has read `x` of shape $(\ldots, \text{inputs})$. `g` of shape $(\ldots, \text{outputs})$ is the gradient of the loss with respect to its outputs $y$. Return the gradients of the loss with respect to $A$ and to $B$, in this order, each of its matrix' shape.
#
# Write down the formulas and compute them with matrix products; do not use autograd. All dimensions before the last are tokens, and the loss depends on all of them: gradients **add up** over tokens (`g` has in it already whatever the loss divides by). There may be no token at all; then
# the gradients are 0.


# %% solution="gradients"
def gradients(
    x: torch.Tensor, g: torch.Tensor, A: torch.Tensor, B: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the loss with respect to A, (r, inputs), and to B, (outputs, r).

    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> of_A, of_B = gradients(3 * one, one, 5 * one, 7 * one, 2.0)
    >>> of_A.item(), of_B.item()
    (42.0, 30.0)
    """
    ### BEGIN SOLUTION
    scaling = alpha / len(A)
    x = x.reshape(-1, A.shape[1])
    g = g.reshape(-1, B.shape[0])
    of_A = scaling * (g @ B).T @ x
    of_B = scaling * g.T @ (x @ A.T)
    return of_A, of_B
    ### END SOLUTION


# %% test="gradients" points=5
import torch

from coursepkg import check, lora, lora_model, token_rows
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


check.function(
    gradients,
    [
        case(exact([[1.0, 2.0]]), exact([[3.0]]), exact([[1.0, 1.0]]), exact([[0.5]]), 2.0, expected=(exact([[3.0, 6.0]]), exact([[18.0]])),
             label="one token, rank 1", hint="y = … + 2 · (x Aᵀ) Bᵀ. For A: 2 · (3 · 0.5) · x. For B: 2 · 3 · (x Aᵀ), and x Aᵀ is 3."),
        case(exact([[1.0, 2.0]]), exact([[3.0]]), exact([[1.0, 1.0]]), exact([[0.0]]), 2.0, expected=(exact([[0.0, 0.0]]), exact([[18.0]])),
             label="the first step: B = 0", hint="The way from the loss to A leads through B: with B = 0 nothing gets there. B moves, so A can in the second step."),
        case(exact([[1.0, 0.0], [1.0, 2.0]]), exact([[1.0], [-1.0]]), exact([[1.0, 0.0], [0.0, 1.0]]), exact([[1.0, 2.0]]), 2.0, expected=(exact([[0.0, -2.0], [0.0, -4.0]]), exact([[0.0, -2.0]])),
             label="two tokens, rank 2", hint="Scaling is 2/2 = 1. Tokens add up: [1, 0] − [1, 2] is [0, −2], for each row of A times its entry of B."),
    ],
    without=[lora, lora_model, token_rows],
)
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(5)


def some(*shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def by_autograd(x, g, A, B, alpha):
    A, B = A.clone().requires_grad_(), B.clone().requires_grad_()
    y = alpha / len(A) * (x @ A.T) @ B.T
    return torch.autograd.grad((y * g).sum(), (A, B))


plain = (some(20, 6), some(20, 4), some(3, 6), some(4, 3), 8.0)
deep = (some(2, 3, 5, 6), some(2, 3, 5, 4), some(2, 6), some(4, 2), 1.0)
high = (some(7, 3), some(7, 3), some(9, 3), some(3, 9), 16.0)
square = (some(8, 5), some(8, 5), some(5, 5), some(5, 5), 3.0)
first = (some(4, 10, 6), some(4, 10, 4), some(3, 6), torch.zeros(4, 3, dtype=torch.float64), 8.0)
check.hidden(
    gradients,
    [
        case(*plain, expected=by_autograd(*plain), rel=1e-6,
             label="twenty tokens, rank 3", hint="Sums over tokens, times α/r, in both."),
        case(*deep, expected=by_autograd(*deep), rel=1e-6,
             label="four dimensions", hint="All dimensions before the last are tokens; each adds its part."),
        case(*high, expected=by_autograd(*high), rel=1e-6,
             label="a rank above inputs and outputs", hint="r is the number of A's rows."),
        case(*square, expected=by_autograd(*square), rel=1e-6,
             label="all sides alike", hint="Check by hand which matrix is transposed: shapes do not tell here."),
        case(*first, expected=(torch.zeros(3, 6, dtype=torch.float64), by_autograd(*first)[1]), rel=1e-6,
             label="the first step", hint="With B = 0 nothing reaches A, and B's gradient does not depend on B."),
        case(plain[0][0], plain[1][0], *plain[2:], expected=by_autograd(plain[0][:1], plain[1][:1], *plain[2:]), rel=1e-6,
             label="a token without other dimensions", hint="reshape makes a row of it."),
        case(plain[0][:0], plain[1][:0], *plain[2:], expected=(torch.zeros(3, 6, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64)),
             label="no token", hint="A sum of nothing is 0; a mean of nothing is not."),
    ],
    without=[lora, lora_model, token_rows],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 6. What a merge loses (4 points)
#
# `weight` is float16, bfloat16 or float32; `A` and `B` are float32. Let $C$ be `scaling` · `B @ A`, in float32. Merging makes the sum `weight` $+\ C$ in float32, $C$ unrounded, and rounds the **sum** to the dtype of `weight`; so does `weight += C` in torch. Return two floats:
#
# 1. the share of **all** entries that the merge left exactly as they were although $C$ is not 0 there. Entries with $C = 0$ stay as they are by right, and are not counted as left;
# 2. the relative error $\lVert \text{merged} - (W + C) \rVert / \lVert C \rVert$, each norm being the square root of the sum of squares. Convert to float64 before you make this $W + C$ and the norms, so that what you compare with is not rounded.
#
# Where $C$ is 0 everywhere, return `(0.0, 0.0)`.


# %% solution="lost_in_merging"
def lost_in_merging(
    weight: torch.Tensor, A: torch.Tensor, B: torch.Tensor, scaling: float
) -> tuple[float, float]:
    """Share of entries whose change was lost, and the error over the size of the change.

    >>> weight = torch.ones(1, 1, dtype=torch.bfloat16)
    >>> lost_in_merging(weight, torch.tensor([[0.001]]), torch.ones(1, 1), 1.0)
    (1.0, 1.0)
    """
    ### BEGIN SOLUTION
    change = scaling * (B @ A)
    if not change.any():
        return 0.0, 0.0
    merged = (weight.float() + change).to(weight.dtype)
    lost = (merged == weight) & (change != 0)
    wrong = merged.double() - (weight.double() + change.double())
    return lost.double().mean().item(), (wrong.norm() / change.double().norm()).item()
    ### END SOLUTION


# %% test="lost_in_merging" points=4
import torch

from coursepkg import check, lora, lora_model, token_rows
from coursepkg.check import case


def exact(values, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype)


half, single, brain = torch.float16, torch.float32, torch.bfloat16
one = exact([[1.0]])
check.function(
    lost_in_merging,
    [
        case(exact([[1.0, 1.0]], brain), exact([[1 / 512, 1 / 64]]), one, 1.0, expected=(0.5, 65**-0.5), rel=1e-6,
             label="two weights of 1 in bf16", hint="Next to 1 lies 1 + 1/128: a change of 1/512 is lost, one of 1/64 arrives whole. The error is 1/512, the change √(1/512² + 1/64²)."),
        case(exact([[1.0, 2.0], [3.0, 4.0]], half), exact([[2**-10, 2**-10]]), exact([[1.0], [0.0]]), 1.0, expected=(0.25, 0.5**0.5), rel=1e-6,
             label="a row without a change, in fp16", hint="Three of four entries stay as they are, but two of them were not to change. Behind 2 the step is 2⁻⁹, and half a step is rounded to even."),
        case(exact([[1.0, 2.0]], brain), exact([[1.0, 1.0]]), exact([[0.0]]), 1.0, expected=(0.0, 0.0),
             label="no change at all", hint="No division by a norm of 0."),
    ],
    without=[lora, lora_model, token_rows],
)
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(6)


def by_rule(weight, A, B, scaling):
    """With adapters of few digits, whose product is exact in float32 in whatever order."""
    change = (B.double() @ A.double()) * scaling
    merged = (weight.double() + change).float().to(weight.dtype)
    left = sum(
        bool(m == w and c != 0)
        for m, w, c in zip(merged.flatten(), weight.flatten(), change.flatten(), strict=True)
    )
    wrong = merged.double() - weight.double() - change
    return left / weight.numel(), (wrong.square().sum() / change.square().sum()).sqrt().item()


def few_digits(*shape):
    return torch.randint(-7, 8, shape, generator=generator).float()


w = torch.randn(12, 20, generator=generator)
A, B = few_digits(3, 20), few_digits(12, 3)
B[4] = 0.0
check.hidden(
    lost_in_merging,
    [
        case(w.to(brain), A, B, 2**-14, expected=by_rule(w.to(brain), A, B, 2**-14), rel=1e-6,
             label="a small change in bf16", hint="All entries are the denominator of the share; those that were not to change are not counted as left."),
        case(w.to(half), A, B, 2**-14, expected=by_rule(w.to(half), A, B, 2**-14), rel=1e-6,
             label="the same in fp16", hint="fp16 has three binary digits more than bf16: the weight's dtype decides."),
        case(w.to(brain), A, B, 2**-6, expected=by_rule(w.to(brain), A, B, 2**-6), rel=1e-6,
             label="a larger change in bf16", hint="What is not lost is rounded, and that is an error, too."),
        case(exact([[1.0, 1.0]]), exact([[2.0**-25, 2.0**-23 + 2.0**-25]]), one, 1.0, expected=(0.5, (2 / 26) ** 0.5), rel=1e-6,
             label="float32", hint="Float32 rounds, too: the sum to compare with is one in float64."),
        case(exact([[1.0]], brain), exact([[2.0**-8 + 2.0**-18]]), one, 1.0, expected=(0.0, (2.0**-8 - 2.0**-18) / (2.0**-8 + 2.0**-18)), rel=1e-6,
             label="just over half a step", hint="The sum is rounded, not the change before it."),
        case(exact([[64.0, -64.0, 128.0]], brain), exact([[1.0, 3.0, -2.0]]), one, 0.03125, expected=(1.0, 1.0), rel=1e-6,
             label="large weights", hint="All of the change is lost; then the error is as large as the change."),
        case(exact([[1.0, -2.0]], half), exact([[1.0, 0.5]]), exact([[2.0]]), 0.25, expected=(0.0, 0.0),
             label="sums that the dtype holds", hint="Nothing is lost, and nothing is rounded."),
        case(w.to(half), A, torch.zeros(12, 3), 2.0, expected=(0.0, 0.0),
             label="B = 0", hint="The text says what to return."),
    ],
    without=[lora, lora_model, token_rows],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 7. One base, an adapter for each row (5 points)
#
# A server holds one weight and many adapters, and a batch mixes their users. `x` has shape (rows, tokens, inputs). `adapters` is a dict from a name to $(A, B, \alpha)$; adapters may have different ranks, and some may be used by no row. `which` is a list with an entry for each row of `x`:
# the name of its adapter, or `None` for the base alone. Return the outputs, (rows, tokens, outputs), in the order of `x`: in each row $x W^\top + \frac{\alpha}{r} (x A^\top) B^\top$ with that row's adapter and its own $r$.
#
# A name that is not in `adapters` is a `KeyError` with the name in its message. Look at the names **first**: it is raised before anything is computed, also where the shapes of `x` and `weight` do not fit together. There may be no rows.


# %% solution="mixed_batch"
def mixed_batch(
    x: torch.Tensor,
    weight: torch.Tensor,
    adapters: dict[str, tuple[torch.Tensor, torch.Tensor, float]],
    which: list[str | None],
) -> torch.Tensor:
    """Outputs of the rows of a batch, each with its own adapter or none.

    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> x = torch.ones(2, 1, 1, dtype=torch.float64)
    >>> mixed_batch(x, one, {"a": (one, one, 3.0)}, [None, "a"]).flatten().tolist()
    [1.0, 4.0]
    """
    ### BEGIN SOLUTION
    for name in which:
        if name is not None and name not in adapters:
            raise KeyError(f"no adapter {name!r}")
    y = x @ weight.T
    for name, (A, B, alpha) in adapters.items():
        rows = [row for row, wanted in enumerate(which) if wanted == name]
        y[rows] += alpha / len(A) * (x[rows] @ A.T) @ B.T
    return y
    ### END SOLUTION


# %% test="mixed_batch" points=5
import torch

from coursepkg import check, lora, lora_model, token_rows
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


base = exact([[1.0, 1.0]])
two = {"red": (exact([[1.0, 0.0]]), exact([[1.0]]), 10.0), "blue": (exact([[0.0, 1.0], [0.0, 1.0]]), exact([[1.0, 1.0]]), 4.0)}
check.function(
    mixed_batch,
    [
        case(exact([[[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]]]), base, two, ["blue", None, "red"], expected=exact([[[11.0]], [[3.0]], [[13.0]]]),
             label="two adapters and the base", hint="The base gives 3. Blue has rank 2: 4/2 · (2 + 2) on top. Red has rank 1: 10/1 · 1."),
        case(exact([[[1.0, 0.0], [0.0, 1.0]], [[3.0, 0.0], [0.0, 3.0]]]), base, two, ["red", "red"], expected=exact([[[11.0], [1.0]], [[33.0], [3.0]]]),
             label="two rows with one adapter, two tokens", hint="An adapter may serve several rows; all tokens of a row have the same."),
        case(exact([[[1.0, 2.0]], [[1.0, 2.0]]]), base, two, [None, "green"], expected=KeyError, naming=["green"],
             label="a name that is not there", hint="The text says what to raise."),
    ],
    without=[lora, lora_model, token_rows],
)
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(7)


def some(*shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def one_by_one(x, weight, adapters, which):
    merged = {None: weight} | {name: weight + alpha / len(A) * B @ A for name, (A, B, alpha) in adapters.items()}
    return torch.stack([row @ merged[name].T for row, name in zip(x, which, strict=True)])


x, weight = some(7, 5, 6), some(4, 6)
many = {name: (some(rank, 6), some(4, rank), alpha) for name, rank, alpha in (("law", 2, 8.0), ("code", 9, 16.0), ("unused", 4, 4.0), ("chat", 1, 0.5))}
mixed = ["chat", None, "law", "code", "law", None, "chat"]
check.hidden(
    mixed_batch,
    [
        case(x, weight, many, mixed, expected=one_by_one(x, weight, many, mixed), rel=1e-6,
             label="seven rows, three ranks", hint="Each row its own adapter, each adapter its own r and α, the rows in their order."),
        case(x, weight, many, [None] * 7, expected=x @ weight.T, rel=1e-6,
             label="the base alone", hint="None adds nothing."),
        case(x[:3], weight, {}, [None] * 3, expected=x[:3] @ weight.T, rel=1e-6,
             label="no adapters", hint="Then all rows have the base."),
        case(x, weight, many, ["code"] * 7, expected=one_by_one(x, weight, many, ["code"] * 7), rel=1e-6,
             label="all rows with one adapter", hint="Its rank is above inputs and outputs; r is the number of A's rows."),
        case(x[:1], weight, many, ["unused"], expected=one_by_one(x[:1], weight, many, ["unused"]), rel=1e-6,
             label="one row", hint="Adapters that no row asks for add nothing."),
        case(x[:0], weight, many, [], expected=torch.zeros(0, 5, 4, dtype=torch.float64),
             label="no rows", hint="The shape is (0, tokens, outputs)."),
        case(x, weight, many, [*mixed[:6], "medicine"], expected=KeyError, naming=["medicine"],
             label="an unknown name in the last row", hint="The text says what to raise."),
        case(some(2, 5, 3), weight, many, ["law", "poems"], expected=KeyError, naming=["poems"],
             label="an unknown name, and inputs that do not fit", hint="Names come first, before anything is computed."),
    ],
    without=[lora, lora_model, token_rows],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 8. In your own words (4 points)
#
# A colleague has written this for the team:
#
# > I set r = 64 to be safe and the loss got worse, so low rank is better. I merged the adapter into our bf16 model; that is exact, as LoRA says. And our new product names are learnt badly, so I shall raise the rank again.
#
# They changed r and nothing else, and trained once with each. The product names are tokens of their own, which the base has never read.
#
# Write 120 to 200 words to them. What else changed with r, and how would you compare ranks instead? What did the merge lose, and what would you do about it? Why will no rank teach the model these names, and what will? What is one run of each worth? Give one number from the lecture for each of
# two of your points.

# %% [markdown] written="lora_reply" points=4
# ### BEGIN SOLUTION
# The adapter's output is multiplied by α/r. With α kept, four times the r is a quarter of the scaling: you compared two scalings as much as two ranks. Raise α with r, or divide by √r, choose the learning rate for each rank, then compare.
#
# Adding BA to W is exact on paper. In bf16 a weight has eight binary digits, and a change below half a step of the last one vanishes (3.4 % of the weights in the lecture); the rest is rounded. Keep the adapter beside the weight, or merge in float32,
# and measure the model that you ship, not the one that you trained.
#
# Rows of the embedding that training never read have all been pushed to nearly the same place. Layers behind them see the same input for each of your names, and no Linear layer, of whatever rank, can tell equal inputs apart. Train these rows, too: `trainable_token_indices`. In the lecture the loss after 40 steps was 0.7 instead of 4.7.
#
# One run each is one throw each: another seed, another order of the texts, and the ranks may change places. Use several seeds, the same ones for both ranks, held-out text, and an interval of the difference.
# ### END SOLUTION

# %% [markdown] rubric="lora_reply"
# *This answer is graded by a person.*
#
# <!-- BEGIN MARK SCHEME -->
#
# One point each:
#
# 1. Scaling α/r fell with r at fixed α, so the runs differ in more than rank; says what to do (α in proportion to r, or α/√r, or a learning rate chosen for each rank).
# 2. The merged sum is rounded to bf16: changes that are small beside their weight are lost, others rounded; says what to do (keep the adapter beside, merge in float32, or measure the merged model).
# 3. Tokens that the base never read have rows in the embedding that are (nearly) alike; layers behind get the same input and cannot tell them apart, at any rank; these rows must be trained as well (`trainable_token_indices`, or the embedding). "More data" or "a higher rank" alone gets no point.
# 4. One run is one throw: seeds differ by as much; says what to do (several seeds, paired, held-out text, an interval).
#
# Numbers that count, for example: 129 of 182 tokens, loss 4.7 against 0.7 after 40 steps, law 22 % before and 89 % after with rows, medical 27 to 29 % without; 3.4 % of the weights unchanged in bf16, KL 0.00002; at rank 1 the encyclopedia at 82 % with α = 16 and at 94 % with α = 1.
#
# One point off with fewer than two numbers of the lecture. No point is lost for length or style.
#
# <!-- END MARK SCHEME -->
