"""Loading: the course LM, a folder, a name on a hub that does not answer; and what plain transformers makes of it."""

import shutil

import huggingface_hub.constants
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import coursepkg
from coursepkg import courselm, runtime
from coursepkg.courselm import checkpoint
from coursepkg.loading import ModelNotFound, load_model


@pytest.fixture
def offline(monkeypatch):
    """Both the variable, which `runtime` reads, and what huggingface_hub made of it when it was imported."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_the_course_lm_is_what_load_model_loads():
    model, tokenizer = coursepkg.load_model()
    assert not model.training and model.dtype == runtime.dtype(runtime.device()).dtype
    assert model.num_parameters() == 5_049_600
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert all(layer.in_features % 256 == 0 for layer in layers)
    assert len(tokenizer) <= model.config.vocab_size


def test_plain_transformers_loads_the_same_weights():
    plain = AutoModelForCausalLM.from_pretrained(checkpoint.shipped(), dtype=torch.float32)
    ours, tokenizer = load_model(dtype=torch.float32, device_map=None)
    for (name, a), (_, b) in zip(plain.named_parameters(), ours.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert AutoTokenizer.from_pretrained(checkpoint.shipped()).get_vocab() == tokenizer.get_vocab()
    assert AutoModelForCausalLM.from_pretrained(checkpoint.shipped()).dtype == torch.float16


def test_the_checkpoint_is_small_and_whole():
    checkpoint.verify(checkpoint.shipped())
    assert (checkpoint.shipped() / checkpoint.WEIGHTS).stat().st_size <= 20e6


def test_the_card_can_stand_inside_another_page():
    assert courselm.card().lstrip().startswith("# The course LM\n")
    assert "\n### Limits\n" in courselm.card(deeper=1) and "---" not in courselm.card().splitlines()


def test_a_folder_is_loaded_whether_given_as_text_or_path(tmp_path):
    model, tokenizer = load_model()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for name in (tmp_path, str(tmp_path)):
        again, _ = load_model(name)
        assert torch.equal(again.lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize(
    "name", ["./nowhere", "/no/such/folder", "C:\\models\\mine", "one/two/three", "~/no-such-model"]
)
def test_a_folder_that_is_not_there_is_said_to_be_missing(name):
    with pytest.raises(ModelNotFound, match="there is no folder .* load_model\\(\\) loads the course LM"):
        load_model(name)


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    model, tokenizer = load_model()
    model.save_pretrained(tmp_path / "mine")
    tokenizer.save_pretrained(tmp_path / "mine")
    assert load_model("~/mine")[0].num_parameters() == model.num_parameters()


def test_weights_that_broke_off_are_said_to_be_unreadable(tmp_path):
    model, tokenizer = load_model()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x08\x00")
    with pytest.raises(ModelNotFound, match="holds no checkpoint that transformers can read"):
        load_model(tmp_path)


def test_loading_leaves_nothing_among_a_notebooks_outputs(capsys):
    load_model()
    assert capsys.readouterr() == ("", "")


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match="holds no checkpoint that transformers can read"):
        load_model(tmp_path)


def test_a_hub_that_cannot_be_reached_points_to_the_course_lm(offline):
    with pytest.raises(ModelNotFound) as caught:
        load_model("Qwen/Qwen3-0.6B")
    said = str(caught.value)
    assert "could not be loaded: it is not here, and the hub cannot be reached (HF_HUB_OFFLINE is set" in said
    assert "The course LM ships with the package" in said


@pytest.mark.parametrize("damage", ["missing", "pointer"])
def test_a_damaged_checkpoint_is_not_loaded(tmp_path, damage, monkeypatch):
    copy = tmp_path / "checkpoint"
    shutil.copytree(checkpoint.shipped(), copy)
    if damage == "missing":
        (copy / "tokenizer.json").unlink()
    else:
        (copy / checkpoint.WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\n")
    monkeypatch.setattr(checkpoint, "shipped", lambda: copy)
    checkpoint.folder.cache_clear()
    try:
        with pytest.raises(checkpoint.Damaged, match="install the package again"):
            load_model()
    finally:
        checkpoint.folder.cache_clear()
