# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 03 · Granularity
#
# [Open in Colab]({{ colab }}) · [Open in Binder]({{ binder }})
#
# **At the end you can** say which weights share a scale and what one large weight does to the others; price a scale in bits, and
# choose a group size for a budget of bits; tell why a smaller group helps, and when it no longer pays; and pack codes of 4, 3
# and 2 bits into bytes as the libraries do.
#
# **It builds on** lecture 01 (nominal and stored bytes) and lecture 02 (scale, codes, half a step, SQNR). **It takes** 60 minutes.

# %% tags=["nbval-ignore-output"]
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

import inspect
import math

import torch
import transformers
from coursepkg import affine, claims, distortion, formats, memory, packing, show
from coursepkg.affine import Scheme

coursepkg.hello()

# %% [markdown]
# ## 1. Sixteen numbers, one of them large
#
# Lecture 02 laid a ruler over some numbers. With $b$ bits and codes on both sides of 0, the **scale** $s$, the ruler's step, is the
# largest size among the numbers, their **absmax**, over the largest code:
#
# $$s = \frac{\max |w|}{2^{b-1} - 1} \qquad q = \text{round}(w / s) \qquad \hat w = s \cdot q \qquad |w - \hat w| \le s / 2$$
#
# One thing was left open: how many numbers share the ruler? Here are sixteen, as a matrix, in 4 bits: codes −7 to 7. Fifteen of
# them are at most 1.4. One is 8.4.

# %%
torch.set_printoptions(precision=2, sci_mode=False)
W = torch.tensor(
    [
        [0.70, -0.32, 0.17, 0.54],
        [0.45, 1.40, -0.62, 0.13],
        [-0.56, 0.21, 8.40, -0.70],
        [0.35, -0.11, 0.28, -0.23],
    ]
)
scale = W.abs().max() / 7
codes = torch.round(W / scale)
print(f"one ruler for all: s = 8.4 / 7 = {scale:.2f}, half a step {scale / 2:.2f}")
print("codes\n", codes.int(), sep="")
print("errors\n", W - scale * codes, sep="")

# %% [markdown]
# The large number is exact. It has set the step to 1.2, and what is below half of that becomes 0: eleven of the sixteen. The last
# row is lost as a whole. Now give each row a ruler of its own. That takes four scales:

# %%
row_scales = W.abs().amax(1, keepdim=True) / 7
print("scales", row_scales.flatten())
print("codes\n", torch.round(W / row_scales).int(), sep="")
print("errors\n", W - row_scales * torch.round(W / row_scales), sep="")

# %% [markdown]
# Three rows are well now. The third still suffers, for it has the large number. So cut each row in two, a ruler for each pair:

# %%
pairs = W.reshape(4, 2, 2)  # row, group, value in the group
pair_scales = pairs.abs().amax(2, keepdim=True) / 7
print("scales\n", pair_scales.reshape(4, 2), sep="")
print("codes\n", torch.round(pairs / pair_scales).int().reshape(4, 4), sep="")

# %% [markdown]
# Only one number is left that the large one spoils: its neighbour, −0.7, which becomes −1.2. The three ways have names:
#
# | | who shares a scale | scales of a matrix of $m$ rows and $k$ columns |
# |---|---|---|
# | **per tensor** | all | 1 |
# | **per channel** | a row. PyTorch stores the weight of a Linear as (outputs, inputs), so a row is an *output channel* | $m$ |
# | **per group** of $n$ | $n$ neighbours in a row (bitsandbytes and llama.cpp say *block*) | $m k / n$ |
#
# They are one thing: the shape of the **block** that shares a scale. Cut the matrix into blocks, and take the absmax of each:


# %%
def block_absmax(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    m, k = x.shape
    return x.reshape(m // rows, rows, k // columns, columns).abs().amax((1, 3))


for block in ((4, 4), (1, 4), (1, 2), (2, 2)):
    found = block_absmax(W, *block)
    print(f"blocks of {block[0]} × {block[1]}:", [f"{x:.2f}" for x in found.flatten()])

# %% [markdown]
# The last shape, squares, has no name of its own here, and DeepSeek-V3 has it, 128 × 128 for its FP8 weights (technical report,
# section 3.3.2). The package works the same way: `block_shape` says what a granularity means for a matrix, and everything else
# is one code path.

# %%
made = {}
for name, granularity in (
    ("per tensor", "tensor"),
    ("per channel", "channel"),
    ("groups of 2", 2),
):
    made[name] = affine.quantize(W, Scheme(bits=4, granularity=granularity))
    block, scales = affine.block_shape((4, 4), granularity), made[name].scale
    rms = (made[name].dequantize() - W).square().mean().sqrt()
    zeros = int((made[name].codes == 0).sum())
    print(f"{name:<12} blocks {block}, scales {tuple(scales.shape)}, ", end="")
    print(f"rms error {rms:.3f}, {zeros:>2} codes are 0")

# %%
show.show(
    show.granularity_plots.blocks_by_hand(W, made),
    alt="The matrix three times, each value with its code, cells darker where the "
    "error is larger. With one scale nearly all cells are dark. With a scale for each "
    "row only the row of 8.40 is. With groups of two only its neighbour is.",
)

# %% [markdown]
# ## 2. One weight spoils a ruler
#
# The same with 16,384 weights: normal values with a standard deviation of 0.02, a usual one for a Linear layer. Then one of them
# is set to 1.0, fifty standard deviations. How do the *others* fare?

# %%
torch.manual_seed(0)
clean = 0.02 * torch.randn(64, 256)
planted = clean.clone()
planted[20, 100] = 1.0
others = planted != 1.0
ways = {"per tensor": "tensor", "per channel": "channel", "groups of 64": 64}
for bits in (8, 4):
    for name, granularity in ways.items():
        print(f"{bits} bits, {name:<12}", end="")
        for label, x in (("clean", clean), ("planted", planted)):
            found = affine.quantize(x, Scheme(bits, granularity=granularity))
            zeros = (found.codes[others] == 0).float().mean()
            sqnr = distortion.sqnr(x[others], found.dequantize()[others])
            print(f"  {label}: {zeros:6.1%} at 0, {sqnr:4.1f} dB", end="")
        print()

# %% [markdown]
# (The **SQNR** of lecture 02 is the signal's power over the error's, in decibels; here without the outlier. 6 dB are one bit.)
#
# At 4 bits per tensor, one weight in 16,384 has wiped out all the others: 0 dB means that the error is as large as the weights. At
# 8 bits the same outlier does not destroy the matrix; it costs 21 dB, three and a half bits of precision. Per channel it harms its own row, in
# groups its own 64 weights. It does not go away. The damage is fenced in.

# %%
made = {
    name: affine.quantize(planted, Scheme(4, granularity=granularity))
    for name, granularity in ways.items()
}
show.show(
    show.granularity_plots.error_maps(planted, made),
    alt="Errors of a 64 by 256 matrix with one outlier, 4 bits, as three pictures. Per "
    "tensor the errors fill the whole matrix and 99.9 % of the codes are 0. Per "
    "channel they fill one row, with groups of 64 a quarter of that row.",
)

# %%
show.question("outlier_spreads")

# %% [markdown]
# ### What if?
#
# Below are 64 weights of one row, in standard deviations, and one of them grows as you like. Orange are the marks of each group's
# ruler. Make the outlier larger. Make groups smaller: who is saved, and who is not? How many bits would have helped as much?

# %%
show.OutlierBlock()

# %%
show.show(
    show.OutlierBlock().figure(),
    alt="The widget's first state: 64 weights as bars, one of 12 standard deviations. "
    "One ruler for all in 4 bits: its marks are 1.7 apart, so that most weights are "
    "rounded to 0 and the others to plus or minus 1.7.",
)

# %% [markdown]
# The three questions in numbers, for the outlier of 12. It is number 21, so in groups of 8 its neighbours are the others from 16 to 23:

# %%
x = show.outlier_block.block(12.0)  # the widget's weights
rest = x < 12
for bits, group in ((4, 64), (4, 16), (4, 8), (6, 64), (7, 64)):
    found = affine.quantize(x, Scheme(bits, granularity=group))
    zeros = int((found.codes[rest] == 0).sum())
    sqnr = distortion.sqnr(x[rest], found.dequantize()[rest])
    error = (found.dequantize() - x).square()[0]
    share = (error[16:24].sum() - error[21]) / (error.sum() - error[21])
    print(f"{bits} bits, groups of {group:>2}: {zeros:>2} at 0, {sqnr:4.1f} dB", end="")
    print(f"; {share:3.0%} of the error in weights 16 to 23")

# %% [markdown]
# Groups of 8 save the weights of the other seven groups. The outlier's seven neighbours are no better off than before, and most of the
# error is theirs now. More bits help everyone, the neighbours too. But bits and groups are not free, neither of them.
#
# ## 3. What a ruler costs
#
# If smaller groups are better, why not groups of 2? Because each scale is stored. With $c$ bits for each scale and $n$ weights in a
# group a weight takes its **effective bits**:
#
# $$b + \frac{c}{n}$$
#
# By hand, for 4 bits: one fp16 scale for 128 weights is $16/128 = 0.125$ bits, together 4.125. One fp32 scale for 64 is
# $32/64 = 0.5$. With an integer zero-point of 4 bits beside each fp16 scale it is $(16 + 4)/128 = 0.156$. The package, for these
# and for more:

# %%
fp32, fp16 = memory.FORMATS["fp32"], memory.FORMATS["fp16"]
fp8 = memory.StorageFormat("fp8", 8, "tensor", fp32)  # with one fp32 factor for all
with_zero = memory.StorageFormat("fp16 and a 4-bit zero-point", 16 + 4)
for block, scale_format, example in (
    ("tensor", fp32, ""),
    ("channel", fp32, "rows of 4,096 weights"),
    (128, fp16, "GPTQ and AWQ, symmetric"),
    (128, with_zero, "GPTQ and AWQ with zero-points"),
    (64, fp32, "bitsandbytes, without double quantization"),
    (32, fp16, "llama.cpp's Q4_0"),
    (16, fp8, "NVFP4"),
):
    fmt = memory.StorageFormat("", 4, block, scale_format)
    name, bits = scale_format.name, fmt.effective_bits()
    print(f"{bits:.3f} bits: {block!s:>7}, {name:<27} {example}")

# %% [markdown]
# Per channel looks free, and for rows of 4,096 weights it nearly is. The course LM's rows have 256: there an fp32 scale for each
# row costs 0.125 bits, as much as fp16 for each 128.
#
# One lecture on the net says that an fp16 scale for 128 weights costs 0.8 bits; lecture 01's ledger has that. The same lecture says
# that 128 is what *every* method defaults to. You need not believe either. transformers can be asked for its defaults; the other formats are
# those of lectures 01 and 02:


# %%
def default(function, name):
    return inspect.signature(function).parameters[name].default


print("GPTQ        ", default(transformers.GPTQConfig, "group_size"))
print("AWQ         ", default(transformers.AwqConfig, "group_size"))
print("HQQ         ", default(transformers.HqqConfig, "group_size"))
print("bitsandbytes", memory.FORMATS["nf4"].block_size)
print("Q8_0        ", memory.FORMATS["Q8_0"].block_size)
for name in ("Q4_K", "Q3_K"):
    fmt = memory.FORMATS[name]
    larger = fmt.block_size * fmt.scale.block_size
    print(f"{name:<12} {fmt.block_size}, in super-blocks of {larger}")
for fmt in (formats.MXFP4, formats.NVFP4):
    print(f"{fmt.name:<12} {fmt.block_size}, scales in {fmt.scale.name}")

# %% [markdown]
# Group sizes from 16 to 128, and scales of 6 to 32 bits. Each is a trade: bits for error. To see which trades are good, try
# many. Below, `sqnr_of` rounds in groups of `size` and stores the scales in fp32, in fp16, or in fp8 (`e4m3`, three bits of mantissa;
# lecture 02). Scales of 0.01 are below fp8's normal numbers, so one factor for the whole tensor moves the largest of them to 448,
# fp8's largest number, as NVFP4 does it. The scales are rounded *before* the codes are chosen, so that the codes know them.


# %%
def in_fp8(scales):
    factor = scales.max() / formats.E4M3.largest
    return formats.E4M3.round(scales / factor) * factor


SCALES = {
    "fp32": (fp32, lambda scales: scales),
    "fp16": (fp16, lambda scales: scales.half().float()),
    "fp8": (fp8, in_fp8),
}


def sqnr_of(x, bits, size, kind):
    rows, scheme = x.reshape(-1, size), Scheme(bits, granularity="channel")
    scales, _ = affine.choose_qparams(rows, scheme)
    scales = SCALES[kind][1](scales)
    back = affine.decode(affine.encode(rows, scales, None, scheme), scales)
    return distortion.sqnr(rows, back)


# %% [markdown]
# Two kinds of data: a million normal values, and the weights of two of the course LM's six decoder layers, 1.5 million. They are cut as they lie
# in memory, row after row, as bitsandbytes does it; so groups may be longer than a row of 256.

# %%
from coursepkg import surgery

model, tokenizer = coursepkg.load_model(dtype=torch.float32)
layers = {name: x.weight.detach().cpu() for name, x in surgery.linears(model)}
torch.manual_seed(0)
data = {
    "normal values": torch.randn(2**20),
    "the course LM's weights": torch.cat([x.flatten() for x in layers.values()][:14]),
}
SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
trades = [(b, size, kind) for b in (4, 3, 2) for kind in SCALES for size in SIZES]
cost = {
    (b, size, kind): memory.StorageFormat("", b, size, SCALES[kind][0]).effective_bits()
    for b, size, kind in trades
}
quality = {
    title: {trade: sqnr_of(x, *trade) for trade in trades} for title, x in data.items()
}

# %%
curves = {
    title: {
        (b, kind): [
            (cost[b, size, kind], found[b, size, kind]) for size in reversed(SIZES)
        ]
        for b in (4, 3, 2)
        for kind in SCALES
    }
    for title, found in quality.items()
}
show.show(
    show.trade_plots.trade_off(curves),
    alt="SQNR over effective bits for normal values and for the course LM's weights. "
    "For 2, 3 and 4 bits each, lines for scales in fp32, fp16 and fp8 rise with "
    "smaller groups, steeply at first, then flatter; fp8 stands furthest left. The "
    "front of best points follows the fp8 lines and jumps up where a code has a bit "
    "more.",
)

# %% [markdown]
# A point is better the higher and the further left it stands. The broad line joins those that nothing beats, the **Pareto front**.
# Which point is best for a given budget of bits?

# %%
found = quality["the course LM's weights"]
for budget in (2.25, 2.5, 3.1, 3.25, 3.5, 4.0, 4.03, 4.125, 4.25, 4.5):
    within = [trade for trade in trades if cost[trade] <= budget]
    best = max(within, key=lambda t: (round(found[t], 1), -cost[t]))
    b, size, kind = best
    choice = f"{b}-bit codes, groups of {size:>3}, {kind:<4} scales"
    print(f"up to {budget:5.3f} bits: {choice}: {found[best]:4.1f} dB", end="")
    print(f" for {cost[best]:.3f} bits")

# %% [markdown]
# Three things to take from it:
#
# - **A budget of 4.0 bits is a bad one.** Every 4-bit code needs a little more, so 4.0 buys 3-bit codes with the smallest groups. Four
#   hundredths of a bit more, and it is 4-bit codes, more than 2 dB better.
# - **Scales need not be precise.** fp8 has an error of up to 6 %, and at 4 bits that loses 0.11 dB at most. It costs half of what fp16 costs.
#   So with fp8 you can afford groups half as large. (At 8 bits it is no longer so: there the scale's error outweighs the rounding.)
# - **More bits beat smaller groups**, where both are to be had: the front climbs from 2 to 3 to 4 bits, and never takes groups of
#   16 with 3 bits if 4 bits with groups of 4,096 are affordable.

# %%
at_four = quality["normal values"]
for size in (16, 32, 64, 128):
    loss = at_four[4, size, "fp32"] - at_four[4, size, "fp8"]
    print(f"4 bits, groups of {size:>3}: fp8 scales cost {loss:.2f} dB")
eight = {kind: sqnr_of(data["normal values"], 8, 32, kind) for kind in ("fp32", "fp8")}
print(f"8 bits, groups of  32: {eight['fp32'] - eight['fp8']:.1f} dB")

# %%
show.question("price_with_zero")

# %% [markdown]
# ## 4. Why smaller groups help, and when they stop
#
# A ruler is as long as the largest of its weights. How large is that? Let $M_n$ be the absmax of $n$ independent normal values of
# standard deviation 1. It is at most $m$ when all $n$ are. With $\Phi$, the normal distribution function,
#
# $$P(M_n \le m) = (2 \Phi(m) - 1)^n \qquad E[M_n] = \int_0^\infty 1 - (2 \Phi(m) - 1)^n \, dm$$
#
# and for large $n$ it grows like $\sqrt{2 \ln n}$: very slowly. By hand: for $n = 64$, $\sqrt{2 \cdot 4.16} = 2.88$. That is the law of
# growth, not the value. How near is it?


# %%
def expected(n, power=1):
    """E[M^power], the integral above as a sum."""
    m = torch.linspace(0, 8, 8001, dtype=torch.float64)
    beyond = 1 - torch.erf(m / 2**0.5) ** n
    return torch.trapezoid(power * m ** (power - 1) * beyond, m).item()


normal = data["normal values"]
measured = [normal.reshape(-1, n).abs().amax(1).mean().item() for n in SIZES]
exact = [expected(n) for n in SIZES]
print("   n  measured  integral  √(2 ln n)  √(2 ln 2n)")
for n, seen, theory in zip(SIZES, measured, exact, strict=True):
    growth, twice = math.sqrt(2 * math.log(n)), math.sqrt(2 * math.log(2 * n))
    print(f"{n:>4} {seen:>9.2f} {theory:>9.2f} {growth:>10.2f} {twice:>11.2f}")

# %%
show.show(
    show.trade_plots.absmax_growth(SIZES, measured, exact),
    alt="The mean absmax of n normal values for n from 16 to 4,096, logarithmic: the "
    "measured points lie on the exact curve, from 2.1 to 3.8 standard deviations. The "
    "curves of the two square roots run above it, 0.3 to 0.5 too high.",
)

# %% [markdown]
# The integral is right. $\sqrt{2 \ln n}$ is 7 to 13 % too large here. ($\sqrt{2 \ln 2n}$, which people write because the absmax has two
# sides, is further off still: it is an upper bound. It becomes sharp only for astronomical $n$.)
#
# From the absmax to decibels. The step is $M_n / (2^{b-1} - 1)$. If values lie evenly within a step, the mean squared error is
# $\text{step}^2 / 12$ (lecture 02). Signal over noise, with a signal of power 1:
#
# $$\text{SQNR} \approx 10 \log_{10} \frac{12 \, (2^{b-1} - 1)^2}{E[M_n^2]}$$
#
# By hand for 4 bits and $n = 64$: $12 \cdot 49 / 6.91 = 85$, which is 19.3 dB.

# %%
print(f"E[M²] for 64: {expected(64, 2):.2f}")
print("          " + "".join(f"{n:>14}" for n in (16, 64, 256, 4096)))
for b in (4, 3, 2):
    row = []
    for n in (16, 64, 256, 4096):
        formula = 10 * math.log10(12 * (2 ** (b - 1) - 1) ** 2 / expected(n, 2))
        seen = quality["normal values"][b, n, "fp32"]
        row.append(f"{seen:5.1f} ({formula:4.1f})")
    print(f"{b} bits, dB" + "".join(f"{each:>14}" for each in row))
print("measured, and in brackets the formula")

# %% [markdown]
# For 4 and 3 bits the formula holds within half a decibel and mostly better. For 2 bits it does not: there are three marks, −absmax, 0 and absmax, most
# weights crowd around the middle one, and nothing lies "evenly within a step". With one ruler for 4,096 normal values 2 bits keep less than 1 dB.
#
# Now the question when to stop. Halving the group from $n$ to $n/2$ **gains** $10 \log_{10} (E[M_n^2] / E[M_{n/2}^2])$ decibels, for any
# number of bits: $b$ is not in it. It **costs** $2c/n - c/n = c/n$ bits. And a bit of code is worth 6.02 dB. So halving pays as long as
# the gain is above $6.02 \cdot c / n$:

# %%
print("halving n:    gain   price with scales of 32, 16, 8 bits")
for n in SIZES[:6]:
    gain = 10 * math.log10(expected(n, 2) / expected(n // 2, 2))
    prices = [6.02 * c / n for c in (32, 16, 8)]
    marked = [f"{price:5.2f}{'*' if gain > price else ' '}" for price in prices]
    print(f"{n:>4} to {n // 2:>3}  {gain:5.2f} dB  ", "  ".join(marked), "dB")
print("* it pays")

# %% [markdown]
# With fp16 scales halving pays down to 128, and from 128 to 64 it is nearly a draw: 0.71 dB gained for 0.75. One lecture calls 128 a "magic
# number" without a clean explanation. Here is one, at least for normal weights: with 16-bit scales, **64 to 128 is where a ruler is worth
# just its price**. With fp32 scales it is 256, with 8-bit scales 32. That is where MXFP4 is, and near where NVFP4 (16) and
# double quantization (64, with scales of about 8 bits) are.
#
# (With few marks a bit is worth a little more than 6.02 dB, for the number of steps on a side more than doubles: from 3 to 7 it is
# $20 \log_{10} (7/3) = 7.4$ dB. That speaks for the larger of two group sizes.)
#
# The same, measured: SQNR less 6.02 dB for each bit of scale, so that the highest point is the best bargain.

# %%
nets = {}
for title, found in quality.items():
    nets[title] = {}
    for kind in SCALES:
        price = [6.02 * (cost[4, n, kind] - 4) for n in SIZES]
        gained = [found[4, n, kind] for n in SIZES]
        nets[title][kind] = [g - p for g, p in zip(gained, price, strict=True)]
show.show(
    show.trade_plots.net_gain(SIZES, nets),
    alt="SQNR less the price of the scales over the group size, for normal values and "
    "the course LM's weights. Each line has a flat top: at 256 for fp32 scales, at 64 "
    "to 128 for fp16, at 32 for fp8. For the course LM large groups fall off faster.",
)

# %% [markdown]
# The tops are flat: half or twice the best size costs a few tenths of a decibel. So the exact number matters little. That is why formats with
# 32, 64 and 128 live side by side, and kernels, not errors, decide among them.
#
# ### Real weights are not one normal distribution
#
# In the picture's right half the curves fall faster for large groups. Two suspects: rows that differ in scale, and tails heavier than normal.
# Take them away one at a time and see what is left:


# %%
def rows_evened_out(w):
    return w / w.square().mean(1, keepdim=True).sqrt()


def shuffled_in_rows(w):
    return w.gather(1, torch.rand(w.shape).argsort(1))


kinds = {
    "normal, same rms": lambda w: torch.randn(w.shape) * w.square().mean().sqrt(),
    "rows evened out": rows_evened_out,
    "the weights": lambda w: w,
    "shuffled in rows": shuffled_in_rows,
}
shapes = ("tensor", "channel", 128, 64, 32, 16)


# %%
def pooled(changed, granularity):
    noise = power = 0.0
    for x in changed:
        back = affine.quantize(x, Scheme(4, granularity=granularity)).dequantize()
        noise += (back - x).square().sum().item()
        power += x.square().sum().item()
    return 10 * math.log10(power / noise)


torch.manual_seed(0)
lines = {}
print(f"{'':<17}", *(f"{each!s:>8}" for each in shapes))
for name, change in kinds.items():
    changed = [change(w) for w in layers.values()]
    lines[name] = [pooled(changed, each) for each in shapes]
    values = "".join(f"{value:9.1f}" for value in lines[name])
    print(f"{name:<17}{values} dB; tensor to 64: {lines[name][3] - lines[name][0]:.1f}")

# %%
seen = {
    name: lines[name] for name in ("normal, same rms", "rows evened out", "the weights")
}
show.show(
    show.trade_plots.steps_of_granularity([str(each) for each in shapes], seen),
    alt="SQNR at 4 bits from one ruler for a tensor down to groups of 16. Per tensor the "
    "course LM's weights have 9.9 dB, with rows evened out 11.8, normal values 14.4. "
    "From per channel on the three lie within 0.7 dB and come together.",
)

# %% [markdown]
# - **Rows differ.** Evened out, one ruler for the tensor is 1.9 dB better. Per channel, that difference is gone: the row's own scale takes
#   care of it.
# - **Tails are heavy.** The rest of the way to normal values, 2.6 dB, is large weights within the rows, and smaller groups fence them in.
# - So going from one ruler to groups of 64 gains 9.1 dB on these weights, and 4.9 on normal ones.
# - **Neighbours are not alike.** The last row of the table shuffles each row before it is cut into groups, and nothing changes. You may
#   read that groups follow "local variations" of the weights. In this model there are none that matter. Groups help because the largest of 64 is smaller
#   than the largest of 256, whoever is in them.
#
# Where do the large weights sit? For each kind of layer (medians over the six layers):

# %%
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
print("           absmax   rms of rows   rms of columns    dB at 4 bits, per")
print("           / rms      max/min        max/min      tensor  channel  group 64")
for kind in LINEARS:
    some = [w for name, w in layers.items() if name.endswith(kind)]
    rms = torch.stack([w.square().mean((0, 1)).sqrt() for w in some])
    found = [torch.stack([w.abs().max() for w in some]) / rms]
    for axis in (1, 0):
        each = torch.stack([w.square().mean(axis).sqrt() for w in some])
        found.append(each.amax(1) / each.amin(1))
    middle = (
        f"{x.median():>{width}.1f}" for x, width in zip(found, (7, 12, 15), strict=True)
    )
    decibels = (f"{pooled(some, each):9.1f}" for each in ("tensor", "channel", 64))
    print(f"{kind:<10}", *middle, "   ", *decibels, sep="")

# %% [markdown]
# `gate_proj` and `up_proj` have rows that differ up to sixfold; `down_proj` has *columns* that differ as much, and the largest weights. A scale for each row does
# nothing for columns. Which brings up the next question.

# %%
show.question("halve_again")

# %% [markdown]
# ## 5. Which axis?
#
# A row is an output channel. Why not give scales to columns, the *input* channels? Because of what happens next: the weights
# are multiplied. $W$ has $m$ outputs $j$ and $k$ inputs $i$; $x_i$ are codes of the activations, with a scale $s_x$. With a scale $s_j$ for each
# **output** channel:
#
# $$y_j = \sum_i (s_j q_{ji}) (s_x x_i) = s_x s_j \underbrace{\sum_i q_{ji} x_i}_{\text{whole numbers}}$$
#
# The sum is all integers, and the scale is multiplied once, at the end. With a scale $s_i$ for each **input** channel it stays in the sum,
# $y_j = s_x \sum_i s_i q_{ji} x_i$: a multiplication by a fraction for each of the $m k$ products, and no integer sum. By hand, with two of each:
#
# | | inputs 5 and 7, $s_x = 0.1$; weights 3 and −2 for output 0, 1 and 4 for output 1 |
# |---|---|
# | output scales (0.5, 0.02) | $y_0 = 0.1 \cdot 0.5 \cdot (15 - 14) = 0.05$ and $y_1 = 0.1 \cdot 0.02 \cdot (5 + 28) = 0.066$ |
# | input scales (0.5, 0.02) | $y_0 = 0.1 \cdot (0.5 \cdot 15 - 0.02 \cdot 14) = 0.722$ and $y_1 = 0.1 \cdot (0.5 \cdot 5 + 0.02 \cdot 28) = 0.306$ |

# %%
q, x, s, s_x = torch.tensor([[3, -2], [1, 4]]), torch.tensor([5, 7]), (0.5, 0.02), 0.1
s = torch.tensor(s)
print("output scales:", (s_x * s * (q @ x)).numpy().round(3))
print("input scales: ", (s_x * (q * s) @ x.float()).numpy().round(3))
print("one integer sum of each row:", (q @ x).tolist())

# %% [markdown]
# **Groups along the inputs** stand between: a sum of integers within each group, one multiplication for each group, then a sum of
# those. With groups of 64 that is one multiplication of fractions for 64 of integers.

# %%
show.show(
    show.granularity_plots.axes_of_sharing(),
    alt="A weight of 4 outputs and 8 inputs three times, a colour for each scale. Per "
    "output channel each row has one colour. In groups along the inputs each row has "
    "two. Per input channel each column has one, so that the sum over the inputs "
    "meets all the colours.",
)

# %% [markdown]
# Through the package, on a layer of the course LM. Activations have 8 bits and a scale for each token (each row of $x$); weights 8 bits
# per output channel, then 4 bits in groups of 64. `codes.int() @ …` is an integer product:

# %%
weight = layers["model.layers.0.mlp.gate_proj"]
tokens = affine.quantize(torch.randn(5, 256), Scheme(8, granularity="channel"))

per_channel = affine.quantize(weight, Scheme(8, granularity="channel"))
sums = tokens.codes.int() @ per_channel.codes.int().T
y = tokens.scale * per_channel.scale.T * sums
reference = tokens.dequantize() @ per_channel.dequantize().T
print("per channel:", sums.dtype, torch.allclose(y, reference, atol=1e-5))

groups = affine.quantize(weight, Scheme(4, granularity=64))
a, b = tokens.codes.reshape(5, 4, 64).int(), groups.codes.reshape(768, 4, 64).int()
sums = torch.einsum("tgi,jgi->tjg", a, b)  # token, output, group
y = tokens.scale * (groups.scale * sums).sum(2)
reference = tokens.dequantize() @ groups.dequantize().T
print("groups:     ", sums.dtype, torch.allclose(y, reference, atol=1e-5))

# %% [markdown]
# So GPTQ, AWQ, llama.cpp and bitsandbytes all have groups along the inputs, the direction of the sum. Does the error agree? The same groups
# of 64, laid along the outputs instead (the package quantizes rows, so the weight is transposed first):

# %%
print("4 bits, dB   per output   per input    groups along   groups along")
print("              channel      channel      the inputs    the outputs")
for kind in ("q_proj", "o_proj", "gate_proj", "up_proj", "down_proj", ""):
    some = [w for name, w in layers.items() if name.endswith(kind)]
    turned = [w.T.contiguous() for w in some]
    values = [pooled(each, g) for g in ("channel", 64) for each in (some, turned)]
    print(f"{kind or 'all':<10}", *(f"{value:>12.1f}" for value in values))

# %% [markdown]
# It does not. `down_proj` would be better off with scales on its inputs, by 2 dB per channel and 0.6 in groups, for its columns differ. Over all layers
# the usual axis wins by a little. **The axis is chosen by the arithmetic.** If weights are dequantized to 16 bits before the product, as weight-only kernels do,
# the arithmetic does not force it (HQQ has an option `axis`); and there is a way to have both: multiply $s_i$ into $x_i$
# *before* the activations are rounded. That is SmoothQuant's idea, in lecture 04.

# %%
show.question("which_axis")

# %% [markdown]
# ## 6. Packing: real bytes
#
# So far each code was an element of a tensor of `int8`: 8 bits, whatever we said. To *store* 4 bits, two codes must share a byte. By hand,
# codes 5 (`0101`) and 12 (`1100`): a byte has a high half and a low half, two **nibbles**, and somebody must choose.
#
# $$\text{first code high: } 5 \cdot 16 + 12 = 92 = \texttt{0x5C} \qquad \text{first code low: } 12 \cdot 16 + 5 = 197 = \texttt{0xC5}$$

# %%
codes = torch.tensor([5, 12, 1, 15, 0, 7, 3, 8], dtype=torch.uint8)
high, low = packing.pack_nibbles(codes), packing.pack(codes, 4)
for name, packed in (("bitsandbytes, first code high:", high), ("GPTQ, low:", low)):
    print(f"{name:<30}", *(f"{byte:02X}" for byte in packed.flatten().tolist()))
(word,) = packing.pack_words(codes, 4).tolist()
print(f"as one 32-bit word: {word & 0xFFFFFFFF:08X}, which int32 shows as {word}")

# %% [markdown]
# (The word's highest bit is set, so int32 takes it for a negative number. `word & 0xFFFFFFFF` gives back its bits.) Both orders are in use:
#
# | | first code | unit |
# |---|---|---|
# | bitsandbytes | high nibble | byte |
# | GPTQ, compressed-tensors | low nibble | 32-bit word; GPTQ's run down the columns |
# | AWQ's GEMM kernels | low nibble, but codes 0, 2, 4, 6, 1, 3, 5, 7 | 32-bit word of eight outputs |
# | llama.cpp, Q4_0 | low nibble; the high ones hold codes 16 to 31 | block of 32 |
#
# A file does not say which. Whoever reads in the wrong order gets no error. What do they get?

# %%
made = affine.quantize(weight, Scheme(4, granularity=64, scale_dtype=torch.float16))
packed = packing.pack_nibbles(packing.unsigned(made.codes, 4))
right = packing.unpack_nibbles(packed, weight.numel())
wrong = packing.unpack(packed.flatten(), 4, weight.numel())
for name, back in (("right order", right), ("wrong order", wrong)):
    values = affine.decode(packing.signed(back.reshape(weight.shape), 4), made.scale)
    print(f"{name}: SQNR {distortion.sqnr(weight, values):5.1f} dB")

# %% [markdown]
# Neighbours change places, and the SQNR is below 0 dB: worse than a matrix of zeros, though every value is a plausible weight. If
# a converted model babbles, look here first.
#
# ### Three bits
#
# Three bits do not fill a byte. So the codes of a row are one **stream of bits**, the lowest bit of the first code first: code $i$ has the bits
# $3i$ to $3i + 2$ of the stream, and bit $t$ of the stream is bit $t \bmod 8$ of byte $\lfloor t / 8 \rfloor$. Eight codes fill three bytes. By hand for
# 1, 2, 3, …: the first byte holds all of code 0 (1), all of code 1 (2, three bits further left) and two bits of code 2 (3):
# $1 + 2 \cdot 8 + (3 \cdot 64 \bmod 256) = 209$. The rest of code 2 is $3 \cdot 64$ divided by 256, 0, the lowest bit of the second byte.

# %%
codes = [1, 2, 3, 4, 5, 6, 7, 0]
print("first byte by hand:", 1 + (2 << 3) + (3 << 6) % 256)
print(packing.pack(torch.tensor(codes), 3).tolist())
stream = sum(code << 3 * i for i, code in enumerate(codes))
print(list(stream.to_bytes(3, "little")), "by Python's whole numbers")

# %%
show.show(
    show.granularity_plots.bit_stream(codes, 3),
    alt="The 24 bits of eight 3-bit codes in three bytes, lowest bit first. Codes 2 and "
    "5 lie across the ends of bytes: two bits of code 2 in byte 0 and one in byte 1, "
    "one bit of code 5 in byte 1 and two in byte 2.",
)

# %% [markdown]
# GPTQ writes this stream in 32-bit words, where 32 codes fill three words. 32 is not a multiple of 3, so code 10 has two bits in the first word and one in the
# second, and code 21 one and two:

# %%
torch.manual_seed(0)
codes = torch.randint(0, 8, (1, 32), dtype=torch.uint8)
words = packing.pack_gptq(codes, 3)
print("shape of 32 inputs, 1 output:", tuple(words.shape), words.dtype)
first, second = (word & 0xFFFFFFFF for word in words[:2, 0].tolist())
by_hand = (first >> 30) | (second & 1) << 2
print("code 10:", by_hand, "=", codes[0, 10].item())
print("all back:", torch.equal(packing.unpack_gptq(words, 3), codes))

# %%
show.show(
    show.granularity_plots.bit_stream(codes[0, 9:13].tolist(), 3, first=9, word=32),
    alt="Codes 9 to 12 of a 3-bit stream at the end of the first 32-bit word: two bits "
    "of code 10 are the last of word 0, its highest bit is the first of word 1.",
)

# %% [markdown]
# The alternative, ten codes in a word with two bits left empty, is easier to read and costs $32/10 = 3.2$ bits a code.
# Two bits are easy again: four codes fill a byte.
#
# ### Counted
#
# Now stored bytes can be *counted* in tensors (`nbytes`) and held against the formula of section 3, for one layer of the course LM:


# %%
def counted(bits, granularity, dtype, scale_format):
    scheme = Scheme(bits, granularity=granularity, scale_dtype=dtype)
    made = affine.quantize(weight, scheme)
    packed = packing.pack(packing.unsigned(made.codes, bits), bits)
    stored = memory.StorageFormat("", bits, granularity, scale_format)
    total = packed.nbytes + made.scale.nbytes
    counts = (made.codes.nbytes, packed.nbytes, made.scale.nbytes, total)
    return *counts, stored.stored_bytes(*weight.shape)


# %%
print("                    codes   packed   scales      sum  formula   bits")
for bits in (4, 3, 2):
    for row in (
        ("tensor", torch.float32, fp32),
        ("channel", torch.float32, fp32),
        (64, torch.float16, fp16),
    ):
        counts = counted(bits, *row)
        print(f"{bits} bits, {row[0]!s:<8}", *(f"{n:>8}" for n in counts), end="")
        print(f"{8 * counts[3] / weight.numel():7.3f}")

# %% [markdown]
# The formula agrees to the byte, and only the packed column is small. Code that rounds weights and keeps them in `int8`, or in fp16, saves nothing,
# however few values are left. It shows what rounding does to a model, and that is what we do next.

# %%
show.question("which_nibble")

# %% [markdown]
# ## 7. The course LM judges
#
# Errors of weights are a means. What does the model still know? Nine rounded copies, 4, 3 and 2 bits with each granularity, sit a part of the exam
# of lecture 00: 100 questions, and 40 articles that it has never read. (The embedding stays in 16 bits.)
#
# Beside accuracy and perplexity stands a third measure. For each next token the model has probabilities $p$, a rounded copy has others, $q$. The
# **Kullback–Leibler divergence** is the mean of $\ln (p / q)$, a mean over the tokens that *could* come, each as often as $p$ says:
#
# $$\mathrm{KL}(p \,\|\, q) = \sum_t p_t \ln \frac{p_t}{q_t}$$
#
# It is 0 if nothing has changed and above 0 otherwise. Perplexity averages over the tokens that *did* come. By hand, with three tokens:

# %%
p, q = torch.tensor([0.70, 0.20, 0.10]), torch.tensor([0.65, 0.25, 0.10])
more_nats = (p / q).log()
print("more nats if this token comes:", [round(x, 3) for x in more_nats.tolist()])
print(f"mean over what could come, KL: {(p * more_nats).sum():.4f}")

# %% [markdown]
# If the text goes on with the second token, the copy is *better* than the model: its perplexity falls. KL does not ask which token came. Now the nine copies
# (this is the longest computation of the lecture, some 20 seconds):

# %%
from dataclasses import replace

from coursepkg import courselm, evaluation, intervals, results

exam = courselm.exam()
part = replace(exam, questions=exam.questions[:100], free=(), texts=exam.texts[:40])
methods = [evaluation.Method("fp32", fp32, None, fp32)]
methods += [
    evaluation.whole_numbers(bits, granularity)
    for bits in (4, 3, 2)
    for granularity in ("tensor", "channel", 64)
]
board = evaluation.leaderboard(model, tokenizer, part, methods)

# %%
print(f"{'':<18} {'bits':>5}  {'exam':<14}  {'perplexity':<21}  KL, nats a token")
for row in board.rows:
    score, ppl = f"{row.marks.accuracy:.0%}", row.marks.perplexity
    ppl = f"{ppl:.0f}" if ppl.value > 10 else f"{ppl:.3f}"
    kl = f"{row.kl.nats:.4f}"
    print(f"{row.name:<18} {row.effective_bits:5.2f}  {score:<14}  {ppl:<21}  {kl}")

# %%
show.show(
    show.trade_plots.divergences(board),
    alt="Left, KL from fp32 over effective bits, logarithmic: at 2, 3 and 4 bits alike, "
    "per tensor is highest, per channel lower, groups of 64 lowest. Right, perplexity "
    "above fp32's: the same, except at 4 bits, where the group of 64 stands above per "
    "channel.",
)

# %% [markdown]
# - **KL orders all nine rows as the theory says**: at the same bits, finer rulers are better. At 4 and 3 bits a scale for each row instead of one for the
#   tensor makes it 20 times smaller.
# - **3 bits in groups of 64 (3.25 bits) beat 4 bits per tensor (4.0 bits)**, in KL and in perplexity. Rulers can be worth more than a bit.
# - **The exam sees little**: its intervals are wider than what separates the 4-bit rows. 100 questions are few.
# - At **2 bits** nothing helps: the exam is at chance. (Three marks to a ruler; lecture 09 trains models that can live with that.)
# - And one pair is **the wrong way round**: at 4 bits the group of 64 has a *higher* perplexity than per channel, although its weights and its
#   KL are closer to fp32's. In nats a token, paired on the same articles:

# %%
pair = "int4, group of 64", "int4, per channel"
group, channel = (board[name].marks.text for name in pair)
nats = intervals.ratio(group.nll - channel.nll, group.tokens)
kl = board.kl_difference(*pair)
print(f"group less channel: on what came {nats:+.4f}, KL {kl:+.4f}")

# %% [markdown]
# Is it the small part of the exam? The whole one, 240 articles, was measured beforehand (from a table: the package's results file):

# %%
whole = results.load("leaderboard")
print(whole)
for row in whole.rows:
    if row["name"].startswith("int4"):
        ppl, kl = (
            "{:.4f} [{:.4f}, {:.4f}]".format(*row[each])
            for each in ("perplexity", "kl")
        )
        print(f"{row['name']:<18} perplexity {ppl}, KL {kl}")

# %% [markdown]
# It is not. Perplexity and KL disagree there, too.
#
# ### A result against the textbook
#
# Are finer rulers worse, then? The rounding is one throw of dice. Each weight is moved by up to half a step, up or down, as it happens to fall. Call
# all these moves together $\delta$. To first order the loss on a text changes by $g \cdot \delta$, where $g$ is the loss's gradient there. On text that was
# never read the gradient is not 0, so this term falls below 0 as often as above, and says nothing about quality. The damage that is left when
# luck averages out is of second order in $\delta$, and that is what KL measures.
#
# If that is so, another throw must give another order. Throw again: make all rulers 2 or 4 % longer. The errors get a little *larger*,
# and all fall differently. Three times as many articles this time (20 for KL, which needs fewer), and the two granularities paired on
# each of them:


# %%
def with_longer_rulers(granularity, factor):
    dtype = torch.float16 if isinstance(granularity, int) else torch.float32
    scheme = Scheme(4, granularity=granularity, scale_dtype=dtype)

    def rounded(w):
        scales, _ = affine.choose_qparams(factor * w, scheme)
        return affine.decode(affine.encode(w, scales, None, scheme), scales)

    return evaluation.Method("", fp16, evaluation.each_weight(rounded))


# %%
texts = evaluation.documents(tokenizer, exam.texts[:120])
fp32_nats = evaluation.likelihood(model, texts)
factors, found = (1.0, 1.02, 1.04), {"per channel": [], "group of 64": []}
nats = {}
for label, granularity in (("per channel", "channel"), ("group of 64", 64)):
    for factor in factors:
        method = with_longer_rulers(granularity, factor)
        copy = evaluation.rounding.quantized(model, method)
        nats[label, factor] = evaluation.likelihood(copy, texts).nll
        more = (nats[label, factor] - fp32_nats.nll).sum() / fp32_nats.tokens.sum()
        kl = evaluation.divergence(copy, model, texts[:20]).nats.value
        found[label].append((more, kl))
for factor in factors:
    less = nats["group of 64", factor] - nats["per channel", factor]
    paired = intervals.ratio(less, fp32_nats.tokens)
    print(f"rulers × {factor:.2f}: group less channel {paired:+.4f} nats a token")

# %%
show.show(
    show.trade_plots.stretched(factors, found),
    alt="Left, the extra nats on 120 articles when rulers are 1.00, 1.02 and 1.04 times "
    "as long: per channel rises from 0.7 to 2.1 thousandths, the group of 64 falls "
    "from 2.8 to 1.1, and they cross. Right, KL: the group of 64 stays well below.",
)

# %% [markdown]
# With rulers 2 % longer the order is turned around, and no interval of the difference excludes 0. KL moves little, and its order stays. So
# perplexity had not found that groups are worse. It had found the luck of one rounding, at a level of a few thousandths of a nat. What to take from it:
#
# - A difference in perplexity of 0.1 or 0.2 % between two roundings of one model says nothing, even where an interval over texts excludes 0: that interval
#   knows of other texts, not of other roundings.
# - To compare roundings of the *same* model, measure KL from that model. It is the sharper judge, and it has no favourable accidents.
# - KL says how far a copy is from its model, not whether the model is right. For a model that was trained further, it is not the measure.

# %%
show.question("perplexity_or_kl")

# %% [markdown]
# ## Often misquoted
#
# From lectures on the net, with a verdict and the values that decide it. (The 0.8 bits of an fp16 scale and the 8.0 bits of Q8_0 stand
# in lecture 01.)

# %%
claims.check("003-group-128", "003-outlier-10x", "003-four-weights")

# %% [markdown]
# ## Summary
#
# | | |
# |---|---|
# | granularity | the shape of the block that shares a scale: tensor, row, group of neighbours in a row |
# | an outlier | sets the step of its block; smaller blocks fence the damage in, more bits reduce it |
# | price | $c / n$ bits a weight: 0.125 for fp16 and 128, 0.5 for fp32 and 64 |
# | gain of halving | 0.7 to 0.8 dB around 64 to 128, whatever the bits; a bit is 6.02 dB |
# | best size, normal weights | about 32 with 8-bit scales, 64 to 128 with fp16, 256 with fp32; the top is flat |
# | real weights | rows differ and tails are heavy, so they gain more: 9.1 dB from tensor to group 64 here, normal ones 4.9 |
# | axis | along the inputs: the scale of an output comes out of the integer sum, that of an input does not |
# | packing | nibbles high first (bitsandbytes) or low first (GPTQ, compressed-tensors); 3 bits as a stream |
# | judging | KL from the unrounded model; differences of thousandths in perplexity are luck |
#
# **Papers.** Nagel et al. 2021, *A White Paper on Neural Network Quantization*, section 2. Dettmers et al. 2022, *LLM.int8()*, section 3.1 (a scale for
# each row). Frantar et al. 2023, *GPTQ*, section 4 (groups). Dettmers et al. 2023, *QLoRA*, section 3 (blocks of 64, double quantization). Xiao et al. 2023,
# *SmoothQuant*, section 4 and equation 3. OCP 2023, *Microscaling Formats (MX)* v1.0. DeepSeek-AI 2024, *DeepSeek-V3 Technical Report*, section 3.3.2.
#
# **Now you:** [assignment 03](assignments/03_granularity.ipynb).
