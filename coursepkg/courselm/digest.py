"""One number for all the text of the world: equal on every platform and Python version, or something has changed."""

import hashlib
import json
from dataclasses import asdict
from itertools import islice

from coursepkg.courselm import sums, text
from coursepkg.courselm.encyclopedia import world as encyclopedia
from coursepkg.courselm.exams import exam
from coursepkg.courselm.handbooks import CLIENTS, handbook

DOCUMENTS = 2000


def world() -> dict[str, str]:
    """SHA-256 digests of the encyclopedia, the sums, the handbooks, the exams and the first training documents."""
    return {
        "encyclopedia": _of([asdict(entry) for entry in encyclopedia().entries]),
        "sums": _of([asdict(each) for each in (*sums.sums(), *sums.conversions())]),
        "documents": _of([asdict(each) for each in islice(text.documents(0), DOCUMENTS)]),
        **{f"{name} handbook": _of([asdict(entry) for entry in handbook(name)]) for name in CLIENTS},
        **{f"{name} exam": _of(asdict(exam(name))) for name in ("encyclopedia", *CLIENTS)},
    }


def _of(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True, sort_keys=True).encode()).hexdigest()
