"""How fast weights are quantized and read back: ours beside bitsandbytes, torchao and quanto, in one process, in turns.

    python -m benchmarks.quantize [--rows 4096] [--columns 4096] [--rounds 7]

Each round runs every contestant once, so that a busy moment of the machine meets all of them. What is printed is the median of
the rounds, and for ratios the median of the ratios round by round. Peers that are not installed are named as such
(`pip install --no-deps torchao optimum-quanto`). The bound of all is a copy of the matrix: it reads and writes memory once.
New memory must be got from the operating system page by page, which takes longer than the arithmetic; so reading back is timed
twice, into new memory and into old, in two tables: each is compared with bitsandbytes into memory of the same kind. bitsandbytes'
`dequantize_4bit` has no `out` on a CPU; into old memory its C function is called as its own Python calls it.
"""

import argparse
import ctypes
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator

import torch
from bitsandbytes import functional
from bitsandbytes.cextension import lib

from coursepkg import affine, compiled, nf4

Contest = dict[str, Callable[[], object]]
BLOCK = 64


def main() -> None:
    """Time everything, print three tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    weight = torch.randn(given.rows, given.columns, generator=torch.Generator().manual_seed(0)) * 0.02
    print(
        f"{given.rows} × {given.columns} in float32, {weight.nbytes / 1e6:.0f} MB; {platform.processor() or platform.machine()}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    missing: list[str] = []
    for title, contest in (
        ("quantize, 4 bits, blocks of 64", quantizing(weight, missing)),
        ("read back into new memory", reading(weight)),
        ("read back into old memory", reading_into(weight)),
    ):
        report(title, contest, given.rounds, weight.nbytes)
    for name in missing:
        print(f"{name} is not installed: not compared")


def quantizing(weight: torch.Tensor, missing: list[str]) -> Contest:
    """What makes 4-bit codes of the weight. The first is what the others are compared with."""
    group = affine.Scheme(4, granularity=BLOCK)
    room = torch.empty_like(weight)
    contest: Contest = {
        "bitsandbytes, NF4": lambda: functional.quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4"),
        "ours, NF4": lambda: nf4.quantize(weight, block_size=BLOCK),
        "ours, NF4, double quantized": lambda: nf4.quantize(weight, block_size=BLOCK, double_quantized=True),
        "ours, int4": lambda: affine.quantize(weight, group),
    }
    if compiled.is_there():
        contest["ours, NF4, compiled"] = lambda: compiled.quantize(weight, block_size=BLOCK)
    for name, (quantize, _) in peers(weight, missing):
        contest[name] = quantize
    return contest | {"copy, old memory": lambda: room.copy_(weight), "copy, new memory": weight.clone}


def reading(weight: torch.Tensor) -> Contest:
    """What makes a new float32 matrix of the codes. The first is what the others are compared with."""
    packed, state = functional.quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4")
    ours = nf4.quantize(weight, block_size=BLOCK)
    whole = affine.quantize(weight, affine.Scheme(4, granularity=BLOCK))
    contest: Contest = {
        "bitsandbytes, NF4": lambda: functional.dequantize_4bit(packed, state),
        "ours, NF4": lambda: nf4.dequantize(ours),
        "ours, int4": whole.dequantize,
    }
    if compiled.is_there():
        contest["ours, NF4, compiled"] = lambda: compiled.dequantize(ours)
    for name, (_, dequantize) in peers(weight, []):
        contest[name] = dequantize
    return contest | {"copy": weight.clone}


def reading_into(weight: torch.Tensor) -> Contest:
    """What writes the float32 of the codes over a matrix that is there. The first is what the others are compared with."""
    packed, state = functional.quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4")
    ours = nf4.quantize(weight, block_size=BLOCK)
    room, theirs = torch.empty_like(weight), torch.full_like(weight, torch.nan)

    def bitsandbytes() -> None:
        pointers = (ctypes.c_void_p(each.data_ptr()) for each in (packed, state.absmax, theirs))
        sizes = (ctypes.c_longlong(each) for each in (BLOCK, *weight.shape))
        lib.cdequantize_blockwise_cpu_nf4_fp32(*pointers, *sizes)

    bitsandbytes()
    if not torch.equal(theirs, functional.dequantize_4bit(packed, state)):
        raise RuntimeError(
            "bitsandbytes' C function is not called as this version has it: its times would mean nothing"
        )
    contest: Contest = {
        "bitsandbytes, NF4": bitsandbytes,
        "ours, NF4": lambda: nf4.dequantize(ours, out=room),
    }
    if compiled.is_there():
        contest["ours, NF4, compiled"] = lambda: compiled.dequantize(ours, out=room)
    return contest | {"copy": lambda: room.copy_(weight)}


def peers(weight: torch.Tensor, missing: list[str]) -> Iterator[tuple[str, tuple[Callable, Callable]]]:
    """Other libraries' int4 in groups of 64, where they are installed: what quantizes and what reads back."""
    try:
        from torchao.quantization import quant_primitives as primitives

        size, options = (1, BLOCK), {"quant_min": -8, "quant_max": 7}

        def quantize() -> tuple:
            mapping = primitives.MappingType.SYMMETRIC
            scale, zero = primitives.choose_qparams_affine(weight, mapping, size, torch.int8, **options)
            return primitives.quantize_affine(weight, size, scale, zero, torch.int8, **options), scale, zero

        codes, scale, zero = quantize()
        yield (
            "torchao, int4",
            (
                quantize,
                lambda: primitives.dequantize_affine(codes, size, scale, zero, torch.int8, **options),
            ),
        )
    except ImportError:
        missing.append("torchao")
    try:
        from torchao.quantization.quantize_.workflows.nf4.nf4_tensor import NF4Tensor

        normal = NF4Tensor.from_tensor(weight, BLOCK, 256)
        yield (
            "torchao, NF4, double quantized",
            (lambda: NF4Tensor.from_tensor(weight, BLOCK, 256), normal.get_original_weight),
        )
    except ImportError:
        missing.append("torchao's NF4")
    try:
        from optimum.quanto import MaxOptimizer, qint4, quantize_weight

        def make() -> object:
            scale, shift = MaxOptimizer()(weight, qint4, 0, BLOCK)
            return quantize_weight(weight, qint4, 0, scale, shift, group_size=BLOCK, optimized=False)

        made = make()
        yield "quanto, int4", (make, lambda: made.dequantize())
    except ImportError:
        missing.append("quanto")


def report(title: str, contest: Contest, rounds: int, nbytes: int) -> None:
    """Run all in turns and print seconds, bytes of float32 a second, and how many times the first one's speed."""
    for work in contest.values():
        work()  # what is compiled or built at first use
    seconds: dict[str, list[float]] = {name: [] for name in contest}
    for _ in range(rounds):
        for name, work in contest.items():
            since = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - since)
    first = seconds[next(iter(contest))]
    print(f"\n{title:<43} {'ms':>9} {'GB/s':>7} {'times the first':>16}")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        ratio = statistics.median(one / other for one, other in zip(first, taken, strict=True))
        print(f"{name:<43} {median * 1e3:>9.1f} {nbytes / median / 1e9:>7.2f} {ratio:>16.2f}")


if __name__ == "__main__":
    main()
