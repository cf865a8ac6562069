"""AWQ's search and clipping: what they find, written out, and what holds of it."""

import pytest
import torch

from coursepkg import affine, awq, distortion, gptq
from coursepkg.affine import Scheme

SCHEME = Scheme(3, granularity=32)


@pytest.fixture(scope="module")
def x():
    """Inputs of which a few are large, by a factor between 5 and 30."""
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(256, 96, generator=generator)
    made[:, ::17] *= torch.linspace(5, 30, 6)
    return made


@pytest.fixture(scope="module")
def weights():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(rows, 96, generator=generator) * 0.05 for rows in (40, 24)]


def error(x, weight, back):
    return distortion.relative_error(x @ weight.T, x @ back.T)


def test_scales_by_hand():
    """√(4, 1, 0.25) = (2, 1, 0.5), and √(2 · 0.5) = 1."""
    assert awq.scales(torch.tensor([4.0, 1.0, 0.25]), 0.5).tolist() == [2, 1, 0.5]
    assert awq.scales(torch.tensor([8.0, 0.0, 2.0]), 0.0).tolist() == [1, 1, 1]


def test_each_error_is_that_of_the_layers_rounded_with_those_scales(x, weights):
    found = awq.search(weights, x.abs().mean(0), x, SCHEME, grid=4)
    assert found.ratios == (0, 0.25, 0.5, 0.75)
    for ratio, seen in zip(found.ratios, found.errors, strict=True):
        s = awq.scales(x.abs().mean(0), ratio)
        both = torch.cat([affine.quantize(weight * s, SCHEME).dequantize() / s for weight in weights])
        assert seen == pytest.approx(error(x, torch.cat(weights), both), rel=1e-4)
    assert torch.equal(found.scales, awq.scales(x.abs().mean(0), found.ratio))


def test_the_best_is_between_the_ends_and_better_than_plain_rounding(x, weights):
    found = awq.search(weights, x.abs().mean(0), x, SCHEME)
    assert 0 < found.ratio < 0.95 and min(found.errors) < 0.6 * found.errors[0]
    assert len(found.ratios) == 20 and found.ratios[-1] == 0.95


def test_where_all_inputs_are_alike_nothing_is_scaled(weights):
    even = torch.where(torch.rand(64, 96, generator=torch.Generator().manual_seed(2)) < 0.5, -1.0, 1.0)
    found = awq.search(weights, even.abs().mean(0), even, SCHEME)
    assert found.ratio == 0 and len(set(found.errors)) == 1 and (found.scales == 1).all()


def test_dead_inputs_get_a_finite_scale(x, weights):
    dead = x.clone()
    dead[:, 3] = 0
    found = awq.search(weights, dead.abs().mean(0), dead, SCHEME)
    assert found.scales.isfinite().all() and (found.scales > 0).all()


def test_clipping_takes_the_best_share_of_each_group(x, weights):
    """All eleven shares, group by group and output by output, from the groups' own outputs."""
    weight, shares = weights[0], [1 - step / 20 for step in range(11)]
    found = awq.clip(weight, x, SCHEME).reshape(40, 3, 32)
    for group in range(3):
        part, inputs = weight[:, 32 * group : 32 * group + 32], x[:, 32 * group : 32 * group + 32]
        limits = torch.stack([share * part.abs().amax(1, keepdim=True) for share in shares])
        cut = torch.stack([part.clamp(-limit, limit) for limit in limits])
        back = torch.stack([affine.quantize(each, SCHEME).dequantize() for each in cut])
        errors = ((back - part) @ inputs.T).square().sum(2)  # share, output
        best = cut[errors.argmin(0), torch.arange(40)]
        differ = (found[:, group] != best).any(1)
        ours = (
            ((affine.quantize(found[:, group].contiguous(), SCHEME).dequantize() - part) @ inputs.T)
            .square()
            .sum(1)
        )
        assert (ours <= errors.amin(0) * (1 + 1e-4)).all() and differ.sum() <= 1
    back = affine.quantize(found.reshape(40, 96), SCHEME).dequantize()
    assert error(x, weight, back) < 0.95 * error(x, weight, affine.quantize(weight, SCHEME).dequantize())


def test_scales_and_then_gptq(x, weights):
    """On inputs that go together, each helps, and both together help more than either."""
    mixed = x @ (torch.eye(96) + 0.3 * torch.randn(96, 96, generator=torch.Generator().manual_seed(3)))
    weight, scheme = weights[0], Scheme(3, granularity=32)
    found = awq.search([weight], mixed.abs().mean(0), mixed, scheme)
    s, gram = found.scales, mixed.T @ mixed
    errors = {
        "plain": error(mixed, weight, affine.quantize(weight, scheme).dequantize()),
        "awq": min(found.errors),
        "gptq": error(mixed, weight, gptq.quantize(weight, gram, scheme).dequantize()),
        "both": error(
            mixed, weight, gptq.quantize(weight * s, gram / s / s[:, None], scheme).dequantize() / s
        ),
    }
    assert errors["awq"] < errors["plain"] and errors["gptq"] < errors["plain"]
    assert errors["both"] < errors["awq"]


def test_what_does_not_go_together_is_refused(x, weights):
    mean_abs = x.abs().mean(0)
    for wrong in (([], mean_abs, x), ([weights[0].T], mean_abs, x), (weights, mean_abs, x[:, :5])):
        with pytest.raises(ValueError, match="must have the same inputs"):
            awq.search(*wrong, SCHEME)
    with pytest.raises(ValueError, match="the sample is empty"):
        awq.search(weights, mean_abs, x[:0], SCHEME)
    with pytest.raises(ValueError, match="infinities or NaN"):
        awq.search(weights, mean_abs / 0, x, SCHEME)
    with pytest.raises(ValueError, match="groups of 36 do not fill"):
        awq.clip(weights[0], x, Scheme(4, granularity=36))
    with pytest.raises(ValueError, match="clipping is for groups or channels"):
        awq.clip(weights[0], x, Scheme(4, granularity="tensor"))
