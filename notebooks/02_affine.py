# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 02 · Affine quantization
#
# [Open in Colab]({{ colab }}) · [Open in Binder]({{ binder }})
#
# **At the end you can** read a number off its bits, in fp16, bf16 and smaller formats; turn weights into whole numbers by hand, with a
# scale and with a zero-point in either convention; say how large the error can be, and how large it is on average; and choose between
# symmetric, asymmetric and clipped rulers, knowing what each costs a model.
#
# **It builds on** lecture 01, and on powers and logarithms of 2. **It takes** 70 minutes.
#
# A word on symbols: $w$ is a number before rounding, $q$ its **code**, the whole number that is stored, and $\hat w$ ("w hat") what is
# read back. The **error** is $\hat w - w$. The **size** of a number is its absolute value.

# %% tags=["nbval-ignore-output"]
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

import math
from dataclasses import replace

import torch
from coursepkg import affine, claims, courselm, distortion, evaluation, formats, show
from coursepkg.affine import Scheme
from coursepkg.surgery import linears
from coursepkg.weight_formats import Affine

coursepkg.hello()

# %% [markdown]
# ## 1. Where the bits of a number go
#
# Weights come in 16 bits. Before we take bits away, see what they do. A **floating-point** number has three fields: one bit for the
# **sign**, $E$ bits for the **exponent** $e$, and $M$ bits for the **mantissa** $m$. The last two are whole numbers, and together they mean
#
# $$\text{value} = (-1)^{\text{sign}} \cdot \left(1 + \frac{m}{2^M}\right) \cdot 2^{\,e - \text{bias}}
# \qquad\text{with}\qquad \text{bias} = 2^{E-1} - 1$$
#
# fp16 has $E = 5$ and $M = 10$, so its bias is 15. Two numbers by hand:
#
# - $0.15625 = 1.25 \cdot 2^{-3}$. So $e = -3 + 15 = 12$, in bits `01100`, and $m = 0.25 \cdot 1024 = 256$, `0100000000`. Nothing is lost.
# - $0.1 = 1.6 \cdot 2^{-4}$. So $e = 11$, `01011`, and $m = 0.6 \cdot 1024 = 614.4$. A field holds whole numbers only: 614, `1001100110`.

# %%
for number, lead, power in ((0.15625, 1.25, -3), (0.1, 1.6, -4)):
    e, m = power + 15, (lead - 1) * 1024
    back = (1 + round(m) / 1024) * 2.0**power
    print(f"{number:<8} e {e} = {e:05b}  m {m:g} -> {round(m)} = {round(m):010b}")
    print(f"{'':<8} stands for {back}, error {back - number:+.7f}")

# %% [markdown]
# In the package a format is an object. It encodes, decodes, and prints its bits. torch rounds 0.1 to the same value:

# %%
for number in (0.15625, 0.1):
    print(formats.FP16.bit_pattern(number), " ", formats.FP16.round(number))
print("torch:", torch.tensor(0.1, dtype=torch.float16).item())

# %% [markdown]
# Two exponent fields are special.
#
# - **All zeros**: the leading 1 is dropped, and the exponent is that of field 1: $\frac{m}{2^M} \cdot 2^{\,1 - \text{bias}}$. These
#   **subnormals** fill the gap down to 0, evenly. In fp16 the smallest is $2^{-24}$. Zero itself is the one with $m = 0$.
# - **All ones**: infinity ($m = 0$) and NaN, "not a number". Small formats cannot spare that many codes. In e4m3 (4 exponent bits, 3
#   mantissa bits) only the very last code is NaN, and e2m1, the fp4 of this course, has neither.

# %%
for pattern in ("0 00000 0000000001", "0 00001 0000000000", "0 11110 1111111111"):
    print(f"fp16  {pattern}  {formats.FP16.from_bit_pattern(pattern):.6g}")
for pattern in ("0 1111 110", "0 1111 111"):
    print(f"e4m3  {pattern}          {formats.E4M3.from_bit_pattern(pattern):.6g}")
print("e2m1 ", [x for x in formats.E2M1.values().tolist() if x >= 0])

# %% [markdown]
# The formats that you will meet, *computed*. **Epsilon** is the distance from 1 to the next larger value. tf32 is what some GPUs multiply
# fp32 matrices in; it has 19 bits but takes 32. Ternary numbers carry $\log_2 3 = 1.585$ bits of information and are stored in 2 or a little less.

# %%
print(f"{'':<17}{'largest':>11}{'normal from':>13}{'smallest':>11}{'epsilon':>11}")
for name in "fp32 tf32 fp16 bf16 e5m2 e4m3 e2m1 int8 int4 ternary".split():
    one = formats.number_format(name)
    fields = "+".join(map(str, one.fields))
    print(
        f"{name:<8}{fields:<9}{one.largest:>11.5g}{one.smallest_normal:>13.2g}"
        f"{one.smallest_subnormal:>11.2g}{one.epsilon:>11.3g}"
    )

# %% [markdown]
# fp16 and bf16 split the same 16 bits differently. fp16 is eight times as fine, with epsilon 0.00098 against 0.0078, and ends at
# 65,504. bf16 has fp32's exponent and reaches $3.4 \cdot 10^{38}$.
#
# Where do the values lie? A tick for each one between $2^{-5}$ and 512; the count of ticks stands at the right:

# %%
show.show(
    show.affine_plots.format_values(["int4", "e2m1", "int8", "e5m2", "e4m3"]),
    alt="Ticks on a logarithmic axis. int4 has 1 to 7; e2m1 0.5, 1, 1.5, 2, 3, 4, 6; "
    "int8's 127 values crowd together towards 127. The floats e5m2 and e4m3 are "
    "spread evenly over the whole axis, e4m3 twice as densely.",
)

# %% [markdown]
# On this axis floats are spread evenly: their steps double with every power of two. Whole numbers have the same step everywhere, so they
# crowd at the top. A float keeps the *relative* error about constant, a whole number the *absolute* error. The distance from each value
# to the next shows the same; the flat part at a float's lower end are its subnormals:

# %%
show.show(
    show.affine_plots.spacings(["fp32", "bf16", "fp16", "e4m3", "e5m2", "int8"]),
    alt="Distance to the next value over the size of the value, both axes logarithmic. "
    "Each float is a staircase that rises with the size; fp32 lies lowest, then fp16, "
    "bf16, e4m3, e5m2. fp16, e4m3 and e5m2 begin with a flat part. int8 is flat at 1.",
)

# %% [markdown]
# ### What if a bit turns over?
#
# Choose a format and type a number, or click a bit. Can you make the largest e4m3? The smallest fp16? What is left of 0.1 in bf16, in
# e2m1? Which bit of fp16 may turn over and hardly anyone notices, and which one is a disaster? Below it stands the picture of its first state.

# %%
show.BitExplorer()

# %%
show.show(
    show.BitExplorer().figure(),
    alt="The bits of 0.1 in fp16, coloured by field: sign 0, exponent 01011, mantissa "
    "1001100110, which is (1 + 614/1024) times 2 to the −4. Below, 0.1 lies between "
    "0.099975586, to which it is rounded, and 0.10003662.",
)

# %% [markdown]
# 0.1 in fp16 with one bit turned over:

# %%
code = formats.FP16.encode(0.1)
for place, what in (
    (0, "last mantissa"),
    (9, "first mantissa"),
    (14, "first exponent"),
):
    print(f"{what:<14} bit: {formats.FP16.decode(code ^ (1 << place)):.6g}")

# %% [markdown]
# ### Why small updates vanish in 16 bits
#
# Lecture 01 kept Adam's states and a master copy of the weights in fp32, and promised a reason. Take a bf16 weight of 1.0 and add 0.003.
# bf16 has 7 mantissa bits: after 1 comes $1 + 1/128 = 1.0078$, and half way there lies 1.0039. 1.003 is below that, so it is rounded back to 1.
#
# In bits it is even plainer, for bf16 is the first half of fp32's 32 bits. Cut after 16 bits and look at the **rest**, a number below
# $2^{16}$. If it is less than half of that, $2^{15}$, it is dropped. If it is more, 1 is added to what was kept (a carry may run into the
# exponent, and that is right). If it is exactly half, 1 is added only if the last kept bit is 1, which then becomes 0: **ties to even**.

# %%
bits = formats.FP32.bit_pattern(1.003).replace(" ", "")
rest = int(bits[16:], 2)
print("1.003 in fp32:", bits[0], bits[1:9], bits[9:16], "|", bits[16:])
print(f"the rest is {rest:,}, and half of 2^16 is {2**15:,}: dropped")
print("1.003 in bf16:", formats.BF16.bit_pattern(1.003), "=", formats.BF16.round(1.003))

# %% [markdown]
# Do it a thousand times. The sum should be 4.

# %%
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    weight = torch.tensor(1.0, dtype=dtype)
    for _ in range(1000):
        weight += 0.003
    print(f"{str(dtype):<15} {weight.item():.4f}")
down = torch.tensor(1.0, dtype=torch.bfloat16) - 0.003
print(f"but 1 - 0.003 in bf16 is {down.item():.4f}: below 1 the steps are half as long")

# %% [markdown]
# fp16 moves, but not by 0.003: each sum is rounded to its values, which lie 0.00098 apart below 2 and 0.0039 apart above 4. So the step is
# 0.0029 at first and 0.0039 later. An Adam step changes each weight by about the learning rate. How many of the course LM's weights would not
# move at all? *Measured here*:

# %%
model, tokenizer = coursepkg.load_model()
weights = {name: layer.weight.detach() for name, layer in linears(model)}
every = torch.cat([weight.flatten() for weight in weights.values()])
print(
    f"{every.numel():,} weights in {len(weights)} Linear layers; the share that stays:"
)
for step in (1e-3, 1e-4, 1e-5):
    still = [
        ((every.to(dtype) + step).to(dtype) == every.to(dtype)).double().mean().item()
        for dtype in (torch.float16, torch.bfloat16)
    ]
    print(f"a step of {step:g}: fp16 {still[0]:6.1%}, bf16 {still[1]:6.1%}")

# %% [markdown]
# With a learning rate of $10^{-4}$, two thirds of the weights in bf16 would stand still. That is what the fp32 copy is for.

# %%
show.question("bf16_updates")

# %% [markdown]
# ### Small floats share a scale
#
# Four bits of e2m1 reach from 0.5 to 6, and no weight lives there. So small floats come in **blocks** with a common scale. **MXFP4** gives 32
# neighbours a scale that is a power of two (8 bits, called e8m0): $4 + 8/32 = 4.25$ bits a value. **NVFP4** gives 16 neighbours an e4m3 scale: 4.5
# bits, and one fp32 scale for the whole tensor.
#
# By hand: the largest of a block is 7. e2m1's top values start at $4 = 2^2$, and $\lfloor\log_2 7\rfloor = 2$, so MXFP4's scale is
# $2^{2-2} = 1$. The ruler ends at 6, and 7 is cut to 6. A scale with a mantissa can fit better, $7/6$:

# %%
block = torch.tensor([7.0, 3.4, 0.6, -1.2] + [0.0] * 28)
mx = formats.MXFP4.dequantize(*formats.MXFP4.quantize(block))
nv = formats.NVFP4.dequantize(*formats.NVFP4.quantize(block))
print("block", [f"{x:.2f}" for x in block[:4].tolist()])
print("MXFP4", [f"{x:.2f}" for x in mx[:4].tolist()])
print("NVFP4", [f"{x:.2f}" for x in nv[:4].tolist()])

# %% [markdown]
# How good are they? The measure is explained in section 4; more is better, and 6 dB are worth one bit. On the course LM's weights, beside
# plain 4-bit whole numbers (section 2) with one fp16 scale for the same blocks:


# %%
def decibels(rounded):
    """SQNR over all weights; `rounded` takes a weight and returns what is read back."""
    back = torch.cat([rounded(weight).flatten() for weight in weights.values()])
    return distortion.sqnr(every, back)


for one, size in ((formats.MXFP4, 32), (formats.NVFP4, 16)):
    whole = Scheme(4, granularity=size, scale_dtype=torch.float16)
    small = decibels(lambda w, one=one: one.dequantize(*one.quantize(w)))
    plain = decibels(lambda w, whole=whole: affine.quantize(w, whole).dequantize())
    print(f"{one.name.upper()}  {one.effective_bits:.2f} bits {small:5.1f} dB")
    print(f"int4   {4 + 16 / size:.2f} bits {plain:5.1f} dB, blocks of {size}")

# %% [markdown]
# At the same 4.5 bits, NVFP4 is half a decibel ahead of whole numbers in blocks of 32. MXFP4 saves a quarter of a bit, worth 1.5 dB, and loses 1.3: about even.

# %% [markdown]
# ## 2. Rounding to whole numbers
#
# From here on a code is a whole number, and one **scale** $s$ says what a step of 1 is worth. Four weights, four bits. The code of the largest
# shall be 7, so $s = 1.05/7 = 0.15$; a weight's code is $q = \text{round}(w/s)$, and it is read back as $\hat w = s \cdot q$:

# %%
numbers = [0.23, -0.71, 0.02, 1.05]
s = max(abs(w) for w in numbers) / 7
for w in numbers:
    q = round(w / s)
    back = q * s
    print(f"{w:5.2f} / {s:.2f} = {w / s:6.3f}", end=", ")
    print(f"code {q:2d}, back {back:5.2f}, error {back - w:+.3f}")
print(f"half a step is {s / 2:.3f}")

# %% [markdown]
# Rounding goes to the nearest tick, so no error is larger than half a step, $s/2 = 0.075$. The package says the same:

# %%
quantized = affine.quantize(torch.tensor(numbers), Scheme(bits=4))
print("codes", quantized.codes.tolist(), quantized.codes.dtype)
print("scale", round(quantized.scale.item(), 4))
print("back ", [round(x, 2) for x in quantized.dequantize().tolist()])

# %%
show.show(
    show.affine_plots.snapped(torch.tensor(numbers), Scheme(4, granularity="tensor")),
    alt="A ruler with ticks −7 to 7, 0.15 apart. Arrows lead from 0.23 to tick 2, from "
    "−0.71 to −5, from 0.02 to 0, and from 1.05 to 7.",
)

# %% [markdown]
# With eight bits the steps are 17 times as short. A range from −0.5 to 0.5 with 255 steps has $s = 1/255 = 0.0039$. By hand for $w = 0.12$:
# $0.12 \cdot 255 = 30.6$, so $q = 31$ and $\hat w = 31/255 = 0.1216$. The error, 0.0016, is below $s/2 = 0.0020$.

# %%
s = 1 / 255
q = round(0.12 / s)
print(f"code {q}, back {q * s:.6f}, error {q * s - 0.12:.6f}, half a step {s / 2:.6f}")

# %% [markdown]
# And on real weights? Each row of each of the course LM's 42 matrices has its own scale here ("per channel"; lecture 03 asks how many weights should
# share one). The largest error of all, in half steps:

# %%
for bits in (8, 4, 2):
    worst = 0.0
    for weight in weights.values():
        made = affine.quantize(weight, Scheme(bits))
        error = (made.dequantize() - weight).abs() / (made.scale / 2)
        worst = max(worst, error.max().item())
    print(f"{bits} bits: the largest error is {worst:.3f} half steps")

# %% [markdown]
# The bound holds for every weight, and is reached. What practice takes from this: the step alone decides how bad rounding can get, and the
# step is set by the *largest* value.
#
# ### What if?
#
# Move the value and see it snap. Then change the range: what happens to the step? Put the value beyond the range. Try 2 bits, and 8. The
# kinds of rulers are the next section. Below it stands the picture of its first state.

# %%
show.NumberLine()

# %%
show.show(
    show.NumberLine().figure(),
    alt="A symmetric 4-bit ruler for the range −0.71 to 1.05, with ticks from −1.05 to "
    "1.05. The value 0.23 snaps to code 2. A bar below shows the error: +0.07, a "
    "little less than half a step.",
)

# %%
show.question("largest_error")

# %% [markdown]
# ## 3. Symmetric and asymmetric
#
# So far 0 had code 0, and the ruler reached equally far to both sides: **symmetric** quantization. If the values do not, half of the ruler may lie
# where nothing is. An **asymmetric** ruler runs from the least value to the largest, its codes from 0 to $2^b - 1$ for $b$ bits. Then you must store where it
# starts. There are two ways to write that down, and textbooks mix them:
#
# | | code | read back | stored beside $s$ |
# |---|---|---|---|
# | real offset $z$ | $q = \text{round}\left((w - z)/s\right)$ | $\hat w = s \cdot q + z$ | $z$, a real number: the value of code 0 |
# | integer zero-point $Z$ | $q = \text{round}(w/s) + Z$ | $\hat w = s \cdot (q - Z)$ | $Z$, a whole number: the code of value 0 |
#
# In both, $q$ is then **clamped** to $0 \dots 2^b - 1$: what is less becomes 0, what is more $2^b - 1$. By hand for the range −0.24 to 0.96 in 4 bits: $s = 1.2/15 = 0.08$, $z = -0.24$,
# $Z = \text{round}(0.24/0.08) = 3$.

# %%
s, z, zero_point = 0.08, -0.24, 3
for w in (0.30, -0.17, 0.0):
    q = round((w - z) / s)
    print(f"{w:5.2f}  offset:     code {q:2d}, back {s * q + z:5.2f}")
    q = round(w / s) + zero_point
    print(f"{'':5}  zero-point: code {q:2d}, back {s * (q - zero_point):5.2f}")

# %% [markdown]
# It is the same map: $s(q - Z) = s q + z$ with $z = -s Z$. Ten thousand numbers through the package:

# %%
torch.manual_seed(0)
x = torch.rand(10_000) * 1.2 - 0.24
one = affine.quantize(x, Scheme(4, "integer", granularity="tensor"))
offset = affine.offset(one.scale, one.zero_point)
other = affine.encode(x, one.scale, offset, Scheme(4, "real", granularity="tensor"))
apart = (affine.decode(other, one.scale, offset) - one.dequantize()).abs().max()
print("zero-point", one.zero_point.item(), "= offset", round(offset.item(), 3))
print("codes that differ:", (other != one.codes).sum().item())
print(f"values differ by at most {apart.item():.0e}")

# %% [markdown]
# (The last digits are float32's. At an exact tie the two may choose differently, for adding an odd $Z$ changes which code is even.)
#
# A third spelling moves all codes down by $2^{b-1}$, so that they fit a signed integer, $-8 \dots 7$ for 4 bits. The
# zero-point moves with them, $Z - 8$, and nothing else changes: $(q - 8) - (Z - 8) = q - Z$.
#
# **Where they do differ** is in what the range may be. With an integer zero-point, 0 must be a tick: so the range is widened until it holds 0, and $Z$ is
# rounded to a whole number, which shifts the ruler by half a step at most. In return 0 is read back as exactly 0, and
# padding, pruned weights and the zeros behind a ReLU stay zeros. A real offset starts anywhere. Values between 10 and 11:

# %%
x = torch.tensor([10, 10.25, 10.4, 10.75, 11])
for kind in ("integer", "real"):
    made = affine.quantize(x, Scheme(4, kind, granularity="tensor"))
    error = (made.dequantize() - x).abs().max().item()
    print(f"{kind:<8} step {made.scale.item():.3f}, codes {made.codes.tolist()}")
    start = made.zero_point.item()
    print(f"{'':<8} Z or z: {start}, largest error {error:.3f}")

# %% [markdown]
# ### Half of the codes wasted
#
# What a ReLU lets through is never negative. A symmetric ruler spends half of its codes below 0, where nothing is:

# %%
torch.manual_seed(0)
activations = torch.randn(4096).relu()
rulers = {
    "symmetric": Scheme(4, granularity="tensor"),
    "asymmetric": Scheme(4, "integer", granularity="tensor"),
}
for name, scheme in rulers.items():
    made = affine.quantize(activations, scheme)
    used, step = made.codes.unique().numel(), made.scale.item()
    found = distortion.sqnr(activations, made.dequantize())
    print(f"{name:<10}  {used:>2} codes used, step {step:.3f}, {found:.1f} dB")

# %%
show.show(
    show.affine_plots.two_rulers(activations, rulers),
    alt="A histogram of values from 0 to about 4, with none below 0. Under it the "
    "symmetric ruler reaches from −4 to 4, half of it where there are no values; the "
    "asymmetric one has its 16 ticks from 0 to 4.",
)

# %% [markdown]
# More than twice as many codes in the same place: a little more than one bit, 6 dB. (Its sixteenth code stands in a gap of the tail.) Weights are another matter: a row of weights lies around 0, so there is less to win. We will
# measure it in section 7.
#
# ### −7 to 7, or −8 to 7?
#
# Four bits have 16 codes, and a symmetric ruler with as many ticks on both sides uses 15. A widely read lecture says "−8 to 7" and divides by 7: then −8 never
# occurs. Three ways for our four weights; the second is `full_range=True`, which GPTQ uses too:


# %%
def by_hand(step, lowest, highest):
    codes = [max(lowest, min(highest, round(w / step))) for w in numbers]
    worst = max(abs(q * step - w) for q, w in zip(codes, numbers, strict=True))
    print(f"step {step:.5f}, codes {codes}, largest error {worst / step:.2f} steps")


by_hand(1.05 / 7, -7, 7)
by_hand(1.05 / 7.5, -8, 7)  # the largest value lies half a step beyond the ruler
by_hand(1.05 / 8, -8, 7)  # here it lies a whole step beyond, and is cut
full = Scheme(4, granularity="tensor", full_range=True)
print("package:", affine.quantize(torch.tensor(numbers), full).codes.tolist())

# %% [markdown]
# The second keeps the bound of half a step, with steps shorter by a fifteenth. How much is that worth? On 64 rows of 4,096 Gaussian numbers:

# %%
torch.manual_seed(0)
gaussian = torch.randn(64, 4096)
for bits in (8, 4, 3, 2):
    two = [
        distortion.sqnr(gaussian, affine.quantize(gaussian, scheme).dequantize())
        for scheme in (Scheme(bits), Scheme(bits, full_range=True))
    ]
    print(f"{bits} bits: {two[0]:5.1f} dB, full range {two[1]:5.1f} dB")

# %% [markdown]
# Nothing at 8 bits; at 2 bits, where the codes are −1, 0, 1 or −2, −1, 0, 1, a good deal.

# %%
show.question("int4_codes")

# %% [markdown]
# ## 4. How large is the error?
#
# At most half a step. On average less. If values are spread evenly between two ticks, the error is spread evenly between $-s/2$ and $s/2$, and
# its mean square is $s^2/12$. By hand for five errors $-0.4s, -0.2s, 0, 0.2s, 0.4s$: their mean square is $0.4 s^2/5 = 0.08 s^2$, near $s^2/12 = 0.083 s^2$.
#
# Errors count in relation to the values. The **signal-to-quantization-noise ratio** (SQNR) is the mean square of the values over that of
# the errors, on a logarithmic scale, in decibels (dB):
#
# $$\text{SQNR} = 10 \log_{10} \frac{\overline{w^2}}{\overline{(\hat w - w)^2}}$$
#
# Take values spread evenly from $-A$ to $A$, and $N$ steps of $s = 2A/N$. Then $\overline{w^2} = A^2/3 = N^2 s^2/12$, so the ratio is $N^2$ and
# the SQNR is $20 \log_{10} N$. One bit more doubles $N$: **6.02 dB a bit**.

# %%
torch.manual_seed(0)
uniform = torch.rand(64, 4096) * 2 - 1
print("bits    N    s²/12      measured   20·log10 N   measured")
for bits in (8, 4, 3, 2):
    scheme = Scheme(bits)
    made = affine.quantize(uniform, scheme)
    back, n = made.dequantize(), scheme.steps
    said = (made.scale**2 / 12).mean().item()
    found, ratio = distortion.mse(uniform, back), distortion.sqnr(uniform, back)
    print(f"{bits:>3}   {n:>4.0f}   {said:.2e}   {found:.2e}", end="   ")
    print(f"{20 * math.log10(n):>6.2f} dB    {ratio:6.2f} dB")

# %% [markdown]
# The estimates agree within half a percent. ($N$ is 254, 14, 6, 2 and not $2^b$: fifteen ticks have fourteen steps between them. That is why the first
# bits are worth more than 6 dB each.)
#
# Real values are not spread evenly. Most lie near 0, and the ruler must still reach the largest. Let $\sigma$ be the root of the mean square. With
# $s = 2A/N$ and the same $s^2/12$,
#
# $$\text{SQNR} = 20 \log_{10} N + 4.77 - 20 \log_{10} \frac{A}{\sigma}$$
#
# What matters is how many $\sigma$ the largest value is away: 1.73 for evenly spread values, which gives back $20 \log_{10} N$.

# %%
data = {"uniform": [uniform], "Gaussian": [gaussian], "course LM": weights.values()}
lines = {"6.02 dB a bit": [20 * math.log10(2**bits) for bits in range(2, 9)]}
for name, rows in data.items():
    reach = torch.cat([x.abs().amax(1) / x.square().mean(1).sqrt() for x in rows])
    lines[name] = []
    for bits in range(2, 9):
        back = [affine.quantize(x, Scheme(bits)).dequantize().flatten() for x in rows]
        flat = torch.cat([x.flatten() for x in rows])
        lines[name].append(distortion.sqnr(flat, torch.cat(back)))
    shown = " ".join(f"{value:5.1f}" for value in lines[name])
    print(f"{name:<9} largest {reach.mean():.2f} σ; 2 to 8 bits: {shown} dB")

# %%
show.show(
    show.affine_plots.sqnr_lines(range(2, 9), lines),
    alt="SQNR over the bits, 2 to 8. The dashed line rises by 6.02 dB a bit to 48. "
    "Uniform data meet it from 5 bits on; the course LM and Gaussian data run 6 and "
    "7 dB below, and at 2 bits fall to 2 and 1 dB.",
)

# %% [markdown]
# Six and seven dB lower: about one bit is spent on reaching the largest value. The slope is the same, 6 dB a bit, down to 4 bits. At 2 bits the ticks
# are $-A$, 0 and $A$, nearly every value is rounded to 0, and the error is as large as the value. There $s^2/12$ no longer describes it.
#
# The longer a row, the larger its largest value. The course LM's rows have 256 or 768 weights, a 7B model's 4,096 and more. So a scale for
# fewer weights reaches less far: that is lecture 03. The other way to shorten the ruler is to let the largest value stick out.

# %%
show.question("one_bit_less")

# %% [markdown]
# ## 5. Clipping
#
# A ruler need not reach the largest value. What lies beyond gets the code at its end, with an error of all that sticks out; the other values gain shorter
# steps. By hand, seven values and 2 bits, codes −1, 0, 1: with the limit 1.3, the largest, six values are rounded to 0. With the limit
# 0.5 the largest is cut to 0.5, and the six are close:


# %%
def parts(limit, highest):
    """Squared errors of the values within the limit, and of those beyond."""
    inside = beyond = 0.0
    for w in (0.5, -0.4, 0.6, -0.5, 0.4, -0.6, 1.3):
        code = max(-highest, min(highest, round(w / (limit / highest))))
        error = (code * limit / highest - w) ** 2
        inside, beyond = (
            inside + error * (abs(w) <= limit),
            beyond + error * (abs(w) > limit),
        )
    return f"rounding {inside:.5f} + clipping {beyond:.5f} = {inside + beyond:.5f}"


for bits, highest in ((2, 1), (8, 127)):
    for limit in (1.3, 0.5):
        print(f"{bits} bits, limit {limit}: {parts(limit, highest)}")

# %% [markdown]
# At 2 bits the cut more than halves the error. At 8 bits it is a disaster: the steps were short already, and 0.66 is lost to save 0.00004.
# Three rules for the limit: **absmax**, the largest size; a **percentile** of the sizes, here 99.9 %; and **least error**, which tries limits at 1 %, 2 %, …
# 100 % of the largest and keeps that of the least squared error. On the 64 rows of Gaussian numbers, each row with its own limit:

# %%
limits = {"none": [], "percentile": [], "mse": []}
print("bits   absmax             99.9 %             least error")
for bits in (8, 4, 3, 2):
    line = f"{bits:>3}  "
    for rule in limits:
        scheme = Scheme(bits, clipping=rule)
        made = affine.quantize(gaussian, scheme)
        limit = (made.scale * scheme.code_range[1]).mean().item()
        limits[rule].append(limit)
        found = distortion.sqnr(gaussian, made.dequantize())
        line += f"  {limit:.2f} σ, {found:5.1f} dB "
    print(line)

# %%
names = {"none": "absmax", "percentile": "99.9 %", "mse": "least error"}
show.show(
    show.affine_plots.clipping_curves(
        gaussian, [8, 4, 3, 2], {names[rule]: limit for rule, limit in limits.items()}
    ),
    alt="Four panels, 8, 4, 3 and 2 bits: squared error over the clipping limit. The "
    "rounding part rises with the limit, the clipping part falls steeply. Their sum is "
    "least at 3.7 sigma for 8 bits, near absmax; at 2.5 for 4 bits, 2 for 3 bits and "
    "1.2 for 2 bits.",
)

# %% [markdown]
# At 8 bits the best limit is nearly the largest value: 0.2 dB are all there is to gain, and the percentile, good advice for 4 bits, costs 3.7. At 4 bits clipping gains
# 2.8 dB, almost half a bit; at 2 bits 6.4. The fewer the bits, the shorter the best ruler. But "at 8 bits clipping gains nothing" holds for rows such as these. With a
# quarter of a million values on one ruler, the largest lies further out, and 8 bits gain a decibel, too:

# %%
torch.manual_seed(0)
long = torch.randn(1, 2**18)
for rule in ("none", "mse"):
    found = affine.quantize(long, Scheme(8, clipping=rule))
    limit, ratio = found.scale.item() * 127, distortion.sqnr(long, found.dequantize())
    print(f"{2**18:,} values, 8 bits, {names[rule]:<11}: {limit:.2f} σ, {ratio:.1f} dB")

# %%
show.question("clip_8_bits")

# %% [markdown]
# ## 6. Traps
#
# **Half goes to even.** `torch.round`, numpy and Python round 0.5 to 0 and 2.5 to 2. School rounds half up, and then many ties move an average. Compare codes only with a
# library that breaks ties as you do.

# %%
ties = torch.tensor([0.5, 1.5, 2.5, 3.5])
print(
    "sum",
    ties.sum().item(),
    "to even",
    ties.round().tolist(),
    ties.round().sum().item(),
)
print("half up", (ties + 0.5).floor().tolist(), (ties + 0.5).floor().sum().item())

# %% [markdown]
# **Clamp before you cast.** In section 2 the range −0.5 to 0.5 had $s = 1/255$. Its end is $0.5/s = 127.5$, which goes to the even 128, one more than int8
# holds. Without a clamp the largest weight becomes the most negative. int8 also has no +128 for its −128, and codes in uint8 minus a zero-point wrap around, too:

# %%
code = torch.tensor(0.5 * 255).round().to(torch.int16)
print("0.5 has code", code.item(), "and as int8", code.to(torch.int8).item())
print("clamped", code.clamp(-128, 127).to(torch.int8).item(), "->", round(127 / 255, 4))
print("abs(−128) in int8:", torch.tensor(-128, dtype=torch.int8).abs().item())
codes = torch.tensor([1, 3, 15], dtype=torch.uint8)
print(
    "uint8 codes − 3:",
    (codes - 3).tolist(),
    "and as float:",
    (codes.float() - 3).tolist(),
)

# %% [markdown]
# **Constants, and ranges without 0.** One of the five lectures prints a function for rounding to nearest. Its formulas, in our words:
# $s = (\max - \min)/(2^b - 1)$, $Z = \text{round}(-\min/s)$, $q = \text{clamp}(\text{round}(w/s + Z))$. Nothing widens the range, and nothing guards $s = 0$:


# %%
def as_printed(x, bits=8):
    step = (x.max() - x.min()) / (2**bits - 1)
    zero = torch.round(-x.min() / step)
    return step * (
        torch.clamp(torch.round(x / step + zero), 0, 2**bits - 1) - zero
    ), zero


for values in ([0.5, 0.5, 0.5], [10.0, 10.3, 11.0]):
    back, zero = as_printed(torch.tensor(values))
    shown = [round(x, 3) for x in back.tolist()]
    print(f"{values}: zero-point {zero.item():.0f}, back {shown}")
stored = zero.long().to(torch.uint8)
print(
    "stored in 8 bits:",
    stored.item(),
    [round(x, 3) for x in (back + 1 / 255 * (zero - stored)).tolist()],
)

# %% [markdown]
# A constant tensor comes back as NaN. From 10 to 11 the values are right as long as the zero-point is −2,550. A file has 8 bits for it, 0 to 255, and what is left of it there is 10: all values
# are off by ten. The package widens the range, or stores a real offset:

# %%
for values in ([0.5, 0.5, 0.5], [10.0, 10.3, 11.0]):
    for kind in ("integer", "real"):
        made = affine.quantize(torch.tensor(values), Scheme(8, kind))
        back = [round(x, 3) for x in made.dequantize().tolist()]
        print(f"{kind:<8} Z or z: {made.zero_point.item():g}, back {back}")

# %% [markdown]
# Widening has its price: of 255 steps it leaves 23 for the range from 10 to 11. Where values lie far from 0, a real offset is the better choice.
# A tensor of zeros gets scale 1 and codes 0; infinities and NaN are refused with a message.
#
# **One outlier.** A fifth weight of 8.4 joins our four. It sets the step for all, and the others fall to 0 and ±1. This is what lectures 03 and 04 are about:

# %%
with_outlier = torch.tensor([*numbers, 8.4])
made = affine.quantize(with_outlier, Scheme(4))
print("step", round(made.scale.item(), 2), "codes", made.codes.tolist())
print("back", [round(x, 2) for x in made.dequantize().tolist()])

# %%
show.question("relu_codes")

# %% [markdown]
# ## 7. What it costs a model
#
# Now all of it on the course LM: every Linear layer, a scale for each row, 8 to 2 bits, four kinds of rulers. Beside the SQNR of the weights stands what happens to the
# predictions. The **KL divergence** compares two predictions of the next token, $p$ of the model and $\hat p$ of its rounded copy: the mean of $\ln(p/\hat p)$, weighted with
# $p$, in nats. It is 0 where nothing has changed, and it sees finer differences than an exam. In brackets its 95 % interval over the texts.

# %%
kinds = {
    "symmetric": {},
    "asymmetric": {"zero_point": "integer"},
    "symmetric, clipped": {"clipping": "mse"},
    "asymmetric, clipped": {"zero_point": "integer", "clipping": "mse"},
}
pieces = evaluation.documents(tokenizer, courselm.exam().texts[:24])
found, copies = {name: [] for name in kinds}, {}
for bits in (8, 4, 3, 2):
    for name, options in kinds.items():
        method = evaluation.stored_as(Affine(Scheme(bits, **options)))
        made = copies[bits, name] = evaluation.rounding.quantized(model, method)
        found[name].append(evaluation.divergence(made, model, pieces))
        back = torch.cat(
            [layer.weight.detach().flatten() for _, layer in linears(made)]
        )
        kl = found[name][-1].nats
        said = f"{kl:.2g}" if kl.low > 1e-4 else "below 0.0001"
        sqnr = distortion.sqnr(every, back)
        print(f"{bits} bits {name:<20} {sqnr:5.1f} dB  KL {said}")

# %%
show.show(
    show.affine_plots.divergences(
        (8, 4, 3, 2), {name: [each.nats for each in row] for name, row in found.items()}
    ),
    alt="KL divergence over the bits, logarithmic: 0.00001 nats at 8 bits for all four "
    "rulers, a few thousandths at 4, a few hundredths at 3. At 2 bits they part: "
    "6 nats symmetric, 1.1 asymmetric, 0.5 and 0.2 with clipping.",
)

# %% [markdown]
# At 8 bits the kind of ruler does not matter: the predictions hardly change at all. A zero-point for each row gains 0.8 dB there, 1.4 dB at 4 bits (rows are not quite even around 0), and
# 3 dB at 2 bits, where it also gives a fourth code. There the ruler decides whether there is a model. The exam says so in plain words, on 150 questions (chance is 25 %):

# %%
part = replace(
    courselm.exam(), questions=courselm.exam().questions[:150], free=(), texts=()
)
plain = evaluation.take(model, tokenizer, part)
print(f"not rounded                 {plain.accuracy:.0%}")
for name in ("symmetric", "asymmetric", "asymmetric, clipped"):
    marks = evaluation.take(copies[2, name], tokenizer, part)
    print(f"2 bits, {name:<19} {marks.accuracy:.0%}")

# %% [markdown]
# ### A result that should not be
#
# Look at 4 bits again. Clipping brings the weights *nearer* to what they were, 18.6 dB against 17.0, and the predictions move *further away*. Is that chance? Both copies read the same
# texts, so they can be compared text by text:

# %%
nowhere, everywhere = found["symmetric"][1], found["symmetric, clipped"][1]
print(f"4 bits, KL with clipping less that without: {everywhere.less(nowhere):+.2g}")

# %% [markdown]
# The whole interval lies above 0: it is no chance. Section 5 seems to be wrong. What happened?
#
# A weight does its work in a product. So look at the error of a layer's *output*, $\lVert (\hat W - W) x \rVert^2 / \lVert W x \rVert^2$ over real inputs $x$, beside that of
# its weights:

# %%
inputs = {name: [] for name in weights}
hooks = [
    layer.register_forward_hook(
        lambda layer, given, out, name=name: inputs[name].append(given[0][0])
    )
    for name, layer in linears(model)
]
with torch.inference_mode():
    for piece in pieces[:20]:
        model(torch.tensor([piece.tokens]))
for hook in hooks:
    hook.remove()
inputs = {name: torch.cat(found) for name, found in inputs.items()}
print(f"{len(inputs['model.layers.0.mlp.down_proj']):,} tokens read")


# %%
def errors(name, scheme):
    """Relative squared error of a layer's weights, and of its outputs."""
    weight, x = weights[name], inputs[name]
    back = affine.quantize(weight, scheme).dequantize()
    outputs = distortion.relative_error(x @ weight.T, x @ back.T)
    return torch.tensor([distortion.relative_error(weight, back), outputs])


# %%
print("mean of six layers    weights: absmax  clipped     outputs: absmax  clipped")
for kind in "q k v o gate up down".split():
    same = [name for name in weights if name.endswith(f".{kind}_proj")]
    before = torch.stack([errors(name, Scheme(4)) for name in same]).mean(0)
    after = torch.stack(
        [errors(name, Scheme(4, clipping="mse")) for name in same]
    ).mean(0)
    shown = [f"{100 * e:7.2f} %" for e in (before[0], after[0], before[1], after[1])]
    print(f"{kind + '_proj':<26}{shown[0]} {shown[1]}         {shown[2]} {shown[3]}")

# %% [markdown]
# In six kinds of layers the outputs get better with the weights. In `down_proj` the weights get better and the outputs worse. Here is the last one, a point for
# each of its 768 input features:

# %%
name = "model.layers.5.mlp.down_proj"
before, after = errors(name, Scheme(4)), errors(name, Scheme(4, clipping="mse"))
print(f"outputs: error {before[1]:.2%}, clipped {after[1]:.2%}")
size, largest = inputs[name].square().mean(0).sqrt(), weights[name].abs().amax(0)
long = largest > 0.75
print(f"{long.sum()} of {len(long)} columns have a weight above 0.75.")
print(f"median input there {size[long].median():.1f}, of all {size.median():.1f}")

# %%
worst = size.argmax().item()
show.show(
    show.affine_plots.columns(size, largest, {worst: f"feature {worst}"}),
    alt="One point for each input feature. Most have inputs around 2 and weights up to "
    "0.4. The 15 features whose columns hold weights above 0.75 stand to the right of "
    "the crowd: large weights meet large inputs.",
)

# %% [markdown]
# The largest weights sit where the inputs are large. Clipping cuts exactly those weights, and each cut is multiplied by a large input. The least error of the *weights* took all
# of them to be equally important. They are not. Clip everywhere but in `down_proj`:

# %%
made = evaluation.rounding.quantized(
    model, evaluation.stored_as(Affine(Scheme(4, clipping="mse")))
)
with torch.no_grad():
    for name, layer in linears(made):
        if name.endswith("down_proj"):
            layer.weight.copy_(affine.quantize(weights[name], Scheme(4)).dequantize())
more = evaluation.documents(tokenizer, courselm.exam().texts[:60])
three = {
    "nowhere": copies[4, "symmetric"],
    "everywhere": copies[4, "symmetric, clipped"],
    "not in down_proj": made,
}
three = {name: evaluation.divergence(one, model, more) for name, one in three.items()}
for name, one in three.items():
    apart = one.less(three["nowhere"])
    print(f"clipped {name:<17} KL {one.nats.value:.4f}", end="; ")
    print(f"more than nowhere: between {apart.low:+.4f} and {apart.high:+.4f}")

# %% [markdown]
# The harm is gone: it sat in `down_proj`. Whether clipping the other six kinds gains anything cannot be told from these 60 texts; the interval of the difference reaches to both
# sides of 0. At 3 and 2 bits, where rounding errors are larger than all this, clipping wins.
#
# What this means in practice: a smaller error of the weights is a hint, not a promise. Judge a method by outputs, and by the model. Inputs with
# outliers are lecture 04; rounding that minds the inputs is GPTQ (06) and AWQ (07).

# %% [markdown]
# ## Often misquoted
#
# What five lectures on the net say about the subject of this one, each with a verdict and values computed from the expression beside them. **Formats.**

# %%
claims.check("001-fp16-range", "001-bf16-range", "003-fp16-values")

# %% [markdown]
# **Worked examples.**

# %%
claims.check("000-012", "000-real-offset", "003-four-codes")

# %%
claims.check("003-minus-8", "003-relu", "003-always-symmetric")

# %% [markdown]
# **Formulas.**

# %%
claims.check("001-int8-absmax", "001-int4-minmax", "001-norm-bound")

# %%
claims.check("002-rtn-code", "002-asymmetric")

# %% [markdown]
# ## Summary
#
# | | | |
# |---|---|---|
# | float | $(-1)^{\text{sign}} (1 + m/2^M)\, 2^{e - \text{bias}}$ | steps grow with the size; subnormals near 0 |
# | symmetric | $q = \text{round}(w/s)$, $s = A/(2^{b-1} - 1)$ | one number to store; weights |
# | real offset | $q = \text{round}((w - z)/s)$, $s = (\max - \min)/(2^b - 1)$ | any range |
# | integer zero-point | $q = \text{round}(w/s) + Z$, $z = -sZ$ | the range holds 0, and 0 stays 0 |
# | error | at most $s/2$ within the ruler, mean square $s^2/12$ | 6.02 dB a bit, less what reaching the largest value costs |
# | clipping | shorter steps against what is cut | from 4 bits down; not for what meets large inputs |
#
# **Papers.** Jacob et al. 2018, *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*, section 2.1
# (the integer zero-point). Nagel et al. 2021, *A White Paper on Neural Network Quantization*, section 2. Bennett 1948, *Spectra of Quantized
# Signals* ($s^2/12$). IEEE 754-2019, sections 3.3, 3.4 and 4.3.1. Micikevicius et al. 2022, *FP8 Formats for Deep Learning*, table 1. OCP *Microscaling
# Formats (MX)* v1.0, sections 5 and 6.3. NVIDIA 2025, *Pretraining Large Language Models with NVFP4*, section 2 and appendix C. Micikevicius et al. 2018, *Mixed
# Precision Training*, section 3 (the fp32 master copy).
#
# **Now you:** [assignment 02](assignments/02_affine.ipynb).
