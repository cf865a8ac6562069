"""What became of a submission as a whole, before anyone looks at its points."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """`state`: empty where it ran to its end, else "failed", "out of time", "out of memory" or "refused"; `reason`: why.

    `ours`: that was the course's machine and not the submission, which is to be tried again.
    """

    state: str = ""
    reason: str = ""
    ours: bool = False
