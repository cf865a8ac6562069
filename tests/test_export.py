"""What is exported is read as the same model by those who read it, and comes back bit for bit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig, Qwen2Config

from coursepkg import export, loading, packing, ptq, quantized_model
from coursepkg.affine import Scheme
from coursepkg.export import LAYOUTS, NotExportable, NotReadable, writing
from coursepkg.int8_linear import W8A8Linear
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.weight_formats import Affine, Blocks

IDS = torch.arange(7)[None]
FP16, BF16, FP32 = torch.float16, torch.bfloat16, torch.float32
CASES = [
    (4, None, 32, FP16),
    (4, "integer", 32, FP16),
    (4, "integer", "channel", BF16),
    (4, None, "channel", BF16),
    (8, None, "channel", FP16),
    (8, "integer", 32, BF16),
    (3, "integer", 32, FP16),
    (2, None, 32, BF16),
]
UP = "model.layers.0.mlp.up_proj"


def tiny(config: type = LlamaConfig, dtype: torch.dtype = FP16, **changed: object) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}
    return AutoModelForCausalLM.from_config(config(**sizes | changed), dtype=dtype).eval()


def quantized(
    scheme: Scheme | None = None, config: type = LlamaConfig, dtype: torch.dtype = FP16, **changed
) -> torch.nn.Module:
    model = tiny(config, dtype, **changed)
    quantized_model.quantize_model(model, Affine(scheme or Scheme(4, granularity=32, scale_dtype=dtype)))
    return model


def asymmetric(dtype: torch.dtype = FP16) -> Scheme:
    return Scheme(4, "integer", 32, scale_dtype=dtype)


def packed(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def described(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))["quantization_config"]


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether what they store is the same, bit for bit."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        tensor.dtype == second[name].dtype and torch.equal(tensor, second[name])
        for name, tensor in first.items()
    )


# compressed-tensors, as transformers reads it


@pytest.mark.parametrize(
    ("bits", "zero_point", "granularity", "dtype"),
    [*CASES, (4, None, 32, FP32), (8, "integer", "channel", FP32)],
)
def test_transformers_computes_the_same_logits(bits, zero_point, granularity, dtype, tmp_path):
    """Exactly: the weights are the same numbers (compressed_tensors.py says why), in layers of the same kind."""
    model = quantized(Scheme(bits, zero_point, granularity, scale_dtype=dtype), dtype=dtype)
    read = AutoModelForCausalLM.from_pretrained(export.save(model, tmp_path))
    assert read.dtype == dtype
    assert torch.equal(read(IDS).logits, model(IDS).logits)
    assert torch.equal(read.get_submodule(UP).weight, model.get_submodule(UP).dequantize(dtype))


def test_the_course_lm_is_exported_with_its_tied_head_and_its_tokenizer(tmp_path):
    """Scales of fp16 are written as fp32, the model's dtype, and are the same numbers."""
    model, tokenizer = loading.load_model()
    quantized_model.quantize_model(model, Affine(Scheme(4, scale_dtype=FP16)))
    export.save(model, tmp_path, tokenizer=tokenizer)
    assert "lm_head.weight" not in packed(tmp_path) and described(tmp_path)["ignore"] == ["lm_head"]
    read, same_tokenizer = loading.load_model(tmp_path)
    assert torch.equal(read(IDS).logits, model(IDS).logits)
    assert same_tokenizer("The bank of the river.") == tokenizer("The bank of the river.")
    back = export.load(tmp_path)
    assert back.lm_head.weight is back.model.embed_tokens.weight
    assert torch.equal(back(IDS).logits, model(IDS).logits)


def test_biases_and_layers_that_stay_are_read(tmp_path):
    """Qwen2 has biases; its second layer stays as it was."""
    model = tiny(Qwen2Config)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.bias += 1
    kind = Affine(Scheme(8, scale_dtype=FP16))
    quantized_model.quantize_model(model, lambda name, _: None if ".1." in name else kind)
    for layout in LAYOUTS:
        assert same(export.load(export.save(model, tmp_path / layout, layout)), model)
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "compressed-tensors")
    assert torch.equal(read(IDS).logits, model(IDS).logits)
    left = [name for name, layer in model.named_modules() if type(layer) is torch.nn.Linear]
    assert described(tmp_path / "compressed-tensors")["ignore"] == left and len(left) == 8
    skipped = described(tmp_path / "gptq")["dynamic"]
    assert len(skipped) == 7 and r"-:^model\.layers\.1\.mlp\.up_proj$" in skipped


def test_layers_may_have_several_symmetric_formats(tmp_path):
    model = tiny()
    kinds = [Affine(Scheme(bits, None, size, scale_dtype=FP16)) for bits, size in ((4, 32), (8, "channel"))]
    quantized_model.quantize_model(model, lambda name, _: kinds["mlp" in name])
    read = AutoModelForCausalLM.from_pretrained(export.save(model, tmp_path))
    assert torch.equal(read(IDS).logits, model(IDS).logits)
    assert same(export.load(tmp_path), model)
    with pytest.raises(
        NotExportable, match=r"mlp.gate_proj has .*8, .* the layout has one format for all layers"
    ):
        export.save(model, tmp_path / "other", "gptq")


def test_what_compressed_tensors_writes_is_read(tmp_path):
    model = quantized()
    theirs = AutoModelForCausalLM.from_pretrained(export.save(model, tmp_path / "ours"))
    theirs.save_pretrained(tmp_path / "theirs")
    assert same(export.load(tmp_path / "theirs"), model)


def test_codes_and_zero_points_lie_as_the_library_packs_them(tmp_path):
    model = quantized(asymmetric())
    found, layer = packed(export.save(model, tmp_path)), model.get_submodule(UP)
    codes = packing.signed(packing.unpack(layer.codes, 4, 64), 4)
    assert torch.equal(found[f"{UP}.weight_packed"], pack_to_int32(codes, 4))
    zeros = packing.signed(layer.zero_point, 4)
    assert torch.equal(found[f"{UP}.weight_zero_point"], pack_to_int32(zeros, 4, packed_dim=0))
    assert found[f"{UP}.weight_shape"].tolist() == [96, 64]


def test_a_head_that_was_untied_stays_so(tmp_path):
    model = quantized(tie_word_embeddings=True)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 2)
    export.save(model, tmp_path)
    for read in (AutoModelForCausalLM.from_pretrained(tmp_path), export.load(tmp_path)):
        assert torch.equal(read(IDS).logits, model(IDS).logits)


# GPTQ


def words(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """The codes of rows of 32-bit words as one number each row, from whose lowest bits they are taken one by one."""
    rows = []
    for row in packed.tolist():
        number = sum((word & 0xFFFFFFFF) << 32 * place for place, word in enumerate(row))
        rows.append([number >> bits * place & 2**bits - 1 for place in range(len(row) * 32 // bits)])
    return torch.tensor(rows)


def as_autogptq_reads(tensors: dict[str, torch.Tensor], name: str, bits: int, add: int) -> torch.Tensor:
    """The weight (in, out) of AutoGPTQ's torch code: scales[g_idx] · (codes − (zeros + 1)[g_idx]), in the scales' dtype."""
    g_idx = tensors[f"{name}.g_idx"].long()
    codes = words(tensors[f"{name}.qweight"].T, bits).T
    zeros = words(tensors[f"{name}.qzeros"], bits) + add
    return tensors[f"{name}.scales"][g_idx] * (codes - zeros[g_idx])


@pytest.mark.parametrize(("layout", "add"), [("gptq", 1), ("gptq_v2", 0)])
@pytest.mark.parametrize(("bits", "zero_point", "granularity", "dtype"), CASES)
def test_autogptq_reads_the_same_weights(layout, add, bits, zero_point, granularity, dtype, tmp_path):
    """Exactly: a whole number times the scale, rounded once to the scale's dtype."""
    model = quantized(Scheme(bits, zero_point, granularity, scale_dtype=dtype), dtype=dtype)
    tensors, layer = packed(export.save(model, tmp_path, layout)), model.get_submodule(UP)
    assert torch.equal(as_autogptq_reads(tensors, UP, bits, add).T, layer.dequantize(dtype))
    assert tensors[f"{UP}.scales"].dtype == dtype


def test_what_a_gptq_checkpoint_says_of_itself(tmp_path):
    export.save(quantized(), tmp_path, "gptq")
    assert described(tmp_path) == {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 32,
        "sym": True,
        "desc_act": False,
        "lm_head": False,
        "checkpoint_format": "gptq",
    }
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (config["architectures"], config["dtype"]) == (["LlamaForCausalLM"], "float16")


@pytest.mark.parametrize(("layout", "word"), [("gptq", 0x77777777), ("gptq_v2", 0x88888888 - 2**32)])
def test_symmetric_codes_have_their_zero_point_in_the_middle(layout, word, tmp_path):
    tensors = packed(export.save(quantized(), tmp_path, layout))
    assert tensors[f"{UP}.qzeros"].unique().tolist() == [word]


@pytest.mark.parametrize(("granularity", "expected"), [(32, [0] * 32 + [1] * 32), ("channel", [0] * 64)])
def test_groups_are_neighbours(granularity, expected, tmp_path):
    model = quantized(Scheme(4, granularity=granularity, scale_dtype=FP16))
    tensors = packed(export.save(model, tmp_path, "gptq"))
    assert tensors[f"{UP}.g_idx"].tolist() == expected
    assert described(tmp_path)["group_size"] == (32 if granularity == 32 else -1)


# There and back


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("bits", "zero_point", "granularity", "dtype"), CASES)
def test_what_is_written_comes_back_bit_for_bit(layout, bits, zero_point, granularity, dtype, tmp_path):
    model = quantized(Scheme(bits, zero_point, granularity, scale_dtype=dtype), dtype=dtype)
    read = export.load(export.save(model, tmp_path, layout))
    assert same(read, model) and torch.equal(read(IDS).logits, model(IDS).logits)
    found, scheme = read.get_submodule(UP).kind.scheme, model.get_submodule(UP).kind.scheme
    for each in ("bits", "zero_point", "granularity", "scale_dtype"):
        assert getattr(found, each) == getattr(scheme, each)
    assert not read.training and not hasattr(read.config, "quantization_config")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_that_was_loaded_is_exported_again_and_saved(layout, tmp_path):
    """Its tensors lie where they lay in the file, some at odd places."""
    model = quantized(asymmetric(), Qwen2Config)
    quantized_model.save(model, tmp_path / "ours")
    first = export.save(quantized_model.load(tmp_path / "ours"), tmp_path / "first", layout)
    second = export.save(export.load(first), tmp_path / "second", layout)
    assert packed(first).keys() == packed(second).keys()
    for name, tensor in packed(first).items():
        assert torch.equal(tensor, packed(second)[name])
    quantized_model.save(export.load(second), tmp_path / "back")
    assert same(quantized_model.load(tmp_path / "back"), model)


def test_large_models_are_written_in_several_files(tmp_path, monkeypatch):
    """None is larger than was asked for, and no more is held than one of them; the next, whole, takes their place."""
    model, sizes = quantized(asymmetric()), []

    def measured(tensors: dict[str, torch.Tensor], path: Path, metadata: dict) -> None:
        sizes.append(sum(tensor.nbytes for tensor in tensors.values()))
        save_file(tensors, path, metadata)

    monkeypatch.setattr(writing, "save_file", measured)
    export.save(model, tmp_path, max_shard_size=20_000)
    assert len(sizes) > 2 and max(sizes) <= 20_000
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert index["metadata"]["total_size"] == sum(sizes) and len(set(index["weight_map"].values())) == len(
        sizes
    )
    for read in (AutoModelForCausalLM.from_pretrained(tmp_path), export.load(tmp_path)):
        assert torch.equal(read(IDS).logits, model(IDS).logits)
    (tmp_path / "notes.txt").write_text("mine")
    export.save(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "notes.txt",
    ]


def test_parameters_that_are_shared_are_written_under_each_name(tmp_path):
    model = tiny()
    model.model.norm.weight = model.model.layers[0].input_layernorm.weight
    model.model.layers[1].mlp.up_proj.weight = model.model.layers[0].mlp.up_proj.weight
    quantized_model.quantize_model(model, Affine(Scheme(4, granularity=32, scale_dtype=FP16)))
    export.save(model, tmp_path)
    for read in (AutoModelForCausalLM.from_pretrained(tmp_path), export.load(tmp_path)):
        assert torch.equal(read(IDS).logits, model(IDS).logits)


def test_the_model_stays_as_it_is(tmp_path):
    model = quantized()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = model.config.to_dict()
    export.save(model, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.config.to_dict() == config


def test_a_write_that_fails_leaves_the_model_that_was_there(tmp_path, monkeypatch):
    export.save(quantized(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def failing(tensors: dict, path: Path, metadata: dict) -> None:
        path.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(writing, "save_file", failing)
    with pytest.raises(OSError, match="no space left"):
        export.save(quantized(asymmetric()), tmp_path, "gptq")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# What cannot be written


def changed_layer(change: Callable[[QuantizedLinear], object], scheme: Scheme | None = None) -> Callable:
    def make() -> torch.nn.Module:
        model = quantized(scheme)
        change(model.get_submodule(UP))
        return model

    return make


def mixed() -> torch.nn.Module:
    model, kinds = tiny(), [Affine(Scheme(4, scale_dtype=FP16)), Affine(asymmetric())]
    quantized_model.quantize_model(model, lambda name, _: kinds[name == UP])
    return model


def blocks() -> torch.nn.Module:
    model = tiny()
    quantized_model.quantize_model(model, Blocks())
    return model


def norm_in_fp32() -> torch.nn.Module:
    model = quantized()
    model.model.norm.weight = torch.nn.Parameter(torch.full((64,), 1 / 3))
    return model


def with_w8a8() -> torch.nn.Module:
    model = quantized()
    layer = torch.nn.Linear(64, 96, bias=False, dtype=FP16)
    model.set_submodule(UP, W8A8Linear.of(layer))
    return model


def no_zero_point(layer: QuantizedLinear) -> None:
    layer.zero_point[0, 0] = 0


EVERY = tuple(LAYOUTS)
FIRST = "model.layers.0.self_attn.q_proj: "


@pytest.mark.parametrize(
    ("make", "layouts", "said"),
    [
        (tiny, EVERY, "no layer of this model is quantized"),
        (blocks, EVERY, f"{FIRST}NF4, block of 64 is no format of whole numbers"),
        (lambda: quantized(Scheme(4, "real", 32)), EVERY, f"{FIRST}a real zero-point has no place"),
        (lambda: quantized(Scheme(8, None, "tensor")), EVERY, f"{FIRST}one scale for the tensor"),
        (
            lambda: quantized(Scheme(4, None, 32)),
            EVERY,
            rf"{FIRST}its scales \(torch.float32\) are not numbers of float16, .*scale_dtype=torch.float16",
        ),
        (
            lambda: quantized(Scheme(4, None, 32), dtype=BF16),
            EVERY,
            f"{FIRST}.* not numbers of bfloat16",
        ),
        (
            lambda: quantized(Scheme(4, None, 32), dtype=FP32),
            ("gptq", "gptq_v2"),
            "not numbers of float16",
        ),
        (norm_in_fp32, EVERY, "model.norm.weight is torch.float32 in a model of torch.float16"),
        (
            lambda: quantized(Scheme(4, scale_dtype=FP16), dtype=FP32).half(),
            EVERY,
            "inv_freq is torch.float16, and torch.float32 in a model that is read: .* load the model with dtype=",
        ),
        (with_w8a8, EVERY, f"{UP}.codes is no tensor of a LlamaForCausalLM: layers of other kinds"),
        (lambda: quantized().to("meta"), EVERY, "q_proj has no values"),
        (
            lambda: quantized(config=MixtralConfig, num_local_experts=2),
            EVERY,
            r"model.layers.0.mlp.* lies otherwise in checkpoints of MixtralForCausalLM",
        ),
        (mixed, ("compressed-tensors",), f"{UP}: transformers reads asymmetric codes only where all layers"),
        (mixed, ("gptq", "gptq_v2"), f"{UP} has .* one format for all layers"),
        (
            lambda: quantized(Scheme(5, scale_dtype=FP16)),
            ("gptq", "gptq_v2"),
            f"{FIRST}the layout has codes of 2, 3, 4 or 8 bits, not 5",
        ),
        (
            lambda: quantized(Scheme(4, scale_dtype=FP16), intermediate_size=100),
            ("gptq", "gptq_v2"),
            "model.layers.0.mlp.gate_proj: 100 outputs of 4 bits do not fill 32-bit words",
        ),
        (
            changed_layer(no_zero_point, asymmetric()),
            ("gptq",),
            f'{UP}: version 1 stores zero-points less 1 and has none of 0; choose the layout "gptq_v2"',
        ),
    ],
)
def test_what_cannot_be_written_is_refused_by_name_and_nothing_is_written(make, layouts, said, tmp_path):
    model = make()
    for layout in layouts:
        with pytest.raises(NotExportable, match=said):
            export.save(model, tmp_path / "new", layout)
        assert not (tmp_path / "new").exists()


def test_zero_points_of_0_are_written_where_they_can_be(tmp_path):
    model = changed_layer(no_zero_point, asymmetric())()
    for layout in ("compressed-tensors", "gptq_v2"):
        assert same(export.load(export.save(model, tmp_path / layout, layout)), model)


def test_scales_of_fp32_that_are_numbers_of_the_models_dtype_are_written(tmp_path):
    model = quantized()
    for layer in model.modules():
        if isinstance(layer, QuantizedLinear):
            layer.scale = layer.scale.float()
    read = AutoModelForCausalLM.from_pretrained(export.save(model, tmp_path))
    assert torch.equal(read(IDS).logits, model(IDS).logits)


def test_a_layout_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no layout 'awq'; there are compressed-tensors, gptq, gptq_v2"):
        export.save(quantized(), tmp_path, "awq")


# What cannot be read


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """What changes the tensors that lie in a folder."""

    def spoil(folder: Path) -> None:
        found = packed(folder)
        change(found)
        save_file(found, folder / "model.safetensors")

    return spoil


def put(part: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    return tensors(lambda found: found.update({f"{UP}.{part}": make(found[f"{UP}.{part}"]).contiguous()}))


def config(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """What changes the quantization_config of a folder."""

    def spoil(folder: Path) -> None:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        change(found["quantization_config"])
        (folder / "config.json").write_text(json.dumps(found), encoding="utf-8")

    return spoil


def weights(**changed: object) -> Callable[[Path], None]:
    return config(lambda found: found["config_groups"]["group_0"]["weights"].update(changed))


def text(name: str, said: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(said, encoding="utf-8")


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of a model with zero-points."""
    model = quantized(asymmetric())
    return {layout: export.save(model, tmp_path_factory.mktemp(layout), layout) for layout in LAYOUTS}


@pytest.mark.parametrize("layout", ["compressed-tensors", "gptq"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (text("config.json", "{"), "config.json cannot be read"),
        (text("config.json", "[]"), "config.json cannot be read"),
        (text("config.json", "{}"), "has no quantization_config: load it with load_model"),
        (config(lambda found: found.update(quant_method="awq")), "is quantized with awq; what can be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (cut("model.safetensors", -100), "model.safetensors cannot be read"),
        (cut("model.safetensors", 4), "model.safetensors cannot be read"),
        (text("model.safetensors.index.json", "{}"), "index.json cannot be read"),
        (
            text("model.safetensors.index.json", '{"weight_map": {"x": "../model.safetensors"}}'),
            "has no ../model.safetensors",
        ),
        (tensors(lambda found: found.pop("model.norm.weight")), "there is no model.norm.weight"),
        (tensors(lambda found: found.update(x=torch.ones(1))), "x is not a tensor of the model"),
        (
            tensors(lambda found: found.update({f"{UP}.bias": torch.ones(96)})),
            f"{UP}.bias is not a tensor of the model",
        ),
        (
            tensors(lambda found: found.clear() or found.update(x=torch.ones(1))),
            "no layer has a (weight_packed|qweight)",
        ),
    ],
)
def test_a_folder_that_holds_no_whole_checkpoint_is_refused(layout, spoil, said, written, tmp_path):
    folder = shutil.copytree(written[layout], tmp_path / layout)
    spoil(folder)
    with pytest.raises(NotReadable, match=said):
        export.load(folder)


def head(mark: str) -> Callable[[Path], None]:
    return tensors(lambda found: found.update({f"lm_head.{mark}": found[f"{UP}.{mark}"].clone()}))


@pytest.mark.parametrize(
    ("layout", "spoil", "said"),
    [
        ("compressed-tensors", head("weight_packed"), "lm_head has a weight_packed, but is no Linear layer"),
        (
            "compressed-tensors",
            tensors(lambda found: found.pop(f"{UP}.weight_scale")),
            f"there is no {UP}.weight_scale",
        ),
        (
            "compressed-tensors",
            put("weight_packed", lambda one: one[:, 1:]),
            rf"{UP}.weight_packed is of shape \(96, 7\), not \(96, 8\)",
        ),
        ("compressed-tensors", put("weight_packed", torch.Tensor.long), "is torch.int64, not torch.int32"),
        ("compressed-tensors", put("weight_scale", torch.Tensor.double), "scale_dtype must be"),
        ("compressed-tensors", put("weight_scale", lambda one: one / 0), f"{UP}: its scales hold infinities"),
        (
            "compressed-tensors",
            put("weight_shape", lambda one: one + 1),
            rf"{UP}: weight_shape says \(97, 65\)",
        ),
        ("compressed-tensors", weights(num_bits=8), r"not \(96, 16\)"),
        ("compressed-tensors", weights(num_bits=16), "bits must be from 2 to 8, not 16"),
        ("compressed-tensors", weights(group_size=48), "groups of 48 do not fill rows of 64"),
        ("compressed-tensors", weights(type="float"), "only whole numbers"),
        ("compressed-tensors", weights(strategy="block"), "its strategy is block"),
        (
            "compressed-tensors",
            config(lambda found: found["config_groups"]["group_0"].update(input_activations={"num_bits": 8})),
            "activations are quantized, too",
        ),
        (
            "compressed-tensors",
            config(lambda found: found["config_groups"]["group_0"].update(format="int-quantized")),
            "its format is int-quantized; only pack-quantized",
        ),
        (
            "compressed-tensors",
            config(lambda found: found["config_groups"]["group_0"].update(targets=["re:.*mlp"])),
            "self_attn.* belongs to no group",
        ),
        ("compressed-tensors", config(lambda found: found.pop("config_groups")), "cannot be read: KeyError"),
        ("gptq", head("qweight"), "lm_head has a qweight, but is no Linear layer"),
        ("gptq", put("g_idx", lambda one: one.flip(0)), rf"{UP}: g_idx .* \(act-order, desc_act\)"),
        ("gptq", put("qzeros", lambda one: one * 0 - 1), f"{UP}: a stored zero-point is 15"),
        ("gptq", put("scales", lambda one: one[:1]), rf"{UP}.scales is of shape \(1, 96\), not \(2, 96\)"),
        ("gptq", config(lambda found: found.update(sym=True)), "sym is true, but its zero-points"),
        ("gptq", config(lambda found: found.update(bits=5)), "its codes have 5 bits"),
        ("gptq", config(lambda found: found.update(bits="four")), "its codes have four bits"),
        ("gptq", config(lambda found: found.pop("group_size")), "cannot be read: KeyError"),
        ("gptq", config(lambda found: found.update(group_size=0)), "granularity must be"),
        (
            "gptq",
            config(lambda found: found.update(checkpoint_format="marlin")),
            "its checkpoint_format is marlin",
        ),
        (
            "gptq",
            config(lambda found: found.update(dynamic={"+:.*down.*": {"bits": 8}})),
            "dynamic gives some layers another",
        ),
    ],
)
def test_a_checkpoint_that_is_not_what_it_says_is_refused(layout, spoil, said, written, tmp_path):
    folder = shutil.copytree(written[layout], tmp_path / layout)
    spoil(folder)
    with pytest.raises(NotReadable, match=said):
        export.load(folder)


def test_targets_are_names_then_patterns_then_classes(tmp_path):
    """A first group for all classes does not take what a later one names."""
    model, kinds = (
        tiny(),
        [Affine(Scheme(bits, granularity=32, scale_dtype=FP16)) for bits in (4, 8)],
    )
    quantized_model.quantize_model(model, lambda name, _: kinds["mlp" in name])
    export.save(model, tmp_path)

    def patterns(found: dict) -> None:
        found["config_groups"]["group_0"]["targets"] = ["Linear"]
        found["config_groups"]["group_1"]["targets"] = [r"re:.*\.mlp\."]

    config(patterns)(tmp_path)
    assert same(export.load(tmp_path), model)


def test_biases_of_zeros_that_older_tools_wrote_are_left_out(tmp_path):
    model = quantized()
    export.save(model, tmp_path, "gptq")
    tensors(lambda found: found.update({f"{UP}.bias": torch.zeros(96)}))(tmp_path)
    assert same(export.load(tmp_path), model)


@pytest.mark.parametrize("swap", [ptq.w8a8, ptq.llm_int8])
def test_layers_that_multiply_in_8_bits_are_refused(swap, tmp_path):
    model = tiny()
    swap(model)
    with pytest.raises(NotExportable, match="those of w8a8 and llm_int8 are not"):
        export.save(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_holds_one_model_whoever_wrote_it_last(tmp_path):
    """What was written before, here or as an export, would be read in its place."""
    first, second = quantized(), quantized(Scheme(8, granularity=32, scale_dtype=FP16))
    (tmp_path / "quantize_config.json").write_text("{}")
    quantized_model.save(first, tmp_path)
    export.save(second, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert "model.safetensors" in names and not {name for name in names if name.startswith("quant")}
    with pytest.raises(quantized_model.NotQuantized, match="no quantized.safetensors"):
        quantized_model.load(tmp_path)
    quantized_model.save(first, tmp_path)
    assert "model.safetensors" not in {path.name for path in tmp_path.iterdir()}
    assert same(quantized_model.load(tmp_path), first)


def test_an_export_with_remains_is_not_read_as_another_format(tmp_path):
    quantized_model.save(quantized(), tmp_path / "one")
    export.save(quantized(), tmp_path / "two")
    shutil.copy(tmp_path / "two" / "config.json", tmp_path / "one" / "config.json")
    with pytest.raises(quantized_model.NotQuantized, match="its config is that of an exported model"):
        quantized_model.load(tmp_path / "one")
