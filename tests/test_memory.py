"""Memory arithmetic against the shapes of transformers' models, peft's counts, published layouts, and bad input."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from coursepkg import memory
from coursepkg.memory import FORMATS, GB, Architecture, Lora, StorageFormat, architecture, catalogue

LLAMA = catalogue()["llama-2-7b"]["config"]


def on_meta(name: str):
    """The model of a catalogue entry as transformers builds it, without any memory."""
    return built(catalogue()[name]["config"])


def built(config: dict):
    """The model of a config.json as transformers builds it, without any memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(as_transformers_reads(config))


def as_transformers_reads(config: dict):
    """The config object of transformers, with its own defaults for what the config.json leaves out."""
    return CONFIG_MAPPING[config["model_type"]](**{k: v for k, v in config.items() if k != "model_type"})


@pytest.mark.parametrize("name", catalogue())
def test_every_tensor_is_the_one_transformers_makes(name):
    real = {n: tuple(p.shape) for n, p in on_meta(name).named_parameters()}
    ours = {t.name: t.shape for t in architecture(name).tensors}
    assert ours == real


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("llama-2-7b", 6_738_415_616),
        ("mistral-7b", 7_241_732_096),
        ("llama-3.1-8b", 8_030_261_248),
        ("gemma-3-270m", 268_098_176),
        ("qwen2.5-0.5b", 494_032_768),
    ],
)
def test_parameter_counts_as_published(name, count):
    assert architecture(name).parameters() == count


SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "vocab_size": 50}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", **SMALL, **HEADS, "attention_bias": True, "mlp_bias": True},
        {"model_type": "qwen2", **SMALL, **HEADS, "tie_word_embeddings": True},
        {"model_type": "qwen3", **SMALL, **HEADS, "attention_bias": True, "head_dim": 8},
        {"model_type": "gemma3_text", **SMALL, **HEADS, "attention_bias": True},
        {"model_type": "llama", **SMALL, "num_attention_heads": 4},
        {"model_type": "mistral", **SMALL, "num_attention_heads": 16},
        {"model_type": "gemma3_text", "num_hidden_layers": 7},
    ],
    ids=lambda config: " ".join(str(v) for v in config.values()),
)
def test_what_a_config_states_or_leaves_out_is_read_as_transformers_reads_it(config):
    real = {n: tuple(p.shape) for n, p in built(config).named_parameters()}
    assert {t.name: t.shape for t in Architecture.from_config(config).tensors} == real


@pytest.mark.parametrize(
    "config",
    [
        *(
            catalogue()[name]["config"]
            for name in ("mistral-7b", "gemma-3-270m", "gemma-3-27b", "qwen2.5-7b")
        ),
        {"model_type": "qwen2", **SMALL, **HEADS, "use_sliding_window": True, "max_window_layers": 1},
        {
            "model_type": "qwen3",
            **SMALL,
            **HEADS,
            "use_sliding_window": True,
            "max_window_layers": 2,
            "sliding_window": 9,
        },
        {"model_type": "gemma3_text", "num_hidden_layers": 7},
    ],
    ids=lambda config: f"{config['model_type']} {config['num_hidden_layers']} layers",
)
def test_sliding_windows_are_those_of_transformers(config):
    real = as_transformers_reads(config)
    kinds = getattr(real, "layer_types", None) or ["sliding_attention"] * real.num_hidden_layers
    expected = tuple(real.sliding_window if kind == "sliding_attention" else None for kind in kinds)
    assert Architecture.from_config(config).windows == expected


@pytest.mark.parametrize(
    ("name", "targets", "count"),
    [
        ("llama-2-7b", ("q_proj", "v_proj"), 8_388_608),
        ("llama-2-7b", memory.ALL_LINEAR, 39_976_960),
        ("mistral-7b", ("q_proj", "k_proj", "v_proj", "o_proj"), 13_631_488),
        ("mistral-7b", ("q_proj", "v_proj"), 6_815_744),
    ],
)
def test_lora_counts_equal_peft(name, targets, count):
    peft_model = get_peft_model(on_meta(name), LoraConfig(r=16, target_modules=list(targets)))
    trainable = sum(p.numel() for p in peft_model.parameters() if p.requires_grad)
    assert Lora(16, targets).parameters(name) == trainable == count


@pytest.mark.parametrize(
    ("name", "bits"),
    # bitsandbytes: 32/64 and 8/64 + 32/(64·256); llama.cpp: bytes of a block, gguf-py's GGML_QUANT_SIZES
    [
        *[("nf4", 4 + 32 / 64), ("nf4+dq", 4 + 8 / 64 + 32 / (64 * 256)), ("int4-g128", 4 + 16 / 128)],
        *[("Q8_0", 34 * 8 / 32), ("Q6_K", 210 * 8 / 256), ("Q5_K", 176 * 8 / 256)],
        *[("Q4_K", 144 * 8 / 256), ("Q3_K", 110 * 8 / 256), ("Q2_K", 84 * 8 / 256)],
    ],
)
def test_effective_bits(name, bits):
    fmt = FORMATS[name]
    assert fmt.effective_bits() == pytest.approx(bits, rel=1e-12)
    block = 64 * 256 * 1024  # a multiple of every block, so that no short block adds to the bytes
    assert (fmt.stored_bytes(block) - total_tables(fmt)) * 8 / block == pytest.approx(bits, rel=1e-12)


def total_tables(fmt: StorageFormat | None) -> int:
    return 0 if fmt is None else fmt.table_bytes + total_tables(fmt.scale)


formats = st.builds(
    lambda bits, block, scale: StorageFormat("any", bits, block, scale),
    st.integers(1, 16),
    st.integers(1, 300),
    st.sampled_from([FORMATS["fp16"], FORMATS["fp32"], StorageFormat("8", 8, 256, FORMATS["fp32"])]),
)


@given(formats, st.integers(1, 10_000))
def test_stored_is_never_less_than_nominal_and_grows_by_whole_blocks(fmt, count):
    """Every begun block pays for its scale, so stored − nominal is the bytes of ceil(count / block_size) scales."""
    blocks = -(-count // fmt.block_size)
    assert fmt.stored_bytes(count) - fmt.nominal_bytes(count) == fmt.scale.stored_bytes(blocks)
    assert fmt.stored_bytes(count + 1) >= fmt.stored_bytes(count) > 0


@given(st.integers(1, 16), st.integers(1, 40), st.integers(1, 100))
def test_rows_that_begin_bytes_of_their_own_are_counted_one_by_one(bits, rows, columns):
    stream = StorageFormat("stream", bits)
    by_row = StorageFormat("by row", bits, packed_by_row=True)
    assert by_row.stored_bytes(rows, columns) == rows * stream.stored_bytes(columns)
    assert by_row.stored_bytes(2, rows, columns) == 2 * rows * stream.stored_bytes(columns)
    assert by_row.stored_bytes(columns) == stream.stored_bytes(columns)
    assert by_row.nominal_bytes(rows, columns) == stream.stored_bytes(rows, columns)
    assert by_row.effective_bits(columns) == 8 * by_row.stored_bytes(rows, columns) / (rows * columns)


@given(st.integers(0, 300_000), st.integers(0, 8), st.sampled_from(sorted(catalogue())))
def test_kv_cache_is_linear_in_batch_and_bounded_by_the_windows(context, batch, name):
    one = memory.kv_cache_bytes(name, context)
    assert memory.kv_cache_bytes(name, context, batch) == batch * one
    arch = architecture(name)
    whole = 2 * arch.num_layers * context * arch.kv_size * 2
    assert one <= whole
    if all(window is None or window >= context for window in arch.windows):
        assert one == whole


class TestLedger:
    """Figures of the claims ledger, at the digits that the course prints."""

    def test_llama_2_7b(self):
        sizes = {f: round(memory.weight_bytes("llama-2-7b", f) / GB, 2) for f in ("fp32", "bf16", "nf4+dq")}
        assert sizes == {"fp32": 26.95, "bf16": 13.48, "nf4+dq": 3.87}

    def test_llama_2_70b_and_mistral(self):
        assert round(memory.weight_bytes("llama-2-70b", "nf4+dq") / GB, 1) == 36.4
        assert round(memory.weight_bytes("mistral-7b", "nf4+dq") / GB, 3) == 4.125

    def test_gemma_saves_little(self):
        saving = 1 - memory.weight_bytes("gemma-3-270m", "nf4+dq") / memory.weight_bytes(
            "gemma-3-270m", "bf16"
        )
        assert round(100 * saving, 1) == 27.7
        assert architecture("gemma-3-270m").parameters("embedding") == 167_772_160

    def test_bytes_per_parameter_of_training(self):
        per_parameter = {}
        for optim in ("adamw-fp32", "adamw-master"):
            budget = memory.full_finetuning("llama-2-7b", optim=optim)
            kept = budget["weights"] + budget["gradients"] + budget["optimizer"]
            per_parameter[optim] = kept / architecture("llama-2-7b").parameters()
        assert per_parameter == {"adamw-fp32": 12, "adamw-master": 16}

    def test_kv_cache(self):
        assert memory.kv_cache_bytes("llama-2-7b", 1) == 524_288
        assert round(memory.kv_cache_bytes("llama-2-7b", 2048) / GB, 2) == 1.07
        assert 4 * memory.kv_cache_bytes("mistral-7b", 2048) == memory.kv_cache_bytes("llama-2-7b", 2048)
        assert round(memory.kv_cache_bytes("llama-2-13b", 2048) / GB, 2) == 1.68

    def test_65b(self):
        budget = memory.full_finetuning("llama-1-65b")
        assert round((budget.total - budget["activations"]) / GB) == 783
        assert round(memory.lora("llama-1-65b")["weights"] / GB) == 131


class TestBudget:
    def test_parts_by_hand(self):
        """LoRA r=1 on one Linear of 2 × 4 with fp32 adapters: 6 values of 4 bytes, and two moments with a step each."""
        config = {"model_type": "llama", "vocab_size": 10, "hidden_size": 4, "intermediate_size": 8}
        config |= {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
        budget = memory.lora(
            Architecture.from_config(config), 1, adapters=Lora(1, ("k_proj",)), optim="adamw"
        )
        assert budget["weights"] == 2 * 236
        assert (budget["adapters"], budget["gradients"], budget["optimizer"]) == (24, 24, 2 * 24 + 2 * 4)
        with pytest.raises(KeyError, match="weights, adapters, gradients, optimizer, activations"):
            budget["scales"]

    def test_the_cache_has_a_format_of_its_own(self):
        full, half = (memory.inference("llama-2-7b", cache=c)["KV cache"] for c in (None, "int8"))
        assert half < 0.51 * full
        assert memory.inference("llama-2-7b", weights="fp32")["KV cache"] == 2 * full
        assert memory.inference("llama-2-7b", weights="nf4")["KV cache"] == full

    def test_preparing_casts_up_what_is_not_quantized_and_the_stream(self):
        prepared, plain = (memory.qlora("llama-2-7b", prepared=p) for p in (True, False))
        rest = memory.architecture("llama-2-7b").parameters("embedding", "head", "norm")
        assert prepared["weights"] - plain["weights"] == 2 * rest
        assert prepared["activations"] > 1.2 * plain["activations"]

    def test_a_laptop_keeps_4_gib_for_itself(self):
        assert memory.device("laptop 16 gib").usable == 12 * 2**30

    def test_paging_moves_states_and_changes_none(self):
        for paged, plain in (("paged-adamw-8bit", "adamw-8bit"), ("paged-adamw-32bit", "adamw-fp32")):
            tensors = architecture("qwen2.5-0.5b").tensors
            assert memory.optimizer(paged).state_bytes(tensors) == memory.optimizer(plain).state_bytes(
                tensors
            )
            assert memory.optimizer(paged).paged and not memory.optimizer(plain).paged

    def test_fits_on_counts_the_context(self):
        budget = memory.inference("llama-2-7b")
        exact = memory.Device("exact", budget.total + memory.CONTEXT_BYTES)
        short = memory.Device("short", exact.memory - 1)
        assert [fit.fits for fit in budget.fits_on([exact, short])] == [True, False]
        assert [fit.spare for fit in budget.fits_on([exact, short])] == [0, -1]

    def test_text_says_gb_and_gib(self):
        assert "13.48 GB" in str(memory.inference("llama-2-7b")) and "12.55 GiB" in str(
            memory.inference("llama-2-7b")
        )

    def test_checkpointing_trades_bytes_for_time(self):
        kept = [memory.activations("llama-2-7b", 2048, checkpointing=c).saved for c in (False, True)]
        assert kept[1] < kept[0] / 10


class TestBadInput:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: architecture("lama-2-7b"), "catalogue has llama-2-7b"),
            (lambda: memory.weight_bytes("llama-2-7b", "int5"), "known are fp32"),
            (lambda: memory.optimizer("adam"), "known are sgd"),
            (lambda: memory.device("T5"), "known are Laptop"),
            (lambda: Lora(targets=("q",)), "choose at least one from q_proj"),
            (lambda: Lora(rank=0), "at least 1"),
            (lambda: memory.kv_cache_bytes("llama-2-7b", -1), "cannot be negative"),
            (lambda: memory.activations("llama-2-7b", 0), "at least 1"),
            (lambda: memory.full_finetuning("llama-2-7b", dtype="nf4"), "no gradients"),
            (lambda: memory.lora("llama-2-7b", dtype="nf4"), "is QLoRA"),
            (lambda: memory.qlora("llama-2-7b", weights="bf16"), "use lora"),
            (lambda: StorageFormat("x", 4, 64), "go together"),
            (lambda: StorageFormat("x", 0), "at least 1"),
            (lambda: FORMATS["int8"].stored_bytes(), "give a shape"),
            (lambda: Lora(targets=("q_proj", "q_proj")), "stands twice"),
            (lambda: memory.activations("llama-2-7b", 1, dtype="nf4"), "not in nf4"),
            (lambda: memory.activations("llama-2-7b", 1, autocast="nf4"), "not in nf4"),
            (lambda: memory.prefill_bytes("llama-2-7b", -5), "cannot be negative"),
            (
                lambda: Architecture.from_config(LLAMA | {"num_key_value_heads": "2"}),
                "positive integer num_key_value",
            ),
            (
                lambda: Architecture.from_config(LLAMA | {"layer_types": ["full_attention"]}),
                "1 layer_types for 32",
            ),
            (lambda: Architecture.from_config({"model_type": "bert"}), "it knows llama"),
            (
                lambda: Architecture.from_config({"model_type": "llama", "vocab_size": 5}),
                "positive integer hidden_size",
            ),
        ],
    )
    def test_error_says_what_to_do(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()

    def test_directory_without_config(self, tmp_path):
        with pytest.raises(ValueError, match="no config.json"):
            architecture(tmp_path)

    @pytest.mark.parametrize(("text", "message"), [("{", "not a readable"), ("[]", "holds one object")])
    def test_broken_config(self, tmp_path, text, message):
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            architecture(tmp_path)

    def test_hub_out_of_reach_names_what_works_offline(self, monkeypatch):
        def offline(*_, **__):
            raise ConnectionError("no route")

        monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
        with pytest.raises(ValueError, match="works offline: llama-2-7b"):
            architecture("someone/some-model")


def test_a_local_directory_and_a_hub_id_give_the_same_as_the_catalogue(tmp_path):
    config = catalogue()["mistral-7b"]["config"]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    local = architecture(tmp_path)
    assert (
        local.tensors
        == architecture("mistralai/Mistral-7B-v0.1").tensors
        == architecture("mistral-7b").tensors
    )


def test_a_window_of_null_means_full_attention():
    config = {**catalogue()["mistral-7b"]["config"], "sliding_window": None}
    assert set(Architecture.from_config(config).windows) == {None}


def test_a_multimodal_config_gives_its_language_model():
    """As the hub has it: what equals the defaults of transformers' config class is left out."""
    stated = {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
    }
    config = {"model_type": "gemma3", "text_config": stated | {"sliding_window": 1024}}
    assert Architecture.from_config(config).tensors == architecture("gemma-3-4b").tensors
    assert Architecture.from_config(config).windows == architecture("gemma-3-4b").windows


def test_the_catalogue_cannot_be_changed_by_its_readers():
    catalogue()["llama-2-7b"]["config"].pop("hidden_size")
    assert architecture("meta-llama/Llama-2-7b-hf").parameters() == 6_738_415_616
