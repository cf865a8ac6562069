"""W8A8 products, and SmoothQuant's factors."""

import pytest
import torch

from coursepkg import affine, distortion, smoothquant, w8a8
from coursepkg.affine import Scheme


def data(outlier: float = 60.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations (tokens, inputs) with a large feature, and a weight."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(40, 96, generator=generator), torch.randn(50, 96, generator=generator) * 0.05
    x[:, 11] *= outlier
    return x, weight


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("weight_granularity", ["channel", "tensor"])
def test_it_is_the_product_of_what_both_are_read_back_as(granularity, weight_granularity):
    """Sums of 96 products in float32: off by 96 · 6e-8 of the sum of magnitudes at most, and there 3e-4."""
    x, weight = data()
    made = affine.quantize(weight, Scheme(8, granularity=weight_granularity))
    a = affine.quantize(x, Scheme(8, granularity=granularity)).dequantize().double()
    expected = a @ made.dequantize().double().T
    found = w8a8.linear(x.reshape(4, 10, 96), made, granularity=granularity).reshape(40, 50)
    bound = 96 * 6e-8 * (a.abs() @ made.dequantize().double().abs().T)
    assert ((found - expected).abs() <= bound).all()


def test_a_static_scale_and_a_bias():
    x, weight = data(1.0)
    made, bias = w8a8.quantize_weight(weight), torch.arange(50.0)
    scale = x.abs().max() / 127
    torch.testing.assert_close(
        w8a8.linear(x, made, bias, scale=scale), w8a8.linear(x, made, granularity="tensor") + bias
    )
    clipped = w8a8.linear(x, made, scale=scale / 4)
    torch.testing.assert_close(
        clipped, w8a8.linear(x.clamp(-127 * scale / 4, 127 * scale / 4), made, scale=scale / 4)
    )
    assert w8a8.linear(x.half(), made).dtype == torch.float16


def test_groups_have_no_whole_sum():
    x, weight = data()
    with pytest.raises(ValueError, match="one scale for a row"):
        w8a8.linear(x, affine.quantize(weight, Scheme(8, granularity=32)))
    with pytest.raises(ValueError, match="one scale for a row"):
        w8a8.linear(x, w8a8.quantize_weight(weight), granularity=32)
    with pytest.raises(ValueError, match="symmetric codes"):
        w8a8.linear(x, affine.quantize(weight, Scheme(8, "integer")))


def test_factors_by_hand():
    """max|X| = (16, 1), max|W| = (1, 4) over both weights: s = √16 / √1 = 4 and 1 / √4 = 0.5."""
    weights = torch.tensor([[1.0, -2.0], [0.5, 1.0]]), torch.tensor([[-0.25, 4.0]])
    absmax = torch.tensor([16.0, 1.0])
    assert smoothquant.smoothing(absmax, weights).tolist() == [4, 0.5]
    assert smoothquant.smoothing(absmax, weights, 1.0).tolist() == [16, 1]
    assert smoothquant.smoothing(absmax, weights, 0.0).tolist() == [1, 0.25]


def test_the_product_stays_and_rounding_gets_easier():
    """In full precision nothing changes but float32's last digits. Rounded, per tensor as well as per token, the error falls."""
    x, weight = data()
    s = smoothquant.smoothing(x.abs().amax(0), [weight])
    torch.testing.assert_close((x / s) @ (weight * s).T, x @ weight.T, rtol=1e-5, atol=1e-5)
    for granularity in ("tensor", "channel"):
        plain, smooth = (
            distortion.relative_error(
                x @ weight.T, w8a8.linear(a, w8a8.quantize_weight(b), granularity=granularity)
            )
            for a, b in ((x, weight), (x / s, weight * s))
        )
        assert smooth < plain / 3, granularity


def test_at_one_half_both_sides_are_equally_large():
    x, weight = data()
    s = smoothquant.smoothing(x.abs().amax(0), [weight])
    torch.testing.assert_close((x / s).abs().amax(0), (weight * s).abs().amax(0))


def test_inputs_that_are_never_there_are_left_alone():
    absmax, weight = torch.tensor([0.0, 2.0, 3.0]), torch.tensor([[1.0, 0.0, 1.0]])
    assert smoothquant.smoothing(absmax, [weight]).tolist() == [1, 1, pytest.approx(3**0.5)]


def test_what_does_not_go_together_is_refused():
    absmax, weight = torch.ones(3), torch.ones(2, 3)
    for alpha in (-0.1, 1.1):
        with pytest.raises(ValueError, match="alpha must be from 0 to 1"):
            smoothquant.smoothing(absmax, [weight], alpha)
    with pytest.raises(ValueError, match="the 3 inputs of absmax, not"):
        smoothquant.smoothing(absmax, [weight.T])
    with pytest.raises(ValueError, match="the 3 inputs of absmax, not"):
        smoothquant.smoothing(absmax, [])
    with pytest.raises(ValueError, match="infinities or NaN"):
        smoothquant.smoothing(absmax / 0, [weight])
