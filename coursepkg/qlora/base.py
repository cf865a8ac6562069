"""The frozen base with adapters beside it: loaded and stored as the settings say."""

import os
import warnings
from pathlib import Path
from typing import Any

import torch

from coursepkg import lora_model, quantize_on_load, quantized_model, runtime
from coursepkg.loading import load_model
from coursepkg.qlora.settings import WEIGHTS, Settings
from coursepkg.qlora.traps import mend, misread
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.quiet import quiet


def load(name: str | Path, settings: Settings, **hub: Any) -> tuple[Any, Any]:
    """A causal LM whose base is frozen and stored as `settings.weights` say, with untrained adapters; and its tokenizer.

    name, hub: as `load_model` takes them. Computed in the device's dtype; where the base is quantized, what is not (embedding, norms, head)
    is kept in fp32, as peft's prepare_model_for_kbit_training does; for full finetuning all is. The adapters' first values are drawn from `settings.seed`, and are the same with both
    libraries. Raises as `load_model` does, and ValueError where layers cannot be quantized, or are read back wrongly (`traps.misread`).
    """
    model, tokenizer = load_base(name, settings, **hub)
    return adapt(model, settings), tokenizer


def load_base(name: str | Path, settings: Settings, **hub: Any) -> tuple[Any, Any]:
    """The model that `adapt` is to be given, and its tokenizer: stored in 4 bits already, so that it need not fit in 16.

    Raises ValueError where layers cannot be quantized, and where `accelerate launch` is to shard what cannot be: this package's layers, and anything in fp16.
    """
    if is_sharded() and (
        settings.library == "coursepkg" or runtime.dtype(runtime.device()).dtype == torch.float16
    ):
        raise ValueError(
            "FSDP shards bitsandbytes' layers in bf16 only: take library='peft' on GPUs that have bfloat16"
        )
    try:
        return load_model(name, **loading(settings), **hub)
    except quantize_on_load.CannotQuantize as error:
        raise ValueError(str(error)) from error


def loading(settings: Settings) -> dict[str, Any]:
    """What `from_pretrained` is to be given: the device and its dtype, and how the base is to be stored, where it is to be quantized."""
    where = runtime.device()
    given: dict[str, Any] = {"dtype": runtime.dtype(where).dtype}
    if kind := WEIGHTS[settings.weights]:
        ours = settings.library == "coursepkg"
        given["quantization_config"] = (
            quantize_on_load.QuantizeOnLoad(kind) if ours else _bitsandbytes(settings, given["dtype"])
        )
    if where.type != "cpu":
        local = int(os.environ.get("LOCAL_RANK", 0))
        given["device_map"] = None if is_sharded() else {"": local if where.type == "cuda" else where}
    return given


def adapt(model: Any, settings: Settings) -> Any:
    """The same for a model that is loaded already, in 16 or 32 bits or quantized: quantized where it is not, in place; with adapters.

    Raises ValueError where it is quantized in another format than the settings'.
    """
    kind = WEIGHTS[settings.weights]
    for name, module in model.named_modules():
        library, stored = _stored(module)
        if library and (library, stored) != (settings.library, settings.weights):
            raise ValueError(
                f"{name} is stored as {stored} by {library}, and the settings want {settings.weights} by {settings.library}"
            )
    model.requires_grad_(False)
    if settings.lora is None:
        model.float().requires_grad_(True)
    elif settings.library == "coursepkg":
        dtype = model.dtype
        if kind is not None:
            if not quantized_model.quantized_layers(model):
                quantized_model.quantize_model(model, kind)
            for _, layer in quantized_model.quantized_layers(model):
                layer.compute_dtype = dtype
            _cast_up(model)
        torch.manual_seed(settings.seed)
        lora_model.add(model, settings.lora)
        for layer in lora_model.layers(model).values():  # beside 4 bits, too, as peft does
            first = layer.lora_A[layer.active[0]].weight
            first.data = first.to(dtype).to(first.dtype)
    else:
        model = _with_peft(model, settings, kind is not None)
    checkpoint(model, settings.checkpointing)
    return model


def checkpoint(model: Any, on: bool) -> None:
    """Compute activations again rather than keep them, or not; transformers' models do it layer by layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the name changes in transformers 6
        if on:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            model.gradient_checkpointing_disable()


def is_sharded() -> bool:
    """Whether `accelerate launch` was told to shard the model over several devices (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def _bitsandbytes(settings: Settings, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    kind, _, double = settings.weights.partition("+")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=double == "dq",
        bnb_4bit_compute_dtype=dtype,
        # FSDP shards tensors of one floating-point dtype only, so the codes travel as if they were that.
        bnb_4bit_quant_storage=dtype if is_sharded() else torch.uint8,
    )


def _with_peft(model: Any, settings: Settings, quantized: bool) -> Any:
    import peft

    lora = settings.lora
    if quantized:
        mend(model)
        if wrong := misread(model):
            raise ValueError(
                f"{wrong[0]}: its rows are not whole blocks, and bitsandbytes reads them back wrongly on this CPU; take library='coursepkg'"
            )
    if quantized and not is_sharded():
        with quiet():
            model = peft.prepare_model_for_kbit_training(
                model,
                use_gradient_checkpointing=settings.checkpointing,
                gradient_checkpointing_kwargs={"use_reentrant": False},
            )
    torch.manual_seed(settings.seed)
    with quiet():
        return peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                use_rslora=lora.rank_stabilized,
                target_modules=list(lora.targets) if lora.targets else "all-linear",
                trainable_token_indices=list(lora.tokens) or None,
                task_type="CAUSAL_LM",
            ),
            autocast_adapter_dtype=not is_sharded(),
        )


def _stored(module: torch.nn.Module) -> tuple[str | None, str]:
    """Which library has quantized a layer, None for none of both, and how: a name in WEIGHTS, or of another format."""
    if isinstance(module, QuantizedLinear):
        known = (name for name, kind in WEIGHTS.items() if kind == module.kind)
        return "coursepkg", next(known, module.kind.name)
    weight = getattr(module, "weight", None)
    if type(weight).__name__ == "Params4bit":
        return "peft", weight.quant_type + ("+dq" if weight.compress_statistics else "")
    return None, ""


def _cast_up(model: torch.nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()
