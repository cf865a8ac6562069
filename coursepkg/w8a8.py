"""W8A8: weights and activations in 8 bits, multiplied as whole numbers.

The activations get their scales when they are there (dynamic), or have one that was measured before (static).
"""

import torch

from coursepkg import affine, integer_products
from coursepkg.affine import Granularity, Quantized, Scheme


def quantize_weight(weight: torch.Tensor, granularity: Granularity = "channel") -> Quantized:
    """A weight (out_features, in_features) in int8, symmetric, a scale for each output, or for all ("tensor").

    Raises ValueError for groups, as `linear` does, and as `affine.quantize` does.
    """
    return affine.quantize(weight, Scheme(8, granularity=whole_rows(granularity)))


def linear(
    x: torch.Tensor,
    weight: Quantized,
    bias: torch.Tensor | None = None,
    granularity: Granularity = "channel",
    scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """x Wᵀ + b, with x rounded to int8. x: (…, in_features), floating point; the result has its dtype.

    weight: symmetric, a scale for each output or one for all. granularity: of the activations, "channel" (each token) or "tensor".
    scale: a static one, float32 of one element, instead of the absmax's; values beyond 127 of its steps are clipped.
    Raises ValueError for groups, which have no single scale to take out of a sum, and as `affine.quantize` does.
    """
    if not weight.scheme.is_symmetric:
        raise ValueError(
            "whole sums need symmetric codes: a zero-point would have to be taken out of each product"
        )
    whole_rows(weight.scheme.granularity)
    scheme = Scheme(8, granularity=whole_rows(granularity))
    rows = x.reshape(-1, x.shape[-1])
    if scale is None:
        made = affine.quantize(rows, scheme)
        codes, scale = made.codes, made.scale
    else:
        scale = scale.reshape(1, 1)
        codes = affine.encode(rows, scale, None, scheme)
    y = integer_products.matmul(codes, weight.codes) * (scale * weight.scale.float().reshape(1, -1))
    if bias is not None:
        y = y + bias.float()
    return y.to(x.dtype).reshape(*x.shape[:-1], weight.codes.shape[0])


def whole_rows(granularity: Granularity) -> Granularity:
    """The granularity, where a scale can be taken out of a sum over a row. Raises ValueError for groups."""
    if granularity not in ("channel", "tensor"):
        raise ValueError(
            f"a whole sum has one scale for a row: granularity channel or tensor, not groups of {granularity}"
        )
    return granularity
