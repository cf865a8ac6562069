"""Bytes of real tensors: what a model, an optimizer or a cache holds, what autograd saved, what was alive at the peak.

All of it is counted in storages, the blocks of memory behind tensors, each once however many tensors look into it.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the distinct storages behind `tensors`."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def model_tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """The parameters of `model`, with the scales and tables that bitsandbytes keeps beside its packed weights."""
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            yield parameter.data
            yield from quantization_state(getattr(parameter, "quant_state", None))
            scales = getattr(parameter, "SCB", None)  # LLM.int8(): one fp32 scale for each row
            if scales is not None:
                yield scales


def quantization_state(state: Any) -> Iterator[torch.Tensor]:
    """The tensors of a bitsandbytes QuantState, nested states included (none for None)."""
    if state is not None:
        for value in (state.absmax, state.code, state.offset):
            if isinstance(value, torch.Tensor):
                yield value
        yield from quantization_state(state.state2)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    """Every tensor in the state of `optimizer`."""
    for state in optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, torch.Tensor))


def cache_tensors(cache: Any) -> Iterator[torch.Tensor]:
    """The keys and values of a transformers cache, layer by layer."""
    for layer in cache.layers:
        yield from (layer.keys, layer.values)


def saved_for_backward(forward: Callable[[], torch.Tensor], besides: Iterable[torch.Tensor] = ()) -> int:
    """Bytes that autograd saves while `forward` runs, those of `besides` (the parameters, usually) left out.

    forward: computes a loss. Its graph is alive until the count is done; the loss itself is not returned.
    """
    known = {t.untyped_storage().data_ptr() for t in besides}
    saved: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in known:
            saved[pointer] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    total = storage_bytes(saved.values())
    del loss
    return total


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, from their making until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self.seen: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        arguments = {
            t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)
        }
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in arguments:
                self._watch(leaf.untyped_storage())
        return result

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, n_bytes = storage._cdata, storage.nbytes()
        if key in self.seen or storage.device.type == "meta":
            return

        def freed(_: weakref.ref) -> None:
            self.alive -= n_bytes
            del self.seen[key]

        self.seen[key] = weakref.ref(storage, freed)
        self.alive += n_bytes
        self.peak = max(self.peak, self.alive)


def peak_bytes(run: Callable[[], Any]) -> int:
    """Most bytes of tensors, made while `run` runs, that were alive at one moment; on any device.

    What an operation allocates inside itself and frees before it returns is not seen.
    """
    with _LiveBytes() as live:
        run()
    return live.peak
