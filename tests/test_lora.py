"""LoRA beside peft: the same first values, outputs, gradients, deltas, merged weights and files, bit for bit."""

import json

import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft import PeftModel, get_peft_model, get_peft_model_state_dict

from coursepkg import lora_model, memory, trials
from coursepkg.affine import Scheme
from coursepkg.lora import LoraConfig, LoraLinear
from coursepkg.quantized_linear import QuantizedLinear
from coursepkg.quantized_model import quantize_model
from coursepkg.weight_formats import Affine

IDS = torch.arange(24).reshape(2, 12) % 60


def tiny(dtype=torch.float32, tied=True):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(trials.config("llama", tie_word_embeddings=tied)).to(dtype)


def trained(model, steps=2):
    """A few steps on one batch; the losses."""
    torch.manual_seed(5)  # dropout
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


def both(config, dtype=torch.float32):
    """Our model and peft's, with the same seed."""
    torch.manual_seed(0)
    ours = tiny(dtype)
    torch.manual_seed(1)
    lora_model.add(ours, config)
    theirs = tiny(dtype)
    torch.manual_seed(1)
    peft_config = PeftConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        use_rslora=config.rank_stabilized,
        target_modules=list(config.targets) if config.targets else "all-linear",
        trainable_token_indices=list(config.tokens) or None,
        task_type="CAUSAL_LM",
    )
    return ours, get_peft_model(theirs, peft_config)


CONFIGS = [
    LoraConfig(rank=4, alpha=8),
    LoraConfig(rank=4, alpha=8, rank_stabilized=True),
    LoraConfig(rank=3, alpha=5, dropout=0.2, targets=("q_proj", "v_proj")),
    LoraConfig(rank=4, alpha=8, tokens=(3, 500, 9)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", CONFIGS)
def test_values_outputs_training_and_merge_are_pefts(config, dtype):
    ours, theirs = both(config, dtype)
    first, other = lora_model.tensors(ours), get_peft_model_state_dict(theirs)
    assert first.keys() == other.keys()
    assert all(torch.equal(first[name], other[name]) for name in first)
    assert lora_model.trainable(ours) == theirs.get_nb_trainable_parameters()[0]
    assert trained(ours) == trained(theirs)
    assert torch.equal(ours(input_ids=IDS).logits, theirs(input_ids=IDS).logits)
    lora_model.merge(ours)
    theirs.merge_adapter()
    assert torch.equal(ours(input_ids=IDS).logits, theirs(input_ids=IDS).logits)
    lora_model.unmerge(ours)
    theirs.unmerge_adapter()
    assert torch.equal(ours(input_ids=IDS).logits, theirs(input_ids=IDS).logits)


@pytest.mark.parametrize("config", CONFIGS)
def test_files_are_read_by_peft_and_pefts_by_us(config, tmp_path):
    ours, theirs = both(config)
    trained(ours), trained(theirs)
    lora_model.save(ours, tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    wanted = ours(input_ids=IDS).logits
    assert torch.equal(
        PeftModel.from_pretrained(tiny(), tmp_path / "ours").eval()(input_ids=IDS).logits, wanted
    )
    again = tiny().eval()
    lora_model.load(again, tmp_path / "theirs")
    assert torch.equal(again(input_ids=IDS).logits, wanted)
    if config.targets:
        written = json.loads((tmp_path / "ours" / lora_model.CONFIG).read_text(encoding="utf-8"))
        assert sorted(written["target_modules"]) == sorted(config.targets)


def test_two_adapters_on_one_base_are_switched_and_both_added_as_peft_adds_them():
    ours, theirs = both(LoraConfig(rank=2))
    base = tiny().eval()(input_ids=IDS).logits
    trained(ours), trained(theirs)
    one = ours(input_ids=IDS).logits
    torch.manual_seed(2)
    lora_model.add(ours, LoraConfig(rank=3, targets=("o_proj",)), "second")
    torch.manual_seed(2)
    theirs.add_adapter("second", PeftConfig(r=3, lora_alpha=16, target_modules=["o_proj"]))
    theirs.set_adapter("second")
    assert trained(ours) == trained(theirs)
    second = ours(input_ids=IDS).logits
    assert torch.equal(second, theirs(input_ids=IDS).logits)
    assert not torch.equal(second, one)
    lora_model.activate(ours, "default")
    assert torch.equal(ours(input_ids=IDS).logits, one)
    with lora_model.disabled(ours):
        assert torch.equal(ours(input_ids=IDS).logits, base)
    assert torch.equal(ours(input_ids=IDS).logits, one)
    lora_model.activate(ours, "default", "second")
    theirs.base_model.set_adapter(["default", "second"])
    assert torch.equal(ours(input_ids=IDS).logits, theirs(input_ids=IDS).logits)
    with pytest.raises(KeyError, match="no adapter 'third'; there are default, second"):
        lora_model.activate(ours, "third")


def test_on_a_quantized_base_gradients_arrive_and_unmerging_is_exact():
    model = tiny()
    quantize_model(model, Affine(Scheme(4, granularity=16)))
    before = model(input_ids=IDS).logits
    lora_model.add(model, LoraConfig(rank=2, alpha=64))
    assert torch.equal(model(input_ids=IDS).logits, before)
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert lora_model.without_gradient(model) == []
    trained(model, 4)
    apart = model(input_ids=IDS).logits
    lora_model.merge(model)
    assert not torch.equal(model(input_ids=IDS).logits, before)
    lora_model.unmerge(model)
    assert torch.equal(model(input_ids=IDS).logits, apart)
    lora_model.unload(model)
    assert torch.equal(model(input_ids=IDS).logits, before)


def test_adapters_without_gradient_are_named():
    model = tiny()
    lora_model.add(model, LoraConfig(rank=2))
    assert len(lora_model.without_gradient(model)) == len(lora_model.layers(model))


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_tokens_are_trained_switched_merged_and_taken_away(tied):
    """As peft has them: in the embedding, and in the head only where it is tied."""
    ours, theirs = tiny(tied=tied), tiny(tied=tied)
    given = {"rank": 2, "targets": ("q_proj",)}
    before = ours(input_ids=IDS).logits
    torch.manual_seed(1)
    lora_model.add(ours, LoraConfig(**given, tokens=(1, 2)))
    torch.manual_seed(1)
    theirs = get_peft_model(
        theirs,
        PeftConfig(
            r=2,
            lora_alpha=16,
            target_modules=["q_proj"],
            trainable_token_indices=[1, 2],
            task_type="CAUSAL_LM",
        ),
    )
    assert trained(ours) == trained(theirs)
    one = ours(input_ids=IDS).logits
    assert torch.equal(one, theirs(input_ids=IDS).logits) and not torch.equal(one, before)
    lora_model.add(ours, LoraConfig(**given, tokens=(5, 2)), "second")
    trained(ours)
    assert not torch.equal(ours(input_ids=IDS).logits, one)
    with pytest.raises(ValueError, match="rows of their own for the same token"):
        lora_model.activate(ours, "default", "second")
    lora_model.activate(ours, "default")
    assert torch.equal(ours(input_ids=IDS).logits, one)
    with lora_model.disabled(ours):
        assert torch.equal(ours(input_ids=IDS).logits, before)
    lora_model.merge(ours)
    merged = ours(input_ids=IDS).logits
    assert torch.allclose(merged, one, atol=1e-5)
    lora_model.unmerge(ours)
    assert torch.equal(ours.get_input_embeddings().weight, tiny(tied=tied).get_input_embeddings().weight)
    lora_model.merge(ours)
    lora_model.unload(ours)
    assert torch.equal(ours(input_ids=IDS).logits, merged)
    assert list(ours.state_dict()) == list(tiny(tied=tied).state_dict())


def test_tokens_that_cannot_have_rows_are_refused(tmp_path):
    model = tiny()
    keys = list(model.state_dict())
    with pytest.raises(ValueError, match="the vocabulary has 1,000 tokens, and 1000 is none of them"):
        lora_model.add(model, LoraConfig(tokens=(7, 1000)))
    with pytest.raises(ValueError, match="a token stands twice"):
        lora_model.add(model, LoraConfig(tokens=(7, 7)))
    other = tiny()
    lora_model.add(other, LoraConfig(rank=2, tokens=(7, 8)))
    lora_model.save(other, tmp_path)
    written = json.loads((tmp_path / lora_model.CONFIG).read_text(encoding="utf-8"))
    written["trainable_token_indices"] = {"embed_tokens": [7, 8, 9]}
    (tmp_path / lora_model.CONFIG).write_text(json.dumps(written), encoding="utf-8")
    with pytest.raises(lora_model.NotAnAdapter, match=r"should be a tensor of shape \(3, 128\)"):
        lora_model.load(model, tmp_path)
    assert list(model.state_dict()) == keys


def test_what_does_not_fit_is_refused_and_nothing_is_changed(tmp_path):
    model = tiny()
    keys = list(model.state_dict())
    with pytest.raises(ValueError, match="no Linear layer is called 'qproj'; there are q_proj"):
        lora_model.add(model, LoraConfig(targets=("qproj",)))
    with pytest.raises(ValueError, match="cannot be an adapter's name"):
        lora_model.add(model, LoraConfig(), "a.b")
    with pytest.raises(lora_model.NotAnAdapter, match="no adapter_config.json"):
        lora_model.load(model, tmp_path)
    other = tiny()
    lora_model.add(other, LoraConfig(rank=2))
    folder = lora_model.save(other, tmp_path / "a")
    config = json.loads((folder / lora_model.CONFIG).read_text(encoding="utf-8"))
    for key, value, message in (
        ("use_dora", True, "use_dora is True"),
        ("r", 3, "is of shape"),
        ("r", 0, "rank must be at least 1"),
        ("rank_pattern", {"q_proj": 1}, "rank_pattern"),
    ):
        (folder / lora_model.CONFIG).write_text(json.dumps(config | {key: value}), encoding="utf-8")
        with pytest.raises(lora_model.NotAnAdapter, match=message):
            lora_model.load(model, folder)
    (tmp_path / lora_model.CONFIG).write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(lora_model.NotAnAdapter, match="cannot be read"):
        lora_model.load(model, tmp_path)
    assert list(model.state_dict()) == keys


def test_a_merge_that_is_not_finite_leaves_all_layers_as_they_were():
    model = tiny()
    lora_model.add(model, LoraConfig(rank=2))
    *_, last = lora_model.layers(model).values()
    last.lora_B["default"].weight.data[0, 0] = torch.inf
    with pytest.raises(ValueError, match="down_proj: the merged weight is not finite"):
        lora_model.merge(model)
    assert not any(layer.merged for layer in lora_model.layers(model).values())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rank": 0}, "rank must be at least 1"),
        ({"dropout": 1.0}, "dropout is a share"),
        ({"targets": "q_proj"}, "tuple of names"),
        ({"targets": ()}, "names no layer"),
    ],
)
def test_configs_that_make_no_sense_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        LoraConfig(**given)


def test_other_packed_weights_are_not_added_to():
    class Packed(torch.nn.Linear):
        pass

    layer = LoraLinear(Packed(4, 4))
    layer.add("default", LoraConfig(rank=2))
    with pytest.raises(TypeError, match="merge it with peft"):
        layer.merge()


def test_a_layer_with_two_names_is_adapted_once_and_under_both():
    model = tiny()
    model.model.layers[1].mlp = model.model.layers[0].mlp
    plain = model.model.layers[0].mlp.up_proj
    names = lora_model.add(model, LoraConfig(rank=2))
    assert "model.layers.1.mlp.up_proj" not in names
    assert isinstance(model.model.layers[1].mlp.up_proj, LoraLinear)
    lora_model.unload(model)
    assert model.model.layers[0].mlp.up_proj is plain and not lora_model.layers(model)
    lora_model.unload(model)


def test_two_layers_that_share_a_weight_are_not_merged():
    model = tiny()
    first, second = (model.model.layers[place].mlp.up_proj for place in (0, 1))
    second.weight = first.weight
    lora_model.add(model, LoraConfig(rank=2))
    with pytest.raises(ValueError, match=r"layers\.0\.mlp\.up_proj and model\.layers\.1\.mlp\.up_proj share"):
        lora_model.merge(model)
    assert not any(layer.merged for layer in lora_model.layers(model).values())


def test_an_adapter_saved_in_16_bits_is_trained_in_32(tmp_path):
    model = tiny()
    lora_model.add(model, LoraConfig(rank=2))
    trained(model)
    for layer in lora_model.layers(model).values():
        layer.lora_A.half(), layer.lora_B.half()
    again = tiny()
    lora_model.load(again, lora_model.save(model, tmp_path))
    assert {tensor.dtype for tensor in lora_model.tensors(again).values()} == {torch.float32}
    for name, tensor in lora_model.tensors(model).items():
        assert torch.equal(lora_model.tensors(again)[name], tensor.float())


def test_parameters_are_those_that_the_memory_budget_counts():
    model = tiny()
    lora_model.add(model, LoraConfig(rank=3))
    assert lora_model.trainable(model) == memory.Lora(rank=3).parameters(
        memory.Architecture.from_config(model.config.to_dict())
    )
    lora_model.add(tokens := tiny(), LoraConfig(rank=3, tokens=(1, 2, 3)))
    assert lora_model.trainable(tokens) == memory.Lora(rank=3, tokens=3).parameters(
        memory.Architecture.from_config(tokens.config.to_dict())
    )


def test_other_weights_in_the_same_format_can_be_put_in_a_quantized_layer():
    layer, other = (
        QuantizedLinear.of(torch.nn.Linear(16, 4), Affine(Scheme(4, granularity=16))) for _ in range(2)
    )
    layer.put(other.stored)
    assert torch.equal(layer.dequantize(), other.dequantize())
    wrong = QuantizedLinear.of(torch.nn.Linear(32, 4), Affine(Scheme(4, granularity=16))).stored
    for given in (wrong, {}, other.stored | {"more": torch.zeros(1)}):
        with pytest.raises(ValueError, match="not a tensor of shape|no place for more"):
            layer.put(given)
