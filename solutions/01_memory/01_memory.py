# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Assignment 01: memory
#
# Seven functions and one written answer, about 90 minutes. Everything you need is in lecture 01 and in the text of the exercises.
#
# **How it works.** Each exercise has a cell for your code and, below it, a cell that checks it. The checks call your
# function, and where something is off they say what they called, what came back, what was expected, and give a hint.
# Run them as often as you like. They do not try every rule in the text: when you hand in, the same functions are called
# with other inputs as well, so write the rule and not the example.
# Keep the line `# grade_id: …` at the top of a cell: it says which exercise the cell answers.
#
# **Rules.** Plain Python is enough. The exercises ask you to write what `coursepkg.memory` does, so an answer that calls
# that package, or copies a function of it, is refused. Exercises do not depend on each other: if one resists, go on with the next.
#
# **Units.** All sizes are *bytes*, as whole numbers (`int`). GB is $10^9$ bytes, GiB is $2^{30}$ bytes.

# %%
try:
    import coursepkg
except ModuleNotFoundError:
    # %pip install -q "{{ install }}"
    import coursepkg

from math import ceil

from coursepkg import check, memory
from coursepkg.check import case

coursepkg.hello()

# %% [markdown]
# ## 1. What a tensor takes in a block format (3 points)
#
# A format stores each value in `bits` bits. If it is a block format, every `block_size` consecutive values share one
# scale of `scale_bits` bits. The last block may be shorter: it stores only the values it has, and still needs a whole scale.
# Values are packed without gaps, and so are scales; all values together, and all scales together, are each rounded up to
# whole bytes.
#
# Write `stored_bytes`. `block_size=None` means that there are no scales.


# %% solution="stored_bytes"
def stored_bytes(
    count: int, bits: int, block_size: int | None = None, scale_bits: int = 32
) -> int:
    """Bytes that `count` values take, with their scales.

    >>> stored_bytes(1000, 16)
    2000
    >>> stored_bytes(128, 4, block_size=64, scale_bits=32)   # 64 B and 2 scales of 4 B
    72
    """
    ### BEGIN SOLUTION
    value_bytes = ceil(count * bits / 8)
    if block_size is None:
        return value_bytes
    blocks = ceil(count / block_size)
    return value_bytes + ceil(blocks * scale_bits / 8)
    ### END SOLUTION


# %% test="stored_bytes" points=3
from math import ceil

from coursepkg import check, memory
from coursepkg.check import case

check.function(
    stored_bytes,
    [
        case(1000, 16, expected=2000, label="no scales", hint="Eight bits are one byte."),
        case(128, 4, block_size=64, scale_bits=32, expected=72,
             label="two whole blocks", hint="One scale for each block."),
        case(100, 4, block_size=64, scale_bits=16, expected=54,
             label="a short last block",
             hint="Round the number of blocks up, but do not pad the values."),
    ],
    without=[memory],
)
### BEGIN HIDDEN TESTS
check.hidden(
    stored_bytes,
    [
        case(7, 4, expected=memory.StorageFormat("a", 4).stored_bytes(7),
             label="an odd number of 4-bit values",
             hint="Half a byte cannot be stored: round up to whole bytes."),
        case(4096 * 11008, 4, block_size=64,
             expected=4096 * 11008 // 2 + 4096 * 11008 // 64 * 4,
             label="a large matrix, default scale", hint="The default scale has 32 bits."),
        case(65, 3, block_size=64, scale_bits=16, expected=ceil(65 * 3 / 8) + 4,
             label="3 bits, one value more than a block",
             hint="The last, short block needs a whole scale."),
        case(256, 8, block_size=256, scale_bits=16, expected=258,
             label="8 bits, exactly one block", hint="One block has one scale, not two."),
        case(3, 2, block_size=64, scale_bits=8, expected=2,
             label="fewer values than a block", hint="Even a short block has a scale."),
        case(192, 4, block_size=64, scale_bits=4, expected=98,
             label="scales of half a byte",
             hint="Scales are packed too: add up their bits, then round up to bytes."),
    ],
    without=[memory],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. Effective bits, with double quantization (3 points)
#
# How many bits does a weight take, with its share of the scales, in a tensor so large that short blocks do not matter?
# With double quantization the scales are themselves stored in few bits (`scale_bits`), and every `scale_block_size` of
# *them* share one second-level scale of `second_scale_bits` bits.


# %% solution="effective_bits"
def effective_bits(
    bits: int,
    block_size: int,
    scale_bits: int,
    scale_block_size: int | None = None,
    second_scale_bits: int = 32,
) -> float:
    """Bits for each weight, scales included.

    >>> effective_bits(4, 64, 32)          # NF4 as it comes
    4.5
    >>> effective_bits(8, 32, 16)          # llama.cpp's Q8_0
    8.5
    """
    ### BEGIN SOLUTION
    per_scale = scale_bits
    if scale_block_size is not None:
        per_scale += second_scale_bits / scale_block_size
    return bits + per_scale / block_size
    ### END SOLUTION


# %% test="effective_bits" points=3
from coursepkg import check, memory
from coursepkg.check import case

check.function(
    effective_bits,
    [
        case(4, 64, 32, expected=4.5, label="NF4", hint="A block of 64 weights shares 32 bits."),
        case(4, 128, 16, expected=4.125,
             label="fp16 scale for each 128", hint="16/128 of a bit, not 0.8."),
        case(4, 64, 8, scale_block_size=256, expected=4.126953125,
             label="NF4 with double quantization",
             hint="A second-level scale serves 256 scales, so 64 · 256 weights; do not round."),
    ],
    without=[memory],
)
### BEGIN HIDDEN TESTS
check.hidden(
    effective_bits,
    [
        case(3, 16, 6, scale_block_size=16, second_scale_bits=16, expected=3.4375,
             label="two levels, a 16-bit second scale",
             hint="Use second_scale_bits; it is not always 32."),
        case(2, 16, 8, scale_block_size=16, expected=2.625,
             label="two levels, small blocks",
             hint="The second-level scale is shared by scale_block_size scales."),
        case(8, 32, 16, expected=8.5, label="8 bits", hint="One level only."),
        case(4, 32, 8, scale_block_size=64, second_scale_bits=16,
             expected=4 + 8 / 32 + 16 / (32 * 64),
             label="other block sizes", hint="Both block sizes are arguments."),
    ],
    without=[memory],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. Counting parameters from a config.json (4 points)
#
# Count the parameters of a Llama-style model from its config, a `dict` with the keys of its `config.json`:
# `vocab_size`, `hidden_size`, `intermediate_size`, `num_hidden_layers`, `num_attention_heads`, and perhaps
#
# - `num_key_value_heads` (left out: as many as query heads),
# - `head_dim` (left out: `hidden_size // num_attention_heads`),
# - `tie_word_embeddings` (left out: `False`; if `True`, the output head *is* the embedding table and counts once).
#
# A decoder layer has seven Linear layers without biases and two RMSNorms of `hidden_size` weights. After the last layer comes
# one more norm, then the head. With $h$ = `hidden_size`, $f$ = `intermediate_size`, $n$ query heads and $n_{kv}$ key/value heads of
# width $d$ = `head_dim`, q is $n d \times h$, k and v are $n_{kv} d \times h$, o is $h \times n d$, gate and up are $f \times h$, and down is
# $h \times f$. (The heads together need not be `hidden_size` wide.)


# %% solution="parameter_count"
def parameter_count(config: dict) -> int:
    """Number of parameters of the Llama-style model that `config` describes.

    >>> parameter_count({"vocab_size": 10, "hidden_size": 4, "intermediate_size": 8,
    ...                  "num_hidden_layers": 1, "num_attention_heads": 2})
    252
    """
    ### BEGIN SOLUTION
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)
    head_dim = config.get("head_dim", hidden // heads)
    attention = 2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim
    mlp = 3 * hidden * intermediate
    layer = attention + mlp + 2 * hidden
    tables = 1 if config.get("tie_word_embeddings", False) else 2
    embeddings = tables * config["vocab_size"] * hidden
    return embeddings + config["num_hidden_layers"] * layer + hidden
    ### END SOLUTION


# %% test="parameter_count" points=4
from coursepkg import check, memory
from coursepkg.check import case

tiny = {
    "vocab_size": 10,
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
llama_2_7b = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
check.function(
    parameter_count,
    [
        case(tiny, expected=252,
             label="a tiny model", hint="Two tables, seven Linears, and three norms."),
        case(llama_2_7b, expected=6_738_415_616,
             label="Llama-2-7B", hint="Count the norms, and the output head."),
        case(tiny | {"num_key_value_heads": 1}, expected=236,
             label="one key/value head",
             hint="k and v are num_key_value_heads · head_dim wide; q and o are not narrowed."),
    ],
    without=[memory],
)
### BEGIN HIDDEN TESTS
catalogue = {name: entry["config"] for name, entry in memory.catalogue().items()}
check.hidden(
    parameter_count,
    [
        case(catalogue["mistral-7b"], expected=memory.architecture("mistral-7b").parameters(),
             label="grouped-query attention", hint="k and v are narrower than q and o."),
        case(tiny | {"tie_word_embeddings": True}, expected=212,
             label="tied embeddings", hint="A tied head is the embedding table; count it once."),
        case(tiny | {"head_dim": 8}, expected=252 + 4 * 4 * 12,
             label="head_dim given",
             hint="The heads together need not be hidden_size wide: use head_dim."),
        case(catalogue["llama-3.1-405b"],
             expected=memory.architecture("llama-3.1-405b").parameters(),
             label="a large model", hint="Every layer counts."),
        case(tiny | {"num_hidden_layers": 3, "tie_word_embeddings": False},
             expected=252 + 2 * 168,
             label="several layers",
             hint="The last norm stands once, the layer's two norms in every layer."),
    ],
    without=[memory],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. The KV cache (3 points)
#
# For each layer, sequence and token the cache keeps one key and one value of `head_dim` numbers for each key/value head.
# A layer with a sliding `window` keeps at most that many tokens; here all layers have the same window, or none.


# %% solution="kv_cache"
def kv_cache(
    num_layers: int,
    num_kv_heads: int,
    head_dim: int,
    context: int,
    batch: int = 1,
    bytes_per_value: int = 2,
    window: int | None = None,
) -> int:
    """Bytes of the KV cache of `batch` sequences of `context` tokens.

    >>> kv_cache(32, 32, 128, context=1)    # Llama-2-7B: half a MiB for each token
    524288
    """
    ### BEGIN SOLUTION
    tokens = context if window is None else min(context, window)
    return 2 * num_layers * num_kv_heads * head_dim * tokens * batch * bytes_per_value
    ### END SOLUTION


# %% test="kv_cache" points=3
from coursepkg import check, memory
from coursepkg.check import case

check.function(
    kv_cache,
    [
        case(32, 32, 128, 1, expected=524_288,
             label="one token of Llama-2-7B", hint="A key and a value."),
        case(32, 8, 128, 2048, expected=268_435_456,
             label="GQA", hint="Count key/value heads, not query heads."),
        case(32, 32, 128, 2048, batch=4, bytes_per_value=1, expected=2_147_483_648,
             label="a batch, 8-bit cache", hint="Use batch and bytes_per_value, both."),
    ],
    without=[memory],
)
### BEGIN HIDDEN TESTS
check.hidden(
    kv_cache,
    [
        case(40, 40, 128, 2048, expected=memory.kv_cache_bytes("llama-2-13b", 2048),
             label="Llama-2-13B", hint="All layers keep a cache."),
        case(32, 8, 128, 10_000, window=4096,
             expected=memory.kv_cache_bytes("mistral-7b", 10_000),
             label="longer than the window", hint="No more tokens than the window."),
        case(32, 8, 128, 1000, window=4096, expected=memory.kv_cache_bytes("mistral-7b", 1000),
             label="shorter than the window",
             hint="The cache grows with the context until the window is full."),
        case(2, 1, 64, 3, batch=5, bytes_per_value=4, expected=2 * 2 * 64 * 3 * 5 * 4,
             label="batch and fp32", hint="Use bytes_per_value and batch."),
        case(32, 32, 128, 0, expected=0,
             label="no token yet", hint="An empty cache has no bytes."),
        case(4, 2, 16, 100, batch=3, window=10, expected=2 * 4 * 2 * 16 * 10 * 3 * 2,
             label="a window and a batch",
             hint="The window bounds the tokens of one sequence, not of the batch."),
    ],
    without=[memory],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. What training keeps for each parameter (3 points)
#
# Full finetuning keeps weights, gradients and optimizer states. Return them in a `dict` with exactly the keys `"weights"`,
# `"gradients"`, `"optimizer"` and `"total"`, in bytes.
#
# - Weights take `weight_bytes` for each parameter, and gradients the same.
# - The optimizer keeps `moments` states of `moment_bytes` bytes for each parameter (Adam: 2).
# - With `master=True` it also keeps an fp32 copy of the weights; that counts as `"optimizer"`. A model whose weights are
#   fp32 already (`weight_bytes=4`) needs no such copy.


# %% solution="training_bytes"
def training_bytes(
    parameters: int,
    weight_bytes: int = 2,
    moments: int = 2,
    moment_bytes: int = 4,
    master: bool = False,
) -> dict[str, int]:
    """Bytes of weights, gradients and optimizer states, before activations.

    >>> training_bytes(1_000_000)
    {'weights': 2000000, 'gradients': 2000000, 'optimizer': 8000000, 'total': 12000000}
    """
    ### BEGIN SOLUTION
    weights = parameters * weight_bytes
    optimizer = parameters * moments * moment_bytes
    if master and weight_bytes != 4:
        optimizer += parameters * 4
    return {
        "weights": weights,
        "gradients": weights,
        "optimizer": optimizer,
        "total": 2 * weights + optimizer,
    }
    ### END SOLUTION


# %% test="training_bytes" points=3
from coursepkg import check, memory
from coursepkg.check import case

check.function(
    training_bytes,
    [
        case(1_000_000,
             expected={"weights": 2_000_000, "gradients": 2_000_000, "optimizer": 8_000_000, "total": 12_000_000},
             label="bf16, two fp32 moments", hint="12 bytes for each parameter."),
        case(7_000_000_000, master=True,
             expected={"weights": 14 * 10**9, "gradients": 14 * 10**9, "optimizer": 84 * 10**9, "total": 112 * 10**9},
             label="with an fp32 master copy", hint="16 bytes for each parameter; the master copy counts as optimizer."),
        case(10, moments=1,
             expected={"weights": 20, "gradients": 20, "optimizer": 40, "total": 80},
             label="SGD with momentum", hint="One state, not two."),
    ],
    without=[memory],
)
### BEGIN HIDDEN TESTS
check.hidden(
    training_bytes,
    [
        case(100, weight_bytes=4, master=True,
             expected={"weights": 400, "gradients": 400, "optimizer": 800, "total": 1600},
             label="fp32 weights with master=True",
             hint="fp32 weights are their own master copy."),
        case(100, moment_bytes=1,
             expected={"weights": 200, "gradients": 200, "optimizer": 200, "total": 600},
             label="8-bit Adam", hint="moment_bytes may be 1."),
        case(100, moments=0,
             expected={"weights": 200, "gradients": 200, "optimizer": 0, "total": 400},
             label="plain SGD", hint="No state at all."),
        case(100, moments=0, master=True,
             expected={"weights": 200, "gradients": 200, "optimizer": 400, "total": 800},
             label="plain SGD with a master copy",
             hint="The master copy does not depend on the moments."),
        case(3, weight_bytes=1, master=True, moment_bytes=2,
             expected={"weights": 3, "gradients": 3, "optimizer": 24, "total": 30},
             label="8-bit weights with a master copy",
             hint="The master copy has 4 bytes whatever the moments have."),
    ],
    without=[memory],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 6. What LoRA trains (4 points)
#
# LoRA of rank $r$ on a Linear with `in_features` inputs and `out_features` outputs adds a matrix $A$ of shape
# $(r, \text{in})$ and a matrix $B$ of shape $(\text{out}, r)$. Count the trainable parameters of adapters on the Linears
# named in `targets`, in every layer. `config` has the keys of exercise 3. The names are `q_proj`, `k_proj`, `v_proj`,
# `o_proj`, `gate_proj`, `up_proj` and `down_proj`; for any other name raise a `ValueError` that says which names there
# are. No name occurs twice; an empty list trains nothing. The shapes are those of exercise 3.


# %% solution="lora_parameters"
def lora_parameters(config: dict, rank: int, targets: list[str]) -> int:
    """Number of trainable parameters of LoRA adapters of `rank` on `targets`.

    >>> lora_parameters({"hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 3,
    ...                  "num_attention_heads": 2}, rank=2, targets=["q_proj"])
    48
    """
    ### BEGIN SOLUTION
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim", hidden // heads)
    query, key = heads * head_dim, config.get("num_key_value_heads", heads) * head_dim
    in_and_out = {
        "q_proj": hidden + query,
        "k_proj": hidden + key,
        "v_proj": hidden + key,
        "o_proj": query + hidden,
        "gate_proj": hidden + intermediate,
        "up_proj": hidden + intermediate,
        "down_proj": intermediate + hidden,
    }
    total = 0
    for name in targets:
        if name not in in_and_out:
            raise ValueError(f"no Linear {name!r}; there are {', '.join(in_and_out)}")
        total += rank * in_and_out[name]
    return config["num_hidden_layers"] * total
    ### END SOLUTION


# %% test="lora_parameters" points=4
from coursepkg import check, memory
from coursepkg.check import case

small = {
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
seven_b = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
all_linear = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
]
check.function(
    lora_parameters,
    [
        case(small, 2, ["q_proj"], expected=48,
             label="one Linear", hint="A has rank · in, B has out · rank, in each of the three layers."),
        case(seven_b, 16, ["q_proj", "v_proj"], expected=8_388_608,
             label="Llama-2-7B, q and v", hint="Multiply by the number of layers."),
        case(seven_b, 8, all_linear, expected=19_988_480,
             label="Llama-2-7B, all Linears, r=8", hint="The MLP's Linears are wider."),
        case(small, 2, ["qproj"], expected=ValueError, naming=["q_proj", "down_proj"],
             label="a name that does not exist", hint="Raise a ValueError whose text lists all seven names."),
    ],
    without=[memory],
)
### BEGIN HIDDEN TESTS
check.hidden(
    lora_parameters,
    [
        case(memory.catalogue()["mistral-7b"]["config"], 16,
             ["q_proj", "k_proj", "v_proj", "o_proj"],
             expected=memory.Lora(16, ("q_proj", "k_proj", "v_proj", "o_proj")).parameters("mistral-7b"),
             label="grouped-query attention", hint="k and v have fewer outputs than q."),
        case(memory.catalogue()["llama-2-13b"]["config"], 4, all_linear,
             expected=memory.Lora(4).parameters("llama-2-13b"),
             label="all Linears of a 13B model", hint="gate and up widen, down narrows."),
        case(small | {"head_dim": 8, "num_key_value_heads": 1}, 1,
             ["q_proj", "v_proj", "o_proj"], expected=3 * (20 + 12 + 20),
             label="head_dim given, one key/value head",
             hint="q's output and o's input are heads · head_dim wide."),
        case(small, 3, ["down_proj"], expected=3 * 3 * 12,
             label="down_proj alone", hint="down_proj reads intermediate_size inputs."),
        case(small, 3, [], expected=0,
             label="no targets", hint="Nothing is adapted, so nothing is trained."),
        case(small, 3, ["q_proj", "lm_head"], expected=ValueError, naming=["up_proj", "o_proj"],
             label="one known name and one unknown", hint="Check every name."),
    ],
    without=[memory],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 7. How long a context fits? (3 points)
#
# A device has `memory_bytes` for tensors. After the weights (`weight_bytes`), what is left goes to the KV caches of `batch`
# sequences, each with `bytes_per_token` for every token. How many tokens of context does each sequence get? The model
# itself allows at most `max_context`. If not even the weights fit, the answer is 0.


# %% solution="longest_context"
def longest_context(
    memory_bytes: int,
    weight_bytes: int,
    bytes_per_token: int,
    batch: int = 1,
    max_context: int = 131_072,
) -> int:
    """Tokens of context that fit for each of `batch` sequences.

    >>> longest_context(1000, 400, bytes_per_token=100)
    6
    """
    ### BEGIN SOLUTION
    left = memory_bytes - weight_bytes
    if left <= 0:
        return 0
    return min(left // (bytes_per_token * batch), max_context)
    ### END SOLUTION


# %% test="longest_context" points=3
from coursepkg import check, memory
from coursepkg.check import case

check.function(
    longest_context,
    [
        case(1000, 400, 100, expected=6,
             label="what is left, divided", hint="First take the weights off."),
        case(1050, 400, 100, batch=2, expected=3,
             label="two sequences share it",
             hint="Each token costs bytes_per_token in every sequence; a part of a token does not count."),
        case(300, 400, 100, expected=0,
             label="the weights do not fit", hint="There is no negative context."),
    ],
    without=[memory],
)
### BEGIN HIDDEN TESTS
check.hidden(
    longest_context,
    [
        case(15 * 2**30, memory.weight_bytes("llama-2-7b"), 524_288,
             expected=(15 * 2**30 - memory.weight_bytes("llama-2-7b")) // 524_288,
             label="Llama-2-7B in 16 bits on 15 GiB", hint="Whole tokens."),
        case(10**12, 10**9, 1000, max_context=4096, expected=4096,
             label="more than the model allows", hint="No more than max_context."),
        case(400, 400, 100, expected=0, label="nothing left", hint="Then no token fits."),
        case(1000, 100, 7, batch=3, expected=42,
             label="an odd division", hint="Round down: a part of a token does not count."),
        case(100, 10**18, 7, batch=3, max_context=10, expected=0,
             label="far too small", hint="Never below zero."),
        case(3 * (10**17 + 7) - 1, 0, 3, max_context=10**18, expected=10**17 + 6,
             label="very large numbers",
             hint="Divide whole numbers with //; floats lose the last digits."),
    ],
    without=[memory],
)
### END HIDDEN TESTS

# %% [markdown]
# ## 8. In your own words (4 points)
#
# A colleague writes:
#
# > A 70B model at 4 bits is 35 GB. So it fits on our A100 40GB, and with LoRA we can finetune it there too, because LoRA
# > has almost no parameters.
#
# Write 100 to 200 words to your colleague. Which of these statements hold, under which assumptions, and which bytes were
# forgotten? Give numbers with units for Llama-2-70B, and say what you would check before ordering hardware.
# You may use `coursepkg.memory` to work out the numbers. Points are given for the stored size, for inference, for finetuning,
# and for figures that can be checked.

# %% [markdown] written="seventy_b" points=4
# ### BEGIN SOLUTION
# 35 GB is 4 bits times 70 · 10⁹: the values alone, *nominal* bytes. Stored, NF4 needs scales: 4.127 bits with double
# quantization, and embeddings and head stay in 16 bits, so Llama-2-70B takes 36.4 GB. That fits on a 40 GiB card (42.9 GB)
# for inference with a short context: the KV cache takes 0.33 MB for each token (GQA, 8 key/value heads), 1.3 GB at 4,096
# tokens, and the device's context about half a GB.
#
# Finetuning is another matter. LoRA of rank 16 on all Linears trains 207 M parameters: fp32 adapters and gradients of
# 0.83 GB each, and Adam's states on top. The activations do not shrink with the number of trainable parameters: at length
# 512 they take about 28 GB, and 2.3 GB with checkpointing. peft's preparation casts embeddings, norms and head up to fp32,
# another GB. With checkpointing and an 8-bit optimizer the budget is 41.8 GB of 42.9: it may just fit at length 512, and
# not at 2,048. I would compute the budget for our real length, and measure one step before ordering.
# ### END SOLUTION

# %% [markdown] rubric="seventy_b"
# *This answer is graded by a person.*
#
# <!-- BEGIN MARK SCHEME -->
#
# One point each:
#
# 1. 35 GB is nominal; stored size with scales and 16-bit embeddings is about 36 to 37 GB (or 41 GB for a 4.8-bit mix).
# 2. Inference: the KV cache (and a device context) come on top; says for which context it fits. GB and GiB are not mixed.
# 3. Finetuning: LoRA removes gradients and states of the base, not activations (nor logits); names checkpointing.
# 4. At least two figures with units that agree with `coursepkg.memory`, and one concrete thing to check or measure.
#
# No point is lost for length or style. An answer that only says "it does not fit" gets no point for 3.
#
# <!-- END MARK SCHEME -->
