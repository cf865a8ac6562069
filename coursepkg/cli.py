"""The `coursepkg` command. What a command needs is imported when it runs, so that --help answers at once."""

import json
from dataclasses import asdict
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
                typer.echo(f"  {'':<{width}}  → {finding.advice}")
    raise typer.Exit(any(finding.state is State.BROKEN for finding in findings))
