"""Messages between two processes: a JSON object and some buffers, each of a bounded size."""

import json
import os
import select
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

_HEAD = struct.Struct(">QI")
_SIZE = struct.Struct(">Q")
#: Bytes of a message's JSON, of its buffers together, and the number of buffers.
MOST_JSON = 32 * 2**20
MOST_BYTES = 512 * 2**20
MOST_BUFFERS = 100_000


class Closed(Exception):
    """The other side is gone."""


class Late(Exception):
    """No answer came in time."""


class Garbled(Exception):
    """What came is no message, or is larger than one may be."""


class Channel:
    """A pair of file descriptors, one to read from and one to write to; not for two threads at once."""

    def __init__(self, reading: int, writing: int, give_up: Callable[[], None] | None = None) -> None:
        """`give_up` makes the other side close; Windows needs it, where a pipe cannot be waited for."""
        self.reading, self.writing, self.give_up = reading, writing, give_up

    def send(
        self, message: dict[str, Any], buffers: list[bytes] | None = None, seconds: float | None = None
    ) -> None:
        """Send a message. Raises Closed where nobody reads, Late where it is not read within `seconds` (of a channel
        that does not block), Garbled where it is larger than a message may be."""
        until = None if seconds is None else time.monotonic() + seconds
        buffers = buffers or []
        text = json.dumps(message, allow_nan=False, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if len(text) > MOST_JSON or len(buffers) > MOST_BUFFERS or sum(map(len, buffers)) > MOST_BYTES:
            raise Garbled("a value that is too large to be handed over")
        parts = [_HEAD.pack(len(text), len(buffers)), text]
        for buffer in buffers:
            parts += [_SIZE.pack(len(buffer)), buffer]
        view = memoryview(b"".join(parts))
        while view:
            try:
                view = view[os.write(self.writing, view[: 2**20]) :]
            except BlockingIOError:
                self._wait(until, self.writing, writing=True)
            except OSError as error:
                raise Closed from error

    def receive(self, seconds: float | None = None) -> tuple[dict[str, Any], list[bytes]]:
        """The next message. Raises Closed, Garbled, and after `seconds` Late."""
        if seconds is not None and os.name == "nt":
            return self._receive_or_give_up(seconds)
        return self._receive(None if seconds is None else time.monotonic() + seconds)

    def _receive(self, until: float | None) -> tuple[dict[str, Any], list[bytes]]:
        length, count = _HEAD.unpack(self._exactly(_HEAD.size, until))
        if length > MOST_JSON or count > MOST_BUFFERS:
            raise Garbled("a message that is too large")
        text = self._exactly(length, until)
        room, buffers = MOST_BYTES, []
        for _ in range(count):
            (size,) = _SIZE.unpack(self._exactly(_SIZE.size, until))
            room -= size
            if room < 0:
                raise Garbled("a message that is too large")
            buffers.append(self._exactly(size, until))
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Garbled("a message that is no JSON") from error
        if not isinstance(message, dict):
            raise Garbled("a message that is no object")
        return message, buffers

    def close(self) -> None:
        """Close both ends; the other side sees Closed."""
        for descriptor in {self.reading, self.writing}:
            os.close(descriptor)

    def _exactly(self, size: int, until: float | None) -> bytes:
        parts, missing = [], size
        while missing:
            if until is not None:
                self._wait(until, self.reading)
            try:
                part = os.read(self.reading, min(missing, 2**20))
            except BlockingIOError:
                self._wait(until, self.reading)
                continue
            except OSError as error:
                raise Closed from error
            if not part:
                raise Closed
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _receive_or_give_up(self, seconds: float) -> tuple[dict[str, Any], list[bytes]]:
        late = threading.Event()
        timer = threading.Timer(seconds, lambda: (late.set(), self.give_up and self.give_up()))
        timer.start()
        try:
            return self._receive(None)
        except Closed:
            if late.is_set():
                raise Late from None
            raise
        finally:
            timer.cancel()

    def _wait(self, until: float | None, descriptor: int, writing: bool = False) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT if writing else select.POLLIN)
        if not poll.poll(None if until is None else max(0.0, until - time.monotonic()) * 1000):
            raise Late
