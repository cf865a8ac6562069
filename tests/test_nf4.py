"""Blockwise codebooks against bitsandbytes, bit for bit, and what holds of them on any input."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from bitsandbytes import functional
from hypothesis import given, settings
from hypothesis import strategies as st

from coursepkg import codebooks, compiled, double_quant, nf4, packing
from coursepkg.codebooks import FP4, INT4, NF4, Codebook

KINDS = {"nf4": NF4, "fp4": FP4}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
BLOCK_SIZES = (64, 128, 256, 512, 1024, 2048, 4096)


def normal(count: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return (torch.randn(count, generator=torch.Generator().manual_seed(seed)) * 0.02).to(dtype)


def parity(x: torch.Tensor, kind: str, block_size: int, double_quantized: bool) -> list[str]:
    """What differs from bitsandbytes, by name.

    It gets the tensor flat: 0.50's AVX-512 code takes absmax from the wrong block where blocks do not fill the rows.
    """
    flat = x.reshape(-1)
    with torch.compiler.set_stance("force_eager"):  # or it compiles something for each odd length
        options = {"blocksize": block_size, "quant_type": kind, "compress_statistics": double_quantized}
        packed, state = functional.quantize_4bit(flat, **options)
        values = functional.dequantize_4bit(packed, state)
    ours = nf4.quantize(x, KINDS[kind], block_size, double_quantized)
    pairs = {"codes": (ours.packed, packed), "values": (ours.dequantize(), values.reshape(x.shape))}
    if double_quantized:
        pairs |= {
            "8-bit indices": (ours.scales.indices, state.absmax),
            "second absmax": (ours.scales.absmax, state.state2.absmax),
            "offset": (ours.scales.offset, state.offset),
            "scales": (
                ours.absmax,
                functional.dequantize_blockwise(state.absmax, state.state2) + state.offset,
            ),
        }
    else:
        pairs["absmax"] = (ours.absmax, state.absmax)
    return [name for name, (mine, theirs) in pairs.items() if not _same_bits(mine, theirs)]


def _same_bits(mine: torch.Tensor, theirs: torch.Tensor) -> bool:
    return (
        mine.dtype == theirs.dtype
        and torch.equal(mine, theirs)
        and torch.equal(mine.signbit(), theirs.signbit())
    )


def special(dtype: torch.dtype) -> torch.Tensor:
    """Blocks of 64: zeros, one value alone, the smallest and the largest numbers, minus zero, midpoints, a constant.

    Smallest: 1,024 times the smallest normal number, as processors that round to bfloat16 make 0 of subnormal ones.
    """
    info = torch.finfo(dtype)
    alone, tiny, huge = torch.zeros(64), torch.zeros(64), torch.linspace(-1, 1, 64)
    alone[7] = -0.3
    tiny[:3] = 1024 * torch.tensor(
        [info.smallest_normal, -info.smallest_normal / 2, info.smallest_normal / 8]
    )
    middles = torch.cat((NF4.midpoints, FP4.midpoints, torch.ones(64)))[:64]
    blocks = [
        torch.zeros(64),
        alone,
        tiny,
        huge * info.max,
        -torch.zeros(64),
        middles,
        torch.full((64,), 0.1),
    ]
    return torch.cat(blocks).to(dtype)


# The tables


def test_the_published_table_is_what_quantiles_give():
    """The published digits come from a computation in float32, whose values near 1 are 6e-8 apart; three of these steps."""
    assert codebooks.normal_float(4) == pytest.approx(NF4.levels, abs=2e-7)
    assert codebooks.tail_offset(4) == pytest.approx((29 / 30 + 31 / 32) / 2, abs=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tables_are_those_of_bitsandbytes(kind):
    assert torch.equal(KINDS[kind].tensor, functional.get_4bit_type(kind, device="cpu"))
    assert torch.equal(double_quant.dynamic_map(), functional.create_dynamic_map())


@pytest.mark.parametrize("bits", range(2, 9))
def test_normal_float_of_any_bits(bits):
    """One level more on the positive side, 0 and both ends among them; a level's neighbours on its side have quantiles as far
    apart in probability as all others there."""
    levels = codebooks.normal_float(bits)
    assert len(levels) == 2**bits and list(levels) == sorted(levels)
    assert levels[0] == -1 and levels[-1] == 1 and levels[2 ** (bits - 1) - 1] == 0
    quantile = codebooks.NormalDist()
    largest = quantile.inv_cdf(codebooks.tail_offset(bits))
    for side in (levels[2 ** (bits - 1) - 1 :], levels[: 2 ** (bits - 1)]):
        steps = torch.tensor([quantile.cdf(level * largest) for level in side]).diff()
        assert steps.max() - steps.min() < 1e-6


def test_the_formula_of_most_pages_has_no_zero():
    quantiles = [codebooks.NormalDist().inv_cdf((i + 0.5) / 16) for i in range(16)]
    assert min(map(abs, quantiles)) > 0.07
    with pytest.raises(ValueError, match="bits must be from 2 to 8, not 1"):
        codebooks.normal_float(1)


# Parity


@pytest.mark.parametrize("double_quantized", [False, True], ids=["absmax", "double quantized"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_bit_for_bit_with_bitsandbytes(kind, dtype, double_quantized):
    for block_size in BLOCK_SIZES:
        for count in (block_size, 10 * block_size, 10 * block_size + 1, 67_003, 5):
            x = normal(count, dtype, seed=count)
            assert parity(x, kind, block_size, double_quantized) == [], (block_size, count)


@pytest.mark.parametrize("double_quantized", [False, True], ids=["absmax", "double quantized"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_bit_for_bit_on_odd_values(kind, dtype, double_quantized):
    x = special(dtype)
    if double_quantized:  # beside the largest numbers, the mean of the scales would overflow
        x = torch.cat((x[:192], x[256:]))
    assert parity(x, kind, 64, double_quantized) == []
    assert parity(x.reshape(-1, 32), kind, 128, double_quantized) == []


BREAKS = {
    "a level is off by a float32 step": lambda patch: patch.setitem(
        KINDS, "nf4", Codebook("x", (*NF4.levels[:3], NF4.levels[3] + 3e-8, *NF4.levels[4:]))
    ),
    "a value on a midpoint goes up": lambda patch: patch.setattr(
        nf4, "nearest", lambda x, book: torch.bucketize(x, book.midpoints, right=True).to(torch.uint8)
    ),
    "the other nibble first": lambda patch: patch.setattr(
        packing, "pack_nibbles", lambda codes, filler: (codes[0::2] | codes[1::2] << 4).unsqueeze(1)
    ),
    "a block is one value longer": lambda patch: patch.setattr(
        nf4, "split", lambda x, size: SPLIT(x.roll(1), size)
    ),
}
SPLIT = nf4.split


@pytest.mark.parametrize("name", BREAKS)
def test_the_parity_tests_can_fail(name, monkeypatch):
    assert parity(special(torch.float32), "nf4", 64, False) == []
    BREAKS[name](monkeypatch)
    assert parity(special(torch.float32), "nf4", 64, False) != []


def test_an_index_off_the_grid_of_the_cpu_is_seen_and_is_the_nearest_level():
    """On a GPU no grid comes between: a few indices in a thousand differ, and what they stand for is off by less than a step
    of the grid more."""
    scales = normal(200_000).abs()
    on_grid, exact = double_quant.quantize(scales), double_quant.quantize(scales, grid=None)
    different = on_grid.indices != exact.indices
    assert 1e-4 < different.float().mean() < 1e-2
    worse = (on_grid.dequantize() - scales).abs() - (exact.dequantize() - scales).abs()
    step = 2 / (double_quant.GRID - 1) * exact.absmax.repeat_interleave(256)[: len(scales)]
    assert (worse <= 1.01 * step).all() and worse.sum() > 0


# What holds on any input


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 300),
    block_size=st.integers(1, 130),
    book=st.sampled_from(
        [NF4, FP4, INT4, Codebook("NF3", codebooks.normal_float(3)), Codebook("two", (-1.0, 1.0))]
    ),
)
def test_every_value_gets_the_nearest_level(seed, count, block_size, book):
    """Of the level times absmax: so no value is off by more than half the gap it lies in, and float32 may lose 2^-22 of absmax."""
    x = normal(count, seed=seed)
    quantized = nf4.quantize(x, book, block_size)
    absmax = quantized.absmax.repeat_interleave(block_size)[:count]
    away = (x[:, None] - book.tensor * absmax[:, None]).abs().amin(1) if count else x
    assert ((quantized.dequantize() - x).abs() <= away + 2**-22 * absmax).all()
    assert torch.equal(book.tensor[quantized.codes.long()] * absmax, quantized.dequantize())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.integers(-20, 20))
def test_a_power_of_two_changes_no_code(seed, exponent):
    x = normal(256, seed=seed)
    ours, scaled = nf4.quantize(x), nf4.quantize(x * 2.0**exponent)
    assert torch.equal(ours.packed, scaled.packed)
    assert torch.equal(ours.absmax * 2.0**exponent, scaled.absmax)


@pytest.mark.parametrize("book", [NF4, FP4, INT4])
def test_quantizing_twice_changes_nothing(book):
    once = nf4.quantize(normal(1000), book)
    again = nf4.quantize(once.dequantize(), book)
    assert torch.equal(again.dequantize(), once.dequantize()) and torch.equal(again.absmax, once.absmax)


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_codes_of_other_widths_are_packed_as_tightly(bits):
    x = normal(129)
    quantized = nf4.quantize(x, Codebook(f"NF{bits}", codebooks.normal_float(bits)))
    assert len(quantized.packed) == -(-129 * bits // 8)
    assert int(quantized.codes.max()) < 2**bits and quantized.codes.shape == x.shape


def test_the_dtype_may_be_another():
    x = normal(640, torch.bfloat16).reshape(10, 64)
    quantized = nf4.quantize(x)
    assert quantized.dequantize().dtype == torch.bfloat16 and quantized.dequantize().shape == (10, 64)
    assert torch.equal(quantized.dequantize(torch.float32).bfloat16(), quantized.dequantize())


@pytest.mark.parametrize(
    ("x", "block_size", "said"),
    [
        (torch.tensor([1.0, float("nan")]), 64, "infinities or NaN"),
        (torch.tensor([1.0, float("inf")]), 64, "infinities or NaN"),
        (torch.tensor([1, 2]), 64, "must be floating point, not torch.int64"),
        (torch.ones(4), 0, "block_size must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_quantized_is_refused(x, block_size, said):
    with pytest.raises(ValueError, match=said):
        nf4.quantize(x, block_size=block_size)


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ((0.0,), "2 to 256 levels, not 1"),
        ((0.0, 1.5), "those of x reach 1.5"),
        ((0.0, 1e-6, 2e-6, 1.0), "levels of x are less than 2"),
    ],
)
def test_a_table_that_is_no_codebook_is_refused(levels, said):
    with pytest.raises(ValueError, match=said):
        Codebook("x", levels)


@settings(max_examples=40, deadline=None)
@given(levels=st.sets(st.integers(-(2**14), 2**14), min_size=2, max_size=40), seed=st.integers(0, 10**6))
def test_the_grid_decides_as_the_midpoints_do(levels, seed):
    """Levels on multiples of 2^-14: random values, all midpoints, and their neighbours in float32 on both sides."""
    book = Codebook("x", tuple(level / 2**14 for level in sorted(levels)))
    middles = book.midpoints
    around = torch.cat((middles, middles.nextafter(torch.tensor(2.0)), middles.nextafter(torch.tensor(-2.0))))
    values = torch.cat((around, torch.rand(200, generator=torch.Generator().manual_seed(seed)) * 2 - 1))
    assert torch.equal(nf4.nearest(values, book).long(), torch.bucketize(values, middles))


def test_levels_that_only_a_finer_grid_tells_apart():
    """Midpoints 1/4000, 1/16000 and 1/50000 apart: two of them lie in one of 1,024, 4,096 and 16,384 cells."""
    for gap in (2000, 8000, 25_000):
        book = Codebook("near", (-1.0, 0.0, 1 / gap, 2 / gap, 1.0))
        values = torch.linspace(-1 / gap, 4 / gap, 101)
        assert torch.equal(nf4.nearest(values, book).long(), torch.bucketize(values, book.midpoints))
        assert nf4.nearest(book.tensor, book).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [5, 69])
def test_a_short_block_of_zeros_is_that_of_bitsandbytes(count):
    assert parity(torch.zeros(count), "nf4", 64, double_quantized=False) == []


def test_other_defaults_of_torch_change_nothing():
    """In a Python of its own, because tables are kept: a default dtype, and subnormal numbers taken for 0."""
    lines = (
        "import torch; from coursepkg import nf4, lloyd, affine, gptq; torch.manual_seed(0)",
        "x = torch.randn(4101); torch.set_default_dtype(getattr(torch, 'DTYPE'))",
        "torch.set_flush_denormal(True); nf4.quantize(torch.zeros(69)).dequantize()",
        "made = [nf4.quantize(x, double_quantized=dq).dequantize() for dq in (False, True)] + [nf4.least_error(x).dequantize()]",
        "torch.set_default_dtype(torch.float32)",
        "made += [nf4.quantize(x, double_quantized=dq).dequantize() for dq in (False, True)] + [nf4.least_error(x).dequantize()]",
        "assert all(torch.equal(made[i], made[i + 3]) and made[i].dtype == torch.float32 for i in range(3))",
        "assert (made[0] - x).abs().max() < 0.6",
    )
    for dtype in ("float64", "bfloat16"):
        code = "\n".join(lines).replace("DTYPE", dtype)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


# Double quantization


def test_double_quantization_stores_what_it_says():
    """4.127 bits: a code of 4, an index of 8 for 64 codes, an absmax of 32 for 256 indices, and one offset."""
    quantized = nf4.quantize(normal(64 * 256 * 10), double_quantized=True)
    scales = quantized.scales
    stored = [quantized.packed, scales.indices, scales.absmax, scales.offset]
    bits = 8 * sum(tensor.nbytes for tensor in stored) / (64 * 256 * 10)
    assert bits == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), abs=1e-3)


def test_scales_are_off_by_half_a_gap_of_the_map_and_a_step_of_the_grid():
    scales = normal(10_000).abs() + 0.05
    found = double_quant.quantize(scales)
    gaps = double_quant.dynamic_map().diff()
    absmax = found.absmax.repeat_interleave(256)[: len(scales)]
    assert ((found.dequantize() - scales).abs() <= (gaps.max() / 2 + 2**-15 + 2**-20) * absmax + 1e-8).all()


@pytest.mark.parametrize("book", [NF4, FP4])
def test_codes_for_the_scales_that_are_stored_are_never_worse(book):
    x = normal(64 * 1000) * torch.linspace(0.5, 2, 64 * 1000)
    plain = nf4.quantize(x, book, double_quantized=True)
    better = nf4.least_error(x, book)
    errors = [(one.dequantize() - x).reshape(-1, 64).square().sum(1) for one in (plain, better)]
    assert (errors[1] <= errors[0] * (1 + 1e-5)).all() and errors[1].sum() < 0.999 * errors[0].sum()
    assert torch.equal(plain.scales.absmax, better.scales.absmax)


def test_of_the_scales_within_reach_each_block_has_the_best():
    """All five tried, one after the other, on all blocks."""
    x = normal(64 * 300) * torch.linspace(0.5, 2, 64 * 300)
    plain, best, rows = nf4.quantize(x, double_quantized=True), nf4.least_error(x), x.reshape(-1, 64)
    errors = []
    for step in range(-2, 3):
        indices = (plain.scales.indices.int() + step).clamp(0, 255).to(torch.uint8)
        absmax = replace(plain.scales, indices=indices).dequantize()[:, None]
        levels = NF4.tensor[nf4.nearest((rows / absmax).clamp(-1, 1), NF4).int()]
        errors.append((levels * absmax - rows).square().sum(1))
    taken = best.scales.indices.int() - plain.scales.indices.int()
    assert sorted(taken.unique().tolist()) == [-2, -1, 0, 1, 2]
    found = (best.dequantize().reshape(-1, 64) - rows).square().sum(1)
    torch.testing.assert_close(found, torch.stack(errors).amin(0), rtol=1e-5, atol=0)


def test_double_quantization_of_nothing_and_of_too_much():
    empty = nf4.quantize(torch.empty(0), double_quantized=True)
    assert empty.dequantize().shape == (0,) and empty.scales.offset == 0
    with pytest.raises(ValueError, match="the scales' sum overflows float32"):
        nf4.quantize(torch.full((128 * 64,), 3e38), double_quantized=True)


def test_a_short_last_block_is_refined_too():
    x = normal(200)
    plain, better = nf4.quantize(x, double_quantized=True), nf4.least_error(x)
    assert better.packed.shape == plain.packed.shape and better.dequantize().shape == (200,)
    assert (better.dequantize() - x)[192:].square().sum() <= (plain.dequantize() - x)[192:].square().sum() * (
        1 + 1e-5
    )


def test_blocks_may_run_over_the_ends_of_rows():
    x = normal(14 * 96).reshape(14, 96)
    assert torch.equal(nf4.quantize(x).dequantize(), nf4.quantize(x.reshape(-1)).dequantize().reshape(14, 96))


# Another's room, another's compiler


def test_values_may_be_written_where_there_is_room():
    quantized = nf4.quantize(normal(640).reshape(10, 64))
    room = torch.empty(10, 64)
    assert nf4.dequantize(quantized, out=room) is room and torch.equal(room, quantized.dequantize())
    for wrong in (torch.empty(64, 10), torch.empty(10, 64, dtype=torch.float16), torch.empty(64, 10).T):
        with pytest.raises(ValueError, match="out must be contiguous, torch.float32 and of shape"):
            nf4.dequantize(quantized, out=wrong)


@pytest.mark.skipif(not compiled.is_there(), reason="there is no C++ compiler for torch.compile")
@pytest.mark.parametrize("double_quantized", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_compiled_it_is_bit_for_bit_the_same(dtype, double_quantized):
    """Also where it does not compile anything: odd lengths, tables in another order."""
    for book, count in ((NF4, 64 * 100), (NF4, 64 * 33), (NF4, 6401), (FP4, 640), (INT4, 640)):
        x = normal(count, dtype)
        plain = nf4.quantize(x, book, 64, double_quantized)
        fast = compiled.quantize(x, book, 64, double_quantized)
        assert torch.equal(fast.packed, plain.packed) and torch.equal(fast.absmax, plain.absmax)
        assert torch.equal(compiled.dequantize(plain), plain.dequantize())
    few = Codebook("nine", tuple(level / 4 for level in range(-4, 5)))
    blocks = torch.cat((normal(64), torch.zeros(64), torch.full((64,), 1e-39), normal(64)))
    for book in (few, NF4):
        plain, fast = nf4.quantize(blocks, book), compiled.quantize(blocks, book)
        assert torch.equal(fast.packed, plain.packed)
        assert torch.equal(compiled.dequantize(plain), plain.dequantize())
    with pytest.raises(ValueError, match="infinities or NaN"):
        compiled.quantize(torch.full((64,), float("nan")))
    with pytest.raises(ValueError, match="block_size must be at least 1"):
        compiled.quantize(normal(64), block_size=0)
