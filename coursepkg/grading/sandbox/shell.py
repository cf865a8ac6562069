"""Running cells as a kernel does, without one: IPython's shell in this process, its outputs as a notebook keeps them."""

import builtins
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

#: Seconds between two interrupts of a cell that goes on after the first: a bare `except:` swallows most of them.
NAG = 0.02
#: What an output costs beside its text, so that many empty ones are limited too.
MESSAGE = 200
ERROR_CHARACTERS = 20_000
#: The limits that a cell may meet: on its time, and on what it prints.
LATE, PRINTED = "late", "printed"


class OutputLimit(BaseException):
    """The cell has printed more than it may. Not an Exception, so that a loop's own `except` lets it through."""


class OutOfTime(BaseException):
    """The cell has run longer than it may."""


@dataclass
class Collected:
    """The outputs of one cell. Of `max_output` characters it keeps `kept_output`; then it stops the cell."""

    kept_output: int
    max_output: int
    outputs: list[dict] = field(default_factory=list)
    kept: int = 0
    arrived: int = 0
    stopped: str = ""
    clear_next: bool = False
    displays: dict[str, dict] = field(default_factory=dict)

    def stream(self, name: str, text: str) -> None:
        """Add printed text to what the cell has printed to the same stream."""
        room = self._room(len(text))
        if room > 0:
            kept = text if room >= len(text) else text[:room] + self._cut()
            same = next((o for o in self.outputs if o.get("name") == name), None)
            if same is None:
                self._add({"output_type": "stream", "name": name, "text": [kept]})
            else:
                same["text"].append(kept)
        self._stop_if_endless()

    def shown(self, output: dict, display_id: str | None = None) -> None:
        """Add something displayed, or the cell's value."""
        size = sum(len(v) if isinstance(v, str) else len(repr(v)) for v in output["data"].values())
        room = self._room(size)
        if room < size:
            output |= {"data": {"text/plain": self._cut()}, "metadata": {}}
        if room > 0 or output["output_type"] == "execute_result":
            self._add(output)
            if display_id is not None:
                self.displays[display_id] = output
        self._stop_if_endless()

    def update(self, display_id: str, data: dict, metadata: dict) -> None:
        """Change what this cell has displayed; another cell's stays as it was."""
        if display_id in self.displays and self._room(len(repr(data))) > 0:
            self.displays[display_id] |= {"data": data, "metadata": metadata}
        self._stop_if_endless()

    def clear(self, wait: bool) -> None:
        if wait:
            self.clear_next = True
        else:
            self.outputs.clear()

    def finished(self) -> list[dict]:
        """The outputs as a notebook holds them."""
        for output in self.outputs:
            if output["output_type"] == "stream":
                output["text"] = _overwritten("".join(output["text"]))
        return self.outputs

    def _add(self, output: dict) -> None:
        if self.clear_next:
            self.outputs.clear()
            self.clear_next = False
        self.outputs.append(output)

    def _room(self, size: int) -> int:
        self.arrived += size + MESSAGE
        room = min(size, self.kept_output - self.kept)
        self.kept += size + MESSAGE
        return room

    def _cut(self) -> str:
        return f"\n[cut: this cell printed more than {self.kept_output / 1e6:g} MB]"

    def _stop_if_endless(self) -> None:
        if self.arrived > self.max_output:
            self.stopped = PRINTED
            if threading.current_thread() is threading.main_thread():
                raise OutputLimit


class _Stream:
    """What stands in for sys.stdout and sys.stderr."""

    encoding, errors, newlines, closed, isatty = "utf-8", "replace", None, False, lambda self: False

    def __init__(self, shell: "Shell", name: str) -> None:
        self._shell, self.name = shell, name

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._shell.collected is not None and text:
            self._shell.collected.stream(self.name, text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing waits to be written."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def fileno(self) -> int:
        raise OSError("this stream has no file descriptor")


class _Publisher(DisplayPublisher):
    """IPython's way to display something."""

    def publish(
        self,
        data: dict,
        metadata: dict | None = None,
        *,
        transient: dict | None = None,
        update: bool = False,
        **_: Any,
    ) -> None:
        collected: Collected | None = self.shell.collecting.collected
        if collected is None:
            return
        display_id = (transient or {}).get("display_id")
        if update:
            collected.update(display_id, data, metadata or {})
        else:
            entry = {"output_type": "display_data", "data": data, "metadata": metadata or {}}
            collected.shown(entry, display_id)

    def clear_output(self, wait: bool = False) -> None:
        if self.shell.collecting.collected is not None:
            self.shell.collecting.collected.clear(wait)


class _Hook(DisplayHook):
    """IPython's way to show the value of a cell's last line."""

    def start_displayhook(self) -> None:
        """IPython would print a prompt."""

    def write_output_prompt(self) -> None:
        """IPython would print `Out[1]:`."""

    def write_format_data(self, format_dict: dict, md_dict: dict | None = None) -> None:
        entry = {"output_type": "execute_result", "data": format_dict, "metadata": md_dict or {}}
        if self.shell.collecting.collected is not None:
            number = self.shell.collecting.number
            self.shell.collecting.collected.shown(entry | {"execution_count": number})

    def finish_displayhook(self) -> None:
        """IPython would print an end of line."""


class _InteractiveShell(InteractiveShell):
    """IPython's shell, without a terminal, a history file and a place to debug in."""

    display_pub_class = Type(_Publisher)
    displayhook_class = Type(_Hook)
    collecting: "Shell"

    def enable_gui(self, gui: str | None = None) -> None:
        """There is none."""

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        """Show an error; of an interruption there is nothing to show, and no time to."""
        if not isinstance(sys.exc_info()[1], OutOfTime | OutputLimit):
            super().showtraceback(*args, **kwargs)

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
        self.collecting.failed(etype, evalue, stb)

    def ask_exit(self) -> None:
        """`exit` in a cell ends nothing: the cells after it are the course's."""

    @property
    def system(self) -> Any:
        """`!command`, its output among the cell's."""
        return _run_command

    @system.setter
    def system(self, _: Any) -> None: ...


class Shell:
    """Cells, one after the other, in one namespace, as in a kernel. One for a process, in its main thread."""

    def __init__(self) -> None:
        config = Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.colors = "nocolor"
        self.collected: Collected | None = None
        self.number = 0
        _InteractiveShell.clear_instance()
        self.shell = _InteractiveShell.instance(config=config)
        self.shell.collecting = self
        self.shell.set_hook("show_in_pager", _print_page, 99)
        builtins.input = _no_input
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")

    @property
    def namespace(self) -> dict[str, Any]:
        return self.shell.user_ns

    def cell_of(self, filename: str) -> int | None:
        """The number of the cell that IPython compiled under this name, if any."""
        return self.shell.compile._filename_map.get(filename)

    def rehearse(self) -> None:
        """Have IPython import what it otherwise imports in the middle of a first cell and of a first error."""
        self.collected = Collected(1000, 1000)
        with self._streams():
            for source in ("None", "raise ValueError"):
                self.shell.run_cell(source, store_history=False)
        self.collected = None

    def run(self, source: str, number: int, seconds: float, kept: int, most: int) -> tuple[list[dict], str]:
        """Run a cell as the `number`th; its outputs, and which limit it met, or an empty text."""
        self.collected, self.number = Collected(kept, most), number
        self.shell.execution_count = number
        with self._streams():
            try:
                with limited(seconds) as clock:
                    self.shell.run_cell(source, store_history=True)
            except (OutOfTime, OutputLimit):
                pass  # IPython has let it through
        if clock.struck:
            self.collected.stopped = self.collected.stopped or LATE
        collected, self.collected = self.collected, None
        return collected.finished(), collected.stopped

    def failed(self, kind: type, error: BaseException, traceback: list[str]) -> None:
        """Called by the shell for an error that ended the cell."""
        if self.collected is None:
            return
        text = str(error)
        if len(text) > ERROR_CHARACTERS:
            text = text[:ERROR_CHARACTERS] + " [cut]"
        lines = [str(line) for line in traceback]
        if sum(map(len, lines)) > 10 * ERROR_CHARACTERS:
            lines = [line[:ERROR_CHARACTERS] for line in lines[-10:]]
        self.collected.outputs.append(
            {"output_type": "error", "ename": kind.__name__, "evalue": text, "traceback": lines}
        )

    @contextlib.contextmanager
    def _streams(self) -> Iterator[None]:
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = _Stream(self, "stdout"), _Stream(self, "stderr")
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


@dataclass
class Clock:
    """Whether the time is up. What runs may swallow the interruption, but not this."""

    struck: bool = False


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[Clock]:
    """Raise OutOfTime in what runs inside after `seconds`, and again and again until it has ended.

    Without the signals of POSIX nothing is raised; whoever waits for this process has to end it.
    """
    clock = Clock()
    if not hasattr(signal, "setitimer"):
        yield clock
        return

    def strike(*_: Any) -> None:
        clock.struck = True
        raise OutOfTime

    signal.signal(signal.SIGALRM, strike)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, NAG)
        yield clock
    finally:
        _stop_nagging()


def _stop_nagging() -> None:
    """Switch the timer off, though it may strike while that is done."""
    while True:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            return
        except OutOfTime:
            continue


def _overwritten(text: str) -> str:
    """What a terminal would show in the end of lines that were written over, such as a progress bar."""
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def _run_command(command: str) -> None:
    """`!command`."""
    done = subprocess.run(
        command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    print(done.stdout.decode("utf-8", "replace"), end="")


def _print_page(_: Any, page: Any, **__: Any) -> None:
    """What `?name` shows, among the cell's outputs."""
    print(page.get("text/plain", "") if isinstance(page, dict) else page)


def _no_input(prompt: object = "") -> str:
    raise EOFError("a notebook that is graded cannot ask: input() has nobody to answer it")
