"""The published tables: complete, each value once, and found by what it is of."""

from typing import get_args

import pytest

from coursepkg import papers


@pytest.mark.parametrize("table", papers.tables().values(), ids=list(papers.tables()))
def test_tables_are_complete(table):
    """Each says where it stands and what it was checked against; each model has its unrounded value, which no method beats by more than 1 %."""
    said = (table.source, table.version, table.number, table.dataset, table.protocol, table.checked)
    assert all(said) and "?" not in "".join(said)
    assert {row.method for row in table.rows} <= set(get_args(papers.Method))
    unrounded = {row.model: row.value for row in table.rows if row.method in ("fp16", "fp32")}
    for row in table.rows:
        assert row.value > 0.99 * unrounded[row.model], row
        assert (row.group is None) == (row.bits >= 16) == (row.method in ("fp16", "fp32")), row
    methods = {(row.method, row.bits, row.group) for row in table.rows}
    assert len(table.rows) == len(unrounded) * len(methods)


def test_values_that_lectures_quote():
    """As read in the papers, a second time."""
    assert [papers.perplexity("awq", "LLaMA-7B", method, 4) for method in ("RTN", "GPTQ", "AWQ")] == [
        5.96,
        6.22,
        5.78,
    ]
    assert papers.perplexity("gptq-llama", "LLaMA-7B", "GPTQ, reordered", 3, 128) == 6.61
    assert papers.perplexity("smoothquant", "Llama-2-7B", "SmoothQuant") == 5.515
    assert papers.perplexity("llm-int8", "Transformer-13B", "absmax") == 19.08
    assert papers.perplexity("gptq-opt", "OPT-175B", "GPTQ", 3) == 8.68


def test_what_is_not_there_is_named():
    with pytest.raises(ValueError, match="no table 'x'; there are awq"):
        papers.table("x")
    with pytest.raises(ValueError, match="no such value for LLaMA-7B, SmoothQuant; it has .*LLaMA-7B, AWQ"):
        papers.perplexity("awq", "LLaMA-7B", "SmoothQuant")
    with pytest.raises(ValueError, match="several values for LLaMA-7B, AWQ: 3 bits, group 128, 4 bits"):
        papers.perplexity("awq", "LLaMA-7B", "AWQ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: [entry, entry], "two tables are called 'a'"),
        (lambda entry: [entry | {"rows": entry["rows"] * 2}], "two values for"),
        (lambda entry: [entry | {"rows": [entry["rows"][0] | {"method": "magic"}]}], "not known: magic"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(monkeypatch, change, message):
    row = {"model": "m", "method": "RTN", "bits": 4, "group": 128, "value": 1.0}
    said = dict.fromkeys(("source", "version", "number", "dataset", "protocol", "checked"), "x")
    entry = {"key": "a", "rows": [row], **said}
    monkeypatch.setattr(papers.tomllib, "loads", lambda _: {"table": [dict(each) for each in change(entry)]})
    with pytest.raises(ValueError, match=message):
        papers.tables.__wrapped__()
