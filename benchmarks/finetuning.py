"""Full finetuning, LoRA and QLoRA on the course LM, each over five seeds: `python -m benchmarks.finetuning`.

Each teaches the medical handbook to the base: the same questions in the same order, 1,280 to 3,840 of them. Then the model takes the exams of all three
clients and the encyclopedia's, which it should not have forgotten. Two more tables, of the rank and of the layers that are adapted. The
results file is written after each row, and a row that is there is not measured again. An hour on two cores.
"""

import argparse
import gc
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from coursepkg import courselm, evaluation, load_model, lora_model, qlora, runtime, token_rows
from coursepkg.evaluation import Exam
from coursepkg.lora import LoraConfig
from coursepkg.qlora import Settings

OUTPUT = Path(__file__).resolve().parents[1] / "coursepkg" / "results" / "finetuning.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")
CLIENT = "medical"
SEEDS = (0, 1, 2, 3, 4)
EPOCHS = 40
#: What is trained beside the base's weights, but for the tables that change it.
LORA = LoraConfig(rank=16, alpha=16)
SETTINGS = Settings(
    lora=LORA,
    library="coursepkg",
    length=128,
    batch=32,
    rate=3e-3,
    token_rate=3e-2,
    clip=1.0,
    checkpointing=False,
)
#: Full finetuning has a rate of its own: the best of RATES.
FULL_RATE = 1e-3
RATES = {"full": (1e-4, 3e-4, 1e-3, 3e-3), "LoRA": (3e-4, 1e-3, 3e-3, 1e-2)}
RANKS = (1, 2, 4, 8, 16, 32, 64)
ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
LAYERS = {
    "q, v": ("q_proj", "v_proj"),
    "attention": ATTENTION,
    "MLP": MLP,
    "all": (*ATTENTION, *MLP),
}


def documents(client: str, seed: int) -> list[Any]:
    """The questions of a client's lessons."""
    return [
        each for epoch in courselm.lessons(client, EPOCHS, seed) for each in epoch if each.answer is not None
    ]


def methods() -> dict[str, Settings]:
    """What is compared, by name."""
    found = {"full": replace(SETTINGS, lora=None, weights="16 bit", rate=FULL_RATE, token_rate=None)}
    for weights in qlora.WEIGHTS:
        found["LoRA" if weights == "16 bit" else f"QLoRA, {weights}"] = replace(SETTINGS, weights=weights)
    return found


def wanted() -> Iterator[tuple[dict[str, Any], Settings]]:
    """Each row's key, and the settings of its run."""
    for seed in SEEDS:
        for name, settings in methods().items():
            yield {"table": "methods", "name": name, "seed": seed}, replace(settings, seed=seed)
        bare = replace(SETTINGS, weights="nf4+dq", token_rate=None, seed=seed)
        yield {"table": "methods", "name": "QLoRA, nf4+dq, without rows of tokens", "seed": seed}, bare
    for name, rates in RATES.items():
        for rate in rates:
            given = replace(methods()[name], rate=rate, seed=5)
            yield {"table": "rates", "name": name, "rate": rate, "seed": 5}, given
    for seed in SEEDS[:3]:
        for rank in RANKS:
            for alpha in ("α = 16", "α = r"):
                lora = replace(LORA, rank=rank, alpha=16 if alpha == "α = 16" else rank)
                key = {"table": "ranks", "name": alpha, "rank": rank, "seed": seed}
                yield key, replace(SETTINGS, weights="16 bit", lora=lora, seed=seed)
        for name, targets in LAYERS.items():
            lora = replace(LORA, targets=targets)
            yield (
                {"table": "layers", "name": name, "seed": seed},
                replace(SETTINGS, weights="16 bit", lora=lora, seed=seed),
            )


def measure(settings: Settings) -> dict[str, Any]:
    """One run: what it scores before and after, and what it took."""
    model, tokenizer = load_model(dtype=torch.float32)
    taught = documents(CLIENT, settings.seed)
    if settings.token_rate is not None:
        rows = qlora.encode(tokenizer, taught, settings.length)
        tokens = token_rows.alike(model, sorted({token for row in rows for token in row["input_ids"]}))
        settings = replace(settings, lora=replace(settings.lora, tokens=tokens))
    model = qlora.adapt(model, settings)
    since = time.monotonic()
    run = qlora.finetune(model, tokenizer, taught, settings, progress=False)
    row: dict[str, Any] = {"seconds": round(time.monotonic() - since, 1), "steps": len(run.losses)}
    row["trainable"] = lora_model.trainable(model)
    row["loss"] = round(sum(run.losses[-10:]) / 10, 4)
    for name in (*courselm.CLIENTS, "encyclopedia"):
        exam = courselm.exam(name)
        marks = evaluation.take(model, tokenizer, Exam(name, exam.questions))
        row[name] = numbers(marks.accuracy)
        if name == CLIENT:
            row["held-out loss"] = round(float(marks.nll.mean()), 4)
            row["right"] = [int(each) for each in marks.right]
        if name == "encyclopedia":
            row["facts"] = numbers(marks.of("facts"))
    return row


def numbers(interval: evaluation.Interval) -> list[float]:
    return [round(each, 4) for each in (interval.value, interval.low, interval.high)]


def write(output: Path, rows: list[dict[str, Any]]) -> None:
    written = {
        "measured": True,
        "command": "python -m benchmarks.finetuning",
        "machine": {
            "device": f"{runtime.device().type} ({platform.machine()}, {torch.get_num_threads()} threads)"
        },
        "versions": {name: version(name) for name in PACKAGES},
        "rows": rows,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8", newline="\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--table", nargs="+", help="only these tables")
    parser.add_argument("--anew", action="store_true", help="measure everything again")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if given.output.exists() and not given.anew:
        rows = json.loads(given.output.read_text(encoding="utf-8"))["rows"]
    for key, settings in wanted():
        if given.table and key["table"] not in given.table:
            continue
        if any(all(row.get(name) == value for name, value in key.items()) for row in rows):
            continue
        rows.append(key | measure(settings))
        shown = {name: value for name, value in rows[-1].items() if name != "right"}
        print(shown, flush=True)
        write(given.output, rows)
        gc.collect()


if __name__ == "__main__":
    main()
