"""The student's process: it runs cells and calls functions as it is told, and answers with data.

Nothing in here decides anything. Whatever the student's code does to this process, its answers are read as values
by a process that knows what is expected and does not trust them.
"""

import builtins
import contextlib
import importlib
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any

from coursepkg.check import Refused, ownwork
from coursepkg.grading.sandbox import poison
from coursepkg.grading.sandbox.channel import Channel, Closed, Garbled
from coursepkg.grading.sandbox.codec import NotData, decode, encode
from coursepkg.grading.sandbox.shell import Shell, limited

#: Characters of an error's message and of a name that are sent.
MOST_TEXT = 2000
#: Items of an object that is iterated over.
MOST_ITEMS = 100_000


class Served:
    """One student's notebook, run on request."""

    def __init__(self, channel: Channel, shell: Shell) -> None:
        self.channel, self.shell = channel, shell
        self.objects: list[Any] = []

    def loop(self) -> None:
        """Answer requests until there is nobody to ask."""
        while True:
            try:
                message, buffers = self.channel.receive()
            except Closed:
                return
            self.send(*self._answered(message, buffers))

    def send(self, reply: dict, buffers: list[bytes]) -> None:
        try:
            self.channel.send(reply, buffers)
        except (Garbled, ValueError, TypeError, RecursionError, MemoryError):
            self.channel.send(
                {"id": reply.get("id"), "unsendable": "a value that is too large to be handed over"}
            )

    def _answered(self, message: dict, buffers: list[bytes]) -> tuple[dict, list[bytes]]:
        made: list[bytes] = []
        try:
            reply = getattr(self, message["do"])(message, buffers, made)
        except (NotData, RecursionError, MemoryError) as error:
            reply, made = {"unsendable": str(error) or type(error).__name__}, []
        return {"id": message["id"], **reply}, made

    # Requests

    def run(self, message: dict, _: list[bytes], __: list[bytes]) -> dict:
        """Run a cell; its outputs, and why it was stopped."""
        numbers = (message[key] for key in ("number", "seconds", "kept_output", "max_output"))
        outputs, stopped = self.shell.run(message["source"], *numbers)
        return {"outputs": outputs, "stopped": stopped}

    def names(self, message: dict, _: list[bytes], made: list[bytes]) -> dict:
        """The values of those of these names that the notebook has defined."""
        namespace = self.shell.namespace
        found = {name: namespace[name] for name in message["names"] if name in namespace}
        return {"found": {name: encode(value, made, self._refer) for name, value in found.items()}}

    def call(self, message: dict, buffers: list[bytes], made: list[bytes]) -> dict:
        """Call a function; its value or error, and which functions of the packages in `without` it called."""
        args, kwargs = decode(message["args"], buffers, self._resolve)
        function = self.objects[message["object"]]
        packages = tuple(importlib.import_module(name) for name in message["without"])
        return self._outcome(lambda: function(*args, **kwargs), message["seconds"], made, packages)

    def attribute(self, message: dict, _: list[bytes], made: list[bytes]) -> dict:
        """An attribute of an object."""
        thing = self.objects[message["object"]]
        return self._outcome(lambda: getattr(thing, message["name"]), message["seconds"], made)

    def item(self, message: dict, buffers: list[bytes], made: list[bytes]) -> dict:
        """An entry of an object."""
        thing, key = self.objects[message["object"]], decode(message["key"], buffers, self._resolve)
        return self._outcome(lambda: thing[key], message["seconds"], made)

    def length(self, message: dict, _: list[bytes], made: list[bytes]) -> dict:
        """How long an object says it is."""
        return self._outcome(lambda: len(self.objects[message["object"]]), message["seconds"], made)

    def items(self, message: dict, _: list[bytes], made: list[bytes]) -> dict:
        """What iterating over an object gives."""
        thing = self.objects[message["object"]]

        def some() -> list:
            return [item for item, _ in zip(thing, range(MOST_ITEMS), strict=False)]

        return self._outcome(some, message["seconds"], made)

    def spoil(self, message: dict, _: list[bytes], __: list[bytes]) -> dict:
        """Make packages useless; asked for before any code of the student's has run."""
        poison.spoil(message["packages"])
        return {}

    # What they are made of

    def _outcome(
        self, action: Callable[[], Any], seconds: float, made: list[bytes], without: tuple = ()
    ) -> dict:
        """What came of an action, as a reply."""
        watching = ownwork.watching(without) if without else contextlib.nullcontext([])
        try:
            with watching as called:
                reply = self._done(action, seconds, made)
        except Refused as refused:
            return {"refused": str(refused)[:MOST_TEXT]}
        return reply | {"called": [str(name)[:MOST_TEXT] for name in called[:1]]}

    def _done(self, action: Callable[[], Any], seconds: float, made: list[bytes]) -> dict:
        try:
            with limited(seconds) as clock:
                value = action()
            reply = {"value": encode(value, made, self._refer)}
        except BaseException as error:
            reply = {"raised": _described(error, self.shell.cell_of)}
        return {"late": True} if clock.struck else reply

    def _refer(self, value: Any) -> dict:
        """A reference to what stays here."""
        self.objects.append(value)
        kind = "callable" if callable(value) else "object"
        names = [_name_of(value, "__name__"), _name_of(value, "__module__"), type(value).__name__[:MOST_TEXT]]
        return {"object": [len(self.objects) - 1, kind, *names]}

    def _resolve(self, content: list) -> Any:
        """What a reference in a request stands for. Requests come from the trusted side, pickles too."""
        kind, what = content
        if kind == "theirs":
            return self.objects[what]
        if kind == "pickle":
            return pickle.loads(bytes.fromhex(what))
        return self._callback(what)

    def _callback(self, number: int) -> Any:
        """A function of the trusted side."""

        def called_back(*args: Any, **kwargs: Any) -> Any:
            made: list[bytes] = []
            self.channel.send({"callback": number, "args": encode((args, kwargs), made, self._refer)}, made)
            while True:
                message, buffers = self.channel.receive()
                if "do" not in message:
                    break
                self.send(*self._answered(message, buffers))  # the function asks for something of here itself
            if "raised" in message:
                raise getattr(builtins, message["raised"])(message["text"])
            return decode(message["value"], buffers, self._resolve)

        return called_back


def _described(error: BaseException, cell_of: Callable[[str], int | None]) -> dict:
    """An error as data: the names of its classes, its message, and the innermost place in a cell of the student's, as
    the number of the cell and the line in it."""
    try:
        text = str(error)[:MOST_TEXT]
    except BaseException:
        text = ""
    frames = traceback.extract_tb(error.__traceback__)
    names = [base.__name__[:MOST_TEXT] for base in type(error).__mro__]
    places = [(number, frame.lineno) for frame in frames if (number := cell_of(frame.filename)) is not None]
    return {"classes": names, "text": text, "place": places[-1] if places else None}


def _name_of(value: Any, attribute: str) -> str:
    try:
        found = getattr(value, attribute, "")
    except BaseException:
        return ""
    return found[:MOST_TEXT] if type(found) is str else ""


def main(channel: Channel, shell: Shell) -> None:
    """Serve until the other side has closed the channel."""
    sys.argv = ["notebook"]
    Served(channel, shell).loop()
