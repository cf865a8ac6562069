"""Bytes, computed and measured: weights, KV cache, gradients, optimizer states, activations; what fits where.

    >>> from coursepkg import memory
    >>> memory.architecture("llama-2-7b").parameters()
    6738415616
    >>> memory.in_gb(memory.weight_bytes("llama-2-7b", "nf4+dq"))
    '3.87 GB'

`inference`, `full_finetuning`, `lora` and `qlora` each return a `Budget`. `measure` counts the bytes of real tensors;
it needs torch, so it is imported by name (`from coursepkg.memory import measure`).
"""

from coursepkg.memory.activation import Activations, activations, layer_parts
from coursepkg.memory.architecture import Architecture, TensorSpec
from coursepkg.memory.budget import Budget, Fit, Part, full_finetuning, inference, lora, qlora
from coursepkg.memory.catalogue import architecture, catalogue
from coursepkg.memory.devices import CONTEXT_BYTES, DEVICES, Device, device
from coursepkg.memory.serving import kv_cache_bytes, prefill_bytes, weight_bytes
from coursepkg.memory.storage import FORMATS, StorageFormat, storage_format
from coursepkg.memory.training import ALL_LINEAR, OPTIMIZERS, PAGED_FROM, Lora, Optimizer, optimizer
from coursepkg.memory.units import GB, MB, GiB, MiB, in_gb, in_gib

__all__ = [
    "ALL_LINEAR",
    "Activations",
    "Architecture",
    "Budget",
    "CONTEXT_BYTES",
    "DEVICES",
    "Device",
    "FORMATS",
    "Fit",
    "GB",
    "GiB",
    "Lora",
    "MB",
    "MiB",
    "OPTIMIZERS",
    "Optimizer",
    "PAGED_FROM",
    "Part",
    "StorageFormat",
    "TensorSpec",
    "activations",
    "architecture",
    "catalogue",
    "device",
    "full_finetuning",
    "in_gb",
    "in_gib",
    "inference",
    "kv_cache_bytes",
    "layer_parts",
    "lora",
    "optimizer",
    "prefill_bytes",
    "qlora",
    "storage_format",
    "weight_bytes",
]
