"""What machine this is: the only file that asks, so that the same cells run unedited on all of them.

Decides the device and the dtype, measures memory, and says where the course runs and whether a model hub answers.
"""

import os
import platform
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil
import torch
from huggingface_hub import constants

from coursepkg.memory.units import in_gib

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "numpy", "ipywidgets", "jupyterlab", "nbgrader")


@dataclass(frozen=True)
class Choice:
    """The dtype to compute in, and why it is that one."""

    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """The dtype's name without `torch.`."""
        return str(self.dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Optimizer:
    """The optimizer to train adapters with, under transformers' name for it, and why it is that one."""

    name: str
    reason: str


@dataclass(frozen=True)
class Memory:
    """Bytes of a device's or the host's memory: all of it, and what is free now."""

    total: int
    free: int

    def __str__(self) -> str:
        return f"{in_gib(self.total, 1)}, {in_gib(self.free, 1)} free"


@dataclass(frozen=True)
class Hub:
    """Whether the model hub at `address` answers, and what came back instead if it does not."""

    address: str
    reachable: bool
    reason: str


@dataclass(frozen=True)
class Machine:
    """What was found: everything that a lecture's first cell and `coursepkg doctor` print about the machine."""

    python: str
    system: str
    place: str
    device: str
    device_name: str
    dtype: Choice
    device_memory: Memory | None
    host_memory: Memory
    versions: dict[str, str]


def device() -> torch.device:
    """The accelerator that torch can use: CUDA (or ROCm), else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_name(where: torch.device) -> str:
    """What the device calls itself."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    return "Apple GPU" if where.type == "mps" else platform.processor() or platform.machine()


def dtype(where: torch.device) -> Choice:
    """The dtype for weights and activations on that device: bfloat16 where the hardware has it.

    Elsewhere float16 on a GPU, and float32 on a CPU. torch emulates bfloat16 on GPUs that lack it, slowly; that does
    not count.
    """
    if where.type == "cpu":
        return Choice(torch.float32, "every CPU computes it in hardware; 16-bit floats only some do")
    if where.type == "mps":
        return Choice(torch.float16, "not every Apple GPU has bfloat16")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Choice(torch.bfloat16, "the GPU computes it in hardware, and it has the range of float32")
    major, minor = torch.cuda.get_device_capability(where)
    return Choice(
        torch.float16, f"a GPU of compute capability {major}.{minor} has no bfloat16; that starts at 8.0"
    )


def autocast(where: torch.device) -> torch.dtype | None:
    """The dtype in which to train float32 weights under autocast: bfloat16 where the hardware multiplies it, else None.

    A CPU counts if it has AVX512-BF16 or AMX. float16 would need its gradients scaled, so it is not offered.
    """
    if where.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    if where.type == "cpu":
        found = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 and later
        if found.get("avx512_bf16") or found.get("amx_bf16"):
            return torch.bfloat16
    return None


def optimizer(where: torch.device) -> Optimizer:
    """The optimizer for adapters on that device: paged 8-bit AdamW where there is CUDA, whose driver moves the pages; plain AdamW elsewhere.

    bitsandbytes' paged optimizers run on a CPU, too, as ones that are not paged, with a warning.
    """
    if where.type == "cuda":
        return Optimizer("paged_adamw_8bit", "states of 8 bits, which move to the host when the GPU is full")
    return Optimizer(
        "adamw_torch", "pages move between a CUDA GPU and its host; elsewhere there is nothing to page"
    )


def device_memory(where: torch.device) -> Memory | None:
    """The memory of a CUDA device, or what Metal recommends on a Mac; None on a CPU, which has only the host's."""
    if where.type == "cuda":
        free, total = torch.cuda.mem_get_info(where)
        return Memory(total, free)
    if where.type == "mps":
        total = torch.mps.recommended_max_memory()
        return Memory(total, total - torch.mps.driver_allocated_memory())
    return None


def host_memory(control_group: Path = Path("/sys/fs/cgroup")) -> Memory:
    """The host's memory, or what the container is allowed of it (control groups, version 2 or 1) where that is less."""
    seen = psutil.virtual_memory()
    for limit, used in (
        (control_group / "memory.max", control_group / "memory.current"),
        (control_group / "memory/memory.limit_in_bytes", control_group / "memory/memory.usage_in_bytes"),
    ):
        try:
            allowed, taken = int(limit.read_text()), int(used.read_text())
        except (OSError, ValueError):  # no such file, or the word "max"
            continue
        if allowed < seen.total:
            return Memory(allowed, min(seen.available, max(allowed - taken, 0)))
    return Memory(seen.total, seen.available)


def place() -> str:
    """Where the notebook runs: "colab", "binder" or "local"."""
    if "COLAB_RELEASE_TAG" in os.environ or "google.colab" in sys.modules:
        return "colab"
    return "binder" if "BINDER_SERVICE_HOST" in os.environ else "local"


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """The installed version of each package; packages that are not installed are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def hub(seconds: float = 3.0) -> Hub:
    """Ask the model hub (HF_ENDPOINT, else the one huggingface_hub asks) for an answer, for at most `seconds`.

    Does not ask when HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set. Looking up a name has no time-out of its own, so
    the question runs in a thread that is left behind when the time is up.
    """
    address = os.environ.get("HF_ENDPOINT", constants.ENDPOINT)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}:
            return Hub(address, False, f"{name} is set, so nothing asked")
    answers: list[Hub] = []
    thread = threading.Thread(target=lambda: answers.append(_ask(address, seconds)), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else Hub(address, False, f"no answer within {seconds:g} s")


def _ask(address: str, seconds: float) -> Hub:
    """The answer to one HEAD request; any answer of the server itself counts as reached."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, method="HEAD"), timeout=seconds
        ) as answer:
            return Hub(address, True, f"answered {answer.status}")
    except urllib.error.HTTPError as error:
        return Hub(address, error.code < 500, f"answered {error.code}")
    except (OSError, ValueError) as error:
        return Hub(address, False, str(getattr(error, "reason", error)))


def machine() -> Machine:
    """Everything about this machine that needs no network."""
    where = device()
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        place=place(),
        device=where.type,
        device_name=device_name(where),
        dtype=dtype(where),
        device_memory=device_memory(where),
        host_memory=host_memory(),
        versions=versions(),
    )


def greeting(found: Machine) -> str:
    """What the first cell of a lecture prints: versions, device and dtype with the reason, memory. Four short lines."""
    own = metadata.version("coursepkg")
    memory = f"{in_gib(found.host_memory.total, 1)} on the host"
    if found.device_memory:
        memory += f", {in_gib(found.device_memory.total, 1)} on the device"
    named = "no GPU that torch can use" if found.device == "cpu" else found.device_name
    return (
        f"coursepkg {own}, Python {found.python}, torch {found.versions['torch']}\n"
        f"device  {found.device}: {named}\n"
        f"dtype   {found.dtype.name}: {found.dtype.reason}\n"
        f"memory  {memory}"
    )
