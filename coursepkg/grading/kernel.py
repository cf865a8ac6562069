"""What the kernel that grades or validates does differently; an IPython extension that it loads when it starts.

A cell that prints without end is stopped here, at the source: what it has printed would else reach the grader in
messages of hundreds of MB. And where nbgrader validates, stderr goes where stdout goes, because its validator takes
text on stderr for a failed test and cannot be told otherwise.
"""

import os
import sys
import threading
from collections.abc import Callable

VARIABLE = "COURSEPKG_MAX_OUTPUT"
DEFAULT = 20_000_000


class OutputLimit(BaseException):
    """The cell has printed more than it may. Not an Exception, so that a loop's own `except` lets it through."""


def load_ipython_extension(shell: object) -> None:
    """Called by IPython."""
    if "NBGRADER_VALIDATING" in os.environ:
        sys.stderr.name = "stdout"
    limit = Limit(int(os.environ.get(VARIABLE, DEFAULT)))
    for stream in (sys.stdout, sys.stderr):
        stream.write = limit.on(stream.write)
    shell.events.register("pre_run_cell", limit.reset)


class Limit:
    """Counts what a cell prints, in characters, and ends it after `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.printed = 0

    def reset(self, *_: object) -> None:
        """A new cell."""
        self.printed = 0

    def on(self, write: Callable[[str], int]) -> Callable[[str], int]:
        """`write`, until the limit; then it raises OutputLimit, and in other threads than the main one does nothing."""

        def limited(text: str) -> int:
            room = self.limit - self.printed
            self.printed += len(text)
            if len(text) <= room:
                return write(text)
            if room > 0:
                write(text[:room])
            if threading.current_thread() is threading.main_thread():
                raise OutputLimit(f"it had printed more than {self.limit / 1e6:g} MB")
            return len(text)

        return limited
