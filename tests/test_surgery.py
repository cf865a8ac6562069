"""Norms and their readers: found by watching, scaled without changing what the model computes."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig

from coursepkg import calibration, surgery, trials

IDS = torch.arange(12).reshape(2, 6)


def neox() -> torch.nn.Module:
    """LayerNorms with biases; attention and MLP read norms of their own."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    model = AutoModelForCausalLM.from_config(GPTNeoXConfig(**sizes, num_attention_heads=2)).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def norms_of(model) -> list[surgery.Source]:
    return surgery.norms(model, lambda: model(input_ids=IDS, use_cache=False))


@pytest.mark.parametrize(
    "make", [neox, lambda: trials.small_model("qwen3", "fp32").eval()], ids=["neox", "qwen3"]
)
def test_scaled_norms_leave_the_logits_and_change_what_is_between(make):
    """Logits to 1e-5 of the largest: some 100 roundings of 6e-8 on the way."""
    model = make()
    before, norms = model(input_ids=IDS).logits, norms_of(model)
    inputs = calibration.observe(model, [IDS], gram=False)
    assert len(norms) == 2 * model.config.num_hidden_layers and len({norm.name for norm in norms}) == len(
        norms
    )
    for norm in norms:
        by = torch.ones(norm.module.weight.shape[0])
        by[3], by[5] = 50.0, 0.1
        norm.scale(by)
        reader = norm.readers[0][0]
        after = calibration.observe(model, [IDS], gram=False)[reader]
        torch.testing.assert_close(
            after.absmax[[3, 5]] / inputs[reader].absmax[[3, 5]], by[[3, 5]], rtol=1e-4, atol=0
        )
    assert (model(input_ids=IDS).logits - before).abs().max() <= 1e-5 * before.abs().max()


def test_readers_are_those_of_exactly_the_norms_output():
    first, second, *_ = norms_of(trials.small_model("qwen3", "fp32").eval())
    assert first.name.endswith("layers.0.input_layernorm")
    assert [name.rsplit(".", 1)[1] for name, _ in first.readers] == ["q_proj", "k_proj", "v_proj"]
    assert [name.rsplit(".", 1)[1] for name, _ in second.readers] == ["gate_proj", "up_proj"]


def test_a_gain_that_is_not_a_factor_is_refused():
    model = trials.small_model("gemma3", "fp32").eval()
    norm, before = norms_of(model)[0], copy.deepcopy(model.state_dict())
    with pytest.raises(
        surgery.NotPreserved, match="input_layernorm's output is not its gain times something"
    ):
        norm.scale(torch.full((128,), 2.0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_layers_are_the_list_that_holds_the_linears():
    names = [name for name, _ in surgery.decoder_layers(neox())]
    assert names == ["gpt_neox.layers.0", "gpt_neox.layers.1"]
    with pytest.raises(ValueError, match="has no list of layers with torch.nn.Linear"):
        surgery.decoder_layers(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def found_in(model) -> list[surgery.Source]:
    return next(calibration.layer_by_layer(model, [IDS])).sources()


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_sources_are_the_norms_v_and_up(family):
    """Not q, k or gate, whose outputs are bent or multiplied with one another on the way."""
    model = trials.small_model(family, "fp32").eval()
    found = {source.name.rsplit(".", 1)[1]: source for source in found_in(model)}
    assert list(found) == ["input_layernorm", "post_attention_layernorm", "v_proj", "up_proj"]
    assert [name.rsplit(".", 1)[1] for name, _ in found["v_proj"].readers] == ["o_proj"]
    heads, head = model.config.num_attention_heads, found["v_proj"].readers[0][1].in_features // 4
    shared = torch.arange(2 * head).reshape(2, head).repeat_interleave(heads // 2, 0)
    assert torch.equal(found["v_proj"].channels, shared.flatten())  # two heads read each of two v heads
    assert torch.equal(found["up_proj"].channels, torch.arange(384))


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_sources_can_be_scaled_without_a_change_of_the_model(family):
    """Logits to 1e-5 of the largest: some 100 roundings of 6e-8 on the way. qwen2 has biases."""
    model = trials.small_model(family, "fp32").eval()
    before, kept = model(input_ids=IDS).logits, copy.deepcopy(model.state_dict())
    found = found_in(model)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    generator = torch.Generator().manual_seed(0)
    for source in found:
        source.scale(torch.rand(len(source.module.weight), generator=generator) * 4 + 0.1)
        assert not torch.equal(source.module.weight, kept[f"{source.name}.weight"])
        assert (model(input_ids=IDS).logits - before).abs().max() <= 1e-5 * before.abs().max(), source.name


def test_gains_that_are_no_factors_are_no_sources():
    model = trials.small_model("gemma3", "fp32").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.0)
    assert [source.name.rsplit(".", 1)[1] for source in found_in(model)] == ["v_proj", "up_proj"]


def test_what_something_else_reads_too_is_no_source():
    model = trials.small_model("llama", "fp32").eval()
    mlp = model.model.layers[0].mlp
    mlp.forward = lambda x: mlp.down_proj(mlp.up_proj(x)) + mlp.up_proj(x)[..., :128]
    mlp.gate_proj = None
    names = [source.name.rsplit(".", 1)[1] for source in found_in(model)]
    assert "up_proj" not in names and "v_proj" in names


def test_a_channel_that_tells_nothing_makes_no_source():
    model = trials.small_model("llama", "fp32").eval()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[7] = 0
    assert "up_proj" not in [source.name.rsplit(".", 1)[1] for source in found_in(model)]


def test_an_input_that_mixes_two_outputs_makes_no_source():
    model = trials.small_model("llama", "fp32").eval()
    mlp = model.model.layers[0].mlp
    mlp.forward = lambda x: mlp.down_proj(mlp.up_proj(x) + mlp.up_proj(x).roll(1, -1))
    mlp.gate_proj = None
    assert "up_proj" not in [source.name.rsplit(".", 1)[1] for source in found_in(model)]


def test_a_large_channel_hides_no_other():
    """Gemma's gains, 1 more than the weight: where one is ten million, the others' halves are as wrong as ever."""
    model = trials.small_model("gemma3", "fp32").eval()
    norm = norms_of(model)[0]
    with torch.no_grad():
        norm.module.weight[0] = 1e7
    with pytest.raises(surgery.NotPreserved, match="its channels cannot be scaled"):
        norm.scale(torch.full((128,), 0.5))


def test_in_fp32_all_is_put_back():
    layer = torch.nn.Linear(4, 3, dtype=torch.bfloat16)
    weight, values = layer.weight, layer.weight.detach().clone()
    with surgery.in_fp32(layer):
        assert layer.weight is weight and layer(torch.ones(4)).dtype == torch.float32
        layer.weight.data += 1
    assert layer.weight is weight and weight.dtype == torch.bfloat16 and torch.equal(weight, values)
