"""The student's process as tests see it: its values as values, its functions as functions that are called over there."""

import ast
import builtins
import pickle
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from coursepkg.check import Refused, answers, ownwork
from coursepkg.check.limits import TookTooLong
from coursepkg.grading.engine.names import names_used_by
from coursepkg.grading.sandbox.channel import Channel, Closed, Garbled, Late
from coursepkg.grading.sandbox.codec import NotData, decode, encode

#: Seconds after its own limit that the student's process has to say that it stopped.
GRACE = 5.0


class Gone(BaseException):
    """The student's process cannot be asked any more. Not an Exception: no test may take it for an answer."""


class Ended(Gone):
    """It has ended."""


class Stuck(Gone):
    """It goes on after its time was up."""


class Nonsense(Gone):
    """It sent what it never sends by itself."""


class Session:
    """Requests to one student's process. `seconds_left` gives what the cell that runs may still take."""

    seconds_left: Callable[[], float]

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.sources: list[str] = []
        self.without: set[str] = set()
        self.answered = False
        self._asked = 0
        self._callbacks: list[Callable] = []

    def ask(
        self, what: str, seconds: float, buffers: list[bytes] | None = None, **given: Any
    ) -> tuple[dict, list[bytes]]:
        """The reply to a request. Raises Gone."""
        self._asked += 1
        number = self._asked
        request = {"id": number, "do": what, "seconds": seconds, **given}
        until = time.monotonic() + seconds + GRACE
        try:
            self.channel.send(request, buffers, seconds + GRACE)
            while True:
                reply, received = self.channel.receive(max(0.0, until - time.monotonic()))
                if "callback" not in reply:
                    break
                self._call_back(reply, received)
        except Closed as error:
            raise Ended from error
        except (Late, TookTooLong) as error:
            raise Stuck from error
        except (Garbled, NotData) as error:
            raise Nonsense(str(error)) from error
        if reply.get("id") != number:
            raise Nonsense("an answer to another question")
        self.answered = True
        return reply, received

    def run(self, source: str, number: int, seconds: float, kept: int, most: int) -> tuple[Any, Any]:
        """Run a cell: its outputs as they were sent, and which limit it met, as that was sent; see sandbox.shell."""
        self.sources.append(source)
        limits = {"kept_output": kept, "max_output": most}
        reply, _ = self.ask("run", seconds, source=source, number=number, **limits)
        return reply.get("outputs"), reply.get("stopped")

    def spoil(self, packages: list[str]) -> None:
        """Make packages useless over there, before anything has run."""
        self.ask("spoil", GRACE, packages=packages)

    def names(self, names: list[str]) -> dict[str, Any]:
        """The values of those of these names that the notebook has defined."""
        reply, buffers = self.ask("names", GRACE, names=names)
        found = reply.get("found")
        if not isinstance(found, dict):
            return {}
        values = {name: self.value(found[name], buffers) for name in names if name in found}
        for name, value in values.items():
            if isinstance(value, Remote):
                value.coursepkg_bound = name
        return values

    def value(self, tree: Any, buffers: list[bytes]) -> Any:
        try:
            return decode(tree, buffers, self._stand_in)
        except NotData as error:
            raise Nonsense(str(error)) from error

    def outcome(
        self,
        what: str,
        seconds: float | None = None,
        without: tuple[ModuleType, ...] = (),
        buffers: list[bytes] | None = None,
        **given: Any,
    ) -> answers.Outcome:
        """What came of something done over there."""
        left = self.seconds_left()
        if left <= 0:
            raise TookTooLong
        seconds = left if seconds is None else min(seconds, left)
        if what == "call":
            given["without"] = [module.__name__ for module in without]
            self.without |= set(given["without"])
        reply, received = self.ask(what, seconds, buffers, **given)
        called = [str(name) for name in reply.get("called") or []]
        if reply.get("late"):
            return answers.Outcome(late=True, called=called)
        if "refused" in reply:
            raise Refused(str(reply["refused"]))
        if "raised" in reply:
            error, line = _error(reply["raised"])
            return answers.Outcome(raised=error, line=line, called=called)
        if "unsendable" in reply:
            return answers.Outcome(raised=TypeError(f"the result is {reply['unsendable']}"), called=called)
        return answers.Outcome(self.value(reply.get("value"), received), called=called)

    def packed(self, value: Any, buffers: list[bytes]) -> Any:
        """A value on its way to the student's process: what is not data goes as a pickle, or as a callback."""
        return encode(value, buffers, self._refer)

    def _refer(self, value: Any) -> dict:
        if isinstance(value, Remote):
            return {"object": ["theirs", value.coursepkg_number]}
        try:
            return {"object": ["pickle", pickle.dumps(value).hex()]}
        except Exception:
            if not callable(value):
                raise
        self._callbacks.append(value)
        return {"object": ["callback", len(self._callbacks) - 1]}

    def _call_back(self, reply: dict, received: list[bytes]) -> None:
        """Call a function of the test's with the student's arguments, which are data or stay over there."""
        number = reply["callback"]
        if type(number) is not int or not 0 <= number < len(self._callbacks):
            raise Nonsense("a call of a function that was not handed over")
        arguments = self.value(reply.get("args"), received)
        if not (isinstance(arguments, tuple) and len(arguments) == 2 and isinstance(arguments[1], dict)):
            raise Nonsense("a call without arguments")
        buffers: list[bytes] = []
        try:
            answer = {"value": self.packed(self._callbacks[number](*arguments[0], **arguments[1]), buffers)}
        except Exception as error:
            known = getattr(builtins, type(error).__name__, None) is type(error)
            answer, buffers = (
                {"raised": type(error).__name__ if known else "RuntimeError", "text": str(error)},
                [],
            )
        self.channel.send(answer, buffers, GRACE)

    def _stand_in(self, content: Any) -> "Remote":
        """What stands here for something that stays in the student's process."""
        number, kind, *names = content
        if type(number) is not int or len(names) != 3 or any(type(name) is not str for name in names):
            raise NotData("a reference that is none")
        return (RemoteFunction if kind == "callable" else Remote)(self, number, *names)


class Remote:
    """Something that stays in the student's process. It equals nothing but itself."""

    def __init__(self, session: Session, number: int, name: str, module: str, kind: str) -> None:
        self.coursepkg_session, self.coursepkg_number = session, number
        self.__name__, self.coursepkg_module, self.coursepkg_kind = name or kind, module, kind
        self.coursepkg_bound = ""

    def _coursepkg_value(self, what: str, buffers: list[bytes] | None = None, **given: Any) -> Any:
        outcome = self.coursepkg_session.outcome(what, object=self.coursepkg_number, buffers=buffers, **given)
        if outcome.late:
            raise TookTooLong
        if outcome.raised is not None:
            raise outcome.raised
        return outcome.value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._coursepkg_value("attribute", name=name)

    def __getitem__(self, key: Any) -> Any:
        buffers: list[bytes] = []
        return self._coursepkg_value("item", buffers, key=self.coursepkg_session.packed(key, buffers))

    def __len__(self) -> int:
        return self._coursepkg_value("length")

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(self._coursepkg_value("items"))

    def __repr__(self) -> str:
        return f"<the student's {self.__name__}>"

    def __reduce__(self) -> Any:
        raise TypeError("it stays in the student's process")


class RemoteFunction(Remote):
    """A function, or a class, of the student's."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        buffers: list[bytes] = []
        packed = self.coursepkg_session.packed((args, kwargs), buffers)
        return self._coursepkg_value("call", buffers, args=packed)

    def coursepkg_answer(self) -> "RemoteAnswer":
        """For coursepkg.check."""
        return RemoteAnswer(self)


class RemoteAnswer:
    """A function of the student's, as coursepkg.check asks for it."""

    def __init__(self, function: RemoteFunction) -> None:
        self.function, self.name = function, function.__name__

    def refuse_changed_checks(self, packages: tuple[ModuleType, ...]) -> None:
        """The student's process has no hold on these."""

    def refuse_the_packages_own(self, packages: tuple[ModuleType, ...]) -> None:
        """Looks into the cells that ran, and not at what the student's process says of the function."""
        sources = self.function.coursepkg_session.sources
        names = names_used_by({self.name, self.function.coursepkg_bound}, tuple(sources))
        skeletons = {one for source in sources for one in ownwork.skeletons_in(source, names)}
        ownwork.refuse_own(self.name, self.function.coursepkg_module, skeletons, packages)

    def call(
        self, args: tuple, kwargs: dict, packages: tuple[ModuleType, ...], seconds: float
    ) -> answers.Outcome:
        session, buffers = self.function.coursepkg_session, []
        packed = session.packed((args, kwargs), buffers)
        where = {"object": self.function.coursepkg_number, "args": packed}
        return session.outcome("call", seconds, packages, buffers, **where)


def _error(described: Any) -> tuple[Exception, int | None]:
    """An error of the student's process as one of here: of the nearest of Python's own classes."""
    described = described if isinstance(described, dict) else {}
    classes = [str(name) for name in described.get("classes") or [] if str(name).isidentifier()]
    own = [name for name in classes if _is_error(name)]
    base = getattr(builtins, own[0]) if own else Exception
    made = base if own and classes[0] == own[0] else type(classes[0] if classes else "Error", (base,), {})
    text = str(described.get("text", ""))
    try:
        error = made(_key(text) if made is KeyError else text)
    except TypeError:  # UnicodeDecodeError, for one, is made of more than a text
        error = type(made.__name__, (Exception,), {})(text)
    error.coursepkg_place = place = _place(described.get("place"))
    return error, place[1] if place else None


def _key(text: str) -> Any:
    """What a KeyError was made of, whose text is the representation of that."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _place(sent: Any) -> tuple[int, int] | None:
    """The number of a cell and a line in it, or None."""
    numbers = sent if isinstance(sent, list) and len(sent) == 2 else [0, 0]
    return tuple(numbers) if all(type(one) is int and 0 < one < 10**6 for one in numbers) else None


def _is_error(name: str) -> bool:
    found = getattr(builtins, name, None)
    return isinstance(found, type) and issubclass(found, Exception)
