"""Levels of least error: their condition holds, no other levels do better, and the literature's tables come out."""

import pytest
import torch
from bitsandbytes import functional

from coursepkg import lloyd, nf4
from coursepkg.codebooks import NF4, uniform

#: Max 1960, table I: the best four and eight levels for a normal value, and their mean squared error.
MAX = {
    4: ((-1.510, -0.4528, 0.4528, 1.510), 0.1175),
    8: ((-2.152, -1.344, -0.7560, -0.2451, 0.2451, 0.7560, 1.344, 2.152), 0.03454),
}


@pytest.fixture(scope="module")
def blocks() -> lloyd.Distribution:
    return lloyd.normal_blocks(64)


@pytest.mark.parametrize("count", MAX)
def test_the_best_levels_for_a_normal_value_are_those_of_max(count):
    """His table has four digits. The distribution is cut at six standard deviations, which are 1 here."""
    points = torch.linspace(-1, 1, 8001, dtype=torch.float64)
    mass = torch.exp(-((6 * points) ** 2) / 2)
    normal = lloyd.Distribution(points, mass / mass.sum())
    start = tuple((torch.arange(count) * 2 / (count - 1) - 1).tolist())
    levels = lloyd.fit(normal, start=start, fixed=())
    expected, error = MAX[count]
    assert [6 * level for level in levels] == pytest.approx(expected, abs=1e-3)
    assert 36 * normal.error(levels) == pytest.approx(error, abs=1e-4)


@pytest.mark.parametrize(
    ("error", "power"), [("squared", 0), ("squared", 2), ("absolute", 0), ("absolute", 1)]
)
def test_no_level_can_be_moved_to_gain(error, power):
    distribution = lloyd.normal_blocks(64, power)
    levels = lloyd.fit(distribution, error)
    least = distribution.error(levels, error)
    assert levels[0] == -1 and levels[7] == 0 and levels[-1] == 1
    assert least < distribution.error(NF4.levels, error)
    for place in (1, 4, 6, 8, 11, 14):
        for step in (-0.004, 0.004):
            moved = [level + step * (number == place) for number, level in enumerate(levels)]
            assert distribution.error(tuple(moved), error) > least


@pytest.mark.parametrize("block_size", [16, 64, 1024])
@pytest.mark.parametrize("power", [0, 2])
def test_normal_blocks_are_what_is_found_in_normal_values(block_size, power):
    """Against two million values. The share of each level, p, is a mean over many blocks, of standard deviation below
    sqrt(p / n); the weight of a block by its absmax makes it larger, at most by half. Five of them are allowed."""
    values = torch.randn(2**21, generator=torch.Generator().manual_seed(block_size))
    expected = lloyd.normal_blocks(block_size, power).use(NF4.levels)
    found = lloyd.blocks_of(values, block_size, power).use(NF4.levels)
    assert ((found - expected).abs() <= 5 * 1.5 * (expected / len(values)).sqrt() + 1e-3 * expected).all()


def test_a_block_of_real_numbers_counts_as_its_error_does():
    """The expected squared error of `power` 2, times the mean square of absmax, is the mean squared error of the values."""
    values = torch.randn(64 * 4000, generator=torch.Generator().manual_seed(0)) * 0.02
    quantized = nf4.quantize(values)
    expected = lloyd.blocks_of(values, power=2).error(NF4.levels) * quantized.absmax.square().mean().item()
    found = (quantized.dequantize() - values).square().mean().item()
    assert found == pytest.approx(expected, rel=2e-3)  # the histogram has 8,001 places


def test_equal_use_is_not_least_error(blocks):
    """NF4 is used more evenly than the levels of least error, and is further from them than they are."""
    best = lloyd.fit(blocks)
    spread = {name: blocks.use(levels).std().item() for name, levels in (("NF4", NF4.levels), ("best", best))}
    assert spread["NF4"] < spread["best"]
    assert blocks.error(best) < 0.93 * blocks.error(NF4.levels)
    assert blocks.error(NF4.levels) < 0.8 * blocks.error(uniform(4))


def test_af4_is_the_table_that_bitsandbytes_has(blocks):
    """Its digits come from root finding in an integral, ours from Lloyd's method on a grid of 4,001 points, between which masses are
    interpolated: off by the square of their distance, 2.5e-7, and by the integral over absmax's own steps of 0.009."""
    table = sorted(functional.get_4bit_type("af4", device="cpu").tolist())
    assert sorted(lloyd.abnormal_float(64).levels) == pytest.approx(table, abs=1e-6)


def test_af4_was_fitted_without_its_zero(blocks):
    """With 0 put between its sides its absolute error is larger than NF4's; fitted with 0 in place it is the smallest of the three."""
    books = (lloyd.least_absolute(64), NF4, lloyd.abnormal_float(64))
    errors = [blocks.error(book.levels, "absolute") for book in books]
    assert errors == sorted(errors)
    held = ((-1.0, 0.0, 1.0), (-1.0, 1.0), ())
    freer = [blocks.error(lloyd.fit(blocks, "absolute", fixed=fixed), "absolute") for fixed in held]
    assert freer == sorted(freer, reverse=True)


def test_larger_blocks_want_levels_nearer_to_zero():
    levels = [lloyd.least_absolute(size).levels[12] for size in (64, 256, 4096)]
    assert levels == sorted(levels, reverse=True)


def test_levels_that_nothing_is_rounded_to_stay():
    points = torch.linspace(-1, 1, 201, dtype=torch.float64)
    mass = torch.zeros(201, dtype=torch.float64)
    mass[[0, 190, 200]] = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    levels = lloyd.fit(lloyd.Distribution(points, mass), start=(-1.0, -0.5, 0.0, 0.8, 1.0), fixed=())
    assert levels[1:3] == (-0.5, 0.0) and levels[3:] == pytest.approx((0.9, 1.0))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lloyd.normal_blocks(1), "block_size must be at least 2"),
        (lambda: lloyd.blocks_of(torch.zeros(128)), "no block of 64 values that are not all 0"),
        (lambda: lloyd.blocks_of(torch.ones(5)), "no block of 64 values"),
        (lambda: lloyd.fit(lloyd.normal_blocks(8), fixed=(0.3,)), r"\[0.3\] are to stay"),
    ],
)
def test_what_makes_no_sense_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
