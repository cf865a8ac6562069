"""Every way of rounding the course LM's weights on its whole exam: `python -m benchmarks.leaderboard`.

It prints what `coursepkg leaderboard` prints and writes the results file that lecture 05 shows: some minutes on two cores.
"""

import argparse
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from coursepkg import courselm, load_model
from coursepkg.evaluation import leaderboard
from coursepkg.evaluation.rounding import expected_order

OUTPUT = Path(__file__).resolve().parents[1] / "coursepkg" / "results" / "leaderboard.json"
PACKAGES = ("torch", "transformers")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    output = parser.parse_args().output
    model, tokenizer = load_model(dtype=torch.float32)
    board = leaderboard(
        model, tokenizer, courselm.exam(), before=lambda method: print(f"{method.name} …", file=sys.stderr)
    )
    order = board.comparisons(expected_order())
    print(f"{board}\n\n{order}")
    made = {
        "measured": True,
        "command": "python -m benchmarks.leaderboard",
        "machine": {"device": "a CPU", "machine": platform.machine(), "threads": torch.get_num_threads()},
        "versions": {name: version(name) for name in PACKAGES},
        "rows": board.rows_as_data(),
    }
    output.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
