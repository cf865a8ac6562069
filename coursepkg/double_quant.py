"""Double quantization: the scales of a quantized tensor are numbers too, and need no more than 8 bits.

Source: Dettmers et al. 2023, QLoRA, section 3; the 8-bit map is that of Dettmers 2015, "8-Bit Approximations for
Parallelism in Deep Learning", section 2.3.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

#: Scales that share a scale of their own.
BLOCK_SIZE = 256
#: Points between −1 and 1 on which bitsandbytes' table for a CPU stands.
GRID = 65_536
#: The least absmax that is divided by.
LEAST = 1e-38


@cache
def dynamic_map() -> torch.Tensor:
    """The 256 levels of the signed dynamic 8-bit type, float32, ascending.

    A level is ± 10^(−e) times a fraction between 0.1 and 1, for e from 6 to 0; the larger e, the fewer fractions: 1, 2, 4, …
    64, at the middles of that many equal parts. With 0 and 1 these are 256, dense where numbers are small.
    """
    levels = [torch.tensor([0.0, 1.0], dtype=torch.float32, device="cpu")]
    for exponent in range(7):
        ends = torch.linspace(0.1, 1, 2**exponent + 1, dtype=torch.float32, device="cpu")
        sizes = 10 ** (exponent - 6) * ((ends[:-1] + ends[1:]) / 2)
        levels += [sizes, -sizes]
    return torch.cat(levels).sort().values


@dataclass(frozen=True)
class DoubleQuantized:
    """Scales, in 8 bits.

    indices: uint8 (scales,), places in the dynamic map. absmax: float32 (ceil(scales / 256),), the largest distance from the mean
    in each block of them. offset: float32 (), their mean.
    """

    indices: torch.Tensor
    absmax: torch.Tensor
    offset: torch.Tensor

    def dequantize(self) -> torch.Tensor:
        """The scales, float32 (scales,)."""
        blocks = self.absmax.repeat_interleave(BLOCK_SIZE)[: len(self.indices)]
        return dynamic_map().to(self.indices.device)[self.indices.int()] * blocks + self.offset


def quantize(
    scales: torch.Tensor, grid: int | None | Literal["as bitsandbytes"] = "as bitsandbytes"
) -> DoubleQuantized:
    """Quantize scales, float32 (scales,): take off their mean, and round what is left to 8 bits in blocks of 256.

    They are positive; without their mean they spread on both sides of 0, and the map's sign is of use. grid: round to so many
    points between −1 and 1 before the nearest level is looked up, as bitsandbytes does on a CPU, to GRID; None looks the value
    itself up, as it does on a GPU. By default as it does where the scales are.
    Raises ValueError where the scales' sum overflows float32.
    """
    if grid == "as bitsandbytes":
        grid = GRID if scales.device.type == "cpu" else None
    offset = scales.mean() if len(scales) else scales.new_zeros(())
    if not offset.isfinite():
        raise ValueError("the scales' sum overflows float32: scale the tensor down")
    rest = torch.nn.functional.pad(scales - offset, (0, -len(scales) % BLOCK_SIZE)).reshape(-1, BLOCK_SIZE)
    absmax = rest.abs().amax(1)
    between = (rest * (1 / absmax.clamp(min=LEAST))[:, None]).clamp(-1, 1)
    if grid is not None:
        between = -1 + 2 * ((between + 1) * 0.5 * (grid - 1) + 0.5).floor() / (grid - 1)
    levels = dynamic_map().to(scales.device)
    indices = torch.bucketize(between, (levels[:-1] + levels[1:]) / 2, out_int32=True)
    indices = torch.where(absmax[:, None] > 0, indices, 0)
    return DoubleQuantized(indices.reshape(-1)[: len(scales)].to(torch.uint8), absmax, offset)
