"""What bitsandbytes' layers do on a CPU that a training run has to know of, and the remedy.

Found in bitsandbytes 0.50.2; each has a test that fails without the remedy.
"""

from functools import cache
from typing import Any

import torch


def mend(model: torch.nn.Module) -> list[str]:
    """Make the bitsandbytes layers of a model safe to train beside, in place. What was done, in words.

    4 bits: on a CPU with AVX512-BF16 an evaluation packs a Linear4bit's weight anew, for a kernel that has no gradients; training then
    brings none to the adapters whose outputs such a layer reads, and merging reads the weight wrongly, both without a word. Packing is switched off, and undone.
    8 bits: in training, a Linear8bitLt on a CPU multiplies its inputs unrounded and ignores its threshold; kept in evaluation mode, it
    computes in training what it computes afterwards.
    """
    try:
        from bitsandbytes.nn import Linear4bit, Linear8bitLt
    except ImportError:
        return []
    done: dict[str, int] = {}
    for module in model.modules():
        if isinstance(module, Linear4bit) and getattr(module, "support_avx512bf16_for_cpu", False):
            module.support_avx512bf16_for_cpu = False
            _unpack(module)
            done["4-bit layers no longer packed for evaluation"] = (
                done.get("4-bit layers no longer packed for evaluation", 0) + 1
            )
        elif isinstance(module, Linear8bitLt) and not any(
            hook is _stay for hook in module._forward_pre_hooks.values()
        ):
            module.register_forward_pre_hook(_stay)
            done["8-bit layers kept in evaluation mode"] = (
                done.get("8-bit layers kept in evaluation mode", 0) + 1
            )
    return [f"{count} {what}" for what, count in done.items()]


def misread(model: torch.nn.Module) -> list[str]:
    """The layers in 4 bits whose weights bitsandbytes reads back wrongly: on CPUs with AVX-512, where rows are multiples of 16 but not whole blocks."""
    try:
        from bitsandbytes.nn import Linear4bit
    except ImportError:
        return []
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, Linear4bit)
        and module.weight.device.type == "cpu"
        and module.in_features % module.weight.blocksize
        and not reads_back(module.in_features, module.weight.blocksize, module.weight.quant_type)
    ]


@cache
def reads_back(width: int, block_size: int, quant_type: str) -> bool:
    """Whether, on this CPU, bitsandbytes reads rows of a width as it reads the same blocks put end to end. Tried out."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    probe = torch.linspace(-1, 1, block_size * width).reshape(block_size, width)
    packed, state = quantize_4bit(probe, blocksize=block_size, quant_type=quant_type)
    found = dequantize_4bit(packed, state)
    state.shape = torch.Size((1, probe.numel()))
    return torch.equal(found.flatten(), dequantize_4bit(packed, state).flatten())


def _stay(module: torch.nn.Module, inputs: Any) -> None:
    module.eval()


def _unpack(layer: Any) -> None:
    state = getattr(layer.weight, "quant_state", None)
    if getattr(state, "packing_format_for_cpu", False):
        from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse

        layer.weight.data, layer.weight.quant_state = _convert_weight_packed_for_cpu_inverse(
            layer.weight.data, state
        )
