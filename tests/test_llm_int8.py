"""LLM.int8() against bitsandbytes, and the integer product against int64."""

import pytest
import torch

from coursepkg import integer_products, llm_int8
from coursepkg.quiet import quiet

with quiet():
    import bitsandbytes


def activations(tokens: int = 33, features: int = 192) -> torch.Tensor:
    """Normal values, and two features that are 8 and 30 times as large."""
    x = torch.randn(tokens, features, generator=torch.Generator().manual_seed(0))
    x[:, 17] *= 8
    x[:, 100] *= 30
    return x.half()


def layer(bias: bool = True) -> torch.nn.Linear:
    torch.manual_seed(1)
    return torch.nn.Linear(192, 80, bias=bias)


def theirs(linear: torch.nn.Linear, threshold: float) -> torch.nn.Module:
    made = bitsandbytes.nn.Linear8bitLt(
        linear.in_features,
        linear.out_features,
        linear.bias is not None,
        has_fp16_weights=False,
        threshold=threshold,
    )
    made.load_state_dict(linear.state_dict())
    return made.to("cpu").eval()


def reference(
    linear: torch.nn.Linear, threshold: float
) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    made = theirs(linear, threshold)
    codes, absmax, _ = bitsandbytes.functional.int8_vectorwise_quant(linear.weight.detach().half())
    return made, codes, absmax


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("threshold", [6.0, 0.0, 1e9, 2.0])
@pytest.mark.parametrize("shape", [(33,), (3, 11), (1,)])
def test_a_layer_computes_as_bitsandbytes_does(bias, threshold, shape):
    """Weights and scales bit for bit; outputs, which it rounds to fp16 twice, within 1e-3 of the largest."""
    linear, x = layer(bias), activations()[: torch.Size(shape).numel()].reshape(*shape, 192)
    made, codes, absmax = reference(linear, threshold)
    ours = llm_int8.quantize_weight(linear.weight)
    assert torch.equal(ours.codes, codes) and torch.equal(ours.absmax, absmax)
    with torch.no_grad():
        expected = made(x).float()
    b = None if linear.bias is None else linear.bias.detach()
    found = llm_int8.linear(x, ours, b, threshold or None).float()
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-3 * expected.abs().max()


@pytest.mark.parametrize("threshold", [6.0, 2.0, 100.0])
def test_activations_are_split_as_bitsandbytes_splits_them(threshold):
    x = activations()
    codes, absmax, columns = bitsandbytes.functional.int8_vectorwise_quant(x.clone(), threshold=threshold)
    ours, ours_columns = llm_int8.split(x, threshold)
    assert torch.equal(ours.codes, codes) and torch.equal(ours.absmax, absmax)
    assert ours_columns.tolist() == columns.tolist()


def test_the_threshold_itself_is_an_outlier():
    x = torch.tensor([[5.9, 6.0, -6.0, 0.1]])
    assert llm_int8.outlier_columns(x).tolist() == [1, 2]


def test_a_row_is_off_by_half_a_step_at_most():
    """And by what the product with 127 / absmax rounds: 2^-23 of 127."""
    x = torch.randn(50, 300, generator=torch.Generator().manual_seed(3))
    made = llm_int8.quantize(x)
    steps = made.absmax[:, None] / 127
    assert ((made.dequantize() - x).abs() / steps).max() <= 0.5 + 127 * 2**-22


def test_taking_columns_out_saves_the_others():
    x, linear = activations(), layer(bias=False)
    exact = x.float() @ linear.weight.detach().T
    weight = llm_int8.quantize_weight(linear.weight)
    error = {
        threshold: (llm_int8.linear(x, weight, threshold=threshold).float() - exact).square().mean()
        for threshold in (None, 6.0)
    }
    assert error[6.0] < error[None] / 20


def test_rows_of_zeros_and_no_rows():
    made = llm_int8.quantize(torch.zeros(2, 5))
    assert not made.codes.any() and not made.absmax.any() and not made.dequantize().any()
    assert llm_int8.linear(torch.zeros(0, 192), llm_int8.quantize_weight(layer().weight)).shape == (0, 80)


def test_what_int8_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="infinities or NaN"):
        llm_int8.quantize(torch.tensor([[1.0, torch.nan]]))
    with pytest.raises(ValueError, match="65,504"):
        llm_int8.quantize_weight(torch.tensor([[1e6]]))


@pytest.mark.parametrize("columns", [1, 511, 512, 513, 5000])
def test_integer_products_are_exact(columns):
    """The largest codes of one sign: the sum is 127 or 128 squared times their number."""
    a = torch.full((2, 3, columns), -128, dtype=torch.int8)
    b = torch.full((4, columns), 127, dtype=torch.int8)
    b[1] = -128
    found = integer_products.matmul(a, b)
    assert found.dtype == torch.int32 and found.shape == (2, 3, 4)
    assert found[0, 0].tolist() == [-128 * 127 * columns, 128 * 128 * columns] + 2 * [-128 * 127 * columns]
    most = torch.full((2, columns), 255, dtype=torch.uint8)
    assert torch.equal(integer_products.matmul(most, b).long(), most.long() @ b.long().T)
    generator = torch.Generator().manual_seed(columns)
    a = torch.randint(0, 256, (5, columns), dtype=torch.uint8, generator=generator)
    b = torch.randint(-128, 128, (6, columns), dtype=torch.int8, generator=generator)
    assert torch.equal(integer_products.matmul(a, b).long(), a.long() @ b.long().T)


@pytest.mark.parametrize("threshold", [6.0, None])
def test_what_fp16_cannot_hold_is_refused_with_a_threshold_too(threshold):
    weight = llm_int8.quantize(torch.randn(4, 8).half())
    x = torch.ones(2, 8)
    x[0, 3] = 1e5
    with pytest.raises(ValueError, match="infinit"):
        llm_int8.linear(x, weight, threshold=threshold)
