"""Making the course LM: train it, or go on where training stopped; let it take the exams; write checkpoint and card."""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coursepkg import evaluation, runtime
from coursepkg.courselm import cards, checkpoint, digest, text, tokenizer
from coursepkg.courselm.exams import encyclopedia, exam
from coursepkg.courselm.handbooks import CLIENTS
from coursepkg.courselm.training import Recipe, Run
from coursepkg.quiet import no_bars

KEEP_EVERY = 250
POINTS, EXAMS = 100, 10


class Refused(RuntimeError):
    """Nothing was started, because something would have been overwritten."""


def make(output: Path, recipe: Recipe | None = None, device: torch.device | None = None) -> Path:
    """Train the course LM and write it to `output`; a run that was cut off goes on from its last kept state.

    output: a folder that does not exist yet. Beside it, `output`.training keeps the state until the checkpoint is
    whole. Returns `output`. Raises Refused where it exists, and ValueError where the state is of another recipe.
    """
    output, recipe = output.resolve(), recipe or Recipe()
    if output.exists():
        raise Refused(f"{output} exists; choose another folder, or move it away")
    device = device or runtime.device()
    states = output.with_name(f"{output.name}.training")
    console = Console(stderr=True)
    run = Run(tokenizer.train(), recipe, device, runtime.autocast(device))
    if run.resume(states):
        console.print(f"going on at step {run.step:,} of {recipe.steps:,}", highlight=False)
    _train(run, states, console)
    _write(run, output)
    shutil.rmtree(states, ignore_errors=True)
    return output


def _train(run: Run, states: Path, console: Console) -> None:
    """Train to the end, with a progress bar, keeping the state every so often and the curve on the way."""
    since, look_every = time.monotonic(), max(1, run.recipe.steps // POINTS)
    exam_every = POINTS // EXAMS * look_every
    smooth, seconds = (run.curve[-1]["loss"], run.curve[-1]["seconds"]) if run.curve else (None, 0.0)

    def after_step(run: Run, loss: float) -> None:
        nonlocal smooth
        smooth = loss if smooth is None else 0.98 * smooth + 0.02 * loss
        tick(run.step, smooth)
        if run.step % look_every == 0 or run.step == run.recipe.steps:
            point = {
                "step": run.step,
                "tokens": run.step * run.recipe.rows * run.recipe.length,
                "loss": round(smooth, 4),
                "seconds": round(seconds + time.monotonic() - since),
            }
            if run.step % exam_every == 0 or run.step == run.recipe.steps:
                point["exam"] = round(_glance(run), 4)
                console.print(
                    f"step {run.step:,}, loss {smooth:.3f}, exam {point['exam']:.1%} of 300 questions",
                    highlight=False,
                )
            run.curve.append(point)
        if run.step % KEEP_EVERY == 0 or run.step == run.recipe.steps:
            run.save(states)

    with _progress(console, run) as tick:
        run.train(after_step)


@contextmanager
def _progress(console: Console, run: Run) -> Iterator:
    """A progress bar with the loss and the time that is left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=run.recipe.steps, completed=run.step)
        yield lambda step, loss: bar.update(task, completed=step, description=f"loss {loss:.3f}")


def _glance(run: Run) -> float:
    """The share of the exam's first 300 questions that the model answers rightly now."""
    whole = encyclopedia()
    part = replace(whole, questions=whole.questions[:300], free=(), texts=())
    marks = evaluation.take(run.model, run.tokenizer, part)
    return marks.accuracy.value


def _write(run: Run, output: Path) -> None:
    """The checkpoint in 16 bits with its tokenizer, the exams, the card and the digests: all of it, or nothing."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as made:
        folder = Path(made) / output.name
        with no_bars():
            run.model.half().save_pretrained(folder)
        run.tokenizer.save_pretrained(folder)
        run.model.float()  # the marks are those of the rounded weights
        marks = {
            name: evaluation.take(run.model, run.tokenizer, exam(name)) for name in ("encyclopedia", *CLIENTS)
        }
        record = {
            "recipe": asdict(run.recipe),
            "tokens": run.recipe.tokens,
            "parameters": run.model.num_parameters(),
            "vocabulary": len(run.tokenizer),
            "command": "coursepkg train-lm FOLDER",
            "machine": {
                "device": run.device.type,
                "name": runtime.device_name(run.device),
                "threads": torch.get_num_threads(),
            },
            "autocast": str(run.autocast).removeprefix("torch.") if run.autocast else None,
            "python": sys.version.split()[0],
            "versions": runtime.versions(("torch", "transformers", "tokenizers")),
            "world": digest.world(),
            "scores": {name: cards.scores(each) for name, each in marks.items()},
            "unread wordings": cards.numbers(
                evaluation.likelihood(
                    run.model, evaluation.documents(run.tokenizer, text.unread_wordings())
                ).perplexity
            ),
            "curve": run.curve,
        }
        (folder / checkpoint.RECORD).write_text(
            json.dumps(record, indent=1) + "\n", encoding="utf-8", newline="\n"
        )
        (folder / checkpoint.CARD).write_text(
            cards.card(record, run.model.config), encoding="utf-8", newline="\n"
        )
        checkpoint.write_digests(folder)
        os.replace(folder, output)
