"""Affine quantization: half a step at most, whatever shares a scale, and the same codes as the libraries."""

import dataclasses
import itertools
import math

import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.utils import calculate_qparams
from hypothesis import given, settings
from hypothesis import strategies as st

from coursepkg import affine, distortion
from coursepkg.affine import Scheme

GRANULARITIES = ("tensor", "channel", 8, 4)
ZERO_POINTS = (None, "integer", "real")
#: Codes up to 255 come from divisions in float32, which may be off by 2^-23 of them, and so are the products that come back.
ROUNDING = 255 * 2**-22


def matrix(seed: int, rows: int = 6, columns: int = 16, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) + shift


def spread(parameter: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A scale for each value."""
    rows, columns = like.reshape(-1, like.shape[-1]).shape
    by_row = parameter.float().repeat_interleave(rows // parameter.shape[0], 0)
    return by_row.repeat_interleave(columns // parameter.shape[1], 1).reshape(like.shape)


schemes = st.builds(
    Scheme,
    bits=st.integers(2, 8),
    zero_point=st.sampled_from(ZERO_POINTS),
    granularity=st.sampled_from(GRANULARITIES),
)


# The bound


@settings(max_examples=150, deadline=None)
@given(
    scheme=schemes,
    full=st.booleans(),
    seed=st.integers(0, 10**6),
    shift=st.sampled_from([0.0, 3.0, -5.0]),
    exponent=st.integers(-60, 60),
)
def test_the_error_is_at_most_half_a_step(scheme, full, seed, shift, exponent):
    """Elementwise. Symmetric and real: the ruler reaches both ends. Integer: its ends are up to half a step short of the
    range's, and only by that can a value lie beyond. float32 adds its own rounding of the sum with an offset."""
    if full and scheme.is_symmetric:
        scheme = dataclasses.replace(scheme, full_range=True)
    x = matrix(seed, shift=shift) * 2.0**exponent
    made = affine.quantize(x, scheme)
    step = spread(made.scale, x)
    lowest, highest = scheme.code_range
    assert ((made.dequantize() - x).abs() <= (0.5 + ROUNDING) * step + 2**-22 * x.abs().max()).all()
    assert made.codes.dtype == scheme.code_dtype and made.codes.shape == x.shape
    assert lowest <= int(made.codes.min()) and int(made.codes.max()) <= highest


@settings(max_examples=60, deadline=None)
@given(scheme=schemes, seed=st.integers(0, 10**6))
def test_a_step_is_the_range_over_the_steps_and_no_code_is_left_unused(scheme, seed):
    x = matrix(seed)
    made = affine.quantize(x, scheme)
    blocks = [x] if scheme.granularity == "tensor" else x.reshape(made.scale.numel(), -1)
    for block, scale in zip(blocks, made.scale.flatten(), strict=True):
        low, high = float(block.min()), float(block.max())
        if scheme.is_symmetric:
            low, high = -max(-low, high), max(-low, high)
        elif scheme.zero_point == "integer":
            low, high = min(low, 0), max(high, 0)
        assert float(scale) == pytest.approx(
            (high - low) / (scheme.code_range[1] - scheme.code_range[0]), rel=1e-6
        )


@settings(max_examples=60, deadline=None)
@given(scheme=schemes, seed=st.integers(0, 10**6))
def test_rounding_twice_is_rounding_once(scheme, seed):
    """With the same ruler; a ruler that is laid anew may be shorter, where no value was rounded to its ends."""
    made = affine.quantize(matrix(seed, shift=1), scheme)
    again = affine.encode(made.dequantize(), made.scale, made.zero_point, scheme)
    assert torch.equal(again, made.codes)


@pytest.mark.parametrize("zero_point", ZERO_POINTS)
@pytest.mark.parametrize("bits", range(2, 9))
def test_each_bit_gives_six_decibels_on_uniform_data(bits, zero_point):
    """Uniform from −1 to 1 in n steps: the error is uniform over a step of 2/n, so its mean square is (2/n)²/12 and the
    ratio to the signal's 1/3 is n²: 6.02 decibels a bit. A million values: their mean square is 0.1 % sure, 0.005 dB."""
    x = torch.rand(1000, 1000, generator=torch.Generator().manual_seed(bits)) * 2 - 1
    scheme = Scheme(bits, zero_point, "tensor")
    lowest, highest = scheme.code_range
    found = distortion.sqnr(x, affine.quantize(x, scheme).dequantize())
    assert found == pytest.approx(20 * math.log10(highest - lowest), abs=0.02)


# By hand


def test_the_lectures_numbers():
    """A step of 1.05/7 = 0.15."""
    made = affine.quantize(torch.tensor([0.23, -0.71, 0.02, 1.05]), Scheme(4))
    assert made.codes.tolist() == [2, -5, 0, 7]
    torch.testing.assert_close(made.dequantize(), torch.tensor([0.30, -0.75, 0.0, 1.05]))


def test_eight_bits_from_0_to_1():
    """A step of 1/255; 0.12 · 255 = 30.6."""
    made = affine.quantize(torch.tensor([0.0, 0.12, 1.0]), Scheme(8, "integer"))
    assert made.codes.tolist() == [0, 31, 255]
    assert made.dequantize()[1].item() == pytest.approx(31 / 255)


def test_an_integer_zero_point_by_hand():
    """−1 to 2 in 15 steps of 0.2: 0 has code 5, and 2 code 15."""
    made = affine.quantize(torch.tensor([-1.0, 0.0, 0.35, 2.0]), Scheme(4, "integer"))
    assert made.codes.tolist() == [0, 5, 7, 15] and made.zero_point.tolist() == [[5]]
    torch.testing.assert_close(made.dequantize(), torch.tensor([-1.0, 0.0, 0.4, 2.0]))


def test_a_real_offset_by_hand():
    """1 to 4 in 15 steps of 0.2 from 1: 0 is not on the ruler, and the steps are smaller than with 0."""
    x = torch.tensor([1.0, 1.5, 4.0])
    made = affine.quantize(x, Scheme(4, "real"))
    assert made.codes.tolist() == [0, 2, 15] and made.zero_point.item() == 1
    assert made.scale.item() == pytest.approx(0.2)
    assert affine.quantize(x, Scheme(4, "integer")).scale.item() == pytest.approx(4 / 15)


def test_both_usual_ranges_of_four_bits():
    """Absmax 3.75: seven steps on each side, or fifteen of 0.5 from −8 to 7, which both ends miss by half a step."""
    x = torch.tensor([-3.75, 3.75, 1.5])
    narrow, full = (affine.quantize(x, Scheme(4, full_range=full)) for full in (False, True))
    assert narrow.codes.tolist() == [-7, 7, 3] and full.codes.tolist() == [-8, 7, 3]
    assert narrow.scale.item() == pytest.approx(3.75 / 7) and full.scale.item() == 0.5
    assert full.dequantize().tolist() == [-4.0, 3.5, 1.5]


@settings(max_examples=60, deadline=None)
@given(bits=st.integers(2, 8), seed=st.integers(0, 10**6), granularity=st.sampled_from(GRANULARITIES))
def test_both_conventions_of_a_zero_point_are_one_map(bits, seed, granularity):
    """q = round(x/s) + z, and q = round((x − o)/s) with o = −s·z: s·(q − z) and s·q + o. Ties apart, which random values do
    not meet, and where float32 rounds the quotient to a tie."""
    x = matrix(seed, shift=0.5)
    integer = Scheme(bits, "integer", granularity)
    made = affine.quantize(x, integer)
    offset = affine.offset(made.scale, made.zero_point)
    real = dataclasses.replace(integer, zero_point="real")
    codes = affine.encode(x, made.scale, offset, real)
    near_tie = ((x / spread(made.scale, x)).frac().abs() - 0.5).abs() < 1e-4
    assert (codes == made.codes)[~near_tie].all()
    back = affine.decode(made.codes, made.scale, offset)
    assert ((back - made.dequantize()).abs() <= 2**-20 * x.abs().max()).all()


# What shares a scale


@pytest.mark.parametrize(
    ("granularity", "shape"), [("tensor", (1, 1)), ("channel", (6, 1)), (8, (6, 2)), (4, (6, 4))]
)
@pytest.mark.parametrize("zero_point", ZERO_POINTS)
def test_a_scale_for_each_block(granularity, shape, zero_point):
    made = affine.quantize(matrix(1), Scheme(4, zero_point, granularity, scale_dtype=torch.float16))
    assert made.scale.shape == shape and made.scale.dtype == torch.float16
    assert made.zero_point is None or made.zero_point.shape == shape


@settings(max_examples=40, deadline=None)
@given(scheme=schemes, seed=st.integers(0, 10**6))
def test_a_block_knows_nothing_of_the_others(scheme, seed):
    """Each block, quantized alone, has the codes that it has among the others."""
    x = matrix(seed)
    made = affine.quantize(x, scheme)
    rows, columns = affine.block_shape((6, 16), scheme.granularity)
    for row, column in itertools.product(range(0, 6, rows), range(0, 16, columns)):
        part = (slice(row, row + rows), slice(column, column + columns))
        alone = affine.quantize(x[part], dataclasses.replace(scheme, granularity="tensor"))
        assert torch.equal(alone.codes, made.codes[part])


def test_rows_run_along_the_last_dimension():
    x = matrix(0, 24, 16)
    made, flat = affine.quantize(x.reshape(2, 3, 4, 16), Scheme(4)), affine.quantize(x, Scheme(4))
    assert torch.equal(made.codes.reshape(24, 16), flat.codes) and made.scale.shape == (24, 1)
    assert torch.equal(made.dequantize().reshape(24, 16), flat.dequantize())


# Clipping


@pytest.mark.parametrize("zero_point", ZERO_POINTS)
@pytest.mark.parametrize("granularity", ["tensor", "channel", 64])
def test_the_least_squared_error_is_never_larger_than_without_clipping(zero_point, granularity):
    """Block by block, and for normal values smaller."""
    x = matrix(5, 4, 256)
    x[1, 3] = 40
    plain, clipped = (
        affine.quantize(x, Scheme(4, zero_point, granularity, clipping=how)) for how in ("none", "mse")
    )
    errors = [
        (one.dequantize() - x).square().reshape(plain.scale.numel(), -1).sum(1) for one in (plain, clipped)
    ]
    assert (errors[1] <= errors[0]).all()
    assert granularity == "tensor" or errors[1].sum() < errors[0].sum()


def test_the_least_squared_error_is_the_least_of_a_hundred():
    x = matrix(7, 1, 500)
    made = affine.quantize(x, Scheme(3, clipping="mse"))
    tried = []
    for share in range(1, 101):
        limit = x.abs().max() * share / 100
        tried.append(
            affine.decode(affine.encode(x, limit[None, None] / 3, None, Scheme(3)), limit[None, None] / 3) - x
        )
    best = min(error.square().sum().item() for error in tried)
    assert (made.dequantize() - x).square().sum().item() == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("zero_point", ZERO_POINTS)
def test_a_percentile_leaves_out_what_is_beyond(zero_point):
    """99 % of 0 to 1000: on the sizes 990; of both ends 5 and 995. torch's own quantile says the same."""
    x = torch.arange(1001.0)[None]
    made = affine.quantize(x, Scheme(8, zero_point, clipping="percentile", percentile=99))
    if zero_point is None:
        assert made.scale.item() == pytest.approx(x.abs().quantile(0.99).item() / 127)
    elif zero_point == "integer":  # whose range holds 0
        assert made.scale.item() == pytest.approx(995 / 255)
    else:
        assert made.scale.item() == pytest.approx(990 / 255) and made.zero_point.item() == pytest.approx(5)
    assert made.dequantize().max() < 996


def test_a_percentile_of_100_clips_nothing():
    x = matrix(9)
    plain, all_of_it = (Scheme(4, clipping=how, percentile=100) for how in ("none", "percentile"))
    assert torch.equal(affine.quantize(x, plain).scale, affine.quantize(x, all_of_it).scale)


# Odd input


@pytest.mark.parametrize("zero_point", ZERO_POINTS)
@pytest.mark.parametrize("value", [2.5, -0.3, 1e-30, -1e30, 0.0])
@pytest.mark.parametrize("clipping", ["none", "mse", "percentile"])
def test_a_constant_comes_back(zero_point, value, clipping):
    """It is an end of the ruler, or with a real offset its start; float32 rounds one product."""
    x = torch.full((2, 8), value)
    back = affine.quantize(x, Scheme(4, zero_point, clipping=clipping)).dequantize()
    torch.testing.assert_close(back, x, rtol=1e-6, atol=0)


@pytest.mark.parametrize("zero_point", [None, "integer"])
def test_zero_is_exact_wherever_it_is_on_the_ruler(zero_point):
    x = torch.tensor([[0.0, 3.0, 3.7], [0.0, -2.0, 5.0]])
    assert affine.quantize(x, Scheme(3, zero_point)).dequantize()[:, 0].tolist() == [0, 0]


def test_a_real_offset_need_not_have_zero_on_it():
    x = torch.tensor([[0.0, -2.0, 5.0]])
    made = affine.quantize(x, Scheme(3, "real"))  # −2, −1, 0 … would need a step of 1; it is 1
    assert made.dequantize().tolist() == [[0, -2, 5]]
    assert affine.quantize(x, Scheme(2, "real")).dequantize()[0, 0].item() == pytest.approx(-2 + 7 / 3)


def test_ties_go_to_an_even_number_of_steps_from_zero():
    scheme, one, zero = Scheme(4, "integer"), torch.ones(1, 1), torch.tensor([[5]], dtype=torch.uint8)
    assert affine.encode(torch.tensor([[0.5, 1.5, -0.5]]), one, zero, scheme).tolist() == [[5, 7, 5]]


@pytest.mark.parametrize("low", [-1.0, -0.37, -3.14, -7.7e-3])
def test_a_zero_point_stays_a_code_where_the_stored_scale_is_too_small(low):
    """bf16 may round the scale down by 2^−9 of itself, and −low / scale is then above 255.5."""
    x = torch.linspace(low, 0, 40)[None] * torch.linspace(1, 2, 60)[:, None]
    made = affine.quantize(x, Scheme(8, "integer", scale_dtype=torch.bfloat16))
    assert (made.zero_point >= 254).all()  # 254 where it is rounded up
    assert (-x.amin(1) / made.scale[:, 0].float()).max() > 255.5
    assert (
        (made.dequantize() - x).abs() <= 0.5 * made.scale.float() + 255 * 2**-8 * made.scale.float()
    ).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("start", [1000.3, -1000.3, 0.1, -3e-5])
def test_a_ruler_is_laid_from_the_offset_that_is_stored(dtype, start):
    """Half a step, and the rounding of the stored scale: at most 2^−8 of each of its 15 steps."""
    x = torch.linspace(start, start + 1, 50)[None]
    made = affine.quantize(x, Scheme(4, "real", scale_dtype=dtype))
    assert made.zero_point.float().item() <= start
    assert (made.dequantize() - x).abs().max() <= (0.5 + 15 * 2**-8) * made.scale.float()


def test_clipping_around_the_middle_of_values_far_from_zero():
    """A limit at a share of the distance from 0 would cut off all of them."""
    x = 100 + torch.randn(1, 4096, generator=torch.Generator().manual_seed(0))
    near, far = (
        distortion.mse(each, affine.quantize(each, Scheme(3, "real", clipping="mse")).dequantize())
        for each in (x - 100, x)
    )
    assert far == pytest.approx(near, rel=1e-3)
    assert far < 0.75 * distortion.mse(x, affine.quantize(x, Scheme(3, "real")).dequantize())


@pytest.mark.parametrize("zero_point", ZERO_POINTS)
@pytest.mark.parametrize("exponent", [-80, 100])
def test_clipping_does_not_depend_on_the_unit(zero_point, exponent):
    x = torch.randn(3, 256, generator=torch.Generator().manual_seed(1))
    scheme = Scheme(3, zero_point, clipping="mse")
    once, scaled = affine.quantize(x, scheme), affine.quantize(x * 2.0**exponent, scheme)
    assert torch.equal(once.codes, scaled.codes) and torch.equal(once.scale * 2.0**exponent, scaled.scale)


def test_clipping_may_leave_out_most_of_the_range():
    x = torch.cat((torch.randn(4000, generator=torch.Generator().manual_seed(2)), torch.tensor([30.0])))[None]
    made = affine.quantize(x, Scheme(3, clipping="mse"))
    assert made.scale.item() * 3 < 0.2 * 30


@pytest.mark.parametrize("zero_point", [None, "real"])
def test_percentiles_lie_between_values(zero_point):
    x = torch.arange(1.0, 12)[None]
    made = affine.quantize(x, Scheme(8, zero_point, clipping="percentile", percentile=93))
    if zero_point is None:
        assert made.scale.item() * 127 == pytest.approx(torch.quantile(x, 0.93).item())
    else:
        low, high = torch.quantile(x, torch.tensor([0.035, 0.965])).tolist()
        assert made.zero_point.item() == pytest.approx(low)
        assert made.scale.item() * 255 == pytest.approx(high - low)


def test_a_zero_point_and_a_scheme_without_one_are_refused():
    one = torch.ones(1, 1)
    with pytest.raises(ValueError, match="a scheme with zero_point None and a zero-point"):
        affine.encode(one, one, one, Scheme(4))
    with pytest.raises(ValueError, match="a scheme with zero_point integer and no zero-point"):
        affine.encode(one, one, None, Scheme(4, "integer"))


def test_sizes_that_overflow_are_refused_on_both_sides():
    for sign in (1, -1):
        with pytest.raises(ValueError, match="scale it down"):
            affine.quantize(torch.tensor([0.0, sign * 2e38]))


def test_the_distortion_of_zeros():
    zeros, ones = torch.zeros(3), torch.ones(3)
    assert distortion.relative_error(zeros, zeros) == 0 and distortion.sqnr(zeros, zeros) == torch.inf
    assert distortion.relative_error(zeros, ones) == torch.inf and distortion.sqnr(zeros, ones) == -torch.inf


@pytest.mark.parametrize("zero_point", ZERO_POINTS)
def test_a_block_of_zeros_has_scale_1(zero_point):
    made = affine.quantize(torch.zeros(2, 4), Scheme(4, zero_point))
    assert made.scale.tolist() == [[1], [1]] and not made.dequantize().any()


@pytest.mark.parametrize("zero_point", ZERO_POINTS)
@pytest.mark.parametrize("shape", [(0,), (0, 8), (3, 0), ()])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_nothing_and_one_number_are_tensors_too(zero_point, shape, granularity):
    made = affine.quantize(torch.full(shape, 2.0), Scheme(8, zero_point, granularity))
    assert made.codes.shape == shape
    torch.testing.assert_close(made.dequantize(), torch.full(shape, 2.0))


@pytest.mark.parametrize("zero_point", ZERO_POINTS)
@pytest.mark.parametrize("size", [1e-45, 1e-39, 8e37])
def test_the_smallest_and_the_largest_numbers(zero_point, size):
    """Below the smallest normal scale a step cannot shrink further: half of it bounds the error. At the other end nothing overflows."""
    x = torch.tensor([[-size, 0.0, size / 3, size]])
    made = affine.quantize(x, Scheme(8, zero_point))
    assert made.scale.isfinite().all() and (made.scale >= torch.finfo(torch.float32).tiny).all()
    assert ((made.dequantize() - x).abs() <= (0.5 + ROUNDING) * made.scale).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_computed_in_float32(dtype):
    x = matrix(3).to(dtype)
    assert torch.equal(affine.quantize(x).codes, affine.quantize(x.float()).codes)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_scale_in_16_bits_costs_its_own_rounding_and_no_more(bits):
    """The stored scale is off by at most 2^−11 of itself, so the largest code's value by 2^(bits−1) · 2^−11 steps."""
    x = matrix(3)
    made = affine.quantize(x, Scheme(bits, granularity=8, scale_dtype=torch.float16))
    error = (x - made.dequantize()).abs()
    assert (error <= (0.5 + 2 ** (bits - 1) * 2**-11) * spread(made.scale, x)).all()


def test_a_scale_that_16_bits_cannot_hold():
    half = Scheme(8, scale_dtype=torch.float16)
    tiny = affine.quantize(torch.full((1, 4), 1e-7), half)
    assert tiny.scale == torch.finfo(torch.float16).tiny and tiny.dequantize().isfinite().all()
    with pytest.raises(ValueError, match="the scale 7.87e.04 is too large for torch.float16"):
        affine.quantize(torch.full((1, 4), 1e7), half)
    with pytest.raises(ValueError, match="the offset 1e.06 is too large for torch.float16"):
        affine.quantize(torch.full((1, 4), 1e6), dataclasses.replace(half, zero_point="real"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bits": 1}, "bits must be from 2 to 8, not 1"),
        ({"bits": 9}, "bits must be from 2 to 8, not 9"),
        ({"zero_point": "float"}, "zero_point must be None, integer or real, not 'float'"),
        ({"clipping": "absmax"}, "clipping must be none, percentile or mse, not 'absmax'"),
        ({"granularity": "row"}, "granularity must be tensor, channel or the size of a group, not 'row'"),
        ({"granularity": 0}, "granularity must be"),
        ({"zero_point": "integer", "full_range": True}, "full_range is a choice of symmetric codes"),
        ({"percentile": 50}, "percentile must be above 50"),
        ({"scale_dtype": torch.int8}, "scale_dtype must be torch.float16, .* not torch.int8"),
        ({"scale_dtype": torch.float8_e4m3fn}, "scale_dtype must be .* not torch.float8_e4m3fn"),
    ],
)
def test_a_scheme_that_does_not_hold_together_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Scheme(**options)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: affine.quantize(matrix(0), Scheme(4, granularity=5)), "groups of 5 do not fill rows of 16"),
        (lambda: affine.quantize(torch.tensor([float("inf"), 1.0])), "infinities or NaN"),
        (lambda: affine.quantize(torch.tensor([float("nan"), 1.0])), "infinities or NaN"),
        (lambda: affine.quantize(torch.tensor([1e38, 1.0])), "values above 8.5e.37 in size"),
        (lambda: affine.quantize(torch.tensor([1, 2])), "must be floating point, not torch.int64"),
        (
            lambda: affine.encode(matrix(0), torch.ones(5, 1), None, Scheme()),
            "5 × 1 scales do not divide 6 rows of 16",
        ),
    ],
)
def test_what_cannot_be_rounded_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# Against a library


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_compressed_tensors_chooses_the_same_scales(bits, symmetric):
    """Its codes run from −2^(bits−1), ours without symmetry from 0; its zero-points are off by as much."""
    x = matrix(2, shift=0.0 if symmetric else 0.7)
    scheme = Scheme(bits, full_range=True) if symmetric else Scheme(bits, "integer")
    made = affine.quantize(x, scheme)
    args = QuantizationArgs(num_bits=bits, symmetric=symmetric, strategy="channel")
    scale, zero_point = calculate_qparams(x.amin(1), x.amax(1), args)
    torch.testing.assert_close(scale.reshape(-1, 1), made.scale, rtol=1e-6, atol=0)
    if not symmetric:
        assert torch.equal(zero_point.int().reshape(-1, 1) + 2 ** (bits - 1), made.zero_point.int())


@pytest.mark.parametrize("zero_point", [None, "integer"])
def test_torch_rounds_to_the_same_codes(zero_point):
    x = matrix(4, shift=0.3)
    scheme = Scheme(8, zero_point)
    made = affine.quantize(x, scheme)
    zeros = torch.zeros(6, dtype=torch.int32) if zero_point is None else made.zero_point.flatten().int()
    theirs = torch.fake_quantize_per_channel_affine(x, made.scale.flatten(), zeros, 0, *scheme.code_range)
    torch.testing.assert_close(made.dequantize(), theirs, rtol=1e-6, atol=1e-7)
