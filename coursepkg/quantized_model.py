"""A whole model with quantized Linear layers: made, measured, saved, loaded."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from coursepkg import surgery
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.weight_formats import WeightFormat, weight_format

#: Beside config.json in the folder of a saved model.
TENSORS, FORMATS = "quantized.safetensors", "quantized.json"


class NotQuantized(ValueError):
    """The folder holds no model that `save` wrote, or not all of one; the message says what is missing."""


def quantize_model(
    model: torch.nn.Module,
    kind: WeightFormat | Callable[[str, torch.nn.Linear], WeightFormat | None],
) -> list[str]:
    """Swap the Linear layers of a transformers model for quantized ones, in place. The names that were swapped.

    Embeddings and head stay as they are, and so stay tied. kind: a format for all layers, or a function that gives one for
    a name and a layer, or None for a layer that is to stay. Raises ValueError, with the layer's name, where a weight cannot be quantized;
    then the model is as it was.
    """
    shared: dict[int, QuantizedLinear] = {}

    def convert(name: str, layer: torch.nn.Linear) -> torch.nn.Module:
        chosen = kind(name, layer) if callable(kind) else kind
        if chosen is None:
            return layer
        first = shared.get(id(layer.weight))
        if first is None or first.kind != chosen:
            shared[id(layer.weight)] = first = QuantizedLinear.of(layer, chosen)
            return first
        return QuantizedLinear(first.stored, tuple(layer.weight.shape), chosen, layer.bias)

    return surgery.swap(model, convert)


def stored_bytes(model: torch.nn.Module) -> int:
    """Bytes of all parameters and stored buffers of a model, tied ones once: what its file takes."""
    return sum(tensor.nbytes for tensor in _tensors(model).values())


def save(model: Any, folder: Path | str) -> Path:
    """Write a quantized transformers model: its config, its tensors (safetensors), and the formats of its layers.

    folder: made where it is not there. A model in it is replaced, file by file. Returns the folder. Raises NotQuantized
    where no layer is quantized.
    """
    kinds = {
        name: module.kind for name, module in model.named_modules() if isinstance(module, QuantizedLinear)
    }
    if not kinds:
        raise NotQuantized(
            "no layer of this model is quantized; call quantize_model first, or model.save_pretrained"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in _tensors(model).items()}
    _replaced(folder / TENSORS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    text = json.dumps({name: kind.described() for name, kind in kinds.items()}, indent=1)
    _replaced(folder / FORMATS, lambda path: path.write_text(text + "\n", encoding="utf-8"))
    return folder


def load(folder: Path | str, device: torch.device | str = "cpu") -> Any:
    """Read a model that `save` wrote, in evaluation mode. No full weight is ever made. Raises NotQuantized."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = Path(folder)
    if missing := [name for name in ("config.json", TENSORS, FORMATS) if not (folder / name).is_file()]:
        raise NotQuantized(
            f"{folder} has no {', '.join(missing)}: no model was saved there by quantized_model.save"
        )
    try:
        described = json.loads((folder / FORMATS).read_text(encoding="utf-8"))
        kinds = {name: weight_format(each) for name, each in described.items()}
    except (ValueError, AttributeError) as error:
        raise NotQuantized(f"{folder / FORMATS} cannot be read: {error}") from error
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    try:
        surgery.swap(
            model,
            lambda name, layer: QuantizedLinear.empty(layer, kinds[name], "meta") if name in kinds else layer,
        )
        model.load_state_dict(load_file(folder / TENSORS, device=str(device)), strict=False, assign=True)
    except (RuntimeError, ValueError) as error:
        raise NotQuantized(f"the tensors in {folder} are not those of its config: {error}") from error
    model.tie_weights()
    if empty := [name for name, tensor in _tensors(model).items() if tensor.is_meta]:
        raise NotQuantized(f"{folder / TENSORS} has no {', '.join(empty[:5])}")
    return model.to(device).eval()


def _tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state dict, without second names of the same tensor."""
    seen: set[tuple] = set()
    found = {}
    for name, tensor in model.state_dict().items():
        place = (tensor.device, tensor.data_ptr() or name, tensor.shape, tensor.dtype)
        if place not in seen:
            seen.add(place)
            found[name] = tensor
    return found


def _replaced(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole, or leave what was there."""
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)
