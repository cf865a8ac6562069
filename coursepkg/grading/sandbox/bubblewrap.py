"""The command that runs a Python in bubblewrap, for machines on which only its own program may make namespaces."""

import shutil
from pathlib import Path

from coursepkg.grading.sandbox import jail
from coursepkg.grading.sandbox.limits import Limits


def is_there() -> bool:
    """Whether this machine has it."""
    return shutil.which("bwrap") is not None


def command(python: list[str], files: Path, hidden: tuple[Path, ...], limits: Limits) -> list[str]:
    """bwrap's command line: libraries to read, nothing of `hidden`, a copy of nothing; `files` to read and write."""
    found = shutil.which("bwrap")
    if found is None:
        raise FileNotFoundError("bubblewrap is not installed")
    line = [found, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    line += ["--dev", "/dev", "--proc", "/proc", "--size", str(limits.files), "--tmpfs", "/tmp"]
    shown = [(path, True) for path in jail.libraries()] + [(path.resolve(), False) for path in hidden]
    for path, visible in sorted(shown):
        if not visible:
            line += ["--tmpfs", str(path)] if path.is_dir() else ["--ro-bind", "/dev/null", str(path)]
        elif path.is_symlink():
            line += ["--symlink", str(path.readlink()), str(path)]
        else:
            line += ["--ro-bind", str(path), str(path)]
    line += ["--bind", str(files), jail.FOLDER, "--chdir", jail.FOLDER]
    line += ["--setenv", "HOME", "/tmp", "--setenv", "TMPDIR", "/tmp"]
    return [*line, *python]
