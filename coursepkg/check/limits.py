"""A limit on how long one call may take, on every platform and without a second process."""

import _thread
import threading
from collections.abc import Callable
from typing import Any


class TookTooLong(Exception):
    """The call was interrupted after its time was up."""


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """What `call()` returns. Raises TookTooLong where it runs longer than `seconds`.

    The main thread is interrupted as Ctrl-C would, so a loop in Python ends; outside the main thread, which cannot be
    interrupted, there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        return call()
    lock, state = threading.Lock(), {"running": True, "late": False}

    def interrupt() -> None:
        with lock:
            if state["running"]:
                state["late"] = True
                _thread.interrupt_main()

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        try:
            result = call()
        finally:
            with lock:
                state["running"] = False
            timer.cancel()
        if state["late"]:  # it returned while the interrupt was on its way: let it arrive here, not later
            while True:
                threading.Event().wait(0.1)
        return result
    except KeyboardInterrupt:
        if state["late"]:
            raise TookTooLong from None
        raise
