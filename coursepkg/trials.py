"""Predictions of `coursepkg.memory` held against small real models of transformers, on this machine, in seconds.

Each trial builds what it predicts, with transformers, peft and bitsandbytes, and counts the bytes of real tensors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from coursepkg import memory
from coursepkg.memory import Architecture, Lora, measure
from coursepkg.quiet import quiet

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FAMILIES = ("llama", "qwen2", "qwen3", "gemma3")
_QUANTIZERS = {
    "int8": {"load_in_8bit": True},
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "nf4+dq": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
}


@dataclass(frozen=True)
class Trial:
    """One prediction and what was measured, in bytes."""

    what: str
    predicted: int
    measured: int

    @property
    def error(self) -> float:
        """Relative error of the prediction; 0.01 is one percent too much."""
        return self.predicted / self.measured - 1 if self.measured else float(self.predicted != 0)


def table(trials: Sequence[Trial]) -> str:
    """The trials as text, a row each, with the worst row named below."""
    width = max(len(t.what) for t in trials)
    lines = [f"{'':<{width}}  {'predicted, B':>12}  {'measured, B':>12}  {'error':>7}"]
    lines += [f"{t.what:<{width}}  {t.predicted:>12,}  {t.measured:>12,}  {t.error:>+7.1%}" for t in trials]
    worst = max(trials, key=lambda t: abs(t.error))
    return "\n".join([*lines, f"Worst row: {worst.what}, {worst.error:+.1%}."])


def config(family: str, **sizes):
    """A small configuration of transformers: 4 layers, hidden size 128; `family` is one of FAMILIES.

    sizes: settings that take the place of ours, for example vocab_size=100.
    """
    from transformers import Gemma3TextConfig, LlamaConfig, Qwen2Config, Qwen3Config

    sizes = {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "vocab_size": 1000,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        **sizes,
    }
    gemma = {"head_dim": 64, "sliding_window": 64, "sliding_window_pattern": 2}
    make = {
        "llama": lambda: LlamaConfig(**sizes),
        "qwen2": lambda: Qwen2Config(**sizes),
        "qwen3": lambda: Qwen3Config(**sizes, head_dim=32),
        "gemma3": lambda: Gemma3TextConfig(**sizes, **gemma),
    }
    if family not in make:
        raise ValueError(f"no family {family!r}; there are {', '.join(FAMILIES)}")
    return make[family]()


def small_model(family: str, dtype: str = "bf16", **sizes):
    """A model of `config(family, **sizes)` with random weights (seed 0), in training mode."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config(family, **sizes)).to(DTYPES[dtype]).train()


def shape(family: str, **sizes) -> Architecture:
    """The architecture of `small_model(family, **sizes)`."""
    return Architecture.from_config(config(family, **sizes).to_dict(), family)


def weights(family: str, fmt: str) -> Trial:
    """Parameters in a format; the quantized ones are loaded through transformers and bitsandbytes."""
    model = quantized_model(family, fmt) if fmt in _QUANTIZERS else small_model(family, fmt)
    measured = measure.storage_bytes(measure.model_tensors(model))
    return Trial(f"weights, {family}, {fmt}", memory.weight_bytes(shape(family), fmt), measured)


def quantized_model(family: str, fmt: str, **sizes):
    """`small_model(family, **sizes)` saved, and loaded again in `fmt` by bitsandbytes."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings = BitsAndBytesConfig(**_QUANTIZERS[fmt], bnb_4bit_compute_dtype=torch.bfloat16)
    with TemporaryDirectory() as folder, quiet():
        small_model(family, **sizes).save_pretrained(Path(folder))
        return AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=settings, dtype=torch.bfloat16
        )


def kv_cache(family: str, batch: int, context: int) -> Trial:
    """Keys and values after a prompt of `context` − 1 tokens and one more, when a sliding window has been trimmed."""
    model = small_model(family).eval()
    with torch.no_grad():
        kept = model(torch.zeros(batch, context - 1, dtype=torch.long), use_cache=True).past_key_values
        kept = model(
            torch.zeros(batch, 1, dtype=torch.long), past_key_values=kept, use_cache=True
        ).past_key_values
    measured = measure.storage_bytes(measure.cache_tensors(kept))
    predicted = memory.kv_cache_bytes(shape(family), context, batch)
    return Trial(f"KV cache, {family}, batch {batch}, context {context}", predicted, measured)


def _optimizers() -> dict[str, Callable]:
    import bitsandbytes as bnb

    return {
        "sgd": torch.optim.SGD,
        "sgd-momentum": lambda parameters: torch.optim.SGD(parameters, momentum=0.9),
        "adamw": torch.optim.AdamW,
        "adamw-fp32": bnb.optim.AdamW,
        "adamw-8bit": bnb.optim.AdamW8bit,
    }


def training_states(family: str, optim: str, dtype: str = "bf16") -> tuple[Trial, Trial]:
    """Gradients, and optimizer states, after one step of a real optimizer."""
    model, arch = small_model(family, dtype), shape(family)
    with quiet():
        optimizer = _optimizers()[optim](model.parameters())
        step(model, 1, 5)().backward()
        optimizer.step()
    gradients = measure.storage_bytes(p.grad for p in model.parameters())
    states = measure.storage_bytes(measure.optimizer_tensors(optimizer))
    kept = memory.optimizer(optim).state_bytes(arch.tensors, dtype)
    return (
        Trial(
            f"gradients, {family}, {dtype}", memory.full_finetuning(arch, dtype=dtype)["gradients"], gradients
        ),
        Trial(f"optimizer, {family}, {optim} on {dtype}", kept, states),
    )


def saved_activations(
    family: str, dtype: str, batch: int, length: int, checkpointing: bool, lora: Lora | None = None
) -> Trial:
    """What autograd saved in a forward pass, parameters left out; with `lora`, through peft."""
    model, arch = trainable(family, dtype, checkpointing, lora), shape(family)
    measured = measure.saved_for_backward(step(model, batch, length), frozen_storage(model))
    predicted = memory.activations(arch, length, batch, dtype, lora, checkpointing).saved
    how = ("LoRA, " if lora else "") + ("checkpointing" if checkpointing else "no checkpointing")
    return Trial(f"activations, {family}, {dtype}, {batch} × {length}, {how}", predicted, measured)


def prefill(family: str, dtype: str, batch: int, context: int) -> Trial:
    """The peak of reading prompts: intermediate tensors and the cache that they fill."""
    model, arch = small_model(family, dtype).eval(), shape(family)
    tokens = torch.zeros(batch, context, dtype=torch.long)

    def read():
        with torch.no_grad():
            return model(tokens, use_cache=True, logits_to_keep=1).past_key_values

    budget = memory.inference(arch, context, batch, dtype)
    predicted = budget["KV cache"] + budget["activations"]
    return Trial(f"reading, {family}, {dtype}, {batch} × {context}", predicted, measure.peak_bytes(read))


def training_peak(
    family: str, batch: int, length: int, checkpointing: bool, lora: Lora | None = None, **sizes
) -> Trial:
    """The peak of a second training step in bf16, when gradients stand where they will be added to."""
    model, arch = trainable(family, "bf16", checkpointing, lora, **sizes), shape(family, **sizes)
    forward = step(model, batch, length)
    forward().backward()
    model.zero_grad(set_to_none=False)
    measured = measure.peak_bytes(lambda: forward().backward())
    predicted = memory.activations(arch, length, batch, "bf16", lora, checkpointing).peak
    return Trial(f"training peak, {family}, {batch} × {length}", predicted, measured)


def trainable(family: str, dtype: str, checkpointing: bool, lora: Lora | None = None, **sizes):
    """A small model ready for a training step: all of it, or peft's adapters on a frozen base."""
    model = small_model(family, dtype, **sizes)
    with quiet():
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if lora is None:
            return model
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(
            r=lora.rank,
            target_modules=list(lora.targets),
            lora_dropout=0.5 if lora.dropout else 0.0,
            task_type="CAUSAL_LM",
        )
        adapted = get_peft_model(model, settings, autocast_adapter_dtype=lora.adapter.bits == 32)
        if checkpointing:
            model.enable_input_require_grads()
        return adapted


def trainable_quantized(family: str, fmt: str, checkpointing: bool, rank: int = 8, **sizes):
    """The same beside a base in `fmt` that bitsandbytes stores and peft prepares: QLoRA on all Linear layers."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    with quiet():
        base = prepare_model_for_kbit_training(
            quantized_model(family, fmt, **sizes),
            use_gradient_checkpointing=checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
        return get_peft_model(
            base, LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM")
        ).train()


def under_autocast(family: str, method: str, checkpointing: bool, **sizes) -> tuple[Trial, Trial]:
    """What autograd saves, and the peak, of a step on 2 × 100 tokens as trainers run it on a GPU: products in bf16.

    method: "full" (weights in fp32), "lora" (16 bits) or "qlora" (NF4, double quantized).
    """
    arch, lora = shape(family, **sizes), None if method == "full" else Lora(8)
    if method == "qlora":
        model = trainable_quantized(family, "nf4+dq", checkpointing, **sizes)
    else:
        model = trainable(family, "bf16" if method == "lora" else "fp32", checkpointing, lora, **sizes)
    plain = step(model, 2, 100)

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return plain()

    saved = measure.saved_for_backward(forward, frozen_storage(model))
    forward().backward()
    model.zero_grad(set_to_none=False)
    peak = measure.peak_bytes(lambda: forward().backward())
    stream = "bf16" if method == "lora" else "fp32"
    told = memory.activations(arch, 100, 2, stream, lora, checkpointing, "bf16")
    what = f"{family}, {method}" + (", checkpointing" if checkpointing else "")
    return Trial(f"saved under autocast, {what}", told.saved, saved), Trial(
        f"peak under autocast, {what}", told.peak, peak
    )


def frozen_storage(model: torch.nn.Module) -> list[torch.Tensor]:
    """The tensors of a model that are not activations: parameters, quantization states, buffers."""
    return [*measure.model_tensors(model), *model.buffers()]


def step(model, batch: int, length: int) -> Callable[[], torch.Tensor]:
    """A function that computes the loss of `model` on fixed tokens of shape (batch, length)."""
    tokens = (torch.arange(batch * length).reshape(batch, length) * 7) % model.config.vocab_size
    tokens = tokens.to(next(model.parameters()).device)
    return lambda: model(input_ids=tokens, labels=tokens, use_cache=False).loss
