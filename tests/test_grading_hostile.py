"""Of the submissions in tests/hostile.py none gains a point, harms another, or leaves anything behind."""

import contextlib
import io
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil
import pytest
from rich.console import Console
from rich.table import Table

from coursepkg.grading import classroom as grading
from coursepkg.grading.release import student_version
from coursepkg.grading.sandbox import bubblewrap, confine, landlock, link
from coursepkg.grading.states import Standing, State
from tests import classroom, engine, hostile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
HONEST = 12
SECONDS = 3


@dataclass
class Battle:
    """A class in which every third is honest, graded."""

    root: Path
    standings: dict[str, Standing]
    attacks: dict[str, hostile.Attack]
    level: str
    calls: list[bytes] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    printed: str = ""


@contextlib.contextmanager
def listening(calls: list[bytes]) -> Iterator[int]:
    """Two sockets that a submission may try to reach; what they hear goes into `calls`."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0coursepkg-hostile")
        unix.listen()
        yield tcp.getsockname()[1]
        for server in (tcp, unix):
            server.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                calls.append(server.accept()[0].recv(100))


def fight(root: Path, attacks: list[hostile.Attack], level: str) -> Battle:
    """Hand the attacks in among honest submissions, and grade the class."""
    folder = root / "solutions" / hostile.SLUG
    folder.mkdir(parents=True)
    (root / "nbgrader_config.py").write_bytes((classroom.REPOSITORY / "nbgrader_config.py").read_bytes())
    with (root / "nbgrader_config.py").open("a", encoding="utf-8") as config:
        config.write(
            f"\nc.Sandbox.cell_seconds = {SECONDS}\nc.Sandbox.memory = 800_000_000\nc.Sandbox.files = 50_000_000\n"
        )
    solved = hostile.target()
    nbformat.write(solved, folder / f"{hostile.SLUG}.ipynb")
    released = student_version(solved, hostile.SLUG, root)
    battle = Battle(
        root, {}, {f"attack{number:02}": attack for number, attack in enumerate(attacks, start=1)}, level
    )
    with listening(battle.calls) as port:
        for student, attack in battle.attacks.items():
            hostile.submit(root, student, attack, released, port)
        answers = {"double": classroom.DOUBLE, "largest": classroom.LARGEST}
        for number in range(HONEST):
            nb = classroom.submission(released, answers)
            classroom.submit(root, f"{'abcz'[number % 4]}onest{number:02}", nb, hostile.SLUG)
        printed = io.StringIO()
        console = Console(file=printed, width=140)
        found = grading.main(hostile.SLUG, console=console, root=root, jobs=2, sandbox=level)
        battle.printed = printed.getvalue()
        warm = psutil.Process(link.shared().process.pid)
        battle.left = [" ".join(child.cmdline()) for child in warm.children(recursive=True)]
        users = range(confine.FIRST_USER, confine.FIRST_USER + confine.USERS)
        battle.left += [
            str(one.pid) for one in psutil.process_iter(["uids"]) if one.info["uids"].real in users
        ]
    battle.standings = {standing.student: standing for standing in found}
    return battle


@pytest.fixture(scope="module")
def battle(tmp_path_factory: pytest.TempPathFactory) -> Battle:
    os.environ["COURSEPKG_SECRET"] = "of the instructor's"
    try:
        return fight(tmp_path_factory.mktemp("hostile"), hostile.ATTACKS, "best")
    finally:
        del os.environ["COURSEPKG_SECRET"]


def test_none_gains_a_point_and_each_gets_its_state(battle: Battle, capsys: pytest.CaptureFixture) -> None:
    table = Table(
        title=f"{len(battle.attacks)} hostile or broken submissions, {battle.standings['aonest00'].sandbox}"
    )
    for heading in ("submission", "state", "points", "why"):
        table.add_column(heading)
    wrong = []
    for student, attack in battle.attacks.items():
        standing = battle.standings[student]
        points = standing.automatic
        table.add_row(
            attack.name, standing.state, "" if points is None else f"{points:g}", standing.reason[:80]
        )
        expected = attack.state if isinstance(attack.state, tuple) else (attack.state,)
        if standing.state not in expected or points or attack.reason not in standing.reason:
            wrong.append(
                f"{attack.name}: {standing.state} ({standing.reason}), {points} points; expected {' or '.join(expected)}"
            )
    with capsys.disabled():
        Console(width=150).print("\n", table)
    assert not wrong, "\n".join(wrong)
    assert len(battle.attacks) >= 40


def test_every_honest_neighbour_is_graded(battle: Battle) -> None:
    honest = {student: one for student, one in battle.standings.items() if "onest" in student}
    assert len(honest) == HONEST
    assert {(one.state, one.score) for one in honest.values()} == {(State.GRADED, 5.0)}


def test_nothing_is_left_and_nobody_was_called(battle: Battle) -> None:
    assert battle.left == []
    assert battle.calls == []
    assert not Path("/tmp/coursepkg-was-here").exists()


def test_no_file_outside_was_touched(battle: Battle) -> None:
    submitted = (battle.root / "submitted").glob("*onest*/*/*.ipynb")
    assert {path.stat().st_size > 1000 for path in submitted} == {True}
    for path in [*battle.root.glob("autograded/**/*"), *battle.root.glob("feedback/**/*")]:
        assert not path.is_symlink()
        if path.is_file():
            assert b"root:x:0" not in path.read_bytes()
    import numpy

    assert "SystemExit" not in Path(numpy.__file__).read_text(encoding="utf-8")


#: What needs no namespaces to be held off: what is cheated, and what reaches out.
WITHOUT_NAMESPACES = [
    attack
    for attack in [*hostile.CHEATS, *hostile.HARMFUL]
    if attack.name not in ("kills all it can", "is a fork bomb", "breaks out by namespaces and mounts")
]


def test_landlock_holds_off_as_much_where_there_are_no_namespaces(tmp_path: Path) -> None:
    if landlock.version() < 4:
        pytest.skip("this kernel's Landlock is too old")
    battle = fight(tmp_path, WITHOUT_NAMESPACES, "landlock")
    assert {one.sandbox for one in battle.standings.values() if one.sandbox} == {"landlock"}
    gained = [
        attack.name for student, attack in battle.attacks.items() if battle.standings[student].automatic
    ]
    assert gained == []
    honest = [one for student, one in battle.standings.items() if "onest" in student]
    assert [one.score for one in honest] == [5.0] * HONEST
    assert battle.left == battle.calls == []


def test_without_a_sandbox_it_is_said_loudly(tmp_path: Path) -> None:
    battle = fight(tmp_path, [], "plain")
    assert {one.sandbox for one in battle.standings.values()} == {"plain"}
    assert [one.score for one in battle.standings.values()] == [5.0] * HONEST
    page = (tmp_path / f"report_{hostile.SLUG}.html").read_text(encoding="utf-8")
    for text in (page, battle.printed):
        assert "ran without a sandbox, as your own account" in " ".join(text.split())


def test_bubblewrap_confines_where_it_is_all_there_is() -> None:
    if not bubblewrap.is_there():
        pytest.skip("bubblewrap is not installed")
    reads = f"import os\ntry:\n    print(os.listdir({str(classroom.REPOSITORY / 'solutions')!r}))\nexcept OSError:\n    print('hidden')"
    calls = "import socket\ntry:\n    socket.create_connection(('127.0.0.1', PORT), 1)\nexcept OSError:\n    print('no way')"
    with socket.create_server(("127.0.0.1", 0)) as server:
        calls = calls.replace("PORT", str(server.getsockname()[1]))
        nb = engine.run("1 + 1", reads, calls, "while True:\n    pass", level="bubblewrap", cell_seconds=2)
    assert nb.cells[0].outputs[0].data["text/plain"] == "2"
    assert [cell.outputs[0].text for cell in nb.cells[1:3]] == ["hidden\n", "no way\n"]
    assert engine.error(nb.cells[3]).startswith("Stopped: stopped after 2 s")
