"""What the gradebook has no place for: why a submission failed, what to look at, which version of it was graded.

A table of our own beside nbgrader's in the same database, so that the two are backed up, moved and deleted together.
"""

import json
from dataclasses import asdict, dataclass, field, fields

from nbgrader.api import Gradebook
from sqlalchemy import Column, MetaData, String, Table, Text, select

_TABLE = Table(
    "coursepkg_record",
    MetaData(),
    Column("assignment", String(128), primary_key=True),
    Column("student", String(128), primary_key=True),
    Column("entries", Text, nullable=False),
)


@dataclass
class Record:
    """One submission. `failed`: why nothing of it could be scored, or empty; `state`: how it failed, see
    verdicts.Verdict. `notes`: lines for the instructor. `sandbox`: how it was confined while it ran.

    `answers` maps a graded cell to the checksum of what was graded there; `failures` an exercise to why it lost
    points, and a hint; `unanswered` are those that are as released. `digest` names the version of submission and
    tests that `coursepkg grade` graded, `feedback` the grades that its feedback page shows.
    """

    failed: str = ""
    state: str = ""
    notes: list[str] = field(default_factory=list)
    sandbox: str = ""
    answers: dict[str, str] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)
    digest: str = ""
    feedback: str = ""


def load(gradebook: Gradebook, assignment: str, student: str) -> Record:
    """The record of a submission; an empty one if there is none."""
    prepare(gradebook)
    query = select(_TABLE.c.entries).where(_TABLE.c.assignment == assignment, _TABLE.c.student == student)
    return _read(gradebook.db.execute(query).scalar_one_or_none())


def load_all(gradebook: Gradebook, assignment: str) -> dict[str, Record]:
    """The records of an assignment by student."""
    prepare(gradebook)
    query = select(_TABLE.c.student, _TABLE.c.entries).where(_TABLE.c.assignment == assignment)
    return {student: _read(entries) for student, entries in gradebook.db.execute(query)}


def put(gradebook: Gradebook, assignment: str, student: str, record: Record) -> None:
    """Put the record in place of an earlier one, in the gradebook's session; commits nothing."""
    earlier = _TABLE.delete().where(_TABLE.c.assignment == assignment, _TABLE.c.student == student)
    gradebook.db.execute(earlier)
    values = {"assignment": assignment, "student": student, "entries": json.dumps(asdict(record))}
    gradebook.db.execute(_TABLE.insert().values(**values))


def prepare(gradebook: Gradebook) -> None:
    """Make the table where it is not there yet."""
    _TABLE.create(gradebook.engine, checkfirst=True)


def _read(entries: str | None) -> Record:
    known = {item.name for item in fields(Record)}
    return Record(**{key: value for key, value in json.loads(entries or "{}").items() if key in known})
