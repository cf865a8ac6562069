"""GPTQ against the paper's Algorithm 1 written out in float64, and against what it is to minimise."""

from dataclasses import replace

import pytest
import torch

from coursepkg import affine, gptq
from coursepkg.affine import Scheme

OUT, IN = 24, 96
SCHEMES = [
    Scheme(4, granularity=32),
    Scheme(3, granularity="channel"),
    Scheme(3, granularity="tensor"),
    Scheme(4, "integer", granularity=48, scale_dtype=torch.float16),
    Scheme(2, "real", granularity=8),
    Scheme(4, granularity=96, full_range=True, clipping="mse"),
]


@pytest.fixture(scope="module")
def gram():
    """That of 600 correlated inputs; input 5 is always 0."""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(600, IN, generator=generator) @ torch.randn(IN, IN, generator=generator) / 8
    x = mixed + torch.randn(600, IN, generator=generator)
    x[:, 5] = 0
    return x.T @ x


@pytest.fixture(scope="module")
def weight():
    return torch.randn(OUT, IN, generator=torch.Generator().manual_seed(1))


def algorithm_1(weight, gram, scheme, act_order, static_groups, damping=0.01):
    """The codes, column by column, in float64, with the inverse of H and its Cholesky factor."""
    left, hessian, columns = weight.double().clone(), 2 * gram.double(), weight.shape[1]
    dead = hessian.diagonal() == 0
    left[:, dead] = 0
    size = affine.block_shape(tuple(weight.shape), scheme.granularity)[1]
    each = replace(scheme, granularity="tensor" if scheme.granularity == "tensor" else "channel")

    def ruler(first):
        return affine.choose_qparams(left[:, first : first + size].float(), each)

    rulers = {first // size: ruler(first) for first in range(0, columns, size)}
    hessian[dead, dead] = hessian.diagonal().mean()
    order = hessian.diagonal().argsort(descending=True, stable=True) if act_order else torch.arange(columns)
    if act_order:
        order = torch.cat((order[~dead[order]], order[dead[order]]))
    damped = hessian + damping * (2 * gram).double().diagonal().mean() * torch.diag((~dead).double())
    factor = torch.linalg.cholesky(torch.linalg.inv(damped[order][:, order]), upper=True)
    left, codes = left[:, order], torch.empty(weight.shape, dtype=scheme.code_dtype)
    for i, column in enumerate(order.tolist()):
        if not (act_order or static_groups) and i % size == 0:
            rulers[i // size] = ruler(i)
        scale, zero_point = rulers[column // size]
        code = affine.encode(left[:, i : i + 1].float(), scale, zero_point, each)
        codes[:, column] = code[:, 0]
        lost = (left[:, i : i + 1] - affine.decode(code, scale, zero_point)) / factor[i, i]
        left[:, i + 1 :] -= lost @ factor[i : i + 1, i + 1 :]
    return codes


def cost(weight, made, gram):
    change = (weight - made.dequantize()).double()
    return ((change @ gram.double()) * change).sum().item()


@pytest.mark.parametrize(("act_order", "static_groups"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: f"{s.bits}-{s.zero_point}-{s.granularity}")
def test_codes_are_those_of_the_papers_algorithm(weight, gram, scheme, act_order, static_groups):
    """All of them: float32 against float64 changes a code only within 1e-5 of a border, where 1 of 50,000 lies."""
    made = gptq.quantize(weight, gram, scheme, act_order, static_groups)
    assert torch.equal(made.codes, algorithm_1(weight, gram, scheme, act_order, static_groups))


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: f"{s.bits}-{s.zero_point}-{s.granularity}")
def test_outputs_change_less_than_with_plain_rounding(weight, gram, scheme):
    plain = cost(weight, affine.quantize(weight, scheme), gram)
    assert cost(weight, gptq.quantize(weight, gram, scheme), gram) < 0.9 * plain


def test_two_weights_by_hand():
    """H = [[2, 1], [1, 2]], codes at whole numbers. 0.6 becomes 1: 0.4 too much, so the other moves down by half of that, from 1.6
    to 1.4, and becomes 1 where plain rounding makes it 2. The changes (0.4, −0.6) cost 0.56, (0.4, 0.4) 0.96."""
    weight, gram = torch.tensor([[0.6, 1.6, 7.0]]), torch.tensor([[2.0, 1, 0], [1, 2, 0], [0, 0, 1]])
    moved = gptq.moves(gram, damping=1e-9)
    assert moved[0, 1].item() == pytest.approx(-0.5)
    made = gptq.quantize(weight, gram, Scheme(4, granularity="channel"), damping=1e-9)
    assert made.scale.item() == 1 and made.codes.tolist() == [[1, 1, 7]]
    assert cost(weight, made, gram) == pytest.approx(0.56)
    assert cost(weight, affine.quantize(weight, Scheme(4)), gram) == pytest.approx(0.96)
    assert weight.tolist() == [[pytest.approx(0.6), pytest.approx(1.6), 7]]  # the caller's is left as it was


def test_moves_are_the_cholesky_factor_of_the_inverse(gram):
    """Each row divided by its diagonal. float32 against float64: the condition number, below 1e3, times 6e-8."""
    alive = gram.diagonal() > 0
    damped = gram.double() + 0.01 * gram.double().diagonal().mean() * torch.eye(IN)
    damped[~alive, ~alive] = 1
    factor = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    expected = factor / factor.diagonal()[:, None]
    assert torch.allclose(gptq.moves(gram).double(), expected, atol=6e-5)


@pytest.mark.parametrize("solved", [1, 7, 64])
def test_a_triangle_is_inverted_in_halves(gram, monkeypatch, solved):
    whole = gptq.moves(gram)
    monkeypatch.setattr(gptq, "SOLVED", solved)
    assert torch.allclose(gptq.moves(gram), whole, atol=6e-5)


def test_the_others_answer_as_well_as_they_can(gram):
    """After one column has lost something, no change of those behind it lowers the cost: the gradient there is 0."""
    damped = gram + 0.01 * gram.diagonal().mean() * torch.eye(IN)
    change = gptq.moves(gram)[10].double()  # 1 at place 10, 0 before it
    gradient = change @ damped.double()
    assert gradient[11:].abs().max() < 1e-4 * gradient[10]


def test_inputs_that_do_not_go_together_are_rounded_alone(weight):
    for act_order in (False, True):
        made = gptq.quantize(weight, torch.diag(torch.arange(1.0, IN + 1)), SCHEMES[0], act_order)
        assert torch.equal(made.codes, affine.quantize(weight, SCHEMES[0]).codes)


def test_a_multiple_of_the_gram_matrix_changes_nothing(weight, gram):
    once, often = (gptq.quantize(weight, each, SCHEMES[1]) for each in (gram, 1024 * gram))
    assert torch.equal(once.codes, often.codes)


def test_an_input_that_is_always_0_gets_weight_0(weight, gram):
    made = gptq.quantize(weight, gram, Scheme(4, granularity=32))
    assert not made.codes[:, 5].any() and made.codes[:, 4].any()


def test_act_order_has_the_scales_of_plain_rounding(weight, gram):
    scheme = Scheme(4, granularity=32)
    live = weight.clone()
    live[:, 5] = 0
    assert torch.equal(gptq.quantize(weight, gram, scheme, True).scale, affine.quantize(live, scheme).scale)


def test_a_gram_matrix_of_too_little_text_gets_more_damping_and_says_so(weight, gram):
    alive = gram.diagonal() > 0
    least = torch.linalg.eigvalsh(gram[alive][:, alive])[0]
    worse = gram - torch.diag(alive * (least + 0.05 * gram.diagonal().mean()))  # 1 % cannot mend it, 10 % can
    with pytest.warns(gptq.MoreDamping, match="damping 0.01; trying 0.1"):
        made = gptq.quantize(weight, worse, SCHEMES[1])
    assert torch.equal(made.codes, gptq.quantize(weight, worse, SCHEMES[1], damping=0.1).codes)


@pytest.mark.filterwarnings("ignore::coursepkg.gptq.MoreDamping")
def test_what_is_no_gram_matrix_is_refused(weight, gram):
    def refused(pattern, weight=weight, gram=gram, **options):
        with pytest.raises(ValueError, match=pattern):
            gptq.quantize(weight, gram, Scheme(4), **options)

    together = gram.clone()
    together[0, 1] = together[1, 0] = 1e6  # more than both have alone
    refused("no sum of", gram=together)
    refused("no sum of", gram=-gram)
    refused("the Gram matrix is 0", gram=0 * gram)
    refused("needs a Gram matrix", gram=gram[:4, :4])
    refused("needs a Gram matrix", weight=weight[0])
    refused("float32 or float64", gram=gram.half())
    refused("infinities or NaN", gram=gram * torch.inf)
    refused("infinities or NaN", weight=weight / 0)
    refused("damping must be above 0", damping=0)


def test_it_is_the_same_at_any_depth_of_halving(weight, gram, monkeypatch):
    found = []
    for leaf in (1, 7, 1000):
        monkeypatch.setattr(gptq, "LEAF", leaf)
        found.append(gptq.quantize(weight, gram, SCHEMES[1]).codes)
    assert torch.equal(found[0], found[1]) and torch.equal(found[1], found[2])
