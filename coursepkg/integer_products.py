"""Products of whole numbers, exact, as tensor cores and CPUs with int8 instructions have them."""

import torch

#: So many products of an 8-bit code, at most 255, and an int8 code have a sum below 2^24, which float32 holds exactly.
_EXACT = 2**24 // (256 * 128)


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a bᵀ for codes a (…, k), int8 or uint8, and b (n, k), int8: int32 (…, n).

    Computed in float32, as many columns at a time as it adds without rounding; every device has that, and a fast one.
    """
    total = torch.zeros(*a.shape[:-1], b.shape[0], dtype=torch.int32, device=a.device)
    for first in range(0, a.shape[-1], _EXACT):
        part = slice(first, first + _EXACT)
        total += (a[..., part].float() @ b[:, part].float().T).int()
    return total
