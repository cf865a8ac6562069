"""Rounding, NF, GPTQ and AWQ at equal bits on the course LM: `python -m benchmarks.bakeoff`.

Every method that looks at text is given several. Each model answers the exam's questions with options, and its predictions are held
against the unrounded model's on the exam's texts. Three tables: which method is best, on the model as it is and with outliers of two
kinds; what act order gains; what the kind of text changes, and how much of it is needed. An hour on two idle cores. It writes the
results files that lectures 06 and 07 show, after each row; a run that was cut off goes on, and `--again` begins anew.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coursepkg import courselm, evaluation, intervals, load_model, outliers, ptq, steady_outliers
from coursepkg.affine import Scheme
from coursepkg.codebooks import Codebook, normal_float
from coursepkg.courselm.calibration_text import DOMAINS
from coursepkg.evaluation import Interval, Method
from coursepkg.evaluation.exam import pieces
from coursepkg.weight_formats import Affine, Blocks, WeightFormat

OUTPUT = Path(__file__).resolve().parents[1] / "coursepkg" / "results"
PACKAGES = ("torch", "transformers")
SEEDS = range(5)
GROUP, TOKENS = 64, 8_192
#: Where kinds of text are compared, and other lengths of the first kind.
LONGER, LENGTHS = 16_384, (2_048, 8_192, 65_536)
#: What is done to the model first.
PLANT = {"outliers planted": outliers.plant, "steady outliers": steady_outliers.plant}
#: Outliers planted by a factor make the Gram matrix's mean diagonal 70 to 80 times as large, and 1 % of it with it.
LESS_DAMPING = 0.01 / 80

Row = dict[str, Any]
#: What was counted of one model, by question or by text.
Run = dict[str, np.ndarray]
#: What a row is about, and what measures the rest of it.
Table = Iterator[tuple[Row, Callable[[], Row]]]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--only", choices=list(TABLES), help="one table, not all")
    parser.add_argument("--again", action="store_true", help="measure rows anew that are there")
    given = parser.parse_args()
    for name, table in TABLES.items():
        if given.only in (None, name):
            path = given.output / f"{name}.json"
            kept = (
                []
                if given.again or not path.is_file()
                else json.loads(path.read_text(encoding="utf-8"))["rows"]
            )
            rows: list[Row] = []
            for what, measure in table():
                row = next((each for each in kept if what.items() <= each.items()), None) or what | measure()
                rows.append(row)
                print(f"{name}: {row}", flush=True)
                write(path, rows + kept[len(rows) :])


@dataclass
class Judge:
    """The course LM, what it is asked, and what it answers without quantization."""

    kind: str = "as trained"
    model: Any = field(init=False)
    tokenizer: Any = field(init=False)

    def __post_init__(self) -> None:
        self.model, self.tokenizer = load_model(dtype=torch.float32)
        self.pieces = pieces(self.model, self.tokenizer, courselm.exam())
        self.exam = replace(courselm.exam(), free=(), texts=())
        self.reference = Remembering(self.model)
        if self.kind in PLANT:
            PLANT[self.kind](self.model, courselm.calibration(self.tokenizer, 1, seed=99)[0])

    def text(self, seed: int, tokens: int = TOKENS, domain: str = DOMAINS[0]) -> list[torch.Tensor]:
        return courselm.calibration(self.tokenizer, tokens, seed, domain)

    def scores(self, method: Method) -> Run:
        """Of one model: right answers, and by text the sums of KL divergence and of negative log-likelihood; and the seconds it took."""
        start = time.perf_counter()
        made = evaluation.rounding.quantized(self.model, method)
        seconds = time.perf_counter() - start
        marks = evaluation.take(made, self.tokenizer, self.exam)
        kl = evaluation.divergence(made, self.reference, self.pieces)
        print(f"    {seconds:.0f} s, KL {kl.nats:.5f}, exam {marks.accuracy:.1%}", file=sys.stderr)
        return {"right": marks.right, "kl": kl.kl, "tokens": kl.tokens}


class Remembering:
    """A model that is asked the same texts for every row, and computes its answers once."""

    def __init__(self, model: Any) -> None:
        self.model, self.device, self.training, self.said = model, model.device, model.training, {}

    def __call__(self, input_ids: torch.Tensor, **options: Any) -> Any:
        key = (*input_ids.shape, input_ids.numpy().tobytes())
        if key not in self.said:
            self.said[key] = self.model(input_ids=input_ids, **options)
        return self.said[key]

    def eval(self) -> None:
        self.model.eval()

    def train(self, mode: bool) -> None:
        self.model.train(mode)


class Scores:
    """Those of one method over its texts to calibrate with."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs

    def mean(self, what: str) -> np.ndarray:
        """By question or text, the mean over the runs."""
        return np.mean([run[what] for run in self.runs], axis=0)

    def row(self, against: "Scores | None" = None) -> Row:
        """Intervals of the mean over the runs, and each run's value. against: what the differences are from, paired."""
        tokens = self.mean("tokens")
        made = {
            "exam": numbers(intervals.mean(self.mean("right")), 4),
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
        ptq.salience(model, text, scheme)
        ptq.gptq(model, text, scheme, act_order=True)

    return {
        "GPTQ": lambda model, text: ptq.gptq(model, text, scheme),
        "GPTQ, act order": lambda model, text: ptq.gptq(model, text, scheme, act_order=True),
        "GPTQ, 1/80 of the damping": lambda model, text: ptq.gptq(
            model, text, scheme, act_order=True, damping=LESS_DAMPING
        ),
        "AWQ": lambda model, text: ptq.awq(model, text, scheme),
        "AWQ + GPTQ, act order": both,
    }


#: Which of the contestants are in the table, where not all are.
ASKED = {
    "as trained": ("GPTQ", "GPTQ, act order", "AWQ", "AWQ + GPTQ, act order"),
    "outliers planted": ("GPTQ, act order", "GPTQ, 1/80 of the damping", "AWQ"),
    "steady outliers": ("GPTQ, act order", "AWQ"),
}


def bakeoff() -> Table:
    """Which method is best: on the model as it is, at 4 and 3 bits, and at 4 with outliers planted by a factor, and with steady ones."""
    for model, bits in (
        ("as trained", 4),
        ("as trained", 3),
        ("outliers planted", 4),
        ("steady outliers", 4),
    ):
        scheme = Scheme(bits, granularity=GROUP, scale_dtype=torch.float16)
        nf = Blocks(Codebook(f"NF{bits}", normal_float(bits)), block_size=2 * GROUP)
        fixed = {
            "rounding": Affine(scheme),
            "rounding, clipped": Affine(replace(scheme, clipping="mse")),
            f"NF{bits}, block of {2 * GROUP}": nf,
        }
        runs: dict[str, Callable[[Judge], list[Run]]] = {
            name: partial(_once, kind=kind) for name, kind in fixed.items()
        }
        for name, change in contestants(scheme).items():
            if name in ASKED[model]:
                runs[name] = partial(
                    _by_text, scheme=scheme, change=change, texts=[{"seed": seed} for seed in SEEDS]
                )
        what = {"model": model, "bits": bits, "effective_bits": bits + 16 / GROUP}
        yield from _rows({tuple((what | {"name": name}).items()): run for name, run in runs.items()}, model)


def calibration_texts() -> Table:
    """What the kind of text changes, and how much of it is needed: GPTQ and AWQ at 3 bits. Differences are from the first row's."""
    scheme = Scheme(3, granularity=GROUP, scale_dtype=torch.float16)
    for name, lengths in (("GPTQ, act order", LENGTHS), ("AWQ", LENGTHS[:1])):
        asked = [(domain, LONGER) for domain in DOMAINS] + [(DOMAINS[0], tokens) for tokens in lengths]
        change = contestants(scheme)[name]
        yield from _rows(
            {
                (("name", name), ("domain", domain), ("tokens", tokens)): partial(
                    _by_text,
                    scheme=scheme,
                    change=change,
                    texts=[{"seed": seed, "tokens": tokens, "domain": domain} for seed in SEEDS[:2]],
                )
                for domain, tokens in asked
            }
        )


def act_order() -> Table:
    """What act order gains at 3 bits, on texts of twice the length. Differences are from GPTQ without it."""
    scheme = Scheme(3, granularity=GROUP, scale_dtype=torch.float16)
    texts = [{"seed": seed, "tokens": LONGER} for seed in SEEDS]
    yield from _rows(
        {
            (("name", name), ("bits", 3), ("tokens", LONGER)): partial(
                _by_text, scheme=scheme, change=contestants(scheme)[name], texts=texts
            )
            for name in ("GPTQ", "GPTQ, act order")
        }
    )


def _rows(runs: dict[tuple, Callable[["Judge"], list[Run]]], kind: str = "as trained") -> Table:
    """A row for each entry, compared with the first; nothing is run before it is asked for."""
    judge = cache(partial(Judge, kind))
    scores = cache(lambda key: Scores(runs[key](judge())))
    first = next(iter(runs))
    for key in runs:
        yield dict(key), partial(lambda key: scores(key).row(scores(first)), key)


def _once(judge: Judge, kind: WeightFormat) -> list[Run]:
    return [judge.scores(evaluation.stored_as(kind))]


def _by_text(judge: Judge, scheme: Scheme, change: Change, texts: list[dict[str, Any]]) -> list[Run]:
    return [judge.scores(_method(Affine(scheme), change, judge.text(**text))) for text in texts]


def _method(kind: Affine, change: Change, text: list[torch.Tensor]) -> Method:
    return Method("", kind.storage(), lambda model: change(model, text))


def write(path: Path, rows: list[Row]) -> None:
    """The rows so far, with what made them."""
    made = {
        "measured": True,
        "command": f"python -m benchmarks.bakeoff --only {path.stem}",
        "machine": {"device": "a CPU", "machine": platform.machine(), "threads": torch.get_num_threads()},
        "versions": {name: version(name) for name in PACKAGES},
        "rows": rows,
    }
    path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


TABLES = {"bakeoff": bakeoff, "act_order": act_order, "calibration_texts": calibration_texts}

if __name__ == "__main__":
    main()
