"""Parts of the course's package that an answer must do without, made useless before any of the student's code runs."""

import functools
import importlib
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from coursepkg.check import ownwork


class Nothing:
    """What a poisoned function returns: it takes part in everything, so that cells go on, and gives no answer."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __str__(self) -> str:
        return "nothing"

    def __format__(self, _: str) -> str:
        return "nothing"


def _itself(self: Nothing, *_: Any, **__: Any) -> Nothing:
    return self


for _name in (
    "call getitem add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow neg pos abs round "
    "and or xor lshift rshift enter"
).split():
    setattr(Nothing, f"__{_name}__", _itself)
for _name, _value in {"len": 0, "int": 0, "index": 0, "float": 0.0, "bool": False, "contains": False}.items():
    setattr(Nothing, f"__{_name}__", lambda *_, value=_value: value)
for _name in ("lt", "le", "gt", "ge", "eq"):
    setattr(Nothing, f"__{_name}__", lambda *_: False)
Nothing.__hash__ = object.__hash__


def _template(*args: Any, **kwargs: Any) -> Any:
    return None


def spoil(names: list[str]) -> None:
    """Spoil every function and method that these packages, and those in them, define."""
    for module in (module for name in names for module in ownwork.watched(importlib.import_module(name))):
        for value in list(vars(module).values()):
            if isinstance(value, functools._lru_cache_wrapper):
                _spoil_function(value.__wrapped__)
                value.cache_clear()
            elif isinstance(value, type) and value.__module__ == module.__name__:
                _spoil_class(value)
            elif isinstance(value, FunctionType) and value.__module__ == module.__name__:
                _spoil_function(value)


def _spoil_class(kind: type) -> None:
    for name, value in list(vars(kind).items()):
        for function in _functions_of(value):
            if not name.startswith("__") or name == "__call__":
                _spoil_function(function)


def _functions_of(value: Any) -> list[FunctionType]:
    """The functions that a class's attribute is made of."""
    if isinstance(value, property):
        parts = [value.fget, value.fset]
    elif isinstance(value, functools.cached_property):
        parts = [value.func]
    else:
        parts = [getattr(value, "__func__", value)]
    return [part for part in parts if isinstance(part, FunctionType)]


def _spoil_function(function: FunctionType) -> None:
    code = _template.__code__
    consts = tuple(Nothing() if const is None else const for const in code.co_consts)
    function.__code__ = code.replace(co_consts=consts, co_freevars=function.__code__.co_freevars)


def files_of(modules: list[ModuleType]) -> list[str]:
    """The files and folders from which the packages could be read again."""
    found = []
    for module in modules:
        path = ownwork.source_path(module)
        if path.name == "__init__.py":
            found.append(str(path.parent))
        else:
            found += [str(path), *map(str, (path.parent / "__pycache__").glob(f"{path.stem}.*"))]
    return found
