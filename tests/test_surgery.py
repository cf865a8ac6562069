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


@pytest.mark.parametrize(
    "make", [neox, lambda: trials.small_model("qwen3", "fp32").eval()], ids=["neox", "qwen3"]
)
def test_scaled_norms_leave_the_logits_and_change_what_is_between(make):
    """Logits to 1e-5 of the largest: some 100 roundings of 6e-8 on the way."""
    model = make()
    before, norms = model(input_ids=IDS).logits, surgery.norms(model, IDS)
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
    first, second, *_ = surgery.norms(trials.small_model("qwen3", "fp32").eval(), IDS)
    assert first.name.endswith("layers.0.input_layernorm")
    assert [name.rsplit(".", 1)[1] for name, _ in first.readers] == ["q_proj", "k_proj", "v_proj"]
    assert [name.rsplit(".", 1)[1] for name, _ in second.readers] == ["gate_proj", "up_proj"]


def test_a_gain_that_is_not_a_factor_is_refused():
    model = trials.small_model("gemma3", "fp32").eval()
    norm, before = surgery.norms(model, IDS)[0], copy.deepcopy(model.state_dict())
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
