"""Post-training quantization of whole models: what `gptq`, `awq`, `smoothquant`, `w8a8` and `llm_int8` do to one layer, done to all.

Every function changes a causal LM of transformers in place; load it in float32 where it fits. What looks at text does so one decoder
layer at a time (`calibration.layer_by_layer`), whose `device` and `before` are passed on. `batches` are token ids, int64
(sequences, length), without padding.

    ptq.gptq(model, batches, Scheme(4, granularity=64))
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import torch

from coursepkg import affine, smoothquant, surgery
from coursepkg import awq as awq_of
from coursepkg import gptq as gptq_of
from coursepkg.affine import Granularity, Quantized, Scheme
from coursepkg.awq import Search
from coursepkg.calibration import Group, layer_by_layer, observe
from coursepkg.int8_linear import LlmInt8Linear, W8A8Linear
from coursepkg.llm_int8 import THRESHOLD
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.quantized_model import more_than_linear, quantize_model
from coursepkg.surgery import Source
from coursepkg.w8a8 import whole_rows
from coursepkg.weight_formats import Affine

Batches = Sequence[torch.Tensor]


def gptq(
    model: Any,
    batches: Batches,
    scheme: Scheme,
    act_order: bool = False,
    static_groups: bool = False,
    damping: float = 0.01,
    **steps: Any,
) -> list[str]:
    """Quantize all Linear layers in decoder layers with GPTQ, each with the inputs that the quantized ones before it give.

    scheme, act_order, static_groups, damping: as in `gptq.quantize`. steps: `device`, `before`. Returns the names. Raises ValueError, with the model as
    it was, for a layer that is more than a torch.nn.Linear, that the scheme does not fit or whose weight is not finite; and with the layer's name as
    `gptq.quantize` does, with the layers before it quantized. Warns of other large weights, which stay as they are.
    """
    _check(model, scheme)
    done = []
    with closing(layer_by_layer(model, batches, **steps)) as layers:
        for layer in layers:
            for group in layer.groups():
                for name, made in _gptq(group, scheme, act_order, static_groups, damping):
                    layer.put(name, _stored(made, group.linears[name]))
                    done.append(name)
    _say_what_stays(model)
    return done


def _stored(made: Quantized, linear: torch.nn.Linear) -> QuantizedLinear:
    kind = Affine(made.scheme)
    return QuantizedLinear(kind.store(made), tuple(linear.weight.shape), kind, linear.bias)


def _gptq(group: Group, scheme: Scheme, *options: Any) -> list[tuple[str, Quantized]]:
    """The layers of a group, quantized; all outputs at once, where each has scales of its own."""
    names, layers = list(group.linears), list(group.linears.values())
    together = [[layer] for layer in layers] if scheme.granularity == "tensor" else [layers]
    try:
        made = [
            _apart(
                gptq_of.quantize(
                    torch.cat([layer.weight.detach() for layer in each]), group.inputs.gram, scheme, *options
                ),
                each,
            )
            for each in together
        ]
    except ValueError as error:
        raise ValueError(f"{', '.join(names)}: {error}") from error
    return list(zip(names, [one for each in made for one in each], strict=True))


def _apart(made: Quantized, layers: list[torch.nn.Linear]) -> list[Quantized]:
    """The rows of each layer."""
    if len(layers) == 1:
        return [made]
    rows = [len(layer.weight) for layer in layers]
    zeros = [None] * len(rows) if made.zero_point is None else made.zero_point.split(rows)
    return [
        Quantized(codes, scale, zero, made.scheme)
        for codes, scale, zero in zip(made.codes.split(rows), made.scale.split(rows), zeros, strict=True)
    ]


def awq(
    model: Any, batches: Batches, scheme: Scheme, grid: int = 20, clip: bool = True, **steps: Any
) -> dict[str, Search]:
    """Quantize all Linear layers in decoder layers with AWQ: `salience`, then rounding to the scheme. Returns and raises what that does,
    and warns as `gptq` does."""
    found = salience(model, batches, scheme, grid, clip, **steps)
    inside = _decoder_layers(model)
    quantize_model(model, lambda name, _: Affine(scheme) if name.startswith(inside) else None)
    _say_what_stays(model)
    return found


def salience(
    model: Any, batches: Batches, scheme: Scheme, grid: int = 20, clip: bool = True, **steps: Any
) -> dict[str, Search]:
    """AWQ's part before the rounding: fold the best scales into what comes before each group of Linear layers, and clip their weights.

    Nothing is rounded yet; with clip=False the model computes what it did. What comes after may be rounding to the scheme (`awq`) or GPTQ.
    Layers with nothing before them that can be scaled (`surgery.sources`) keep their scales; clipped are all, also q and k, which the
    authors' code leaves as they are. Returns the searches, by the names of the sources.
    steps: `device`, `before`. Raises ValueError, with the model as it was, for a layer that is more than a torch.nn.Linear, that the scheme does not fit or
    whose weight is not finite, for clipping with one scale for the whole weight, and where two layers share a weight.
    """
    _check(model, scheme)
    _check_none_shared(model)
    if clip and scheme.granularity == "tensor":
        raise ValueError(
            "clipping is for groups or channels; with one scale for the whole weight give clip=False"
        )
    found = {}
    with closing(layer_by_layer(model, batches, **steps)) as layers:
        for layer in layers:
            for source, group in _fed(layer.sources(), layer.observe()):
                found[source.name] = _fold(source, group, scheme, grid)
            if clip:
                _clip(layer.observe(), scheme, grid)
    return found


def _clip(groups: list[Group], scheme: Scheme, grid: int) -> None:
    for group in groups:
        for linear in group.linears.values():
            linear.weight.data.copy_(awq_of.clip(linear.weight, group.inputs.sample, scheme, grid))


def _fed(sources: list[Source], groups: list[Group]) -> Iterator[tuple[Source, Group]]:
    """The groups whose layers are all that read a source, each with the first such source: a second one (gate beside up, where there is
    no bend between) would be given scales for inputs that the first has changed."""
    left = {frozenset(group.linears): group for group in groups}
    for source in sources:
        group = left.pop(frozenset(name for name, _ in source.readers), None)
        if group is not None:
            yield source, group


def _fold(source: Source, group: Group, scheme: Scheme, grid: int) -> Search:
    """Search for a group's scales and fold them into its source. Inputs that come from one channel of it share theirs."""
    weights = [linear.weight for linear in group.linears.values()]
    seen, count = group.inputs.mean_abs, len(source.module.weight)
    place = source.channels.to(seen.device)
    shared = seen.new_zeros(count).index_add_(0, place, seen) / place.bincount(minlength=count).clamp(min=1)
    found = awq_of.search(weights, shared[place], group.inputs.sample, scheme, grid)
    source.scale(1 / found.scales.new_ones(count).index_copy_(0, place, found.scales))
    return found


def smooth(model: Any, batches: Batches, alpha: float = 0.5, **steps: Any) -> dict[str, torch.Tensor]:
    """SmoothQuant's part before the rounding: fold s into the norms that Linear layers read, and into these. The model computes what it did.

    alpha: as in `smoothquant.smoothing`. steps: `device`, `before`. Returns s for each norm, by name. Raises NotPreserved, with the name, for a
    norm whose gain is no plain factor, or that something else reads, too (the router of experts); then the layers before it are smoothed,
    and the model computes what it did. Raises ValueError as `smoothquant.smoothing` does, and, with the model as it was, for a layer that
    is more than a torch.nn.Linear or whose weight is not finite, and where two layers share a weight.
    """
    _check(model)
    _check_none_shared(model)
    found = {}
    with closing(layer_by_layer(model, batches, **steps)) as layers:
        for layer in layers:
            groups = layer.observe()
            for norm in layer.norms():
                weights = [linear.weight for _, linear in norm.readers]
                inputs = next(each.inputs for each in groups if norm.readers[0][0] in each.linears)
                found[norm.name] = smoothquant.smoothing(inputs.absmax, weights, alpha)
                norm.scale(1 / found[norm.name])
    return found


def w8a8(
    model: Any,
    weights: Granularity = "channel",
    activations: Granularity = "channel",
    batches: Batches | None = None,
) -> list[str]:
    """Let all Linear layers but the head multiply in 8 bits. The names that were swapped.

    weights, activations: "channel" (each output; each token) or "tensor". batches: text from which a static scale for each layer's
    activations is measured, which needs activations="tensor"; without it scales are those of the tokens that come. Raises ValueError as
    `W8A8Linear.of` does, for a layer that is more than a torch.nn.Linear, and for one that read nothing but 0; then the model is as it was.
    """
    if batches is not None and activations != "tensor":
        raise ValueError('tokens are not known beforehand: static scales need activations="tensor"')
    for each in (weights, activations):
        whole_rows(each)
    _check(model)
    inputs = {} if batches is None else observe(model, batches, gram=False)

    def convert(name: str, layer: torch.nn.Linear) -> torch.nn.Module:
        absmax = inputs[name].absmax.max().item() if name in inputs else None
        if batches is not None and not absmax:
            raise ValueError("in the text it read nothing, or only zeros: no static scale can be measured")
        return W8A8Linear.of(layer, weights, activations, absmax)

    return surgery.swap(model, convert)


def llm_int8(model: Any, threshold: float | None = THRESHOLD) -> list[str]:
    """Let all Linear layers but the head compute as LLM.int8() does. The names that were swapped.

    threshold: as in `llm_int8.linear`. Raises ValueError for a layer that is more than a torch.nn.Linear, and where fp16 cannot hold a
    weight; then the model is as it was.
    """
    return surgery.swap(model, _plain(model, lambda name, layer: LlmInt8Linear.of(layer, threshold)))


def _plain(
    model: Any, convert: Callable[[str, torch.nn.Linear], torch.nn.Module]
) -> Callable[[str, torch.nn.Linear], torch.nn.Module]:
    """`convert`, which refuses what is more than a torch.nn.Linear."""

    def careful(name: str, layer: torch.nn.Linear) -> torch.nn.Module:
        if reason := more_than_linear(model, name, layer):
            raise ValueError(reason)
        return convert(name, layer)

    return careful


def _check(model: Any, scheme: Scheme | None = None) -> None:
    """Raises ValueError, with a layer's name, where one is more than a torch.nn.Linear, has a weight that is not finite, or a shape that
    the scheme, for what stands in a decoder layer, does not fit."""
    inside = _decoder_layers(model)

    def convert(name: str, layer: torch.nn.Linear) -> torch.nn.Module:
        if not layer.weight.is_meta and not layer.weight.isfinite().all():
            raise ValueError("its weight holds infinities or NaN")
        if scheme is not None and name.startswith(inside):
            affine.block_shape(tuple(layer.weight.shape), scheme.granularity)
        return layer

    surgery.swap(model, _plain(model, convert))


def _decoder_layers(model: Any) -> tuple[str, ...]:
    """How the names of what stands in a decoder layer begin."""
    return tuple(f"{name}." for name, _ in surgery.decoder_layers(model))


def _check_none_shared(model: Any) -> None:
    """Raises ValueError where two modules share a weight, one of them in a decoder layer: what is folded into one would change the other."""
    inside = _decoder_layers(model)
    first: dict[torch.nn.Parameter, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        other = first.setdefault(parameter, name)
        if other != name and (name.startswith(inside) or other.startswith(inside)):
            raise ValueError(
                f"{other} and {name} share a weight: give each its own before scales are folded in"
            )


def _say_what_stays(model: Any) -> None:
    """Warns, with names, of matrices that are neither embeddings nor a head and were not quantized: experts in one tensor, projections
    before and behind the decoder layers."""
    head = model.get_output_embeddings()
    kept = [each for each in model.modules() if isinstance(each, torch.nn.Embedding) or each is head]
    left = {weight for each in kept if each is not None for weight in each.parameters()}
    stays = [name for name, weight in model.named_parameters() if weight.ndim > 1 and weight not in left]
    if stays:
        more = f" and {len(stays) - 5} more" if len(stays) > 5 else ""
        warnings.warn(f"not quantized: {', '.join(stays[:5])}{more}", stacklevel=3)
