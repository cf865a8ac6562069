"""Outliers on demand: the model computes what it did, and its activations have features far above the rest."""

import copy

import pytest
import torch

from coursepkg import outliers, trials
from coursepkg.surgery import linears

PLAIN_GAIN = ("llama", "qwen2", "qwen3")


def sample(model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, model.config.vocab_size, (2, 40), generator=generator)


@pytest.fixture(params=PLAIN_GAIN)
def model(request):
    return trials.small_model(request.param, "fp32").eval()


@torch.no_grad()
def logits(model, ids):
    return model(input_ids=ids).logits


def test_logits_stay_and_six_features_stand_out(model):
    ids, before = sample(model), copy.deepcopy(model)
    planted = outliers.plant(model, ids, features=6, ratio=(20, 100))
    difference = (logits(model, ids) - logits(before, ids)).abs().max()
    assert difference <= 1e-4 * logits(before, ids).abs().max()
    assert len(planted) == 2 * model.config.num_hidden_layers
    channels = list(planted[0].channels)
    for name, absmax in outliers.channel_absmax(model, ids).items():
        times = absmax / outliers.typical(absmax)
        assert times[channels].min() >= 19 and times[channels].max() <= 105, name
        rest = torch.ones_like(times, dtype=torch.bool)
        rest[channels] = False
        assert times[rest].max() < 10, name
    assert {each.channels for each in planted} == {tuple(channels)}


def test_other_text_gives_the_same_logits_too(model):
    before = copy.deepcopy(model)
    outliers.plant(model, sample(model))
    ids = sample(model).flip(1)
    assert (logits(model, ids) - logits(before, ids)).abs().max() <= 1e-4 * logits(before, ids).abs().max()


def test_the_readers_of_a_norm_are_the_layers_behind_it():
    model = trials.small_model("llama", "fp32").eval()
    first, second = outliers.plant(model, sample(model))[:2]
    assert first.norm == "model.layers.0.input_layernorm"
    assert [name.rsplit(".", 1)[1] for name in first.readers] == ["q_proj", "k_proj", "v_proj"]
    assert [name.rsplit(".", 1)[1] for name in second.readers] == ["gate_proj", "up_proj"]


def test_a_gain_that_is_not_a_plain_factor_is_refused_and_the_model_left_alone():
    """Gemma's norms multiply by 1 + weight."""
    model = trials.small_model("gemma3", "fp32").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(outliers.NotPreserved, match="model.layers.0.input_layernorm"):
        outliers.plant(model, sample(model))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "settings", [{"ratio": (1, 5)}, {"ratio": (9, 5)}, {"features": 0}, {"features": 128}]
)
def test_impossible_wishes_are_refused(settings):
    model = trials.small_model("llama", "fp32").eval()
    with pytest.raises(ValueError, match="must be"):
        outliers.plant(model, sample(model), **settings)


def test_dead_channels_are_not_chosen():
    model = trials.small_model("llama", "fp32").eval()
    with torch.no_grad():
        model.model.layers[0].input_layernorm.weight[:100] = 0
    for planted in outliers.plant(model, sample(model), features=20):
        assert min(planted.channels) >= 100
    assert logits(model, sample(model)).isfinite().all()


def test_16_bit_weights_are_refused():
    with pytest.raises(ValueError, match="must be float32, not torch.bfloat16"):
        model = trials.small_model("llama", "bf16").eval()
        outliers.plant(model, sample(model))


def test_a_model_without_linear_layers_is_refused():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=100)).eval()
    for call in (lambda: outliers.plant(model, sample(model)), lambda: list(linears(model))):
        with pytest.raises(ValueError, match="no torch.nn.Linear to quantize; its layers are Conv1D"):
            call()
