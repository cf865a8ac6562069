"""A Linear layer that stores its weight quantized, and reads it back for each product."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from coursepkg import weight_formats
from coursepkg.weight_formats import Stored, WeightFormat


class KeepsDtypes(torch.nn.Module):
    """A module whose buffers move with the model, but never change their dtypes: `model.half()` must not round scales."""

    def _apply(self, function: Any, recurse: bool = True) -> "KeepsDtypes":
        before = dict(self._buffers)
        super()._apply(function, recurse)
        for name, tensor in before.items():
            moved = self._buffers[name]
            if moved is not None and moved.dtype != tensor.dtype:
                self._buffers[name] = tensor.to(moved.device)
        return self


class QuantizedLinear(KeepsDtypes):
    """y = x Wᵀ + b with a frozen W (out_features, in_features), stored in a WeightFormat.

    The stored tensors are buffers: they are in the state dict, move between devices, and keep their dtypes when the model
    changes its own. Gradients pass to x and b, not to the weight; for them the weight is read back again rather than kept, as in QLoRA
    (Dettmers et al. 2023, equation 5).

    compute_dtype: in which the product is computed; None for autocast's, and where there is none that of x. The output has the dtype of
    x in any case, as bitsandbytes' Linear4bit has it.
    """

    compute_dtype: torch.dtype | None = None

    def __init__(
        self,
        stored: Stored,
        shape: tuple[int, int],
        kind: WeightFormat,
        bias: torch.nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = shape
        self.kind = kind
        self.names = tuple(stored)
        for name, tensor in stored.items():
            self.register_buffer(name, tensor)
        self.bias = bias

    @classmethod
    def of(cls, linear: torch.nn.Linear, kind: WeightFormat) -> "QuantizedLinear":
        """That of a Linear layer, whose bias it takes over; hooks stay behind. Raises ValueError where the weight cannot be
        quantized."""
        return cls(kind.quantize(linear.weight.detach()), tuple(linear.weight.shape), kind, linear.bias)

    @classmethod
    def empty(
        cls, linear: torch.nn.Linear, kind: WeightFormat, device: torch.device | str = "cpu"
    ) -> "QuantizedLinear":
        """One of the same shape, to be filled from a state dict. Raises ValueError where the shape cannot be quantized."""
        shape = linear.weight.shape
        return cls(kind.empty(shape, device), tuple(shape), kind, linear.bias)

    @property
    def stored(self) -> Stored:
        """The tensors that hold the weight."""
        return {name: getattr(self, name) for name in self.names}

    def put(self, stored: Stored) -> None:
        """Hold other tensors of the same names, shapes and dtypes: another weight in the same format. Raises ValueError where they differ."""
        if extra := [name for name in stored if name not in self.names]:
            raise ValueError(f"there is no place for {', '.join(extra)}")
        for name, now in self.stored.items():
            new = stored.get(name)
            if new is None or (new.shape, new.dtype) != (now.shape, now.dtype):
                raise ValueError(f"{name} is not a tensor of shape {tuple(now.shape)} and dtype {now.dtype}")
        for name, tensor in stored.items():
            self._buffers[name] = tensor

    @property
    def stored_bytes(self) -> int:
        """Bytes of the stored weight, scales included; without the bias and the format's tables."""
        return weight_formats.stored_bytes(self.stored)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The weight as it is read back, (out_features, in_features)."""
        return self.kind.dequantize(self.stored, torch.Size((self.out_features, self.in_features)), dtype)

    def __getattr__(self, name: str) -> Any:
        if name == "weight":
            raise AttributeError(
                "a QuantizedLinear has no weight to read: dequantize() makes one; leave a layer as it is whose weight others read"
            )
        return super().__getattr__(name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Product.apply(x, self.bias, self)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"{self.kind.name}, {self.stored_bytes:,} bytes"
        )


def _as_given(x: torch.Tensor) -> AbstractContextManager:
    """Products in the dtypes of what is given: autocast would cast again."""
    known = torch.amp.is_autocast_available(x.device.type)  # meta is not
    return torch.autocast(x.device.type, enabled=False) if known else nullcontext()


class _Product(torch.autograd.Function):
    """x Wᵀ + b, which keeps neither x nor W for the gradients of x and b."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bias: torch.Tensor | None, layer: QuantizedLinear) -> torch.Tensor:
        ctx.layer, ctx.given, ctx.computed = layer, x.dtype, layer.compute_dtype or x.dtype
        if layer.compute_dtype is None and torch.is_autocast_enabled(x.device.type):
            ctx.computed = torch.get_autocast_dtype(x.device.type)
        added = None if bias is None else bias.to(ctx.computed)
        weight = layer.dequantize(ctx.computed)
        with _as_given(x):
            return torch.nn.functional.linear(x.to(ctx.computed), weight, added).to(ctx.given)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        of_x = of_bias = None
        gradient = gradient.to(ctx.computed)
        if ctx.needs_input_grad[0]:
            with _as_given(gradient):
                of_x = (gradient @ ctx.layer.dequantize(ctx.computed)).to(ctx.given)
        if ctx.needs_input_grad[1]:
            of_bias = gradient.sum_to_size(ctx.layer.out_features)
        return of_x, of_bias, None
