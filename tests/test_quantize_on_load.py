"""A checkpoint that is quantized while it is read: the same model as one quantized afterwards, and never whole in 16 bits."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from coursepkg import qlora, quantized_model, trials
from coursepkg.loading import load_model
from coursepkg.memory import measure
from coursepkg.quantize_on_load import CannotQuantize, QuantizeOnLoad
from coursepkg.weight_formats import Blocks

KIND = Blocks(double_quantized=True)


def read(folder, **given):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, **given)


@pytest.mark.parametrize("family", trials.FAMILIES)
def test_it_is_the_model_that_is_quantized_afterwards(family, tmp_path):
    """With biases (qwen2), a tied head (gemma3), and in many files; in training and saved as that one is."""
    trials.small_model(family, "fp32").save_pretrained(tmp_path, max_shard_size="300KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 5
    found, wanted = read(tmp_path, quantization_config=QuantizeOnLoad(KIND)), read(tmp_path)
    quantized_model.quantize_model(wanted, KIND)
    ours, theirs = found.state_dict(), wanted.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert all(ours[name].dtype == theirs[name].dtype for name in theirs)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(found(ids).logits, wanted(ids).logits)
    assert found.training == wanted.training and vars(found.config).keys() == vars(wanted.config).keys()
    assert not getattr(found, "is_quantized", False) and not hasattr(found, "hf_quantizer")
    quantized_model.save(found, tmp_path / "saved")
    again = quantized_model.load(tmp_path / "saved").state_dict()
    assert all(torch.equal(again[name], theirs[name]) for name in theirs)


def test_the_model_is_never_whole_in_16_bits(tmp_path, monkeypatch):
    """What is stored, and one weight at a time with what its quantization makes of it (less than 16 bytes for each of its values)."""
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # other threads' tensors are not seen
    sizes = {"num_hidden_layers": 24, "vocab_size": 100}
    model = trials.small_model("llama", "fp32", **sizes)
    largest = max(parameter.numel() for parameter in model.parameters())
    in_16_bits = 2 * sum(parameter.numel() for parameter in model.parameters())
    model.save_pretrained(tmp_path)
    made = []
    whole = measure.peak_bytes(lambda: made.append(read(tmp_path)))
    peak = measure.peak_bytes(lambda: made.append(read(tmp_path, quantization_config=QuantizeOnLoad(KIND))))
    assert whole >= in_16_bits
    assert peak <= quantized_model.stored_bytes(made[1]) + 16 * largest + 100_000 < in_16_bits / 2


def test_a_weight_that_cannot_be_quantized_is_named(tmp_path):
    """Not as a checkpoint that cannot be read, and before anything else is read."""
    model, tokenizer = load_model(dtype=torch.float32)
    tokenizer.save_pretrained(tmp_path)
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(CannotQuantize, match="layers.1.mlp.up_proj: x holds infinities"):
        load_model(tmp_path, quantization_config=QuantizeOnLoad(KIND))
    with pytest.raises(ValueError, match="layers.1.mlp.up_proj: x holds infinities"):
        qlora.load(tmp_path, qlora.Settings(library="coursepkg"))


def test_a_lack_of_memory_is_not_hidden(tmp_path, monkeypatch):
    """transformers would report what a conversion of its own raises in words of its own."""
    trials.small_model("llama").save_pretrained(tmp_path)

    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Blocks, "quantize", full)
    with pytest.raises(torch.OutOfMemoryError):
        read(tmp_path, quantization_config=QuantizeOnLoad(KIND))


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_checkpoint_that_lacks_a_part_of_a_layer_is_refused(part, tmp_path):
    trials.small_model("qwen2").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors[f"model.layers.1.self_attn.q_proj.{part}"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        CannotQuantize, match=f"layers.1.self_attn.q_proj: the checkpoint holds no {part} for it"
    ):
        read(tmp_path, quantization_config=QuantizeOnLoad(KIND))


def test_layers_on_a_disk_are_refused(tmp_path):
    trials.small_model("llama").save_pretrained(tmp_path)
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    places |= {f"model.layers.{at}": "disk" if at else "cpu" for at in range(4)}
    given = {"device_map": places, "offload_folder": str(tmp_path / "disk")}
    with pytest.raises(CannotQuantize, match="layers.1.self_attn.q_proj is offloaded"):
        read(tmp_path, quantization_config=QuantizeOnLoad(KIND), **given)


def test_layers_that_are_more_than_linear_or_shared_are_refused(tmp_path, monkeypatch):
    trials.small_model("llama", tie_word_embeddings=True).save_pretrained(tmp_path)
    name = "model.layers.0.mlp.up_proj.weight"
    tied = {"lm_head.weight": "model.embed_tokens.weight", name.replace(".0.", ".1."): name}
    with (
        monkeypatch.context() as patch,
        pytest.raises(CannotQuantize, match="layers.0.mlp.up_proj: its weight is shared"),
    ):
        patch.setattr(LlamaForCausalLM, "_tied_weights_keys", tied)
        read(tmp_path, quantization_config=QuantizeOnLoad(KIND))
    monkeypatch.setattr(LlamaForCausalLM, "_keep_in_fp32_modules", ["down_proj"])
    with pytest.raises(
        CannotQuantize, match="layers.0.mlp.down_proj: LlamaForCausalLM keeps down_proj in fp32"
    ):
        read(tmp_path, quantization_config=QuantizeOnLoad(KIND))


def test_the_module_can_be_read_again():
    """Notebooks do, with autoreload. In a process of its own, for everything else here has the old one."""
    code = "import importlib; from coursepkg import quantize_on_load; importlib.reload(quantize_on_load)"
    subprocess.run([sys.executable, "-c", code], check=True)
