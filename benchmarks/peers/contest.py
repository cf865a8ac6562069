"""What every contest of GPTQ shares: the layer, its inputs, how it is timed, and a row of the results.

A contestant quantizes the same float32 weight with the same Gram matrix, in groups of 128 with float32 scales and 1 % damping. A round runs every one
once, so that a busy moment of the machine meets all of them; ratios are taken round by round.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path

import torch

from coursepkg import affine, gptq
from coursepkg.affine import Quantized, Scheme
from coursepkg.calibration import Inputs

GROUP = 128
DAMPING = 0.01
#: Sizes of the layer, and how often each is quantized.
ROUNDS = {1024: 7, 4096: 3}
THREADS = (1, 2)
#: The libraries' symmetric codes go from −8 to 7.
SCHEMES = (
    Scheme(4, granularity=GROUP, full_range=True),
    Scheme(4, "integer", granularity=GROUP),
)


@dataclass(frozen=True)
class Layer:
    """A square weight, and inputs that go together, some of them larger than others, as in a transformer. outputs: their square sum."""

    weight: torch.Tensor
    inputs: torch.Tensor
    gram: torch.Tensor
    outputs: torch.Tensor

    def lost(self, made: Quantized) -> float:
        """‖X (W − Ŵ)ᵀ‖² / ‖X Wᵀ‖²: the share of the outputs' square sum that is lost."""
        return (square_sum(self.weight - made.dequantize(), self.gram) / self.outputs).item()


def square_sum(weight: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """‖X Wᵀ‖²."""
    return ((weight @ gram) * weight).sum(dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    """What is asked of all: a scheme, and in which order columns are rounded."""

    scheme: Scheme
    act_order: bool


def cases(threads: int) -> list[Case]:
    """All four, or with several threads the symmetric ones."""
    schemes = SCHEMES if threads == 1 else SCHEMES[:1]
    return [Case(scheme, act_order) for scheme, act_order in product(schemes, (False, True))]


def layer(features: int) -> Layer:
    """The layer of that size, always the same: twice as many tokens as features, of a quarter of the rank and noise."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    rank = features // 4
    x = normal(2 * features, rank) @ normal(rank, features) / rank**0.5 + 0.3 * normal(2 * features, features)
    x *= normal(features).exp()
    weight, gram = 0.02 * normal(features, features), x.T @ x
    return Layer(weight, x, gram, square_sum(weight, gram))


def accumulated(x: torch.Tensor) -> torch.Tensor:
    """Our Gram matrix of some inputs, with all else that calibration keeps."""
    inputs = Inputs(x.shape[1], x.device)
    inputs.add(x)
    return inputs.gram


@dataclass(frozen=True)
class Peer:
    """Another library.

    quantize: given a layer and a case, what does the work when it is called, with all that it uses up made ready. codes: codes and scales of what the
    work gave, in our form. static_groups: whether groups get their scales before anything is moved, also without act_order. accumulate: the Gram matrix of inputs.
    """

    name: str
    quantize: Callable[[Layer, Case], Callable[[], object]]
    codes: Callable[[object, Case], Quantized]
    accumulate: Callable[[torch.Tensor], object]
    static_groups: bool


def main(peer: Peer) -> None:
    """Compare in all cases, print, write the rows to `--output`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--features", type=int, nargs="+", default=list(ROUNDS))
    given = parser.parse_args()
    made = {"versions": {name: version(name) for name in ("torch", peer.name)}, "rows": []}
    with torch.no_grad():
        for features in given.features:
            for row in compared(peer, layer(features)):
                made["rows"].append(row)
                given.output.write_text(json.dumps(made), encoding="utf-8")
                print(told(row), flush=True)


def compared(peer: Peer, layer: Layer) -> Iterator[dict]:
    """A row for each number of threads and case, and one for the Gram matrix."""
    features = len(layer.weight)
    for count in THREADS:
        torch.set_num_threads(count)
        for case in cases(count):
            quality, times = contest(peer, layer, case)
            yield {
                "what": "gptq",
                "peer": peer.name,
                "features": features,
                "zero_point": case.scheme.zero_point,
                "act_order": case.act_order,
                "static_groups": peer.static_groups or case.act_order,
                "threads": count,
                **quality,
                **times,
            }
        _, times = timed(
            lambda: lambda: accumulated(layer.inputs),
            lambda: lambda: peer.accumulate(layer.inputs),
            ROUNDS[features],
        )
        yield {"what": "gram", "peer": peer.name, "features": features, "threads": count, **times}


def contest(peer: Peer, layer: Layer, case: Case) -> tuple[dict, dict]:
    """How far they agree and what they lose, and how long they take."""
    static = peer.static_groups or case.act_order

    def ours() -> Quantized:
        return gptq.quantize(layer.weight, layer.gram, case.scheme, case.act_order, static, DAMPING)

    (mine, result), times = timed(lambda: ours, lambda: peer.quantize(layer, case), ROUNDS[len(layer.weight)])
    other = peer.codes(result, case)
    quality = {
        "same_codes": (mine.codes == other.codes).float().mean().item(),
        "scales_differ": (other.scale / mine.scale - 1).abs().max().item(),
        "lost": [layer.lost(each) for each in (mine, other, affine.quantize(layer.weight, case.scheme))],
    }
    return quality, times


def timed(
    ours: Callable[[], Callable[[], object]], theirs: Callable[[], Callable[[], object]], rounds: int
) -> tuple[list, dict]:
    """What both gave; and median, lowest and highest of the seconds of both, and of how many times faster we are. What makes the work ready is not timed.

    One thread is timed by its processor time, which other programs on the machine hardly change; more are, by the clock on the wall.
    """
    one = torch.get_num_threads() == 1
    clock = time.thread_time if one else time.perf_counter
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        gave = []
        for ready, taken in zip((ours, theirs), seconds, strict=True):
            work = ready()
            since = clock()
            gave.append(work())
            taken.append(clock() - since)
    ratios = [their / our for our, their in zip(*seconds, strict=True)]
    spread = {"ours": seconds[0], "theirs": seconds[1], "times_faster": ratios}
    return gave, {"clock": "processor" if one else "wall"} | {
        name: summary(taken) for name, taken in spread.items()
    }


def summary(taken: list[float]) -> list[float]:
    return [float(f"{of(taken):.4g}") for of in (statistics.median, min, max)]


def told(row: dict) -> str:
    """A row as a line of text."""
    (ours, *_), (theirs, *_), (ratio, low, high) = row["ours"], row["theirs"], row["times_faster"]
    times = f"{ours:.2f} s, {theirs:.2f} s: {ratio:.2f} [{low:.2f}, {high:.2f}] times"
    where = f"{row['peer']}, {row['features']}, {row['threads']} threads ({row['clock']})"
    if row["what"] == "gram":
        return f"{where}, Gram matrix: {times}"
    mine, other, plain = row["lost"]
    how = f"{row['zero_point'] or 'symmetric'}{', act order' if row['act_order'] else ''}"
    return f"{where}, {how}: {row['same_codes']:.4%} same, lost {mine:.6f} {other:.6f} (rounding {plain:.6f}); {times}"
