"""The `coursepkg` command. What a command needs is imported when it runs, so that --help answers at once."""

import contextlib
import gc
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="The quantization course.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def main() -> None:
    """The quantization course."""


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what is here, and for each thing that is off, what to do. Exits 1 if the course cannot run."""
    from coursepkg.doctor import State, examine

    pins = Path(__file__).resolve().parent.parent / "requirements.txt"
    findings = list(examine(pins))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            mark = {State.OK: "  ", State.OFF: "! ", State.BROKEN: "X "}[finding.state]
            typer.echo(f"{mark}{finding.what:<{width}}  {finding.found}")
            if finding.advice:
                typer.echo(f"  {'':<{width}}  -> {finding.advice}")
    raise typer.Exit(any(finding.state is State.BROKEN for finding in findings))


@contextlib.contextmanager
def _warming_up() -> Iterator[None]:
    """For what is imported to grade: meanwhile the process that submissions are forked from imports what they need."""
    from coursepkg.grading.sandbox import link

    if sys.platform == "linux":
        link.shared()
    # jsonschema builds a grammar of international addresses as it is imported, if it finds one. That takes longer than
    # all the rest of nbgrader, and no notebook's schema mentions such an address.
    sys.modules.setdefault("rfc3987_syntax", None)
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


@app.command()
def grade(
    assignment: Annotated[str, typer.Argument(help="The assignment, for example 01_memory.")],
    student: Annotated[list[str] | None, typer.Option(help="Only this student; may be repeated.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Grade again what has not changed.")] = False,
    to: Annotated[
        Path | None, typer.Option(help="The table of grades. Default: grades_ASSIGNMENT.csv.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Submissions to run at a time. Default: one for each core.")
    ] = None,
    sandbox: Annotated[
        str, typer.Option(help="best, or at most: namespaces, landlock, bubblewrap, plain.")
    ] = "best",
    cluster: Annotated[
        str | None, typer.Option(help="A dask scheduler's address or file: examine there instead.")
    ] = None,
    feedback: Annotated[bool, typer.Option(help="Write the feedback pages, too.")] = True,
) -> None:
    """Grade everything collected of an assignment, write feedback pages and a table of grades.

    Cut off at any moment, the same command goes on where it was.
    """
    with _warming_up():
        from coursepkg.grading import classroom
        from coursepkg.grading.course import CourseError

    try:
        options = {"jobs": jobs, "sandbox": sandbox, "cluster": cluster, "feedback": feedback}
        classroom.main(assignment, force, student or (), to, **options)
    except CourseError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@app.command()
def prove(
    assignments: Annotated[list[str] | None, typer.Argument(help="Which assignments. Default: all.")] = None,
) -> None:
    """Prove that tests tell right from wrong: blank earns 0, the solution all, each mutant loses its exercise."""
    with _warming_up():
        from coursepkg.grading import prove as proving
        from coursepkg.grading.course import CourseError

    try:
        holds = proving.main(assignments or [])
    except CourseError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(not holds)


@app.command("train-lm")
def train_lm(
    output: Annotated[Path, typer.Argument(help="The folder to write; it must not exist yet.")],
    steps: Annotated[
        int | None, typer.Option(min=1, help="Fewer steps than the recipe's, to try it out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the weights and of the text.")] = 0,
) -> None:
    """Train the course LM anew. Cut off, it goes on where it was when you run the same command again."""
    from coursepkg.courselm import make
    from coursepkg.courselm.training import Recipe, TooOld

    try:
        recipe = Recipe(seed=seed) if steps is None else Recipe(steps=steps, seed=seed)
        made = make.make(output, recipe)
    except (make.Refused, TooOld, ValueError, FloatingPointError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{made}: the checkpoint, its card (README.md) and how it was trained (training.json)")


@app.command()
def finetune(
    output: Annotated[
        Path, typer.Argument(help="The folder of the adapter; a run that was cut off goes on.")
    ],
    model: Annotated[
        str, typer.Option(help="course-lm, a folder, or a model's name on the hub.")
    ] = "course-lm",
    client: Annotated[str | None, typer.Option(help="Teach this handbook: medical, law or support.")] = None,
    data: Annotated[
        Path | None, typer.Option(help='Teach this: a JSON object in each line, {"text": …, "answer": …}.')
    ] = None,
    weights: Annotated[
        str, typer.Option(help="How the base is stored: nf4+dq, nf4, fp4, int4, …, or: 16 bit.")
    ] = "nf4+dq",
    library: Annotated[str, typer.Option(help="peft (with bitsandbytes), or coursepkg.")] = "peft",
    rank: Annotated[int, typer.Option(help="Of the adapters.")] = 16,
    alpha: Annotated[float, typer.Option(help="What they add is multiplied by alpha / rank.")] = 16,
    dropout: Annotated[
        float, typer.Option(help="Share of an adapter's inputs that a step leaves out.")
    ] = 0.0,
    epochs: Annotated[
        int | None, typer.Option(help="How often all examples are read. Default: 3, of a handbook 30.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Examples read at once, on each device.")] = 16,
    accumulation: Annotated[int, typer.Option(help="Such batches to a step.")] = 1,
    length: Annotated[int, typer.Option(help="Tokens of an example at most.")] = 256,
    packing: Annotated[bool, typer.Option(help="Several short examples in one row.")] = False,
    rate: Annotated[
        float | None, typer.Option(help="Of learning. Default: 2e-4, on the course LM 3e-3.")
    ] = None,
    token_rate: Annotated[
        float | None,
        typer.Option(help="Of learning, for rows of the embedding. Default: ten times the rate."),
    ] = None,
    rows: Annotated[
        bool, typer.Option(help="Train the rows of tokens that the base cannot tell apart.")
    ] = True,
    checkpointing: Annotated[
        bool, typer.Option(help="Compute activations again rather than keep them.")
    ] = True,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    seed: Annotated[int, typer.Option(help="Of adapters, order and dropout.")] = 0,
) -> None:
    """Train an adapter on a frozen base, in 4 bits by default, and write it in peft's format.

    On several GPUs: accelerate launch --config_file FILE -m coursepkg finetune …, with the FILE that the README names.
    """
    from coursepkg import courselm, qlora
    from coursepkg.loading import COURSE_LM, ModelNotFound
    from coursepkg.lora import LoraConfig
    from coursepkg.qlora import OutOfMemory, command
    from coursepkg.qlora.record import RECORD
    from coursepkg.qlora.trainer import NoGradient

    if (client is None) == (data is None):
        typer.echo("give either --client or --data", err=True)
        raise typer.Exit(1)
    try:
        recipe = qlora.COURSE if model == COURSE_LM else qlora.HUB
        epochs = epochs or (30 if data is None else 3)
        if data is None:
            documents = [
                each for epoch in courselm.lessons(client, epochs, seed) for each in epoch if each.answer
            ]
        else:
            documents = command.read(data)
        settings = replace(
            recipe,
            lora=LoraConfig(rank=rank, alpha=alpha, dropout=dropout),
            weights=weights,
            library=library,
            length=length,
            batch=batch,
            accumulation=accumulation,
            packing=packing,
            epochs=1 if data is None else epochs,
            shuffled=data is not None,
            rate=rate or recipe.rate,
            token_rate=token_rate or 10 * (rate or recipe.rate),
            checkpointing=checkpointing,
            save_every=save_every,
            seed=seed,
        )
        command.train(model, documents, settings, output, rows, say=typer.echo)
    except (ModelNotFound, OutOfMemory, NoGradient, ValueError, FloatingPointError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{output}: the adapter, for peft or coursepkg.lora_model, and {RECORD}")


@app.command()
def leaderboard(
    model: Annotated[
        str, typer.Option(help="course-lm, a folder, or a model's name on the hub.")
    ] = "course-lm",
    exam: Annotated[str, typer.Option(help="encyclopedia, medical, law or support.")] = "encyclopedia",
    category: Annotated[
        str | None, typer.Option(help="Only these questions: facts, arithmetic or units.")
    ] = None,
) -> None:
    """Round a model's weights in many ways, let each take the exam, and print what they store and score."""
    import torch

    from coursepkg.courselm.checkpoint import Damaged
    from coursepkg.courselm.exams import exam as named
    from coursepkg.evaluation import rounding
    from coursepkg.evaluation.boards import leaderboard as board
    from coursepkg.loading import ModelNotFound, load_model

    try:
        taken = named(exam) if category is None else named(exam).only(category)
        loaded = load_model(model, dtype=torch.float32)
        made = board(*loaded, taken, before=lambda method: typer.echo(f"{method.name} …", err=True))
    except (Damaged, ModelNotFound, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{made}\n\n{made.comparisons(rounding.expected_order())}")
