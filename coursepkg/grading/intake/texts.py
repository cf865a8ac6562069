"""The texts of cells: what names them, what they define, and what is left of them when it does not matter how they
are laid out."""

import ast
import re
import warnings
from collections.abc import Iterator

#: Above as many characters code is not parsed, as nobody writes such a cell by hand.
PARSED = 100_000
#: What nbgrader leaves in the place of a solution.
_LEFT_OUT = re.compile(r"YOUR CODE HERE|raise NotImplementedError|YOUR ANSWER HERE")
_NAMED = re.compile(
    r"(?:^[ \t]*#+|<!--)[ \t]*grade[_ -]?id[ \t]*[:=][ \t]*[\"'`]?(\w(?:[\w-]*\w)?)", re.I | re.M
)
_NAMING = re.compile(
    r"^[ \t]*#+[ \t]*grade[_ -]?id[ \t]*[:=].*$|<!--[ \t]*grade[_ -]?id[ \t]*[:=][^\n]{0,200}?-->",
    re.I | re.M,
)
_DEFINED = re.compile(r"^(?:(?:async[ \t]+)?def|class)[ \t]+(\w+)", re.M)
_ELSEWHERE = re.compile(r"# answered in the cell of \S+|\*Answered in the cell of \S+\.\*")
#: Magics of a whole cell whose code still runs in the notebook.
_RUNNING = ("%%time", "%%capture", "%%prun")


def named(source: str) -> list[str]:
    """The names in a cell's comments `# grade_id: NAME` or `<!-- grade_id: NAME -->`."""
    return _NAMED.findall(source)


def normal(source: str) -> str:
    """The text without comments that name it, empty lines, and white space around it and at the end of lines."""
    lines = (line.rstrip() for line in _NAMING.sub("", source).strip().splitlines())
    return "\n".join(filter(None, lines))


def bare(source: str) -> str:
    """A test without what switches it off: comment signs, indentation, quotes or a condition around it."""
    lines = (line.strip().lstrip("#").strip() for line in normal(source).splitlines())
    off = ("", '"""', "'''", "if False:", "if 0:", "%%script false", "%%script false --no-raise-error")
    return "\n".join(line for line in lines if line not in off)


def head(stub: str) -> str:
    """What an answer's released text gives: without the lines in the place of the solution."""
    return "\n".join(line for line in normal(stub).splitlines() if not _LEFT_OUT.search(line))


def elsewhere(kind: str, name: str) -> str:
    """The text of an answer that stands in another answer's cell."""
    return f"# answered in the cell of {name}" if kind == "code" else f"*Answered in the cell of {name}.*"


def is_elsewhere(source: str) -> bool:
    """Whether the text says that the answer stands in another cell."""
    return bool(_ELSEWHERE.fullmatch(source.strip()))


def definitions(source: str) -> dict[str, str]:
    """The functions and classes that a cell's code defines at its top level, and names it assigns what may be one.

    By name the syntax of the definition, which is the same however it is laid out. Of code that does not parse, the
    names in its lines of `def` and `class`, with empty syntax.
    """
    bound = _bindings(source)
    if bound is None:
        return dict.fromkeys(_DEFINED.findall(source), "")
    return {name: _dump(node) for name, node in bound if not isinstance(node, ast.alias)}


def provides(source: str) -> set[str]:
    """All names that a cell's code defines, assigns a function or imports at its top level."""
    bound = _bindings(source)
    return set(_DEFINED.findall(source)) if bound is None else {name for name, _ in bound}


def is_assigned(syntax: str) -> bool:
    """Whether a definition is an assignment, as in `double = partial(mul, 2)`."""
    return syntax.startswith(("Assign(", "AnnAssign("))


def syntax(source: str) -> str:
    """The syntax of a cell's code, the same however it is laid out; empty where it does not parse or has none."""
    tree = _tree(source)
    return _dump(tree) if tree is not None and tree.body else ""


def is_python(source: str) -> bool:
    """Whether the text is code that parses."""
    return _tree(source) is not None


def words(source: str) -> set[str]:
    """The names that occur in the text."""
    return set(re.findall(r"\w+", source))


def _bindings(source: str) -> list[tuple[str, ast.AST]] | None:
    """What code binds at its top level; None where it does not parse."""
    try:
        return None if (tree := _tree(source)) is None else list(_bound(tree.body))
    except RecursionError:
        return None


def _tree(source: str) -> ast.Module | None:
    """The code's syntax, where it must be without lines for IPython; None where it does not parse."""
    if len(source) > PARSED:
        return None
    lines = source.splitlines()
    if lines and lines[0].startswith("%%"):
        lines = lines[1:] if lines[0].startswith(_RUNNING) else []
    for text in ("\n".join(lines), "\n".join(map(_without_magic, lines))):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _without_magic(line: str) -> str:
    code = line.lstrip()
    return line[: len(line) - len(code)] + "pass" if code.startswith(("%", "!")) else line


def _bound(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """Names that statements give a function, a class, an import or what may be one; also under `if`, `try`, `with`."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name.partition(".")[0], alias) for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            if isinstance(node.value, ast.Lambda | ast.Call | ast.Name | ast.Attribute):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from ((target.id, node) for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _bound(node.body)
            for handler in getattr(node, "handlers", []):
                yield from _bound(handler.body)
            yield from _bound([*getattr(node, "orelse", []), *getattr(node, "finalbody", [])])


def _dump(node: ast.AST) -> str:
    try:
        return ast.dump(node)
    except RecursionError:
        return ""
