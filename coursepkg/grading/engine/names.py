"""What a cell's text says of names: those it reads, those it defines, what it imports."""

import ast
from functools import cache

from IPython.core.inputtransformer2 import TransformerManager


@cache
def names_read(source: str) -> list[str]:
    """The names that a cell reads, sorted; those that it only defines are none of them."""
    tree = syntax(source)
    read = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return sorted(read)


def names_used_by(names: set[str], sources: tuple[str, ...]) -> frozenset[str]:
    """These names, and those that what they name reads, and so on, as far as the cells define them."""
    defining: dict[str, set[str]] = {}
    for node in (node for source in sources for node in syntax(source).body):
        read = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound = {node.name}
        else:
            bound = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            bound |= {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        for name in bound:
            defining.setdefault(name, set()).update(read)
    found, new = set(), set(names)
    while new:
        found |= new
        new = {other for name in new for other in defining.get(name, ())} - found
    return frozenset(found)


@cache
def names_defined(source: str) -> list[str]:
    """The names that a cell defines at its top level, sorted: functions, classes, imports and assigned names."""
    tree = syntax(source)
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        else:
            stored = (n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
            found |= {name.id for name in stored}
    return sorted(found)


def names_imported(source: str) -> set[str]:
    """The names that a cell imports."""
    imports = (node for node in ast.walk(syntax(source)) if isinstance(node, ast.Import | ast.ImportFrom))
    return {(alias.asname or alias.name).partition(".")[0] for node in imports for alias in node.names}


def imports_of(source: str) -> list[str]:
    """The import statements of a code cell, at its top level or below, each as a line."""
    return [
        ast.unparse(node)
        for node in ast.walk(syntax(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def syntax(source: str) -> ast.Module:
    """The cell's syntax; of one that is no Python nothing, as running it says what is wrong."""
    try:
        return ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return ast.Module([], [])
