"""Published perplexities: what tables of papers, and their authors' repositories, say; nothing here was measured by the course.

    >>> from coursepkg import papers
    >>> papers.perplexity("awq", "LLaMA-7B", "GPTQ", bits=4)
    6.22

The tables stand in `tables.toml`. Values of two tables are only comparable where data set and protocol are the same.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

Method = Literal[
    "fp32",
    "fp16",
    "RTN",
    "GPTQ",
    "GPTQ, reordered",
    "AWQ",
    "SmoothQuant",
    "absmax",
    "zeropoint",
    "absmax, row-wise",
    "absmax, vector-wise",
    "zeropoint, vector-wise",
    "absmax, row-wise, decomposed",
    "LLM.int8()",
    "LLM.int8(), zeropoint",
]


@dataclass(frozen=True)
class Perplexity:
    """One value of a table.

    method: "fp16" and "fp32" are the model as it was trained, "RTN" is rounding to the nearest. bits: of the weights, and with methods that round
    activations, of these, too. group: how many weights share a scale: a number of neighbours, "channel", "tensor" or "row" (LLM.int8()'s); None where nothing
    is rounded.
    """

    model: str
    method: Method
    bits: int
    group: int | str | None
    value: float


@dataclass(frozen=True)
class Table:
    """A table as it was published.

    source: authors and title. version, number: which edition, and which table of it. dataset, protocol: on what, and how, perplexity was
    measured. checked: what the values here were compared with, or "from memory".
    """

    key: str
    source: str
    version: str
    number: str
    dataset: str
    protocol: str
    checked: str
    rows: tuple[Perplexity, ...]

    def __str__(self) -> str:
        return f"{self.source} ({self.version}), {self.number}: {self.dataset}"


@cache
def tables() -> dict[str, Table]:
    """Every table, by key. Raises ValueError where a key is there twice, a method is not known, or a table has two values for one thing."""
    text = files("coursepkg.papers").joinpath("tables.toml").read_text(encoding="utf-8")
    found: dict[str, Table] = {}
    for entry in tomllib.loads(text)["table"]:
        rows = tuple(Perplexity(**{"group": None, **row}) for row in entry.pop("rows"))
        made = Table(**entry, rows=rows)
        if made.key in found:
            raise ValueError(f"two tables are called {made.key!r}")
        _check(made)
        found[made.key] = made
    return found


def _check(table: Table) -> None:
    if unknown := {row.method for row in table.rows} - set(get_args(Method)):
        raise ValueError(f"table {table.key!r} has methods that are not known: {', '.join(sorted(unknown))}")
    places = [(row.model, row.method, row.bits, row.group) for row in table.rows]
    if twice := {place for place in places if places.count(place) > 1}:
        raise ValueError(f"table {table.key!r} has two values for {sorted(twice)}")


def table(key: str) -> Table:
    """The table called `key`. Raises ValueError where there is none."""
    if key not in tables():
        raise ValueError(f"no table {key!r}; there are {', '.join(tables())}")
    return tables()[key]


def perplexity(
    key: str, model: str, method: Method, bits: int | None = None, group: int | str | None = None
) -> float:
    """The table's perplexity of a model quantized by a method. bits, group: needed where the table has the method with several.

    Raises ValueError where no value, or more than one, is meant.
    """
    found = [
        row
        for row in table(key).rows
        if (row.model, row.method) == (model, method)
        and bits in (None, row.bits)
        and group in (None, row.group)
    ]
    if len(found) != 1:
        there = sorted({f"{row.model}, {row.method}" for row in table(key).rows})
        several = ", ".join(f"{row.bits} bits, group {row.group}" for row in found)
        raise ValueError(
            f"table {key!r} has several values for {model}, {method}: {several}; say which"
            if found
            else f"table {key!r} has no such value for {model}, {method}; it has {'; '.join(there)}"
        )
    return found[0].value
