"""Five ways of finding the nearest of NF4's sixteen levels, which lecture 05 explains: how long each takes.

    python -m benchmarks.nearest [--output coursepkg/results/nearest.json] [--weights 4194304 33554432] [--rounds 7]

Each round runs every way once on the same array, so that a busy moment of the machine meets all of them. One thread: chunks of
32,768 weights are too small for torch to share out, and whole arrays are not. Two sizes, for they differ: glibc's allocator keeps
the memory of small arrays for the next ones, and hands arrays of more than 32 MiB back to the operating system, from which they come page by
page. The larger one takes 4.5 GB and most of a minute. What is printed is the median of the rounds with the lowest and the highest;
with `--output` the results file that the lecture shows is written, too.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from coursepkg import nf4
from coursepkg.codebooks import NF4

Way = Callable[[torch.Tensor], torch.Tensor]
OUTPUT = "coursepkg/results/nearest.json"


def distances(x: torch.Tensor) -> torch.Tensor:
    """All distances, and the place of the least."""
    return (x[:, None] - NF4.tensor).abs().argmin(1)


def search(x: torch.Tensor) -> torch.Tensor:
    """A binary search among the midpoints."""
    return torch.bucketize(x, NF4.midpoints)


def comparisons(x: torch.Tensor) -> torch.Tensor:
    """How many midpoints lie below. The sum is kept in one byte a weight."""
    codes = torch.zeros(len(x), dtype=torch.uint8)
    for middle in NF4.midpoints:
        codes += x > middle
    return codes


def table(x: torch.Tensor) -> torch.Tensor:
    """A table over a grid, and one comparison."""
    return nf4.nearest(x, NF4)


def in_chunks(way: Way) -> Way:
    """The same, `nf4.CHUNK` weights at a time."""

    def chunked(x: torch.Tensor) -> torch.Tensor:
        codes = torch.empty(len(x), dtype=torch.uint8)
        for start in range(0, len(x), nf4.CHUNK):
            part = slice(start, start + nf4.CHUNK)
            codes[part] = way(x[part])
        return codes

    return chunked


#: Each way with the bytes that it moves for a weight, to memory and from it: what torch's operations read and write, one after
#: the other, of arrays that are larger than the cache. A float32 is 4 bytes, a place 8 (int64), a truth value or code 1; and before
#: they are added, truth values are copied as numbers.
WAYS: dict[str, tuple[Way, int]] = {
    "16 distances, argmin": (distances, (4 + 64) + (64 + 64) + (64 + 8)),
    "torch.bucketize": (search, 4 + 8),
    "15 comparisons": (comparisons, 1 + 15 * ((4 + 1) + (1 + 1) + (2 + 1))),
    "15 comparisons, in chunks": (in_chunks(comparisons), 4 + 1),
    "table, in chunks": (in_chunks(table), 4 + 1),
}


def main() -> None:
    """Check that all agree, time them, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--weights", type=int, nargs="+", default=[2**22, 2**25])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    vectors = torch.backends.cpu.get_cpu_capability()
    print(f"1 thread, torch {torch.__version__}, {vectors}")
    rows = [row for weights in given.weights for row in measured(weights, given.rounds)]
    if given.output is None:
        return
    made = {
        "measured": True,
        "command": f"python -m benchmarks.nearest --output {OUTPUT}",
        "machine": {"device": "a CPU", "machine": platform.machine(), "threads": 1, "vectors": vectors},
        "versions": {"torch": torch.__version__},
        "rows": rows,
    }
    given.output.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def measured(weights: int, rounds: int) -> list[dict]:
    """A row for each way: its name, the weights, milliseconds as median, lowest and highest, bytes that it moves for a weight."""
    blocks = torch.randn(weights, generator=torch.Generator().manual_seed(0)).reshape(-1, 64)
    x = (blocks / blocks.abs().amax(1, keepdim=True)).reshape(-1)
    expected = search(x)
    taken: dict[str, list[float]] = {}
    for name, (way, _) in WAYS.items():
        check(name, x, way(x).long(), expected)
        taken[name] = []
    del blocks, expected
    for _ in range(rounds):
        for name, (way, _) in WAYS.items():
            since = time.perf_counter()
            way(x)
            taken[name].append(1e3 * (time.perf_counter() - since))
    print(f"\n{f'{weights:,} weights':<27}{'ms':>8}  {'lowest, highest':<18}{'bytes a weight':>14}")
    rows = []
    for name, (_, moved) in WAYS.items():
        median, low, high = (round(of(taken[name]), 1) for of in (statistics.median, min, max))
        print(f"{name:<27}{median:>8.1f}  {f'[{low:.1f}, {high:.1f}]':<18}{moved:>14}")
        rows.append({"name": name, "weights": weights, "ms": [median, low, high], "bytes": moved})
    return rows


def check(name: str, x: torch.Tensor, codes: torch.Tensor, expected: torch.Tensor) -> None:
    """Exit where the codes are not those expected. A value that lies on a midpoint but for rounding, a few in 10 million, may have
    either level: two distances of less than 1 differ by rounding by less than 2^−23."""
    other = codes != expected
    levels, left = NF4.tensor, x[other]
    farther = (left - levels[codes[other]]).abs() - (left - levels[expected[other]]).abs()
    if (farther.abs() > 2**-23).any():
        raise SystemExit(f"{name} gives other codes than torch.bucketize")


if __name__ == "__main__":
    main()
