"""A progress bar that is gone when the run has ended: in a terminal, and in a notebook, whose outputs it must not change."""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

#: Seconds between two looks of it in a notebook.
EVERY = 0.2


class Bar(TrainerCallback):
    """Steps done and to do, and the last loss."""

    def __init__(self) -> None:
        self.shown: _Terminal | _Notebook | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.shown = (_Notebook if _in_notebook() else _Terminal)(state.max_steps)
            self.shown.update(state.global_step, "")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        if self.shown and "loss" in (logs or {}):
            self.shown.update(state.global_step, f"loss {logs['loss']:.3f}")

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.stop()

    def stop(self) -> None:
        """Take it away."""
        if self.shown:
            self.shown.stop()
        self.shown = None


class _Terminal:
    def __init__(self, total: int) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task("", total=total)
        self.bar.start()

    def update(self, step: int, said: str) -> None:
        self.bar.update(self.task, completed=step, description=said)

    def stop(self) -> None:
        self.bar.stop()


class _Notebook:
    """One output, shown again and again, and empty in the end."""

    def __init__(self, total: int) -> None:
        from IPython.display import display

        self.total, self.last = total, time.monotonic()
        self.output = display({"text/plain": ""}, raw=True, display_id=True)

    def update(self, step: int, said: str) -> None:
        if time.monotonic() - self.last > EVERY:
            self.last = time.monotonic()
            bar = f'<progress value="{step}" max="{self.total}"></progress> {step}/{self.total} {said}'
            self.output.update({"text/plain": "", "text/html": bar}, raw=True)

    def stop(self) -> None:
        self.output.update({"text/plain": ""}, raw=True)


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")
