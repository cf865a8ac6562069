"""Linear layers that multiply in 8 bits: their weight is stored in int8, and each input is rounded to int8 on its way in."""

import torch

from coursepkg import llm_int8, w8a8
from coursepkg.affine import Granularity, Quantized
from coursepkg.quantized_linear import KeepsDtypes


class W8A8Linear(KeepsDtypes):
    """y = x Wᵀ + b as `w8a8.linear` has it.

    Weight and scales are buffers, the bias is the Linear layer's. For inference: no gradients pass.
    """

    def __init__(
        self,
        weight: Quantized,
        bias: torch.nn.Parameter | None,
        granularity: Granularity,
        absmax: float | None = None,
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.codes.shape
        self.granularity, self.scheme, self.bias = granularity, weight.scheme, bias
        self.register_buffer("codes", weight.codes)
        self.register_buffer("scale", weight.scale)
        scale = None if absmax is None else torch.tensor([absmax / 127], device=weight.codes.device)
        self.register_buffer("input_scale", scale)

    @classmethod
    def of(
        cls,
        linear: torch.nn.Linear,
        weights: Granularity = "channel",
        activations: Granularity = "channel",
        absmax: float | None = None,
    ) -> "W8A8Linear":
        """That of a Linear layer, whose bias it takes over.

        weights, activations: "channel" (each output; each token) or "tensor". absmax: of the inputs, where their scale is to be static.
        Raises ValueError for groups, as `w8a8.quantize_weight` does, and for a static scale for each token, or one that is not above 0.
        """
        if absmax is not None and (activations != "tensor" or not absmax > 0):
            raise ValueError(
                "a static scale is one above 0 for the whole tensor: tokens are not known beforehand"
            )
        weight = w8a8.quantize_weight(linear.weight.detach(), weights)
        return cls(weight, linear.bias, w8a8.whole_rows(activations), absmax)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = Quantized(self.codes, self.scale, None, self.scheme)
        return w8a8.linear(x, weight, self.bias, self.granularity, self.input_scale)

    def extra_repr(self) -> str:
        how = "static" if self.input_scale is not None else "dynamic"
        return f"in_features={self.in_features}, out_features={self.out_features}, activations per {self.granularity}, {how}"


class LlmInt8Linear(KeepsDtypes):
    """y = x Wᵀ + b as `llm_int8.linear` has it: columns of x with a value of the threshold's size are multiplied in 16 bits.

    Codes and absmax are buffers, the bias is the Linear layer's. threshold: None takes no column out. For inference.
    """

    def __init__(
        self, weight: llm_int8.Rows, bias: torch.nn.Parameter | None, threshold: float | None
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.codes.shape
        self.threshold, self.bias = threshold, bias
        self.register_buffer("codes", weight.codes)
        self.register_buffer("absmax", weight.absmax)

    @classmethod
    def of(cls, linear: torch.nn.Linear, threshold: float | None = llm_int8.THRESHOLD) -> "LlmInt8Linear":
        """That of a Linear layer, whose bias it takes over. Raises ValueError where fp16 cannot hold the weight."""
        return cls(llm_int8.quantize_weight(linear.weight), linear.bias, threshold)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return llm_int8.linear(x, llm_int8.Rows(self.codes, self.absmax), self.bias, self.threshold)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, threshold={self.threshold}"
