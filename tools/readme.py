"""The parts of README.md that are made from pyproject.toml and from the lectures that exist.

Each part stands between <!-- build: NAME --> and <!-- end: NAME -->.
"""

import re
import tomllib
from pathlib import Path

from tools.address import Address
from tools.masters import assignments, lectures

COLAB_BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
BINDER_BADGE = "https://mybinder.org/badge_logo.svg"
FIRST = "notebooks/00_welcome.ipynb"


def series(root: Path) -> dict[str, str]:
    """What each lecture walks through, by slug, in order: the whole series, written or planned."""
    return tomllib.loads((root / "tools" / "lectures.toml").read_text(encoding="utf-8"))


def build(root: Path, address: Address) -> str:
    """The text of README.md with every built part made anew. Raises ValueError where a part's markers are missing."""
    text = (root / "README.md").read_text(encoding="utf-8")
    parts = {"badges": _badges(address), "clone": _clone(address), "lectures": _lectures(root, address)}
    for name, part in parts.items():
        between = re.compile(rf"(<!-- build: {name} -->\n).*?(<!-- end: {name} -->)", re.DOTALL)
        text, count = between.subn(lambda marks, part=part: f"{marks[1]}{part}\n{marks[2]}", text)
        if count != 1:
            raise ValueError(
                f"README.md: expected <!-- build: {name} --> ... <!-- end: {name} --> once, found {count}"
            )
    return text


def _badges(address: Address) -> str:
    return (
        f"[![Open in Colab]({COLAB_BADGE})]({address.colab(FIRST)})\n"
        f"[![Open in Binder]({BINDER_BADGE})]({address.binder(FIRST)})"
    )


def _clone(address: Address) -> str:
    return f"```\ngit clone {address.repository}\ncd {address.name}\nmake lab     # or: make test\n```"


def _lectures(root: Path, address: Address) -> str:
    written = {master.slug for master in lectures(root)}
    graded = {master.slug for master in assignments(root)}
    unlisted = sorted((written | graded) - series(root).keys())
    if unlisted:
        raise ValueError(f"tools/lectures.toml does not list {', '.join(unlisted)}")
    rows = ["| no. | lecture | assignment | open |", "|---|---|---|---|"]
    for slug, subject in series(root).items():
        number, path = slug[:2], f"notebooks/{slug}.ipynb"
        lecture = f"[{subject}]({path})" if slug in written else f"{subject} (planned)"
        assignment = f"[{slug}](notebooks/assignments/{slug}.ipynb)" if slug in graded else ""
        links = (
            f"[Colab]({address.colab(path)}) · [Binder]({address.binder(path)})" if slug in written else ""
        )
        rows.append(f"| {number} | {lecture} | {assignment} | {links} |")
    return "\n".join(rows)
