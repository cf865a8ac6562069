"""Checkpoints of other libraries' layouts read into QuantizedLinear layers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from coursepkg import surgery
from coursepkg.export.known import CONFIG, INDEX, LAYOUTS, TENSORS
from coursepkg.export.layout import Layout, NotReadable
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.quantized_model import unfilled, unlike
from coursepkg.weight_formats import Affine

MALFORMED = (KeyError, TypeError, AttributeError, IndexError)


def load(folder: Path | str, device: torch.device | str = "cpu") -> Any:
    """Read a causal LM that was written in one of LAYOUTS, by `save` or by another library, in evaluation mode.

    Codes and scales come as they are stored, into QuantizedLinear layers, one layer after the other; what is not quantized has the
    dtype that config.json says. Symmetric codes come with full_range, for a file does not say whether the lowest was left out.
    Raises NotReadable where files are missing or unreadable, where config.json describes a layout that is not known here or one that
    groups of neighbours cannot hold (act-order), and where tensors are not, name for name and shape for shape, those of the configs.
    """
    folder = Path(folder)
    layout, config = _described(folder)
    tensors = _tensors(folder)
    try:
        return _filled(folder, layout, config, tensors, device)
    except MALFORMED as error:
        raise NotReadable(
            f"the quantization_config of {folder / CONFIG} cannot be read: {error!r}"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise NotReadable(f"what is in {folder} does not go together: {error}") from error


def _described(folder: Path) -> tuple[Layout, dict[str, Any]]:
    """The layout of a checkpoint, and its quantization_config."""
    if not (folder / CONFIG).is_file():
        raise NotReadable(f"{folder} has no {CONFIG}: there is no checkpoint of transformers")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("quantization_config")
        if config is None:
            raise NotReadable(f"{folder / CONFIG} has no quantization_config: load it with load_model")
        method, version = config.get("quant_method"), config.get("checkpoint_format")
    except (ValueError, AttributeError) as error:
        if isinstance(error, NotReadable):
            raise
        raise NotReadable(f"{folder / CONFIG} cannot be read: {error}") from error
    found = [each for each in LAYOUTS.values() if each.method == method]
    if not found:
        known = ", ".join(sorted({each.method for each in LAYOUTS.values()}))
        raise NotReadable(f"{folder} is quantized with {method}; what can be read here is {known}")
    return next(
        (each for name, each in LAYOUTS.items() if each in found and name == version), found[0]
    ), config


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, as they lie in its files."""
    files = [TENSORS]
    if (folder / INDEX).is_file():
        try:
            files = sorted(
                set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
            )
        except (ValueError, *MALFORMED) as error:
            raise NotReadable(f"{folder / INDEX} cannot be read: {error!r}") from error
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        if Path(file).name != file or not (folder / file).is_file():
            raise NotReadable(f"{folder} has no {file}")
        try:
            tensors |= load_file(folder / file)
        except SafetensorError as error:
            raise NotReadable(f"{folder / file} cannot be read: {error}") from error
    return tensors


def _filled(
    folder: Path,
    layout: Layout,
    config: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    device: torch.device | str,
) -> Any:
    """The model. Raises ValueError where the configs and the tensors do not go together."""
    model = unfilled(folder)
    linears = dict(surgery.linears(model))
    names = [name.removesuffix(f".{layout.mark}") for name in tensors if name.endswith(f".{layout.mark}")]
    if not names:
        raise ValueError(f"no layer has a {layout.mark}")
    if strange := [name for name in names if name not in linears]:
        raise ValueError(f"{strange[0]} has a {layout.mark}, but is no Linear layer below the output head")
    kinds = {}
    for name, kind in layout.kinds(config, names).items():
        scale = tensors.get(f"{name}.{layout.scale}")
        kinds[name] = kind if scale is None else Affine(replace(kind.scheme, scale_dtype=scale.dtype))
    expected, stored = _expected(model, layout, kinds, linears)
    _drop_empty_biases(tensors, expected, kinds)
    for pair in model.all_tied_weights_keys.items():
        if missing := [name for name in pair if name not in tensors]:
            expected.pop(missing[0], None)
    if wrong := unlike(expected, tensors, stored):
        raise ValueError("; ".join(wrong[:5]))

    def convert(name: str, layer: torch.nn.Linear) -> torch.nn.Module:
        if name not in kinds:
            return layer
        shape = tuple(layer.weight.shape)
        own = {part: tensors.pop(f"{name}.{part}") for part in layout.empty(kinds[name], shape)}
        if not own[layout.scale].isfinite().all():
            raise ValueError("its scales hold infinities or NaN")
        held = {part: one.to(device) for part, one in layout.unpack(own, kinds[name], shape).items()}
        return QuantizedLinear(held, shape, kinds[name], layer.bias)

    surgery.swap(model, convert)
    rest = {name: tensor.to(device, expected[name].dtype) for name, tensor in tensors.items()}
    model.load_state_dict(rest, strict=False, assign=True)
    model.tie_weights(missing_keys=set(model.state_dict()) - set(rest))
    del model.config.quantization_config
    return model.to(device).eval()


def _expected(
    model: Any, layout: Layout, kinds: dict[str, Affine], linears: dict[str, torch.nn.Linear]
) -> tuple[dict[str, torch.Tensor], set[str]]:
    """The tensors that a checkpoint must have, on meta, and the names of those that hold quantized weights."""
    expected = dict(model.state_dict())
    stored: dict[str, torch.Tensor] = {}
    for name, kind in kinds.items():
        del expected[f"{name}.weight"]
        try:
            made = layout.empty(kind, tuple(linears[name].weight.shape))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        stored |= {f"{name}.{part}": one for part, one in made.items()}
    return expected | stored, set(stored)


def _drop_empty_biases(
    tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], kinds: dict[str, Affine]
) -> None:
    """Older tools wrote biases of zeros for layers that have none."""
    for name in kinds:
        bias = tensors.get(f"{name}.bias")
        if bias is not None and f"{name}.bias" not in expected and not bias.any():
            del tensors[f"{name}.bias"]
