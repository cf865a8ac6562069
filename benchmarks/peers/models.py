"""The course LM quantized by us and by llmcompressor, with the same text: GPTQ, SmoothQuant and AWQ as whole-model pipelines.

What is compared is how far predictions come from the unrounded model's: the KL divergence of a token, with its 95 % interval.
"""

import argparse
import copy
import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from llmcompressor import oneshot
from llmcompressor.modifiers import Modifier
from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
from llmcompressor.pipelines.cache import IntermediatesCache

from coursepkg import courselm, evaluation, load_model, ptq, smoothquant
from coursepkg.affine import Scheme
from coursepkg.evaluation.perplexity import Piece
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.quantized_model import quantize_model
from coursepkg.weight_formats import Affine

Batches = list[torch.Tensor]
GROUP, TOKENS, TEXTS = 128, 16_384, 120
SYMMETRIC = Scheme(4, granularity=GROUP, full_range=True)
ASYMMETRIC = Scheme(4, "integer", granularity=GROUP)
ALPHAS = (0.5, 0.8)

# AWQ's cache pins memory, for which torch wants a GPU.
IntermediatesCache.pin_memory = lambda *_, **__: None


class Measured:
    """The course LM, text to calibrate with, and other text to compare on."""

    def __init__(self) -> None:
        self.model, tokenizer = load_model(dtype=torch.float32)
        self.batches: Batches = courselm.calibration(tokenizer, TOKENS)
        self.pieces: list[Piece] = evaluation.documents(tokenizer, courselm.exam().texts[:TEXTS])

    def kl(self, model: Any) -> list[float]:
        """In nats a token: the mean and its interval."""
        found = evaluation.divergence(model, self.model, self.pieces).nats
        return [float(f"{each:.4g}") for each in (found.value, found.low, found.high)]

    def ours(self, change: Callable[[Any], object]) -> Any:
        """A copy, changed by one of `ptq`'s functions."""
        made = copy.deepcopy(self.model)
        change(made)
        return made

    def theirs(self, *recipe: Modifier) -> Any:
        """A copy, changed by llmcompressor, decoder layer after decoder layer."""
        texts = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in self.batches]
        made = copy.deepcopy(self.model)
        data = torch.utils.data.DataLoader(texts, batch_size=None)
        oneshot(
            model=made,
            dataset=data,
            recipe=list(recipe),
            num_calibration_samples=len(texts),
            pipeline="sequential",
        )
        return made

    def plain(self, model: Any) -> Any:
        """The weights of a model of llmcompressor's, whose layers are wrapped, in layers that are not."""
        made, weights = copy.deepcopy(self.model), model.state_dict()
        made.load_state_dict({name: weights[name] for name in made.state_dict()})
        return made


def main() -> None:
    """Compare, print, write the rows to `--output`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    names = ("torch", "llmcompressor", "compressed-tensors", "transformers")
    measured, made = Measured(), {"versions": {name: version(name) for name in names}, "rows": []}
    for compared in (gptq, smoothed, awq):
        for row in compared(measured):
            made["rows"].append({"peer": "llmcompressor", **row})
            given.output.write_text(json.dumps(made), encoding="utf-8")
            print(row, flush=True)


def weights(scheme: Scheme) -> dict[str, Any]:
    """A scheme in llmcompressor's words, for all Linear layers but the head."""
    args = QuantizationArgs(num_bits=4, symmetric=scheme.is_symmetric, strategy="group", group_size=GROUP)
    return {
        "config_groups": {"all": QuantizationScheme(targets=["Linear"], weights=args)},
        "ignore": ["lm_head"],
    }


def gptq(measured: Measured) -> Iterator[dict]:
    """Ours with static groups, as theirs are. Within a decoder layer ours lets later layers read what the rounded earlier ones give; theirs gives all of
    them the inputs that the unrounded ones give."""
    rounded = measured.kl(measured.ours(lambda model: quantize_model(model, Affine(SYMMETRIC))))
    for act_order in (False, True):
        ours = measured.ours(
            lambda model, act_order=act_order: ptq.gptq(
                model, measured.batches, SYMMETRIC, act_order, static_groups=True
            )
        )
        theirs = measured.theirs(GPTQModifier(**weights(SYMMETRIC), actorder="static" if act_order else None))
        same = {
            name: same_codes(layer, theirs.get_submodule(name))
            for name, layer in ours.named_modules()
            if isinstance(layer, QuantizedLinear)
        }
        first = next(iter(same))  # the only ones whose inputs are the same
        yield {
            "what": "gptq of a model",
            "act_order": act_order,
            "kl": {"ours": measured.kl(ours), "theirs": measured.kl(theirs), "rounding": rounded},
            "same_codes": sum(same.values()) / len(same),
            "same_codes_first": same[first],
        }


def same_codes(ours: QuantizedLinear, theirs: torch.nn.Linear) -> float:
    """The share of weights that are less than half a step apart."""
    step = theirs.weight_scale.repeat_interleave(GROUP, 1)
    return ((ours.dequantize() - theirs.weight).abs() < step / 2).float().mean().item()


def smoothed(measured: Measured) -> Iterator[dict]:
    """s of every norm, and the model in W8A8 with both. Theirs has max X − min X in the place of max |X|, and twice max |W|: the same where the extremes of
    a feature are opposite and alpha is 0.5."""
    ranges = observed_ranges(measured)
    for alpha in ALPHAS:
        found: dict[str, torch.Tensor] = {}
        ours = measured.ours(
            lambda model, found=found, alpha=alpha: found.update(ptq.smooth(model, measured.batches, alpha))
        )
        theirs = measured.plain(measured.theirs(SmoothQuantModifier(smoothing_strength=alpha)))
        ratios, wrong = [], 0.0
        for name, s in found.items():
            norm, gain = theirs.get_submodule(name), measured.model.get_submodule(name).weight
            other = gain / norm.weight
            expected = 2 ** (2 * alpha - 1) * smoothquant.smoothing(
                ranges[name] / 2, readers(measured.model, name), alpha
            )
            wrong = max(wrong, (other / expected - 1).abs().max().item())
            ratios.append(other / s)
        ratio = torch.cat(ratios)
        for model in (ours, theirs):
            ptq.w8a8(model)
        rounded = measured.ours(ptq.w8a8)
        yield {
            "what": "smoothquant of a model",
            "alpha": alpha,
            "theirs_from_ours": wrong,
            "ratio": [
                float(f"{each:.4g}")
                for each in (ratio.median().item(), ratio.min().item(), ratio.max().item())
            ],
            "kl": {
                "ours": measured.kl(ours),
                "theirs": measured.kl(theirs),
                "not smoothed": measured.kl(rounded),
            },
        }


def readers(model: Any, norm: str) -> list[torch.Tensor]:
    """The weights of the Linear layers that read a norm of a Llama."""
    layer = model.get_submodule(norm.rpartition(".")[0])
    attention, mlp = layer.self_attn, layer.mlp
    read = (
        (attention.q_proj, attention.k_proj, attention.v_proj)
        if norm.endswith("input_layernorm")
        else (mlp.gate_proj, mlp.up_proj)
    )
    return [linear.weight for linear in read]


def observed_ranges(measured: Measured) -> dict[str, torch.Tensor]:
    """max X − min X of what each norm gives, by its name."""
    ends: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def look(name: str) -> Callable:
        def hook(module: torch.nn.Module, given: tuple, out: torch.Tensor) -> None:
            low, high = out.flatten(0, 1).aminmax(dim=0)
            before = ends.get(name, (low, high))
            ends[name] = torch.minimum(low, before[0]), torch.maximum(high, before[1])

        return hook

    hooks = [
        module.register_forward_hook(look(name))
        for name, module in measured.model.named_modules()
        if name.endswith("layernorm")
    ]
    with torch.no_grad():
        for ids in measured.batches:
            measured.model(input_ids=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return {name: high - low for name, (low, high) in ends.items()}


def awq(measured: Measured) -> Iterator[dict]:
    """Ours with clipping and without; theirs, which has none, with s from activations alone (the paper's) and from weights as well (its default)."""

    def ours(clip: bool) -> list[float]:
        return measured.kl(
            measured.ours(lambda model: ptq.awq(model, measured.batches, ASYMMETRIC, clip=clip))
        )

    def theirs(duo_scaling: bool) -> list[float]:
        awq = AWQModifier(duo_scaling=duo_scaling, n_grid=21)  # 0, 1/20, …, 1: ours, and 1
        return measured.kl(measured.theirs(awq, QuantizationModifier(**weights(ASYMMETRIC))))

    yield {
        "what": "awq of a model",
        "kl": {
            "ours": ours(clip=True),
            "ours, not clipped": ours(clip=False),
            "theirs": theirs(duo_scaling=False),
            "theirs, duo scaling": theirs(duo_scaling=True),
            "rounding": measured.kl(measured.ours(lambda model: quantize_model(model, Affine(ASYMMETRIC)))),
        },
    }


if __name__ == "__main__":
    main()
