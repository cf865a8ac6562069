"""Number formats: codes and casts as in torch and ml_dtypes, bit for bit; blocks against a slow reference."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coursepkg import formats
from coursepkg.formats import (
    BF16,
    E2M1,
    E4M3,
    E5M2,
    E8M0,
    FORMATS,
    FP16,
    FP32,
    INT4,
    INT8,
    MXFP4,
    MXFP8_E4M3,
    MXFP8_E5M2,
    NVFP4,
    TERNARY,
    TF32,
    FloatFormat,
    IntegerFormat,
)

FLOATS = (FP32, TF32, FP16, BF16, E4M3, E5M2, E2M1)
SMALL = [f for f in FORMATS.values() if f.bits <= 16]
TORCH = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "e4m3": torch.float8_e4m3fn,
    "e5m2": torch.float8_e5m2,
    "e8m0": torch.float8_e8m0fnu,
    "int8": torch.int8,
}
NUMPY = {
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e8m0": ml_dtypes.float8_e8m0fnu,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "int4": ml_dtypes.int4,
    "ternary": ml_dtypes.int2,
}
inf, nan = float("inf"), float("nan")


def by_name(f):
    return getattr(f, "name", None)


def torch_cast(x: torch.Tensor, name: str) -> torch.Tensor:
    """The codes to which torch casts, int64."""
    cast = x.to(TORCH[name])
    if cast.element_size() == 1:
        return cast.view(torch.uint8).long()
    return cast.view(torch.int16).long() & 0xFFFF


def numpy_cast(x: torch.Tensor, name: str) -> torch.Tensor:
    """The codes to which ml_dtypes (numpy for fp16) casts, int64."""
    with np.errstate(all="ignore"):
        cast = x.numpy().astype(NUMPY[name])
    codes = cast.view(np.uint8 if cast.itemsize == 1 else np.uint16)
    return torch.from_numpy(codes.astype(np.int64)) & (2 ** FORMATS[name].bits - 1)


def exact(values: torch.Tensor) -> torch.Tensor:
    """float64 as its bits, every NaN the same, so that torch.equal sees the sign of a zero."""
    return torch.where(values.isnan(), torch.nan, values.double()).view(torch.int64)


def assert_same_codes(f, x: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal codes; NaN has many codes, so there only that both are NaN."""
    both_nan = f.decode(ours).isnan() & f.decode(theirs).isnan()
    wrong = (ours.long() != theirs) & ~both_nan
    assert not wrong.any(), (
        f"{f.name}: {x[wrong][0].item()!r} became {ours[wrong][0]}, not {theirs[wrong][0]}"
    )


def float32_samples(f) -> torch.Tensor:
    """float32 numbers that find a wrong cast to f: bits at random, every value of f, every midpoint between
    two and the one above the largest, each with its float32 neighbours, zeros, infinities, NaN."""
    generator = torch.Generator().manual_seed(0)
    anything = torch.randint(-(2**31), 2**31, (200_000,), generator=generator).to(torch.int32)
    values = f.values()
    beyond = values[-1] + (values[-1] - values[-2]) * torch.tensor([0.5, 1.0, 2.0, 100.0])
    points = torch.cat([values, (values[1:] + values[:-1]) / 2, beyond]).float()
    points = torch.cat([points, -points])
    return torch.cat(
        [
            anything.view(torch.float32),
            points,
            points.nextafter(torch.tensor(inf)),
            points.nextafter(torch.tensor(-inf)),
            torch.tensor([0.0, -0.0, inf, -inf, nan, 1e-45, -1e-45]),
        ]
    )


# Codes and values


@pytest.mark.parametrize("name", TORCH)
def test_every_code_stands_for_the_value_that_torch_gives_it(name):
    codes = torch.arange(2 ** FORMATS[name].bits)
    theirs = codes.to(torch.int16 if FORMATS[name].bits == 16 else torch.uint8).view(TORCH[name])
    assert torch.equal(exact(FORMATS[name].decode(codes)), exact(theirs.float()))


@pytest.mark.parametrize("name", [name for name in NUMPY if name not in ("int4", "ternary")])
def test_every_code_stands_for_the_value_that_ml_dtypes_gives_it(name):
    codes = np.arange(2 ** FORMATS[name].bits)
    theirs = codes.astype(np.uint16 if FORMATS[name].bits == 16 else np.uint8).view(NUMPY[name])
    with np.errstate(invalid="ignore"):
        theirs = torch.from_numpy(theirs.astype(np.float64))
    assert torch.equal(exact(FORMATS[name].decode(torch.from_numpy(codes))), exact(theirs))


@pytest.mark.parametrize("name", ["int4", "ternary"])
def test_small_whole_numbers_have_the_codes_of_ml_dtypes(name):
    f = FORMATS[name]
    assert torch.equal(f.encode(f.values()).long(), numpy_cast(f.values(), name))


def test_fp32_codes_are_the_bits_of_float32():
    samples = torch.cat([float32_samples(FP16), float32_samples(BF16)])
    bits = samples.view(torch.int32).long() & 0xFFFFFFFF
    assert torch.equal(exact(FP32.decode(bits)), exact(samples))
    assert_same_codes(FP32, samples, FP32.encode(samples), bits)


@pytest.mark.parametrize("f", SMALL, ids=by_name)
def test_every_value_goes_back_to_its_code(f):
    codes = torch.arange(2**f.bits)
    if f is TERNARY:
        codes = codes[codes != 0b10]
    values = f.decode(codes)
    numbers = ~values.isnan()
    assert torch.equal(f.encode(values[numbers], saturate=f.specials == "none").long(), codes[numbers])
    if f.specials != "none":
        assert f.decode(f.encode(values[~numbers])).isnan().all() and (~numbers).any()


@pytest.mark.parametrize("f", SMALL, ids=by_name)
def test_values_are_all_finite_values_once_and_in_order(f):
    values = f.values()
    assert values.dtype == torch.float64 and values.isfinite().all() and (values.diff() > 0).all()
    assert len(values) == f.levels and values[0] == f.lowest and values[-1] == f.largest
    assert not values[values == 0].signbit().any()
    used = torch.arange(2**f.bits)
    decoded = f.decode(used[used != 0b10] if f is TERNARY else used)
    assert set(decoded[decoded.isfinite()].tolist()) == set(values.tolist())
    assert values[values > 0][0] == f.smallest_subnormal


def test_the_few_values_of_the_smallest_formats():
    assert E2M1.values()[7:].tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert INT4.values().tolist() == list(range(-8, 8))
    assert TERNARY.values().tolist() == [-1, 0, 1]
    assert (E2M1.levels, INT4.levels, E8M0.levels, E4M3.levels) == (15, 16, 255, 253)


# Casts


@pytest.mark.parametrize("name", ["fp16", "bf16", "e5m2"])
def test_ieee_formats_cast_as_torch_and_ml_dtypes_do(name):
    f, x = FORMATS[name], float32_samples(FORMATS[name])
    codes = f.encode(x)
    assert codes.dtype == (torch.uint8 if f.bits == 8 else torch.int64)
    assert_same_codes(f, x, codes, torch_cast(x, name))
    assert_same_codes(f, x, codes, numpy_cast(x, name))


def test_e4m3_casts_as_its_references_do():
    """Unsaturated as ml_dtypes, everywhere; as torch within the range, for beyond it torch's versions differ.
    Saturated, what would be NaN becomes the largest value with its sign, and nothing else changes."""
    x = float32_samples(E4M3)
    codes = E4M3.encode(x, saturate=False)
    assert_same_codes(E4M3, x, codes, numpy_cast(x, "e4m3"))
    within = x[x.abs() <= 448]
    assert_same_codes(E4M3, within, E4M3.encode(within), torch_cast(within, "e4m3"))
    beyond = E4M3.decode(codes).isnan() & ~x.isnan()
    assert beyond.any() and torch.equal(
        E4M3.encode(x), torch.where(beyond, 126 + 128 * x.signbit(), codes.long()).to(torch.uint8)
    )


def test_e2m1_casts_as_ml_dtypes_does():
    x = float32_samples(E2M1)
    x = x[~x.isnan()]
    assert_same_codes(E2M1, x, E2M1.encode(x), numpy_cast(x, "e2m1"))


def test_e8m0_casts_as_torch_and_ml_dtypes_do():
    """Not where they go other ways: torch drops the sign, and ml_dtypes makes NaN of zero. Both round up all
    that lies between 2^−127 and 2^−126, subnormal in float32; below 1.5 · 2^−127 that is not nearest."""
    x = float32_samples(E8M0)
    subnormal = (x > 2.0**-127) & (x < 1.5 * 2.0**-127)
    assert subnormal.any() and (E8M0.encode(x[subnormal]) == 0).all()
    x = x[~subnormal & ~(x < 0)]
    assert_same_codes(E8M0, x, E8M0.encode(x), torch_cast(x, "e8m0"))
    positive = x[x != 0]
    assert_same_codes(E8M0, positive, E8M0.encode(positive), numpy_cast(positive, "e8m0"))
    assert E8M0.encode(2.0**127 * 1.6, saturate=True) == E8M0.encode(inf, saturate=True) == 254


def test_tf32_is_fp32_without_its_last_13_bits():
    """To nearest even in whole numbers: half a unit less one, and one more if the bit that stays is odd."""
    x = float32_samples(FP16)
    x = torch.cat([x, float32_samples(BF16)])
    x = x[~x.isnan()]
    bits = x.view(torch.int32).long() & 0xFFFFFFFF
    kept = (bits + 0xFFF + ((bits >> 13) & 1)) >> 13
    assert torch.equal(TF32.encode(x), kept)
    assert torch.equal(exact(TF32.round(x)), exact((kept << 13).to(torch.int32).view(torch.float32)))


@pytest.mark.parametrize("name", ["fp16", "fp32"])
def test_float64_is_rounded_once(name):
    """numpy casts float64 without a stop at float32."""
    generator = torch.Generator().manual_seed(1)
    bits = torch.randint(-(2**63), 2**63 - 1, (50_000,), generator=generator)
    near = (torch.rand(50_000, generator=generator, dtype=torch.float64) * 300 - 150).exp2()
    ties = [1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-24, 1 + 2.0**-24 + 2.0**-50, 1 + 2.0**-24 - 2.0**-50]
    x = torch.cat([bits.view(torch.float64), near, -near, torch.tensor(ties, dtype=torch.float64)])
    with np.errstate(all="ignore"):
        theirs = x.numpy().astype(np.float16 if name == "fp16" else np.float32)
    assert torch.equal(exact(FORMATS[name].round(x)), exact(torch.from_numpy(theirs.astype(np.float64))))


@pytest.mark.parametrize("f", [INT8, INT4, TERNARY], ids=by_name)
def test_whole_numbers_round_to_even_and_stop_at_their_ends(f):
    x = torch.linspace(-200, 200, 1601)
    values = f.round(x)
    assert torch.equal(values, x.round().clamp(f.lowest, f.largest) + 0.0)
    assert f.round(-0.0) == 0 and not torch.tensor(f.round(-0.0)).signbit()
    assert (f.round(inf), f.round(-inf), f.round(0.5), f.round(-0.6)) == (f.largest, f.lowest, 0, -1)


def test_overflow_by_hand():
    assert FP16.round(65519.99) == 65504 and FP16.round(65520.0) == inf and FP16.round(-1e9) == -inf
    assert FP16.round(1e9, saturate=True) == 65504 and BF16.round(-inf, saturate=True) == -BF16.largest
    assert E5M2.round(61439.0) == 57344 and E5M2.round(61440.0) == inf
    assert E4M3.round(464.0, saturate=False) == 448 and E4M3.round(-1e9) == -448 and E4M3.round(inf) == 448
    assert np.isnan(E4M3.round(464.1, saturate=False)) and np.isnan(E4M3.round(-inf, saturate=False))
    assert E2M1.round(7.0) == 6 and E2M1.round(-inf) == -6
    assert INT8.round(1000) == 127 and INT8.round(-1000) == -128 and INT4.round(7.6) == 7


# Properties

numbers = (
    st.floats(width=32, allow_nan=False) | st.floats(-1000, 1000) | st.integers(-70000, 70000).map(float)
)
chosen = st.sampled_from([f for f in FORMATS.values() if f is not E8M0])


@settings(max_examples=300, deadline=None)
@given(f=chosen, x=numbers, y=numbers)
def test_rounding_keeps_the_order(f, x, y):
    low, high = sorted((x, y))
    assert f.round(low) <= f.round(high)
    low, high = sorted((abs(x), abs(y)))
    assert f.encode(low) <= f.encode(high)


@settings(max_examples=300, deadline=None)
@given(f=chosen, x=numbers)
@example(f=FP16, x=2.0**-25)
@example(f=E4M3, x=0.0029296875)
def test_rounding_is_off_by_half_the_spacing_at_most(f, x):
    """Between two neighbours the nearer one is at most half of their distance away."""
    if f.lowest <= x <= f.largest:
        assert abs(f.round(x) - x) <= f.spacing(x) / 2
    assert f.round(f.round(x)) == f.round(x)


@settings(max_examples=150, deadline=None)
@given(f=st.sampled_from([f for f in SMALL if f is not E8M0]), x=numbers)
def test_no_value_is_nearer(f, x):
    x = min(max(x, f.lowest), f.largest)
    assert abs(f.round(x) - x) == (f.values() - x).abs().min().item()


@pytest.mark.parametrize("f", SMALL, ids=by_name)
def test_spacing_is_the_distance_to_the_next_value(f):
    values = f.values()
    values = values[values >= 0]
    assert torch.equal(f.spacing(values[:-1]), values.diff())
    assert torch.equal(f.spacing(-values[:-1]), values.diff())
    assert f.spacing(4 * f.largest) == f.spacing(inf) == f.spacing(f.largest) == f.spacing(values[-1:])
    assert f is E8M0 or f.spacing(inf) == values.diff()[-1]
    assert f.spacing(nan) == f.spacing(0.0)


@settings(max_examples=150, deadline=None)
@given(f=chosen, x=numbers)
def test_numbers_and_tensors_are_treated_alike(f, x):
    code, tensor = f.encode(x), torch.tensor([[x]], dtype=torch.float64)
    assert isinstance(code, int) and f.encode(tensor).tolist() == [[code]]
    assert isinstance(f.decode(code), float) and f.decode(torch.tensor([code])).tolist() == [f.decode(code)]
    assert f.round(tensor).dtype == torch.float64 and f.round(tensor).tolist() == [[f.round(x)]]
    assert f.bit_pattern(x) == f.bit_pattern(tensor) == f.code_pattern(code)


@settings(max_examples=150, deadline=None)
@given(f=chosen, x=numbers)
def test_a_bit_pattern_goes_back_to_its_value(f, x):
    pattern = f.bit_pattern(x)
    assert tuple(len(part) for part in pattern.split()) == f.fields and sum(f.fields) == f.bits
    assert int(pattern.replace(" ", ""), 2) == f.encode(x)
    for spelled in (pattern, pattern.replace(" ", "_"), "__".join(pattern.replace(" ", ""))):
        assert f.pattern_code(spelled) == f.encode(x) and f.from_bit_pattern(spelled) == f.round(x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_tensors_of_any_dtype_and_shape(dtype):
    x = torch.tensor([[[1.0, -2.0, 96.0]]]).to(dtype)
    values = E5M2.round(x)
    assert values.shape == x.shape and values.tolist() == [[[1, -2, 96]]]
    assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert E5M2.encode(x[:, :0]).shape == (1, 0, 3) and E5M2.encode(x[0, 0, 0]).shape == ()
    assert E5M2.round(torch.nn.Parameter(torch.ones(2))).requires_grad is False


# By hand


@pytest.mark.parametrize(
    ("f", "x", "pattern"),
    [
        (FP16, 1.0, "0 01111 0000000000"),
        (FP16, -0.0, "1 00000 0000000000"),
        (FP16, 65504.0, "0 11110 1111111111"),
        (FP16, inf, "0 11111 0000000000"),
        (FP16, nan, "0 11111 1000000000"),
        (FP16, 2**-24, "0 00000 0000000001"),
        (FP32, 0.1, "0 01111011 10011001100110011001101"),
        (TF32, 0.1, "0 01111011 1001100110"),
        (BF16, 0.1, "0 01111011 1001101"),
        (E4M3, 448.0, "0 1111 110"),
        (E4M3, -nan, "0 1111 111"),
        (E5M2, -1.25, "1 01111 01"),
        (E2M1, -6.0, "1 11 1"),
        (E2M1, 0.5, "0 00 1"),
        (E8M0, 1.0, "01111111"),
        (E8M0, 0.0, "00000000"),
        (INT8, -7, "11111001"),
        (INT4, 7, "0111"),
        (TERNARY, -1, "11"),
    ],
)
def test_bits_by_hand(f, x, pattern):
    assert f.bit_pattern(x) == pattern
    back = f.from_bit_pattern(pattern)
    assert np.isnan(back) if np.isnan(x) else back == f.round(x)


@pytest.mark.parametrize("name", [name for name in TORCH if name != "int8"])
def test_the_ends_of_the_range_are_those_of_finfo(name):
    f, finfo = FORMATS[name], torch.finfo(TORCH[name])
    assert (f.largest, f.smallest_normal, f.epsilon) == (finfo.max, finfo.tiny, finfo.eps)
    assert f.lowest == finfo.min and f.bits == finfo.bits


@pytest.mark.parametrize("name", ["fp16", "bf16", "e4m3", "e5m2", "e2m1"])
def test_the_ends_of_the_range_are_those_of_ml_dtypes(name):
    f, finfo = FORMATS[name], ml_dtypes.finfo(NUMPY[name])
    ours = (f.largest, f.lowest, f.smallest_normal, f.smallest_subnormal, f.epsilon)
    theirs = (finfo.max, finfo.min, finfo.smallest_normal, finfo.smallest_subnormal, finfo.eps)
    assert ours == tuple(float(number) for number in theirs)
    assert (f.exponent_bits, f.mantissa_bits) == (finfo.nexp, finfo.nmant)


def test_the_ends_of_the_range_where_no_finfo_tells():
    finfo = torch.finfo(torch.float32)
    assert (FP32.largest, FP32.smallest_normal, FP32.epsilon) == (finfo.max, finfo.tiny, finfo.eps)
    assert FP32.smallest_subnormal == 2**-149 and FP32.levels == 2**32 - 2**24 - 1
    assert (TF32.bits, TF32.stored_bits, TF32.epsilon, TF32.smallest_normal) == (19, 32, 2**-10, finfo.tiny)
    assert (TF32.min_exponent, TF32.max_exponent, E2M1.max_exponent, E4M3.max_exponent) == (-126, 127, 2, 8)
    assert E8M0.smallest_subnormal == E8M0.smallest_normal == 2**-127
    assert (INT8.lowest, INT8.largest, INT8.epsilon, INT8.smallest_normal) == (-128, 127, 1, 1)
    assert TERNARY.bits == TERNARY.stored_bits == 2
    assert TERNARY.information_bits == pytest.approx(1.5849625007211562) and INT4.information_bits == 4


@pytest.mark.parametrize("f", FORMATS.values(), ids=by_name)
def test_a_row_of_a_table(f):
    row = f.describe()
    assert list(row) == list(FP16.describe()) and row["name"] == f.name and row["levels"] == f.levels
    assert row["bits"] == f.bits and row["largest"] == f.largest and len(str(row["source"])) > 10


def test_a_format_in_a_line():
    assert str(E4M3) == (
        "e4m3: 8 bits (1 sign + 4 exponent + 3 mantissa), from -448 to 448, smallest normal 0.015625, "
        "smallest 0.00195312, epsilon 0.125, specials: NaN"
    )
    assert str(INT4).startswith("int4: 4 bits (two's complement), from -8 to 7,")


def test_formats_are_found_by_name():
    assert list(FORMATS) == "fp32 tf32 fp16 bf16 e4m3 e5m2 e2m1 e8m0 int8 int4 ternary".split()
    assert formats.number_format("bf16") is BF16 and formats.number_format(E2M1) is E2M1
    assert formats.block_format("nvfp4") is NVFP4 and formats.block_format(MXFP4) is MXFP4
    assert {BF16: 1}[BF16] == 1 and all(by_name(f) == name for name, f in FORMATS.items())


# Blocks


def nearest(x: Fraction, grid: list[Fraction]) -> int:
    """Index of the grid's nearest number, of two the even one: the code of a magnitude, found one by one."""
    return min(range(len(grid)), key=lambda i: (abs(grid[i] - x), i % 2))


E2M1_GRID = [Fraction(k, 2) for k in (0, 1, 2, 3, 4, 6, 8, 12)]
E4M3_GRID = [
    Fraction(v) for v in np.arange(127, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(float).tolist()
]


def slow_mxfp4(row: list[float]) -> tuple[list[int], list[int], list[float]]:
    """Codes, scale codes and values of a row, element by element in fractions."""
    codes, scales, values = [], [], []
    for start in range(0, len(row), 32):
        block = [Fraction(number) for number in row[start : start + 32]]
        absmax, exponent = max(map(abs, block)), -127
        while exponent < 127 and absmax >= Fraction(2) ** (exponent + 1 + 2):
            exponent += 1
        scales.append(exponent + 127)
        for number in block:
            code = nearest(abs(number) / Fraction(2) ** exponent, E2M1_GRID)
            codes.append(code + 8 * bool(np.signbit(row[len(codes)])))
            values.append(float((-1) ** (codes[-1] >= 8) * E2M1_GRID[code] * Fraction(2) ** exponent))
    return codes, scales, values


def slow_nvfp4(rows: list[list[float]]) -> tuple[list[list[int]], list[list[int]], float, list[list[float]]]:
    """Codes, scale codes, the tensor's scale and values, element by element in fractions."""
    tensor_scale = Fraction(float(np.float32(max(abs(number) for row in rows for number in row) / 2688)))
    codes, scales, values = [], [], []
    for row in rows:
        for kept in (codes, scales, values):
            kept.append([])
        for start in range(0, len(row), 16):
            block = [Fraction(number) for number in row[start : start + 16]]
            scale_code = max(1, nearest(max(map(abs, block)) / 6 / tensor_scale, E4M3_GRID))
            scales[-1].append(scale_code)
            scale = E4M3_GRID[scale_code] * tensor_scale
            for number in block:
                code = nearest(abs(number) / scale, E2M1_GRID)
                sign = bool(np.signbit(row[len(codes[-1])]))
                codes[-1].append(code + 8 * sign)
                values[-1].append(float((-1) ** sign * E2M1_GRID[code] * scale))
    return codes, scales, float(tensor_scale), values


def matrix(seed: int, rows: int = 3, columns: int = 96) -> torch.Tensor:
    """Weights with an outlier, a block of very small numbers and a block of zeros."""
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    x[0, 5] *= 50
    x[1, :32] *= 2.0**-20
    x[2, 32:64] = 0
    return x


@pytest.mark.parametrize("seed", range(3))
def test_mxfp4_is_the_slow_reference(seed):
    x = matrix(seed)
    codes, scales = MXFP4.quantize(x)
    slow = [slow_mxfp4(row) for row in x.tolist()]
    assert codes.tolist() == [row[0] for row in slow] and scales.tolist() == [row[1] for row in slow]
    assert MXFP4.dequantize(codes, scales).tolist() == [row[2] for row in slow]
    assert codes.dtype == scales.dtype == torch.uint8 and scales.shape == (3, 3)


@pytest.mark.parametrize("seed", range(3))
def test_nvfp4_is_the_slow_reference(seed):
    x = matrix(seed)
    codes, scales, tensor_scale = NVFP4.quantize(x)
    slow_codes, slow_scales, slow_tensor_scale, values = slow_nvfp4(x.tolist())
    assert codes.tolist() == slow_codes and scales.tolist() == slow_scales
    assert tensor_scale.item() == slow_tensor_scale and tensor_scale.dtype == torch.float32
    back = NVFP4.dequantize(codes, scales, tensor_scale)
    assert back.dtype == torch.float32 and torch.equal(back, torch.tensor(values))
    assert codes.dtype == scales.dtype == torch.uint8 and scales.shape == (3, 6)


def test_mxfp4_by_hand():
    """absmax 7: floor(log2 7) = 2, less 2 is 0, so X = 1, code 127. 7 saturates, 5 and 2.5 are ties."""
    x = torch.zeros(2, 64)
    x[0, :6] = torch.tensor([7.0, -5.0, 2.5, 0.3, 0.25, -0.1])
    x[1, 40] = 100.0
    codes, scales = MXFP4.quantize(x)
    assert scales.tolist() == [[127, 0], [0, 127 + 6 - 2]]
    assert codes[0, :7].tolist() == [0b0_11_1, 0b1_11_0, 0b0_10_0, 0b0_00_1, 0b0_00_0, 0b1_00_0, 0]
    assert MXFP4.dequantize(codes, scales)[0, :6].tolist() == [6, -4, 2, 0.5, 0, 0]
    assert MXFP4.dequantize(codes, scales)[1, 40] == 96


def test_nvfp4_by_hand():
    """absmax 2688 = 6 · 448: a tensor scale of 1. 6.3/6 = 1.05 is rounded to 1 in e4m3, so 6.3 saturates."""
    x = torch.zeros(64)
    x[0], x[16], x[17], x[32], x[33] = 2688.0, 6.3, -2.5, 0.5, 0.3
    codes, scales, tensor_scale = NVFP4.quantize(x)
    assert tensor_scale == 1 and NVFP4.scale.decode(scales).tolist() == [448, 1, 0.0859375, 2**-9]
    back = NVFP4.dequantize(codes, scales, tensor_scale)
    assert back[[0, 16, 17]].tolist() == [2688, 6, -2] and back[32] == 6 * 0.0859375
    assert (back[48:] == 0).all() and codes[17] == 0b1_10_0


def test_blocks_run_along_the_last_dimension():
    x = matrix(7, rows=4, columns=128).reshape(2, 2, 128)
    for block_format, size in ((MXFP4, 32), (MXFP8_E4M3, 32)):
        codes, scales = block_format.quantize(x)
        assert codes.shape == x.shape and scales.shape == (2, 2, 128 // size)
        alone = block_format.quantize(x[1, 0, size : 2 * size])
        assert torch.equal(alone[0], codes[1, 0, size : 2 * size]) and alone[1] == scales[1, 0, 1]
    codes, scales, tensor_scale = NVFP4.quantize(x)
    assert codes.shape == x.shape and scales.shape == (2, 2, 8) and tensor_scale.shape == ()
    assert torch.equal(NVFP4.dequantize(codes[:, 1], scales[:, 1], tensor_scale), dequantized(NVFP4, x)[:, 1])


def dequantized(block_format, x: torch.Tensor) -> torch.Tensor:
    return block_format.dequantize(*block_format.quantize(x))


magnitudes = st.integers(-100, 100)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.integers(-150, 120))
def test_mxfp4_is_off_by_a_quarter_of_absmax_at_most(seed, exponent):
    """The bound in `quantize`: at worst 8 saturates at 6, a quarter off; 2^−129 at the smallest scale."""
    x = torch.rand(2, 64, generator=torch.Generator().manual_seed(seed)).double() * 2.0**exponent
    absmax = x.abs().unflatten(-1, (-1, 32)).amax(-1).repeat_interleave(32, -1)
    error = (dequantized(MXFP4, x).double() - x).abs()
    assert (error <= (absmax / 4).clamp(min=2.0**-129)).all()


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.integers(-90, 100))
def test_nvfp4_is_off_by_three_seventeenths_of_absmax_at_most(seed, exponent):
    """The bound in `quantize`, and 2^−24 for the rounding of the result to float32."""
    x = torch.rand(4, 64, generator=torch.Generator().manual_seed(seed)).double() * 2.0**exponent
    x *= torch.tensor([[1.0], [100.0], [0.01], [2.0]])
    absmax = x.abs().unflatten(-1, (-1, 16)).amax(-1).repeat_interleave(16, -1)
    error = (dequantized(NVFP4, x).double() - x).abs()
    assert (error <= absmax * (3 / 17 + 2**-24)).all()


def test_the_bounds_are_reached():
    x = torch.zeros(32)
    x[0], x[1] = 7.999999, 1.0
    assert (dequantized(MXFP4, x) - x).abs().max() > 0.2499 * 8
    x = torch.zeros(32)
    x[0], x[16], x[17] = 2688.0, 6 * 1.0625001, 5 * 1.125
    assert (dequantized(NVFP4, x) - x)[17].abs() == 1.125
    assert 1.125 / x[16] == pytest.approx(3 / 17, rel=1e-6)


@pytest.mark.parametrize("block_format", [MXFP4, MXFP8_E4M3, MXFP8_E5M2, NVFP4], ids=by_name)
def test_signs_zeros_and_the_ends_of_float32(block_format):
    assert torch.equal(dequantized(block_format, -matrix(4)), -dequantized(block_format, matrix(4)))
    zeros = dequantized(block_format, torch.zeros(2, 32))
    assert torch.equal(zeros, torch.zeros(2, 32))
    extremes = torch.tensor([torch.finfo(torch.float32).max, -1e-45, -1.0, 0.0] * 8)
    assert dequantized(block_format, extremes).isfinite().all()
    assert dequantized(block_format, torch.full((32,), 1e-45)).isfinite().all()


@pytest.mark.parametrize("block_format", [MXFP4, MXFP8_E4M3, MXFP8_E5M2], ids=by_name)
def test_what_is_on_the_ruler_stays(block_format):
    """absmax lies between 2^emax and 2^(emax + 1) scales, also after rounding: the scale is the same."""
    x = dequantized(block_format, matrix(4))
    assert torch.equal(dequantized(block_format, x), x)


def test_mxfp8_elements_are_casts_of_x_over_the_scale():
    """floor(log2 absmax) − 8 for e4m3 and − 15 for e5m2; elements saturate, as section 6.3 has it."""
    x = matrix(5)
    for block_format, emax, dtype, largest in (
        (MXFP8_E4M3, 8, torch.float8_e4m3fn, 448),
        (MXFP8_E5M2, 15, torch.float8_e5m2, 57344),
    ):
        scale = (x.abs().unflatten(-1, (-1, 32)).amax(-1).log2().floor() - emax).clamp(min=-127).exp2()
        scale = scale.repeat_interleave(32, -1)
        expected = (x / scale).clamp(-largest, largest).to(dtype).float() * scale
        assert torch.equal(dequantized(block_format, x), expected)


def test_bits_with_scales():
    assert (MXFP4.effective_bits, NVFP4.effective_bits, MXFP8_E4M3.effective_bits) == (4.25, 4.5, 8.25)


# What is refused


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: FP32.values(), "fp32 has 4,278,190,079 values, too many to list; values.. is for 16 bits"),
        (lambda: TF32.values(), "tf32 has .* too many to list"),
        (lambda: E2M1.encode(nan), "e2m1 has no code for NaN"),
        (lambda: INT8.encode(torch.tensor([1.0, nan])), "int8 has no code for NaN"),
        (
            lambda: E2M1.encode(1.0, saturate=False),
            "e2m1 has no code for infinity or NaN: it can only saturate",
        ),
        (lambda: INT4.round(1, saturate=False), "int4 has no code for infinity or NaN"),
        (lambda: E8M0.encode(torch.tensor([1.0, -2.0])), "e8m0 has no sign: no code for -2"),
        (lambda: FP16.encode("1.0"), "x is a number or a tensor, not '1.0'"),
        (lambda: FP16.encode([1.0]), "x is a number or a tensor, not \\[1.0\\]"),
        (lambda: E4M3.decode(256), "e4m3 has the codes 0 to 255, not 256"),
        (lambda: E4M3.decode(torch.tensor([3, -1])), "e4m3 has the codes 0 to 255, not -1"),
        (lambda: E4M3.decode(1.0), "a code is a whole number, not 1.0"),
        (lambda: E4M3.decode(torch.ones(2)), "codes are whole numbers, not torch.float32"),
        (lambda: TERNARY.decode(0b10), "ternary does not use the code 10"),
        (lambda: E4M3.code_pattern(256), "e4m3 has the codes 0 to 255, not 256"),
        (
            lambda: FP16.bit_pattern(torch.ones(2)),
            "bit_pattern takes one number, not 2; encode takes tensors",
        ),
        (
            lambda: FP16.from_bit_pattern("0 01111"),
            r"fp16 has 16 bits \(1 sign \+ 5 exponent .* pattern has 6",
        ),
        (lambda: INT4.from_bit_pattern("00000"), r"int4 has 4 bits \(two's complement\); this pattern has 5"),
        (lambda: E2M1.from_bit_pattern("0 12 0"), "a bit pattern is made of 0 and 1, not '2'"),
        (lambda: TERNARY.from_bit_pattern("10"), "ternary does not use the code 10"),
        (lambda: formats.number_format("fp8"), "no number format 'fp8'; known are fp32, tf32, .*ternary"),
        (lambda: formats.block_format("mx"), "no block format 'mx'; known are mxfp4, .*nvfp4"),
        (
            lambda: MXFP4.quantize(torch.ones(2, 48)),
            r"mxfp4 has blocks of 32 .* not fill the shape \(2, 48\)",
        ),
        (lambda: NVFP4.quantize(torch.ones(24)), r"nvfp4 has blocks of 16 .* not fill the shape \(24,\)"),
        (lambda: NVFP4.quantize(torch.tensor(1.0)), r"do not fill the shape \(\)"),
        (lambda: NVFP4.quantize(torch.ones(0, 16)), r"do not fill the shape \(0, 16\)"),
        (lambda: MXFP4.quantize(torch.tensor([nan] * 32)), "holds infinities or NaN: no scale reaches them"),
        (lambda: NVFP4.quantize(torch.tensor([-inf] * 16)), "holds infinities or NaN"),
        (lambda: NVFP4.quantize(torch.full((16,), 1e39, dtype=torch.float64)), "beyond the range of float32"),
        (lambda: MXFP4.dequantize(torch.zeros(2, 64).byte(), torch.zeros(2, 1).byte()), "do not go together"),
        (
            lambda: MXFP4.dequantize(torch.zeros(32).byte(), torch.tensor(0)),
            "every 32 codes .*do not go togeth",
        ),
        (
            lambda: FloatFormat("f", 4, 3, 7, "other", "here"),
            "f: top must be one of ieee, nan, values, not 'other'",
        ),
        (lambda: FloatFormat("f", 0, 3, 7, "ieee", "here"), "0 exponent and 3 mantissa bits are too few"),
        (lambda: FloatFormat("f", 4, 0, 7, "ieee", "here"), "0 mantissa bits are too few for top='ieee'"),
        (
            lambda: FloatFormat("f", 2, 1, 1, "values", "here"),
            "f: without infinity and NaN, saturates must be True",
        ),
        (
            lambda: FloatFormat("f", 11, 10, 1023, "ieee", "here"),
            "f: float32 does not hold all of its values",
        ),
        (lambda: FloatFormat("f", 4, 3, 150, "nan", "here"), "f: float32 does not hold all of its values"),
        (lambda: FloatFormat("f", 4, 24, 7, "nan", "here"), "f: float32 does not hold all of its values"),
        (lambda: IntegerFormat("i", 4, -9, 7, "here"), "i: -9 to 7 does not fit 4 bits"),
        (lambda: IntegerFormat("i", 4, -8, 8, "here"), "i: -8 to 8 does not fit 4 bits"),
        (lambda: IntegerFormat("i", 32, -8, 8, "here"), "i: bits must be from 2 to 24, not 32"),
    ],
)
def test_what_makes_no_sense_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_other_formats_can_be_made():
    """OCP's 6-bit floats, against ml_dtypes."""
    for exponent, mantissa, bias, dtype in (
        (3, 2, 3, ml_dtypes.float6_e3m2fn),
        (2, 3, 1, ml_dtypes.float6_e2m3fn),
    ):
        f = FloatFormat("fp6", exponent, mantissa, bias, "values", "OCP MX v1.0, 5.3.2", saturates=True)
        theirs = np.arange(64, dtype=np.uint8).view(dtype).astype(np.float64)
        assert torch.equal(exact(f.decode(torch.arange(64))), exact(torch.from_numpy(theirs)))


def test_the_smallest_scales_of_blocks():
    """MX: 2^−127, half of float32's smallest normal number. NVFP4: the tensor's is at least that normal number."""
    x = torch.full((32,), 2.0**-128)
    codes, scales = MXFP4.quantize(x)
    assert scales.tolist() == [0] and torch.equal(MXFP4.dequantize(codes, scales), x)
    _, _, tensor_scale = NVFP4.quantize(torch.full((16,), 1e-44))
    assert tensor_scale.item() == torch.finfo(torch.float32).tiny
