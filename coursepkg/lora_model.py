"""A whole model with LoRA adapters: put beside its layers, switched, merged, saved and loaded as the library peft has them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from coursepkg import surgery, token_rows
from coursepkg.files import replaced
from coursepkg.lora import LoraConfig, LoraLinear, check_name
from coursepkg.quantized_linear import QuantizedLinear

#: Layers that can have adapters, or have them already.
KINDS = (torch.nn.Linear, QuantizedLinear, LoraLinear)
#: The files of an adapter, and what peft puts before the names of its tensors.
CONFIG, TENSORS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
ROWS = "token_adapter.trainable_tokens_delta"
#: Settings of peft that change what an adapter computes, with the values that change nothing.
PLAIN = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "eva"),
    **dict.fromkeys(
        (
            "alora_invocation_tokens",
            "alpha_pattern",
            "arrow_config",
            "corda_config",
            "fan_in_fan_out",
            "kasa_config",
            "layer_replication",
            "lora_bias",
            "megatron_config",
            "modules_to_save",
            "monteclora_config",
            "rank_pattern",
            "target_parameters",
            "use_bdlora",
            "use_dora",
            "use_qalora",
            "velora_config",
        ),
        (None, False, [], {}),
    ),
}


class NotAnAdapter(ValueError):
    """The folder holds no LoRA adapter that fits the model; the message says what is wrong."""


def add(model: torch.nn.Module, config: LoraConfig, name: str = "default") -> list[str]:
    """Put an adapter beside the model's layers, in place, and freeze everything else. The names of the adapted layers.

    The new adapter becomes the active one. A's values are drawn from torch's generator, layer by layer. Raises ValueError where the name is taken,
    where a target is the name of no Linear layer, and as `surgery.linears` and `token_rows.put` do; nothing is changed then.
    """
    chosen = _chosen(model, config.targets)
    check_name(name, adapters(model))
    _refuse_merged(model)
    _put(model, config, chosen, name)
    return list(chosen)


def layers(model: torch.nn.Module) -> dict[str, LoraLinear]:
    """The layers that have adapters, with their names."""
    return {path: module for path, module in model.named_modules() if isinstance(module, LoraLinear)}


def adapters(model: torch.nn.Module) -> dict[str, LoraConfig]:
    """The adapters of a model, with what they are."""
    return {name: config for layer in layers(model).values() for name, config in layer.configs.items()}


def activate(model: torch.nn.Module, *names: str) -> None:
    """Switch to these adapters; without a name, to the base. Raises KeyError for one that is not there, RuntimeError while
    adapters are merged, and ValueError where two have rows for the same token; nothing is changed then."""
    known = adapters(model)
    for name in names:
        if name not in known:
            raise KeyError(f"no adapter {name!r}; there are {', '.join(known) or 'none'}")
    _refuse_merged(model)
    rows = token_rows.rows_of(model)
    if rows is not None:
        rows.activate(*names)
    for layer in layers(model).values():
        layer.activate(*(name for name in names if name in layer.configs))


@contextmanager
def disabled(model: torch.nn.Module) -> Iterator[None]:
    """The base alone, for as long as the block runs. Raises RuntimeError while adapters are merged."""
    _refuse_merged(model)
    active = {layer: layer.active for layer in _parts(model)}
    for layer in active:
        layer.activate()
    try:
        yield
    finally:
        for layer, names in active.items():
            layer.activate(*names)


def merge(model: torch.nn.Module) -> None:
    """Add the active adapters to the weights, in place.

    Raises as `LoraLinear.merge` does, and ValueError where two adapted layers share their weight; nothing is changed then.
    """
    first: dict[torch.Tensor, str] = {}
    for path, layer in layers(model).items():
        weight = getattr(layer.base_layer, "_parameters", {}).get("weight")
        if weight is not None and first.setdefault(weight, path) != path:
            raise ValueError(
                f"{first[weight]} and {path} share a weight: each would be changed by both adapters"
            )
    done = []
    try:
        for path, layer in layers(model).items():
            try:
                layer.merge()
            except (TypeError, ValueError) as error:
                raise type(error)(f"{path}: {error}") from error
            done.append(layer)
    except (TypeError, ValueError):
        for layer in done:
            layer.unmerge()
        raise
    rows = token_rows.rows_of(model)
    if rows is not None:
        rows.merge()


def unmerge(model: torch.nn.Module) -> None:
    """Undo `merge`, as near as `LoraLinear.unmerge` comes."""
    for layer in _parts(model):
        if layer.merged:
            layer.unmerge()


def unload(model: torch.nn.Module) -> None:
    """Take the adapters away and put the layers back in their places: with what was merged into them, and without the rest."""
    if layers(model):
        surgery.swap(model, lambda path, layer: layer.base_layer, (LoraLinear,))
        token_rows.take_away(model)


def trainable(model: torch.nn.Module) -> int:
    """Number of parameters that training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def without_gradient(model: torch.nn.Module) -> list[str]:
    """The active adapters, ours or peft's, to which a backward pass brought nothing: names of layers whose B has no gradient, or only zeros.

    A's gradients say nothing in the first step: they are 0 where B is.
    """
    return [
        path.partition(".lora_B.")[0]
        for path, parameter in model.named_parameters()
        if ".lora_B." in path
        and parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.any())
    ]


def tensors(model: torch.nn.Module, name: str = "default") -> dict[str, torch.Tensor]:
    """An adapter's tensors under the names that peft saves them with. Raises KeyError where there is none of that name."""
    if name not in adapters(model):
        raise KeyError(f"no adapter {name!r}; there are {', '.join(adapters(model)) or 'none'}")
    found = {
        f"{PREFIX}{path}.{part}.weight": getattr(layer, part)[name].weight.detach().contiguous()
        for path, layer in layers(model).items()
        if name in layer.configs
        for part in ("lora_A", "lora_B")
    }
    rows = token_rows.rows_of(model)
    if rows is not None and name in rows.rows:
        found[f"{PREFIX}{token_rows.path_of(model)}.{ROWS}"] = rows.rows[name].detach().contiguous()
    return found


def save(model: torch.nn.Module, folder: Path | str, name: str = "default") -> Path:
    """Write an adapter as peft does: adapter_config.json and adapter_model.safetensors. The folder, made where it is not there.

    Raises KeyError where there is none of that name.
    """
    found, config, folder = tensors(model, name), adapters(model)[name], Path(folder)
    written = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": getattr(getattr(model, "config", None), "_name_or_path", None) or None,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilized,
        "target_modules": _target_modules(model, name),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    if config.tokens:
        end = token_rows.path_of(model).rpartition(".")[2]
        written["trainable_token_indices"] = {end: list(config.tokens)}
    folder.mkdir(parents=True, exist_ok=True)
    replaced(folder / TENSORS, lambda path: save_file(found, path, metadata={"format": "pt"}))
    text = json.dumps(written, indent=2) + "\n"
    replaced(folder / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
    return folder


def load(model: torch.nn.Module, folder: Path | str, name: str = "default") -> list[str]:
    """Put a saved adapter, ours or peft's, beside the model's layers, and make it the active one, all else frozen. The names of the
    adapted layers.

    Raises NotAnAdapter where files are missing or unreadable, where the adapter is more than plain LoRA, and where its tensors do not fit the
    model; ValueError where the name is taken. Nothing is changed then.
    """
    folder = Path(folder)
    config, found = read_config(folder), _read_tensors(folder)
    known, wanted = dict(surgery.linears(model, KINDS)), {}
    rows = _read_rows(model, config, found)
    for key, tensor in found.items():
        path, _, rest = key.removeprefix(PREFIX).rpartition(".lora_")
        layer = known.get(path)
        if layer is None or rest not in ("A.weight", "B.weight"):
            raise NotAnAdapter(f"{folder / TENSORS} has {key}, for which the model has no Linear layer")
        shape = (config.rank, layer.in_features) if rest[0] == "A" else (layer.out_features, config.rank)
        if tensor.shape != shape:
            raise NotAnAdapter(f"{key} is of shape {tuple(tensor.shape)}, and the model needs {shape}")
        wanted.setdefault(path, {})[rest[0]] = tensor
    if lacking := [path for path, parts in wanted.items() if len(parts) < 2]:
        raise NotAnAdapter(f"{folder / TENSORS} has only one of the two matrices of {', '.join(lacking[:5])}")
    check_name(name, adapters(model))
    _refuse_merged(model)
    order = [path for path in known if path in wanted]
    with torch.random.fork_rng(devices=[]):  # what is drawn is overwritten at once
        _put(model, config, order, name)
    with torch.no_grad():
        if rows is not None:
            token_rows.rows_of(model).rows[name].copy_(rows)
        for path, parts in wanted.items():
            layer = model.get_submodule(path)
            layer.lora_A[name].weight.copy_(parts["A"])
            layer.lora_B[name].weight.copy_(parts["B"])
    return order


def read_into(model: torch.nn.Module, folder: Path | str, name: str = "default") -> None:
    """Give an adapter of the model the values of a saved one, in place. Raises NotAnAdapter where that is not one of the same shapes;
    nothing is changed then."""
    found, mine = _read_tensors(Path(folder)), tensors(model, name)
    if {key: tensor.shape for key, tensor in found.items()} != {
        key: tensor.shape for key, tensor in mine.items()
    }:
        raise NotAnAdapter(f"{folder} holds an adapter of other layers, or of another rank, than {name!r}")
    with torch.no_grad():
        for key, tensor in found.items():
            mine[key].copy_(tensor)


def read_config(folder: Path | str) -> LoraConfig:
    """What a saved adapter is. Raises NotAnAdapter where that cannot be read, or is more than plain LoRA."""
    path = Path(folder) / CONFIG
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        for key, plain in PLAIN.items():
            if key in read and read[key] not in plain:
                raise NotAnAdapter(f"{path}: {key} is {read[key]!r}, which is read by peft only")
        targets = read["target_modules"]
        targets = None if isinstance(targets, str) else tuple(sorted(targets))
        return LoraConfig(
            rank=int(read["r"]),
            alpha=read["lora_alpha"],
            dropout=float(read.get("lora_dropout", 0.0)),
            rank_stabilized=bool(read.get("use_rslora", False)),
            targets=targets,
            tokens=_tokens(read.get("trainable_token_indices")),
        )
    except FileNotFoundError as error:
        raise NotAnAdapter(f"{folder} has no {CONFIG}: no adapter was saved there") from error
    except NotAnAdapter:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAnAdapter(f"{path} cannot be read: {error!r}") from error


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    try:
        found = load_file(folder / TENSORS)
    except (OSError, SafetensorError) as error:
        raise NotAnAdapter(f"{folder / TENSORS} cannot be read: {error}") from error
    if not found:
        raise NotAnAdapter(f"{folder / TENSORS} holds no tensor")
    return found


def _chosen(model: torch.nn.Module, targets: tuple[str, ...] | None) -> list[str]:
    known = [path for path, _ in surgery.linears(model, KINDS)]
    if targets is None:
        return known
    for target in targets:
        if not any(_is(path, target) for path in known):
            ends = ", ".join(dict.fromkeys(path.rpartition(".")[2] for path in known))
            raise ValueError(f"no Linear layer is called {target!r}; there are {ends}")
    return [path for path in known if any(_is(path, target) for target in targets)]


def _is(path: str, target: str) -> bool:
    return path == target or path.endswith(f".{target}")


def _put(model: torch.nn.Module, config: LoraConfig, paths: list[str], name: str) -> None:
    if config.tokens:
        token_rows.put(model, name, config.tokens)
    model.requires_grad_(False)

    def wrapped(path: str, layer: torch.nn.Module) -> torch.nn.Module:
        return layer if path not in paths or isinstance(layer, LoraLinear) else LoraLinear(layer)

    surgery.swap(model, wrapped, KINDS)
    for path in paths:
        layer = model.get_submodule(path)
        layer.add(name, config)
        layer.train(layer.training)
    activate(model, name)


def _tokens(read: list[int] | dict[str, list[int]] | None) -> tuple[int, ...]:
    """The tokens that peft's trainable_token_indices names: a list, or one under the embedding's name."""
    if isinstance(read, dict):
        if len(read) > 1:
            raise ValueError(
                f"trainable_token_indices names {', '.join(read)}; only the embedding can have rows"
            )
        return tuple(next(iter(read.values()), ()))
    return tuple(read or ())


def _read_rows(
    model: torch.nn.Module, config: LoraConfig, found: dict[str, torch.Tensor]
) -> torch.Tensor | None:
    """Take the embedding's rows out of an adapter's tensors. Raises NotAnAdapter where they do not fit the config and the model."""
    if not config.tokens:
        return None
    key = f"{PREFIX}{token_rows.path_of(model)}.{ROWS}"
    rows, weight = found.pop(key, None), model.get_input_embeddings().weight
    if rows is None or rows.shape != (len(config.tokens), weight.shape[1]):
        raise NotAnAdapter(f"{key} should be a tensor of shape {(len(config.tokens), weight.shape[1])}")
    if max(config.tokens) >= len(weight) or min(config.tokens) < 0:
        raise NotAnAdapter(
            f"it has rows for tokens up to {max(config.tokens)}, and the model has {len(weight)}"
        )
    return rows


def _parts(model: torch.nn.Module) -> list[LoraLinear | token_rows.TokenRows]:
    """Everything of a model that has adapters."""
    rows = token_rows.rows_of(model)
    return [*layers(model).values(), *([] if rows is None else [rows])]


def _target_modules(model: torch.nn.Module, name: str) -> list[str]:
    """Last parts of names where all layers that end so are adapted, else whole names: what peft looks for when it loads."""
    adapted = {path for path, layer in layers(model).items() if name in layer.configs}
    everything = [path for path, _ in model.named_modules()]
    found = []
    for path in sorted(adapted):
        end = path.rpartition(".")[2]
        found.append(end if all(other in adapted for other in everything if _is(other, end)) else path)
    return list(dict.fromkeys(found))


def _refuse_merged(model: torch.nn.Module) -> None:
    for layer in layers(model).values():
        if layer.merged:
            raise RuntimeError(f"{', '.join(layer.merged)} is merged into the weights; unmerge first")
