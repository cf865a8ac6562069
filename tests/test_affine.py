"""Symmetric rounding: half a step at most, at every granularity."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursepkg import affine

GRANULARITIES = ("tensor", "channel", 8, 4)


def matrix(seed: int, rows: int = 6, columns: int = 16) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), bits=st.integers(2, 8), granularity=st.sampled_from(GRANULARITIES))
def test_the_error_is_at_most_half_a_step(seed, bits, granularity):
    """Elementwise; codes up to 127 come from a float32 division, so 127 · 2^−23 of a step may be lost: below 2e-5."""
    weight = matrix(seed)
    codes, scale = affine.quantize(weight, bits, granularity)
    rows, columns = affine.block_shape((6, 16), granularity)
    step = scale.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    assert ((weight - affine.dequantize(codes, scale)).abs() <= (0.5 + 2e-5) * step).all()
    assert codes.dtype == torch.int8 and codes.abs().max() <= 2 ** (bits - 1) - 1


def test_by_hand():
    """absmax 0.7 over 7 levels: a step of 0.1. A row of zeros keeps scale 1."""
    weight = torch.tensor([[0.7, -0.32, 0.04, 0.0], [0.0, 0.0, 0.0, 0.0]])
    codes, scale = affine.quantize(weight, 4, "channel")
    assert codes.tolist() == [[7, -3, 0, 0], [0, 0, 0, 0]]
    torch.testing.assert_close(scale, torch.tensor([[0.1], [1.0]]))


@pytest.mark.parametrize(
    ("granularity", "shape"), [("tensor", (1, 1)), ("channel", (6, 1)), (8, (6, 2)), (4, (6, 4))]
)
def test_a_scale_for_each_block(granularity, shape):
    codes, scale = affine.quantize(matrix(1), 4, granularity, torch.float16)
    assert scale.shape == shape and scale.dtype == torch.float16 and codes.shape == (6, 16)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_scale_in_16_bits_costs_its_own_rounding_and_no_more(bits):
    """The stored scale is off by at most 2^−11 of itself, so the largest code's value by 2^(bits−1) · 2^−11 steps."""
    weight = matrix(3)
    codes, scale = affine.quantize(weight, bits, 8, torch.float16)
    step = scale.float().repeat_interleave(8, 1)
    error = (weight - affine.dequantize(codes, scale)).abs()
    assert (error <= (0.5 + 2 ** (bits - 1) * 2**-11) * step).all()


def test_a_scale_that_16_bits_cannot_hold():
    tiny = torch.full((1, 4), 1e-7)
    codes, scale = affine.quantize(tiny, 8, "channel", torch.float16)
    assert scale > 0 and affine.dequantize(codes, scale).isfinite().all()
    with pytest.raises(ValueError, match="too large for torch.float16"):
        affine.quantize(torch.full((1, 4), 1e7), 4, "channel", torch.float16)


def test_rounding_twice_is_rounding_once():
    once = affine.dequantize(*affine.quantize(matrix(2), 4, 8))
    torch.testing.assert_close(affine.dequantize(*affine.quantize(once, 4, 8)), once, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("weight", "bits", "granularity", "said"),
    [
        (matrix(0), 1, "channel", "bits must be from 2 to 8, not 1"),
        (matrix(0), 9, "channel", "bits must be from 2 to 8, not 9"),
        (matrix(0), 4, 5, "groups of 5 do not fill rows of 16"),
        (torch.tensor([[float("inf"), 1.0]]), 4, "channel", "infinities or NaN"),
    ],
)
def test_what_cannot_be_rounded_is_refused(weight, bits, granularity, said):
    with pytest.raises(ValueError, match=said):
        affine.quantize(weight, bits, granularity)
