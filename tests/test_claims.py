"""The claims ledger: every value that it states is what the package computes."""

from pathlib import Path
from typing import get_args

import pytest

from coursepkg import claims

VALUES = [pytest.param(v, id=f"{c.key}: {v.what}") for c in claims.ledger().values() for v in c.values]


@pytest.mark.parametrize("value", VALUES)
def test_the_value_is_what_the_package_computes(value):
    assert value.compute() == value.expected, f"{value.expression} gives {value.compute()}"


def test_entries_are_complete():
    for entry in claims.ledger().values():
        assert entry.verdict in get_args(claims.Verdict), entry.key
        assert entry.key[:3] in claims.SOURCES and entry.values and entry.so.endswith((".", ":", ")")), (
            entry.key
        )


def test_every_claim_stands_in_its_lecture():
    notebooks = Path(__file__).parents[1] / "notebooks"
    missing = [
        key
        for key, entry in claims.ledger().items()
        if f'"{key}"' not in (notebooks / f"{entry.topic}.py").read_text(encoding="utf-8")
    ]
    assert not missing


def test_a_key_that_is_there_twice_is_refused(monkeypatch):
    entry = {"key": "a", "topic": "", "claim": "", "verdict": "wrong", "so": "", "values": []}
    monkeypatch.setattr(claims.tomllib, "loads", lambda _: {"claim": [entry, entry]})
    with pytest.raises(ValueError, match="two entries of the ledger are called 'a'"):
        claims.ledger.__wrapped__()


def test_printed(capsys):
    claims.check("003-q8-0")
    assert "WRONG. Each block of 32" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no claim 'x'"):
        claims.claim("x")
