"""A quantized Linear computes with the weight that it stores, and survives what models go through."""

import copy
import io
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from coursepkg import quantized_model, surgery, weight_formats
from coursepkg.affine import Scheme
from coursepkg.codebooks import FP4, Codebook, normal_float
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.quantized_model import NotQuantized
from coursepkg.weight_formats import Affine, Blocks

KINDS = [
    Affine(Scheme(8)),
    Affine(Scheme(4, granularity=16, scale_dtype=torch.float16)),
    Affine(Scheme(3, "integer", 16)),
    Affine(Scheme(4, "real", "tensor", scale_dtype=torch.bfloat16)),
    Affine(Scheme(2, full_range=True, clipping="mse")),
    Blocks(),
    Blocks(FP4, 128),
    Blocks(double_quantized=True),
    Blocks(double_quantized=True, refined=True),
    Blocks(Codebook("NF3", normal_float(3)), 32),
]
ALL_KINDS = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def linear(bias: bool = True, inputs: int = 48, outputs: int = 40) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(inputs, outputs, bias=bias)


def tiny(
    config: type = LlamaConfig, dtype: torch.dtype = torch.float32, **changed: object
) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}
    return AutoModelForCausalLM.from_config(config(**sizes | changed), dtype=dtype).eval()


IDS = torch.arange(7)[None]


# One layer


@ALL_KINDS
@pytest.mark.parametrize("bias", [True, False])
def test_it_computes_with_the_weight_that_it_stores(kind, bias):
    layer = linear(bias)
    quantized = QuantizedLinear.of(layer, kind)
    x = torch.randn(2, 3, 48)
    expected = torch.nn.functional.linear(x, quantized.dequantize(), layer.bias)
    torch.testing.assert_close(quantized(x), expected)
    assert not torch.equal(quantized.dequantize(), layer.weight)


@ALL_KINDS
def test_it_stores_what_the_arithmetic_says(kind):
    """Rows of 48 and 40 rows: begun bytes and blocks are counted."""
    quantized = QuantizedLinear.of(linear(), kind)
    assert quantized.stored_bytes == kind.storage().stored_bytes(40, 48)
    assert sum(tensor.nbytes for tensor in quantized.state_dict().values()) == quantized.stored_bytes + 160


@ALL_KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_pass_to_inputs_and_bias_and_are_those_of_a_linear(kind, dtype):
    layer = linear().to(dtype)
    quantized = QuantizedLinear.of(layer, kind)
    plain = torch.nn.Linear(48, 40, dtype=dtype)
    plain.load_state_dict({"weight": quantized.dequantize(dtype), "bias": layer.bias.detach()})
    found = []
    for each in (quantized, plain):
        x = torch.linspace(-1, 1, 5 * 48, dtype=dtype).reshape(5, 48).requires_grad_()
        each(x).square().sum().backward()
        found.append((x.grad, each.bias.grad))
    torch.testing.assert_close(found[0], found[1])


def test_neither_the_input_nor_the_weight_is_kept_for_the_gradient():
    quantized, kept = QuantizedLinear.of(linear(bias=False), Blocks()), []
    x = torch.randn(5, 48, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda t: t):
        quantized(x).sum()
    assert kept == []


def test_a_product_under_autocast_is_in_its_dtype():
    quantized = QuantizedLinear.of(linear(), Blocks())
    x = torch.randn(5, 48, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = quantized(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert x.grad.dtype == torch.float32


@ALL_KINDS
def test_scales_keep_their_dtypes_when_the_model_changes_its_own(kind):
    quantized = QuantizedLinear.of(linear(), kind)
    before = {name: tensor.clone() for name, tensor in quantized.stored.items()}
    quantized.half().bfloat16()
    assert quantized.bias.dtype == torch.bfloat16
    for name, tensor in quantized.stored.items():
        assert tensor.dtype == before[name].dtype and torch.equal(tensor, before[name])
    assert all(tensor.is_meta for tensor in quantized.to("meta").stored.values())


@ALL_KINDS
def test_it_survives_copies_pickles_and_state_dicts(kind, tmp_path):
    layer = linear()
    quantized, x = QuantizedLinear.of(layer, kind), torch.randn(3, 48)
    expected = quantized(x)
    stream = io.BytesIO()
    torch.save(quantized, stream)
    stream.seek(0)
    save_file(quantized.state_dict(), tmp_path / "layer.safetensors")
    filled = QuantizedLinear.empty(layer, kind)
    filled.load_state_dict(load_file(tmp_path / "layer.safetensors"))
    for copied in (
        copy.deepcopy(quantized),
        pickle.loads(pickle.dumps(quantized)),
        torch.load(stream, weights_only=False),
        filled,
    ):
        assert torch.equal(copied(x), expected)


def test_it_says_what_it_is():
    text = repr(QuantizedLinear.of(linear(), Blocks()))
    assert (
        text == "QuantizedLinear(in_features=48, out_features=40, bias=True, NF4, block of 64, 1,080 bytes)"
    )


# Formats


@ALL_KINDS
def test_a_format_can_be_written_down(kind):
    assert weight_formats.weight_format(json.loads(json.dumps(kind.described()))) == kind


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"kind": "gguf"}, "no kind of weight format 'gguf'; there are affine and blocks"),
        ({"kind": "affine"}, "not a description of a weight format"),
        ({"kind": "affine", "scale_dtype": "float17"}, "not a description"),
        ({"kind": "blocks", "codebook": {"name": "x"}}, "not a description"),
        ({"kind": "affine", "scale_dtype": "float32", "bits": 12}, "bits must be from 2 to 8, not 12"),
    ],
)
def test_a_description_that_is_none_is_refused(described, said):
    with pytest.raises(ValueError, match=said):
        weight_formats.weight_format(described)


@pytest.mark.parametrize("options", [{"block_size": 0}, {"refined": True}])
def test_blocks_that_do_not_hold_together_are_refused(options):
    with pytest.raises(ValueError, match="block_size must be|set double_quantized, too"):
        Blocks(**options)


# A model


def test_every_linear_but_the_head_is_swapped():
    model = tiny()
    names = quantized_model.quantize_model(model, Blocks())
    assert len(names) == 14 and all(isinstance(model.get_submodule(name), QuantizedLinear) for name in names)
    assert type(model.lm_head) is torch.nn.Linear and type(model.model.embed_tokens) is torch.nn.Embedding


def test_tied_embeddings_stay_tied():
    model = tiny(tie_word_embeddings=True)
    quantized_model.quantize_model(model, Blocks())
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_stored_bytes_fall_and_are_those_of_the_file(tmp_path):
    model = tiny()
    full = quantized_model.stored_bytes(model)
    linears = [layer.weight for _, layer in surgery.linears(model)]
    kind = Blocks(double_quantized=True)
    expected = full - sum(weight.nbytes - kind.storage().stored_bytes(*weight.shape) for weight in linears)
    quantized_model.quantize_model(model, kind)
    assert quantized_model.stored_bytes(model) == expected < full
    quantized_model.save(model, tmp_path)
    size = (tmp_path / quantized_model.TENSORS).stat().st_size
    header = int.from_bytes((tmp_path / quantized_model.TENSORS).read_bytes()[:8], "little")
    assert size == expected + header + 8


@ALL_KINDS
@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_comes_back_bit_for_bit(kind, tied, tmp_path):
    model = tiny(tie_word_embeddings=tied)
    quantized_model.quantize_model(model, kind)
    loaded = quantized_model.load(quantized_model.save(model, tmp_path))
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    assert not loaded.training and quantized_model.stored_bytes(loaded) == quantized_model.stored_bytes(model)


def test_biases_and_layers_that_stay_come_back(tmp_path):
    """Qwen2 has biases; here the second layer stays as it was, and the first has two formats."""

    def choose(name: str, layer: torch.nn.Linear) -> weight_formats.WeightFormat | None:
        if ".1." in name:
            return None
        return Affine(Scheme(8)) if "mlp" in name else Blocks()

    model = tiny(Qwen2Config, torch.bfloat16)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.bias += 1
    quantized_model.quantize_model(model, choose)
    kinds = [m.kind.name for m in model.modules() if isinstance(m, QuantizedLinear)]
    assert kinds == ["NF4, block of 64"] * 4 + ["int8, per channel"] * 3
    loaded = quantized_model.load(quantized_model.save(model, tmp_path))
    assert torch.equal(loaded(IDS).logits, model(IDS).logits) and loaded.dtype == torch.bfloat16


def test_layers_that_share_a_weight_share_what_is_stored(tmp_path):
    model = tiny()
    first, second = (layer.mlp for layer in model.model.layers)
    second.up_proj.weight = first.up_proj.weight
    quantized_model.quantize_model(model, Blocks())
    assert second.up_proj.codes.data_ptr() == first.up_proj.codes.data_ptr()


def test_a_weight_that_cannot_be_quantized_leaves_the_model_as_it_was():
    model = tiny()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"model.layers.1.mlp.up_proj: .* NaN"):
        quantized_model.quantize_model(model, Blocks())
    assert not any(isinstance(module, QuantizedLinear) for module in model.modules())
    with pytest.raises(NotQuantized, match="no layer of this model is quantized"):
        quantized_model.save(model, "nowhere")


def test_gradients_flow_through_a_quantized_model():
    model = tiny()
    quantized_model.quantize_model(model, Blocks())
    model(IDS, labels=IDS).loss.backward()
    assert model.model.embed_tokens.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda folder: (folder / quantized_model.FORMATS).unlink(),
            "has no quantized.json: no model was saved",
        ),
        (lambda folder: (folder / quantized_model.FORMATS).write_text("{"), "quantized.json cannot be read"),
        (lambda folder: (folder / quantized_model.FORMATS).write_text("[]"), "quantized.json cannot be read"),
        (
            lambda folder: (folder / quantized_model.FORMATS).write_text("{}"),
            "has no .*|not those of its config",
        ),
        (
            lambda folder: save_file({"x": torch.ones(1)}, folder / quantized_model.TENSORS),
            "quantized.safetensors has no model.embed_tokens.weight",
        ),
    ],
)
def test_a_folder_that_holds_no_whole_model_is_refused(spoil, said, tmp_path):
    model = tiny()
    quantized_model.quantize_model(model, Blocks())
    quantized_model.save(model, tmp_path)
    spoil(tmp_path)
    with pytest.raises(NotQuantized, match=said):
        quantized_model.load(tmp_path)
