"""Running a submission: nbgrader's Execute with limits on wall time and on output."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import DEVNULL
from time import monotonic

from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode, from_dict
from nbgrader.preprocessors import Execute
from traitlets import Integer

from coursepkg.grading import kernel
from coursepkg.grading.notes import note

#: Seconds between two interrupts of a cell that goes on after the first: a bare `except:` swallows most of them.
NAG = 0.02
#: What a message costs beside its text, so that many empty ones are limited too.
MESSAGE = 200
ERROR_CHARACTERS = 20_000


class OutOfTime(Exception):
    """The notebook has used up its time before all cells had run."""


class LimitedExecute(Execute):
    """Runs every cell, whatever the cells before it did, and stops what takes too long or prints too much.

    A cell that is stopped gets an error output that says why, and costs its own exercise. When the kernel dies, or
    goes on after being interrupted, or the notebook's time is up, the cells that are left are not run: the notebook's
    note `failed` says why, and SaveGrades scores nothing.

    The kernel works in a copy of the submission's folder, without notebooks: the one that is being graded holds the
    hidden tests, and a file that the student's code writes would be handed back with the feedback.
    """

    notebook_timeout = Integer(120, help="Seconds that all cells of a notebook may take together.").tag(
        config=True
    )
    kept_output = Integer(1_000_000, help="Characters of output that are kept of one cell.").tag(config=True)
    max_output = Integer(20_000_000, help="Characters of output after which a cell is stopped.").tag(
        config=True
    )

    def preprocess(
        self, nb: NotebookNode, resources: ResourcesDict, km: object = None
    ) -> tuple[NotebookNode, ResourcesDict]:
        """Run the notebook; raises only where the course's own machine fails, such as a kernel that does not start."""
        self._running: NotebookNode | None = None
        self._deadline: float | None = None
        self._nagging: asyncio.Future | None = None
        try:
            with _elsewhere(resources):
                return super().preprocess(nb, resources, km)
        except (CellTimeoutError, DeadKernelError, OutOfTime) as error:
            if self._running is None:
                raise
            return self._failed(nb, error), resources
        finally:
            self._stop_nagging()

    def preprocess_cell(
        self, cell: NotebookNode, resources: ResourcesDict, index: int
    ) -> tuple[NotebookNode, ResourcesDict]:
        """Run one cell, unless the notebook's time is up."""
        if self._deadline is None:
            self._deadline = monotonic() + self.notebook_timeout
        self._running, self._arrived, self._kept, self._stopped = cell, 0, 0, ""
        # A display is updated by its own cell only: an output from before the hidden tests stays as it was.
        self._display_id_map.clear()
        if cell.cell_type == "code" and cell.source.strip() and monotonic() >= self._deadline:
            raise OutOfTime
        return super().preprocess_cell(cell, resources, index)

    def _failed(self, nb: NotebookNode, error: Exception) -> NotebookNode:
        """Note on the notebook and in the cell that was running why nothing of it can be scored."""
        number = 1 + next(i for i, cell in enumerate(nb.cells) if cell is self._running)
        if isinstance(error, OutOfTime):
            reason = f"the notebook took longer than {self.notebook_timeout} s; cell {number} and those after it were not run"
        elif isinstance(error, DeadKernelError):
            reason = f"the kernel died while it ran cell {number}"
        else:
            reason = f"cell {number} ran longer than {self.timeout} s and could not be interrupted"
        self.log.error("Nothing of this notebook can be scored: %s", reason)
        self._end_with(self._running, "NotGraded", reason)
        note(nb, failed=reason)
        return nb

    def _end_with(self, cell: NotebookNode, name: str, reason: str) -> None:
        """Give the cell an error output in place of what its interruption left."""
        cell.outputs = [output for output in cell.outputs if output.output_type != "error"]
        cell.outputs.append(
            from_dict(
                {
                    "output_type": "error",
                    "ename": name,
                    "evalue": reason,
                    "traceback": [f"\x1b[0;31m{name}\x1b[0m: {reason}"],
                }
            )
        )
        note(cell, stopped=reason)

    def start_new_kernel(self, **kwargs: object) -> None:
        """Start the kernel, tell it how much a cell may print, and keep what it prints past IPython off this terminal."""
        super().start_new_kernel(
            env=os.environ | {kernel.VARIABLE: str(self.max_output)}, stdout=DEVNULL, stderr=DEVNULL, **kwargs
        )

    # Time

    def _get_timeout(self, cell: NotebookNode | None) -> float | None:
        """The cell's time, or what is left of the notebook's."""
        timeout = super()._get_timeout(cell)
        if self._deadline is None:
            return timeout
        left = max(0.1, self._deadline - monotonic())
        return left if timeout is None else min(timeout, left)

    async def _async_handle_timeout(self, timeout: float, cell: NotebookNode | None = None) -> dict | None:
        """Interrupt the cell, and go on doing so until it has ended."""
        self._stopped = f"stopped after {timeout:.0f} s: it had not ended, perhaps a loop that never does"
        reply = await super()._async_handle_timeout(timeout, cell)
        self._start_nagging()
        return reply

    def _start_nagging(self) -> None:
        async def nag() -> None:
            while True:
                await asyncio.sleep(NAG)
                await self.km.interrupt_kernel()

        if self._nagging is None:
            self._nagging = asyncio.ensure_future(nag())

    def _stop_nagging(self) -> None:
        if self._nagging is not None:
            self._nagging.cancel()
            self._nagging = None

    def on_cell_executed(self, **kwargs: object) -> None:
        """nbgrader's hook: record an error that left no output. Ours: say why the cell was stopped."""
        self._stop_nagging()
        super().on_cell_executed(**kwargs)
        cell, reply = kwargs["cell"], kwargs["execute_reply"]["content"]
        if reply.get("ename") == kernel.OutputLimit.__name__:
            self._stopped = self._printed_too_much()
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = _overwritten(output.text)
        if self._stopped:
            self._end_with(cell, "Stopped", self._stopped)

    # Output

    def process_message(self, msg: dict, cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Limit what a message adds to the cell before it is stored."""
        kind, content = msg["msg_type"], msg["content"]
        if kind == "error":
            _shorten_error(content)
        elif kind == "stream":
            room = self._room(len(content["text"]))
            if room <= 0:
                return None
            if room < len(content["text"]):
                content["text"] = content["text"][:room] + self._cut()
            if self._joined(msg, cell):
                return None
        elif kind in ("display_data", "execute_result", "update_display_data"):
            size = sum(len(v) if isinstance(v, str) else len(json.dumps(v)) for v in content["data"].values())
            room = self._room(size)
            if room <= 0 and kind != "execute_result":
                return None
            if room < size:
                content["data"], content["metadata"] = {"text/plain": self._cut()}, {}
        return super().process_message(msg, cell, cell_index)

    def _joined(self, msg: dict, cell: NotebookNode) -> bool:
        """Add printed text to what the cell has already printed, if that is all that is to be done with it."""
        if self.clear_before_next_output or self.output_hook_stack[msg["parent_header"].get("msg_id")]:
            return False
        name = msg["content"]["name"]
        earlier = next((output for output in cell.outputs if output.get("name") == name), None)
        if earlier is not None:
            earlier.text += msg["content"]["text"]
        return earlier is not None

    def _room(self, size: int) -> int:
        """How much of `size` more characters the cell may keep. Stops the cell when it has printed far too much."""
        self._arrived += size + MESSAGE
        if self._arrived > self.max_output and not self._stopped:
            self._stopped = self._printed_too_much()
            asyncio.ensure_future(self.km.interrupt_kernel())
        room = min(size, self.kept_output - self._kept)
        self._kept += size + MESSAGE
        return room

    def _printed_too_much(self) -> str:
        return f"stopped: it had printed more than {self.max_output / 1e6:g} MB"

    def _cut(self) -> str:
        return f"\n[cut: this cell printed more than {self.kept_output / 1e6:g} MB]"


@contextmanager
def _elsewhere(resources: ResourcesDict) -> Iterator[None]:
    """While inside, the kernel's folder is a temporary copy of the notebook's, without notebooks."""
    metadata = resources.get("metadata", {})
    if not (path := metadata.get("path")):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="grading-", ignore_cleanup_errors=True) as folder:
        ignored = shutil.ignore_patterns("*.ipynb", "submission_secret.txt")
        shutil.copytree(path, folder, ignore=ignored, dirs_exist_ok=True)
        metadata["path"] = folder
        try:
            yield
        finally:
            metadata["path"] = path


def _overwritten(text: str) -> str:
    """What a terminal would show in the end of lines that were written over, such as a progress bar."""
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def _shorten_error(content: dict) -> None:
    """An error stays an error, but no message or traceback is stored without end."""
    if len(content["evalue"]) > ERROR_CHARACTERS:
        content["evalue"] = content["evalue"][:ERROR_CHARACTERS] + " [cut]"
    if sum(map(len, content["traceback"])) > 10 * ERROR_CHARACTERS:
        content["traceback"] = [line[:ERROR_CHARACTERS] for line in content["traceback"][-10:]]
