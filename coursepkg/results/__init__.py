"""Measurements that a lecture's minute on a CPU cannot make: data files, each with what made it.

>>> from coursepkg import results
>>> results.load("device_memory").measured in (True, False)
True
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Results:
    """One results file.

    measured: False until somebody has run `command` on the machine that it needs; `rows` is then empty.
    machine, versions: where and with what it was measured. rows: one dict for each measurement, bytes as integers.
    """

    name: str
    measured: bool
    command: str
    machine: dict[str, Any]
    versions: dict[str, str]
    rows: tuple[dict[str, Any], ...]

    def row(self, **wanted: Any) -> dict[str, Any]:
        """The one row with these values. Raises ValueError where there is none, or several."""
        found = [row for row in self.rows if all(row.get(key) == value for key, value in wanted.items())]
        if len(found) != 1:
            raise ValueError(f"{self.name} has {len(found)} rows with {wanted}")
        return found[0]

    def __str__(self) -> str:
        if not self.measured:
            return f"{self.name}: not yet measured. To measure: {self.command}"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.name}: measured on {self.machine['device']} with {versions}, by {self.command}"


def load(name: str) -> Results:
    """The results file called `name`. Raises ValueError where there is none."""
    path = files("coursepkg.results").joinpath(f"{name}.json")
    if not path.is_file():
        raise ValueError(f"no results called {name!r}")
    entry = json.loads(path.read_text(encoding="utf-8"))
    rows = tuple(entry["rows"])
    return Results(name, entry["measured"], entry["command"], entry["machine"], entry["versions"], rows)
