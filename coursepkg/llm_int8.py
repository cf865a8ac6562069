"""LLM.int8(): int8 for all but a few columns of the activations, which stay in 16 bits.

Each row of the activations (a token) and each row of the weight (an output) has its own absmax, so that the integer product's
element (i, j) is scaled by absmax_i · absmax_j / 127². One feature that is far larger than the others would take nearly all of its
row's codes. Such columns, with any value of the threshold's size, are taken out and multiplied in 16 bits.

Source: Dettmers et al. 2022, "LLM.int8()": vector-wise quantization, section 3.1; mixed-precision decomposition, section 3.2.
Arithmetic as in bitsandbytes: values are multiplied by 127 / absmax, weights are rounded to fp16 first.
"""

from dataclasses import dataclass

import torch

from coursepkg import integer_products

#: The paper's, for activations: a value of this size makes its column an outlier.
THRESHOLD = 6.0


@dataclass(frozen=True)
class Rows:
    """A matrix in int8, a scale for each row: x ≈ codes · absmax / 127.

    codes: int8 (rows, columns). absmax: float32 (rows,).
    """

    codes: torch.Tensor
    absmax: torch.Tensor

    def dequantize(self, columns: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """The values, or those of some columns, float32."""
        return self.codes[:, columns] * (self.absmax[:, None] * (1 / 127))


def quantize(x: torch.Tensor) -> Rows:
    """Round every row to int8. x: (rows, columns), floating point, finite. A row of zeros has codes 0 and absmax 0.

    Raises ValueError for infinities and NaN.

    >>> quantize(torch.tensor([[0.5, -1.0, 0.25]])).codes.tolist()
    [[64, -127, 32]]
    """
    if not x.isfinite().all():
        raise ValueError("x holds infinities or NaN (in fp16 values end at 65,504)")
    absmax = x.abs().amax(1).float() if x.numel() else x.new_zeros(len(x), dtype=torch.float32)
    codes = torch.round(x * (127 / absmax[:, None])).nan_to_num()
    return Rows(codes.to(torch.int8), absmax)


def quantize_weight(weight: torch.Tensor) -> Rows:
    """A weight (out_features, in_features) in int8, from its fp16 values. Raises ValueError where fp16 cannot hold one."""
    return quantize(weight.detach().half())


def outlier_columns(x: torch.Tensor, threshold: float = THRESHOLD) -> torch.Tensor:
    """The columns with any value of at least `threshold` in magnitude, ascending, int64. x: (rows, columns)."""
    return (x.abs() >= threshold).any(0).nonzero()[:, 0]


def split(x: torch.Tensor, threshold: float = THRESHOLD) -> tuple[Rows, torch.Tensor]:
    """Activations x (tokens, in_features) as int8 with codes 0 in the outlier columns, and these columns.

    A row's absmax is that of its values below the threshold, also of those in outlier columns, as bitsandbytes has it.
    Raises ValueError where x is not finite: an infinity would pass as an outlier.
    """
    if not torch.isfinite(x).all():
        raise ValueError("x holds infinities or NaN: in fp16 that is all beyond 65,504")
    columns = outlier_columns(x, threshold)
    made = quantize(torch.where(x.abs() >= threshold, 0, x))
    made.codes[:, columns] = 0
    return made, columns


def linear(
    x: torch.Tensor,
    weight: Rows,
    bias: torch.Tensor | None = None,
    threshold: float | None = THRESHOLD,
) -> torch.Tensor:
    """x Wᵀ + b through int8. x: (…, in_features), rounded to fp16; the result has its dtype.

    threshold: None takes no column out. The outlier columns' weights are read back from int8, as in bitsandbytes
    (inference keeps no others).
    """
    rows = x.reshape(-1, x.shape[-1]).half()
    if threshold is None:
        made, columns = quantize(rows), None
    else:
        made, columns = split(rows, threshold)
    sums = integer_products.matmul(made.codes, weight.codes)
    found = sums * (made.absmax[:, None] * weight.absmax) * (1 / 127**2)
    if bias is not None:
        found = found + bias.float()
    if columns is not None and len(columns):
        found += rows[:, columns].float() @ weight.dequantize(columns).half().float().T
    return found.to(x.dtype).reshape(*x.shape[:-1], len(weight.codes))
