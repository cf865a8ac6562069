"""The two ways a check can end badly. Their message is written for the student, and is all that a notebook shows."""


class _ForTheStudent(AssertionError):
    """An error whose message says everything; a traceback through the checks would only hide it."""

    heading: str

    def _render_traceback_(self) -> list[str]:  # IPython shows these lines in place of a traceback
        return [f"{self.heading}: {self}"]


class CheckFailed(_ForTheStudent):
    """The student's function did not do what the exercise asks for."""

    heading = "Not yet"


class Refused(_ForTheStudent):
    """The answer cannot be checked: it is the package's own solution, or the checks were changed."""

    heading = "Refused"
