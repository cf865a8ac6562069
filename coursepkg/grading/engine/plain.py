"""Whether code is plain: it has no means to reach what watches over it in its own process.

Where it is not, that says nothing against it; it is run once more, with nothing there to call.
"""

import ast
from functools import cache

from IPython.core.inputtransformer2 import TransformerManager

#: What plain code imports, with all that lies in it.
MODULES = set(
    "math cmath numpy torch typing dataclasses itertools functools collections statistics random fractions decimal "
    "matplotlib json re string time warnings tqdm operator numbers bisect heapq copy enum abc textwrap coursepkg "
    "transformers peft bitsandbytes datasets pandas scipy __future__".split()
)
#: Names and attributes that lead out of it.
ODD = set(
    "exec eval compile open globals locals vars getattr setattr delattr get_ipython breakpoint sys os gc inspect types "
    "builtins importlib ctypes threading contextlib ownwork functions answers load loads pickle marshal subprocess "
    "f_back gi_frame cr_frame tb_frame fromfile memmap".split()
)


@cache
def is_plain(source: str) -> bool:
    """Whether the code of a cell is."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return TransformerManager().transform_cell(source).strip() == ""
    return not any(map(_is_odd, ast.walk(tree)))


def _is_odd(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(
            alias.name.partition(".")[0] not in MODULES or _is_inner(alias.name) for alias in node.names
        )
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        odd = any(alias.name in ODD or alias.name == "*" for alias in node.names)
        return odd or module.partition(".")[0] not in MODULES or _is_inner(module)
    if isinstance(node, ast.Attribute):
        return node.attr in ODD or node.attr.startswith("_") or isinstance(node.ctx, ast.Store | ast.Del)
    if isinstance(node, ast.Name):
        return node.id in ODD or (node.id.startswith("__") and node.id != "__name__")
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and "__" in node.value


def _is_inner(module: str) -> bool:
    """Whether it is a part of the checks or the grading."""
    return module.startswith(("coursepkg.check.", "coursepkg.grading"))
