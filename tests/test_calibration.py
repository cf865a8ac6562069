"""Calibration keeps what layers really read, and layer by layer sees what the layers before have become."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPTBigCodeConfig,
    GPTJConfig,
    GPTNeoConfig,
    MptConfig,
)

from coursepkg import calibration, surgery, trials
from coursepkg.calibration import SAMPLE, Inputs

FAMILIES = trials.FAMILIES


@pytest.fixture(params=FAMILIES)
def model(request):
    return trials.small_model(request.param, "fp32").eval()


def batches(model, count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, model.config.vocab_size, (2, length), generator=generator)
        for length in range(70, 70 + count)
    ]


def walked(model, batches, **steps) -> dict[str, Inputs]:
    """The inputs of each layer, layer by layer, nothing changed."""
    return {
        name: group.inputs
        for layer in calibration.layer_by_layer(model, batches, **steps)
        for group in layer.groups()
        for name in group.linears
    }


def read(model, name: str, batches: list[torch.Tensor]) -> torch.Tensor:
    """All that a layer reads, (tokens, features)."""
    found = []
    hook = model.get_submodule(name).register_forward_pre_hook(
        lambda _, given: found.append(given[0].flatten(0, 1))
    )
    with torch.no_grad():
        for ids in batches:
            model(input_ids=ids, use_cache=False)
    hook.remove()
    return torch.cat(found)


def test_what_is_kept_is_what_was_read(model):
    """Σ of n float32 products: off by at most n · 6e-8 of the sum of their magnitudes."""
    text = batches(model)
    found = calibration.observe(model, text)
    assert list(found) == [name for name, _ in surgery.linears(model)]
    for name, inputs in found.items():
        x = read(model, name, text)
        bound = len(x) * 6e-8 * (x.abs().double().T @ x.abs().double())
        assert inputs.tokens == len(x) == 426
        assert ((inputs.gram.double() - x.double().T @ x.double()).abs() <= bound).all()
        assert torch.equal(inputs.absmax, x.abs().amax(0)) and torch.equal(inputs.sample, x)
        assert torch.allclose(inputs.mean_abs, x.abs().mean(0), rtol=426 * 6e-8)


def test_layers_that_read_one_tensor_share_what_is_kept():
    found = calibration.observe(trials.small_model("llama", "fp32"), [torch.arange(9)[None]])
    first = "model.layers.0"
    q, k, v = (found[f"{first}.self_attn.{each}_proj"] for each in "qkv")
    assert q is k is v and q.tokens == 9
    assert found[f"{first}.mlp.gate_proj"] is found[f"{first}.mlp.up_proj"] is not q
    assert found["model.layers.1.self_attn.q_proj"] is not q


def test_each_matrix_is_made_once(monkeypatch):
    """However many batches there are: in a large model making one takes as long as filling it."""
    made = []

    class Counted(Inputs):
        def __init__(self, *given):
            made.append(given)
            super().__init__(*given)

    monkeypatch.setattr(calibration, "Inputs", Counted)
    model = trials.small_model("llama", "fp32")
    found = calibration.observe(model, batches(model, 3))
    assert len(made) == len({id(each) for each in found.values()}) == 4 * model.config.num_hidden_layers


@pytest.mark.parametrize("lengths", [(SAMPLE + 1,), (100,) * 30, (7, 3000, 1, 500)])
def test_a_sample_is_spread_evenly_over_the_tokens(lengths):
    inputs, at = Inputs(1, torch.device("cpu")), 0
    for length in lengths:
        inputs.add(torch.arange(at, at + length, dtype=torch.float32)[:, None])
        at += length
    kept = inputs.sample[:, 0]
    assert SAMPLE / 2 <= len(kept) <= SAMPLE
    assert kept.diff().unique().numel() == 1 and kept[0] == 0 and kept[-1] + kept[1] >= at


def test_layer_by_layer_sees_what_observe_sees_where_nothing_is_changed(model):
    text, before = batches(model), copy.deepcopy(model)
    seen, plain = walked(model, text), calibration.observe(model, text)
    assert sorted(seen) == sorted(plain)
    for name, inputs in seen.items():
        assert torch.equal(inputs.gram, plain[name].gram), name
    ids = text[0]
    assert torch.equal(model(input_ids=ids).logits, before(input_ids=ids).logits)


def test_each_layer_reads_what_those_before_it_have_become(model):
    """Also within a decoder layer: o after q, k, v; down after gate and up."""
    text, seen = batches(model), {}
    for layer in calibration.layer_by_layer(model, text):
        for group in layer.groups():
            for name, linear in group.linears.items():
                seen[name] = group.inputs
                made = copy.deepcopy(linear)
                made.weight.data /= 2
                layer.put(name, made)
    changed = calibration.observe(model, text)
    for name, inputs in seen.items():
        assert torch.equal(inputs.gram, changed[name].gram), name
    assert len(seen) == len(changed)


def test_a_layer_can_be_filled_when_its_turn_comes():
    """On the meta device until then: one decoder layer's weights at a time are in memory."""
    whole = trials.small_model("llama", "fp32").eval()
    lazy, text, filled = copy.deepcopy(whole), batches(whole), []
    for _, layer in surgery.decoder_layers(lazy):
        layer.to("meta")

    def fill(name, layer):
        assert all(p.is_meta for p in layer.parameters())
        layer.to_empty(device="cpu").load_state_dict(whole.get_submodule(name).state_dict())
        filled.append(name)

    seen = walked(lazy, text, before=fill)
    assert filled == [name for name, _ in surgery.decoder_layers(whole)]
    plain = calibration.observe(whole, text)
    assert all(torch.equal(seen[name].gram, plain[name].gram) for name in plain)


def test_text_that_is_missing_is_said():
    model = trials.small_model("llama", "fp32")
    with pytest.raises(ValueError, match="batches is empty"):
        calibration.observe(model, [])
    with pytest.raises(ValueError, match="batches is empty"):
        next(calibration.layer_by_layer(model, []))
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x: mlp.gate_proj(x)[..., : x.shape[-1]]
    with pytest.raises(
        ValueError, match=r"reaches no model\.layers\.1\.mlp\.up_proj, model\.layers\.1\.mlp\.down"
    ):
        walked(model, batches(model))


def test_nothing_stays_hooked_where_quantizing_fails():
    model = trials.small_model("llama", "fp32").eval()
    before = model(input_ids=torch.arange(5)[None]).logits
    with pytest.raises(RuntimeError):
        for layer in calibration.layer_by_layer(model, batches(model)):
            for _ in layer.groups():
                raise RuntimeError
    assert not any(module._forward_pre_hooks or "forward" in vars(module) for module in model.modules())
    assert torch.equal(model(input_ids=torch.arange(5)[None]).logits, before)


def test_a_layer_that_is_used_twice_is_seen_twice():
    """What it is given the second time counts, too; only what comes after that is not run."""
    model = trials.small_model("llama", "fp32").eval()
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x: mlp.down_proj(mlp.up_proj(x) * mlp.gate_proj(x)) + mlp.down_proj(mlp.up_proj(-x))
    seen, plain = walked(model, batches(model)), calibration.observe(model, batches(model))
    for each in ("up", "gate", "down"):
        name = f"model.layers.1.mlp.{each}_proj"
        assert torch.equal(seen[name].gram, plain[name].gram) and seen[name].tokens == plain[name].tokens


def test_all_of_a_layer_at_once_without_gram_matrices(model):
    text = batches(model)
    plain = calibration.observe(model, text)
    for layer in calibration.layer_by_layer(model, text):
        for group in layer.observe():
            for name in group.linears:
                assert group.inputs.gram is None and torch.equal(group.inputs.absmax, plain[name].absmax)


def test_sources_have_full_names_and_are_tried_on_one_sequence(monkeypatch):
    model, seen = trials.small_model("qwen2", "fp32").eval(), []
    model.model.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[0]))
    layer = next(calibration.layer_by_layer(model, batches(model)))
    seen.clear()
    names = [source.name for source in layer.sources()]
    assert set(seen) == {1} and "model.layers.0.self_attn.v_proj" in names
    assert [norm.name for norm in layer.norms()] == names[:2]


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(hidden_size=32, n_layer=2, n_head=2, vocab_size=96),
        MptConfig(d_model=32, n_layers=2, n_heads=2, vocab_size=96),
        GPTJConfig(n_embd=32, n_layer=2, n_head=2, rotary_dim=8, vocab_size=96),
        GPTNeoConfig(
            hidden_size=32,
            num_layers=2,
            num_heads=2,
            vocab_size=96,
            attention_types=[[["global", "local"], 1]],
        ),
        GPTBigCodeConfig(n_embd=32, n_layer=2, n_head=2, vocab_size=96),
    ],
    ids=lambda config: config.model_type,
)
def test_layers_may_give_tuples_and_be_given_more_by_place(config):
    """BLOOM's are also given a tensor with a row for each sequence and head, MPT's one with a row for each head."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    text = batches(model)
    seen, plain = walked(model, text), calibration.observe(model, text)
    assert sorted(seen) == sorted(plain)
    assert all(torch.equal(seen[name].gram, plain[name].gram) for name in plain)
    assert next(calibration.layer_by_layer(model, text)).sources()


def test_layers_that_make_no_hidden_states_are_refused_by_name():
    model = trials.small_model("llama", "fp32")
    model.model.layers[0].forward = lambda hidden_states, **_: {"hidden_states": hidden_states}
    with pytest.raises(ValueError, match="the layers of LlamaForCausalLM do not make hidden states"):
        walked(model, batches(model))


@pytest.mark.parametrize(
    "wrong",
    [
        torch.arange(8).reshape(2, 4),
        [torch.arange(4)],
        [torch.zeros(2, 4)],
        [torch.zeros(1, 0).long()],
        ["a"],
    ],
)
@pytest.mark.parametrize(
    "look", [calibration.observe, lambda *given: next(calibration.layer_by_layer(*given))]
)
def test_what_is_no_batch_is_said(wrong, look):
    with pytest.raises(ValueError, match="each batch must be token ids, int64"):
        look(trials.small_model("llama", "fp32"), wrong)


def test_batches_may_be_an_iterator():
    model = trials.small_model("llama", "fp32")
    seen, plain = walked(model, iter(batches(model))), calibration.observe(model, iter(batches(model)))
    assert all(torch.equal(seen[name].gram, plain[name].gram) for name in plain)


def test_a_forward_that_was_put_there_stays():
    """accelerate puts its own in the place of a layer's."""
    model = trials.small_model("llama", "fp32")
    layer = model.model.layers[1]
    layer.forward = own = layer.forward
    walked(model, batches(model))
    assert vars(layer)["forward"] is own
    assert not any("forward" in vars(each) for each in model.model.layers if each is not layer)


def test_where_it_ends_early_the_layer_goes_back():
    model, moved = trials.small_model("llama", "fp32"), []
    layer = model.model.layers[0]
    layer.to = lambda device: moved.append(str(device)) or layer
    layers = calibration.layer_by_layer(model, batches(model), device="cpu:0")
    next(layers)
    assert moved == ["cpu:0"] and not model.training
    layers.close()
    assert moved == ["cpu:0", "cpu"] and model.training


def test_dropout_is_off_meanwhile():
    model = trials.small_model("llama", "fp32", attention_dropout=0.5).train()
    model.model.layers[1].eval()
    text, modes = batches(model), {name: module.training for name, module in model.named_modules()}
    quiet = copy.deepcopy(model).eval()
    plain = calibration.observe(quiet, text)
    for seen in (calibration.observe(model, text), walked(model, text)):
        assert all(torch.equal(seen[name].gram, plain[name].gram) for name in plain)
    assert {name: module.training for name, module in model.named_modules()} == modes
    layers = calibration.layer_by_layer(model, text)
    assert len(next(layers).sources()) == 4


def test_what_is_put_in_a_layers_place_is_in_its_mode():
    model = trials.small_model("llama", "fp32").train()
    for layer in calibration.layer_by_layer(model, batches(model)):
        for group in layer.groups():
            for name, linear in group.linears.items():
                layer.put(name, copy.deepcopy(linear))
    assert all(module.training for module in model.modules())


def test_a_layer_may_be_reached_by_a_later_batch_alone():
    """As an expert may be. What its neighbour reads in other batches is not its own."""
    model = trials.small_model("llama", "fp32").eval()
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x: mlp.down_proj(mlp.gate_proj(x) * (mlp.up_proj(x) if x.shape[1] == 71 else 1))
    text = batches(model)
    seen, plain = walked(model, text), calibration.observe(model, text)
    for each, tokens in (("gate", 426), ("up", 142), ("down", 426)):
        name = f"model.layers.1.mlp.{each}_proj"
        assert seen[name].tokens == tokens and torch.equal(
            seen[name].gram,
            calibration.observe(model, text[1:2])[name].gram if each == "up" else plain[name].gram,
        )
