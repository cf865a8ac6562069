"""Where a result differs from what was expected, in words; types first, so that nothing can equal everything."""

import math
import numbers
from typing import Any

import numpy as np
import torch

_ZERO = 1e-15  # what rounding may leave of a zero


class WrongKind(str):
    """A difference of type, shape or keys: no hint about a value helps there."""


def difference(got: Any, expected: Any, rel: float = 1e-9) -> str | None:
    """What is wrong with `got`, as the end of a sentence, or None where it is what was expected; a WrongKind where it is
    not even of the right kind.

    Whole numbers must be whole; sequences (lists and tuples alike) agree in length, dicts in keys, arrays in shape and
    dtype. Floating-point values agree within `rel`, relative to the expected value, or within 1e-15; integers exactly.
    """
    if isinstance(expected, torch.Tensor):
        return _array(got, expected, torch.Tensor, rel)
    if isinstance(expected, np.ndarray):
        return _array(got, expected, np.ndarray, rel)
    if isinstance(expected, bool) or expected is None or isinstance(expected, str):
        return None if type(got) is type(expected) and got == expected else f"expected {expected!r}"
    if isinstance(expected, int):
        return _whole(got, expected)
    if isinstance(expected, float):
        return _real(got, expected, rel)
    if isinstance(expected, dict):
        return _dict(got, expected, rel)
    if isinstance(expected, list | tuple):
        return _sequence(got, expected, rel)
    raise TypeError(f"a check cannot compare a {type(expected).__name__}")


def _whole(got: Any, expected: int) -> str | None:
    if isinstance(got, bool) or not isinstance(got, numbers.Number):
        return WrongKind(f"expected the whole number {expected}, not a {type(got).__name__}")
    if not isinstance(got, numbers.Integral):
        return WrongKind(f"expected a whole number (an int), {expected}, not a {type(got).__name__}")
    return None if int(got) == expected else f"expected {expected}{_ratio(int(got), expected)}"


def _real(got: Any, expected: float, rel: float) -> str | None:
    if isinstance(got, bool) or not isinstance(got, numbers.Real):
        return WrongKind(f"expected the number {expected!r}, not a {type(got).__name__}")
    try:
        real = float(got)
    except OverflowError:
        return f"expected {expected!r}; yours has more digits than a float can hold"
    close = math.isclose(real, expected, rel_tol=rel, abs_tol=_ZERO)
    return None if close else f"expected {expected!r}{_ratio(real, expected)}"


def _ratio(got: float, expected: float) -> str:
    """A remark where the result is a telling multiple of what was expected."""
    if not expected or isinstance(got, float) and not math.isfinite(got):
        return ""
    try:
        ratio = got / expected
    except OverflowError:
        return ""
    telling = {
        2.0: "twice",
        0.5: "half",
        4.0: "four times",
        0.25: "a quarter of",
        8.0: "8 times",
        0.125: "an eighth of",
    }
    for factor, words in telling.items():
        if math.isclose(ratio, factor, rel_tol=1e-6):
            return f"; yours is {words} that"
    if math.isclose(ratio, 1e9 / 2**30, rel_tol=1e-6) or math.isclose(ratio, 2**30 / 1e9, rel_tol=1e-6):
        return "; the two differ as GB and GiB do"
    return ""


def _dict(got: Any, expected: dict, rel: float) -> str | None:
    if not isinstance(got, dict):
        return WrongKind(f"expected a dict, not a {type(got).__name__}")
    wrong = [f"missing: {k!r}" for k in expected if k not in got]
    wrong += [f"not expected: {k!r}" for k in got if k not in expected]
    if wrong:
        return WrongKind(f"expected the keys {list(expected)}; {', '.join(wrong)}")
    for key, value in expected.items():
        found = difference(got[key], value, rel)
        if found:
            return type(found)(f"{key!r} is {got[key]!r}: {found}")
    return None


def _sequence(got: Any, expected: list | tuple, rel: float) -> str | None:
    if not isinstance(got, list | tuple):
        return WrongKind(f"expected a {type(expected).__name__}, not a {type(got).__name__}")
    if len(got) != len(expected):
        return WrongKind(f"expected {len(expected)} entries, not {len(got)}")
    for i, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
        found = difference(mine, theirs, rel)
        if found:
            return type(found)(f"position {i} is {mine!r}: {found}")
    return None


def _array(got: Any, expected: Any, kind: type, rel: float) -> str | None:
    if not isinstance(got, kind):
        return WrongKind(f"expected a {kind.__module__}.{kind.__name__}, not a {type(got).__name__}")
    if tuple(got.shape) != tuple(expected.shape):
        return WrongKind(f"expected shape {tuple(expected.shape)}, not {tuple(got.shape)}")
    if got.dtype != expected.dtype:
        return WrongKind(f"expected dtype {expected.dtype}, not {got.dtype}")
    mine, theirs = (torch.as_tensor(a).detach().cpu() for a in (got, expected))
    if theirs.is_floating_point() or theirs.is_complex():
        mine, theirs = (a.to(torch.complex128 if a.is_complex() else torch.float64) for a in (mine, theirs))
        wrong = ~torch.isclose(mine, theirs, rtol=rel, atol=_ZERO, equal_nan=True)
    else:
        wrong = mine != theirs
    if not wrong.any():
        return None
    index = tuple(wrong.nonzero()[0].tolist())
    at = index[0] if len(index) == 1 else index
    first = f"{mine[index].item()}, expected {theirs[index].item()}"
    return f"{int(wrong.sum())} of {wrong.numel()} values differ, the first at {at}: {first}"
