"""Running a test cell where the student's code cannot reach it."""

import ast
import contextlib
import io
import linecache
import sys
import traceback
from collections.abc import Iterator
from functools import cache
from types import CodeType, ModuleType
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

from coursepkg.check.limits import TookTooLong
from coursepkg.grading.engine.remote import Gone

#: Lines of a cell that are shown around the one that raised.
CONTEXT = 2


class Bench:
    """The namespace that the test cells of one notebook share, and the running of each."""

    def __init__(self) -> None:
        self.module = ModuleType("__main__")
        self.module.__dict__.update(__builtins__=__builtins__, display=lambda *_, **__: None)

    def run(self, source: str, number: int, given: dict[str, Any]) -> tuple[list[dict], bool]:
        """Run a cell as the `number`th, with `given` names; its outputs, and whether a call in it ran out of time.

        Raises Gone where the student's process cannot be asked any more.
        """
        self.module.__dict__.update(given)
        printed, outputs, late = io.StringIO(), [], False
        name = f"<cell {number}>"
        with _main(self.module), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                value = self._execute(source, name)
                if value is not None:
                    outputs.append(_result(value, number))
            except TookTooLong:
                late = True
            except Gone:
                raise
            except BaseException as error:
                outputs.append(_failure(error, source, name, number))
        if text := printed.getvalue():
            outputs.insert(0, {"output_type": "stream", "name": "stdout", "text": text})
        return outputs, late

    def _execute(self, source: str, name: str) -> Any:
        """Run the cell; the value of its last line, if that is an expression."""
        body, last = _compiled(source, name)
        exec(body, self.module.__dict__)
        return eval(last, self.module.__dict__) if last else None


@cache
def _compiled(source: str, name: str) -> tuple[CodeType, CodeType | None]:
    """The cell without its last line, if that is an expression, and that expression."""
    source = TransformerManager().transform_cell(source)
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    tree = ast.parse(source, name)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";"):
        last = compile(ast.Expression(tree.body.pop().value), name, "eval", dont_inherit=True)
    return compile(tree, name, "exec", dont_inherit=True), last


def _result(value: Any, number: int) -> dict:
    data = {"text/plain": repr(value)}
    return {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": number}


def _failure(error: BaseException, source: str, name: str, number: int) -> dict:
    """An error as a notebook keeps it, its frames written as IPython writes them."""
    kind, text = type(error).__name__, str(error)
    if hasattr(error, "_render_traceback_"):
        shown = error._render_traceback_()
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
        if isinstance(error, SyntaxError) and error.filename == name:
            frames = [traceback.FrameSummary(name, error.lineno or 1, "")]
        shown = [f"{kind}: Traceback (most recent call last)"]
        shown += [_excerpt(source, frame.lineno or 1, number) for frame in frames]
        if place := getattr(error, "coursepkg_place", None):  # in the student's cells, whose text is not here
            shown.append("Cell In[{}], line {}".format(*place))
        shown.append(f"{kind}: {text}")
    return {"output_type": "error", "ename": kind, "evalue": text, "traceback": shown}


def _excerpt(source: str, line: int, number: int) -> str:
    lines = source.split("\n")
    first = max(1, line - CONTEXT)
    shown = [
        f"{'---->' if at == line else '     '} {at} {lines[at - 1]}"
        for at in range(first, min(len(lines), line + CONTEXT) + 1)
    ]
    return f"Cell In[{number}], line {line}\n" + "\n".join(shown)


@contextlib.contextmanager
def _main(module: ModuleType) -> Iterator[None]:
    """While inside, `module` is `__main__`, as in a kernel."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        yield
    finally:
        sys.modules["__main__"] = before
