# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 05 · NF4: from a number to a codebook
#
# [Open in Colab]({{ colab }}) · [Open in Binder]({{ binder }})
#
# **At the end you can** derive the sixteen levels of NF4 with nothing but a table of the normal distribution; quantize a block by
# hand and get the same bits as bitsandbytes; say what double quantization stores and what it costs; and judge for which error,
# which block size and which weights NF4 is the best codebook, and for which it is not.
#
# **It builds on** lectures 02 (scale, rounding, SQNR) and 03 (blocks that share a scale). **It takes** 70 minutes; the last section is
# optional.

# %% tags=["nbval-ignore-output"]
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

from itertools import pairwise
from statistics import NormalDist

import torch
from coursepkg import codebooks, distortion, lloyd, memory, nf4, show, surgery
from coursepkg.codebooks import E2M1, FP4, INT4, NF4, Codebook
from coursepkg.weight_formats import Blocks

coursepkg.hello()

# %% [markdown]
# ## 1. A ruler with marks where you want them
#
# Until now codes were whole numbers: evenly spaced marks. But a code of 4 bits is only a place in a list, and the list may hold any
# sixteen numbers. Such a list is a **codebook**, its entries **levels**. Levels lie between −1 and 1, and each block of neighbouring
# weights is first divided by its **absmax**, the largest absolute value in it, so that it lies there too.
#
# By hand, with 2 bits, the levels $-1,\ 0,\ 0.436,\ 1$ and a block of eight weights:
#
# | weight | ÷ 0.50 | nearest level | code | read back |
# |---|---|---|---|---|
# | 0.10 | 0.20 | 0 (up to 0.218) | 1 | 0 |
# | −0.50 | −1 | −1 | 0 | −0.50 |
# | 0.21 | 0.42 | 0.436 | 2 | 0.218 |
# | −0.04 | −0.08 | 0 | 1 | 0 |
# | 0.38 | 0.76 | 1 (from 0.718) | 3 | 0.50 |
# | 0.12 | 0.24 | 0.436 | 2 | 0.218 |
# | −0.31 | −0.62 | −1 (below −0.5) | 0 | −0.50 |
# | 0.02 | 0.04 | 0 | 1 | 0 |
#
# What decides are the **midpoints** between neighbouring levels: −0.5, 0.218, 0.718. Eight codes of 2 bits are stored, and one number,
# the absmax. The package does the same:

# %%
two_bits = Codebook("NF2", codebooks.normal_float(2))
block = torch.tensor([0.10, -0.50, 0.21, -0.04, 0.38, 0.12, -0.31, 0.02])
made = nf4.quantize(block, two_bits, block_size=8)
print("levels   ", [round(level, 3) for level in two_bits.levels])
print("midpoints", [round(middle, 3) for middle in two_bits.midpoints.tolist()])
print("codes    ", made.codes.tolist(), " absmax", round(made.absmax.item(), 2))
print("read back", [round(value, 3) for value in made.dequantize().tolist()])
print(
    "stored   ", made.packed.nbytes, "bytes of codes,", made.absmax.nbytes, "of scale"
)

# %% [markdown]
# ## 2. What weights look like
#
# Where should sixteen levels lie? Where the weights are. Here are all 4.5 million weights of the course LM's Linear layers, each divided by
# the absmax of its block of 64, beside what normally distributed numbers give when they are treated in the same way. (One weight in 64 is its
# block's largest, and lies at exactly −1 or 1. These are not drawn.)

# %%
model, tokenizer = coursepkg.load_model(dtype=torch.float32)
weights = torch.cat(
    [layer.weight.detach().flatten() for _, layer in surgery.linears(model)]
)
real, normal = lloyd.blocks_of(weights), lloyd.normal_blocks(64)
show.show(
    show.nf4_plots.scaled_weights(real, normal, NF4.levels),
    alt="A bell-shaped histogram of scaled weights between −1 and 1, and the curve of "
    "normal values nearly on it; the weights are a little more often near 0. Ticks "
    "below mark the levels of NF4, close together near 0.",
)

# %% [markdown]
# A bell, nearly a normal one. Few weights are near ±1, and evenly spaced levels there are seldom used. That is the idea of **NF4**, "4-bit
# NormalFloat" (Dettmers et al. 2023, section 3): assume that weights are normal, and put the levels at **quantiles**, so that all are
# used about equally often.
#
# ## 3. A formula often given for NF4, which is not it
#
# The quantile $\Phi^{-1}(p)$ of the normal distribution is the number below which a share $p$ of the values lies. Sixteen equal shares,
# and in the middle of each a level: $\Phi^{-1}\big((i + \tfrac12)/16\big)$, divided by the largest. This is often given for NF4. Compare:

# %%
quantile = NormalDist().inv_cdf
naive = [quantile((i + 0.5) / 16) for i in range(16)]
naive = [level / naive[-1] for level in naive]
for name, levels in (("naive", naive), ("NF4  ", NF4.levels)):
    print(name, " ".join(f"{level:6.3f}" for level in levels))

# %% [markdown]
# The naive levels are symmetric, so there are eight on each side and **none at 0**. A weight of exactly 0 would come back as ±0.04 of
# absmax. Zeros matter: padding, pruned weights, and products that should vanish. An even number of levels cannot be symmetric and hold
# a zero. NF4 gives up the symmetry.

# %%
show.question("naive_quantiles")

# %% [markdown]
# ## 4. The derivation, in four steps
#
# The paper's own formula does not give the table either, as far as we can see. Its equation 4 takes the means of neighbouring quantiles,
# $\frac12\big(\Phi^{-1}(\frac{i}{2^k + 1}) + \Phi^{-1}(\frac{i + 1}{2^k + 1})\big)$, of which an outermost one is infinite; and the text adds that two
# sides are made and joined at one zero. What follows is the recipe of the released code, `create_normal_map` in bitsandbytes. As far as we know it alone
# says where the quantiles begin, at 0.9677083.
#
# 1. **Where to begin.** The outermost quantile cannot be $p = 1$: $\Phi^{-1}(1) = \infty$. A symmetric table with a 0 has 15 levels, one
#    without it has 16. With 15 equal shares the middle of the last one is $1 - \frac{1}{30} = \frac{29}{30}$, with 16 it is
#    $1 - \frac{1}{32} = \frac{31}{32}$. The code's number is the mean of the two.
# 2. **The positive side** takes 8 levels: quantiles from 0.9677083 down to 0.5, evenly spaced in $p$, without 0.5 itself, whose quantile is 0.
# 3. **The negative side** takes 7, in the same way, with a minus.
# 4. **Join** them at 0, and **divide** by the largest.

# %%
tail = (29 / 30 + 31 / 32) / 2
positive = [quantile(tail - (tail - 0.5) * step / 8) for step in range(8)]
negative = [-quantile(tail - (tail - 0.5) * step / 7) for step in range(7)]
derived = sorted(level / positive[0] for level in [*negative, 0, *positive])
for place in (0, 1, 6, 7, 8, 14, 15):
    print(f"{place:>2}  {derived[place]:+.7f}  published {NF4.levels[place]:+.7f}")
most = max(abs(a - b) for a, b in zip(derived, NF4.levels, strict=True))
print("largest difference below 2e-7:", most < 2e-7)

# %% [markdown]
# That is the published table, to 2e-7. The strips of the two sides differ in area, because they are 8 and 7:

# %%
show.show(
    show.nf4_plots.quantile_steps(),
    alt="A bell curve, its middle cut into 7 strips of area 0.0668 on the left and 8 of "
    "0.0585 on the right; tails of 0.0323 lie outside. Strips are narrow near 0 and "
    "wide outside; a short line below each border is a level.",
)

# %% [markdown]
# `codebooks.normal_float(bits)` is that recipe for any number of bits, with $\frac{1}{2}\left[\left(1 - \frac{1}{2(2^k - 1)}\right) +
# \left(1 - \frac{1}{2 \cdot 2^k}\right)\right]$ as the tail of NF-$k$. The 2-bit levels of section 1 came from it.

# %%
for bits in (2, 3, 4):
    tail_of = codebooks.tail_offset(bits)
    levels = " ".join(f"{level:.3f}" for level in codebooks.normal_float(bits))
    print(f"NF{bits}: tail {tail_of:.7f}\n     {levels}")

# %%
show.question("nf4_zero")

# %% [markdown]
# ## 5. Bit for bit what bitsandbytes stores
#
# A weight, 64 to a block, two codes in a byte, one fp32 absmax a block: $4 + \frac{32}{64} = 4.5$ bits. Is it the same as the library that
# everyone uses? On a weight of the course LM, in three dtypes: codes, scales and values read back.

# %%
from coursepkg.quiet import quiet

with quiet():  # it says what else could be installed
    from bitsandbytes import functional

# %%
sample = model.model.layers[2].mlp.up_proj.weight.detach()
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    x = sample.to(dtype)
    packed, state = functional.quantize_4bit(x, blocksize=64, quant_type="nf4")
    made = nf4.quantize(x)
    same = torch.equal(made.packed, packed), torch.equal(made.absmax, state.absmax)
    back = torch.equal(made.dequantize(), functional.dequantize_4bit(packed, state))
    print(f"{dtype!s:<15} codes, absmax: {same}, values: {back}")

# %% [markdown]
# Such equality is fragile. bitsandbytes multiplies by $1/\text{absmax}$; dividing by absmax is the same on paper, and gives another code where
# a value lies within a rounding error of a midpoint. Random weights hardly ever do. Here are some that do, on purpose:

# %%
absmax = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
x = absmax * NF4.midpoints[9]
divided, multiplied = nf4.nearest(x / absmax, NF4), nf4.nearest(x * (1 / absmax), NF4)
share = (divided != multiplied).float().mean().item()
print(f"values on a midpoint: {share:.0%} of the codes differ")
x = torch.randn(2**22, generator=torch.Generator().manual_seed(0)).reshape(-1, 64)
absmax = x.abs().amax(1, keepdim=True)
divided, multiplied = nf4.nearest(x / absmax, NF4), nf4.nearest(x * (1 / absmax), NF4)
print(f"normal values: {(divided != multiplied).sum()} of {x.numel():,} differ")

# %% [markdown]
# ## 6. Double quantization: scales are numbers too
#
# Half a bit of the 4.5 goes into scales. **Double quantization** (QLoRA, section 3) stores them as 8-bit floats, in blocks of 256. The released
# code does it in three steps. Scales are all positive: take off their **mean**, so that a sign is of use. Divide each block of 256 by its own
# absmax, which is kept in fp32. And round to the nearest of 256 levels, the **dynamic map**, which is dense near 0, as floats are. By
# hand for four scales and a block of four:

# %%
from coursepkg import double_quant

scales = torch.tensor([0.30, 0.34, 0.36, 0.40])
stored = double_quant.quantize(scales)
levels = double_quant.dynamic_map()
print("mean", round(stored.offset.item(), 4), " absmax", round(stored.absmax.item(), 4))
print("scaled   ", [round(v, 3) for v in ((scales - 0.35) / 0.05).tolist()])
print("indices  ", stored.indices.tolist())
print("levels   ", [round(v, 4) for v in levels[stored.indices.int()].tolist()])
print("read back", [round(v, 4) for v in stored.dequantize().tolist()])

# %% [markdown]
# The last scale lands on level 1 exactly, but −1 is not in the map: its lowest level is −0.9930. The real scales of the course LM:

# %%
scales = nf4.quantize(weights).absmax
stored = double_quant.quantize(scales)
error = distortion.relative_error(scales, stored.dequantize())
print(f"{len(scales):,} scales, relative squared error {error:.1e}")
show.show(
    show.nf4_plots.double_quantized(scales, stored),
    alt="Left: the scales of all blocks, most near their mean of 0.2, with a long tail. "
    "Right: without their mean and divided by the largest of 256, they spread from −1 "
    "to 1 around 0; ticks below show the 8-bit levels, dense near 0.",
)

# %% [markdown]
# What it saves, and what it costs. The weights are read back with a scale that is slightly off, and their error grows a little:

# %%
fp32 = 4 + 32 / 64
doubled = 4 + 8 / 64 + 32 / (64 * 256)
print(f"{fp32} bits -> {doubled:.3f} bits, {fp32 - doubled:.3f} saved")
plain, dq = nf4.quantize(weights), nf4.quantize(weights, double_quantized=True)
made = {"NF4": plain, "NF4 + DQ": dq}
for reach in (0, 1, 2, 4):
    made[f"NF4 + DQ, reach {reach}"] = nf4.least_error(weights, reach=reach)
for name, stored in made.items():
    error = distortion.relative_error(weights, stored.dequantize())
    print(f"{name:<18} relative squared error {error:.6f}")

# %% [markdown]
# All rows but the first take the same bits. bitsandbytes chooses codes for the exact absmax, and then reads them with the rounded one.
# `nf4.least_error` chooses codes for the scale that will be read: with reach 0 that is all it does, and it wins back the 0.1 %. The rest is another
# gain. With reach 2, each block may take one of the five nearest 8-bit scales, the one with the least error, and that takes off 5 %: absmax is
# seldom the best scale (lecture 02 cut rulers shorter; here some get longer, too).

# %%
show.question("dq_saves")

# %% [markdown]
# ## 7. Is it optimal?
#
# The paper calls NF4 "information-theoretically optimal" for normal weights: each level is used equally often, so no code is wasted. Two
# objections (after Yoshida 2023). First, use is not equal. Even normal values use the levels only nearly equally, for the levels are the borders
# of the strips in section 4, not their middles. And a block divided by its absmax does not hold normal values: one of them is always ±1,
# and how far the others spread depends on the size of the block.

# %%
cdf, outermost = NormalDist().cdf, quantile(tail)
borders = [0, *(cdf(outermost * middle) for middle in NF4.midpoints.tolist()), 1]
undivided = [100 * (right - left) for left, right in pairwise(borders)]
print(
    f"normal values: {min(undivided):.1f} % to {max(undivided):.1f} %; in blocks of 64:"
)
used = normal.use(NF4.levels)
print("share of each level, %:", [round(100 * share, 1) for share in used.tolist()])
books = {"int4": INT4.levels, "NF4": NF4.levels}
books |= {"Lloyd–Max": lloyd.fit(normal)}
show.show(
    show.nf4_plots.use(normal, books),
    alt="Three bar charts of how often each level is the nearest to a normal weight in a "
    "block of 64. int4: a steep hill, its middle level 14.6 %. NF4: a flat hill from 2 % "
    "at the ends to 9 %. Lloyd–Max lies between. A dashed line marks equal use.",
)

# %% [markdown]
# Flatter than int4, but not flat: 1.7 % to 9.2 %, where equal use is 6.25 %. Second, equal use is not least error. A level that is used
# seldom may prevent large errors. What makes the **squared error** least is known since Lloyd (1957) and Max (1960): each level is the
# *mean* of what is rounded to it, and each border lies half-way between levels. For the **absolute error** it is the *median*. Both are found by
# repeating the two steps in turn. We hold −1, 0 and 1, so that the absmax and zeros stay exact; only the others move.
#
# Beside them stand two 4-bit floats, each divided by its largest value. **E2M1** is lecture 02's e2m1, which hardware has: 0, 0.5, 1, 1.5, 2, 3, 4, 6, and a
# sign. **FP4** is bitsandbytes' own table, which differs from it in one level on each side: 0.0052 where E2M1 has 0.083.
# And **AF4** is Yoshida's answer to NF4, of which more below.

# %%
books = {"int4": INT4.levels, "FP4 (bitsandbytes)": FP4.levels, "E2M1": E2M1.levels}
books |= {"NF4": NF4.levels, "AF4": lloyd.abnormal_float(64).levels}
books |= {"least absolute": lloyd.least_absolute(64).levels}
books |= {"Lloyd–Max": lloyd.fit(normal)}
print(
    f"{'':<19}{'squared':>9}{'absolute':>10}   (expected error of a scaled weight, thousandths)"
)
for name, levels in books.items():
    squared, absolute = normal.error(levels), normal.error(levels, "absolute")
    print(f"{name:<19}{1e3 * squared:>9.3f}{1e3 * absolute:>10.2f}")

# %%
show.show(
    show.nf4_plots.level_rows(books),
    alt="Seven codebooks as rows of ticks. int4 is even. FP4 and E2M1 double their steps "
    "outward and differ only next to 0. NF4 and least absolute nearly agree, dense near "
    "0. AF4 has two ticks close to 0. Lloyd–Max spreads further outward.",
)

# %% [markdown]
# For normal weights in blocks of 64, NF4 is within 0.1 % of the least absolute error that a table with −1, 0 and 1 can have, and 9 % above the least
# squared error. So it is close to optimal in one sense, and by luck as much as by derivation: its quantiles know nothing of the
# block. In blocks of 4,096 it is 10 % above. And what does it cost to hold the three levels?

# %%
print(
    f"{'held':<10}{'squared':>9}{'absolute':>10}   (the least there can be, thousandths)"
)
for held in ((-1.0, 0.0, 1.0), (-1.0, 1.0), ()):
    errors = [
        1e3 * normal.error(lloyd.fit(normal, kind, fixed=held), kind)
        for kind in ("squared", "absolute")
    ]
    said = ", ".join(f"{level:g}" for level in held) or "none"
    print(f"{said:<10}{errors[0]:>9.3f}{errors[1]:>10.2f}")
large = lloyd.normal_blocks(4096)
ratio = large.error(NF4.levels, "absolute")
ratio /= large.error(lloyd.least_absolute(4096).levels, "absolute")
print(
    f"blocks of 4,096: NF4's absolute error is {ratio:.2f} times the least, with −1, 0 and 1 held"
)

# %% [markdown]
# Holding 0 costs 0.5 % of the absolute error, and ±1 another 0.3 %; of the squared error 1.3 % and 4 %. **AF4** pays more for its zero. Yoshida's table, which bitsandbytes
# carries, fits each side without it, the positive one as that of 16 levels and the negative one as that of 14; then 0 is inserted between
# them. It takes values from both neighbours, which were placed for a world without it: with 0 inserted the absolute error is
# larger than NF4's, 29.30 against 28.37 thousandths. `lloyd.abnormal_float` derives the table as `normal_float` derives NF4's:

# %%
table = sorted(functional.get_4bit_type("af4", device="cpu").tolist())
free = lloyd.fit(normal, "absolute", fixed=(-1.0, 1.0))
print("AF4, upper half  ", [round(level, 3) for level in table[8:]])
print("fitted without 0 ", [round(level, 3) for level in free[8:]])
most = max(abs(a - b) for a, b in zip(sorted(books["AF4"]), table, strict=True))
print(f"largest difference of ours from bitsandbytes' table: {most:.0e}")

# %% [markdown]
# ### What if?
#
# Choose a rule, the bits, and the size of the block. Where do levels move when blocks grow? Which rule wastes its outer levels? At how many bits
# does the choice matter most? Below stands the picture of the first state.

# %%
show.LevelExplorer()

# %%
show.show(
    show.LevelExplorer().figure(),
    alt="The density of normal weights divided by the absmax of their block of 64, and "
    "the sixteen levels of NF4 as lines, with stripes that show which values are "
    "rounded to which level: narrow near 0, wide at the ends.",
)

# %% [markdown]
# ## 8. At equal bits: NF4 against int4
#
# A codebook can win by better levels, or by smaller blocks: half the block costs more scales, and lowers the error (lecture 03). So compare at
# equal *effective* bits. Normal weights first, then a million of the course LM's. Scales count 16 bits here
# and their own rounding is left out.


# %%
def curve(x: torch.Tensor, codebook: Codebook) -> list[tuple[float, float, int]]:
    """Effective bits and SQNR of a codebook over block sizes."""
    points = []
    for size in (16, 32, 64, 128, 256):
        back = nf4.quantize(x, codebook, size).dequantize()
        points.append((4 + 16 / size, distortion.sqnr(x, back), size))
    return points


# %%
gauss = torch.randn(2**20, generator=torch.Generator().manual_seed(1))
data = {"normal": (gauss, lloyd.normal_blocks(64, power=2))}
data["course LM"] = weights[: 2**20], lloyd.blocks_of(weights, power=2)
curves = {}
print(f"SQNR, dB, in blocks of:{16:>14}{32:>7}{64:>7}{128:>7}{256:>7}")
books = {"int4": INT4, "FP4 (bitsandbytes)": FP4, "E2M1": E2M1, "NF4": NF4}
for name, (x, distribution) in data.items():
    books["Lloyd–Max"] = Codebook("Lloyd–Max", lloyd.fit(distribution))
    curves[name] = {book: curve(x, levels) for book, levels in books.items()}
    for book, points in curves[name].items():
        line = "".join(f"{sqnr:>7.2f}" for _, sqnr, _ in points)
        print(f"{name:<10} {book:<19}{line}")

# %%
show.show(
    show.nf4_plots.error_for_bits(curves["course LM"]),
    alt="SQNR over effective bits for the weights of the course LM, in blocks of 256 to 16. "
    "Five rising lines: FP4 lowest; E2M1 and int4, which cross between blocks of 64 and 32; NF4; "
    "Lloyd–Max above it by half a decibel at 16, and just below it at 256.",
)

# %% [markdown]
# Read the picture sideways: what NF4 reaches in blocks of 64, with 4.25 bits, int4 reaches between blocks of 32 and 16, with about half a bit more.
# E2M1 is better than int4 in blocks of 64 and larger ones, and worse in smaller ones; FP4, with its one level in another place, is a decibel or more
# below E2M1. (In the table of section 7 E2M1's squared error was above int4's: there all blocks count alike. Here a block counts by the square of its absmax, and where
# absmax is large the other weights lie nearer to 0.)
#
# Lloyd–Max is fitted to the squared error of the weights themselves, once for each of the two, in blocks of 64. There and in smaller blocks it
# is better still. In blocks of 256 NF4 is before it: a table suits one size of block. So why does
# everyone use NF4? One table serves all models, it needs no data, and what counts in the end is not the error of the weights.

# %% [markdown]
# ## 9. The exam as judge
#
# All methods of the lectures so far, on the course LM's whole exam, took some minutes and stand in a results file. Bits are those of the
# Linear layers, which are what is rounded; MB are those of the whole model.

# %%
from coursepkg import results

board = results.load("leaderboard")


def interval(values, digits):
    value, low, high = (f"{each:.{digits}f}" for each in values)
    return f"{value} [{low}, {high}]"


print(board)
print(f"{'':<32}{'MB':>7}{'bits':>7}  {'exam, %':<19}{'perplexity':<22}KL from fp32")
for row in board.rows:
    exam = interval([100 * value for value in row["exam"]], 1)
    perplexity = interval(row["perplexity"], 3 if row["perplexity"][0] < 10 else 0)
    sizes = f"{row['stored_bytes'] / 1e6:>7.3f}{row['effective_bits']:>7.3f}"
    print(
        f"{row['name']:<32}{sizes}  {exam:<19}{perplexity:<22}{interval(row['kl'], 5)}"
    )

# %% [markdown]
# The same of the 4-bit methods against fp32, paired: on the same questions, how many points more or less, and how many nats an answer more
# or less the right answers cost.

# %%
print(f"{'':<32}{'exam, points':<22}nats an answer")
for row in board.rows:
    if row["bits"] == 4:
        points = [100 * value for value in row["exam_against_first"]]
        said = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*points)
        nats = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*row["nats_against_first"])
        print(f"{row['name']:<32}{said:<22}{nats}")

# %%
show.show(
    show.nf4_plots.divergences(board.rows),
    alt="Left: KL divergence from fp32 over the stored size, logarithmic, from 2 bits at the "
    "upper left, over 3 bits and int4 per tensor, to int8 at the lower right. Right: the "
    "4-bit methods by name. Six variants of NF4, AF4, least absolute and Lloyd–Max lie "
    "at 1.8 to 2.0 thousandths, E2M1 at 2.5, int4 at 2.9 and 4.0, FP4 at 3.5.",
)

# %% [markdown]
# Read it with care. The **exam** hardly tells the 4-bit methods apart, except for int4 per tensor, nor does perplexity. Lloyd–Max answers 1.1 points
# *more* of the questions correctly than the unrounded model, paired on the same questions, and the interval, 0.6 to 1.7, leaves 0 out. That is not
# skill. One rounding is one throw of dice (lecture 03): the interval covers the questions, not the throw, and of eleven throws the luckiest looks
# like progress. Nor does rounding help in general: with Lloyd–Max the right answers cost 0.116 nats less than with fp32, with int4 in groups of 64
# 0.123 more, and both intervals leave 0 out.
#
# The **KL divergence** asks how far each prediction is from the unrounded model's, and there any change counts. By it NF4, AF4, least absolute and
# Lloyd–Max lie together, their intervals overlap. E2M1 is further away, int4 in groups of 64 more so, FP4 still more. From 3 bits down the exam,
# perplexity and KL give the same order. Two rows again, live, with the difference of the two on the same articles. NF4 has
# its scales in 8 bits here, so that it takes fewer bits than int4:

# %%
from dataclasses import replace

from coursepkg import courselm, evaluation

exam = courselm.exam()
short = replace(exam, questions=exam.questions[:100], free=(), texts=exam.texts[:40])
methods = [evaluation.Method("fp32", memory.FORMATS["fp32"], None)]
methods += [evaluation.stored_as(Blocks(double_quantized=True))]
methods += [evaluation.whole_numbers(4, 64)]
live = evaluation.leaderboard(model, tokenizer, short, methods)
for row in live.rows[1:]:
    print(
        f"{row.name:<22} {row.effective_bits:.3f} bits, KL {row.kl.nats:.4f} nats a token"
    )
further = live.kl_difference("int4, group of 64", "NF4 + DQ, block of 64")
print(f"int4 further by {further:+.4f} nats a token")

# %%
show.question("best_codebook")

# %% [markdown]
# ## 10. Storage that really falls
#
# So far the weights were rounded and stayed in fp32. `quantized_model.quantize_model` swaps each Linear for one that *stores* codes and scales and
# reads them back for each product. Embedding and head are left alone.

# %%
from coursepkg import quantized_model

small, _ = coursepkg.load_model(dtype=torch.float16)
before = quantized_model.stored_bytes(small)
names = quantized_model.quantize_model(small, Blocks(double_quantized=True))
after = quantized_model.stored_bytes(small)
print(
    f"{len(names)} layers; {before / 1e6:.3f} MB in fp16 -> {after / 1e6:.3f} MB stored"
)
print(small.model.layers[0].mlp.up_proj)

# %% [markdown]
# The file on disk is 0.5 % larger, for names and shapes, and what is loaded from it computes the same to the bit:

# %%
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    quantized_model.save(small, folder)
    size = (Path(folder) / quantized_model.TENSORS).stat().st_size
    loaded = quantized_model.load(folder)
ids = tokenizer(exam.texts[0], return_tensors="pt")["input_ids"][:, :16]
with torch.no_grad():
    same = torch.equal(loaded(ids).logits, small(ids).logits)
print(f"file {size / 1e6:.3f} MB, {size / after - 1:+.1%}; the same logits: {same}")

# %% [markdown]
# ## 11. Optional: the same arithmetic, five speeds
#
# Finding the nearest of sixteen levels is the same question in each of these. On a CPU the time goes into moving
# numbers between memory and the processor, and into instructions for one number at a time.
#
# | way | why it takes as long as it does |
# |---|---|
# | all 16 distances, then `argmin` | writes 16 numbers for each weight, twice, and reads them again |
# | `torch.bucketize` | moves little, but searches for each weight by itself; the processor guesses wrongly where that goes |
# | 15 comparisons, over the whole array | vectors of 16 (AVX-512) or 8 numbers at once, but 15 times through memory |
# | 15 comparisons, 32,768 weights at a time | the same, and the weights stay in the cache |
# | a table over a grid, 32,768 at a time | one look-up tells nearly everything, one comparison the rest: `nf4.nearest` |
#
# Here they are, and that they give the same codes. (The comparisons are summed in one byte a weight; in int64 they would move nearly
# four times as many bytes. And `argmin` rounds its distances: about one weight in ten million lies so near to a midpoint that it may
# take the other level.)

# %%
middles = NF4.midpoints


def comparisons(x: torch.Tensor) -> torch.Tensor:
    codes = torch.zeros(len(x), dtype=torch.uint8)
    for middle in middles:
        codes += x > middle
    return codes


# %%
x = torch.rand(100_000, generator=torch.Generator().manual_seed(2)) * 2 - 1
parts = x.split(nf4.CHUNK)
ways = {
    "16 distances, argmin": (x[:, None] - NF4.tensor).abs().argmin(1),
    "torch.bucketize": torch.bucketize(x, middles),
    "15 comparisons": comparisons(x),
    "15 comparisons, in chunks": torch.cat([comparisons(part) for part in parts]),
    "table, in chunks": torch.cat([nf4.nearest(part, NF4) for part in parts]),
}
for name, codes in ways.items():
    same = torch.equal(codes.long(), ways["torch.bucketize"])
    print(f"{name:<27}{len(x):,} codes, as bucketize's: {same}")

# %% [markdown]
# `python -m benchmarks.nearest` times them on your machine, in turns on the same array, in most of a minute. Elsewhere it gave, for one weight:

# %%
nearest = results.load("nearest")
print(nearest)
print(
    f"1 thread, {nearest.machine['vectors']}; nanoseconds a weight, [lowest, highest]"
)
for row in nearest.rows:
    median, low, high = (1e6 * ms / row["weights"] for ms in row["ms"])
    print(
        f"{row['weights']:>10,} weights  {row['name']:<26}{median:>6.1f} [{low:.1f}, {high:.1f}]"
    )

# %%
show.show(
    show.nf4_plots.nearest_times(nearest.rows),
    alt="Nanoseconds a weight, logarithmic, of the five ways, for 4 and for 34 million "
    "weights. argmin 84 and 113, bucketize 23 and 24, comparisons 7 and 21, comparisons in "
    "chunks 7 and 8, the table 2 and 3. Bytes moved: 268, 12, 151, 5, 5.",
)

# %% [markdown]
# The bytes are computed: what torch's operations read and write, one after the other. `argmin` moves 268 for each weight. `bucketize` moves 12, and its
# time goes into the search. The whole-array comparisons move 151, for each of the fifteen steps writes new arrays. While these are small, the
# allocator keeps their memory for the next step, and chunks gain nothing. With 34 million weights each array comes new from the operating system, page by page,
# and a weight takes three times as long; in chunks it does not. What is left then is the instructions: the table has one look-up and one
# comparison in the place of fifteen.
#
# `torch.compile` turns the comparisons into one loop: `coursepkg.compiled`. `python -m benchmarks.quantize` measures whole quantizers beside
# bitsandbytes, torchao and quanto.

# %% [markdown]
# ## Often misquoted

# %%
from coursepkg import claims

claims.check("001-nf4-levels", "001-nf4-mass", "000-nf4-optimal", "003-nf4-spacing")

# %% [markdown]
# ## Summary
#
# | codebook | its levels | best at |
# |---|---|---|
# | int$k$ | evenly spaced | uniform values; integer products |
# | E2M1 | a 4-bit float: two bits of exponent, one of mantissa | hardware that multiplies it (lecture 02); before int4 in blocks of 64 and more |
# | FP4 (bitsandbytes) | the same, but 0.0052 in the place of 0.083 | nothing here |
# | NF$k$ | quantiles of the normal distribution, from a tail offset, joined at 0 | normal weights in small blocks, one table for all |
# | least absolute | medians of their bins | the absolute error, for one block size |
# | AF4 | medians, each side fitted without 0; then 0 between | nothing here, in blocks of 64 |
# | Lloyd–Max | means of their bins | the squared error, for given weights |
#
# | stored for a block of 64 | bits a weight |
# |---|---|
# | codes | 4 |
# | fp32 absmax | 0.5 |
# | or 8-bit absmax, with an fp32 scale for each 256 | 0.127 |
#
# **Papers.** Dettmers et al. 2023, *QLoRA*, section 3 (NF4 and its equation 4, double quantization), appendix E (the table). Dettmers et al. 2022, *8-bit
# Optimizers via Block-wise Quantization*, section 2. Yoshida 2023, *NF4 Isn't Information Theoretically Optimal (and that's Good)*. Lloyd
# 1982, *Least Squares Quantization in PCM*. Max 1960, *Quantizing for Minimum Distortion*.
#
# **Now you:** [assignment 05](assignments/05_nf4.ipynb).
