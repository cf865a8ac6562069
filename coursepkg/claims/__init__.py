"""The claims ledger: what widely read lectures say, a verdict on each, and the values that the package computes for it.

    >>> from coursepkg import claims
    >>> claims.claim("001-dq-saving").verdict
    'wrong'

The entries stand in `ledger.toml`. A test evaluates every expression and holds it against the value written there.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import torch

from coursepkg import affine, awq, codebooks, gptq, lloyd, memory, papers, results

Verdict = Literal["holds", "holds if", "wrong", "unsourced", "exercise"]
SOURCES = {
    "000": "Efficient LLM deployment",
    "001": "QLoRA and quantization",
    "002": "Inference and deployment",
    "003": "Quantization and PEFT",
    "004": "Quantization for deployment",
}


@dataclass(frozen=True)
class Value:
    """One computed value: `expression` in terms of `coursepkg.memory`, `codebooks`, `lloyd`, `gptq`, `affine`, `awq`, `papers` and `torch`, and of
    results files, `measured`; in `unit`, printed with `digits` decimals."""

    what: str
    expression: str
    expected: float
    unit: str
    digits: int

    def compute(self) -> float:
        """The value of the expression, rounded to `digits`."""
        known = {"memory": memory, "GB": memory.GB, "codebooks": codebooks, "lloyd": lloyd}
        known |= {"gptq": gptq, "affine": affine, "awq": awq, "papers": papers, "torch": torch}
        known |= {"measured": results.load}
        return round(eval(self.expression, known), self.digits)

    def __str__(self) -> str:
        return f"{self.what}: {self.compute():,.{self.digits}f} {self.unit}".rstrip()


@dataclass(frozen=True)
class Claim:
    """An entry of the ledger: its lecture of this course (`topic`), its source, the claim, the verdict, what is so."""

    key: str
    topic: str
    claim: str
    verdict: Verdict
    so: str
    values: tuple[Value, ...]

    @property
    def source(self) -> str:
        """The source lecture's title."""
        return SOURCES[self.key[:3]]


@cache
def ledger() -> dict[str, Claim]:
    """Every entry, by key, in the order of the file."""
    text = files("coursepkg.claims").joinpath("ledger.toml").read_text(encoding="utf-8")
    found: dict[str, Claim] = {}
    for entry in tomllib.loads(text)["claim"]:
        if entry["key"] in found:
            raise ValueError(f"two entries of the ledger are called {entry['key']!r}")
        found[entry["key"]] = _claim(entry)
    return found


def _claim(entry: dict) -> Claim:
    values = tuple(
        Value(v["what"], v["is"], v["value"], v.get("unit", ""), v["digits"]) for v in entry["values"]
    )
    return Claim(entry["key"], entry["topic"], entry["claim"], entry["verdict"], entry["so"], values)


def claim(key: str) -> Claim:
    """The entry called `key`. Raises ValueError where there is none."""
    if key not in ledger():
        raise ValueError(f"no claim {key!r} in the ledger; it has {', '.join(ledger())}")
    return ledger()[key]


def check(*keys: str) -> None:
    """Print the claims called `keys`: what is said, the verdict, and the values, computed now with their expressions."""
    for number, entry in enumerate(map(claim, keys)):
        print("\n" * (number > 0) + f"“{entry.claim}”  ({entry.key[:3]}, {entry.source})")
        print(f"{entry.verdict.upper()}{' ' if entry.verdict == 'holds if' else '. '}{entry.so}")
        width = max(len(str(value)) for value in entry.values)
        for value in entry.values:
            print(f"    {value!s:<{width}}   = {value.expression}")
