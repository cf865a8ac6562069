"""A limit on how long one call may take, on every platform and without a second process."""

import ctypes
import threading
from collections.abc import Callable
from typing import Any


class TookTooLong(BaseException):
    """The call was interrupted after its time was up. Not an Exception, so that a loop's own `except` lets it through."""


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """What `call()` returns. Raises TookTooLong where it runs longer than `seconds`.

    The exception is raised between two steps of the interpreter, so a loop in Python ends; one long call into C,
    a sleep for example, ends first and is reported late.
    """
    thread, lock = ctypes.c_ulong(threading.get_ident()), threading.Lock()
    finished = False

    def interrupt() -> None:
        with lock:
            if not finished:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TookTooLong))

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        return call()
    finally:
        with lock:
            finished = True
        timer.cancel()
