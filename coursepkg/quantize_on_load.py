"""Quantizing a checkpoint while `from_pretrained` reads it, one weight after the other: a model that fits a device in 4 bits need not fit in 16.

    from_pretrained(folder, quantization_config=QuantizeOnLoad(Blocks()))

gives the same model as `quantize_model` after `from_pretrained`. It is a quantizer of transformers (its "custom quantization"), so sharded
checkpoints, renamed keys, dtypes and devices are as for any other.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from coursepkg import surgery
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.quantized_model import more_than_linear
from coursepkg.weight_formats import WeightFormat

_METHOD = "coursepkg"


@register_quantization_config(_METHOD)
class QuantizeOnLoad(QuantizationConfigMixin):
    """kind: the format of all Linear layers but the output head.

    `from_pretrained` then raises ValueError, with the layer's name, as `quantize_model` does, and where the checkpoint lacks a weight or two
    layers share one.
    """

    def __init__(self, kind: WeightFormat) -> None:
        self.quant_method = _METHOD
        self.kind = kind

    def to_dict(self) -> dict[str, Any]:
        return {"quant_method": _METHOD, "kind": self.kind.described()}


@register_quantizer(_METHOD)
class _Quantizer(HfQuantizer):
    """Lets each Linear layer of a model that has no weights yet wait for its own, to be swapped then."""

    quantization_config: QuantizeOnLoad

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> None:
        kind = self.quantization_config.kind
        tied = getattr(model, "all_tied_weights_keys", None) or {}

        def waiting(name: str, layer: torch.nn.Linear) -> torch.nn.Module:
            if reason := more_than_linear(model, name, layer):
                raise ValueError(reason)
            if {f"{name}.weight"} & {*tied, *tied.values()}:
                raise ValueError("its weight is shared; quantize_model, after loading, keeps that")

            def arrived(weight: torch.Tensor) -> None:
                if not getattr(weight, "_is_hf_initialized", False):
                    raise ValueError(f"{name}: the checkpoint holds no weight for it")
                try:
                    stored = kind.quantize(weight.detach())
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
                made = QuantizedLinear(stored, tuple(weight.shape), kind, model.get_submodule(name).bias)
                made._is_hf_initialized = True
                surgery.swap(model, lambda other, now: made if other == name else now, (_Waiting,))

            return _Waiting(layer, arrived)

        surgery.swap(model, waiting)

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        """The model is one like those that quantize_model makes, which transformers knows nothing special of."""
        self.remove_quantization_config(model)
        for module in model.modules():
            vars(getattr(module, "config", self)).pop("_is_quantized", None)
        return model

    def param_element_size(self, model: Any, param_name: str, param: torch.Tensor) -> float:
        if isinstance(model.get_submodule(param_name.rpartition(".")[0]), _Waiting):
            return self.quantization_config.kind.storage().bits / 8
        return param.element_size()

    def is_serializable(self) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


class _Waiting(torch.nn.Linear):
    """A Linear layer on meta; `arrived` is called with the weight that is set in its place."""

    def __init__(self, layer: torch.nn.Linear, arrived: Callable[[torch.Tensor], None]) -> None:
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.arrived = arrived
        self.weight, self.bias = layer.weight, layer.bias
        self.train(layer.training)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight" and value.device.type != "meta":
            self.arrived(value)
        else:
            super().__setattr__(name, value)
