# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Assignment 06: GPTQ
#
# Six functions and one written answer, about 110 minutes. Everything you need is in lectures 02 and 06 and in the text of the exercises.
#
# **How it works.** Each exercise has a cell for your code and, below it, a cell that checks it. The checks call your
# function, and where something is off they say what they called, what came back, what was expected, and give a hint.
# They do not try every rule in the text: when you hand in, the same functions are called with other inputs as well.
# Keep the line `# grade_id: …` at the top of a cell: it says which exercise the cell answers.
#
# **Rules.** Use torch and Python's standard library. The exercises ask you to write what `coursepkg.gptq`, `affine` and
# `calibration` do, so an answer that calls them, or copies a function of theirs, is refused. Exercises do not depend on each other.
#
# **Numbers.** A weight $W$ has a row for each output and a column for each input. $H = \sum x^\top x$ is the Gram matrix of the inputs.
# Tensors are float64 unless a text says otherwise, so that nobody loses points to rounding.

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
# ## 1. The Gram matrix (3 points)
#
# `batches` is a list of tensors of inputs, each of shape $(\ldots, n)$: any number of dimensions before the last, which are all tokens. They may be
# float16, bfloat16, float32 or float64, not all alike. Return $H = \sum x^\top x$ over all tokens of all batches as float32 of shape $(n, n)$. In fp16 a square of 300 is already infinite: convert
# before you multiply. A batch may hold no token at all; the list has at least one batch.


# %% solution="gram_matrix"
def gram_matrix(batches: list[torch.Tensor]) -> torch.Tensor:
    """H = Σ xᵀ x over all tokens, float32, (n, n).

    >>> gram_matrix([torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0]])]).tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    ### BEGIN SOLUTION
    n = batches[0].shape[-1]
    total = torch.zeros(n, n)
    for batch in batches:
        x = batch.reshape(-1, n).float()
        total += x.T @ x
    return total
    ### END SOLUTION


# %% test="gram_matrix" points=3
import torch

from coursepkg import affine, calibration, check, gptq
from coursepkg.check import case

two = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
check.function(
    gram_matrix,
    [
        case([two, torch.tensor([[1.0, 1.0]])], expected=torch.tensor([[2.0, 1.0], [1.0, 2.0]]), rel=1e-6,
             label="the lecture's three inputs", hint="Every token adds its own xᵀ x; batches add up."),
        case([torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])], expected=torch.tensor([[10.0, 14.0], [14.0, 20.0]]), rel=1e-6,
             label="sequences of one token", hint="All dimensions before the last are tokens."),
        case([torch.tensor([[300.0, 1.0]], dtype=torch.float16)], expected=torch.tensor([[90000.0, 300.0], [300.0, 1.0]]), rel=1e-6,
             label="large values in fp16", hint="Convert to float32 before you multiply."),
    ],
    without=[gptq, affine, calibration],
)
### BEGIN HIDDEN TESTS
some = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
flat = some.reshape(-1, 4)
check.hidden(
    gram_matrix,
    [
        case([some], expected=(flat.T @ flat).float(), rel=1e-5,
             label="four dimensions, float64", hint="Everything before the last dimension is tokens; the result is float32."),
        case([torch.zeros(0, 3), torch.tensor([[1.0, 2.0, 0.0]])], expected=torch.tensor([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 0.0]]), rel=1e-6,
             label="a batch without tokens", hint="It adds nothing."),
        case([torch.tensor([[2.0, 3.0]], dtype=torch.bfloat16), torch.tensor([[1.0, 0.0]], dtype=torch.float64)], expected=torch.tensor([[5.0, 6.0], [6.0, 9.0]]), rel=1e-6,
             label="batches of different dtypes", hint="Each is converted to float32 first."),
        case([torch.tensor([2.0, 1.0])], expected=torch.tensor([[4.0, 2.0], [2.0, 1.0]]), rel=1e-6,
             label="a single token without a batch dimension", hint="reshape(-1, n) makes rows of everything."),
        case([torch.full((3, 2), 1000.0, dtype=torch.float16)], expected=torch.full((2, 2), 3e6), rel=1e-6,
             label="a sum beyond fp16", hint="Neither products nor sums may be taken in 16 bits."),
    ],
    without=[gptq, affine, calibration],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. What the outputs lose (3 points)
#
# Return the relative squared error of a layer's outputs when its weight $W$ becomes $\hat W$:
#
# $$\frac{\operatorname{tr}(\Delta H \Delta^\top)}{\operatorname{tr}(W H W^\top)}, \qquad \Delta = \hat W - W,$$
#
# as a `float`. `weight` and `rounded` have shape (outputs, inputs), `gram` (inputs, inputs). Where the outputs are all 0 (the denominator is 0), return 0.0 if the numerator is 0
# as well, and otherwise `float("inf")`.


# %% solution="output_error"
def output_error(weight: torch.Tensor, rounded: torch.Tensor, gram: torch.Tensor) -> float:
    """The squared error of the outputs over their square sum.

    >>> H = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    >>> w = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    >>> output_error(w, torch.tensor([[1.0, 1.0]], dtype=torch.float64), H)
    1.0
    """
    ### BEGIN SOLUTION
    change = rounded - weight
    lost = ((change @ gram) * change).sum().item()
    all_of_it = ((weight @ gram) * weight).sum().item()
    if all_of_it == 0:
        return 0.0 if lost == 0 else float("inf")
    return lost / all_of_it
    ### END SOLUTION


# %% test="output_error" points=3
import torch

from coursepkg import affine, calibration, check, gptq
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


H = exact([[2.0, 1.0], [1.0, 2.0]])
check.function(
    output_error,
    [
        case(exact([[0.6, 1.6]]), exact([[1.0, 1.0]]), H, expected=0.56 / 7.76,
             label="the lecture's layer", hint="0.56 over 0.6² · 2 + 2 · 0.6 · 1.6 + 1.6² · 2."),
        case(exact([[1.0, 0.0], [0.0, 1.0]]), exact([[1.0, 0.0], [0.0, 3.0]]), H, expected=2.0,
             label="two outputs", hint="Add up over the outputs first, then divide."),
        case(exact([[0.0, 0.0]]), exact([[0.0, 0.0]]), H, expected=0.0,
             label="outputs that are all 0", hint="0/0 is not a number; the text says what to return."),
    ],
    without=[gptq, affine, calibration],
)
### BEGIN HIDDEN TESTS
generator = torch.Generator().manual_seed(1)
x = torch.randn(40, 6, generator=generator, dtype=torch.float64)
w, back = (torch.randn(3, 6, generator=generator, dtype=torch.float64) for _ in range(2))
by_outputs = ((x @ (back - w).T).square().sum() / (x @ w.T).square().sum()).item()
check.hidden(
    output_error,
    [
        case(w, back, x.T @ x, expected=by_outputs, rel=1e-9,
             label="three outputs, six inputs", hint="It is the squared change of all outputs over all tokens."),
        case(exact([[0.0, 0.0]]), exact([[1.0, 0.0]]), H, expected=float("inf"),
             label="outputs that were all 0 and are not now", hint="The text says what to return."),
        case(exact([[1.0, 5.0]]), exact([[1.0, 7.0]]), exact([[1.0, 0.0], [0.0, 0.0]]), expected=0.0,
             label="a change that no input sees", hint="Only H decides what a change costs."),
        case(exact([[2.0]]), exact([[1.0]]), exact([[9.0]]), expected=0.25,
             label="one weight", hint="(Δ/w)², whatever H is."),
        case(exact([[1.0, 2.0]]), exact([[1.0, 2.0]]), H, expected=0.0,
             label="nothing changed", hint="Then nothing is lost."),
    ],
    without=[gptq, affine, calibration],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. The best answer (3 points)
#
# Column `i` of one row has been changed by `change`, and all other columns are still free. Return the changes of **all** columns, shape $(n,)$, that make $d H d^\top$ least: entry `i` is
# `change` itself. $H$ has an inverse.


# %% solution="best_answer"
def best_answer(gram: torch.Tensor, i: int, change: float) -> torch.Tensor:
    """The changes d of all columns that cost least, given d_i; float64, (n,).

    >>> H = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    >>> [round(d, 6) for d in best_answer(H, 0, 0.4).tolist()]
    [0.4, -0.2]
    """
    ### BEGIN SOLUTION
    inverse = torch.linalg.inv(gram)
    return change * inverse[i] / inverse[i, i]
    ### END SOLUTION


# %% test="best_answer" points=3
import torch

from coursepkg import affine, calibration, check, gptq
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


check.function(
    best_answer,
    [
        case(exact([[2.0, 1.0], [1.0, 2.0]]), 0, 0.4, expected=exact([0.4, -0.2]), rel=1e-6,
             label="the lecture's two weights", hint="The second weight moves by −½ for each unit of the first."),
        case(exact([[200.0, 100.0], [100.0, 200.0]]), 0, 0.4, expected=exact([0.4, -0.2]), rel=1e-6,
             label="the same inputs in other units", hint="Is something divided by [H⁻¹]_ii? Then units cancel."),
        case(exact([[4.0, 0.0], [0.0, 1.0]]), 1, -1.0, expected=exact([0.0, -1.0]), rel=1e-6,
             label="inputs that never come together", hint="Nobody can answer; entry i is the change itself."),
    ],
    without=[gptq, affine, calibration],
)
### BEGIN HIDDEN TESTS
root = torch.randn(30, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
gram = root.T @ root
others = [0, 1, 3, 4]
solved = torch.zeros(5, dtype=torch.float64)
solved[2] = -0.7
solved[others] = 0.7 * torch.linalg.solve(gram[others][:, others], gram[others, 2])
check.hidden(
    best_answer,
    [
        case(gram, 2, -0.7, expected=solved, rel=1e-6,
             label="five inputs", hint="All columns but i may move, also those before it."),
        case(1e-3 * gram, 2, -0.7, expected=solved, rel=1e-6,
             label="five inputs, small ones", hint="A multiple of H changes nothing."),
        case(exact([[2.0, 1.0], [1.0, 2.0]]), 1, 2.0, expected=exact([-1.0, 2.0]), rel=1e-6,
             label="the second of two", hint="i may be any column."),
        case(exact([[3.0]]), 0, 1.5, expected=exact([1.5]), rel=1e-6,
             label="one weight", hint="Nobody is left to answer."),
    ],
    without=[gptq, affine, calibration],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. Damping and dead inputs (3 points)
#
# Prepare a Gram matrix $H$, float64, shape $(n, n)$, so that it has an inverse. Let $m$ be the mean of its diagonal, of **all** $n$ entries, as they are at first. Inputs with a diagonal of 0 are *dead*.
#
# 1. To each diagonal entry that is not 0, add `damping` times $m$.
# 2. The diagonal entry of a dead input becomes $m$.
#
# Return the new matrix; leave `gram` as it is. Raise a `ValueError` where $m$ is 0 (no input was ever seen), or where `damping` is not above 0; its message must contain the word `damping` in that case.


# %% solution="damped"
def damped(gram: torch.Tensor, damping: float = 0.01) -> torch.Tensor:
    """A Gram matrix with something added to its diagonal, (n, n).

    >>> damped(torch.tensor([[2.0, 1.0], [1.0, 4.0]], dtype=torch.float64), 0.1).tolist()
    [[2.3, 1.0], [1.0, 4.3]]
    """
    ### BEGIN SOLUTION
    if not damping > 0:
        raise ValueError(f"damping must be above 0, not {damping}")
    diagonal = gram.diagonal()
    mean = diagonal.mean()
    if mean == 0:
        raise ValueError("no input was seen")
    made = gram.clone()
    made.diagonal().add_(torch.where(diagonal == 0, mean, damping * mean))
    return made
    ### END SOLUTION


# %% test="damped" points=3
import torch

from coursepkg import affine, calibration, check, gptq
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


check.function(
    damped,
    [
        case(exact([[2.0, 1.0], [1.0, 4.0]]), 0.1, expected=exact([[2.3, 1.0], [1.0, 4.3]]),
             label="two inputs", hint="0.1 times the mean of the diagonal, 3, goes to the diagonal only."),
        case(exact([[2.0, 0.0], [0.0, 0.0]]), 0.5, expected=exact([[2.5, 0.0], [0.0, 1.0]]),
             label="a dead input", hint="The mean is over all entries: (2 + 0)/2. A dead input's entry becomes that mean."),
        case(exact([[0.0]]), expected=ValueError,
             label="nothing was seen", hint="Raise a ValueError."),
    ],
    without=[gptq, affine, calibration],
)
### BEGIN HIDDEN TESTS
check.hidden(
    damped,
    [
        case(exact([[4.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]), expected=exact([[4.02, 1.0, 0.0], [1.0, 2.02, 0.0], [0.0, 0.0, 2.0]]),
             label="the damping that is the default", hint="0.01 times the mean, which counts dead inputs."),
        case(exact([[1.0, 0.0], [0.0, 1.0]]), 0.0, expected=ValueError, naming=["damping"],
             label="a damping of 0", hint="The text says what to raise, and which word its message has."),
        case(exact([[1.0, 0.0], [0.0, 1.0]]), -0.1, expected=ValueError, naming=["damping"],
             label="a negative damping", hint="The text says what to raise."),
        case(exact([[8.0]]), 1.0, expected=exact([[16.0]]),
             label="one input", hint="Its diagonal is its own mean."),
        case(exact([[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]]), 0.5, expected=exact([[3.0, 0.0, 0.0], [0.0, 10.5, 0.0], [0.0, 0.0, 3.0]]),
             label="more dead inputs than living ones", hint="The mean is over all of them."),
    ],
    without=[gptq, affine, calibration],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. All rows of all steps (4 points)
#
# Columns leave the game from the left to the right. For each column $i$ return the row $[H^{-1}]_{i,:}/[H^{-1}]_{ii}$ with the inverse of $H$ over the columns $i, i+1, \ldots$ that are left at that time. Before
# the diagonal stand zeros, on it ones: a matrix of shape $(n, n)$, upper triangular. By elimination or by a Cholesky decomposition, as you like; but elimination leaves about $10^{-13}$ where a zero belongs, so put zeros there (`torch.triu`). $H$ has an inverse.


# %% solution="all_rows"
def all_rows(gram: torch.Tensor) -> torch.Tensor:
    """For each column what the others are moved by, (n, n), upper triangular with ones on the diagonal.

    >>> all_rows(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)).tolist()
    [[1.0, -0.5], [0.0, 1.0]]
    """
    ### BEGIN SOLUTION
    factor = torch.linalg.cholesky(torch.linalg.inv(gram), upper=True)
    return factor / factor.diagonal()[:, None]
    ### END SOLUTION


# %% test="all_rows" points=4
import torch

from coursepkg import affine, calibration, check, gptq
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


check.function(
    all_rows,
    [
        case(exact([[2.0, 1.0], [1.0, 2.0]]), expected=exact([[1.0, -0.5], [0.0, 1.0]]), rel=1e-6,
             label="the lecture's two weights", hint="The last column has nobody left: a row of zeros and a one."),
        case(exact([[4.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 9.0]]), expected=exact([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), rel=1e-6,
             label="inputs that never come together", hint="Each row is divided by its own diagonal."),
        case(exact([[1.0, 0.5, 0.0], [0.5, 1.0, 0.5], [0.0, 0.5, 1.0]]), expected=exact([[1.0, -2 / 3, 1 / 3], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0]]), rel=1e-6,
             label="three inputs", hint="The second row uses the inverse of H over the second and third column alone."),
    ],
    without=[gptq, affine, calibration],
)
### BEGIN HIDDEN TESTS
def by_elimination(gram):
    left, rows = torch.linalg.inv(gram), torch.zeros_like(gram)
    for i in range(len(gram)):
        rows[i, i:] = left[i, i:] / left[i, i]
        left = left - torch.outer(left[:, i], left[i]) / left[i, i]
    return rows


root = torch.randn(60, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
root = root * torch.linspace(0.2, 5, 12, dtype=torch.float64) + root.roll(1, 1)
gram = root.T @ root
check.hidden(
    all_rows,
    [
        case(gram, expected=by_elimination(gram), rel=1e-6,
             label="twelve inputs", hint="Each row belongs to the inverse over the columns that are left. Before the diagonal stand zeros, not what elimination leaves of them: torch.triu."),
        case(1000 * gram, expected=by_elimination(gram), rel=1e-6,
             label="large inputs", hint="A multiple of H changes nothing."),
        case(gram[:5, :5], expected=by_elimination(gram[:5, :5]), rel=1e-6,
             label="five inputs", hint="The size is that of gram."),
        case(exact([[7.0]]), expected=exact([[1.0]]), rel=1e-6,
             label="one input", hint="A one."),
    ],
    without=[gptq, affine, calibration],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 6. GPTQ (6 points)
#
# Now all of it. `weight` has shape (outputs, inputs). `scale` has one entry for each output: codes are whole numbers from $-(2^{b-1} - 1)$ to $2^{b-1} - 1$ with $b$ = `bits`, and a code $q$ in row $r$ stands for $q \cdot \text{scale}_r$.
# Round ties to the even code, as `torch.round` does. `rows` is the matrix of exercise 5, given to you. Go through the columns from the left to the right:
#
# 1. Round column $i$, as it is by then, to the nearest codes; those beyond the range get the code at its end.
# 2. Take what the column has lost, its value as it is by then, less what its codes stand for, and subtract from each column $j > i$ that, times `rows[i, j]`.
#
# Return the codes, int8, of the weight's shape. Leave `weight` as it is.


# %% solution="gptq_codes"
def gptq_codes(
    weight: torch.Tensor, rows: torch.Tensor, scale: torch.Tensor, bits: int
) -> torch.Tensor:
    """Codes of a weight, int8, (outputs, inputs).

    >>> rows = torch.tensor([[1.0, -0.5], [0.0, 1.0]], dtype=torch.float64)
    >>> weight = torch.tensor([[0.6, 1.6]], dtype=torch.float64)
    >>> gptq_codes(weight, rows, torch.ones(1, dtype=torch.float64), 4).tolist()
    [[1, 1]]
    """
    ### BEGIN SOLUTION
    most = 2 ** (bits - 1) - 1
    left = weight.clone()
    codes = torch.zeros(weight.shape, dtype=torch.int8)
    for i in range(weight.shape[1]):
        code = (left[:, i] / scale).round().clamp(-most, most)
        codes[:, i] = code.to(torch.int8)
        lost = left[:, i] - code * scale
        left[:, i + 1 :] -= torch.outer(lost, rows[i, i + 1 :])
    return codes
    ### END SOLUTION


# %% test="gptq_codes" points=6
import torch

from coursepkg import affine, calibration, check, gptq
from coursepkg.check import case


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


half = exact([[1.0, -0.5], [0.0, 1.0]])
check.function(
    gptq_codes,
    [
        case(exact([[0.6, 1.6]]), half, exact([1.0]), 4, expected=torch.tensor([[1, 1]], dtype=torch.int8),
             label="the lecture's two weights", hint="The first has lost −0.4; the second becomes 1.6 − (−0.4)(−0.5) = 1.4."),
        case(exact([[0.3, 0.8]]), half, exact([0.5]), 4, expected=torch.tensor([[1, 1]], dtype=torch.int8),
             label="a scale of 0.5", hint="What is lost is a difference of values, not of codes."),
        case(exact([[9.0, 1.0]]), half, exact([1.0]), 3, expected=torch.tensor([[3, 3]], dtype=torch.int8),
             label="a value beyond the range", hint="What clamping takes away is lost, too: 9 − 3 = 6, and the second becomes 1 + 3 = 4."),
    ],
    without=[gptq, affine, calibration],
)
### BEGIN HIDDEN TESTS
def by_rule(weight, rows, scale, bits):
    most, left, codes = 2 ** (bits - 1) - 1, weight.clone(), []
    for i in range(weight.shape[1]):
        codes.append((left[:, i] / scale).round().clamp(-most, most))
        left = left - (left[:, i] - codes[i] * scale)[:, None] * torch.where(torch.arange(len(rows)) > i, rows[i], 0.0)
    return torch.stack(codes, 1).to(torch.int8)


generator = torch.Generator().manual_seed(4)
root = torch.randn(40, 9, generator=generator, dtype=torch.float64) @ torch.randn(9, 9, generator=generator, dtype=torch.float64)
factor = torch.linalg.cholesky(torch.linalg.inv(root.T @ root), upper=True)
nine = factor / factor.diagonal()[:, None]
w = torch.randn(4, 9, generator=generator, dtype=torch.float64)
steps = w.abs().amax(1) / 3
check.hidden(
    gptq_codes,
    [
        case(w, nine, steps, 3, expected=by_rule(w, nine, steps, 3),
             label="four outputs, nine inputs", hint="Each output has its own scale; every column behind is moved each time."),
        case(w, nine, steps / 20, 8, expected=by_rule(w, nine, steps / 20, 8),
             label="eight bits", hint="The range depends on bits: −127 to 127."),
        case(w, torch.eye(9, dtype=torch.float64), steps, 3, expected=(w / steps[:, None]).round().to(torch.int8),
             label="inputs that never come together", hint="Then it is rounding to the nearest."),
        case(exact([[0.5], [1.5], [-9.0]]), exact([[1.0]]), exact([1.0, 1.0, 1.0]), 2, expected=torch.tensor([[0], [1], [-1]], dtype=torch.int8),
             label="one input, two bits, ties", hint="Codes of two bits are −1, 0 and 1; ties go to even."),
    ],
    without=[gptq, affine, calibration],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 7. In your own words (4 points)
#
# A colleague has quantized a model with GPTQ, and writes:
#
# > Our 3-bit weights are *closer* to the originals than rounded ones: that is what GPTQ minimises. We calibrated on 2,000 tokens of our benchmark with damping 0.0001, and measured the outputs' error on
# > the same tokens: a tenth of rounding's. So the model is nearly lossless.
#
# Write 120 to 200 words to them. What does GPTQ minimise, and what happens to the error of the weights? What is wrong with measuring on the calibration text, and which part do the few tokens and the little damping
# play? Say which measurement you would trust, and give one number from lecture 06 for each of two of your points.

# %% [markdown] written="gptq_reply" points=4
# ### BEGIN SOLUTION
# GPTQ minimises the change of a layer's outputs on the calibration inputs, not that of the weights. It moves weights away from their nearest codes where that makes good what
# others have lost: in layer 0's q_proj the weights' squared error rises from 6.3 % to 11.9 % while the outputs' falls from 3.0 % to 1.0 %. "Closer to the originals" is wrong.
#
# The outputs' error on the calibration text is what was fitted. On new text it is larger, above all with little text and little damping: with 2,048 tokens for 768 inputs and damping
# 0.0001 it was 0.35 % on its own text and 1.35 % on new text. H then hardly knows some directions, so that answers in these are large and cost nothing where it looked. More tokens (8,192: 0.69 %) or more damping help.
#
# Benchmark text must not be calibrated with: the score would say how well the weights fit these questions. I would trust the KL divergence from the unrounded model, and an exam, both on text that was never used,
# with intervals, beside rounding at the same bits.
# ### END SOLUTION

# %% [markdown] rubric="gptq_reply"
# *This answer is graded by a person.*
#
# <!-- BEGIN MARK SCHEME -->
#
# One point each:
#
# 1. GPTQ minimises the outputs' change, tr(ΔHΔᵀ) or in words; the weights' error grows. With a number, or a clear reason (weights are moved to answer for others).
# 2. Calibration text was fitted to, so its error is too low; on new text it is larger. With a number, or a clear reason.
# 3. Few tokens and little damping make that worse: H has (nearly) no inverse, answers become large; says what helps.
# 4. A measurement to trust: held-out text or questions, not those of the calibration; KL, perplexity or exam, with an interval or beside rounding.
#
# One point off with fewer than two numbers of the lecture. No point is lost for length or style.
#
# <!-- END MARK SCHEME -->
