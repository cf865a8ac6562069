"""Rounding, NF, GPTQ and AWQ at equal bits on the course LM: `python -m benchmarks.bakeoff`.

Every method that looks at text is given five different ones. Each model takes the whole exam. Three questions are asked, one table
each: which method is best, on the model as it is and with outliers planted; what the kind of text changes; how much of it is
needed. An hour on two cores. It writes the results files that lectures 06 and 07 show, after each row.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coursepkg import courselm, evaluation, intervals, load_model, outliers, ptq
from coursepkg.affine import Scheme
from coursepkg.codebooks import Codebook, normal_float
from coursepkg.courselm.calibration_text import DOMAINS
from coursepkg.evaluation import Interval, Method
from coursepkg.evaluation.exam import pieces
from coursepkg.weight_formats import Affine, Blocks

OUTPUT = Path(__file__).resolve().parents[1] / "coursepkg" / "results"
PACKAGES = ("torch", "transformers")
SEEDS = range(5)
GROUP, TOKENS = 64, 16_384


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--only", choices=list(TABLES), help="one table, not all")
    given = parser.parse_args()
    for name, table in TABLES.items():
        if given.only in (None, name):
            rows = []
            for row in table(Judge()):
                rows.append(row)
                print(f"{name}: {row}", flush=True)
                write(given.output / f"{name}.json", rows)


@dataclass
class Judge:
    """The course LM, what it is asked, and what it answers without quantization."""

    planted: bool = False
    model: Any = field(init=False)
    tokenizer: Any = field(init=False)

    def __post_init__(self) -> None:
        self.model, self.tokenizer = load_model(dtype=torch.float32)
        self.exam = courselm.exam()
        self.pieces = pieces(self.model, self.tokenizer, self.exam)
        if self.planted:
            outliers.plant(self.model, courselm.calibration(self.tokenizer, 1, seed=99)[0])

    def text(self, seed: int, tokens: int = TOKENS, domain: str = DOMAINS[0]) -> list[torch.Tensor]:
        return courselm.calibration(self.tokenizer, tokens, seed, domain)

    def scores(self, method: Method) -> dict[str, np.ndarray]:
        """Of one model: right answers, and by text the sums of KL divergence and of negative log-likelihood; and the seconds it took."""
        start = time.perf_counter()
        made = evaluation.rounding.quantized(self.model, method)
        seconds = time.perf_counter() - start
        marks = evaluation.take(made, self.tokenizer, self.exam)
        kl = evaluation.divergence(made, self.model, self.pieces)
        print(f"    {seconds:.0f} s, KL {kl.nats:.5f}, exam {marks.accuracy:.1%}", file=sys.stderr)
        return {"right": marks.right, "kl": kl.kl, "nll": marks.text.nll, "tokens": kl.tokens}


class Scores:
    """Those of one method over its texts to calibrate with."""

    def __init__(self, runs: list[dict[str, np.ndarray]]) -> None:
        self.runs = runs

    def mean(self, what: str) -> np.ndarray:
        """By question or text, the mean over the runs."""
        return np.mean([run[what] for run in self.runs], axis=0)

    def row(self, against: "Scores | None" = None) -> dict[str, Any]:
        """Intervals of the mean over the runs, and each run's value. against: what the differences are from, paired."""
        tokens = self.mean("tokens")
        nats = intervals.ratio(self.mean("nll"), tokens)
        made = {
            "exam": numbers(intervals.mean(self.mean("right")), 4),
            "perplexity": numbers(Interval(*np.exp([nats.value, nats.low, nats.high]).tolist()), 4),
            "kl": numbers(intervals.ratio(self.mean("kl"), tokens), 6),
            "kl_by_seed": [round(float(run["kl"].sum() / tokens.sum()), 6) for run in self.runs],
            "exam_by_seed": [round(float(run["right"].mean()), 4) for run in self.runs],
        }
        if against is not None:
            further = intervals.ratio(self.mean("kl") - against.mean("kl"), tokens)
            points = intervals.mean(self.mean("right") - against.mean("right"))
            made |= {"kl_against": numbers(further, 6), "exam_against": numbers(points, 4)}
        return made


def numbers(interval: Interval, digits: int) -> list[float]:
    return [round(each, digits) for each in (interval.value, interval.low, interval.high)]


Change = Callable[[Any, list[torch.Tensor]], Any]


def contestants(scheme: Scheme) -> dict[str, Change]:
    """What is done to a model with some text to look at."""

    def both(model: Any, text: list[torch.Tensor]) -> None:
        ptq.salience(model, text, scheme, clip=False)
        ptq.gptq(model, text, scheme, act_order=True)

    def clipped(model: Any, text: list[torch.Tensor]) -> None:
        ptq.salience(model, text, scheme)
        ptq.gptq(model, text, scheme, act_order=True)

    return {
        "GPTQ": lambda model, text: ptq.gptq(model, text, scheme),
        "GPTQ, act order": lambda model, text: ptq.gptq(model, text, scheme, act_order=True),
        "AWQ, scales only": lambda model, text: ptq.awq(model, text, scheme, clip=False),
        "AWQ": lambda model, text: ptq.awq(model, text, scheme),
        "AWQ scales + GPTQ, act order": both,
        "AWQ + GPTQ, act order": clipped,
    }


def bakeoff(judge: Judge) -> Iterator[dict[str, Any]]:
    """Which method is best, at 4 and 3 bits: on the model as it is, and with outliers planted."""
    for model in ("as trained", "outliers planted"):
        judge = Judge() if model == "as trained" else Judge(planted=True)
        for bits in (4, 3):
            scheme = Scheme(bits, granularity=GROUP, scale_dtype=torch.float16)
            kind = Affine(scheme)
            nf = Blocks(Codebook(f"NF{bits}", normal_float(bits)), block_size=2 * GROUP)
            fixed = {
                "rounding": evaluation.stored_as(kind),
                f"NF{bits}, block of 128": evaluation.stored_as(nf),
            }
            rounding = None
            for name, method in fixed.items():
                found = Scores([judge.scores(method)])
                rounding = rounding or found
                effective = evaluation.rounding.effective_bits(judge.model, method)
                yield {"model": model, "bits": bits, "name": name, "effective_bits": effective} | found.row(
                    rounding
                )
            effective = evaluation.rounding.effective_bits(judge.model, fixed["rounding"])
            for name, change in contestants(scheme).items():
                found = Scores([judge.scores(_method(kind, change, judge.text(seed))) for seed in SEEDS])
                yield {"model": model, "bits": bits, "name": name, "effective_bits": effective} | found.row(
                    rounding
                )


def calibration_texts(judge: Judge) -> Iterator[dict[str, Any]]:
    """What the kind of text changes, and how much of it is needed: GPTQ and AWQ at 3 bits."""
    scheme = Scheme(3, granularity=GROUP, scale_dtype=torch.float16)
    kind = Affine(scheme)
    for name in ("GPTQ, act order", "AWQ"):
        change, first = contestants(scheme)[name], None
        asked = [(domain, TOKENS) for domain in DOMAINS]
        asked += [(DOMAINS[0], tokens) for tokens in (2_048, 4_096, 8_192, 32_768, 65_536)]
        for domain, tokens in asked:
            texts = [judge.text(seed, tokens, domain) for seed in list(SEEDS)[:3]]
            found = Scores([judge.scores(_method(kind, change, text)) for text in texts])
            first = first or found
            yield {"name": name, "domain": domain, "tokens": tokens} | found.row(first)


def _method(kind: Affine, change: Change, text: list[torch.Tensor]) -> Method:
    return Method("", kind.storage(), lambda model: change(model, text))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The rows so far, with what made them."""
    made = {
        "measured": True,
        "command": f"python -m benchmarks.bakeoff --only {path.stem}",
        "machine": {"device": "a CPU", "machine": platform.machine(), "threads": torch.get_num_threads()},
        "versions": {name: version(name) for name in PACKAGES},
        "rows": rows,
    }
    path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


TABLES = {"bakeoff": bakeoff, "calibration_texts": calibration_texts}

if __name__ == "__main__":
    main()
