# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 04 · Outliers: when activations are rounded, too
#
# [Open in Colab]({{ colab }}) · [Open in Binder]({{ binder }})
#
# **At the end you can** multiply two matrices as whole numbers and take their scales out of the sum; say where a language model has outliers and where it has
# none; show what they do to W8A8, and with which granularity; compute LLM.int8()'s and SmoothQuant's products by hand, and get the first as bitsandbytes does;
# and choose between them, knowing what each costs.
#
# **It builds on** lectures 02 (scale, rounding, SQNR) and 03 (granularity, which axis, KL divergence). **It takes** 70 minutes.

# %% tags=["nbval-ignore-output"]
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

import copy
from dataclasses import replace

import torch
from coursepkg import affine, courselm, distortion, show, surgery, w8a8
from coursepkg.affine import Scheme

coursepkg.hello()

# %% [markdown]
# ## 1. A product of whole numbers
#
# Until now only weights were rounded. They were stored as codes, and read back as fractions whenever a product needed them. This lecture rounds the
# **activations** as well, the numbers $x$ that come into a Linear layer. If both sides of a product are codes, the product itself can be one of whole numbers.
# That is **W8A8**: 8 bits for weights, 8 bits for activations.
#
# Token $i$ has its scale $s_i$ and codes $q_{ik}$, output $j$ has its scale $t_j$ and codes $p_{jk}$, and $k$ counts the features:
#
# $$y_{ij} = \sum_k x_{ik} W_{jk} \approx \sum_k (s_i q_{ik}) (t_j p_{jk}) = s_i t_j \underbrace{\sum_k q_{ik} p_{jk}}_{\text{whole numbers}}$$
#
# By hand: two tokens of three features, and two outputs. A scale is the row's absmax over 127. (The numbers are chosen so that rounding loses nothing.)
#
# | | values | scale | codes |
# |---|---|---|---|
# | token 1 | 1.27, −0.50, 0.20 | 0.01 | 127, −50, 20 |
# | token 2 | 0.254, 0.100, −0.030 | 0.002 | 127, 50, −15 |
# | output 1 | 0.508, 0.400, −0.120 | 0.004 | 127, 100, −30 |
# | output 2 | −1.27, 0, 0.63 | 0.01 | −127, 0, 63 |
#
# $y_{11} = 0.01 \cdot 0.004 \cdot (127 \cdot 127 - 50 \cdot 100 - 20 \cdot 30) = 0.00004 \cdot 10{,}529 = 0.42116$, and in fractions $1.27 \cdot 0.508 - 0.50
# \cdot 0.400 - 0.20 \cdot 0.120$ is the same.

# %%
x = torch.tensor([[1.27, -0.50, 0.20], [0.254, 0.100, -0.030]])
W = torch.tensor([[0.508, 0.400, -0.120], [-1.27, 0.0, 0.63]])
s, t = x.abs().amax(1) / 127, W.abs().amax(1) / 127
q, p = torch.round(x / s[:, None]).int(), torch.round(W / t[:, None]).int()
print("codes of x", q.tolist(), " codes of W", p.tolist())
print("whole sums", (q @ p.T).tolist())
by_hand = s[:, None] * t * (q @ p.T)
print("times s_i t_j", [[round(y, 5) for y in row] for row in by_hand.tolist()])
print("x Wᵀ         ", [[round(y, 5) for y in row] for row in (x @ W.T).tolist()])

# %% [markdown]
# The same through the package. `w8a8.quantize_weight` is done once, `w8a8.linear` rounds each $x$ on its way in:

# %%
weight = w8a8.quantize_weight(W)
print("agree:", torch.allclose(w8a8.linear(x, weight), by_hand, atol=1e-6))
for wrong in ("tensor", 3):
    try:
        w8a8.linear(x, weight, granularity=wrong)
        print(f"granularity {wrong!r}: fine")
    except ValueError as error:
        print(f"granularity {wrong!r}: {error}")

# %%
show.show(
    show.outlier_plots.scales_of_a_product(),
    alt="Three matrices. Each row of x, a token, has one colour, for its scale s. Each row "
    "of W, an output, has one colour, for its scale t. Each cell of y has two halves, one "
    "in the token's colour and one in the output's, and the product of both scales in it.",
)

# %% [markdown]
# A scale comes out of the sum if it is the same for all $k$. So activations may have one scale for the **tensor**, or one for each **token**, a row. Groups
# along the features have several scales in one sum (lecture 03, section 5). And a scale for each *feature*, a column of $x$, differs from term to term.
# Remember that last one. It is what this lecture turns on.
#
# How much is lost, in a layer of the course LM? Both sides in 8 bits, with inputs from a text:

# %%
torch.set_grad_enabled(False)
model, tokenizer = coursepkg.load_model(dtype=torch.float32)
text = courselm.calibration(tokenizer, 1, seed=0)[0][:4]


def inputs_of(model, ids):
    """What each Linear layer is given, (tokens, features), by its name; and the layers."""
    found, layers = {}, dict(surgery.linears(model))
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, given, name=name: found.update({name: given[0].flatten(0, 1)})
        )
        for name, layer in layers.items()
    ]
    model(input_ids=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return found, layers


# %%
seen, layers = inputs_of(model, text)


def w8a8_sqnr(layer, x, activations, weights="channel"):
    weight = w8a8.quantize_weight(layer.weight, weights)
    return distortion.sqnr(layer(x), w8a8.linear(x, weight, layer.bias, activations))


print("SQNR of the output, dB    per token   per tensor   weights alone")
for part in ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"):
    layer, x = (each[f"model.layers.3.{part}"] for each in (layers, seen))
    alone = x @ w8a8.quantize_weight(layer.weight).dequantize().T
    found = [w8a8_sqnr(layer, x, each) for each in ("channel", "tensor")]
    found.append(distortion.sqnr(layer(x), alone))
    print(f"{part:<22}", *(f"{value:>12.1f}" for value in found))

# %% [markdown]
# 40 dB is an error of a hundredth of the output. Rounding the activations costs about 4 dB more than rounding the weights alone, in most layers. `down_proj`
# stands apart: 32 dB, and with one scale for the whole tensor 19. We come back to it.
#
# ### What W8A8 buys
#
# A layer takes at least the time to *move* its bytes, and at least the time to *multiply*. Which one is longer depends on how many tokens are multiplied at
# once. For $n$ tokens and a weight of $4096 \times 4096$ there are $2 n \cdot 4096^2$ operations. NVIDIA's data sheet of the A100 (80 GB, SXM) has 2,039 GB/s
# of memory bandwidth, 312 TFLOP/s in fp16 and 624 TOP/s in int8. By hand for one token: $2 \cdot 4096^2 = 34$ million operations take 0.1 µs, but moving the
# weight in 16 bits, 34 MB, takes 16 µs.
#
# Below are these lower bounds, as a share of 16 bit's. They are computed from the data sheet. Nothing here is measured, and a real kernel comes near them only
# if it is a good one. **W4A16** are 4-bit weights that are read back to 16 bits before they are multiplied.


# %%
def least_time(tokens, weight_bits, input_bits, operations, width=4096):
    """Seconds: bytes of weight, inputs and 16-bit outputs, or operations, whichever take longer."""
    bits = width**2 * weight_bits + tokens * width * (input_bits + 16)
    return max(bits / 8 / 2.039e12, 2 * tokens * width**2 / operations)


ways = {"16 bit": (16, 16, 312e12), "W8A8": (8, 8, 624e12), "W4A16": (4, 16, 312e12)}
tokens = [2**n for n in range(13)]
times = {name: [least_time(n, *way) for n in tokens] for name, way in ways.items()}
shares = {
    name: [a / b for a, b in zip(each, times["16 bit"], strict=True)]
    for name, each in times.items()
}
for name, each in shares.items():
    said = (f"{each[tokens.index(n)]:.2f}" for n in (1, 64, 256, 4096))
    print(f"{name:<7} 1, 64, 256, 4,096 tokens: ", *said)

# %%
show.show(
    show.outlier_plots.least_times(tokens, shares),
    alt="Least time of a product as a share of 16 bit's, over 1 to 4,096 tokens. W8A8 stays "
    "near one half throughout. W4A16 starts at a quarter, rises between 32 and 256 tokens, "
    "and from there on takes as long as 16 bit.",
)

# %% [markdown]
# - **Few tokens** (one user, text generated token by token): moving bytes decides. That is **memory-bound**. 8 bits have half the bytes, and 4-bit weights a
#   quarter. Rounding activations gains next to nothing there.
# - **Many tokens** (a long prompt, many users at once, training): multiplying decides. That is **compute-bound**. Weights of 4 bits gain nothing, for they are
#   multiplied in 16. W8A8 may reach a half.
#
# So W8A8 is for servers that read long prompts or serve many at once. It needs activations that 8 bits can hold.

# %%
show.question("w8a8_buys")

# %% [markdown]
# ## 2. Large models: activations have them, weights hardly
#
# An **outlier** is a value far larger than those around it, and it sets the ruler of all that share its scale (lecture 03). Where does a language model have
# them? Take all weights of the course LM, the inputs of the layers behind its norms (`q_proj`, `k_proj`, `v_proj`, `gate_proj`, `up_proj`), and those of
# `down_proj`. How many values are more than $t$ times their root mean square? For normal values no more than one in a million is above 5.


# %%
def behind_norms(seen):
    return [x for name, x in seen.items() if name.endswith(("q_proj", "gate_proj"))]


def even(values):
    """Each divided by its root mean square, all together."""
    return torch.cat([(x / x.square().mean().sqrt()).flatten() for x in values])


kinds = {
    "weights": even([layer.weight for layer in layers.values()]),
    "activations behind norms": even(behind_norms(seen)),
    "inputs of down_proj": even([x for n, x in seen.items() if "down" in n]),
}
for name, x in kinds.items():
    above = (f"{(x.abs() > t).float().mean():.1e}" for t in (3, 5, 10, 30))
    print(f"{name:<25} above 3, 5, 10, 30:", *above, f" largest {x.abs().max():.0f}")
columns = [x.abs().amax(0) for name, x in seen.items() if "down" in name]
most = max(each.max() / each.median() for each in columns)
print(f"inputs of down_proj: largest / median column {most:.0f}")

# %%
show.show(
    show.outlier_plots.tails(kinds, largest=200),
    alt="Share of values above t root mean squares, both logarithmic. Activations behind "
    "norms end near 8, weights near 23; inputs of down_proj fall slowly and reach beyond 100.",
)

# %% [markdown]
# Single weights reach 23 root mean squares, yet no *column* of weights behind a norm is twice the median one (section 3's results file; a column of `down_proj` is 7 times). Behind its norms the course LM has no outliers at all. It is a small model. The inputs of `down_proj` do have large
# values. They are products, $\text{up}(x) \cdot \text{silu}(\text{gate}(x))$, and now and then two large factors meet. They lie in *some tokens*, and
# there in few features: the last line above, and lecture 07, section 5.
#
# What Dettmers et al. (2022, LLM.int8(), section 4) found in large models is another thing. Some **features**, columns of $x$, are up to 20 times as large as
# the others, and at about 6.7 billion parameters they are so *in all layers and three quarters of the tokens*. They are few: 150,000 large values in a sequence of 2,048 tokens lie in only six columns.
# In smaller models a part of the layers has them. Xiao et al. (2023, SmoothQuant, section 3) report about 100 times,
# and add: such a feature varies little from token to token.
#
# ### Outliers on demand
#
# A model of that size does not fit into this lecture. But outliers can be *planted*, without changing what a model computes. By hand: a feature is multiplied
# by 50, and the weights that read it are divided by 50. Every product is the same:

# %%
x, W = torch.tensor([0.8, -0.3, 0.5]), torch.tensor([0.2, 0.4, -0.1])
k, c = torch.tensor([1.0, 50.0, 1.0]), torch.tensor([0.0, 40.0, 0.0])
bias = -(W @ c)
ways = {
    "as it is": (x, W, 0.0),
    "times 50": (x * k, W / k, 0.0),
    "plus 40": (x + c, W, bias.item()),
}
for name, (a, w, b) in ways.items():
    a_said, w_said = ([round(v, 3) for v in each.tolist()] for each in (a, w))
    print(f"{name:<9} x {a_said}, W {w_said}, bias {b:g}: product {a @ w + b:.3f}")

# %% [markdown]
# The last line is another way: *add* 40 to the feature, and take $40 \cdot 0.4 = 16$ off again behind the product. An outlier of the first kind **swings** with
# the feature's own value: $-0.3 \cdot 50$ for one token, $0.1 \cdot 50$ for the next. One of the second is **steady**: 40 for every token, give or take 1. And
# its weights are of ordinary size.
#
# `outliers.plant` does the first to every norm, through its gain, and `steady_outliers.plant` the second. Six features each, 20 to 100 times what is typical
# for the layer:

# %%
from coursepkg import outliers, steady_outliers

sample = courselm.calibration(tokenizer, 1, seed=99)[0][:2]
swinging, steady = copy.deepcopy(model), copy.deepcopy(model)
done = outliers.plant(swinging, sample)
steady_outliers.plant(steady, sample)
planted = list(done[0].channels)
print("features", planted, "behind", len(done), "norms")
models = {"as trained": model, "swinging": swinging, "steady": steady}
logits = model(input_ids=text).logits
for name in ("swinging", "steady"):
    off = (models[name](input_ids=text).logits - logits).abs().max()
    within = bool(off < 1e-4 * logits.abs().max())
    print(f"{name:<9} logits are off by less than 1e-4 of the largest: {within}")

# %%
name = "model.layers.3.mlp.gate_proj"
given, linears = {}, {}
for kind, each in models.items():
    given[kind], linears[kind] = inputs_of(each, text)
print(f"{'':<12}largest / median column of gate_proj (most of all layers)")
print(f"{'':<12}activations     weights")
for kind in models:
    ratios = []
    for part in (given[kind], {n: each.weight for n, each in linears[kind].items()}):
        columns = [v.abs().amax(0) for n, v in part.items() if n.endswith("gate_proj")]
        ratios.append(max((each.max() / each.median()).item() for each in columns))
    print(f"{kind:<12}{ratios[0]:>11.0f}{ratios[1]:>12.1f}")
show.show(
    show.outlier_plots.magnitudes({k: x[name][:96] for k, x in given.items()}),
    alt="Sizes of 96 tokens by 256 features, three times. As trained: all alike. Swinging: "
    "six columns stand out, brighter in some tokens than in others. Steady: the same six "
    "columns are bright from top to bottom.",
)

# %% [markdown]
# Three models, one function, and logits that agree. What follows is measured on all three where a results file says so: the model as trained has the rows of 16 bits, W8A8 (per tensor, static, per token), LLM.int8() and O3; the others, the thresholds and α are for the two with outliers. (Int8 weights alone cost the model as trained 0.00001 nats, lecture 03's leaderboard.) The three differ from a large model in one thing: their outliers
# are not *used*. They show what outliers do to rounding, not how they arise.
#
# ## 3. What W8A8 does to them
#
# By hand: three tokens of four features, the third one steady near 60.
#
# | | values | scale | codes | read back |
# |---|---|---|---|---|
# | token 1 | 0.90, −0.40, 60.0, 0.30 | 0.472 | 2, −1, 127, 1 | 0.94, −0.47, 60.0, 0.47 |
# | token 2 | −0.20, 0.60, 62.0, 0.80 | 0.488 | 0, 1, 127, 2 | 0, 0.49, 62.0, 0.98 |
# | token 3 | 0.50, 0.10, 63.5, −0.70 | 0.500 | 1, 0, 127, −1 | 0.50, 0, 63.5, −0.50 |
#
# A scale for each token, and still the three ordinary features have four codes left. One scale for all three tokens would be 0.5, hardly worse. For the outlier
# is *in every row*.

# %%
x = torch.tensor(
    [[0.9, -0.4, 60.0, 0.3], [-0.2, 0.6, 62.0, 0.8], [0.5, 0.1, 63.5, -0.7]]
)
ordinary = [0, 1, 3]
ways = {"per tensor": x, "per token": x, "per feature": x.T.contiguous()}
for name, values in ways.items():
    granularity = "tensor" if name == "per tensor" else "channel"
    made = affine.quantize(values, Scheme(8, granularity=granularity))
    back = made.dequantize().T if name == "per feature" else made.dequantize()
    error = distortion.relative_error(x[:, ordinary], back[:, ordinary])
    scales = [round(each, 3) for each in made.scale.flatten().tolist()]
    print(f"{name:<12} error of the ordinary features {error:.4f}, scales {scales}")

# %% [markdown]
# A scale for each **feature** would do it. It is the one that cannot be taken out of the sum. Xiao et al. (2023, table 1) tell the same of models of 6.7 to 175
# billion parameters: per tensor and per token both fail, a scale for each channel would not.
#
# Now the three models. `gate_proj` of layer 3, its inputs rounded in three ways. How many of the ordinary features' codes are 0?

# %%
ordinary = [f for f in range(256) if f not in planted]
print(f"{'':<12}{'per tensor':>24}{'per token':>24}{'per feature':>24}")
for kind in models:
    x, line = given[kind]["model.layers.3.mlp.gate_proj"], ""
    for values, granularity in ((x, "tensor"), (x, "channel"), (x.T, "channel")):
        made = affine.quantize(values.contiguous(), Scheme(8, granularity=granularity))
        codes, back = made.codes, made.dequantize()
        if values is not x:
            codes, back = codes.T, back.T
        zeros = (codes[:, ordinary] == 0).float().mean()
        sqnr = distortion.sqnr(x[:, ordinary], back[:, ordinary])
        line += f"{sqnr:>12.1f} dB, {zeros:3.0%} 0"
    print(f"{kind:<12}{line}")

# %% [markdown]
# One scale for the tensor ruins both: 3 dB, and most codes are 0. A scale for each token is no better where outliers are steady, as the table by hand had it.
# Where they swing it is *much* better, 11 dB. Why? The ruler of a token is as long as its own largest value. How long are the tokens' rulers, beside the one
# for all?

# %%
reach = {
    kind: given[kind]["model.layers.3.mlp.gate_proj"].abs().amax(1) for kind in models
}
for kind, each in reach.items():
    print(f"{kind:<12} median token: {each.median() / each.max():.0%} of the largest")
show.show(
    show.outlier_plots.reach_of_rulers(reach),
    alt="The largest value of each token over that of all tokens, sorted. With steady outliers "
    "the line is flat, close to 1. As trained it rises from 0.45 to 1. With swinging "
    "outliers it starts below 0.1, and half of the tokens are below a third.",
)

# %% [markdown]
# A swinging outlier is small in most tokens, and their rulers are short. So "per token does not help against outliers" is true of *steady* ones, which is what
# large models have. It is no law.
#
# Now the exam judges, a part of it: 50 questions and 20 articles. (In a ruined model a last digit decides codes, so on your machine a mark may be a question
# off.)

# %%
from coursepkg import evaluation, memory, ptq

exam = courselm.exam()
part = replace(exam, questions=exam.questions[:50], free=(), texts=exam.texts[:20])
pieces = evaluation.exam.pieces(model, tokenizer, part)
before = courselm.calibration(tokenizer, 1, seed=1)  # text for what looks at some
fp16 = memory.FORMATS["fp16"]


def judge(kind, change):
    """Exam and KL of a model that was changed, from itself."""
    start = models[kind]
    made = evaluation.rounding.quantized(start, evaluation.Method("", fp16, change))
    right = evaluation.take(made, tokenizer, replace(part, texts=())).accuracy
    return right, evaluation.divergence(made, start, pieces).nats


# %% tags=["nbval-ignore-output"]
ways = {
    "per tensor": lambda m: ptq.w8a8(m, "tensor", "tensor"),
    "per token": ptq.w8a8,
}
for kind in ("swinging", "steady"):
    for name, change in ways.items():
        right, kl = judge(kind, change)
        print(f"{kind:<9} {name:<11} exam {right:.0%}, KL {kl:.2f}")

# %% [markdown]
# The whole exam, 1,200 questions and 240 articles, took an hour and stands in a results file. Here are the rows of W8A8; "against" is the paired difference
# from the same model in 16 bits, in points. **Static** is one scale for each layer's activations that was measured beforehand, on other text. A server likes
# that: nothing has to be looked for while the model runs. What lies beyond 127 of its steps is clipped.

# %%
from coursepkg import results

measured = results.load("outliers")
print(measured)


def interval(values, digits=1, times=100, sign=""):
    value, low, high = (f"{times * each:{sign}.{digits}f}" for each in values)
    return f"{value} [{low}, {high}]"


# %%
def table(*begin):
    print(f"{'':<41}{'exam, %':<20}{'against 16 bit':<22}KL, nats a token")
    for kind in ("as trained", "swinging outliers", "steady outliers"):
        print(kind)
        for row in measured.rows:
            if row.get("model") == kind and row["table"] == "methods":
                if row["name"].startswith(begin):
                    points = interval(row["exam_against"], sign="+")
                    kl = interval(row["kl"], digits=5, times=1)
                    exam = interval(row["exam"])
                    print(f"  {row['name']:<39}{exam:<20}{points:<22}{kl}")


table("fp16", "int8", "W8A8")

# %% [markdown]
# - **Without outliers** W8A8 costs nothing that the exam can see. KL does see that one scale for the tensor, 0.0059 nats, is 70 times as far off as one for
#   each token, 0.00008. That is probably `down_proj`, whose tokens differ; but the rows differ in the weights' scales, too, and no row has `down_proj` alone.
# - **With outliers, one scale for the tensor** ruins the model: 53 and 62 % instead of 96. A static one does so, too: 63 and 44 %. With scales for the weights' rows as well
#   (weights per channel, activations per tensor) it gains 7 points with steady outliers and loses 4 with swinging ones; neither saves the model.
# - **A scale for each token** leaves 59 % where outliers are steady, as large models have them, and 94.8 % where they swing.
# - **Weights alone** in int8 have 0.0040 nats with steady outliers, though these leave the weights as they are. The error of a weight is multiplied by what
#   comes in.
#
# (Between ruins, exam and KL need not agree: swinging outliers have the larger KL, and not always the lower mark.)

# %%
show.question("per_token")

# %% [markdown]
# ## 4. Rescue one: LLM.int8()
#
# If six columns are the trouble, take them out. **LLM.int8()** (Dettmers et al. 2022, section 3.2) calls a column of $x$ an outlier if any of its values is at
# least $6$ in size, the **threshold**. With $O$ the set of these columns:
#
# $$y_{ij} \approx \underbrace{\sum_{k \in O} x_{ik} W_{jk}}_{\text{16 bits}} + s_i t_j \underbrace{\sum_{k \notin O} q_{ik} p_{jk}}_{\text{8 bits}}$$
#
# By hand, for the three tokens of section 3. The third column is out. What is left has the scales 0.9/127, 0.8/127 and 0.7/127, and uses all codes. The product
# in 16 bits has one column:

# %%
x = torch.tensor(
    [[0.9, -0.4, 60.0, 0.3], [-0.2, 0.6, 62.0, 0.8], [0.5, 0.1, 63.5, -0.7]]
)
W = torch.tensor([[0.20, -0.50, 0.10, 0.40], [0.30, 0.25, -0.25, -0.10]])
out = (x.abs() >= 6).any(0)
rest = torch.where(out, 0, x)
s, t = rest.abs().amax(1, keepdim=True) / 127, W.abs().amax(1, keepdim=True) / 127
q, p = torch.round(rest / s), torch.round(W / t)
print("columns out", out.nonzero().flatten().tolist(), " codes", q.int().tolist())
in_8_bits, in_16_bits = s * t.T * (q @ p.T), x[:, out] @ W[:, out].T
rows = {"8 bits": in_8_bits, "16 bits": in_16_bits, "sum": in_8_bits + in_16_bits}
for name, y in (rows | {"exact": x @ W.T}).items():
    print(f"{name:<8}", [[round(each, 3) for each in row] for row in y.tolist()])

# %% [markdown]
# The package computes as bitsandbytes does, which differs from the formula in two things: the weights of outlier columns are read back from int8, and a token's scale is that of all its values below 6, also those in columns that are taken out. Here only the first shows. Look at the errors:

# %%
from coursepkg import llm_int8

ways = {
    "W8A8, per token": w8a8.linear(x, w8a8.quantize_weight(W)),
    "LLM.int8(), by hand": in_8_bits + in_16_bits,
    "LLM.int8(), the package": llm_int8.linear(x, llm_int8.quantize_weight(W)),
}
for name, y in ways.items():
    print(f"{name:<24} largest error {(y - x @ W.T).abs().max():.3f}")
print("weights of column 2 read back:", [round(w, 4) for w in (t * p)[:, 2].tolist()])

# %% [markdown]
# The formula is right to two thousandths. The package is no better than W8A8, and it is no bug. The weights of the outlier columns are *read back from int8*:
# bitsandbytes stores no others. 0.10 comes back as 0.0984, and $63.5 \cdot 0.0016 = 0.1$. Remember it for the exam.
#
# Is it really what the library does? A layer of the swinging model, its real inputs, and bitsandbytes' own layer:

# %%
from coursepkg.quiet import quiet

with quiet():  # it says what else could be installed
    import bitsandbytes

# %%
name, functional = "model.layers.3.mlp.gate_proj", bitsandbytes.functional
layer, x = linears["swinging"][name], given["swinging"][name]
theirs = bitsandbytes.nn.Linear8bitLt(
    256, 768, bias=False, has_fp16_weights=False, threshold=6.0
)
theirs.load_state_dict(layer.state_dict())
expected = theirs.to("cpu").eval()(x.half()).float()
weight = llm_int8.quantize_weight(layer.weight)
codes, absmax, _ = functional.int8_vectorwise_quant(layer.weight.half())
same = torch.equal(weight.codes, codes), torch.equal(weight.absmax, absmax)
print("weights, codes and absmax:    ", same)
codes, absmax, columns = functional.int8_vectorwise_quant(x.half(), threshold=6.0)
made, ours = llm_int8.split(x.half())
same = torch.equal(made.codes, codes), torch.equal(made.absmax, absmax)
print("activations, codes and absmax:", same, ours.tolist() == columns.tolist())
off = (llm_int8.linear(x.half(), weight).float() - expected).abs().max()
print("output within 1e-3 of its largest:", bool(off < 1e-3 * expected.abs().max()))

# %% [markdown]
# Weights, activations and the columns taken out are the same bit for bit. (The library rounds its output to fp16 twice.)
#
# ### How many columns?
#
# Six in each layer? A column is out if *any* token of the call has a value of 6. So it depends on how many tokens are computed at once, and on how large the
# layer's values are anyway:

# %%
widths = {"q_proj": 256, "gate_proj": 256, "o_proj": 256, "down_proj": 768}
print(f"{'columns out of':<19}{'1 token':<26}{'16 tokens':<26}1,024 tokens")
for kind, width in widths.items():
    line = f"{width:>3} {kind:<12}"
    for count in (1, 16, 1024):
        found = [
            len(llm_int8.outlier_columns(x[:count].half()))
            for name, x in given["steady"].items()
            if name.endswith(kind)
        ]
        line += "  " + "".join(f"{each:>4}" for each in found)
    print(line)

# %% [markdown]
# (Six numbers each, one for each decoder layer.) Behind the norms it is the six that were planted, and some more in the last layer. But with 1,024 tokens up to
# 116 of 256 columns of `o_proj` are taken out, and 741 of 768 of `down_proj` in the last layer: their values simply are that large, without any outlier. The
# threshold is a number in the activations' own unit, 6, and knows nothing of a layer's ruler. In four of six layers, more than half of `down_proj`'s product is
# one in 16 bits. The paper's models have 0.1 % of such features; nothing in the method promises it.
#
# ### The threshold
#
# From the results file: KL on 80 articles, with thresholds from 2 to 100, and without one, where LLM.int8() is W8A8 with a scale for each token and output.

# %%
rows = [row for row in measured.rows if row["table"] == "thresholds"]
for kind in ("swinging outliers", "steady outliers"):
    print(kind)
    for row in rows:
        if row["model"] == kind:
            kl = interval(row["kl"], digits=4, times=1)
            said = f"{row['threshold']:g}" if row["threshold"] else "none"
            print(f"  threshold {said:>4}: KL {kl}, columns out {row['columns']:.1%}")

# %%
show.show(
    show.outlier_plots.over_threshold(rows),
    alt="Left: KL over the threshold, both logarithmic. Flat up to 20, at 0.004 with steady "
    "outliers and 0.0004 with swinging ones, then rising, toward lines for none taken out at 0.8 "
    "and 0.02. Right: columns out, from 78 % at threshold 2 over 23 % at 6 to 1 % at 100.",
)

# %% [markdown]
# - **Up to 20 nothing changes** with steady outliers, and little with swinging ones. KL stands at 0.0040 and 0.0004, which is what the int8 *weights* cost (the
#   table in section 3). No column that is taken out makes that less.
# - **The paper's 6 is careful.** It takes out 23 % of all columns here, and 20 takes out 8 %. In models as wide as the paper's, with 0.1 %, it hardly matters.
# - **Above, outliers stay in.** The threshold is absolute. The six are 20 to 100 times the typical largest value of a layer, which is about 2.2 for section 2's gate_proj; so there they lie between 44 and 220. At 50 the smallest stays in, at 100 half of them. All stay in with no threshold only: at 100 0.8 % of the columns are still out.
#
# What does it cost? **Memory** next to nothing: weights are int8, as in W8A8. **Time**: in every call the outlier columns have to be found and cut out, and
# there is a second product, in 16 bits. The paper's aim was memory.

# %%
show.question("int8_weights")

# %% [markdown]
# ## 5. Rescue two: SmoothQuant
#
# A scale for each feature would do it, and cannot be taken out of the sum. **SmoothQuant** (Xiao et al. 2023, section 4) puts it where it costs nothing: into
# the *weights*, before anything is rounded. For any numbers $s_k > 0$ (its equation 3, in our letters; this $s_k$ is not the scale of a token):
#
# $$y_{ij} = \sum_k x_{ik} W_{jk} = \sum_k \frac{x_{ik}}{s_k} \cdot s_k W_{jk}$$
#
# $x / s$ has no outliers if $s$ is large where they are. But then the columns of $sW$ have them. So go a part of the way, $\alpha$ (equation 4), with
# $\max|X_k|$ over the tokens of some text and $\max|W_k|$ over the outputs:
#
# $$s_k = \frac{\max|X_k|^{\alpha}}{\max|W_k|^{1 - \alpha}}$$
#
# By hand for $\alpha = \frac12$ and the outlier of section 3: $s = \sqrt{63.5 / 0.25} = 15.9$, where 0.25 is the largest weight of column 3 of section 4's matrix. Then $x/s$ and $sW$ have the same maximum,
# $\sqrt{63.5 \cdot 0.25} = 3.98$. They share the trouble.

# %%
from coursepkg import smoothquant

x = torch.tensor(
    [[0.9, -0.4, 60.0, 0.3], [-0.2, 0.6, 62.0, 0.8], [0.5, 0.1, 63.5, -0.7]]
)
largest_x, largest_w = x.abs().amax(0), W.abs().amax(0)
for alpha in (0.0, 0.5, 1.0):
    s = largest_x**alpha / largest_w ** (1 - alpha)
    package = smoothquant.smoothing(largest_x, [W], alpha)
    exact = torch.allclose((x / s) @ (W * s).T, x @ W.T, atol=1e-5)
    error = (w8a8.linear(x / s, w8a8.quantize_weight(W * s)) - x @ W.T).abs().max()
    print(f"α = {alpha}: as the package's: {torch.allclose(s, package)}", end="")
    print(f"; unrounded as before: {exact}; rounded off by {error:.3f}")
    lines = {"s": s, "max x/s": largest_x / s, "max sW": largest_w * s}
    for label, each in lines.items():
        print(f"   {label:<8}", [round(value, 2) for value in each.tolist()])

# %% [markdown]
# - $\alpha = 0$ evens out the *weights*: all maxima of $sW$ are 1, and the activations keep their outlier, 15.9 beside 0.3. (It is not "no smoothing", which
#   would be $s = 1$.)
# - $\alpha = 1$ evens out the *activations*, and the weights have the outlier.
# - At $\frac12$ both have one, but of 3.98 beside 0.5: the root.
#
# ### Folded into the norm
#
# Dividing $x$ by $s$ would be work for every token. It is had for nothing, because $x$ comes out of a norm, which multiplies each feature by a **gain** $g_k$
# anyway. Store $g_k / s_k$ instead, and a bias of the norm divided in the same way. Several layers read one norm, so they need one $s$: $\max|W_k|$ goes over
# `q_proj`, `k_proj` and `v_proj` together, and over `gate_proj` and `up_proj`. `ptq.smooth` does it to a model:

# %%
smoothed = copy.deepcopy(steady)
factors = ptq.smooth(smoothed, before, alpha=0.5)
norm = "model.layers.3.post_attention_layernorm"
gain, now = (m.get_submodule(norm).weight for m in (steady, smoothed))
print("new gain is gain / s:", torch.allclose(gain / factors[norm], now))
off = (smoothed(input_ids=text).logits - steady(input_ids=text).logits).abs().max()
print("logits as before:", bool(off < 1e-4 * logits.abs().max()))
after, layers_after = inputs_of(smoothed, text)
name = "model.layers.3.mlp.gate_proj"
states = (given["steady"], linears["steady"]), (after, layers_after)
maxima = [(x[name].abs().amax(0), w[name].weight.abs().amax(0)) for x, w in states]
for label, (x, w), (xs, ws) in zip(("before", "after"), maxima, states, strict=True):
    ratios = x.max() / x.median(), w.max() / w.median()
    print(f"{label:<7} largest / median: activations {ratios[0]:.0f}", end="")
    sqnr = w8a8_sqnr(ws[name], xs[name], "channel")
    print(f", weights {ratios[1]:.1f}; output per token {sqnr:.1f} dB")

# %% [markdown]
# (How far steady activations stand out depends on layer and text: the cell in section 2 prints the most of all layers, this one layer 3; the claims below take the results file's text, 89. In the picture the six dots are not equally high left and right, for
# $s$ is made of the weights of gate *and* up, and only gate is drawn.)

# %%
show.show(
    show.outlier_plots.maxima(*maxima),
    alt="Largest size of each of 256 features, logarithmic, before (grey) and after smoothing "
    "(dots). Activations: six grey spikes up to 100 times the others; after, the six are 10 "
    "times the others. Weights: even before; after, six dots 10 times above the others.",
)

# %% [markdown]
# ### What if?
#
# 64 features, three of them steady outliers. Move α: which side has the outliers? Where is the error least, and does that place move when they grow? What
# changes with one scale for the tensor? Below stands the picture of the first state. (The weights get the outliers as α grows. The error is least between 0.5 and 0.7, and that place hardly moves when the outliers grow. With one scale for the tensor of activations the error is a little larger, and where outliers
# are small, 10 or less, the best α is nearer to 1: 0.75 and more.)

# %%
show.SmoothExplorer()

# %%
show.show(
    show.SmoothExplorer().figure(),
    alt="Largest sizes of 64 features, logarithmic. Activations: grey bars near 3, three near "
    "50; after smoothing dots near 0.4, the three near 1.6. Weights: grey bars near 0.05; "
    "after, dots near 0.4, the three near 1.6.",
)

# %% [markdown]
# ### Which α?
#
# KL on 80 articles, from the results file: with scales for each token and output, and with one static scale for each tensor of activations and of weights,
# which the paper calls **O3**. (Its O1 has a scale for each token and one for the weight, its O2 one for each, not static.)

# %%
rows = [row for row in measured.rows if row["table"] == "alphas"]
curves = {kind: {} for kind in ("steady outliers", "swinging outliers")}
for row in rows:
    line = curves[row["model"]].setdefault(row["name"], [])
    line.append((row["alpha"], row["kl"][0]))
for kind, lines in curves.items():
    for name, points in lines.items():
        some = (kl for alpha, kl in points if alpha in (0, 0.1, 0.3, 0.5, 0.6, 0.7, 1))
        said = "  ".join(f"{kl:.4f}" for kl in some)
        print(f"{kind:<18}{name:<22} α 0, 0.1, 0.3, 0.5, 0.6, 0.7, 1: {said}")
show.show(
    show.outlier_plots.over_alpha(curves, "KL from the unrounded model,\nnats a token"),
    alt="KL over α, logarithmic. Steady outliers: two deep valleys, from above 1 at α = 0 to "
    "0.0016 and 0.02 near 0.6; O3 climbs back above 1 at α = 1, the other to 0.009. "
    "Swinging outliers: two flat lines, at 0.007 and 0.0001.",
)

# %% [markdown]
# With **steady** outliers α decides all. At 0 KL is above 1 nat a token, worse than without smoothing (1.08 against 0.79 per token, 1.16 against 0.89 with O3's static scales, these two from section 3's tables, on all 240 articles); a tenth more, and it is down to a ninth and a sixth of that.
# It is least near 0.6 with both, and ½ is not far off. Towards 1 it rises again, with one scale for each tensor far more than with one for each token and
# output: 1.2 nats, against 0.009. The weights have the outliers now: six columns, in every row. The authors take ½ for OPT and BLOOM, and 0.75 for GLM-130B,
# whose activations have more outliers.
#
# With **swinging** outliers α does nothing at all. Not because it does not matter, but by construction: they were planted by *multiplying* a feature by $k$ and
# *dividing* its weights by $k$, which is SmoothQuant backwards. Put that into equation 4, and $s$ becomes $k^\alpha / k^{-(1-\alpha)} = k$ times as large:
# whatever α, the factor is taken out again.

# %%
name = "model.layers.3.mlp.gate_proj"
readers = [name, name.replace("gate", "up")]
rounded = {}
for kind in ("as trained", "swinging"):
    x, weights = given[kind][name], [linears[kind][each].weight for each in readers]
    for alpha in (0.0, 0.5):
        s = smoothquant.smoothing(x.abs().amax(0), weights, alpha)
        rounded[kind, alpha] = x / s, weights[0] * s
for alpha in (0.0, 0.5):
    pairs = zip(rounded["as trained", alpha], rounded["swinging", alpha], strict=True)
    same = [torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in pairs]
    print(f"α = {alpha}: the same x/s, sW as without outliers: {same}")

# %% [markdown]
# So planting by a factor is a test that SmoothQuant cannot fail. The steady outliers are the fair one.

# %%
show.question("alpha_one")

# %% [markdown]
# ## 6. Side by side
#
# First live, on the part of the exam: the steady model, which per token had answered about 60 %.

# %% tags=["nbval-ignore-output"]
ways = {
    "LLM.int8()": ptq.llm_int8,
    "SmoothQuant O3": lambda m: (
        ptq.smooth(m, before),
        ptq.w8a8(m, "tensor", "tensor", before),
    ),
}
for name, change in ways.items():
    right, kl = judge("steady", change)
    print(f"{name:<15} exam {right:.0%}, KL {kl:.3f}")

# %% [markdown]
# And the whole exam, from the results file:

# %%
table("fp16", "int8", "LLM", "Smooth")

# %%
rows = [row for row in measured.rows if row["table"] == "methods"]
show.show(
    show.outlier_plots.side_by_side(rows),
    alt="Twelve methods by name. Left, the exam: all lie in fp16's grey band near 96 % but "
    "W8A8 with outliers, at 44 to 63 %, and swinging per token at its lower edge. Right, KL: "
    "the same near 1 and 0.02, O1 to O3 with steady outliers 0.01 to 0.02, the others below 0.007.",
)

# %% [markdown]
# Both rescues bring the exam back. All of their marks lie within fp16's interval, with either kind of outliers, where W8A8 per tensor had lost 34 and 43
# points. The exam cannot tell them apart. (One paired interval leaves 0 out, SmoothQuant per token and channel with steady outliers, half a point; O3 with ten
# times its KL does not. Twelve rows are twelve throws of dice, lecture 03.) KL can:
#
# - **LLM.int8()** is as good as int8 weights alone, and *no better*: 0.0040 and 0.0040 with steady outliers. What it takes out is the activations' error. The
#   weights' error stays, times the outlier. With the weights of these columns in fp16, as the formula has it, KL falls to 0.00002, two hundred times less.
#   bitsandbytes does not keep them.
# - **SmoothQuant** depends on the scales behind it. Per token and channel it is *better* than LLM.int8(), 0.0021, because it makes the weights of outlier
#   features larger before they are rounded: a share of the codes for those who need them. O1, O2 and O3 have one scale for a whole weight and lose five to
#   eleven times as much.
# - On the swinging model SmoothQuant undoes what was planted: O3 has 0.0069, and 0.0069 on the model as trained. What is left is probably `down_proj`. No norm stands
#   before it. The authors' code smooths behind norms only, and so does ours; $s$ could be folded into the rows of `up` as well (lecture 07, section 4).
#
# | | beforehand | in every call | in memory |
# |---|---|---|---|
# | W8A8, per token | | the largest value of each token | int8 weights, a scale for each output |
# | W8A8, static | some text, to measure the scales | | the same |
# | LLM.int8() | | the largest value of each token; a search for columns; a second product in 16 bits | the same |
# | SmoothQuant | some text; norms whose gain can be scaled | what the W8A8 behind it needs | the same |
#
# Which to use?
#
# - **To save memory** with few users, activations need no rounding: int8 or 4-bit weights alone (lectures 05 to 07) move fewer bytes and have little of this
#   trouble. LLM.int8() needs no text and no preparation; it is what `load_in_8bit` does.
# - **To save time** on long prompts and for many users: W8A8 with a scale for each token and output, after SmoothQuant where the model has outliers. Static
#   scales take the least work in a call, and are the least exact.
# - **Measure first**: print the largest channel over the median one, as section 2 did. Without outliers W8A8 per token needs no rescue.
# - Where hardware multiplies **FP8**, a float's step grows with its size (lecture 02), so an outlier takes less from the others than it does with whole
#   numbers.
#
# Newer methods *rotate* the features by an orthogonal matrix that is folded into the weights (QuaRot, Ashkboos et al. 2024; SpinQuant, Liu et al. 2024): an outlier is spread over all features. And there is another kind than those here, "massive" activations at the first tokens of a text
# (Sun et al. 2024).

# %% [markdown]
# ## Often misquoted
#
# From lectures on the net, with a verdict and the values that decide it. `measured` are the results files.

# %%
from coursepkg import claims

claims.check("002-weight-outliers", "003-activations-100x", "000-weight-only")

# %%
claims.check("002-tenth-percent", "002-load-in-8bit", "003-smooth-clean")

# %%
claims.check("002-int8-free", "004-int8-one-percent", "003-int8-2x")

# %% [markdown]
# And a setting that does not exist. One lecture (001) loads a model in 8 bits with `bnb_8bit_compute_dtype=torch.float16`. transformers takes it without an
# error, and at its usual log level without a word:

# %%
import inspect

import transformers

known = inspect.signature(transformers.BitsAndBytesConfig).parameters
print("bnb_8bit_compute_dtype is known:", "bnb_8bit_compute_dtype" in known)
print("for 8 bits there are", [each for each in known if "8" in each])

# %% [markdown]
# ## Summary
#
# | | |
# |---|---|
# | W8A8 | codes times codes, added up as whole numbers; the scale of the token and that of the output outside the sum |
# | granularity | per tensor, per token, per output. Never per feature or in groups: they have no single scale to take out |
# | what it buys | at best half of 16 bit's time. Over int8 weights alone it gains only where multiplying decides, with hundreds of tokens at once |
# | outliers | a few features of the activations, the same in most tokens. Weights of large models hardly have any |
# | a scale for each token | helps where outliers swing from token to token, not where they are steady |
# | LLM.int8() | columns with a value of 6 or more are multiplied in 16 bits. bitsandbytes reads their weights back from int8, so the weights' error stays, times the outlier |
# | SmoothQuant | $s_k = \max\lvert X_k\rvert^{\alpha} / \max\lvert W_k\rvert^{1-\alpha}$, folded into the norm. $\alpha$ near ½ |
# | what neither reaches cheaply | `down_proj`: large values in some tokens, no norm before it; the authors' code smooths behind norms only, though $s$ could be folded into `up` (lecture 07). A scale for each token is what helps |
#
# **Papers.** Dettmers et al. 2022, *LLM.int8()*, sections 3.1 (a scale for each row), 3.2 (the columns taken out) and 4 (outlier features). Xiao et al. 2023,
# *SmoothQuant*, section 3 (outliers, table 1), section 4 (equations 3 and 4), table 2 (O1, O2, O3). Nagel et al. 2021, *A White Paper on Neural Network
# Quantization*, section 2. NVIDIA, *A100 Tensor Core GPU*, data sheet.
#
# **Now you:** [assignment 04](assignments/04_outliers.ipynb).
