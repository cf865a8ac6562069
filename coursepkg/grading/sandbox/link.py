"""The owner's side of the warm process: its connection and its environment. Imports nothing that takes long."""

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import sysconfig
import threading

#: Variables of the owner that the warm process inherits; no key or password of theirs is among them.
KEPT = ("LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PYTHONPATH", "COVERAGE_PROCESS_START")
SET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONIOENCODING": "utf-8",
    "PYTHONUTF8": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
#: What every worker imports.
NEEDED = "import coursepkg.grading.engine.worker\nimport coursepkg.check\nimport IPython.display"
#: Bytes of a request.
_LONGEST = 2**16


class Link:
    """One end of a connection on which requests go to the warm process, with open files, and answers come back."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    def send(self, message: dict, files: tuple[int, ...] = ()) -> None:
        socket.send_fds(self.socket, [json.dumps(message).encode()], list(files))

    def receive(self) -> tuple[dict, list[int]]:
        """The next message. Raises EOFError where the other side is gone."""
        try:
            text, files, _, _ = socket.recv_fds(self.socket, _LONGEST, 4)
        except OSError as error:
            raise EOFError from error
        if not text:
            raise EOFError
        return json.loads(text), files

    def ask(self, message: dict, files: tuple[int, ...] = ()) -> dict:
        """Send a request and wait for its answer. Raises EOFError."""
        try:
            self.send(message, files)
        except OSError as error:
            raise EOFError from error
        return self.receive()[0]


def pair() -> tuple[Link, Link]:
    """Two connected links."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Link(ours), Link(theirs)


def environment() -> dict[str, str]:
    """What a warm process finds in its environment."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), "/usr/local/bin", "/usr/bin", "/bin"])
    return {name: os.environ[name] for name in KEPT if name in os.environ} | SET | {"PATH": path}


class WarmProcess:
    """The warm process, as its owner sees it. It begins at once to import what every worker needs."""

    def __init__(self) -> None:
        ours, theirs = pair()
        file = theirs.socket.fileno()
        with theirs.socket:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "coursepkg.grading.sandbox", str(file)],
                pass_fds=[file],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.link, self.lock = ours, threading.Lock()
        self.unanswered = 0
        self.promise({"do": "load", "imports": NEEDED})

    def promise(self, request: dict) -> None:
        """Send a request whose answer nobody waits for. Where the process has ended, the next one that is asked says so."""
        with self.lock, contextlib.suppress(OSError):
            self.link.send(request)
            self.unanswered += 1

    def ask(self, request: dict, files: tuple[int, ...] = ()) -> dict:
        """Send a request and wait for its answer. Raises EOFError where the process has ended."""
        with self.lock:
            while self.unanswered:
                self.link.receive()
                self.unanswered -= 1
            return self.link.ask(request, files)

    def close(self) -> None:
        """End it, and with it all that it has forked."""
        self.link.socket.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_shared: list[WarmProcess] = []


def shared() -> WarmProcess:
    """The warm process of this one: started when it is first asked for, or anew where it has ended, and ended with us."""
    if not _shared or _shared[-1].process.poll() is not None:
        _shared.append(WarmProcess())
        atexit.register(_shared[-1].close)
    return _shared[-1]
