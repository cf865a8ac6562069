"""Quantizing a checkpoint while `from_pretrained` reads it, one weight after the other: a model that fits a device in 4 bits need not fit in 16.

    from_pretrained(folder, quantization_config=QuantizeOnLoad(Blocks()))

gives the same model as `quantize_model` after `from_pretrained`. It is a quantizer of transformers (its "custom quantization"), so sharded
checkpoints, renamed keys, dtypes and devices are as for any other.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers.quantizers import HfQuantizer
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING
from transformers.utils.quantization_config import QuantizationConfigMixin

from coursepkg import surgery
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.quantized_model import more_than_linear
from coursepkg.weight_formats import WeightFormat

_METHOD = "coursepkg"


class CannotQuantize(RuntimeError):
    """A layer of a checkpoint cannot be quantized while it is read; the message names it and says why."""


class QuantizeOnLoad(QuantizationConfigMixin):
    """kind: the format of all Linear layers but the output head.

    `from_pretrained` then raises CannotQuantize, with the layer's name, where `quantize_model` raises ValueError, where the checkpoint lacks a
    layer's weight or bias, where two layers share a weight, and where layers are offloaded to a disk.
    """

    def __init__(self, kind: WeightFormat) -> None:
        self.quant_method = _METHOD
        self.kind = kind

    def to_dict(self) -> dict[str, Any]:
        return {"quant_method": _METHOD, "kind": self.kind.described()}


class _Quantizer(HfQuantizer):
    """Lets each Linear layer of a model that has no weights yet wait for its own, to be swapped then."""

    quantization_config: QuantizeOnLoad

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> None:
        kind = self.quantization_config.kind
        tied = getattr(model, "all_tied_weights_keys", None) or {}

        def waiting(name: str, layer: torch.nn.Linear) -> torch.nn.Module:
            if reason := more_than_linear(model, name, layer):
                raise ValueError(reason)
            if f"{name}.weight" in {*tied, *tied.values()}:
                raise ValueError("its weight is shared; quantize_model, after loading, keeps that")

            def arrived(weight: torch.Tensor) -> None:
                if not getattr(weight, "_is_hf_initialized", False):
                    raise CannotQuantize(f"{name}: the checkpoint holds no weight for it")
                try:
                    stored = kind.quantize(weight.detach())
                except ValueError as error:
                    raise CannotQuantize(f"{name}: {error}") from error
                made = QuantizedLinear(stored, tuple(weight.shape), kind, model.get_submodule(name).bias)
                made._is_hf_initialized = True
                surgery.swap(model, lambda other, now: made if other == name else now, (_Waiting,))

            return _Waiting(layer, arrived)

        try:
            surgery.swap(model, waiting)
        except ValueError as error:
            raise CannotQuantize(str(error)) from error

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        """The model is one like those that quantize_model makes, which transformers knows nothing special of."""
        for name, module in model.named_modules():
            if isinstance(module, _Waiting):
                raise CannotQuantize(f"{name} is offloaded: its weight stays in 16 bits on a disk")
            bias = module.bias if isinstance(module, QuantizedLinear) else None
            if bias is not None and not getattr(bias, "_is_hf_initialized", False):
                raise CannotQuantize(f"{name}: the checkpoint holds no bias for it")
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


# As transformers' register_quantizer does, which refuses a second time: notebooks reload modules.
AUTO_QUANTIZATION_CONFIG_MAPPING[_METHOD] = QuantizeOnLoad
AUTO_QUANTIZER_MAPPING[_METHOD] = _Quantizer
