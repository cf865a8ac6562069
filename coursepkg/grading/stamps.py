"""nbgrader's files beside a notebook: when it was handed in, and the key to its feedback. Students can write them."""

import os
from datetime import datetime
from pathlib import Path

from nbgrader import utils

from coursepkg.grading.intake import reading

NAMES = ("timestamp.txt", "submission_secret.txt")
_LONGEST = 1000


def handed_in(folder: Path) -> tuple[datetime | None, str]:
    """When a submission was handed in, if that is said; and what is wrong with how it is said, or an empty text."""
    path = folder / "timestamp.txt"
    if not os.path.lexists(path):
        return None, ""
    try:
        return utils.parse_utc(reading.content(path, _LONGEST).decode().strip()), ""
    except (reading.Refused, ValueError, OverflowError, OSError):
        return None, "its timestamp.txt is not a time; no late penalty was worked out"


def copy(source: Path, to: Path) -> None:
    """Copy these files from one folder of a submission to another, where nbgrader's other commands look for them."""
    for name in NAMES:
        if os.path.lexists(source / name):
            try:
                (to / name).write_bytes(reading.content(source / name, _LONGEST))
            except reading.Refused:
                continue
