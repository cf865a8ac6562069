"""Running a lecture in a fresh kernel, and what of its outputs is kept."""

import os
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from tools.masters import NOTEBOOK_METADATA

# What a kernel sees, so that a lecture gives the same outputs twice and asks no network.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    # Threads that wait do not spin: on cores that others use too, spinning makes torch several times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
}
CELL_SECONDS = 300
WIDGET = "application/vnd.jupyter.widget-view+json"


class LectureFailed(Exception):
    """A lecture whose execution stopped; the message names the cell and the reason."""


def execute(
    notebook: NotebookNode,
    folder: Path,
    on_start: Callable[[int], None] = lambda pid: None,
    on_cell: Callable[[], None] = lambda: None,
) -> None:
    """Run every cell of `notebook` in a fresh kernel in `folder` and put the outputs into it.

    `on_start` gets the kernel's process id, `on_cell` is called after each code cell. Raises LectureFailed.
    """

    def started(notebook: NotebookNode, **_: object) -> None:
        on_start(client.km.provisioner.pid)

    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--log-level=40"],  # not its warning that it listens on this machine unencrypted
        on_notebook_start=started,
        on_cell_executed=lambda **_: on_cell(),
    )
    try:
        client.execute(env=os.environ | ENVIRONMENT)
    except CellExecutionError as error:
        raise LectureFailed(f"{_last_run(notebook)}: {error.ename}: {error.evalue}") from error
    except (CellTimeoutError, DeadKernelError) as error:
        raise LectureFailed(f"{_last_run(notebook)}: {type(error).__name__}: {error}") from error


def _last_run(notebook: NotebookNode) -> str:
    """Name the cell at which the kernel stopped: the first without an execution count, or the one with the error."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    for cell in code:
        failed = any(output.output_type == "error" for output in cell.outputs)
        if failed or cell.execution_count is None:
            return f"cell {cell.id} ({cell.source.strip().splitlines()[0]!r} ...)"
    return f"cell {code[-1].id}"


def clean(notebook: NotebookNode) -> None:
    """Remove from the outputs what differs from run to run or is useless without a kernel.

    Widget views and their state go (the text that stands for a widget stays), run times and the kernel's version go,
    and pieces of one stream that the kernel happened to send apart become one.
    """
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET, None)
        cell.outputs = _merged([output for output in cell.outputs if output.get("data") != {}])


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs with neighbouring pieces of the same stream joined."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and last.output_type == output.output_type == "stream" and last.name == output.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged
