"""Bytes of activations: what a training step keeps from the forward pass for the backward.

The count follows the operations of transformers' decoder layers with scaled-dot-product attention, and asks of each
what its backward needs. `e` stands for the bytes of a value in the residual stream (2 in bf16), T for the tokens of
the batch. Sources: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models",
section 4 (the method; the terms here are those of RMSNorm, SwiGLU, grouped-query attention and a fused attention
kernel, which keeps no matrix of T × T); Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
"""

from dataclasses import dataclass
from math import ceil
from pathlib import Path

from coursepkg.memory.architecture import Architecture
from coursepkg.memory.catalogue import architecture
from coursepkg.memory.storage import BF16, StorageFormat, storage_format
from coursepkg.memory.training import Lora

# Norms, the softmax over the vocabulary and its loss are computed in fp32 whatever the model's dtype.
_FP32 = 4

# Which Linears read the same tensor. Attention's output is kept by the attention kernel already.
_INPUTS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))


@dataclass(frozen=True)
class Activations:
    """Bytes of one training step's activations.

    layers: kept by all decoder layers together (with checkpointing: the input of each).
    head: kept by the last norm, the output head and the loss.
    recomputed: with checkpointing, what the largest layer keeps while it is computed again; else 0.
    loss_gradients: gradients of the log-probabilities and of the logits, when the backward begins.
    layer_gradients: gradients of activations at the widest place of a layer's backward.
    forward_end: what the end of a forward pass under autocast holds besides what is saved: its copies of trained weights, and logits in two dtypes.
    """

    layers: int
    head: int
    recomputed: int
    loss_gradients: int
    layer_gradients: int
    forward_end: int = 0

    @property
    def saved(self) -> int:
        """Bytes that autograd holds at the end of the forward pass."""
        return self.layers + self.head

    @property
    def peak(self) -> int:
        """Most bytes alive at one moment of the step.

        Three moments compete: the end of the forward pass; the backward of the loss, beside all that is saved; and the backward of a layer,
        when what head and loss kept is gone.
        """
        loss = self.head + max(self.loss_gradients, self.forward_end)
        return self.layers + max(loss, self.recomputed + self.layer_gradients)


def layer_parts(
    arch: Architecture,
    dtype: StorageFormat = BF16,
    lora: Lora | None = None,
    repeat_kv: bool = False,
    autocast: StorageFormat | None = None,
) -> dict[str, int]:
    """Bytes for each token that one decoder layer keeps for its backward, by part: norms, attention, MLP, adapters.

    lora: None where all weights are trained. With LoRA the weights are frozen: a frozen Linear needs no input of
        its own for the backward, a frozen norm no normalized input, and each adapter needs its input again.
    repeat_kv: keys and values are copied out to all query heads (where attention gets a mask).
    autocast: the dtype in which Linear layers and attention compute: each keeps a copy of its own of what it reads. Frozen Linear layers
        (quantized, or in that dtype) give their outputs in the dtype of the residual stream.
    """
    e, h, f = ceil(dtype.bits / 8), arch.hidden_size, arch.intermediate_size
    c = e if autocast is None else ceil(autocast.bits / 8)
    q, kv, frozen = arch.query_size, arch.kv_size, lora is not None
    gemma = arch.model_type == "gemma3_text"
    # A norm keeps its input in fp32, and the inverse root mean square of each token (or head). A trained one keeps
    # the normalized input too, for the gradient of its weight: Gemma in fp32, the others in the model's dtype.
    normalized = 0 if frozen else (_FP32 if gemma else e)
    norms = (4 if arch.sandwich_norms else 2) * (h * (_FP32 + normalized) + _FP32)
    if arch.qk_norm:
        norms += (q + kv) * (_FP32 + normalized) + _FP32 * (arch.num_heads + arch.num_kv_heads)
    # The attention kernel keeps queries, keys, values, its output, and the log-sum-exp of each head.
    attention = c * (2 * q + 2 * (q if repeat_kv else kv)) + _FP32 * arch.num_heads
    # The product act(gate(x)) · up(x) keeps its three inputs.
    mlp = 3 * (e if frozen else c) * f
    adapters = 0
    for readers in _INPUTS:
        width = arch.linears[readers[0]][1]
        # The input itself, if a Linear's backward needs it; under autocast each reader's own copy.
        own = e * width if autocast is None else len(readers) * c * width
        own = 0 if readers == ("o_proj",) else own
        if lora is None:
            attention += own if readers[0] == "q_proj" else 0
            mlp += own if readers[0] != "q_proj" else 0
            continue
        adapted = sum(name in lora.targets for name in readers)
        a = ceil(lora.adapter.bits / 8) if autocast is None else c
        if lora.dropout:  # a scaled copy of the input, and the mask that made it: on a GPU one byte a value
            adapters += adapted * width * (a + 1)
        elif autocast is not None or a != e:  # a copy of the input in that dtype, one for each adapter
            adapters += adapted * width * a
        elif adapted:
            adapters += own
        adapters += adapted * lora.rank * a
    return {"norms": norms, "attention": attention, "mlp": mlp, "adapters": adapters}


def activations(
    model: str | Path | Architecture,
    length: int,
    batch: int = 1,
    dtype: str | StorageFormat = BF16,
    lora: Lora | None = None,
    checkpointing: bool = False,
    autocast: str | StorageFormat | None = None,
) -> Activations:
    """Activations of a training step on `batch` sequences of `length` tokens, without padding.

    dtype: of the residual stream. lora: None for full finetuning. checkpointing: each decoder layer keeps its input
    only, and is computed again in the backward. autocast: the dtype in which products are computed, where that is not `dtype` or weights that
    are trained are in another; copies of those weights are then alive. Raises ValueError for a batch or length below 1, or a quantized dtype.
    """
    arch, fmt = architecture(model), storage_format(dtype)
    cast = None if autocast is None else storage_format(autocast)
    if length < 1 or batch < 1:
        raise ValueError(f"length and batch must be at least 1 (length={length}, batch={batch})")
    for each in (fmt, cast):
        if each is not None and each.scale is not None:
            raise ValueError(
                f"activations are kept in a floating-point dtype such as bf16, not in {each.name}"
            )
    if lora is None and cast is not None and cast.name == fmt.name:
        cast = None  # nothing is cast where all weights are in that dtype
    e, tokens, h = ceil(fmt.bits / 8), batch * length, arch.hidden_size
    per_layer = [_layer(arch, fmt, lora, length, batch, window, cast) for window in arch.windows]
    # Without checkpointing nothing before the first adapter needs a gradient, so neither does the first norm.
    first_norm = 0 if lora is None or checkpointing else tokens * (h + 1) * _FP32
    layers = arch.num_layers * tokens * e * h if checkpointing else sum(per_layer) - first_norm

    normalized = 0 if lora is not None else (_FP32 if arch.model_type == "gemma3_text" else e)
    head = tokens * (h * (_FP32 + normalized) + _FP32)  # the last norm
    c = e if cast is None else ceil(cast.bits / 8)
    head += 0 if lora is not None else tokens * c * h  # the input of a trained output head
    copies = forward_end = 0
    if cast is not None:
        head += c * arch.vocab_size * h if fmt.name != cast.name else 0  # a copy of the head's weight
        trained = lora.tensors(arch) if lora else [t for t in arch.tensors if t.role == "linear"]
        copies = c * sum(t.count for t in trained)
        layers += 0 if checkpointing else copies
        forward_end = (copies if checkpointing else 0) + tokens * (_FP32 + c) * arch.vocab_size
    head += tokens * (_FP32 * arch.vocab_size + 8)  # log-probabilities in fp32, and the labels

    # At a layer's widest place the gradients of the product and of its two factors are alive, and the product is not;
    # or, where an adapter has a copy of the product in a dtype of its own, the gradient of that copy too. In a trained
    # Gemma it may be a norm: six fp32 tensors as wide as the residual stream.
    wide = 3 if lora is not None and lora.adapter.bits != fmt.bits else 2
    # Under autocast an adapter's gradient comes in autocast's dtype; where the residual stream is in that, by way of the adapter's own.
    gradients = wide * e * arch.intermediate_size
    if cast is not None and lora is None:
        gradients = 3 * c * arch.intermediate_size
    elif cast is not None:
        gradients = (2 * e + (c if e != c else ceil(lora.adapter.bits / 8))) * arch.intermediate_size
    if lora is None and arch.model_type == "gemma3_text":
        gradients = max(gradients, 6 * _FP32 * h)
    return Activations(
        layers=layers,
        head=head,
        recomputed=max(per_layer) + copies // arch.num_layers if checkpointing else 0,
        loss_gradients=2 * tokens * _FP32 * arch.vocab_size,
        layer_gradients=gradients * tokens,
        forward_end=forward_end,
    )


def _layer(
    arch: Architecture,
    fmt: StorageFormat,
    lora: Lora | None,
    length: int,
    batch: int,
    window: int | None,
    autocast: StorageFormat | None,
) -> int:
    """Bytes that one layer keeps for the whole batch, the sliding window's mask included where there is one."""
    masked = window is not None and length > window
    repeat_kv = masked and arch.num_heads != arch.num_kv_heads
    mask = batch * length * length * ceil(fmt.bits / 8) if masked else 0
    return batch * length * sum(layer_parts(arch, fmt, lora, repeat_kv, autocast).values()) + mask
