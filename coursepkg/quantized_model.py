"""A whole model with quantized Linear layers: made, measured, saved, loaded."""

import json
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from coursepkg import surgery
from coursepkg.files import replaced
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.weight_formats import WeightFormat, weight_format

#: Beside config.json in the folder of a saved model. The second one holds the layers' formats, and second names of tensors.
TENSORS, FORMATS, GENERATION = "quantized.safetensors", "quantized.json", "generation_config.json"
#: What a model, written here or as a checkpoint of transformers, may have left in a folder besides its config.json.
OLD = re.compile(
    r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?|quantized\.(safetensors|json)|generation_config\.json|quant(ize)?_config\.json"
)


class NotQuantized(ValueError):
    """The folder holds no model that `save` wrote, or not all of one; the message says what is wrong."""


def quantize_model(
    model: torch.nn.Module,
    kind: WeightFormat | Callable[[str, torch.nn.Linear], WeightFormat | None],
) -> list[str]:
    """Swap the Linear layers of a transformers model for quantized ones, in place. The names that were swapped.

    Embeddings and head stay as they are, and so stay tied. kind: a format for all layers, or a function that gives one for
    a name and a layer, or None for a layer that is to stay. Layers that share their weight share what is stored, until the
    model moves to another device. Raises ValueError, with the layer's name, where a weight cannot be quantized, where a layer is
    more than a torch.nn.Linear (a subclass, one with hooks), and where the model keeps it in fp32 to read its weight (T5's `wo`);
    then the model is as it was.
    """
    shared: dict[tuple[int, WeightFormat], QuantizedLinear] = {}

    def convert(name: str, layer: torch.nn.Linear) -> torch.nn.Module:
        chosen = kind(name, layer) if callable(kind) else kind
        if chosen is None:
            return layer
        if reason := more_than_linear(model, name, layer):
            raise ValueError(f"{reason}; let `kind` give None for it")
        first = shared.get((id(layer.weight), chosen))
        if first is None:
            shared[id(layer.weight), chosen] = first = QuantizedLinear.of(layer, chosen)
            return first
        return QuantizedLinear(first.stored, tuple(layer.weight.shape), chosen, layer.bias)

    return surgery.swap(model, convert)


def more_than_linear(model: torch.nn.Module, name: str, layer: torch.nn.Linear) -> str | None:
    """Why another layer cannot stand in this one's place, or None."""
    if type(layer) is not torch.nn.Linear:
        return f"a {type(layer).__name__} may compute something else than a torch.nn.Linear, or have its weight read by others"
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if "forward" in vars(layer) or any(getattr(layer, each) for each in hooks):
        return "it has hooks, or a forward of its own, which would be lost"
    for part in getattr(model, "_keep_in_fp32_modules", None) or ():
        if f".{part}." in f".{name}.":
            return f"{type(model).__name__} keeps {part} in fp32, and may read its weight"
    return None


def stored_bytes(model: torch.nn.Module) -> int:
    """Bytes of all parameters and stored buffers of a model, tied ones once: what its file takes."""
    return sum(tensor.nbytes for tensor in distinct_tensors(model)[0].values())


def save(model: Any, folder: Path | str) -> Path:
    """Write a quantized transformers model: its configs, its tensors (safetensors), and the formats of its layers.

    folder: made where it is not there. A model in it, also one that was exported, is replaced, file by file. Returns the folder.
    Raises NotQuantized where no layer is quantized.
    """
    formats = {name: module.kind.described() for name, module in quantized_layers(model)}
    if not formats:
        raise NotQuantized(
            "no layer of this model is quantized; call quantize_model first, or model.save_pretrained"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    new = {TENSORS, FORMATS}
    if getattr(model, "generation_config", None) is not None:
        new.add(GENERATION)
        replaced(folder / GENERATION, model.generation_config.to_json_file)
    tensors, aliases = distinct_tensors(model)
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    replaced(folder / TENSORS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    text = json.dumps({"layers": formats, "aliases": aliases}, indent=1)
    replaced(folder / FORMATS, lambda path: path.write_text(text + "\n", encoding="utf-8"))
    remove_old(folder, new)
    return folder


def remove_old(folder: Path, new: set[str]) -> None:
    """Remove the files of a model that was in a folder before, but for those with the names of new ones."""
    for path in folder.iterdir():
        if OLD.fullmatch(path.name) and path.name not in new:
            path.unlink()


def load(folder: Path | str, device: torch.device | str = "cpu") -> Any:
    """Read a causal language model that `save` wrote, in evaluation mode; what was shared is shared again.

    Layers are filled with what is stored; no quantized weight is computed in full. Raises NotQuantized where files are missing or
    unreadable, and where their tensors are not, name for name, those of the config and the formats.
    """
    folder = Path(folder)
    if missing := [name for name in ("config.json", TENSORS, FORMATS) if not (folder / name).is_file()]:
        raise NotQuantized(
            f"{folder} has no {', '.join(missing)}: no model was saved there by quantized_model.save"
        )
    try:
        described = json.loads((folder / FORMATS).read_text(encoding="utf-8"))
        kinds = {name: weight_format(each) for name, each in described["layers"].items()}
        aliases = {str(second): str(first) for second, first in described["aliases"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotQuantized(f"{folder / FORMATS} cannot be read: {error}") from error
    try:
        tensors = load_file(folder / TENSORS, device=str(device))
    except SafetensorError as error:
        raise NotQuantized(f"{folder / TENSORS} cannot be read: {error}") from error
    try:
        model = unfilled(folder)
        if hasattr(model.config, "quantization_config"):
            raise ValueError("its config is that of an exported model, which export.load reads")
        surgery.swap(
            model,
            lambda name, layer: QuantizedLinear.empty(layer, kinds[name], "meta") if name in kinds else layer,
        )
        if missing := sorted(set(aliases.values()) - set(tensors)):
            raise ValueError(f"there is no {', '.join(missing[:5])}")
        tensors |= {second: tensors[first] for second, first in aliases.items()}
        stored = {f"{name}.{each}" for name, module in quantized_layers(model) for each in module.names}
        if wrong := unlike(model.state_dict(), tensors, stored):
            raise ValueError("; ".join(wrong[:5]))
        model.load_state_dict(tensors, assign=True)
    except (RuntimeError, ValueError) as error:
        raise NotQuantized(f"what is in {folder} does not go together: {error}") from error
    for second, first in aliases.items():
        owner, _, attribute = second.rpartition(".")
        setattr(model.get_submodule(owner), attribute, operator.attrgetter(first)(model))
    return model.to(device).eval()


def unfilled(folder: Path) -> Any:
    """The model of the configs in a folder, its parameters on meta. Raises ValueError where they describe none."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    try:
        with init_empty_weights():
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        if (folder / GENERATION).is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
    except (OSError, KeyError) as error:
        raise ValueError(f"a config cannot be read: {error}") from error
    return model


def unlike(
    expected: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor], stored: set[str]
) -> list[str]:
    """What keeps tensors from being those expected: names, shapes, and the dtypes of whole numbers and of those `stored`."""
    found = [f"there is no {name}" for name in expected if name not in tensors]
    found += [f"{name} is not a tensor of the model" for name in tensors if name not in expected]
    for name, one in tensors.items():
        other = expected.get(name, one)
        if one.shape != other.shape:
            found.append(f"{name} is of shape {tuple(one.shape)}, not {tuple(other.shape)}")
        elif one.dtype != other.dtype and (name in stored or not one.is_floating_point()):
            found.append(f"{name} is {one.dtype}, not {other.dtype}")
    return found


def quantized_layers(model: torch.nn.Module) -> list[tuple[str, QuantizedLinear]]:
    """The quantized layers, under all their names."""
    modules = model.named_modules(remove_duplicate=False)
    return [(name, module) for name, module in modules if isinstance(module, QuantizedLinear)]


def distinct_tensors(model: torch.nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The state dict without second names of the same tensor, and for each of these the first name."""
    names: dict[tuple, str] = {}
    found, aliases = {}, {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        # Tensors on meta, and those without values, lie nowhere: there the same one is the same object.
        place = (
            tensor.device,
            tensor.data_ptr() or id(tensor),
            tensor.shape,
            tensor.stride(),
            tensor.dtype,
        )
        if place in names:
            aliases[name] = names[place]
        else:
            names[place], found[name] = name, tensor
    return found, aliases
