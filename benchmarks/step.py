"""A training step of QLoRA with bitsandbytes and peft, and with this package's layers, side by side: `python -m benchmarks.step`.

On the course LM, and on one decoder layer of a 7B's shape, whose time is that of reading 4-bit weights back and of large products. Steps of the two take turns; what
is printed is the median of the ratios of neighbours, with their quartiles.
"""

import argparse
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import torch

from coursepkg import courselm, qlora, runtime, trials
from coursepkg.lora import LoraConfig
from coursepkg.qlora import Settings
from coursepkg.quiet import quiet
from coursepkg.trials import step

LIBRARIES = ("peft", "coursepkg")
#: One decoder layer of Llama-2-7B, with a small vocabulary.
LAYER = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 1,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 512,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    where = runtime.device()
    print(
        f"{where.type}, {torch.get_num_threads()} threads; ours over bitsandbytes and peft, below 1 is faster"
    )
    report("course LM, 16 questions", course_lm(), pairs)
    report("a layer of a 7B, 1 × 64 tokens", layer(64), max(3, pairs // 3))
    report("a layer of a 7B, 1 × 512 tokens", layer(512), max(3, pairs // 3))


def report(name: str, steps: dict[str, Callable[[], Any]], pairs: int) -> None:
    """Time pairs of steps, and print their ratio."""
    seconds: dict[str, list[float]] = {library: [] for library in LIBRARIES}
    for number in range(pairs + 2):
        for library, run in steps.items():
            since = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number >= 2:  # the first two warm up
                seconds[library].append(time.perf_counter() - since)
    theirs, ours = (torch.tensor(seconds[library]) for library in LIBRARIES)
    ratios = ours / theirs
    low, middle, high = ratios.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
    print(
        f"{name:<34}{1e3 * theirs.median():>9.1f} ms{1e3 * ours.median():>9.1f} ms   {middle:.2f} [{low:.2f}, {high:.2f}]",
        flush=True,
    )


def course_lm() -> dict[str, Callable[[], Any]]:
    questions = [each for each in next(courselm.lessons("medical", 1)) if each.answer][:16]
    made = {}
    for library in LIBRARIES:
        settings = Settings(library=library, checkpointing=False)
        model, tokenizer = qlora.load("course-lm", settings)
        batch = qlora.collate(qlora.encode(tokenizer, questions, 128))
        batch = {key: value.to(model.device) for key, value in batch.items()}
        made[library] = stepper(model, lambda model=model, batch=batch: model(**batch, use_cache=False).loss)
    return made


def layer(length: int) -> dict[str, Callable[[], Any]]:
    """Both libraries on one random layer; bitsandbytes quantizes it as it is loaded, ours afterwards."""
    from transformers import AutoModelForCausalLM

    made = {}
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with quiet():
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(trials.config("llama", **LAYER)).save_pretrained(folder)
        for library in LIBRARIES:
            settings = Settings(lora=LoraConfig(rank=16), library=library, checkpointing=False)
            with quiet():
                model = AutoModelForCausalLM.from_pretrained(folder, **qlora.loading(settings))
            model = qlora.adapt(model, settings)
            made[library] = stepper(model, step(model, 1, length))
    return made


def stepper(model: Any, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Forwards, backwards, and a step of AdamW."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    model.train()

    def run() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


if __name__ == "__main__":
    main()
