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
    """One submission. `failed`: why nothing of it could be scored, or empty. `notes`: lines for the instructor.

    `answers` maps a graded cell to the checksum of what was graded there. `digest` names the version of submission
    and tests that `coursepkg grade` graded, `feedback` the grades that its feedback page shows.
    """

    failed: str = ""
    notes: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    feedback: str = ""


def load(gradebook: Gradebook, assignment: str, student: str) -> Record:
    """The record of a submission; an empty one if there is none."""
    _TABLE.create(gradebook.engine, checkfirst=True)
    query = select(_TABLE.c.entries).where(_TABLE.c.assignment == assignment, _TABLE.c.student == student)
    entries = gradebook.db.execute(query).scalar_one_or_none()
    known = {item.name for item in fields(Record)}
    return Record(**{key: value for key, value in json.loads(entries or "{}").items() if key in known})


def save(gradebook: Gradebook, assignment: str, student: str, record: Record) -> None:
    """Store the record in place of an earlier one, and commit the gradebook's session."""
    _TABLE.create(gradebook.engine, checkfirst=True)
    earlier = _TABLE.delete().where(_TABLE.c.assignment == assignment, _TABLE.c.student == student)
    gradebook.db.execute(earlier)
    gradebook.db.execute(
        _TABLE.insert().values(assignment=assignment, student=student, entries=json.dumps(asdict(record)))
    )
    gradebook.db.commit()
