"""What a layout says: how others store the weights of Linear layers, and how they write down that they do."""

from typing import Any, Protocol

import torch

from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.weight_formats import Affine, Stored


class NotExportable(ValueError):
    """The model cannot be written in the layout, or would not be the same when it is read; nothing was written. The message
    names the layer."""


class NotReadable(ValueError):
    """The folder holds no checkpoint that QuantizedLinear layers can hold, or not all of one; the message says what is wrong."""


class Layout(Protocol):
    """One way to store the weight of a Linear layer (out_features, in_features) as tensors `layer.NAME`."""

    method: str  # quant_method in config.json
    mark: str  # the name of the tensor by which a layer is known to be quantized
    scale: str  # the name of its scales

    def check(self, layer: QuantizedLinear) -> None:
        """Raises ValueError where the layout cannot hold the layer; `whole_numbers` has been asked before."""

    def scale_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """That of the scales of a model of a dtype."""

    def empty(self, kind: Affine, shape: tuple[int, int]) -> Stored:
        """Tensors on meta with the names, shapes and dtypes of a layer's; the scales have the kind's scale_dtype."""

    def pack(self, layer: QuantizedLinear, scale_dtype: torch.dtype) -> Stored:
        """A layer's tensors."""

    def unpack(self, tensors: Stored, kind: Affine, shape: tuple[int, int]) -> Stored:
        """What a QuantizedLinear stores, from tensors like those of `empty`. Raises ValueError where they hold what it cannot."""

    def config(self, layers: dict[str, Affine], left: list[str], heads: list[str]) -> dict[str, Any]:
        """The quantization_config. left: Linear layers that are not quantized; heads: those of them that are output heads.
        Raises ValueError, with the layer's name, where the layers do not go together."""

    def kinds(self, config: dict[str, Any], names: list[str]) -> dict[str, Affine]:
        """The layers' formats, the scale_dtype aside, from a quantization_config. Raises ValueError, KeyError or TypeError where
        it describes none that is known here."""


def whole_numbers(layer: QuantizedLinear, dtype: torch.dtype) -> None:
    """Raises ValueError where a layer is not stored as whole numbers with a scale for each row or group that `dtype` holds."""
    if not isinstance(layer.kind, Affine):
        raise ValueError(
            f"{layer.kind.name} is no format of whole numbers; quantize with weight_formats.Affine"
        )
    scheme = layer.kind.scheme
    if scheme.zero_point == "real":
        raise ValueError('a real zero-point has no place in the layout; choose zero_point="integer" or None')
    if scheme.granularity == "tensor":
        raise ValueError('one scale for the tensor has no place in the layout; choose "channel" or a group')
    if not held(layer.scale, dtype):
        name = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"its scales ({layer.scale.dtype}) are not numbers of {name}, to which readers round them: quantize with "
            f"Scheme(scale_dtype=torch.{name}), or convert the model"
        )


def held(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether a dtype has all the values of a tensor."""
    if tensor.dtype == dtype:
        return True
    return torch.equal(tensor.to(dtype).to(tensor.dtype), tensor)
