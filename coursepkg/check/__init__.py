"""What a student's cell calls to have an exercise checked.

    from coursepkg import check
    check.function(double, [check.case(2, expected=4, hint="Twice the argument.")])

A check that fails raises `CheckFailed`: what was called, with what, what came back, what was expected, one hint. Work
that is not the student's own, or checks that were changed, raise `Refused`.
"""

from coursepkg.check.cases import Case, case
from coursepkg.check.failures import CheckFailed, Refused
from coursepkg.check.functions import function, hidden

__all__ = ["Case", "CheckFailed", "Refused", "case", "function", "hidden"]
