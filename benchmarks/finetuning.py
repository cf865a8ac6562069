"""Full finetuning, LoRA and QLoRA on the course LM, each over five seeds: `python -m benchmarks.finetuning`.

Each teaches the medical handbook to the base: the same 2,880 questions in the same order, 16 to a step. Then the model takes the exams of all three
clients and the encyclopedia's, which it should not have forgotten. Further tables: learning rates; the rank; the layers that are adapted; the singular values of
what full finetuning changed, and the exam with the changes cut to a rank. The results file is written after each row, and a row that
is there is not measured again. An hour on two cores.
"""

import argparse
import gc
import json
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from coursepkg import courselm, evaluation, load_model, lora_model, qlora, runtime, surgery, token_rows
from coursepkg.chat import Document
from coursepkg.evaluation import Exam
from coursepkg.qlora import Settings

OUTPUT = Path(__file__).resolve().parents[1] / "coursepkg" / "results" / "finetuning.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")
CLIENT = "medical"
SEEDS = (0, 1, 2, 3, 4)
EPOCHS = 30
#: What is trained beside the base's weights, but for the tables that change it.
SETTINGS = replace(qlora.COURSE, library="coursepkg")
LORA = SETTINGS.lora
FULL = replace(SETTINGS, lora=None, weights="16 bit", rate=1e-4, token_rate=1e-2)
#: Every layer in full, and of the embedding the rows that LoRA has, at its rate.
ROWS = "full, rows only"
#: Of learning, and of the embedding.
RATES = {
    "full": ((3e-5, 1e-2), (1e-4, 3e-3), (1e-4, 1e-2), (1e-4, 3e-2), (3e-4, 1e-2)),
    "LoRA": ((1e-3, 3e-2), (3e-3, 1e-2), (3e-3, 3e-2), (3e-3, 1e-1), (1e-2, 3e-2)),
}
RANKS = (1, 2, 4, 8, 16, 32, 64)
ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
LAYERS = {
    "q, v": ("q_proj", "v_proj"),
    "attention": ATTENTION,
    "MLP": MLP,
    "all": (*ATTENTION, *MLP),
}


def documents(client: str, seed: int) -> list[Document]:
    """The questions of a client's lessons."""
    return [
        each for epoch in courselm.lessons(client, EPOCHS, seed) for each in epoch if each.answer is not None
    ]


def methods() -> dict[str, Settings]:
    """What is compared, by name."""
    found = {"full": FULL, ROWS: replace(FULL, token_rate=SETTINGS.token_rate)}
    for weights in qlora.WEIGHTS:
        found["LoRA" if weights == "16 bit" else f"QLoRA, {weights}"] = replace(SETTINGS, weights=weights)
    return found


def wanted() -> Iterator[tuple[dict[str, Any], Settings]]:
    """Each row's key, and the settings of its run."""
    for seed in SEEDS:
        for name, settings in methods().items():
            yield {"table": "methods", "name": name, "seed": seed}, replace(settings, seed=seed)
        bare = replace(SETTINGS, weights="nf4+dq", token_rate=None, seed=seed)
        yield {"table": "methods", "name": "QLoRA, nf4+dq, no rows", "seed": seed}, bare
    for seed in SEEDS[:1]:
        for name, targets in LAYERS.items():
            given = replace(SETTINGS, weights="16 bit", lora=replace(LORA, targets=targets), seed=seed)
            yield {"table": "layers", "name": name, "seed": seed}, given
        for rank in RANKS:
            for name, alpha in (("α = 16", 16), ("α = r", rank)):
                lora = replace(LORA, rank=rank, alpha=alpha)
                key = {"table": "ranks", "name": name, "rank": rank, "seed": seed}
                yield key, replace(SETTINGS, weights="16 bit", lora=lora, seed=seed)
    for name, rates in RATES.items():
        for rate, token_rate in rates:
            given = replace(methods()[name], rate=rate, token_rate=token_rate, seed=5)
            yield {"table": "rates", "name": name, "rate": rate, "token_rate": token_rate, "seed": 5}, given


def trained(settings: Settings, only_rows: bool = False) -> tuple[Any, Any, qlora.Run]:
    """The course LM after a run, its tokenizer, and the run. only_rows: of the embedding, where layers are trained in full."""
    model, tokenizer = load_model(dtype=torch.float32)
    taught = documents(CLIENT, settings.seed)
    rows = qlora.encode(tokenizer, taught, settings.length)
    tokens = token_rows.alike(model, sorted({token for row in rows for token in row["input_ids"]}))
    if settings.lora is not None and settings.token_rate is not None:
        settings = replace(settings, lora=replace(settings.lora, tokens=tokens))
    model = qlora.adapt(model, settings)
    if only_rows:
        model.get_input_embeddings().requires_grad_(False)
        token_rows.put(model, "default", tokens).activate("default")
    return model, tokenizer, qlora.finetune(model, tokenizer, taught, settings, progress=False)


def scores(model: Any, tokenizer: Any, names: Sequence[str]) -> dict[str, Any]:
    """What a model scores in the exams of these names, questions with options alone."""
    found: dict[str, Any] = {}
    for name in names:
        marks = evaluation.take(model, tokenizer, Exam(name, courselm.exam(name).questions))
        found[name] = numbers(marks.accuracy)
        if name == CLIENT:
            found["held-out loss"] = round(float(marks.nll.mean()), 4)
            found["right"] = [int(each) for each in marks.right]
    return found


def measure(settings: Settings, only_rows: bool = False) -> dict[str, Any]:
    """One run: what it scores, and what it took."""
    since = time.monotonic()
    model, tokenizer, run = trained(settings, only_rows)
    row: dict[str, Any] = {"seconds": round(time.monotonic() - since, 1), "steps": len(run.losses)}
    row["trainable"] = lora_model.trainable(model)
    row["loss"] = round(sum(run.losses[-10:]) / 10, 4)
    return row | scores(model, tokenizer, (*courselm.CLIENTS, "encyclopedia"))


def spectra() -> Iterator[dict[str, Any]]:
    """Singular values of each layer's change in full finetuning, and the exam with all changes of layers cut to a rank."""
    base = load_model(dtype=torch.float32)[0]
    model, tokenizer, _ = trained(FULL)
    parts = {}
    for name, layer in surgery.linears(model):
        left, values, right = torch.linalg.svd(
            layer.weight.detach() - base.get_submodule(name).weight, full_matrices=False
        )
        parts[name] = left, values, right
        given = [float(f"{value:.4g}") for value in values.tolist()]
        yield {"table": "spectra", "name": name, "shape": list(layer.weight.shape), "values": given}
    for rank in (0, *RANKS, 128, 256):
        for name, (left, values, right) in parts.items():
            change = (left[:, :rank] * values[:rank]) @ right[:rank]
            model.get_submodule(name).weight.data = base.get_submodule(name).weight + change
        yield {"table": "truncated", "rank": rank} | scores(model, tokenizer, (CLIENT, "encyclopedia"))


def merging() -> Iterator[dict[str, Any]]:
    """Each seed's adapter, trained beside each kind of 4-bit base, and merged in each way: exams, and KL to what was trained."""
    for seed in SEEDS[:3]:
        for kind in ("nf4+dq", "int4"):
            model, tokenizer, _ = trained(replace(SETTINGS, weights=kind, seed=seed))
            pieces = evaluation.documents(tokenizer, courselm.exam(CLIENT).texts)
            with TemporaryDirectory() as folder:
                lora_model.save(model, folder)
                for way in qlora.WAYS:
                    made = qlora.merged(
                        lambda: load_model(dtype=torch.float32)[0], folder, qlora.WEIGHTS[kind], way
                    )
                    row = {"table": "merging", "name": way, "weights": kind, "seed": seed}
                    row["kl"] = numbers(evaluation.divergence(made, model, pieces).nats)
                    yield row | scores(made, tokenizer, (CLIENT, "encyclopedia"))


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
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="only runs with these; the rows of several files go into one"
    )
    parser.add_argument("--anew", action="store_true", help="measure everything again")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if given.output.exists() and not given.anew:
        rows = json.loads(given.output.read_text(encoding="utf-8"))["rows"]

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        print({name: value for name, value in row.items() if name not in ("right", "values")}, flush=True)
        write(given.output, rows)

    for key, settings in wanted():
        if given.table and key["table"] not in given.table or given.seeds and key["seed"] not in given.seeds:
            continue
        if any(all(row.get(name) == value for name, value in key.items()) for row in rows):
            continue
        add(key | measure(settings, only_rows=key["name"] == ROWS))
        gc.collect()
    if not given.seeds and (given.table is None or "spectra" in given.table):
        rows = [row for row in rows if row["table"] not in ("spectra", "truncated")]
        for row in spectra():
            add(row)
    if not given.seeds and (given.table is None or "merging" in given.table):
        rows = [row for row in rows if row["table"] != "merging"]
        for row in merging():
            add(row)


if __name__ == "__main__":
    main()
