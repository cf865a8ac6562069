"""WikiText-2 through `datasets`, from a copy that the test makes; and what is said where there is none."""

import math

import huggingface_hub.constants
import pytest

from coursepkg import trials
from coursepkg.courselm import tokenizer as course_tokenizer
from coursepkg.evaluation import likelihood, wikitext, windows

LINES = [
    "",
    " = Ada Marlby = \n",
    "",
    "Ada Marlby was born in Aberford .\n",
    " She lived there for 41 years .\n",
] * 30
CARD = """---
configs:
- config_name: wikitext-2-raw-v1
  data_files:
  - split: test
    path: wikitext-2-raw-v1/test-*.parquet
---
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A folder laid out as the data set is on the hub."""
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path_factory.mktemp("wikitext")
    (folder / "README.md").write_text(CARD)
    (folder / "wikitext-2-raw-v1").mkdir()
    table = pyarrow.table({"text": LINES})
    pyarrow.parquet.write_table(table, folder / "wikitext-2-raw-v1" / "test-00000-of-00001.parquet")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))


def test_the_lines_are_joined_as_the_papers_code_does(copy):
    assert wikitext.test_text(copy) == "\n\n".join(LINES)


def test_a_model_with_random_weights_is_about_as_surprised_as_its_vocabulary_is_large(copy):
    """Untrained logits are near 0, so each of 2,048 tokens is about equally likely: ln 2048 nats, ± 2 %."""
    model, tokenizer = trials.small_model("llama", "fp32", vocab_size=2048), course_tokenizer.train(3000)
    found = wikitext.measure(model, tokenizer, copy, length=32)
    whole = windows(tokenizer, wikitext.test_text(copy), 32)
    assert len(found.nll) == len(whole) and (found.tokens == 31).all()
    assert math.log(found.perplexity.value) == pytest.approx(math.log(2048), rel=0.02)
    assert found.perplexity == likelihood(model, whole).perplexity


def test_the_window_is_what_the_model_can_read_at_most(copy):
    model = trials.small_model("llama", "fp32", vocab_size=2048, max_position_embeddings=64)
    found = wikitext.measure(model, course_tokenizer.train(3000), copy)
    assert (found.tokens == 63).all()


def test_without_the_text_the_error_points_to_the_course_lms_own(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(wikitext.NoText, match="there is no folder"):
        wikitext.test_text(tmp_path / "nowhere")
    with pytest.raises(wikitext.NoText, match="cannot be read from .*the hub cannot be reached") as caught:
        wikitext.test_text("Salesforce/no-such-wikitext")
    assert "held-out text of its own" in str(caught.value)


def test_without_datasets_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(wikitext.NoText, match=r"pip install 'coursepkg\[hub\]'"):
        wikitext.test_text()
