"""A quantized Linear computes with the weight that it stores, and survives what models go through."""

import copy
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    LlamaConfig,
    Qwen2Config,
    T5Config,
    T5ForConditionalGeneration,
)

from coursepkg import quantized_model, surgery, weight_formats
from coursepkg.affine import Scheme
from coursepkg.codebooks import FP4, NF4, Codebook, normal_float, uniform
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
    """40 rows of 48, which fill their bytes; the last block is begun. The bias has 160 bytes."""
    quantized = QuantizedLinear.of(linear(), kind)
    assert quantized.stored_bytes == kind.storage().stored_bytes(40, 48)
    assert sum(tensor.nbytes for tensor in quantized.state_dict().values()) == quantized.stored_bytes + 160


UNGROUPED = [
    *(
        Affine(Scheme(bits, zero, where))
        for bits in range(2, 9)
        for zero, where in ((None, "tensor"), ("integer", "channel"))
    ),
    *(Blocks(Codebook(f"uniform {bits}", uniform(bits)), 32, bits % 2 == 0) for bits in range(2, 9)),
]


@pytest.mark.parametrize("kind", UNGROUPED, ids=lambda kind: kind.name)
@pytest.mark.parametrize("shape", [(40, 47), (3, 5), (300, 7)])
def test_begun_bytes_are_counted_where_they_are_begun(kind, shape):
    """Rows that do not fill their bytes: whole numbers begin a byte with each row, blocks only one in all."""
    stored = kind.quantize(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert weight_formats.stored_bytes(stored) == kind.storage().stored_bytes(*shape)


@pytest.mark.parametrize("kind", KINDS + UNGROUPED, ids=lambda kind: kind.name)
@pytest.mark.parametrize("shape", [(40, 48), (3, 5), (1, 1), (300, 7), (129, 128), (0, 48), (7, 0)])
def test_empty_tensors_are_like_those_that_quantize_gives(kind, shape):
    try:
        expected = kind.quantize(torch.ones(shape))
    except ValueError as error:
        with pytest.raises(ValueError) as found:
            kind.empty(torch.Size(shape), "meta")
        assert str(found.value) == str(error)
        return
    for device in ("meta", "cpu"):
        made = kind.empty(torch.Size(shape), device)
        assert list(made) == list(expected)
        for name, tensor in expected.items():
            assert (made[name].shape, made[name].dtype) == (tensor.shape, tensor.dtype), name
            assert made[name].device.type == device


@ALL_KINDS
def test_a_layer_without_inputs_gives_its_bias(kind):
    layer = QuantizedLinear.empty(torch.nn.Linear(0, 8), kind)
    assert torch.equal(layer(torch.ones(3, 0)), layer.bias.expand(3, 8))


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


@pytest.mark.parametrize("shape", [(48,), (5, 48), (2, 3, 48), (0, 48)])
def test_gradients_of_inputs_of_any_shape(shape):
    layer = linear()
    quantized = QuantizedLinear.of(copy.deepcopy(layer), Blocks())
    layer.weight = torch.nn.Parameter(quantized.dequantize())
    found = []
    for each in (quantized, layer):
        x = torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape).requires_grad_()
        each(x).square().sum().backward()
        found.append((x.grad, each.bias.grad))
    torch.testing.assert_close(found[0], found[1])


def test_a_bias_in_another_dtype_is_added_in_that_of_the_input():
    quantized = QuantizedLinear.of(linear(), Blocks())
    x = torch.randn(5, 48, dtype=torch.bfloat16, requires_grad=True)
    y = quantized(x)
    expected = torch.nn.functional.linear(x, quantized.dequantize(torch.bfloat16), quantized.bias.bfloat16())
    assert y.dtype == torch.bfloat16 and torch.equal(y, expected)
    y.sum().backward()
    assert x.grad.dtype == torch.bfloat16 and quantized.bias.grad.dtype == torch.float32


def test_who_reads_its_weight_is_told_that_there_is_none():
    quantized = QuantizedLinear.of(linear(), Blocks())
    assert not hasattr(quantized, "weight")
    with pytest.raises(AttributeError, match="no weight to read: dequantize"):
        _ = quantized.weight


def test_neither_the_input_nor_the_weight_is_kept_for_the_gradient():
    quantized, kept = QuantizedLinear.of(linear(bias=False), Blocks()), []
    x = torch.randn(5, 48, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda t: t):
        quantized(x).sum()
    assert kept == []


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_in_16_bits_it_is_bitsandbytes_layer(half, autocast, own):
    """Computed in 16 bits, by autocast or by itself, and given in the input's dtype; values and gradients bit for bit."""
    if not autocast and not own:
        half = torch.float32
    import bitsandbytes

    layer = linear(inputs=64)
    theirs = bitsandbytes.nn.Linear4bit(
        64, 40, compute_dtype=half, compress_statistics=False, quant_type="nf4"
    )
    theirs.load_state_dict(layer.state_dict())
    ours = QuantizedLinear.of(layer, Blocks())
    ours.compute_dtype = half if own else None
    found = []
    for each in (theirs.to("cpu"), ours):
        x = torch.linspace(-1, 1, 5 * 64).reshape(5, 64).requires_grad_()
        with torch.autocast("cpu", half, enabled=autocast):
            y = each(x)
        y.square().sum().backward()
        found.append((y, x.grad))
    assert found[1][0].dtype == found[1][1].dtype == torch.float32
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("own", [torch.float32, torch.float16])
def test_its_own_dtype_comes_before_autocasts(own):
    layer = QuantizedLinear.of(linear(), Blocks())
    x = torch.linspace(-1, 1, 240).reshape(5, 48)
    layer.compute_dtype = own
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert torch.equal(found, layer(x))
    layer.compute_dtype = None
    assert (found - layer(x)).abs().max() <= 8 * torch.finfo(own).eps * found.abs().max()


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


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        (Scheme(8), "int8, per channel"),
        (Scheme(4, granularity=64, scale_dtype=torch.float16), "int4, group of 64"),
        (Scheme(4, "integer", "tensor"), "int4, per tensor, integer zero-point"),
        (Scheme(2, full_range=True, clipping="mse"), "int2, per channel, full range, clipped by mse"),
        (Scheme(3, "real", clipping="percentile"), "int3, per channel, real zero-point, clipped at 99.9 %"),
        (Scheme(3, clipping="percentile", percentile=99), "int3, per channel, clipped at 99 %"),
    ],
)
def test_a_name_says_what_is_not_the_default(scheme, name):
    assert Affine(scheme).name == name


# A model


def test_every_linear_but_the_head_is_swapped():
    model = tiny()
    names = quantized_model.quantize_model(model, Blocks())
    assert len(names) == 14 and all(isinstance(model.get_submodule(name), QuantizedLinear) for name in names)
    assert type(model.lm_head) is torch.nn.Linear and type(model.model.embed_tokens) is torch.nn.Embedding


def test_the_head_is_the_models_own_whatever_its_name():
    """BERT's is `cls.predictions.decoder`; a Linear before it is none."""
    model = tiny(BertConfig, is_decoder=True, num_hidden_layers=1)
    names = quantized_model.quantize_model(model, Blocks())
    assert len(names) == 7 and "cls.predictions.transform.dense" in names
    assert type(model.cls.predictions.decoder) is torch.nn.Linear


@pytest.mark.parametrize("training", [True, False])
def test_new_layers_are_in_the_mode_of_the_old_ones(training):
    model = tiny().train(training)
    quantized_model.quantize_model(model, Blocks())
    assert {module.training for module in model.modules()} == {training}


def test_only_the_layers_that_were_swapped_are_named():
    model = tiny()
    before = dict(model.named_modules())
    assert quantized_model.quantize_model(model, lambda name, layer: None) == []
    assert dict(model.named_modules()) == before
    first = "model.layers.0.mlp.up_proj"
    assert quantized_model.quantize_model(model, lambda name, _: Blocks() if name == first else None) == [
        first
    ]


def test_a_model_that_is_quantized_already_is_told_so():
    model = tiny()
    quantized_model.quantize_model(model, Blocks())
    with pytest.raises(
        ValueError, match="to quantize; its layers are Embedding, LlamaRMSNorm, QuantizedLinear$"
    ):
        quantized_model.quantize_model(model, Blocks())


def tiny_t5() -> torch.nn.Module:
    sizes = {"vocab_size": 96, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 1, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0)).eval()


def test_layers_that_a_model_keeps_in_fp32_are_refused_by_name():
    """T5 casts to the dtype of `wo.weight`."""
    model = tiny_t5()
    with pytest.raises(ValueError, match=r"encoder.block.0.layer.1.DenseReluDense.wo: .* keeps wo in fp32"):
        quantized_model.quantize_model(model, Blocks())
    assert not any(isinstance(module, QuantizedLinear) for module in model.modules())
    quantized_model.quantize_model(model, lambda name, _: None if name.endswith(".wo") else Blocks())
    assert model(input_ids=IDS, decoder_input_ids=IDS).logits.isfinite().all()


def with_hook(layer: torch.nn.Linear) -> torch.nn.Linear:
    layer.register_forward_hook(lambda *_: None)
    return layer


def with_forward(layer: torch.nn.Linear) -> torch.nn.Linear:
    layer.forward = layer.forward
    return layer


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (torch.nn.MultiheadAttention(32, 2), "0.out_proj: a NonDynamicallyQuantizableLinear may compute"),
        (with_hook(linear()), "0: it has hooks"),
        (with_forward(linear()), "0: it has hooks, or a forward of its own"),
    ],
)
def test_layers_that_are_more_than_a_linear_are_refused_by_name(module, said):
    model = torch.nn.Sequential(module, torch.nn.Linear(4, 4))
    with pytest.raises(ValueError, match=said):
        quantized_model.quantize_model(model, Blocks())
    assert type(model[1]) is torch.nn.Linear


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


def ups(model: torch.nn.Module) -> list[torch.nn.Module]:
    return [layer.mlp.up_proj for layer in model.model.layers]


@ALL_KINDS
def test_layers_that_share_a_weight_share_what_is_stored(kind, tmp_path):
    model, whole = tiny(), tiny()
    ups(model)[1].weight = ups(model)[0].weight
    for each in (model, whole):
        quantized_model.quantize_model(each, kind)
    loaded = quantized_model.load(quantized_model.save(model, tmp_path))
    for each in (model, loaded):
        first, second = ups(each)
        assert first is not second and all(second.stored[name] is first.stored[name] for name in first.names)
        assert quantized_model.stored_bytes(each) == quantized_model.stored_bytes(whole) - first.stored_bytes
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)


def test_parameters_that_are_shared_are_shared_again(tmp_path):
    model = tiny()
    model.model.norm.weight = model.model.layers[0].input_layernorm.weight
    quantized_model.quantize_model(model, Blocks())
    loaded = quantized_model.load(quantized_model.save(model, tmp_path))
    assert loaded.model.norm.weight is loaded.model.layers[0].input_layernorm.weight


def test_one_weight_in_two_formats_is_stored_in_both():
    model = tiny()
    ups(model)[1].weight = ups(model)[0].weight
    weight = ups(model)[0].weight.detach().clone()
    kinds = {"model.layers.0.mlp.up_proj": Blocks(), "model.layers.1.mlp.up_proj": Affine(Scheme(8))}
    quantized_model.quantize_model(model, lambda name, layer: kinds.get(name))
    for layer, kind in zip(ups(model), kinds.values(), strict=True):
        assert layer.kind == kind
        assert torch.equal(
            layer.dequantize(), kind.dequantize(kind.quantize(weight), weight.shape, weight.dtype)
        )


def test_a_layer_with_two_names_is_swapped_under_both(tmp_path):
    model = tiny()
    model.model.layers[1].mlp.up_proj = ups(model)[0]
    names = quantized_model.quantize_model(model, Blocks())
    assert len(names) == 13 and "model.layers.1.mlp.up_proj" not in names
    assert isinstance(ups(model)[0], QuantizedLinear) and ups(model)[1] is ups(model)[0]
    loaded = quantized_model.load(quantized_model.save(model, tmp_path))
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)
    assert quantized_model.stored_bytes(loaded) == quantized_model.stored_bytes(model)


def test_bytes_of_shared_tensors_count_once_on_meta_too():
    with torch.device("meta"):
        model = tiny(tie_word_embeddings=True)
    assert model.lm_head.weight.is_meta
    expected = quantized_model.stored_bytes(tiny(tie_word_embeddings=True))
    assert quantized_model.stored_bytes(model) == expected


def test_what_generates_comes_back(tmp_path):
    model = tiny()
    quantized_model.quantize_model(model, Blocks())
    model.generation_config.eos_token_id = 7
    model.generation_config.temperature = (
        0.5  # of no use without do_sample: transformers' own save refuses it
    )
    loaded = quantized_model.load(quantized_model.save(model, tmp_path))
    assert (loaded.generation_config.eos_token_id, loaded.generation_config.temperature) == (7, 0.5)
    model.generation_config = None
    quantized_model.save(model, tmp_path)
    assert quantized_model.load(tmp_path).generation_config.eos_token_id == model.config.eos_token_id == 2


def test_a_parameter_that_lies_transposed_is_saved(tmp_path):
    model = tiny()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().T.contiguous().T)
    quantized_model.quantize_model(model, Blocks())
    loaded = quantized_model.load(quantized_model.save(model, tmp_path))
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)


def test_a_save_that_fails_leaves_the_model_that_was_there(tmp_path, monkeypatch):
    model = tiny()
    quantized_model.quantize_model(model, Blocks())
    quantized_model.save(model, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def failing(tensors: dict, path: object, metadata: dict) -> None:
        path.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(quantized_model, "save_file", failing)
    with pytest.raises(OSError, match="no space left"):
        quantized_model.save(model, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nothing_is_quantized_when_a_model_is_loaded(tmp_path, monkeypatch):
    model = tiny()
    quantized_model.quantize_model(
        model, lambda name, _: Affine(Scheme(4, clipping="mse")) if "mlp" in name else Blocks()
    )
    quantized_model.save(model, tmp_path)
    for kind in (Affine, Blocks):
        monkeypatch.setattr(kind, "quantize", lambda *_: pytest.fail("quantized a weight"))
    assert torch.equal(quantized_model.load(tmp_path)(IDS).logits, model(IDS).logits)


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


ABSMAX = "model.layers.0.self_attn.q_proj.absmax"


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """What changes the tensors that lie in a folder."""

    def spoil(folder: Path) -> None:
        tensors = load_file(folder / quantized_model.TENSORS)
        change(tensors)
        save_file(tensors, folder / quantized_model.TENSORS)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda folder: (folder / quantized_model.FORMATS).unlink(),
            "has no quantized.json: no model was saved",
        ),
        (lambda folder: (folder / quantized_model.FORMATS).write_text("{"), "quantized.json cannot be read"),
        (lambda folder: (folder / quantized_model.FORMATS).write_text("[]"), "quantized.json cannot be read"),
        (lambda folder: (folder / quantized_model.FORMATS).write_text("{}"), "quantized.json cannot be read"),
        (
            lambda folder: (folder / quantized_model.FORMATS).write_text('{"layers": {}, "aliases": {}}'),
            "there is no model.layers.0.self_attn.q_proj.weight",
        ),
        (
            lambda folder: (folder / quantized_model.FORMATS).write_text(
                '{"layers": {}, "aliases": {"x": "y"}}'
            ),
            "there is no y",
        ),
        (lambda folder: (folder / "config.json").write_text("{"), "a config cannot be read"),
        (lambda folder: (folder / "generation_config.json").write_text("{"), "a config cannot be read"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "t5"}'), "does not go together"),
        (
            lambda folder: truncate(folder / quantized_model.TENSORS, -100),
            "quantized.safetensors cannot be read: ",
        ),
        (
            lambda folder: truncate(folder / quantized_model.TENSORS, 4),
            "quantized.safetensors cannot be read: ",
        ),
        (changed(lambda tensors: tensors.clear()), "there is no model.embed_tokens.weight"),
        (changed(lambda tensors: tensors.pop(ABSMAX)), f"there is no {ABSMAX}"),
        (changed(lambda tensors: tensors.update(x=torch.ones(1))), "x is not a tensor of the model"),
        (
            changed(lambda tensors: tensors.update({ABSMAX: tensors[ABSMAX].half()})),
            f"{ABSMAX} is torch.float16, not torch.float32",
        ),
        (
            changed(lambda tensors: tensors.update({ABSMAX: tensors[ABSMAX][1:]})),
            rf"{ABSMAX} is of shape \(15,\), not \(16,\)",
        ),
        (
            changed(lambda tensors: tensors.update({"lm_head.weight": torch.ones(96, 32, dtype=torch.int8)})),
            "lm_head.weight is torch.int8, not torch.float32",
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


def test_under_autocast_it_computes_what_a_linear_layer_of_the_weight_read_back_does():
    torch.manual_seed(0)
    layer = QuantizedLinear.of(torch.nn.Linear(64, 32), Blocks(NF4))
    plain = torch.nn.Linear(64, 32)
    with torch.no_grad():
        plain.weight.copy_(layer.dequantize())
        plain.bias.copy_(layer.bias)
    found = []
    for each in (layer, plain):
        x = torch.linspace(-1, 1, 192).reshape(3, 64).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            out = each(x)
        out.float().square().sum().backward()
        found.append((out, x.grad))
    assert found[0][0].dtype == found[0][1].dtype == torch.float32
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
