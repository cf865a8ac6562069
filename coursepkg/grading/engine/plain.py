"""Whether code is plain: it has no means to reach what watches over it in its own process, nor the course's package.

Where it is not, that says nothing against it; it is run once more, with nothing there to call.
"""

import ast
from functools import cache

from IPython.core.inputtransformer2 import TransformerManager

#: What plain code imports. numpy reaches further, but not without one of the names below.
MODULES = set("math cmath numpy itertools collections statistics fractions decimal random __future__".split())
#: Names and attributes that lead out of it.
ODD = set(
    "exec eval compile open globals locals vars getattr setattr delattr get_ipython breakpoint sys os gc inspect types "
    "builtins importlib ctypes ctypeslib load_library threading contextlib functions answers load loads pickle marshal "
    "subprocess f_back gi_frame cr_frame tb_frame fromfile memmap f2py testing lib distutils".split()
)


def is_plain(source: str, foreign: frozenset[str]) -> bool:
    """Whether the code of a cell is. `foreign`: names that cells of the course give it, see `foreign_names`."""
    tree = _tree(source)
    return tree is not None and not any(_is_odd(node, foreign) for node in ast.walk(tree))


def foreign_names(sources: list[str]) -> frozenset[str]:
    """The names under which these cells import what plain code does not."""
    nodes = [node for source in sources if (tree := _tree(source)) for node in ast.walk(tree)]
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {_bound(alias) for alias in node.names if not _is_plain_module(alias.name)}
        elif isinstance(node, ast.ImportFrom) and not _is_plain_module(node.module or ""):
            found |= {_bound(alias) for alias in node.names}
    return frozenset(found)


@cache
def _tree(source: str) -> ast.Module | None:
    """The syntax of a cell; None for one that is no Python, magics among them."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None if TransformerManager().transform_cell(source).strip() else ast.Module([], [])


def _is_odd(node: ast.AST, foreign: frozenset[str]) -> bool:
    if isinstance(node, ast.Import):
        return not all(_is_plain_module(alias.name) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        names = [alias.name for alias in node.names]
        return not _is_plain_module(node.module or "") or "*" in names or bool(ODD & set(names))
    if isinstance(node, ast.Attribute):
        return node.attr in ODD or node.attr.startswith("_") or isinstance(node.ctx, ast.Store | ast.Del)
    if isinstance(node, ast.Name):
        return node.id in ODD | foreign or (node.id.startswith("__") and node.id != "__name__")
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and "__" in node.value


def _is_plain_module(name: str) -> bool:
    return name.partition(".")[0] in MODULES and not ODD & set(name.split("."))


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]
