"""Whole models: each method does to every layer what it does to one, with the inputs that the layer really has."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, DeepseekV3Config, OPTConfig

from coursepkg import affine, awq, calibration, gptq, ptq, smoothquant, surgery, trials
from coursepkg.affine import Scheme
from coursepkg.int8_linear import LlmInt8Linear, W8A8Linear
from coursepkg.quantized_linear import QuantizedLinear

SCHEME = Scheme(4, granularity=32)
ASYMMETRIC = Scheme(3, "integer", granularity=64, scale_dtype=torch.float16)
FAMILIES = ("llama", "qwen2", "qwen3")


def text(model, count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, model.config.vocab_size, (2, 60), generator=generator) for _ in range(count)]


@pytest.fixture(params=FAMILIES)
def model(request):
    return trials.small_model(request.param, "fp32").eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=text(model)[0], use_cache=False).logits


def distance(model, other) -> float:
    return ((logits(model) - logits(other)).square().mean() / logits(other).square().mean()).item()


@pytest.mark.parametrize("scheme", [SCHEME, ASYMMETRIC, Scheme(4, granularity="tensor")], ids=str)
def test_gptq_quantizes_each_layer_with_the_inputs_that_those_before_it_give(scheme):
    """Codes and scales are those of one layer after the other, observed anew in the whole model each time."""
    model = trials.small_model("llama", "fp32", num_hidden_layers=2).eval()
    by_hand, made = copy.deepcopy(model), copy.deepcopy(model)
    order = ["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]
    for number in range(2):
        for together in order:
            inputs = calibration.observe(by_hand, text(model))
            for name, linear in list(surgery.linears(by_hand)):
                if f"layers.{number}." in name and name.rsplit(".", 1)[1] in together:
                    found = gptq.quantize(linear.weight, inputs[name].gram, scheme, act_order=True)
                    linear.weight.data = found.dequantize()
    assert ptq.gptq(made, text(model), scheme, act_order=True) == [name for name, _ in surgery.linears(model)]
    for name, linear in surgery.linears(by_hand):
        layer = made.get_submodule(name)
        assert isinstance(layer, QuantizedLinear) and torch.equal(layer.dequantize(), linear.weight), name
    assert torch.equal(logits(made), logits(by_hand))


def test_gptq_keeps_biases_and_what_is_no_layer():
    model = trials.small_model("qwen2", "fp32").eval()
    made = copy.deepcopy(model)
    ptq.gptq(made, text(model), SCHEME)
    name = "model.layers.1.self_attn.q_proj"
    assert torch.equal(made.get_submodule(name).bias, model.get_submodule(name).bias)
    assert torch.equal(made.lm_head.weight, model.lm_head.weight) and not made.training


def test_methods_that_look_at_text_change_the_logits_less_than_rounding(model):
    """At 3 bits, on the text that they have seen."""
    rounded, by_gptq, by_awq = (copy.deepcopy(model) for _ in range(3))
    from coursepkg.quantized_model import quantize_model
    from coursepkg.weight_formats import Affine

    scheme = Scheme(3, granularity=32)
    quantize_model(rounded, Affine(scheme))
    ptq.gptq(by_gptq, text(model), scheme)
    ptq.awq(by_awq, text(model), scheme)
    assert distance(by_gptq, model) < distance(rounded, model)
    assert distance(by_awq, model) < distance(rounded, model)


def test_folding_leaves_the_model_and_finds_the_scales_of_one_layer(model):
    """Logits to 1e-5 of the largest: some 100 roundings of 6e-8 on the way."""
    made, before = copy.deepcopy(model), calibration.observe(model, text(model), gram=False)
    found = ptq.salience(made, text(model), SCHEME, clip=False)
    assert len(found) == 4 * model.config.num_hidden_layers
    assert any(search.ratio > 0 for search in found.values())
    assert (logits(made) - logits(model)).abs().max() <= 1e-5 * logits(model).abs().max()
    first = "model.layers.0"
    inputs = before[f"{first}.self_attn.q_proj"]
    weights = [model.get_submodule(f"{first}.self_attn.{each}_proj").weight for each in "qkv"]
    search = awq.search(weights, inputs.mean_abs, inputs.sample, SCHEME)
    assert found[f"{first}.input_layernorm"].errors == search.errors
    # a row of k is what it was but for the columns' scales; v's rows are scaled too, for o
    k = made.get_submodule(f"{first}.self_attn.k_proj").weight
    assert torch.allclose(k, weights[1] * search.scales, rtol=1e-5)


def test_inputs_from_one_channel_share_their_scale():
    """Four heads read two heads' values: 128 inputs of o, 64 outputs of v."""
    model = trials.small_model("llama", "fp32").eval()
    found = ptq.salience(model, text(model), SCHEME, clip=False)
    scales = found["model.layers.0.self_attn.v_proj"].scales.reshape(2, 2, 32)
    assert torch.equal(scales[:, 0], scales[:, 1]) and scales.unique().numel() > 1


def test_awq_is_salience_and_then_rounding():
    model = trials.small_model("llama", "fp32").eval()
    made, folded = copy.deepcopy(model), copy.deepcopy(model)
    ptq.awq(made, text(model), ASYMMETRIC)
    ptq.salience(folded, text(model), ASYMMETRIC)
    for name, linear in surgery.linears(folded):
        expected = affine.quantize(linear.weight, ASYMMETRIC).dequantize()
        assert torch.equal(made.get_submodule(name).dequantize(), expected), name


def test_clipping_sees_the_scaled_inputs():
    """After folding, what a layer reads is divided by s; so the clipped weights are those of `awq.clip` on such inputs."""
    model = trials.small_model("llama", "fp32", num_hidden_layers=1).eval()
    scaled, made = copy.deepcopy(model), copy.deepcopy(model)
    ptq.salience(scaled, text(model), SCHEME, clip=False)
    ptq.salience(made, text(model), SCHEME, clip=True)
    inputs = calibration.observe(scaled, text(model), gram=False)
    for name, linear in surgery.linears(scaled):
        expected = awq.clip(linear.weight, inputs[name].sample, SCHEME)
        assert torch.equal(made.get_submodule(name).weight, expected), name


def test_awq_scales_then_gptq():
    model = trials.small_model("llama", "fp32").eval()
    both, alone = copy.deepcopy(model), copy.deepcopy(model)
    ptq.salience(both, text(model), Scheme(3, granularity=32), clip=False)
    ptq.gptq(both, text(model), Scheme(3, granularity=32))
    ptq.awq(alone, text(model), Scheme(3, granularity=32))
    assert distance(both, model) < distance(alone, model)


def test_smoothing_leaves_the_model_and_evens_out_the_activations(model):
    before = calibration.observe(model, text(model), gram=False)
    made = copy.deepcopy(model)
    found = ptq.smooth(made, text(model), alpha=0.5)
    after = calibration.observe(made, text(model), gram=False)
    assert (logits(made) - logits(model)).abs().max() <= 1e-5 * logits(model).abs().max()
    assert list(found)[:2] == ["model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"]
    for each, norm in (("self_attn.{}_proj", "input_layernorm"), ("mlp.{}_proj", "post_attention_layernorm")):
        names = [
            f"model.layers.1.{each.format(part)}"
            for part in (("q", "k", "v") if "attn" in each else ("gate", "up"))
        ]
        weights = [model.get_submodule(name).weight for name in names]
        s = smoothquant.smoothing(before[names[0]].absmax, weights, 0.5)
        assert torch.allclose(found[f"model.layers.1.{norm}"], s, rtol=1e-4)
        assert torch.allclose(after[names[0]].absmax, before[names[0]].absmax / s, rtol=1e-4)


def test_smoothing_refuses_gains_that_are_no_factors():
    model = trials.small_model("gemma3", "fp32").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(surgery.NotPreserved, match="model.layers.0.input_layernorm"):
        ptq.smooth(model, text(model))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_w8a8_swaps_all_layers_but_the_head(model):
    made = copy.deepcopy(model)
    assert ptq.w8a8(made, "tensor", "tensor") == [name for name, _ in surgery.linears(model)]
    layer = made.model.layers[0].mlp.up_proj
    assert isinstance(layer, W8A8Linear) and layer.scale.numel() == 1 and layer.input_scale is None
    assert type(made.lm_head) is torch.nn.Linear
    static = copy.deepcopy(model)
    ptq.w8a8(static, activations="tensor", batches=text(model))
    name = "model.layers.1.mlp.down_proj"
    absmax = calibration.observe(model, text(model), gram=False)[name].absmax.max()
    assert static.get_submodule(name).input_scale.item() == pytest.approx(absmax.item() / 127)


def test_llm_int8_swaps_all_layers_but_the_head(model):
    made = copy.deepcopy(model)
    ptq.llm_int8(made, threshold=2.0)
    layer = made.model.layers[0].mlp.up_proj
    assert (
        isinstance(layer, LlmInt8Linear) and layer.threshold == 2.0 and type(made.lm_head) is torch.nn.Linear
    )
    assert distance(made, model) < 1e-3


@pytest.mark.parametrize(
    "change",
    [
        lambda model: ptq.gptq(model, text(model), SCHEME),
        lambda model: ptq.awq(model, text(model), SCHEME),
        lambda model: ptq.salience(model, text(model), SCHEME),
        lambda model: ptq.smooth(model, text(model)),
        lambda model: ptq.w8a8(model),
        lambda model: ptq.w8a8(model, activations="tensor", batches=[]),
        lambda model: ptq.llm_int8(model),
    ],
)
def test_what_is_more_than_a_linear_is_refused_and_the_model_left(change):
    model = trials.small_model("llama", "fp32").eval()
    model.model.layers[1].mlp.up_proj.register_forward_hook(lambda *_: None)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"model\.layers\.1\.mlp\.up_proj: it has hooks"):
        change(model)
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("method", [ptq.gptq, ptq.awq, ptq.salience])
def test_a_scheme_that_does_not_fit_is_refused_first(method):
    model = trials.small_model("llama", "fp32").eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"model\.layers\.0\.self_attn\.q_proj: groups of 48 do not fill"):
        method(model, text(model), Scheme(4, granularity=48))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_gram_matrix_that_fails_names_its_layers():
    model = trials.small_model("llama", "fp32").eval()
    with torch.no_grad():
        model.model.layers[1].input_layernorm.weight.zero_()
    with pytest.raises(ValueError, match=r"model\.layers\.1\.self_attn\.q_proj, .*the Gram matrix is 0"):
        ptq.gptq(model, text(model), SCHEME)


def shared(model):
    model.model.layers[1].mlp.up_proj.weight = model.model.layers[0].mlp.up_proj.weight


def shared_norm(model):
    model.model.layers[1].input_layernorm.weight = model.model.layers[0].input_layernorm.weight


@pytest.mark.parametrize(
    ("change", "method", "message"),
    [
        (shared_norm, lambda model: ptq.smooth(model, text(model)), "share a weight"),
        (shared, lambda model: ptq.smooth(model, text(model)), "share a weight"),
        (shared, lambda model: ptq.salience(model, text(model), SCHEME, clip=False), "share a weight"),
        (None, lambda model: ptq.awq(model, text(model), Scheme(4, granularity="tensor")), "give clip=False"),
        (None, lambda model: ptq.w8a8(model, batches=text(model)), 'need activations="tensor"'),
    ],
)
def test_what_cannot_be_done_rightly_is_refused_before_anything_changes(change, method, message):
    model = trials.small_model("llama", "fp32").eval()
    if change:
        change(model)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        method(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_layer_that_read_only_zeros_has_no_static_scale():
    model = trials.small_model("llama", "fp32").eval()
    model.model.layers[0].mlp.up_proj.weight.data.zero_()
    with pytest.raises(
        ValueError, match=r"layers\.0\.mlp\.down_proj: in the text it read nothing, or only zeros"
    ):
        ptq.w8a8(model, activations="tensor", batches=text(model))


@pytest.mark.parametrize(
    "method",
    [
        lambda model: ptq.gptq(model, text(model), SCHEME),
        lambda model: ptq.awq(model, text(model), SCHEME),
        lambda model: ptq.smooth(model, text(model)),
        ptq.w8a8,
        ptq.llm_int8,
    ],
)
def test_a_weight_that_is_not_finite_is_refused_first(method):
    model = trials.small_model("llama", "fp32").eval()
    model.model.layers[3].mlp.down_proj.weight.data[0, 0] = torch.nan
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"model\.layers\.3\.mlp\.down_proj: .*infinities or NaN"):
        method(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name].nan_to_num(7), before[name].nan_to_num(7)) for name in before)


def with_shared_experts() -> torch.nn.Module:
    """Its second layer's shared experts are Linear, and read what the router and the other experts read, which are none."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 16, "vocab_size": 96}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    sizes |= {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
    sizes |= {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
    config = DeepseekV3Config(**sizes, v_head_dim=16, first_k_dense_replace=1)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def test_a_norm_that_something_else_reads_is_not_smoothed():
    model = with_shared_experts()
    before = logits(model)
    with pytest.raises(surgery.NotPreserved, match="model.layers.1.post_attention_layernorm changes"):
        ptq.smooth(model, text(model))
    assert (logits(model) - before).abs().max() <= 1e-5 * before.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_sources_are_the_same_in_16_bits(dtype):
    """Where a channel is large, 16 bits would round away what is wrong in the others."""
    model = with_shared_experts()
    model.model.embed_tokens.weight.data[:, 0] = 100
    scheme, found = Scheme(4, granularity="channel"), []
    for made in (model, copy.deepcopy(model).to(dtype)):
        found.append(list(ptq.salience(made, text(model), scheme, grid=2, clip=False)))
        assert next(made.parameters()).dtype in (dtype, torch.float32)
    assert found[0] == found[1] and "model.layers.1.mlp.shared_experts.up_proj" in found[0]
    assert "model.layers.1.post_attention_layernorm" not in found[0]


def test_layers_with_two_sources_are_scaled_in_one():
    """With relu, which bends nothing that halving does not, down follows both gate and up."""
    model = trials.small_model("llama", "fp32", hidden_act="relu", num_hidden_layers=1).eval()
    layer = next(calibration.layer_by_layer(model, text(model)))
    names = [source.name for source in layer.sources()]
    assert names[-2:] == ["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"]
    before = logits(model)
    assert list(ptq.salience(model, text(model), SCHEME, clip=False)) == names[:-1]
    assert (logits(model) - before).abs().max() <= 1e-5 * before.abs().max()


@pytest.mark.parametrize("method", [ptq.gptq, ptq.awq])
def test_large_weights_that_stay_are_named(method):
    """OPT's projections stand before and behind its decoder layers."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = OPTConfig(**sizes, word_embed_proj_dim=16, vocab_size=96, max_position_embeddings=64)
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.warns(
        UserWarning, match=r"not quantized: model.decoder.project_out.weight, .*project_in.weight$"
    ):
        method(model, text(model), Scheme(4, granularity=32))


@pytest.mark.parametrize("method", [ptq.gptq, ptq.awq])
def test_where_all_is_quantized_nothing_is_warned_of(method, recwarn):
    model = trials.small_model("llama", "fp32").eval()
    method(model, text(model), SCHEME)
    assert not [str(each.message) for each in recwarn if "not quantized" in str(each.message)]
