"""Memory arithmetic against the storage of real tensors: exact where storage is, within 5 % for what autograd saves."""

import warnings

import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    Gemma3TextConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from coursepkg import memory
from coursepkg.memory import FORMATS, OPTIMIZERS, Architecture, Lora, measure

SIZES = {
    **{"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "vocab_size": 1000},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048},
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=32),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=64, sliding_window=64, sliding_window_pattern=2),
}
QUANTIZERS = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "nf4+dq": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}


def small_model(family: str, dtype: torch.dtype = torch.bfloat16):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[family]).to(dtype).train()


def shape_of(model) -> Architecture:
    return Architecture.from_config(model.config.get_text_config().to_dict())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    small_model("llama").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_weights_exactly(family, name, dtype):
    model = small_model(family, dtype)
    assert memory.weight_bytes(shape_of(model), name) == measure.storage_bytes(measure.model_tensors(model))


@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantized_weights_exactly(name, checkpoint):
    config = BitsAndBytesConfig(**QUANTIZERS[name])
    model = AutoModelForCausalLM.from_pretrained(checkpoint, quantization_config=config, dtype=torch.bfloat16)
    assert memory.weight_bytes(checkpoint, name) == measure.storage_bytes(measure.model_tensors(model))


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize(("batch", "context"), [(1, 7), (3, 100)])
def test_kv_cache_exactly(family, batch, context):
    """After the token that follows the prompt: transformers trims a sliding window's cache when that token comes."""
    model = small_model(family).eval()
    with torch.no_grad():
        cache = model(torch.zeros(batch, context - 1, dtype=torch.long), use_cache=True).past_key_values
        cache = model(
            torch.zeros(batch, 1, dtype=torch.long), past_key_values=cache, use_cache=True
        ).past_key_values
    predicted = memory.kv_cache_bytes(shape_of(model), context, batch)
    assert predicted == measure.storage_bytes(measure.cache_tensors(cache))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sgd", torch.optim.SGD),
        ("sgd-momentum", lambda p: torch.optim.SGD(p, momentum=0.9)),
        ("adamw", torch.optim.AdamW),
        ("adamw-fp32", bnb.optim.AdamW),
        ("adamw-8bit", bnb.optim.AdamW8bit),
    ],
)
def test_gradients_and_optimizer_states_exactly(name, make, dtype):
    model = small_model("qwen2", dtype)  # its biases are smaller than the 8-bit optimizer's 4,096 values
    arch, optimizer = shape_of(model), make(model.parameters())
    model(torch.zeros(1, 5, dtype=torch.long), labels=torch.zeros(1, 5, dtype=torch.long)).loss.backward()
    optimizer.step()
    fmt = FORMATS["fp32" if dtype is torch.float32 else "bf16"]
    gradients = measure.storage_bytes(p.grad for p in model.parameters())
    assert gradients == memory.full_finetuning(arch, dtype=fmt)["gradients"]
    states = measure.storage_bytes(measure.optimizer_tensors(optimizer))
    assert OPTIMIZERS[name].state_bytes(arch.tensors, fmt) == states


def test_an_fp32_master_is_one_more_copy_of_16_bit_weights_and_none_of_fp32_ones():
    arch = shape_of(small_model("llama"))
    plain, master = OPTIMIZERS["adamw-fp32"], OPTIMIZERS["adamw-master"]
    extra = [
        master.state_bytes(arch.tensors, d) - plain.state_bytes(arch.tensors, d) for d in ("bf16", "fp32")
    ]
    assert extra == [4 * arch.parameters(), 0]


def step(model, batch: int, length: int):
    ids = (torch.arange(batch * length).reshape(batch, length) * 7) % SIZES["vocab_size"]
    return lambda: model(input_ids=ids, labels=ids, use_cache=False).loss


def saved(model, batch: int, length: int) -> int:
    forward = step(model, batch, length)
    return measure.saved_for_backward(forward, [*measure.model_tensors(model), *model.buffers()])


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize(("batch", "length"), [(2, 48), (1, 160)])
@pytest.mark.parametrize("checkpointing", [False, True])
class TestActivationsWithin5Percent:
    """The remaining percent: tables of the rotary embedding and one row per sequence that the formula leaves out."""

    def test_full_finetuning(self, family, name, dtype, batch, length, checkpointing):
        model = small_model(family, dtype)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        predicted = memory.activations(shape_of(model), length, batch, name, checkpointing=checkpointing)
        assert predicted.saved == pytest.approx(saved(model, batch, length), rel=0.05)

    def test_lora(self, family, name, dtype, batch, length, checkpointing):
        base = small_model(family, dtype)
        arch, lora = shape_of(base), Lora(8, ("q_proj", "v_proj", "down_proj"))
        model = get_peft_model(
            base, LoraConfig(r=8, target_modules=list(lora.targets), task_type="CAUSAL_LM")
        )
        if checkpointing:
            base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            base.enable_input_require_grads()
        predicted = memory.activations(arch, length, batch, name, lora, checkpointing)
        assert predicted.saved == pytest.approx(saved(model, batch, length), rel=0.05)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_qlora_activations_and_peak(checkpoint, checkpointing):
    config = BitsAndBytesConfig(**QUANTIZERS["nf4+dq"], bnb_4bit_compute_dtype=torch.bfloat16)
    base = AutoModelForCausalLM.from_pretrained(checkpoint, quantization_config=config, dtype=torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's remarks on gradient checkpointing
        base = prepare_model_for_kbit_training(
            base,
            use_gradient_checkpointing=checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    model = get_peft_model(base, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")).train()
    upcast = memory.qlora(checkpoint, adapters=Lora(8))["weights"]
    frozen = [
        t for m in model.modules() for p in m.parameters(recurse=False) if not p.requires_grad for t in [p]
    ]
    states = [t for p in frozen for t in measure.quantization_state(getattr(p, "quant_state", None))]
    assert upcast == measure.storage_bytes([*(p.data for p in frozen), *states])

    predicted = memory.activations(checkpoint, 100, 2, "fp32", Lora(8), checkpointing)
    assert predicted.saved == pytest.approx(saved(model, 2, 100), rel=0.05)


@pytest.mark.parametrize("family", CONFIGS)
def test_peak_without_checkpointing_is_the_backward_of_the_loss(family):
    """The peak comes when the loss's backward starts: all is saved, and two fp32 gradients as wide as the logits."""
    model = small_model(family)
    forward = step(model, 2, 48)
    forward().backward()
    model.zero_grad(set_to_none=True)
    peak = measure.peak_bytes(lambda: forward().backward())
    assert memory.activations(shape_of(model), 48, 2, "bf16").peak == pytest.approx(peak, rel=0.05)


def test_peak_bytes_sees_what_is_freed():
    def run():
        a = torch.ones(1000)
        b = a + 1
        del a
        return b + 1

    assert measure.peak_bytes(run) == 2 * 4000
