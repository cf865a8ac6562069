"""Layers that multiply in 8 bits compute what their method's function does, and keep what they store."""

import copy

import pytest
import torch

from coursepkg import llm_int8, w8a8
from coursepkg.affine import Quantized
from coursepkg.int8_linear import LlmInt8Linear, W8A8Linear


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return torch.nn.Linear(48, 24)


@pytest.fixture
def x():
    made = torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(1))
    made[..., 7] *= 30  # an outlier feature
    return made


@pytest.mark.parametrize("weights", ["channel", "tensor"])
@pytest.mark.parametrize("activations", ["channel", "tensor"])
def test_w8a8(linear, x, weights, activations):
    made = W8A8Linear.of(linear, weights, activations)
    weight = w8a8.quantize_weight(linear.weight, weights)
    assert torch.equal(made(x), w8a8.linear(x, weight, linear.bias, activations))
    assert made.codes.dtype == torch.int8 and made.scale.numel() == (24 if weights == "channel" else 1)
    assert f"activations per {activations}, dynamic" in repr(made)


def test_a_static_scale_clips_what_was_not_seen(linear, x):
    """Its steps are absmax / 127; what lies beyond has the last code, as if it were absmax."""
    absmax = x.abs().max().item()
    made = W8A8Linear.of(linear, activations="tensor", absmax=absmax)
    assert torch.allclose(made(x), W8A8Linear.of(linear, activations="tensor")(x), rtol=1e-5, atol=1e-5)
    seen, beyond = x.clone(), x.clone()
    seen[0, 0, 7], beyond[0, 0, 7] = absmax, 5 * absmax
    assert torch.equal(made(beyond), made(seen)) and "static" in repr(made)


@pytest.mark.parametrize("absmax", [0.0, -1.0, float("nan")])
def test_static_scales_that_are_none_are_refused(linear, absmax):
    with pytest.raises(ValueError, match="a static scale is one above 0"):
        W8A8Linear.of(linear, activations="tensor", absmax=absmax)
    with pytest.raises(ValueError, match="for the whole tensor"):
        W8A8Linear.of(linear, activations="channel", absmax=1.0)


@pytest.mark.parametrize("threshold", [6.0, 1.0, None])
def test_llm_int8(linear, x, threshold):
    made = LlmInt8Linear.of(linear, threshold)
    assert torch.equal(
        made(x), llm_int8.linear(x, llm_int8.quantize_weight(linear.weight), linear.bias, threshold)
    )
    assert f"threshold={threshold}" in repr(made)


def test_groups_are_refused(linear):
    with pytest.raises(ValueError, match="not groups of 16"):
        W8A8Linear.of(linear, 16)
    with pytest.raises(ValueError, match="not groups of 16"):
        W8A8Linear.of(linear, activations=16)


@pytest.mark.parametrize("make", [W8A8Linear.of, LlmInt8Linear.of])
def test_scales_keep_their_dtype_when_the_model_changes_its_own(linear, x, make):
    made = make(linear)
    before = copy.deepcopy(made.state_dict())
    made.half()
    assert made.bias.dtype == torch.float16
    for name in made._buffers:
        kept = made.state_dict().get(name)
        assert kept is None or torch.equal(kept, before[name]) and kept.dtype == before[name].dtype
    assert made(x.half()).dtype == torch.float16


def test_a_static_scale_lies_where_the_weight_does():
    """On meta: a scale left on the CPU would stop the first product on a GPU."""
    layer = W8A8Linear.of(torch.nn.Linear(8, 4), "tensor", "tensor", absmax=2.0)
    weight = Quantized(layer.codes.to("meta"), layer.scale.to("meta"), None, layer.scheme)
    moved = W8A8Linear(weight, None, layer.granularity, absmax=2.0)
    assert {buffer.device.type for buffer in moved.buffers()} == {"meta"}
