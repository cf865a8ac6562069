"""Whether an answer is the student's own: not the package's implementation, called or copied, and checked by checks
that are still the ones in the files."""

import ast
import inspect
import sys
import textwrap
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

from coursepkg.check.failures import Refused

_SMALL = 40  # syntax nodes; two people may well write the same one-liner
_HARMLESS = ("coursepkg.memory.units",)  # printing a size in GB gives nothing away


_modules: dict[str, tuple[int, list[ModuleType]]] = {}


def modules_of(package: ModuleType) -> list[ModuleType]:
    """`package` and those of its submodules that are loaded, sorted by name."""
    loaded = len(sys.modules)  # thousands; looked through again only when there are others
    if _modules.get(package.__name__, (0,))[0] != loaded:
        prefix = package.__name__ + "."
        names = sorted(name for name in list(sys.modules) if name.startswith(prefix))
        found = [package] + [sys.modules[name] for name in names if sys.modules[name] is not None]
        _modules[package.__name__] = loaded, found
    return _modules[package.__name__][1]


def watched(package: ModuleType) -> list[ModuleType]:
    """Those of its modules that an answer must not call."""
    return [module for module in modules_of(package) if module.__name__ not in _HARMLESS]


@contextmanager
def watching(packages: tuple[ModuleType, ...]) -> Iterator[list[str]]:
    """While inside, every call of a function that `packages` define is noted by name in the list that is given.

    Functions are known by the file they stand in, so neither another name nor another thread hides them.
    """
    names = {str(source_path(module)): module.__name__ for package in packages for module in watched(package)}
    called: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename in names:
            called.append(f"{names[frame.f_code.co_filename]}.{frame.f_code.co_name}")

    before, before_in_threads = sys.getprofile(), threading.getprofile()
    sys.setprofile(note)
    threading.setprofile(note)
    try:
        yield called
        if sys.getprofile() is not note:
            raise Refused(
                "Something in this notebook has switched off the check of whose work this is. Remove that."
            )
    finally:
        sys.setprofile(before)
        threading.setprofile(before_in_threads)


def refuse_the_packages_own(answer: Callable, packages: tuple[ModuleType, ...]) -> None:
    """Raise Refused where `answer` is a function of `packages` itself, or a copy of one with other names."""
    name = getattr(answer, "__name__", "your answer")
    refuse_own(name, getattr(answer, "__module__", None), {_skeleton_of(answer)}, packages)


def refuse_own(
    name: str, module_name: str | None, skeletons: set[str], packages: tuple[ModuleType, ...]
) -> None:
    """As `refuse_the_packages_own`, of an answer of which the module and skeletons are known."""
    for module in (m for package in packages for m in modules_of(package)):
        if module_name == module.__name__:
            raise Refused(
                f"{name} is the course's own {module.__name__}.{name}. The exercise is to write it yourself."
            )
        theirs = _skeletons(source_path(module))
        if copied := sorted(theirs[one] for one in skeletons & theirs.keys()):
            raise Refused(
                f"{name} is the course's own {module.__name__}.{copied[0]} with other names. The exercise is to write it "
                "yourself, from the lecture: close the package's source and start from the formula."
            )


def refuse_called(name: str, called: list[str]) -> None:
    """Raise Refused where calls were noted by `watching`."""
    if called:
        raise Refused(
            f"{name} calls {called[0]}, part of the package that this exercise asks you to rebuild. Write the "
            "calculation yourself; plain Python is enough."
        )


def refuse_changed(*packages: ModuleType) -> None:
    """Raise Refused where a function of `packages`, or a name they re-export, is not the one that their files define."""
    for module in (m for package in packages for m in modules_of(package)):
        path = source_path(module)
        changed = [name for name, code in _definitions(path).items() if _code_at(module, name) != code]
        for origin, name in _reexports(path):
            if vars(module).get(name) is not vars(sys.modules[origin]).get(name):
                changed.append(name)
        if changed:
            raise Refused(
                f"{module.__name__}.{changed[0]} is not the one that the course installed: something in this notebook has "
                "replaced it. Remove that, restart the kernel, and run all cells."
            )


def _code_at(module: ModuleType, qualified_name: str) -> CodeType | None:
    found: Any = module
    for part in qualified_name.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    return getattr(found, "__code__", None)


@cache
def _reexports(path: Path) -> tuple[tuple[str, str], ...]:
    """(module, name) for each name that a file imports from a module of the course."""
    imports = [
        node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)
    ]
    ours = [node for node in imports if (node.module or "").startswith("coursepkg.")]
    return tuple((node.module, alias.name) for node in ours for alias in node.names)


def source_path(module: ModuleType) -> Path:
    """The file that defines a module."""
    return Path(inspect.getsourcefile(module) or module.__file__)


@cache
def _definitions(path: Path) -> dict[str, CodeType]:
    """The code of each function and method in a file, by qualified name.

    Left out are those that are replaced by right: decorated ones, and double-underscore methods (by a metaclass).
    """
    found: dict[str, CodeType] = {}
    source = path.read_text(encoding="utf-8")
    decorated = {
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    }

    def collect(code: CodeType, prefix: str) -> None:
        for constant in code.co_consts:
            if isinstance(constant, CodeType) and not constant.co_name.startswith("<"):
                is_class = not constant.co_flags & inspect.CO_NEWLOCALS
                if is_class:
                    collect(constant, f"{prefix}{constant.co_name}.")
                elif constant.co_name not in decorated and not constant.co_name.startswith("__"):
                    found[prefix + constant.co_name] = constant

    collect(compile(source, str(path), "exec", dont_inherit=True), "")
    return found


@cache
def _skeletons(path: Path) -> dict[str, str]:
    """The skeleton of each function in a file, to its name; small ones left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return {_skeleton(node): node.name for node in functions if sum(1 for _ in ast.walk(node)) >= _SMALL}


def _skeleton_of(answer: Callable) -> str:
    try:
        source = textwrap.dedent(inspect.getsource(answer))
    except (OSError, TypeError):
        return ""
    return next(iter(skeletons_in(source)), "")


def skeletons_in(source: str, names: Container[str] | None = None) -> list[str]:
    """The skeletons of the functions that `source` defines, or of those with one of `names`; none of what is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return [_skeleton(node) for node in functions if names is None or node.name in names]


def _skeleton(function: ast.FunctionDef) -> str:
    """The body of a function without its docstring, annotations and the names it chose."""
    names: dict[str, str] = {}
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    tree = ast.parse(ast.unparse(ast.Module(body, [])))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.setdefault(node.id, f"name{len(names)}")
        elif isinstance(node, ast.arg):
            node.arg, node.annotation = names.setdefault(node.arg, f"name{len(names)}"), None
    return ast.dump(tree)
