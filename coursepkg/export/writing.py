"""A quantized model written as a checkpoint of transformers, in the layout of another library."""

import copy
import json
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file

from coursepkg.export.known import INDEX, LAYOUTS
from coursepkg.export.layout import Layout, NotExportable, held, whole_numbers
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.quantized_model import GENERATION, distinct_tensors, quantized_layers, remove_old
from coursepkg.weight_formats import Affine


def save(
    model: Any,
    folder: Path | str,
    layout: str = "compressed-tensors",
    tokenizer: Any = None,
    max_shard_size: int | str = "5GB",
) -> Path:
    """Write a causal LM whose layers are quantized to whole numbers as others read it: config.json with its
    quantization_config, safetensors, and an index where there are several files.

    layout: one of LAYOUTS. "compressed-tensors" loads with transformers' from_pretrained, and the logits are the same, bit for bit;
    vLLM's sources read both it and "gptq", in 4 and 8 bits and where what it fuses (q, k and v; gate and up) is quantized alike. What does not fit there is said in the layouts' files. tokenizer: saved beside it.
    max_shard_size: of a file, in bytes or as "5GB". The model stays as it is; no more than one file's tensors are held besides it.
    Returns the folder, made where it is not there; a model in it is replaced when the new one is written whole.
    Raises NotExportable, before anything is written, where no layer is quantized, where the layout cannot hold a layer or hold
    layers that differ, and where what is read would not be what is here: parameters or scales that are not numbers of the
    model's dtype.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"there is no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    chosen = LAYOUTS[layout]
    layers = dict(quantized_layers(model))
    others = _others(model, layers)
    scale_dtype = _checked(model, layers, others, chosen)
    config = _config(model, layers, chosen)
    planned = {name: torch.empty_like(tensor, device="meta") for name, tensor in others.items()}
    for name, layer in layers.items():
        kind = Affine(replace(layer.kind.scheme, scale_dtype=scale_dtype))
        shape = (layer.out_features, layer.in_features)
        planned |= {f"{name}.{part}": one for part, one in chosen.empty(kind, shape).items()}
    _check_names(model, planned)
    split = split_torch_state_dict_into_shards(planned, max_shard_size=max_shard_size)

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".part-", dir=folder) as part:
        part = Path(part)
        _write_configs(model, config, part)
        for file, names in split.filename_to_tensors.items():
            tensors = _made(names, layers, others, chosen, scale_dtype)
            save_file(tensors, part / file, metadata={"format": "pt"})
        if split.is_sharded:
            index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
            (part / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        if tokenizer is not None:
            tokenizer.save_pretrained(part)
        _put_in_place(part, folder)
    return folder


def _others(model: Any, layers: dict[str, QuantizedLinear]) -> dict[str, torch.Tensor]:
    """The tensors of a model that do not hold quantized weights, but for those that transformers ties to others of them."""
    stored = {f"{name}.{part}" for name, layer in layers.items() for part in layer.names}
    tensors, aliases = distinct_tensors(model)
    for second, first in aliases.items():
        if second not in (getattr(model, "all_tied_weights_keys", None) or {}):
            tensors[second] = tensors[first]
    return {name: tensor.detach() for name, tensor in tensors.items() if name not in stored}


def _checked(
    model: Any, layers: dict[str, QuantizedLinear], others: dict[str, torch.Tensor], layout: Layout
) -> torch.dtype:
    """The dtype of the scales. Raises NotExportable where the layout cannot hold the model exactly."""
    if not layers:
        raise NotExportable(
            "no layer of this model is quantized to whole numbers that a layout holds (those of w8a8 and llm_int8 are not); "
            "call quantize_model, ptq.gptq or ptq.awq first"
        )
    scale_dtype = layout.scale_dtype(model.dtype)
    for name, layer in layers.items():
        if any(tensor.is_meta for tensor in layer.stored.values()):
            raise NotExportable(f"{name} has no values (it is on meta, or offloaded); load the model whole")
        try:
            whole_numbers(layer, scale_dtype)
            layout.check(layer)
        except ValueError as error:
            raise NotExportable(f"{name}: {error}") from error
    _check_against_new(model, others)
    kept = {*(model._keep_in_fp32_modules or ()), *(model._keep_in_fp32_modules_strict or ())}
    for name, tensor in others.items():
        if tensor.is_meta:
            raise NotExportable(f"{name} has no values (it is on meta, or offloaded); load the model whole")
        if tensor.is_floating_point() and not kept & set(name.split(".")) and not held(tensor, model.dtype):
            raise NotExportable(
                f"{name} is {tensor.dtype} in a model of {model.dtype}, to which it is rounded where it is read; convert the model"
            )
    return scale_dtype


def _check_against_new(model: Any, others: dict[str, torch.Tensor]) -> None:
    """Raises NotExportable where a model of the same config, as a reader makes it, has no such tensors, or computes the buffers that
    no checkpoint holds in another dtype."""
    from accelerate import init_empty_weights

    with init_empty_weights():
        new = type(model)(copy.deepcopy(model.config))
    saved, buffers = new.state_dict(), dict(new.named_buffers())
    for name in others:
        if name not in saved:
            raise NotExportable(
                f"{name} is no tensor of a {type(model).__name__}: layers of other kinds than QuantizedLinear have no place in the layout"
            )
    for name, one in model.named_buffers():
        if name not in saved and name in buffers and buffers[name].dtype != one.dtype:
            raise NotExportable(
                f"{name} is {one.dtype}, and {buffers[name].dtype} in a model that is read: model.to(dtype) rounds what no checkpoint "
                "holds; load the model with dtype= instead"
            )


def _config(model: Any, layers: dict[str, QuantizedLinear], layout: Layout) -> Any:
    """The model's config with what the layout adds. Raises NotExportable where its layers do not go together."""
    head = model.get_output_embeddings()
    linears = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, torch.nn.Linear)
    ]
    left = [name for name, module in linears if module is not head]
    heads = [name for name, module in linears if module is head]
    made = copy.deepcopy(model.config)
    made.dtype, made.architectures = model.dtype, [type(model).__name__]
    try:
        kinds = {name: layer.kind for name, layer in layers.items()}
        made.quantization_config = layout.config(kinds, left, heads)
    except ValueError as error:
        raise NotExportable(str(error)) from error
    return made


def _check_names(model: Any, planned: dict[str, torch.Tensor]) -> None:
    """Raises NotExportable where a checkpoint has other tensors than the model (experts apart that are one tensor here)."""
    from transformers.core_model_loading import revert_weight_conversion

    if changed := set(planned) - set(revert_weight_conversion(model, dict(planned))):
        raise NotExportable(
            f"{min(changed)} lies otherwise in checkpoints of {type(model).__name__} than in the model, as experts do that are "
            "stored apart and computed together; such models cannot be exported yet"
        )


def _made(
    names: list[str],
    layers: dict[str, QuantizedLinear],
    others: dict[str, torch.Tensor],
    layout: Layout,
    scale_dtype: torch.dtype,
) -> dict[str, torch.Tensor]:
    """The tensors of one file."""
    made = {name: others[name].contiguous() for name in names if name in others}
    rest = dict.fromkeys(name for name in names if name not in others)
    for layer in dict.fromkeys(name.rpartition(".")[0] for name in rest):
        packed = layout.pack(layers[layer], scale_dtype)
        made |= {f"{layer}.{part}": one for part, one in packed.items() if f"{layer}.{part}" in rest}
    places: set[int] = set()
    for name, tensor in made.items():
        if (place := tensor.data_ptr()) in places:
            made[name] = tensor.clone()  # what is shared is written once for each name
        places.add(place)
    return made


def _write_configs(model: Any, config: Any, folder: Path) -> None:
    config.save_pretrained(folder)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.to_json_file(folder / GENERATION)


def _put_in_place(part: Path, folder: Path) -> None:
    """Move all files to where they belong, and remove an older model's that they do not replace."""
    new = {path.relative_to(part) for path in part.rglob("*") if path.is_file()}
    for path in sorted(new, key=lambda path: (path.name == "config.json", path)):  # a reader begins there
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(part / path, folder / path)
    remove_old(folder, {str(path) for path in new})
