"""Bytes of a model that only reads: its weights and its KV cache."""

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


def prefill_bytes(model: str | Path | Architecture, context: int, batch: int = 1, dtype: str = "bf16") -> int:
    """Bytes of the largest intermediate tensors while a prompt of `context` tokens is read, none kept for a backward.

    The widest place is the MLP: four tensors of hidden_size (embeddings, the layer's input, the residual stream, the
    normalized input) and three of the intermediate size (the activated gate, up, their product). One layer at a time;
    the logits of one position.
    """
    arch, width = architecture(model), ceil(storage_format(dtype).bits / 8)
    return batch * context * width * (4 * arch.hidden_size + 3 * arch.intermediate_size)
