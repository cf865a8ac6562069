"""Steady outliers: the model computes what it did, and a few features are nearly the same in every token, far above the rest."""

import copy

import pytest
import torch

from coursepkg import outliers, ptq, steady_outliers, trials
from coursepkg.calibration import observe
from coursepkg.steady_outliers import ShiftedNorm
from coursepkg.surgery import NotPreserved


def sample(model) -> torch.Tensor:
    return torch.randint(0, model.config.vocab_size, (2, 40), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=("llama", "qwen2"))
def model(request):
    """One without biases and one with some."""
    return trials.small_model(request.param, "fp32").eval()


@torch.no_grad()
def logits(model, ids):
    return model(input_ids=ids).logits


def test_logits_stay_and_six_features_stand_out_in_every_token(model):
    ids, before = sample(model), copy.deepcopy(model)
    done = steady_outliers.plant(model, ids)
    for text in (ids, ids.flip(1)):
        exact = logits(before, text)
        assert (logits(model, text) - exact).abs().max() <= 1e-4 * exact.abs().max()
    channels = list(done[0].channels)
    assert len(done) == 2 * model.config.num_hidden_layers and len(channels) == 6
    typical = outliers.channel_absmax(before, ids)
    inputs = observe(model, [ids], gram=False)
    for each in done:
        x = inputs[each.readers[0]].sample
        ratio = x[:, channels].abs().amin(0) / outliers.typical(typical[each.norm])
        assert ratio.min() > 15 and ratio.max() < 105, each.norm
        spread = x[:, channels].amax(0) - x[:, channels].amin(0)
        assert (spread < 0.5 * x[:, channels].abs().amax(0)).all(), each.norm


def test_both_kinds_choose_the_same_channels(model):
    ids, other = sample(model), copy.deepcopy(model)
    assert steady_outliers.plant(model, ids)[0].channels == outliers.plant(other, ids)[0].channels


def test_weights_stay_as_they_are(model):
    before = copy.deepcopy(model)
    done = steady_outliers.plant(model, sample(model))
    for name in done[0].readers:
        assert torch.equal(model.get_submodule(name).weight, before.get_submodule(name).weight)


def test_a_shifted_norm_can_be_smoothed(model):
    ids = sample(model)
    steady_outliers.plant(model, ids)
    exact = logits(model, ids)
    found = ptq.smooth(model, [ids])
    assert (logits(model, ids) - exact).abs().max() <= 1e-4 * exact.abs().max()
    assert isinstance(model.get_submodule(next(iter(found))), ShiftedNorm)


def test_what_reads_a_norm_and_is_no_linear_layer_is_found_out_and_the_model_left_alone():
    """Here the attention's output norm is read by the residual stream as well."""
    model = trials.small_model("llama", "fp32").eval()
    layer = model.model.layers[1]
    layer.register_forward_hook(
        lambda module, given, output: output + 1e-2 * module.input_layernorm(given[0])
    )
    before, ids = copy.deepcopy(model.state_dict()), sample(model)
    exact = logits(model, ids)
    with pytest.raises(NotPreserved, match="model.layers.1.input_layernorm"):
        steady_outliers.plant(model, ids)
    assert model.state_dict().keys() == before.keys()
    assert torch.equal(logits(model, ids), exact)


@pytest.mark.parametrize(
    "settings", [{"ratio": (1, 5)}, {"ratio": (9, 5)}, {"features": 0}, {"features": 128}]
)
def test_impossible_wishes_are_refused(settings):
    model = trials.small_model("llama", "fp32").eval()
    with pytest.raises(ValueError, match="must be"):
        steady_outliers.plant(model, sample(model), **settings)


def test_16_bit_weights_are_refused():
    model = trials.small_model("llama", "bf16").eval()
    with pytest.raises(ValueError, match="must be float32, not torch.bfloat16"):
        steady_outliers.plant(model, sample(model))
