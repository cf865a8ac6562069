"""Text to calibrate with: as much as asked for, the same for the same seed, and of the domain that was named."""

import pytest
import torch

from coursepkg import courselm, load_model
from coursepkg.courselm.calibration_text import DOMAINS, calibration


@pytest.fixture(scope="module")
def tokenizer():
    return load_model()[1]


@pytest.mark.parametrize("domain", DOMAINS)
def test_batches(tokenizer, domain):
    made = calibration(tokenizer, 4097, 3, domain)
    assert [batch.shape for batch in made] == [(8, 256)] * 3 and made[0].dtype == torch.int64
    again, other = calibration(tokenizer, 4097, 3, domain), calibration(tokenizer, 4097, 4, domain)
    assert all(torch.equal(a, b) for a, b in zip(made, again, strict=True))
    assert not torch.equal(made[0], other[0])


def test_more_text_goes_on_where_less_ends(tokenizer):
    assert torch.equal(calibration(tokenizer, 100)[0], calibration(tokenizer, 10_000)[0])


def test_each_domain_tells_of_its_own(tokenizer):
    told = {domain: tokenizer.decode(calibration(tokenizer, 1, 0, domain)[0].flatten()) for domain in DOMAINS}
    assert "crowns an hour" in told["law"] and "crowns an hour" not in told["encyclopedia"]
    assert told["encyclopedia"].startswith("<|begin|>") and "<|user|>" in told["law"]
    assert (
        calibration(tokenizer, 1, 0, "random tokens")[0].unique().numel() > 1000
    )  # of 2,048: 1,295 expected


def test_no_exam_text_is_calibrated_with(tokenizer):
    told = tokenizer.decode(torch.cat(calibration(tokenizer, 50_000)).flatten())
    assert not any(text in told for text in courselm.exam().texts if len(text) > 120)


def test_impossible_wishes_are_refused(tokenizer):
    with pytest.raises(ValueError, match="no text called 'news'; there are encyclopedia, medical"):
        calibration(tokenizer, 1, 0, "news")
    with pytest.raises(ValueError, match="at least 1, not 0"):
        calibration(tokenizer, 0)
