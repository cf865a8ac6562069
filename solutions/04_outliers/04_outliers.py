# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Assignment 04: Outliers
#
# Six functions and one written answer, about 110 minutes. Everything you need is in lecture 04 and in the text of the exercises.
#
# **How it works.** Each exercise has a cell for your code and, below it, a cell that checks it. The checks call your function, and where something is off they
# say what they called, what came back, what was expected, and give a hint. They do not try every rule in the text: when you hand in, the same functions are
# called with other inputs as well. Keep the line `# grade_id: …` at the top of a cell: it says which exercise the cell answers.
#
# **Rules.** Use torch and Python's standard library. The exercises ask you to write what `coursepkg.w8a8`, `llm_int8`, `smoothquant`, `integer_products` and
# `affine` do, so an answer that calls them, or copies a function of theirs, is refused. Exercises do not depend on each other.
#
# **Names.** `x` are activations, (tokens, features). A weight `W` is (outputs, features), as PyTorch's Linear stores it. Values are float32 unless a text says
# otherwise. Codes are int8, from −127 to 127.

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
# ## 1. A scale for each token (3 points)
#
# `x` is a matrix (tokens, features) of any floating dtype, with at least one feature. Work in float32. The scale of a token is the largest size in its row over
# 127; a row of zeros has scale 1. Codes are `x / scale`, rounded to whole numbers as `torch.round` does it. Return the codes, int8 of the shape of `x`, and the
# scales, float32 of shape (tokens, 1).


# %% solution="quantize_tokens"
def quantize_tokens(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (tokens, features), int8, and scales (tokens, 1), float32.

    >>> codes, scales = quantize_tokens(torch.tensor([[0.5, -1.27], [0.0, 0.0]]))
    >>> codes.tolist(), [round(scale, 4) for scale in scales.flatten().tolist()]
    ([[50, -127], [0, 0]], [0.01, 1.0])
    """
    ### BEGIN SOLUTION
    x = x.float()
    absmax = x.abs().amax(1, keepdim=True)
    scales = torch.where(absmax > 0, absmax / 127, torch.ones_like(absmax))
    codes = torch.round(x / scales).to(torch.int8)
    return codes, scales
    ### END SOLUTION


# %% test="quantize_tokens" points=3
import torch

from coursepkg import affine, check, integer_products, llm_int8, smoothquant, w8a8
from coursepkg.check import case

check.function(
    quantize_tokens,
    [
        case(torch.tensor([[1.0, 0.5, -0.25]]), expected=(torch.tensor([[127, 64, -32]], dtype=torch.int8), torch.tensor([[1 / 127]])), rel=1e-6,
             label="one token", hint="The scale is the largest size over 127; codes are x / scale, rounded."),
        case(torch.tensor([[0.1, -12.7], [1.27, 0.3]]), expected=(torch.tensor([[1, -127], [127, 30]], dtype=torch.int8), torch.tensor([[0.1], [0.01]])), rel=1e-5,
             label="two tokens", hint="Each row has its own scale, and the largest may be negative."),
        case(torch.tensor([[0.0, 0.0], [1.0, 2.0]]), expected=(torch.tensor([[0, 0], [64, 127]], dtype=torch.int8), torch.tensor([[1.0], [2 / 127]])), rel=1e-6,
             label="a token of zeros", hint="0/0 is not a number: such a row has scale 1."),
    ],
    without=[affine, w8a8, llm_int8],
)
### BEGIN HIDDEN TESTS
some = torch.randn(7, 40, generator=torch.Generator().manual_seed(0))
some[3], some[5, 17] = 0.0, -60.0

def by_package(x):
    made = affine.quantize(x, affine.Scheme(8, granularity="channel"))
    return made.codes, made.scale

check.hidden(
    quantize_tokens,
    [
        case(some, expected=by_package(some), rel=1e-6,
             label="seven tokens, one of zeros and one with an outlier", hint="A row's scale is that of its largest size, whatever the other rows are."),
        case(some.half(), expected=by_package(some.half()), rel=1e-6,
             label="float16", hint="Work in float32, and return float32 scales."),
        case(torch.full((2, 3), -0.4), expected=(torch.full((2, 3), -127, dtype=torch.int8), torch.full((2, 1), 0.4 / 127)), rel=1e-6,
             label="constant rows", hint="All of the row has the size of the largest."),
        case(torch.tensor([[3.0], [-2.0]]), expected=(torch.tensor([[127], [-127]], dtype=torch.int8), torch.tensor([[3 / 127], [2 / 127]])), rel=1e-6,
             label="one feature", hint="Rows are tokens, also where they are short."),
    ],
    without=[affine, w8a8, llm_int8],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. The product of whole numbers (4 points)
#
# `q` are the codes of $x$, int8 (tokens, features), with scales `s`, float32 (tokens, 1). `p` are those of $W$, int8 (outputs, features), with scales `t`,
# float32 (outputs, 1). `bias` is float32 (outputs,) or None. Add up products of *codes*, exactly, and take the scales out of the sum. Return $y$, float32
# (tokens, outputs). A sum may have thousands of terms.


# %% solution="whole_product"
def whole_product(
    q: torch.Tensor,
    s: torch.Tensor,
    p: torch.Tensor,
    t: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """y = x Wᵀ + bias from codes and scales, float32 (tokens, outputs).

    >>> q, s = torch.tensor([[10, -20]], dtype=torch.int8), torch.tensor([[0.1]])
    >>> p, t = torch.tensor([[3, 1], [0, 2]], dtype=torch.int8), torch.tensor([[0.5], [2.0]])
    >>> [round(y, 4) for y in whole_product(q, s, p, t)[0].tolist()]
    [0.5, -8.0]
    """
    ### BEGIN SOLUTION
    sums = q.int() @ p.int().T
    y = s * t.T * sums
    return y if bias is None else y + bias
    ### END SOLUTION


# %% test="whole_product" points=4
import torch

from coursepkg import affine, check, integer_products, llm_int8, smoothquant, w8a8
from coursepkg.check import case


def codes(*rows):
    return torch.tensor(rows, dtype=torch.int8)

check.function(
    whole_product,
    [
        case(codes([10, -20]), torch.tensor([[0.1]]), codes([3, 1], [0, 2]), torch.tensor([[0.5], [2.0]]),
             expected=torch.tensor([[0.5, -8.0]]), rel=1e-6,
             label="one token, two outputs", hint="Each sum is multiplied by its token's scale and its output's."),
        case(codes([100, 100], [127, 127]), torch.tensor([[1.0], [0.5]]), codes([100, 127]), torch.tensor([[1.0]]),
             expected=torch.tensor([[22700.0], [14414.5]]), rel=1e-6,
             label="large codes", hint="100 · 100 does not fit into int8. Which dtype has room for the sum?"),
        case(codes([1, 1]), torch.tensor([[0.5]]), codes([1, 1]), torch.tensor([[0.5]]), torch.tensor([10.0]),
             expected=torch.tensor([[10.5]]), rel=1e-6,
             label="a bias", hint="The bias is no code: it is added behind the scales."),
    ],
    without=[affine, w8a8, llm_int8, integer_products],
)
### BEGIN HIDDEN TESTS
g = torch.Generator().manual_seed(0)
a, b = (torch.randint(1, 128, (n, 3000), dtype=torch.int8, generator=g) for n in (3, 5))
s, t = torch.rand(3, 1, generator=g) + 0.1, torch.rand(5, 1, generator=g) + 0.1
exact = (a.double() @ b.double().T * s.double() * t.double().T).float()
ones = torch.ones(1, 1)
check.hidden(
    whole_product,
    [
        case(a, s, b, t, expected=exact, rel=1e-6,
             label="sums of 3,000 terms", hint="The sum needs more than 16 bits."),
        case(torch.full((1, 3001), 127, dtype=torch.int8), ones, torch.full((1, 3001), 127, dtype=torch.int8), ones,
             expected=torch.tensor([[127.0 * 127 * 3001]]), rel=1e-7,
             label="3,001 products of the largest codes", hint="Add whole numbers, exactly: int32 has room for 127² a hundred thousand times."),
        case(codes([-127], [5]), torch.tensor([[1.0], [2.0]]), codes([127], [-3], [0]), torch.tensor([[1.0], [3.0], [9.0]]), torch.tensor([1.0, 2.0, 3.0]),
             expected=torch.tensor([[-16128.0, 1145.0, 3.0], [1271.0, -88.0, 3.0]]), rel=1e-6,
             label="one feature, three outputs, a bias", hint="Tokens go down, outputs go right: check the shapes of the scales."),
        case(codes([0, 0, 0]), torch.tensor([[1.0]]), codes([1, 2, 3]), torch.tensor([[0.1]]), expected=torch.tensor([[0.0]]),
             label="a token of zeros", hint="Its sum is 0."),
    ],
    without=[affine, w8a8, llm_int8, integer_products],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. Which columns are outliers (2 points)
#
# `x` is (tokens, features). A feature is an outlier if **any** of its values has a size of **at least** `threshold`. Return the places of these features,
# int64, ascending; an empty tensor of shape (0,) where there are none.


# %% solution="outlier_features"
def outlier_features(x: torch.Tensor, threshold: float = 6.0) -> torch.Tensor:
    """Places of the outlier features, int64, ascending.

    >>> outlier_features(torch.tensor([[0.1, -7.0, 1.0], [0.2, 0.3, 6.5]])).tolist()
    [1, 2]
    """
    ### BEGIN SOLUTION
    large = x.abs() >= threshold
    return large.any(0).nonzero().flatten()
    ### END SOLUTION


# %% test="outlier_features" points=2
import torch

from coursepkg import affine, check, integer_products, llm_int8, smoothquant, w8a8
from coursepkg.check import case

check.function(
    outlier_features,
    [
        case(torch.tensor([[0.1, -7.0, 1.0], [0.2, 0.3, 6.5]]), expected=torch.tensor([1, 2]),
             label="one value is enough", hint="Any token may have it, and it may be negative."),
        case(torch.tensor([[6.0, 5.9]]), expected=torch.tensor([0]),
             label="the threshold itself", hint="At least the threshold: it counts."),
        case(torch.tensor([[1.0, 2.0]]), expected=torch.tensor([], dtype=torch.int64),
             label="no outliers", hint="An empty tensor of dtype int64 and shape (0,)."),
    ],
    without=[llm_int8],
)
### BEGIN HIDDEN TESTS
x = torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
x[:, 4] -= 40
x[11, 20] = 9.0
x[7, 2] = -6.0
check.hidden(
    outlier_features,
    [
        case(x, expected=torch.tensor([2, 4, 20]),
             label="steady, single and negative outliers", hint="Any value of the column, by its size."),
        case(x, 2.0, expected=(x.abs() >= 2).any(0).nonzero()[:, 0],
             label="another threshold", hint="Use the threshold that is given."),
        case(x.half(), 39.0, expected=torch.tensor([4]),
             label="float16", hint="The rule is the same in every dtype."),
        case(torch.tensor([[9.0], [0.0]]), expected=torch.tensor([0]),
             label="one feature", hint="A tensor of shape (1,), not a number."),
    ],
    without=[llm_int8],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. LLM.int8()'s product (5 points)
#
# `x` is (tokens, features), `W` (outputs, features), both float32. Compute the product of lecture 04, section 4, all in float32:
#
# 1. Outlier features are those with any value of at least `threshold` in size. They are taken out of $x$ and of the sum.
# 2. What is left of each token is rounded to int8 with its own scale, absmax over 127, where the absmax is that of the features that are left. (bitsandbytes also counts values below the threshold in the outlier features; here they do not count.) If nothing is
#    left, or all of it is 0, its codes are 0.
# 3. Each row of `W` is rounded to int8 with its own scale, from **all** its values. A row of zeros has codes 0.
# 4. The outlier features are multiplied as they are, unrounded, by the weights **read back from int8**, as bitsandbytes does it.
#
# Return the sum of both products, float32 (tokens, outputs).


# %% solution="mixed_product"
def mixed_product(x: torch.Tensor, W: torch.Tensor, threshold: float = 6.0) -> torch.Tensor:
    """x Wᵀ, outlier features unrounded, the rest through int8; float32 (tokens, outputs).

    >>> x, W = torch.tensor([[127.0, 2.0, 1.0]]), torch.tensor([[1.0, 1.27, 0.5]])
    >>> round(mixed_product(x, W).item(), 4)
    130.04
    """
    ### BEGIN SOLUTION
    def rounded(rows):
        absmax = rows.abs().amax(1, keepdim=True)
        scales = torch.where(absmax > 0, absmax / 127, torch.ones_like(absmax))
        return torch.round(rows / scales), scales

    out = (x.abs() >= threshold).any(0)
    q, s = rounded(torch.where(out, torch.zeros_like(x), x))
    p, t = rounded(W)
    in_8_bits = s * t.T * (q @ p.T)
    unrounded = x[:, out] @ (t * p)[:, out].T
    return in_8_bits + unrounded
    ### END SOLUTION


# %% test="mixed_product" points=5
import torch

from coursepkg import affine, check, integer_products, llm_int8, smoothquant, w8a8
from coursepkg.check import case

whole = torch.tensor([[1.0, 1.27, 0.5], [-1.27, 0.0, 1.0]])
check.function(
    mixed_product,
    [
        case(torch.tensor([[127.0, 2.0, 1.0]]), whole, expected=torch.tensor([[130.0439, -160.2821]]), rel=1e-5,
             label="one outlier feature", hint="127 is multiplied unrounded; 2 and 1 have the scale 2/127 and codes 127 and 64."),
        case(torch.tensor([[1.27, 0.5, -0.1]]), whole, expected=torch.tensor([[1.855, -1.7129]]), rel=1e-5,
             label="no outlier", hint="Then all is multiplied in 8 bits."),
        case(torch.tensor([[100.0, 0.02, 0.0], [90.0, 0.0, 0.01]]), whole, expected=torch.tensor([[100.0254, -127.0], [90.005, -114.29]]), rel=1e-5,
             label="small values beside an outlier", hint="The scale comes from what is left, without the outlier features."),
    ],
    without=[affine, w8a8, llm_int8, integer_products],
)
### BEGIN HIDDEN TESTS
def by_formula(x, W, threshold):
    """In float64, feature by feature."""
    out = [k for k in range(x.shape[1]) if x[:, k].abs().max() >= threshold]
    left = [k for k in range(x.shape[1]) if k not in out]
    t = W.double().abs().amax(1) / 127
    read = torch.stack([torch.round(row / scale) * scale if scale else row for row, scale in zip(W.double(), t, strict=True)])
    y = torch.zeros(len(x), len(W), dtype=torch.float64)
    for i, row in enumerate(x.double()):
        scale = max((abs(row[k].item()) for k in left), default=0.0) / 127
        for k in out:
            y[i] += row[k] * read[:, k]
        for k in left if scale else []:
            y[i] += torch.round(row[k] / scale) * scale * read[:, k]
    return y.float()

# No x / s and no W / t lies within 4e-3 of a half, and no result within 0.2 of 0: each way of computing them finds the same.
g = torch.Generator().manual_seed(3)
x, W = torch.rand(6, 12, generator=g) + 0.2, torch.rand(5, 12, generator=g) + 0.1
swing = x.clone()
swing[:, 3] = torch.tensor([40.0, 1.0, 8.0, 0.5, 20.0, 3.0])
swing[2, 9] = -7.0
check.hidden(
    mixed_product,
    [
        case(swing, W, expected=by_formula(swing, W, 6.0), rel=1e-4,
             label="two outlier features, small in some tokens", hint="A feature is out for all tokens if one has a large value; in the others it is multiplied unrounded, too."),
        case(x, W, 0.9, expected=by_formula(x, W, 0.9), rel=1e-4,
             label="another threshold", hint="Use the threshold that is given."),
        case(x, W, 0.01, expected=by_formula(x, W, 0.01), rel=1e-4,
             label="all features out", hint="Nothing is left to round: only the weights are."),
        case(torch.tensor([[0.0, 0.0], [1.0, 9.0]]), torch.tensor([[1.0, 0.5], [0.0, 0.0]]), expected=by_formula(torch.tensor([[0.0, 0.0], [1.0, 9.0]]), torch.tensor([[1.0, 0.5], [0.0, 0.0]]), 6.0), rel=1e-5,
             label="a token of zeros and a row of zeros", hint="0/0 is not a number."),
        case(torch.tensor([[0.5, -30.0, 0.0]]), torch.tensor([[1.0, 0.37, 0.2]]), expected=by_formula(torch.tensor([[0.5, -30.0, 0.0]]), torch.tensor([[1.0, 0.37, 0.2]]), 6.0), rel=1e-5,
             label="one token, a negative outlier", hint="Outliers are large by size. Their weights are read back from int8."),
    ],
    without=[affine, w8a8, llm_int8, integer_products],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. Smoothing factors (4 points)
#
# `x` is (tokens, features): some text's activations behind a norm. `weights` are those of **all** Linear layers that read the norm, each (outputs, features),
# with their own numbers of outputs. With $\max|X_k|$ over the tokens and $\max|W_k|$ over the outputs of all layers together,
#
# $$s_k = \frac{\max|X_k|^\alpha}{\max|W_k|^{1-\alpha}}$$
#
# A feature that is 0 in all tokens, or whose weights are all 0, has $s_k = 1$. Return $s$, float32 (features,).


# %% solution="smoothing_factors"
def smoothing_factors(
    x: torch.Tensor, weights: list[torch.Tensor], alpha: float = 0.5
) -> torch.Tensor:
    """SmoothQuant's s for each feature, float32 (features,).

    >>> x, W = torch.tensor([[8.0, 1.0], [-2.0, 0.5]]), torch.tensor([[0.5, -1.0]])
    >>> smoothing_factors(x, [W]).tolist()
    [4.0, 1.0]
    """
    ### BEGIN SOLUTION
    largest_x = x.abs().amax(0)
    largest_w = torch.cat(weights).abs().amax(0)
    s = largest_x**alpha / largest_w ** (1 - alpha)
    alive = (largest_x > 0) & (largest_w > 0)
    return torch.where(alive, s, torch.ones_like(s))
    ### END SOLUTION


# %% test="smoothing_factors" points=4
import torch

from coursepkg import affine, check, integer_products, llm_int8, smoothquant, w8a8
from coursepkg.check import case

seen = torch.tensor([[8.0, 1.0], [-2.0, 0.5]])
check.function(
    smoothing_factors,
    [
        case(seen, [torch.tensor([[0.5, -1.0]])], expected=torch.tensor([4.0, 1.0]), rel=1e-5,
             label="α = ½", hint="The root of 8/0.5, and of 1/1."),
        case(seen, [torch.tensor([[0.5, -1.0]]), torch.tensor([[-2.0, 0.1], [0.3, 0.25]])], expected=torch.tensor([2.0, 1.0]), rel=1e-5,
             label="two readers", hint="The largest weight of a feature, in all layers that read it."),
        case(seen, [torch.tensor([[0.5, -1.0]])], 1.0, expected=torch.tensor([8.0, 1.0]), rel=1e-5,
             label="α = 1", hint="Then the weights do not count."),
        case(torch.tensor([[0.0, 4.0]]), [torch.tensor([[1.0, 1.0]])], expected=torch.tensor([1.0, 2.0]), rel=1e-5,
             label="a dead feature", hint="A feature that is always 0 keeps s = 1."),
    ],
    without=[smoothquant],
)
### BEGIN HIDDEN TESTS
g = torch.Generator().manual_seed(1)
x = torch.randn(40, 16, generator=g)
x[:, 5] -= 60
readers = [0.1 * torch.randn(n, 16, generator=g) for n in (8, 3, 3)]
dead = x.clone()
dead[:, 2] = 0
without = [each.clone() for each in readers]
for each in without:
    each[:, 7] = 0
largest = x.abs().amax(0)
check.hidden(
    smoothing_factors,
    [
        case(x, readers, 0.3, expected=smoothquant.smoothing(largest, readers, 0.3), rel=1e-4,
             label="three readers, α = 0.3, a negative outlier", hint="Sizes, not values; α on the activations, 1 − α on the weights."),
        case(x, readers, 0.0, expected=smoothquant.smoothing(largest, readers, 0.0), rel=1e-4,
             label="α = 0", hint="Then s is one over the largest weight."),
        case(dead, without, 0.7, expected=smoothquant.smoothing(dead.abs().amax(0), without, 0.7), rel=1e-4,
             label="a dead feature, and one without weights", hint="Both keep s = 1, and no other does."),
        case(dead, readers, 0.0, expected=smoothquant.smoothing(dead.abs().amax(0), readers, 0.0), rel=1e-4,
             label="a dead feature at α = 0", hint="0 to the power of 0 is 1: say that the feature is dead before you divide."),
        case(x[:1], readers[:1], 0.5, expected=smoothquant.smoothing(x[0].abs(), readers[:1], 0.5), rel=1e-4,
             label="one token, one reader", hint="The same rule."),
    ],
    without=[smoothquant],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 6. Fold it into the norm (3 points)
#
# A norm gives $z_k \, g_k + b_k$ for each feature, with gain $g$ and bias $b$, float32 (features,); many norms have no bias, then `bias` is None. `weights` are
# those of the layers that read it, each (outputs, features). Given $s$, float32 (features,), change them so that the norm's output is divided by $s$, and that
# what the layers compute stays as it was. Return the new gain, the new bias (or None) and the new weights, a list. Leave the arguments as they are.


# %% solution="fold"
def fold(
    gain: torch.Tensor,
    bias: torch.Tensor | None,
    weights: list[torch.Tensor],
    s: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor | None, list[torch.Tensor]]:
    """Gain, bias and weights with s folded in.

    >>> gain, bias, (W,) = fold(torch.tensor([1.0, 8.0]), None, [torch.tensor([[2.0, 3.0]])], torch.tensor([1.0, 4.0]))
    >>> gain.tolist(), bias, W.tolist()
    ([1.0, 2.0], None, [[2.0, 12.0]])
    """
    ### BEGIN SOLUTION
    new_bias = None if bias is None else bias / s
    new_weights = [W * s for W in weights]
    return gain / s, new_bias, new_weights
    ### END SOLUTION


# %% test="fold" points=3
import torch

from coursepkg import affine, check, integer_products, llm_int8, smoothquant, w8a8
from coursepkg.check import case

check.function(
    fold,
    [
        case(torch.tensor([1.0, 8.0]), None, [torch.tensor([[2.0, 3.0], [0.5, 1.0]])], torch.tensor([1.0, 4.0]),
             expected=(torch.tensor([1.0, 2.0]), None, [torch.tensor([[2.0, 12.0], [0.5, 4.0]])]), rel=1e-6,
             label="a norm without bias", hint="The gain is divided by s; a column of the weight, an input, is multiplied."),
        case(torch.tensor([1.0, 8.0]), torch.tensor([3.0, 2.0]), [torch.tensor([[2.0, 3.0]])], torch.tensor([1.0, 4.0]),
             expected=(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5]), [torch.tensor([[2.0, 12.0]])]), rel=1e-6,
             label="a norm with bias", hint="The bias is a part of the norm's output."),
    ],
    without=[smoothquant],
)
### BEGIN HIDDEN TESTS
g = torch.Generator().manual_seed(2)
gain, bias, s = (torch.rand(4, generator=g) + 0.5 for _ in range(3))
square, tall, flat = (torch.randn(n, 4, generator=g) for n in (4, 9, 1))
check.hidden(
    fold,
    [
        case(gain, bias, [square], s, expected=(gain / s, bias / s, [square * s]), rel=1e-5,
             label="a square weight", hint="Columns are inputs. In a square weight nothing but the result tells rows from columns."),
        case(gain, None, [square, tall, flat], s, expected=(gain / s, None, [square * s, tall * s, flat * s]), rel=1e-5,
             label="three readers, no bias", hint="All layers that read the norm have to be changed."),
        case(gain, torch.zeros(4), [flat], s, expected=(gain / s, torch.zeros(4), [flat * s]), rel=1e-5,
             label="a bias of zeros", hint="A bias that is there stays there."),
    ],
    without=[smoothquant],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 7. In your own words (4 points)
#
# A colleague writes:
#
# > Transformer weights have outliers, so we round the activations with a scale for each token, which keeps the outliers away from the other tokens. LLM.int8()
# > costs memory, because it keeps the outliers' weights in 16 bits, so we take SmoothQuant with α = 1, which removes the outliers altogether. Then W8A8 doubles
# > the speed of our chat.
#
# Write 150 to 250 words to them. Where are the outliers? When does a scale for each token help, and when not? What does LLM.int8() in bitsandbytes store, and
# what does it cost instead? What becomes of the outliers at α = 1? When does W8A8 save time? Name at least two measurements of lecture 04.

# %% [markdown] written="w8a8_advice" points=4
# ### BEGIN SOLUTION
# The outliers are in the activations: a few features that are large in nearly all tokens. Weights have none worth the name: in the course LM no input of the
# layers behind norms has a largest weight twice that of the median one, while the planted features of the activations stand about a hundred times above theirs.
#
# A scale for each token fences in what stands in few rows. A steady outlier stands in every row, so each token's ruler is as long as one for all: with steady
# outliers the exam falls to about 60 % per token, and to about 53 % per tensor, from 96 %. Only where the outlier swings from token to token does a scale for
# each token help much.
#
# LLM.int8() in bitsandbytes stores int8 weights and scales, no 16-bit copy. The columns that it takes out are read back from int8. It costs time: outliers are
# searched for in each call, and there is a second product.
#
# α = 1 removes nothing. It moves the outliers into the weights, which are rounded as well. With one scale for each tensor KL at α = 1 is as bad as without
# smoothing; with one for each token and output it is 0.009, far better than the 0.787 without, but 4 times worse than ½, with 0.0021.
#
# And a chat that generates token by token is memory-bound: moving the weights decides. Rounding activations gains next to nothing there. W8A8 saves time on
# long prompts and many users at once.
# ### END SOLUTION

# %% [markdown] rubric="w8a8_advice"
# *This answer is graded by a person.*
#
# <!-- BEGIN MARK SCHEME -->
#
# One point each:
#
# 1. Outliers are features (columns) of the activations, not weights; a scale for each token does not help where every token has them (steady), and does where
#    they swing.
# 2. bitsandbytes keeps no 16-bit weights for them: int8 alone. The cost is time: the search in each call and a second product.
# 3. α = 1 gives the outliers to the weights; the best is between (near ½ in the lecture). A figure, or the reason: weights share a scale, too. "Still far better than nothing with a scale per token (0.009 against 0.787), but 4 times worse than ½ (0.0021)" is right.
# 4. W8A8 saves time where work is compute-bound (long prompts, many users); generating token by token is memory-bound.
#
# Two measurements of the lecture must be named in all; with fewer, take off one point. No point is lost for length or style.
#
# <!-- END MARK SCHEME -->
