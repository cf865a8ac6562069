"""What may cross between the student's process and the trusted one: values, never objects.

A value is None, a bool, a number, text, bytes, a list, tuple, set or dict of such, a numpy array or a torch tensor.
It becomes JSON beside a list of buffers, and reading it back runs no code of the sender's. Anything else stays where
it is, and a reference to it crosses.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

#: Kinds of numpy's arrays that are plain bytes: bools, integers, floats, complex numbers, text of a fixed length.
PLAIN = "biufcSU"
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.bool),
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
        *(torch.float8_e4m3fn, torch.float8_e5m2),
    )
}
DEEPEST = 64


class NotData(ValueError):
    """What was received is no value, or a value is none that can be sent."""


def encode(value: Any, buffers: list[bytes], refer: Callable[[Any], Any]) -> Any:
    """The value as JSON; its arrays' bytes are added to `buffers`. `refer` makes the JSON of what is not a value.

    Of an instance of a subclass of int, list and so on, only what that base class holds crosses: no method of its own,
    and so no equality of its own either. Raises NotData for nesting without end.
    """
    return _Encoder(buffers, refer).encode(value, 0)


class _Encoder:
    def __init__(self, buffers: list[bytes], refer: Callable[[Any], Any]) -> None:
        self.buffers, self.refer = buffers, refer

    def encode(self, value: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise NotData(f"a value that is nested more than {DEEPEST} deep")
        if value is None or value is True or value is False:
            return value
        if isinstance(value, np.generic) and value.dtype.kind in PLAIN:
            return {"scalar": self._array(np.asarray(value))}
        if isinstance(value, str):
            text = str.__str__(value)
            return {"text": text.encode("utf-8", "surrogatepass").hex()} if _odd(text) else text
        if isinstance(value, int):
            whole = int.__int__(value)
            return whole if abs(whole) < 2**53 else {"int": hex(whole)}
        if isinstance(value, float):
            real = float.__float__(value)
            return real if math.isfinite(real) else {"float": repr(real)}
        if isinstance(value, complex):
            return {
                "complex": [float.hex(complex.real.__get__(value)), float.hex(complex.imag.__get__(value))]
            }
        if isinstance(value, list):
            return [self.encode(item, depth + 1) for item in list.__iter__(value)]
        if isinstance(value, dict):
            pairs = [[self.encode(k, depth + 1), self.encode(v, depth + 1)] for k, v in dict.items(value)]
            return {"dict": pairs}
        for base in (tuple, set, frozenset):
            if isinstance(value, base):
                return {base.__name__: [self.encode(item, depth + 1) for item in base.__iter__(value)]}
        for base in (bytes, bytearray):
            if isinstance(value, base):
                return {base.__name__: self._buffer(bytes(base(value)))}
        if isinstance(value, np.ndarray) and value.dtype.kind in PLAIN:
            return self._array(np.asarray(value))
        if isinstance(value, torch.Tensor) and _dense(value):
            return self._tensor(value)
        if isinstance(value, torch.dtype) and _name(value) in DTYPES:
            return {"dtype": _name(value)}
        return self.refer(value)

    def _buffer(self, content: bytes) -> int:
        self.buffers.append(content)
        return len(self.buffers) - 1

    def _array(self, value: np.ndarray) -> dict:
        return {
            "array": [value.dtype.str, list(value.shape), self._buffer(np.ascontiguousarray(value).tobytes())]
        }

    def _tensor(self, value: torch.Tensor) -> dict:
        plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        entry = [_name(value.dtype), list(value.shape), self._buffer(plain.numpy().tobytes())]
        return {"tensor": [*entry, value.requires_grad, isinstance(value, torch.nn.Parameter)]}


def decode(tree: Any, buffers: list[bytes], resolve: Callable[[Any], Any]) -> Any:
    """The value of JSON and buffers from `encode`. `resolve` gives what a reference stands for.

    Raises NotData where they are anything else, whoever made them.
    """
    try:
        return _Decoder(buffers, resolve).decode(tree, 0)
    except NotData:
        raise
    except (TypeError, ValueError, KeyError, IndexError, OverflowError, RuntimeError, MemoryError) as error:
        raise NotData(f"what was sent is no value: {type(error).__name__}") from None


class _Decoder:
    def __init__(self, buffers: list[bytes], resolve: Callable[[Any], Any]) -> None:
        self.buffers, self.resolve = buffers, resolve

    def decode(self, tree: Any, depth: int) -> Any:
        if depth > DEEPEST + 2:
            raise NotData(f"a value that is nested more than {DEEPEST} deep")
        if tree is None or type(tree) in (bool, int, float, str):
            return tree
        if type(tree) is list:
            return [self.decode(item, depth + 1) for item in tree]
        if type(tree) is not dict or len(tree) != 1:
            raise NotData("what was sent is no value")
        ((kind, content),) = tree.items()
        if kind in ("tuple", "set", "frozenset"):
            made = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
            return made(self.decode(item, depth + 1) for item in content)
        if kind == "dict":
            return {self.decode(k, depth + 1): self.decode(v, depth + 1) for k, v in content}
        return getattr(self, f"_{kind}", self._other)(content)

    def _other(self, content: Any) -> Any:
        raise NotData("what was sent is of no kind that is known")

    def _text(self, content: str) -> str:
        return bytes.fromhex(content).decode("utf-8", "surrogatepass")

    def _int(self, content: str) -> int:
        return int(content, 16)

    def _float(self, content: str) -> float:
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content]

    def _complex(self, content: list[str]) -> complex:
        return complex(*map(float.fromhex, content))

    def _bytes(self, content: int) -> bytes:
        return self._buffer(content)

    def _bytearray(self, content: int) -> bytearray:
        return bytearray(self._buffer(content))

    def _buffer(self, index: Any) -> bytes:
        if type(index) is not int or not 0 <= index < len(self.buffers):
            raise NotData("a buffer is missing")
        return self.buffers[index]

    def _array(self, content: list) -> np.ndarray:
        name, shape, index = content
        dtype = np.dtype(str(name))
        if dtype.kind not in PLAIN or dtype.str != name:
            raise NotData("an array of no plain dtype")
        return np.frombuffer(self._sized(index, shape, dtype.itemsize), dtype).reshape(shape).copy()

    def _scalar(self, content: dict) -> np.generic:
        return self._array(content["array"])[()]

    def _tensor(self, content: list) -> torch.Tensor:
        name, shape, index, requires_grad, is_parameter = content
        dtype = DTYPES[name]
        plain = bytearray(self._sized(index, shape, dtype.itemsize))
        flat = torch.frombuffer(plain, dtype=torch.uint8) if plain else torch.empty(0, dtype=torch.uint8)
        value = flat.view(dtype).reshape(shape)
        if is_parameter:
            return torch.nn.Parameter(value, requires_grad=bool(requires_grad))
        return value.requires_grad_(bool(requires_grad))

    def _sized(self, index: Any, shape: Any, itemsize: int) -> bytes:
        if type(shape) is not list or any(type(n) is not int or n < 0 for n in shape):
            raise NotData("an array whose shape is none")
        content = self._buffer(index)
        if math.prod(shape) * itemsize != len(content):
            raise NotData("an array whose bytes are not those of its shape")
        return content

    def _dtype(self, content: str) -> torch.dtype:
        return DTYPES[content]

    def _object(self, content: Any) -> Any:
        return self.resolve(content)


def _odd(text: str) -> bool:
    """Whether the text has half a surrogate pair, which JSON in UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _dense(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_quantized and _name(tensor.dtype) in DTYPES


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
