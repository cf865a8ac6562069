"""W8A8, LLM.int8() and SmoothQuant on the course LM, as it was trained and with outliers: `python -m benchmarks.outliers`.

Four tables in one results file, which lecture 04 shows: all methods on the exam's questions with options and on its texts; on some of
the texts alone, SmoothQuant over α and LLM.int8() over its threshold; and how far the largest weights and activations stand out. An hour
on one core. The file is written after each row.
"""

import argparse
import copy
import json
import platform
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.bakeoff import Judge, Scores, numbers
from coursepkg import calibration, courselm, evaluation, llm_int8, outliers, ptq, steady_outliers, surgery
from coursepkg.evaluation import Method
from coursepkg.int8_linear import LlmInt8Linear
from coursepkg.memory.storage import FP16

OUTPUT = Path(__file__).resolve().parents[1] / "coursepkg" / "results" / "outliers.json"
PACKAGES = ("torch", "transformers")
ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
THRESHOLDS = (2.0, 4.0, 6.0, 10.0, 20.0, 50.0, 100.0, None)
#: Texts for what is measured by KL alone.
FEWER = 80
#: What is done to the model first.
TRAINED, SWINGING, STEADY = "as trained", "swinging outliers", "steady outliers"
PLANT = {SWINGING: outliers.plant, STEADY: steady_outliers.plant}
#: What all three models are given; the other methods are for those with outliers.
ALWAYS = ("fp16", "W8A8, per tensor", "W8A8, static", "W8A8, per token", "LLM.int8()", "SmoothQuant O3")
Change = Callable[[Any], Any]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument(
        "--only", choices=list(TABLES), help="one table; the others stay as they are in the file"
    )
    given = parser.parse_args()
    rows = []
    if given.only and given.output.exists():
        rows = json.loads(given.output.read_text(encoding="utf-8"))["rows"]
        rows = [row for row in rows if row["table"] != given.only]
    for name in [given.only] if given.only else TABLES:
        for row in TABLES[name]():
            rows.append({"table": name} | row)
            print(rows[-1], flush=True)
            write(given.output, rows)


def judged(kind: str) -> Judge:
    """The course LM with the outliers of the lecture, and what it is asked."""
    judge = Judge()
    if kind in PLANT:
        PLANT[kind](judge.model, courselm.calibration(judge.tokenizer, 1, seed=99)[0][:2])
    return judge


def contestants(text: list[torch.Tensor]) -> dict[str, Change | None]:
    """What is done to a model, by name; text to calibrate with."""

    def smoothed(weights: str, activations: str, static: bool = False) -> Change:
        def change(model: Any) -> None:
            ptq.smooth(model, text)
            ptq.w8a8(model, weights, activations, text if static else None)

        return change

    return {
        "fp16": None,
        "int8 weights alone": evaluation.whole_numbers(8, "channel").change,
        "W8A8, per tensor": lambda model: ptq.w8a8(model, "tensor", "tensor"),
        "W8A8, weights per channel": lambda model: ptq.w8a8(model, "channel", "tensor"),
        "W8A8, static": lambda model: ptq.w8a8(model, "channel", "tensor", text),
        "W8A8, per token": ptq.w8a8,
        "LLM.int8()": ptq.llm_int8,
        "LLM.int8(), outliers' weights in fp16": with_16_bit_columns,
        "SmoothQuant O1": smoothed("tensor", "channel"),
        "SmoothQuant O2": smoothed("tensor", "tensor"),
        "SmoothQuant O3": smoothed("tensor", "tensor", static=True),
        "SmoothQuant, per token and channel": smoothed("channel", "channel"),
    }


class With16BitColumns(LlmInt8Linear):
    """LLM.int8() with a second copy of the weights, in fp16, for the columns that are taken out."""

    @classmethod
    def of(cls, linear: torch.nn.Linear, threshold: float | None = llm_int8.THRESHOLD) -> "With16BitColumns":
        made = super().of(linear, threshold)
        made.register_buffer("missing", linear.weight.detach().half().float() - made._weight().half().float())
        return made

    def _weight(self) -> torch.Tensor:
        return llm_int8.Rows(self.codes, self.absmax).dequantize()

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1]).half()
        columns = llm_int8.outlier_columns(rows, self.threshold)
        rest = rows[:, columns].float() @ self.missing[:, columns].T
        return super().forward(x) + rest.reshape(*x.shape[:-1], -1)


def with_16_bit_columns(model: Any) -> None:
    surgery.swap(model, lambda name, layer: With16BitColumns.of(layer))


def methods() -> Iterator[dict[str, Any]]:
    """Every method on each model; differences are from that model's fp16, paired."""
    for kind in (STEADY, SWINGING, TRAINED):
        judge, first = judged(kind), None
        for name, change in contestants(judge.text(0, 4096)).items():
            if kind == TRAINED and name not in ALWAYS:
                continue
            compute = torch.float16 if change is None else torch.float32
            found = Scores([judge.scores(Method(name, FP16, change, compute=compute))])
            first = first or found
            row = found.row(first)
            yield {"model": kind, "name": name} | {
                key: row[key] for key in ("exam", "exam_against", "kl", "kl_against")
            }


def alphas() -> Iterator[dict[str, Any]]:
    """SmoothQuant over α: with a scale for each token and output, and with one static scale for each tensor."""
    for kind in PLANT:
        judge = judged(kind)
        text = judge.text(0, 4096)
        for alpha in ALPHAS:
            model = copy.deepcopy(judge.model)
            ptq.smooth(model, text, alpha)
            ways = {
                "per token and channel": ptq.w8a8,
                "O3": lambda made, text=text: ptq.w8a8(made, "tensor", "tensor", text),
            }
            for name, change in ways.items():
                yield {"model": kind, "name": name, "alpha": alpha, "kl": kl(judge, model, change)}


def thresholds() -> Iterator[dict[str, Any]]:
    """LLM.int8() over its threshold, and the share of the columns that is taken out, in all layers and batches together."""
    for kind in PLANT:
        judge = judged(kind)
        for threshold in THRESHOLDS:
            seen = Counter()

            def count(module: Any, given: tuple, threshold: Any = threshold, seen: Any = seen) -> None:
                x = given[0].reshape(-1, module.in_features).half()
                seen["out"] += 0 if threshold is None else len(llm_int8.outlier_columns(x, threshold))
                seen["all"] += module.in_features

            def change(model: Any, threshold: float | None = threshold, look: Any = count) -> None:
                ptq.llm_int8(model, threshold)
                for module in model.modules():
                    if isinstance(module, LlmInt8Linear):
                        module.register_forward_pre_hook(look)

            found = kl(judge, judge.model, change)
            yield {
                "model": kind,
                "threshold": threshold,
                "kl": found,
                "columns": round(seen["out"] / seen["all"], 4),
            }


def sizes() -> Iterator[dict[str, Any]]:
    """The largest channel beside the median one: of the weights' columns, and of the activations that reach them. The most of all layers
    of a kind."""
    for kind in (TRAINED, SWINGING, STEADY):
        judge = judged(kind)
        inputs = calibration.observe(judge.model, judge.text(0, 4096), gram=False)
        for part in ("q_proj", "o_proj", "gate_proj", "down_proj"):
            layers = [(name, layer) for name, layer in surgery.linears(judge.model) if name.endswith(part)]
            seen = max(stands_out(inputs[name].absmax) for name, _ in layers)
            weights = max(stands_out(layer.weight.detach().abs().amax(0)) for _, layer in layers)
            yield {"model": kind, "name": part, "activations": round(seen, 2), "weights": round(weights, 2)}


def stands_out(absmax: torch.Tensor) -> float:
    return (absmax.max() / absmax.median()).item()


TABLES = {each.__name__: each for each in (methods, alphas, thresholds, sizes)}


def kl(judge: Judge, model: Any, change: Change) -> list[float]:
    """KL divergence of the changed model on some of the exam's texts, nats a token, with its interval."""
    made = evaluation.rounding.quantized(model, Method("", FP16, change))
    found = evaluation.divergence(made, judge.model, judge.pieces[:FEWER])
    return numbers(found.nats, 6)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The rows so far, with what made them."""
    made = {
        "measured": True,
        "command": "python -m benchmarks.outliers",
        "machine": {"device": "a CPU", "machine": platform.machine(), "threads": torch.get_num_threads()},
        "versions": {name: version(name) for name in PACKAGES},
        "rows": rows,
    }
    path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
