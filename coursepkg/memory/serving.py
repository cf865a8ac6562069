"""Bytes of a model that only reads: its weights and its KV cache."""

from dataclasses import replace
from math import ceil
from pathlib import Path

from coursepkg.memory.architecture import Architecture
from coursepkg.memory.catalogue import architecture
from coursepkg.memory.storage import BF16, StorageFormat, storage_format


def weight_bytes(
    model: str | Path | Architecture, weights: str | StorageFormat = BF16, rest: str | StorageFormat = BF16
) -> int:
    """Bytes that the parameters of `model` occupy.

    weights: format of the decoder's Linear weights, the only tensors that quantizers touch by default.
    rest: format of what stays: embeddings, norms, biases and the output head. Where `weights` is a format without
        scales (fp32, fp16, bf16) it is used for everything, and `rest` does not count.
    """
    arch, fmt, rest_fmt = architecture(model), storage_format(weights), storage_format(rest)
    if fmt.scale is None:
        rest_fmt = fmt
    return sum((fmt if t.role == "linear" else rest_fmt).stored_bytes(*t.shape) for t in arch.tensors)


def kv_cache_bytes(
    model: str | Path | Architecture, context: int, batch: int = 1, cache: str | StorageFormat = BF16
) -> int:
    """Bytes of the keys and values kept for `batch` sequences of `context` tokens.

    For each layer two tensors of shape (batch, num_kv_heads, tokens, head_dim), in the format `cache`; a layer with
    a sliding window keeps no more tokens than its window. Raises ValueError for a negative context or batch.
    """
    arch, fmt = architecture(model), storage_format(cache)
    if context < 0 or batch < 0:
        raise ValueError(f"context and batch cannot be negative (context={context}, batch={batch})")
    tokens = [context if window is None else min(context, window) for window in arch.windows]
    return sum(2 * fmt.stored_bytes(batch, arch.num_kv_heads, n, arch.head_dim) for n in tokens)


def prefill_bytes(
    model: str | Path | Architecture, context: int, batch: int = 1, dtype: str | StorageFormat = BF16
) -> int:
    """Most bytes of intermediate tensors at one moment while prompts of `context` tokens are read, for no backward.

    dtype: of the residual stream. One layer at a time, all sequences of the batch at once, logits of one position.
    Everywhere alive: embeddings and residual stream, rotary tables; and beyond a sliding window, its mask and what
    transformers keeps of longer prompts until the next token trims the cache. The widest place of a layer is its MLP
    (the activated gate, up, their product) or, where a mask makes attention copy keys and values out to all heads,
    its attention. Raises ValueError for a negative context or batch.
    """
    arch, fmt = architecture(model), storage_format(dtype)
    e, tokens = ceil(fmt.bits / 8), batch * context
    h, f, q = arch.hidden_size, arch.intermediate_size, arch.query_size
    untrimmed = kv_cache_bytes(replace(arch, windows=(None,) * arch.num_layers), context, batch, fmt)
    alive = untrimmed - kv_cache_bytes(arch, context, batch, fmt)
    rotary_tables = 2 if arch.model_type == "gemma3_text" else 1  # for windows, and for full attention
    alive += rotary_tables * 2 * arch.head_dim * context * e
    widest = tokens * e * (4 * h + 3 * f)
    if any(window is not None and context > window for window in arch.windows):
        mask = context * context  # one for all sequences: booleans, and once more in the dtype of the scores
        alive += mask
        copied = 4 * q if arch.num_heads != arch.num_kv_heads else 2 * q
        widest = max(widest, tokens * e * (3 * h + copied) + mask * e)
    return alive + widest
