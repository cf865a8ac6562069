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

from statistics import NormalDist

import torch
from coursepkg import codebooks, distortion, lloyd, memory, nf4, show, surgery
from coursepkg.codebooks import FP4, INT4, NF4, Codebook
from coursepkg.weight_formats import Blocks

coursepkg.hello()

# %% [markdown]
# ## 1. A ruler with marks where you want them
#
# Until now codes were whole numbers: evenly spaced marks. But a code of 4 bits is only a place in a list, and the list may hold any
# sixteen numbers. Such a list is a **codebook**, its entries **levels**. Levels lie between −1 and 1, and each block of neighbouring
# weights is first divided by its **absmax**, the largest size in the block, so that it lies there too.
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
# the absmax of its block of 64, beside what normally distributed numbers give when they are treated in the same way:

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
# A bell, nearly a normal one. Few weights are near ±1, where evenly spaced levels wait for them in vain. That is the idea of **NF4**, "4-bit
# NormalFloat" (Dettmers et al. 2023, section 3): assume that weights are normal, and put the levels at **quantiles**, so that each is used
# equally often.
#
# ## 3. The formula that most pages give is not NF4
#
# The quantile $\Phi^{-1}(p)$ of the normal distribution is the number below which a share $p$ of the values lies. Sixteen equal shares,
# and in the middle of each a level: $\Phi^{-1}\big((i + \tfrac12)/16\big)$, divided by the largest. It is on many pages. Compare:

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
# 1. **Where to begin.** The outermost quantile cannot be $p = 1$: $\Phi^{-1}(1) = \infty$. With 15 equal shares the middle of the last
#    one is $1 - \frac{1}{30} = \frac{29}{30}$, with 16 it is $1 - \frac{1}{32} = \frac{31}{32}$. NF4 takes their mean, $0.9677083$.
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
# That is the published table, to the last digits of float32. The strips of the two sides differ in area, because they are 8 and 7:

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

sample = model.model.layers[2].mlp.up_proj.weight.detach()
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    x = sample.to(dtype)
    packed, state = functional.quantize_4bit(x, blocksize=64, quant_type="nf4")
    theirs = functional.dequantize_4bit(packed, state)
    made = nf4.quantize(x)
    same = torch.equal(made.packed, packed), torch.equal(made.absmax, state.absmax)
    print(
        f"{dtype!s:<15} codes, absmax: {same}, values:",
        torch.equal(made.dequantize(), theirs),
    )

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
# Half a bit of the 4.5 goes into scales. **Double quantization** (QLoRA, section 3) stores them in 8 bits, in three steps. Scales are all
# positive: take off their **mean**, so that a sign is of use. Take blocks of 256 scales, with an fp32 absmax each. And round to the nearest of 256
# levels: the **dynamic map**, whose levels are dense near 0, like those of a float. By hand for four scales and a block of four:

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
better = nf4.least_error(weights)
for name, made in (("NF4", plain), ("NF4 + DQ", dq), ("NF4 + DQ, refined", better)):
    error = distortion.relative_error(weights, made.dequantize())
    print(f"{name:<18} relative squared error {error:.6f}")

# %% [markdown]
# The third row stores as much as the second. bitsandbytes chooses codes for the exact absmax, and then reads them with the rounded one;
# `nf4.least_error` chooses codes for the scale that will be read, and takes of the neighbouring 8-bit scales the one with the least
# error.

# %%
show.question("dq_saves")

# %% [markdown]
# ## 7. Is it optimal?
#
# The paper calls NF4 "information-theoretically optimal" for normal weights: each level is used equally often, so no code is wasted. Two
# objections (Yoshida 2023). First, the levels are used equally often by *normal* values, and a block divided by its absmax does not hold
# normal values: one of them is always ±1, and how far the others spread depends on the size of the block.

# %%
used = normal.use(NF4.levels)
print("share of each level, %:", [round(100 * share, 1) for share in used.tolist()])
books = {"int4": INT4.levels, "NF4": NF4.levels}
books |= {"Lloyd–Max": lloyd.fit(normal)}
show.show(
    show.nf4_plots.use(normal, books),
    alt="Three bar charts of how often each level is the nearest to a normal weight in a "
    "block of 64. int4: a steep hill, its middle level 14 %. NF4: a flat hill from 2 % "
    "at the ends to 9 %. Lloyd–Max lies between.",
)

# %% [markdown]
# Flatter than int4, but not flat: 1.7 % to 9.2 %, where equal use is 6.25 %. Second, equal use is not least error. A level that is used
# seldom may prevent large errors. What makes the **squared error** least is known since Lloyd (1957) and Max (1960): each level is the
# *mean* of what is rounded to it, and each border lies half-way between levels. For the **absolute error** it is the *median*: so **AF4**
# is defined (Yoshida 2023). Both are found by doing the one and the other in turns.

# %%
af4 = lloyd.abnormal_float(64)
books = {"int4": INT4.levels, "FP4": FP4.levels, "NF4": NF4.levels}
books |= {"AF4": af4.levels, "Lloyd–Max": lloyd.fit(normal)}
print(
    f"{'':<10} {'squared':>9} {'absolute':>9}   (expected error of a scaled weight, thousandths)"
)
for name, levels in books.items():
    squared, absolute = normal.error(levels), normal.error(levels, "absolute")
    print(f"{name:<10} {1e3 * squared:>9.3f} {1e3 * absolute:>9.2f}")

# %%
show.show(
    show.nf4_plots.level_rows(books),
    alt="Five codebooks as rows of ticks. int4 is even. FP4 is coarse near 0 but for two "
    "ticks next to it. NF4 and AF4 are close to each other, dense near 0. Lloyd–Max "
    "spreads further outward.",
)

# %% [markdown]
# For normal weights in blocks of 64, NF4 is within 0.1 % of the least absolute error, and 9 % above the least squared error. So it is close to optimal
# in one sense, and by luck as much as by derivation: its quantiles know nothing of the block. In blocks of 4,096 it is 10 % above.
#
# (The table that bitsandbytes carries as AF4 is another. It was fitted with sixteen free levels, and then 0 was put between the two in the middle; its
# absolute error is larger than NF4's.)

# %%
table = tuple(sorted(functional.get_4bit_type("af4", device="cpu").tolist()))
print(f"bitsandbytes' AF4: {1e3 * normal.error(table, 'absolute'):.2f} thousandths")
free = lloyd.fit(normal, "absolute", fixed=(-1.0, 1.0))
print("its upper half  ", [round(level, 3) for level in table[8:]])
print("fitted without 0", [round(level, 3) for level in free[8:]])
large = lloyd.normal_blocks(4096)
ratio = large.error(NF4.levels, "absolute")
ratio /= large.error(lloyd.abnormal_float(4096).levels, "absolute")
print(f"blocks of 4,096: NF4's absolute error is {ratio:.2f} times AF4's")

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
lloyd_max = Codebook("Lloyd–Max", lloyd.fit(lloyd.blocks_of(weights, power=2)))
gauss = torch.randn(2**20, generator=torch.Generator().manual_seed(1))
curves = {}
for name, x in (("normal", gauss), ("course LM", weights[: 2**20])):
    curves[name] = {book.name: curve(x, book) for book in (INT4, FP4, NF4, lloyd_max)}
    line = {book: round(points[2][1], 2) for book, points in curves[name].items()}
    print(f"{name:<10} SQNR in blocks of 64, dB: {line}")

# %%
show.show(
    show.nf4_plots.error_for_bits(curves["course LM"]),
    alt="SQNR over effective bits for the weights of the course LM. Four rising lines: "
    "FP4 lowest, then int4, then NF4, and Lloyd–Max above it by up to half a decibel "
    "at small blocks. int4 comes nearer to NF4 the smaller the blocks are.",
)

# %% [markdown]
# Read the picture sideways: what NF4 reaches in blocks of 64, with 4.25 bits, int4 reaches between blocks of 32 and 16, with about half a bit more. And levels fitted to the
# squared error (with each block weighted by its absmax, so that it is the error of the weights themselves) are better still. So why does
# everyone use NF4? One table serves all models, it needs no data, and what counts in the end is not the error of the weights.

# %% [markdown]
# ## 9. The exam as judge
#
# All methods of the lectures so far, on the course LM's whole exam, took some minutes and stand in a results file:

# %%
from coursepkg import results

board = results.load("leaderboard")
print(board)
print(f"{'':<32}{'MB':>7}{'bits':>7}  {'exam, %':<19}{'perplexity':>10}  KL from fp32")
for row in board.rows:
    exam, low, high = (100 * value for value in row["exam"])
    kl = " ".join(f"{value:.4f}" for value in row["kl"])
    print(
        f"{row['name']:<32}{row['stored_bytes'] / 1e6:>7.3f}{row['effective_bits']:>7.3f}"
        f"  {exam:.1f} [{low:.1f}, {high:.1f}]  {row['perplexity'][0]:>10.3f}  {kl}"
    )

# %%
show.show(
    show.nf4_plots.divergences(board.rows),
    alt="KL divergence from fp32 over the stored size, logarithmic: from 2 bits at the "
    "upper left, over 3 and 4 bits, to int8 at the lower right. Among the 4-bit "
    "methods NF4, AF4 and Lloyd–Max lie below int4 and FP4; int4 per tensor far above.",
)

# %% [markdown]
# Read it with care. The **exam** hardly tells the 4-bit methods apart, nor does perplexity. Lloyd–Max answers one question in a hundred *more* rightly than
# the unrounded model. That is not skill: where this model errs it is very sure of itself, mostly in sums, and any noise loosens it; another rounding
# would have helped elsewhere. An interval over questions knows nothing of that. The **KL divergence** asks how far each prediction is
# from the unrounded model's, and there any change counts. By it NF4, AF4 and Lloyd–Max lie together; int4 in groups of 64 is further away, FP4
# more so. From 3 bits on every measure agrees. Two rows again, live, with the difference of the two on the same articles:

# %%
from dataclasses import replace

from coursepkg import courselm, evaluation

exam = courselm.exam()
short = replace(exam, questions=exam.questions[:100], free=(), texts=exam.texts[:40])
methods = [evaluation.Method("fp32", memory.FORMATS["fp32"], None)]
methods += [evaluation.stored_as(Blocks(NF4)), evaluation.whole_numbers(4, 64)]
live = evaluation.leaderboard(model, tokenizer, short, methods)
for row in live.rows[1:]:
    print(f"{row.name:<18} KL {row.kl.nats:.4f} nats a token")
further = live.kl_difference("int4, group of 64", "NF4, block of 64")
print(f"int4 further than NF4 by {further:+.4f} nats a token")

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
# The file on disk has that size, and what is loaded from it computes the same to the bit:

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
print(f"file {size / 1e6:.3f} MB; the same logits: {same}")

# %% [markdown]
# ## 11. Optional: the same arithmetic, five speeds
#
# Finding the nearest of sixteen levels is the same question in each of these, and each gives the same codes. On a CPU the time goes into moving
# numbers between memory and the processor, and into instructions for one number at a time.
#
# | way | why it takes as long as it does |
# |---|---|
# | all 16 distances, then `argmin` | writes 16 numbers for each weight, and reads them again |
# | `torch.bucketize` | a search for each weight by itself; the processor guesses wrongly where it goes |
# | 15 comparisons, over the whole matrix | vectors of 16 numbers at once, but 15 times through memory |
# | 15 comparisons, 32,768 weights at a time | the same, and the weights stay in the cache |
# | a table over a grid, 32,768 at a time | one look-up tells nearly everything, one comparison the rest: `nf4.nearest` |
#
# `torch.compile` turns the comparisons into one loop: `coursepkg.compiled`. `python -m benchmarks.quantize` measures them on your machine beside
# bitsandbytes, torchao and quanto. Here is that all five agree:

# %%
x = torch.rand(2**15, generator=torch.Generator().manual_seed(2)) * 2 - 1
middles = NF4.midpoints
ways = {
    "argmin": (x[:, None] - NF4.tensor).abs().argmin(1),
    "bucketize": torch.bucketize(x, middles),
    "comparisons": sum((x > middle).long() for middle in middles),
    "table": nf4.nearest(x, NF4),
}
for name, codes in ways.items():
    print(f"{name:<12} {(codes.long() == ways['bucketize']).all().item()}")

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
# | FP4 | a sign, two bits of exponent, one of mantissa | nothing here; other 4-bit floats have hardware (lecture 02) |
# | NF$k$ | quantiles of the normal distribution, from a tail offset, joined at 0 | normal weights in small blocks, one table for all |
# | AF4 | medians of their bins | the absolute error, for one block size |
# | Lloyd–Max | means of their bins | the squared error, for given weights |
#
# | stored for a block of 64 | bits a weight |
# |---|---|
# | codes | 4 |
# | fp32 absmax | 0.5 |
# | or 8-bit absmax, with an fp32 scale for each 256 | 0.127 |
#
# **Papers.** Dettmers et al. 2023, *QLoRA*, section 3 (NF4, double quantization), appendix E (the table). Dettmers et al. 2022, *8-bit
# Optimizers via Block-wise Quantization*, section 2. Yoshida 2023, *NF4 Isn't Information Theoretically Optimal (and that's Good)*. Lloyd
# 1982, *Least Squares Quantization in PCM*. Max 1960, *Quantizing for Minimum Distortion*.
#
# **Now you:** [assignment 05](assignments/05_nf4.ipynb).
