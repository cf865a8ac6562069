"""Devices by the memory that a program can have on them."""

from dataclasses import dataclass
from typing import Literal

from coursepkg.memory.units import GiB, MiB

# A CUDA context with its kernels and library handles takes 0.3 to 0.6 GB before the first tensor. The exact figure
# depends on driver, card and libraries; `benchmarks/device_memory.py` measures it.
CONTEXT_BYTES = 500 * MiB
# What a laptop's system, browser and JupyterLab leave to others is a matter of taste; this is ours.
LAPTOP_RESERVED = 4 * GiB


@dataclass(frozen=True)
class Device:
    """A device: its memory in bytes, as its driver reports it, and what of it is taken before a program starts."""

    name: str
    memory: int
    kind: Literal["gpu", "laptop"] = "gpu"

    @property
    def usable(self) -> int:
        """Bytes left for tensors: without the device context of a GPU, or the system's share of a laptop."""
        return self.memory - (CONTEXT_BYTES if self.kind == "gpu" else LAPTOP_RESERVED)


# The sizes that nvidia-smi prints as total, in MiB; sold as 8, 12, 16, 24, 40, 80 and 141 "GB".
DEVICES: tuple[Device, ...] = (
    Device("Laptop 8 GiB", 8 * GiB, "laptop"),
    Device("Laptop 16 GiB", 16 * GiB, "laptop"),
    Device("Laptop 32 GiB", 32 * GiB, "laptop"),
    Device("RTX 4060", 8_188 * MiB),
    Device("RTX 3060", 12_288 * MiB),
    Device("T4", 15_360 * MiB),
    Device("L4", 23_034 * MiB),
    Device("RTX 4090", 24_564 * MiB),
    Device("A100 40GB", 40_960 * MiB),
    Device("A100 80GB", 81_920 * MiB),
    Device("H100 80GB", 81_559 * MiB),
    Device("H200", 143_771 * MiB),
)


def device(name: str) -> Device:
    """The device called `name` (letter case does not matter). Raises ValueError with the known names."""
    for known in DEVICES:
        if known.name.lower() == name.lower():
            return known
    raise ValueError(f"no device {name!r}; known are {', '.join(d.name for d in DEVICES)}")
