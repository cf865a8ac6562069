"""How fast weights are quantized and read back: ours beside bitsandbytes, torchao and quanto, in one process, in turns.

    python -m benchmarks.quantize [--rows 4096] [--columns 4096] [--rounds 7]

Each round runs every contestant once, so that a busy moment of the machine meets all of them. What is printed is the median of
the rounds, and for ratios the median of the ratios round by round. Peers that are not installed are named as such
(`pip install --no-deps torchao optimum-quanto`). The bound of all is a copy of the matrix: it reads and writes memory once.
New memory must be got from the operating system page by page, which takes longer than the arithmetic; so reading back is timed
into new memory, and where a library can write into old memory, into that as well.
"""

import argparse
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator

import torch
from bitsandbytes import functional

from coursepkg import affine, compiled, nf4

Contest = dict[str, Callable[[], object]]
BLOCK = 64


def main() -> None:
    """Time everything, print two tables."""
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
        ("read back", reading(weight, missing)),
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


def reading(weight: torch.Tensor, missing: list[str]) -> Contest:
    """What makes float32 of the codes."""
    packed, state = functional.quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4")
    ours, whole = (
        nf4.quantize(weight, block_size=BLOCK),
        affine.quantize(weight, affine.Scheme(4, granularity=BLOCK)),
    )
    room = torch.empty_like(weight)
    contest: Contest = {
        "bitsandbytes, new memory": lambda: functional.dequantize_4bit(packed, state),
        "ours, new memory": lambda: nf4.dequantize(ours),
        "ours, old memory": lambda: nf4.dequantize(ours, out=room),
        "ours, int4, new memory": whole.dequantize,
    }
    if compiled.is_there():
        contest["ours, compiled, new memory"] = lambda: compiled.dequantize(ours)
        contest["ours, compiled, old memory"] = lambda: compiled.dequantize(ours, out=room)
    for name, (_, dequantize) in peers(weight, []):
        contest[f"{name}, new memory"] = dequantize
    return contest | {"copy, old memory": lambda: room.copy_(weight), "copy, new memory": weight.clone}


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
