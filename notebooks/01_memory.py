# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 01 · Memory
#
# [Open in Colab]({{ colab }}) · [Open in Binder]({{ binder }})
#
# **At the end you can** say before you start how many bytes a model needs: to run, to be finetuned in full, with LoRA,
# with QLoRA; name the part that decides; and tell which of the figures that people quote hold, and under which assumptions.
#
# **It builds on** lecture 00 and on knowing what a Linear layer is. **It takes** 60 minutes, and 20 more for the ledger at
# the end.
#
# Three kinds of bytes will appear, and it pays to keep them apart:
#
# - **nominal**: bits of a value × number of values;
# - **stored**: what is really written, with the scales that quantized values share, padding, and tables of levels;
# - **measured**: what a process or a device holds when it runs.
#
# GB is $10^9$ bytes, GiB is $2^{30}$ bytes. 1 GiB is 7.4 % more than 1 GB; we say which.

# %% tags=["nbval-ignore-output"]
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

import torch
from coursepkg import claims, memory, results, show, trials
from coursepkg.memory import measure

coursepkg.hello()

# %% [markdown]
# ## 1. A matrix small enough to count
#
# Take a 4 × 4 matrix. Its sixteen values in fp16 take $16 \cdot 16 / 8 = 32$ bytes. In 4 bits they take
# $16 \cdot 4 / 8 = 8$ bytes, *nominal*. But four bits are only a position on a ruler, 0 to 15. How long the ruler is must be
# stored too: the **scale**. If every block of eight values shares one scale in fp16, there are two scales,
# 4 more bytes: 12 bytes *stored*. Per value that is 6 bits, not 4.

# %%
values, bits, block_size, scale_bits = 16, 4, 8, 16
nominal = values * bits // 8
scales = values // block_size * scale_bits // 8
print(f"nominal {nominal} B, scales {scales} B, stored {nominal + scales} B")
effective = bits + scale_bits / block_size
print(f"effective bits: {bits} + {scale_bits}/{block_size} = {effective}")

# %% [markdown]
# The package says the same, for any shape. A `StorageFormat` is the bits of a value, the block that shares a scale, and the
# format of the scale.

# %%
toy = memory.StorageFormat("toy", bits=4, block_size=8, scale=memory.FORMATS["fp16"])
print("nominal  ", toy.nominal_bytes(4, 4), "B")
print("stored   ", toy.stored_bytes(4, 4), "B")
print("effective", toy.effective_bits(), "bits")
print("stored, 4 × 5:", toy.stored_bytes(4, 5), "B (a begun block needs a whole scale)")

# %% [markdown]
# Real formats have larger blocks. The scales of one format may be stored in another format, with scales of their own: that is
# all there is to **double quantization**. QLoRA's NF4 (4-bit NormalFloat, lecture 05) has one fp32 scale for every 64
# weights, the default of bitsandbytes. Double quantization stores these scales in 8 bits, with one fp32 scale for every 256 of *them*:
#
# $$4 + \frac{32}{64} = 4.5 \text{ bits} \qquad\longrightarrow\qquad
# 4 + \frac{8}{64} + \frac{32}{64 \cdot 256} = 4.127 \text{ bits}$$

# %%
for name in ("fp32", "bf16", "int8", "nf4", "nf4+dq", "int4-g128", "Q8_0", "Q4_K"):
    fmt = memory.FORMATS[name]
    effective = fmt.effective_bits()
    print(f"{name:<10} {fmt.bits:>2} bits nominal, {effective:7.4f} effective")
print("(int8 has a scale for each row of the matrix; rows of 4,096 weights here)")

# %%
show.question("scale_of_128")

# %% [markdown]
# ## 2. How many parameters are there?
#
# "7B" is a name, not a count. The count follows from the `config.json` that every checkpoint carries. By hand, for a model
# with vocabulary $V = 10$, width $h = 4$, MLP width $f = 8$, one layer, $n = 2$ query heads and $n_{kv} = 2$ key/value heads
# of width $d = 2$:
#
# | tensor | shape | count |
# |---|---|---|
# | embedding table | $V \times h$ | 40 |
# | q | $n d \times h$ | 16 |
# | k and v | two of $n_{kv} d \times h$ | 32 |
# | o | $h \times n d$ | 16 |
# | gate, up, down | three of $f \times h$ | 96 |
# | two norms in the layer, one after it | $3 \times h$ | 12 |
# | output head | $V \times h$ | 40 |
# | | | **252** |

# %%
config = {
    "model_type": "llama",
    "vocab_size": 10,
    "hidden_size": 4,
    "intermediate_size": 8,
}
config |= {"num_hidden_layers": 1, "num_attention_heads": 2}
tiny = memory.Architecture.from_config(config, "tiny")
for tensor in tiny.tensors:
    print(f"{tensor.name:<48} {tensor.shape!s:<10} {tensor.count:>3}  {tensor.role}")
print(tiny.parameters())

# %% [markdown]
# The same for real models. The last columns matter for quantization: bitsandbytes, GPTQ and AWQ quantize only the *Linear*
# layers of the decoder by default. Embeddings, head and norms stay in 16 bits. (GGUF files quantize the table too; lecture 08.) Where the head is **tied**, it is the embedding table, stored once.

# %%
models = [
    "gemma-3-270m",
    "qwen2.5-0.5b",
    "mistral-7b",
    "llama-2-7b",
    "llama-3.1-8b",
    "llama-2-70b",
    "llama-3.1-405b",
]
print(f"{'':<15} {'parameters':>16}  {'Linear':>6}  tied")
for name in models:
    arch = memory.architecture(name)
    share = arch.parameters("linear") / arch.parameters()
    tied = "yes" if arch.tied else "no"
    print(f"{name:<15} {arch.parameters():>16,}  {share:>6.1%}  {tied}")

# %%
show.show(
    show.memory_plots.parameter_shares(models),
    alt="Bars: the share of parameters in Linear layers grows from 37 % in Gemma 3 270M"
    " and 72 % in Qwen2.5 0.5B to 96 % in Llama-2-7B and 99 % in the largest "
    "models; the rest is embeddings and head.",
)

# %% [markdown]
# The smaller the model and the larger its vocabulary, the less there is to quantize. Of Gemma 3 270M, 168 of 268 million
# parameters are the embedding table. That is why four bits save it 27.7 % and not 75 %:

# %%
for fmt in ("bf16", "int8", "nf4+dq"):
    size = memory.weight_bytes("gemma-3-270m", fmt)
    saved = 1 - size / memory.weight_bytes("gemma-3-270m", "bf16")
    print(f"{fmt:<7} {size / memory.MB:6.1f} MB stored, {saved:5.1%} saved")

# %% [markdown]
# ## 3. Weights: from 3.5 GB to 3.87 GB
#
# "7B in 4 bits is 3.5 GB" is nominal, and for $7 \cdot 10^9$ weights. What Llama-2-7B stores in NF4 with double quantization:

# %%
arch = memory.architecture("llama-2-7b")
linear = arch.parameters("linear")
rest = arch.parameters() - linear
bits = memory.FORMATS["nf4+dq"].effective_bits()
stored = memory.weight_bytes("llama-2-7b", "nf4+dq")
print(f"{linear:>13,} Linear weights × {bits:.3f} bits: {linear * bits / 8e9:.2f} GB")
print(f"{rest:>13,} others         × 16    bits: {rest * 2 / 1e9:.2f} GB")
print(f"stored {memory.in_gb(stored)}")

# %%
show.show(
    show.memory_plots.stored_steps("llama-2-7b"),
    alt="Six bars in GB: 3.50 nominal for seven billion; 3.24 for the Linear weights "
    "alone; plus 0.10 for scales; plus 0.52 for embeddings, head and norms in 16 "
    "bits; 3.87 stored in all; 4.17 without double quantization.",
)

# %% [markdown]
# Three slips hide in the nominal figure: the count, the weights that stay in 16 bits, and the scales.

# %%
print(
    f"{(arch.parameters() - 7e9) * 4 / 8e9:+.2f} GB: there are fewer than 7·10⁹ weights"
)
print(f"{rest * (16 - 4) / 8e9:+.2f} GB: not all of them are in 4 bits")
print(f"{linear * (bits - 4) / 8e9:+.2f} GB: scales take space")
print(f"{stored / 1e9 - 3.5:+.2f} GB together, {stored / 3.5e9 - 1:+.1%}")

# %% [markdown]
# For Gemma 3 270M the same reckoning is too small by a factor of three. All formats for one model:

# %%
sixteen = memory.weight_bytes("llama-2-7b")
for name in ("fp32", "bf16", "int8", "int4-g128", "nf4", "nf4+dq"):
    size = memory.weight_bytes("llama-2-7b", name)
    gb, gib = memory.in_gb(size), memory.in_gib(size)
    print(f"{name:<10} {gb:>9}  {gib:>10}  {size / sixteen:.3f} of 16 bit")

# %%
show.question("left_in_16_bits")

# %% [markdown]
# ## 4. The KV cache
#
# To generate the next token, attention needs the keys and values of all tokens before it. They are kept:
#
# $$\text{bytes} = 2 \cdot L \cdot n_{kv} \cdot d \cdot T \cdot b \cdot e$$
#
# with 2 for key and value, $L$ layers, $n_{kv}$ key/value heads of width $d$, $T$ tokens, $b$ sequences, $e$ bytes a value.
# By hand for one token of Llama-2-7B in 16 bits: $2 \cdot 32 \cdot 32 \cdot 128 \cdot 1 \cdot 1 \cdot 2 = 524{,}288$ bytes,
# half a MiB. 2,048 tokens: 1 GiB.

# %%
by_hand = 2 * 32 * 32 * 128 * 1 * 1 * 2
print(by_hand, "=", memory.kv_cache_bytes("llama-2-7b", context=1))
contexts = (2048, 8192, 32768)
print(f"{'':<29}", *(f"{n:>10,}" for n in contexts), "tokens")
for name in ("llama-2-7b", "llama-3.1-8b", "mistral-7b", "gemma-3-1b", "llama-2-70b"):
    arch = memory.architecture(name)
    sizes = [memory.in_gb(memory.kv_cache_bytes(name, n)) for n in contexts]
    heads = f"{arch.num_kv_heads:>2} of {arch.num_heads:>2} heads"
    print(f"{name:<13} {heads} ", *(f"{size:>10}" for size in sizes))

# %% [markdown]
# Two ideas make it smaller, and both are in the formula. **Grouped-query attention** (GQA) lets several query heads share one
# key/value head: $n_{kv} < n$. A **sliding window** bounds $T$: Mistral-7B v0.1 looks back 4,096 tokens in every layer (v0.2 and
# v0.3 dropped the window), Gemma 3 512 or 1,024 in five layers of six. A third way is a smaller $e$: an 8-bit cache halves it. On
# logarithmic axes Mistral's line goes flat. (Llama-2 was trained for 4,096 tokens; beyond that its line is arithmetic only.)

# %%
show.show(
    show.memory_plots.cache_growth(
        ["llama-2-7b", "llama-2-70b", "llama-3.1-8b", "mistral-7b", "gemma-3-1b"],
        [2**n for n in range(9, 17)],
    ),
    alt="KV cache in GB over the context from 512 to 65,536 tokens, both axes "
    "logarithmic. Llama-2-7B is "
    "highest and reaches 34 GB; Llama-2-70B, with GQA, 21 GB; Llama-3.1-8B 8.6 GB. "
    "Mistral-7B stays flat at 0.5 GB from 4,096 tokens on. Gemma 3 1B is lowest.",
)

# %% [markdown]
# Llama-2-70B has ten times the parameters of Llama-2-7B and a *smaller* cache. The batch multiplies: a server with
# 32 conversations of 4,096 tokens on Llama-2-7B keeps 69 GB of cache beside 13.5 GB of weights. The activations below
# are those of reading all 32 prompts at once, about $e(4h + 3f)$ bytes a token; a server reads them in turns.

# %%
print(memory.inference("llama-2-7b", context=4096, batch=32))

# %% [markdown]
# ## 5. Training: gradients and optimizer states
#
# Full finetuning keeps, for each parameter, a gradient and the optimizer's states. Adam has two: a running mean of the
# gradient and one of its square. They are usually kept in fp32: lecture 02 will show how small updates vanish in 16 bits.
# The classic recipe of mixed precision also keeps an fp32 **master copy** of the weights (Micikevicius et al. 2018).
#
# | | bytes a parameter |
# |---|---|
# | weights, bf16 | 2 |
# | gradients, bf16 | 2 |
# | Adam, two fp32 moments | 4 + 4 |
# | fp32 master copy | 4, if kept |
# | **sum** | **12, or 16** |
#
# (With fp32 weights and the matrix products in bf16, as `bf16=True` of the transformers Trainer does, it is 4 + 4 + 8 = 16 as well.)

# %%
arch = memory.architecture("llama-2-7b")
for name in memory.OPTIMIZERS:
    states = memory.optimizer(name).state_bytes(arch.tensors, "bf16")
    each = states / arch.parameters()
    print(f"{name:<17} {memory.in_gb(states):>9}, {each:6.3f} bytes a parameter")

# %% [markdown]
# `adamw` is what `torch.optim.AdamW` does when it is given bf16 parameters: bf16 moments. `adamw-8bit` is bitsandbytes'
# block-wise 8-bit Adam (Dettmers et al. 2022): blocks of 256 (2,048 in the paper), one fp32 absmax each.
#
# You will read that training a 7B takes **66**, **84** or **112 GB**. All three start from $7 \cdot 10^9$. Which bytes does each
# forget?

# %%
sums = {
    "“66 GB”": {"weights": 14, "gradients": 14, "optimizer": 28, "activations": 10},
    "“84 GB”": {"weights": 14, "gradients": 14, "optimizer": 56},
    "112 GB": {"weights": 14, "gradients": 14, "optimizer": 56, "master copy": 28},
}
for name, parts in sums.items():
    print(
        f"{name:<9} = " + " + ".join(f"{size} {part}" for part, size in parts.items())
    )

# %%
show.show(
    show.memory_plots.training_sums(sums),
    alt="Three stacked bars. 66 GB counts one moment, 28 GB, and 10 GB of activations. "
    "84 GB counts both moments, 56 GB, and no activations. 112 GB adds a master "
    "copy of 28 GB.",
)

# %% [markdown]
# - **66** says "two moments in fp32" and counts one: 28 GB is *one* fp32 number for each parameter. (It would be two bf16 moments, the
#   `adamw` above.) It alone counts activations.
# - **84** has both moments, no master copy, and no activations. (One lecture calls its 56 GB "fp32 master + two fp32
#   moments"; that would be 84 GB by itself.)
# - **112** is the whole classic recipe, still without activations.
#
# The QLoRA paper's **more than 780 GB for 65B** matches the 84 of a larger model: 12 bytes for each of Llama-65B's parameters.

# %%
n = memory.architecture("llama-1-65b").parameters()
print(f"{n:,} × 12 B = {n * 12 / memory.GB:.0f} GB")

# %%
show.question("adam_states")

# %% [markdown]
# ## 6. Activations: what the backward needs
#
# The backward pass needs values from the forward pass. For $y = W x$ the gradient of $W$ is
# $\partial \ell / \partial y \cdot x^\top$ with the loss $\ell$, so $x$ must be kept; the gradient of $x$ is $W^\top \partial \ell / \partial y$, which needs
# $W$ only. If $W$ is *frozen*, nobody needs $x$. By hand: a Linear from 3 to 2 features on 5 tokens in fp32 keeps
# $5 \cdot 3 \cdot 4 = 60$ bytes. Autograd agrees, and keeps nothing for a frozen weight:

# %%
x = torch.ones(5, 3, requires_grad=True)
weight = torch.ones(2, 3, requires_grad=True)
frozen = torch.ones(2, 3)
for name, w in (("trained", weight), ("frozen", frozen)):
    print(
        name,
        measure.saved_for_backward(lambda w=w: (x @ w.T).sum(), besides=[w]),
        "bytes",
    )

# %% [markdown]
# Going through a decoder layer this way gives, for each token, with width $h$, MLP width $f$, $n$ query heads together $q = n d$ wide,
# key heads together $k = n_{kv} d$ wide, and $e$ bytes a value:
#
# - two norms: the input in fp32, the normalized input, and 4 bytes for the root mean square: $2(h(4 + e) + 4)$;
# - attention, with a fused kernel: the input of q, k and v; queries, keys, values and output; 4 bytes for each head:
#   $e(h + 2q + 2k) + 4n$;
# - the MLP: the input of gate and up; gate, its activation, up, and their product: $e(h + 4f)$.

# %%
arch = memory.architecture("llama-2-7b")
h, f, e = arch.hidden_size, arch.intermediate_size, 2
q, k = arch.query_size, arch.kv_size
by_hand = {
    "norms": 2 * (h * (4 + e) + 4),
    "attention": e * (h + 2 * q + 2 * k) + 4 * arch.num_heads,
    "mlp": e * (h + 4 * f),
}
print("by hand   ", sum(by_hand.values()), by_hand)
print("in package", sum(memory.layer_parts(arch).values()), memory.layer_parts(arch))

# %%
show.show(
    show.memory_plots.layer_parts("llama-2-7b"),
    alt="For each token and layer of Llama-2-7B, full finetuning keeps 187 kB, a little "
    "more than half of it in the MLP. LoRA on all seven Linears keeps 275 kB: less in "
    "norms, attention and MLP, but 143 kB for the adapters. LoRA on q and v keeps 165 kB.",
)

# %% [markdown]
# LoRA on all seven Linears, as peft sets it up, keeps *more* activations than full finetuning. The frozen Linears need no
# inputs, but every adapter does, and peft keeps adapters in fp32, so each makes its own fp32 copy of a bf16 input. With bf16 adapters
# (peft's `autocast_adapter_dtype=False`), or on q and v only, it keeps less. Either way LoRA's large saving is in gradients and
# states, not here. Llama-2-7B, one sequence of 2,048 tokens:

# %%
bf16 = memory.FORMATS["bf16"]
cases = {
    "full finetuning": None,
    "LoRA, all Linears, fp32 adapters": memory.Lora(16),
    "LoRA, all Linears, bf16 adapters": memory.Lora(16, adapter=bf16),
    "LoRA, q and v, fp32 adapters": memory.Lora(16, ("q_proj", "v_proj")),
}
for name, lora in cases.items():
    saved = memory.activations("llama-2-7b", length=2048, lora=lora).saved
    print(f"{name:<33} {memory.in_gb(saved):>8} saved")

# %% [markdown]
# What does save them is **activation checkpointing** (Chen et al. 2016; transformers calls it gradient checkpointing): keep only
# each layer's input, $e \cdot h$ bytes a token, and compute the layer again in the backward. And one part does not care how many
# layers there are: the logits. The loss is computed in fp32 over the whole vocabulary $V$, and at the start of the backward three
# tensors of $4V$ bytes a token are alive: log-probabilities and two gradients.
#
# Below, *saved* is what autograd holds when the forward pass is done. *Peak* is the larger of two moments: the loss's backward (all that
# is saved, and the two gradients), and the backward of one recomputed layer, when the logits are gone. Here it is the first.

# %%
for checkpointing in (False, True):
    found = memory.activations("llama-2-7b", length=2048, checkpointing=checkpointing)
    saved, peak = memory.in_gb(found.saved), memory.in_gb(found.peak)
    print(f"checkpointing {checkpointing!s:<5}  saved {saved:>8}, peak {peak:>8}")
for name in ("llama-2-7b", "llama-3.1-8b", "gemma-3-270m"):
    vocabulary = memory.architecture(name).vocab_size
    loss = memory.in_gb(12 * vocabulary * 2048)
    print(f"{name:<12}  V = {vocabulary:>7,}: the loss of 2,048 tokens takes {loss}")

# %%
show.show(
    show.memory_plots.activation_bars("llama-2-7b", 2048),
    alt="With everything kept, activations take 13.1 GB, nearly all in the layers. With"
    " checkpointing 1.4 GB: 0.5 GB of layer inputs, and the rest in the head and "
    "the loss.",
)

# %% [markdown]
# For Gemma 3 270M the loss alone takes 6.4 GB, twelve times the 16-bit weights. A figure such as "Gemma 3 270M trains in
# 13 GB" means nothing without the batch and the length.

# %% [markdown]
# ## 7. LoRA and QLoRA
#
# LoRA (Hu et al. 2021) freezes $W$ and adds $B A$ with $A$ of shape $(r, \text{in})$, $B$ of shape $(\text{out}, r)$:
# $r(\text{in} + \text{out})$ trainable parameters for each Linear. Only these have gradients and states.

# %%
all_linear = memory.Lora(16)
q_and_v = memory.Lora(16, ("q_proj", "v_proj"))
for name in ("llama-2-7b", "mistral-7b"):
    total = memory.architecture(name).parameters()
    for lora in (q_and_v, all_linear):
        n = lora.parameters(name)
        what = f"{name}, r=16 on {len(lora.targets)} Linears"
        print(f"{what:<31} {n:>11,} trainable, {n / total:.2%}")

# %% [markdown]
# (The update is scaled by $\alpha / r$; lecture 10.) What remains is the frozen 16-bit base. QLoRA (Dettmers et al. 2023) stores that in NF4
# with double quantization, and its optimizer is a paged 8-bit AdamW, where LoRA's below is the plain one. Four budgets, one
# model, one sequence of 2,048 tokens, checkpointing on. A dashed line is the memory that a device leaves to tensors: what its
# driver reports, less half a GiB for the device's own context.

# %%
options = {"length": 2048, "checkpointing": True}
budgets = {
    "QLoRA": memory.qlora("llama-2-7b", **options),
    "LoRA": memory.lora("llama-2-7b", **options),
    "full": memory.full_finetuning("llama-2-7b", **options),
    "full, master copy": memory.full_finetuning(
        "llama-2-7b", optim="adamw-master", **options
    ),
}
print(budgets["QLoRA"], budgets["LoRA"], sep="\n\n")

# %%
show.show(
    show.budget_bars(list(budgets.items())),
    alt="Stacked bars for Llama-2-7B: QLoRA 6.8 GB fits on an RTX 4060; LoRA 15.5 GB "
    "ends at a T4's line; full finetuning 82 GB just fits on an A100 80GB; with a master "
    "copy, 109 GB, it goes beyond every line drawn.",
)

# %% [markdown]
# LoRA on a T4 is too close to call: 0.1 GB to spare is less than a formula's error, and the allocator's fragmentation is not counted. (A T4
# would use fp16; the bytes are the same.)
#
# Look at QLoRA's weights: 4.39 GB, not 3.87. peft's `prepare_model_for_kbit_training` casts everything that is not quantized up
# to fp32, for stability. Embeddings and head double, and the residual stream with its activations becomes fp32 as well. The activations also hold one
# weight matrix, dequantized to 2 bytes a weight for its product.
#
# ### What if?
#
# Move the controls. Which batch still fits on a T4 with QLoRA? What does LoRA need without checkpointing? When does the cache
# outweigh the weights? Below it stands the picture of its first state, for pages that do not run.

# %%
show.Calculator()

# %%
show.show(
    show.Calculator().figure(),
    alt="The calculator's first state: stacked bars for Llama-2-7B at 2,048 tokens. "
    "Inference in NF4 takes 5.1 GB, QLoRA 6.8 GB (emphasised), LoRA 15.5 GB, full "
    "finetuning 82 GB, with a line for each device's memory.",
)

# %%
fits = memory.qlora("llama-2-7b", length=2048).fits_on()
gpus = [fit.device.name for fit in fits if fit.fits and fit.device.kind == "gpu"]
print("QLoRA fits on:", ", ".join(gpus))

# %% [markdown]
# And the three questions, for Llama-2-7B at 2,048 tokens:

# %%
t4 = memory.device("T4")
batches = [memory.qlora("llama-2-7b", 2048, batch) for batch in range(1, 33)]
fitting = [budget for budget in batches if budget.fits_on([t4])[0].fits]
print(f"QLoRA on a T4: batch {len(fitting)}, {memory.in_gb(fitting[-1].total)}")
kept = memory.lora("llama-2-7b", 2048, checkpointing=False).total
print(f"LoRA without checkpointing: {memory.in_gb(kept)}")
tokens = memory.weight_bytes("llama-2-7b") / memory.kv_cache_bytes("llama-2-7b", 1)
print(f"in 16 bits the cache outweighs the weights from {int(tokens) + 1:,} tokens on")

# %%
show.question("lora_65b")

# %% [markdown]
# ## 8. Held against real tensors
#
# A formula is a claim. So we hold it against real tensors: small models of transformers with random weights, quantized by
# bitsandbytes, adapted by peft, trained by real optimizers. Bytes are counted in storages, the blocks of memory behind tensors.
# *Measured here*, in the cell below:

# %%
rows = [trials.weights("llama", fmt) for fmt in ("bf16", "int8", "nf4", "nf4+dq")]
rows += [trials.kv_cache("llama", 3, 100), trials.kv_cache("gemma3", 3, 100)]
rows += [
    *trials.training_states("llama", "adamw"),
    trials.training_states("llama", "adamw-8bit")[1],
]
for family in ("llama", "gemma3"):
    for length in (48, 160):
        rows += [
            trials.saved_activations(family, "bf16", 1, length, checkpointing)
            for checkpointing in (False, True)
        ]
rows += [trials.saved_activations("llama", "bf16", 1, 160, False, memory.Lora(8))]
print(trials.table(rows))

# %% [markdown]
# Weights, caches, gradients and optimizer states agree to the byte. Activations agree within a percent or two; what the
# formula leaves out are small tables of the rotary embedding, which weigh more the smaller the model is.
#
# This table checks what is *kept*. Peaks (the loss's $12V$ bytes, recomputation, the dequantized matrix) are checked at this small size by
# the package's tests. For a 7B-shaped model they need a GPU: a script runs 16-bit inference, LoRA and QLoRA there and writes a results file, which is
# plotted here against the budgets once it has been measured:

# %%
found = results.load("device_memory")
print(found)
figure = show.memory_plots.device_rows(found) if found.measured else None
words = "Measured peaks over predicted ones in GB, a point for each method and length."
show.show(figure, alt=words) if figure else None

# %% [markdown]
# ## Often misquoted
#
# Figures from five lectures on the net, named by their titles, each with a verdict and the values that decide it, computed here from
# the expression beside them. **Weights first.**

# %%
claims.check("000-weights-7b", "000-gemma-16bit", "000-gemma-int4", "000-gemma-sizes")

# %%
claims.check("000-int4-4x", "000-70b", "002-gguf", "003-42-each", "003-gptq-disk")

# %%
claims.check("003-three-awq", "004-mistral-32-8", "004-int8-half")

# %% [markdown]
# **What fits where.**

# %%
claims.check("002-a100", "002-fits", "002-8gb", "003-70b-single", "003-84-a100")

# %% [markdown]
# **Scales and double quantization.**

# %%
claims.check("000-dq-65b", "001-dq-cost", "001-dq-saving")

# %%
claims.check("003-scale-bits", "003-q8-0", "003-dq-128")

# %% [markdown]
# **Cache and inference.**

# %%
claims.check("002-kv", "002-activations", "001-exercise-13b")

# %% [markdown]
# **Training.**

# %%
claims.check("000-training-66", "003-master", "003-70b-840", "000-gemma-training")

# %% [markdown]
# **LoRA and QLoRA.**

# %%
claims.check("000-lora-780", "000-lora-slightly", "003-lora-14.2", "003-lora-4096")

# %%
claims.check("003-20m", "001-trainable", "004-mistral-lora", "000-bf16-adapters")

# %%
claims.check("000-7b-on-12gb", "000-laptop-16", "000-gemma-qlora")

# %%
claims.check("001-5gb", "003-qlora-3.7", "003-65b-qlora")

# %% [markdown]
# ## Summary
#
# | part | bytes | shrinks with |
# |---|---|---|
# | weights | count × effective bits / 8, the rest in 16 bits | fewer bits; not below what stays in 16 bits |
# | KV cache | $2 L n_{kv} d \, T b e$ | GQA, windows, an 8-bit cache |
# | gradients | trainable count × 2 (or 4) | LoRA |
# | optimizer | 8 a trainable parameter for Adam, 12 with a master copy, 2 in 8 bits | LoRA, 8-bit states |
# | activations | layers × tokens × what a layer keeps, or its input only | checkpointing, shorter or fewer sequences |
# | the loss | 12 bytes × vocabulary × tokens | shorter or fewer sequences |
#
# **Papers.** Hu et al. 2021, *LoRA*, section 4. Dettmers et al. 2023, *QLoRA*, sections 1 and 3 (NF4, double quantization,
# paged optimizers). Dettmers et al. 2022, *8-bit Optimizers via Block-wise Quantization*, section 2. Micikevicius et al. 2018,
# *Mixed Precision Training*, section 3. Rajbhandari et al. 2020, *ZeRO*, section 3.1 (the 16 bytes). Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*, section 4. Korthikanti et al.
# 2022, *Reducing Activation Recomputation in Large Transformer Models*, section 4. Ainslie et al. 2023, *GQA*, section 2.
#
# **Now you:** [assignment 01](assignments/01_memory.ipynb).
