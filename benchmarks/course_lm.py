"""How long the course LM takes to load, to sit its exam and to write, on this machine: `python -m benchmarks.course_lm`.

One fresh process, so that loading is counted whole and the peak is this model's: resident bytes of the process.
"""

import time
from collections.abc import Callable

import psutil
import torch

BASE = psutil.Process().memory_info().rss


def timed(work: Callable, repeats: int = 1) -> tuple[float, object]:
    """Median of the seconds that `work` took, and what it gave."""
    seconds = []
    for _ in range(repeats):
        since = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - since)
    return sorted(seconds)[len(seconds) // 2], result


def peak_bytes() -> int:
    """The most resident memory that this process has had."""
    found = psutil.Process().memory_info()
    if hasattr(found, "peak_wset"):  # Windows
        return found.peak_wset
    import resource
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def main() -> None:
    imported, _ = timed(lambda: __import__("transformers").LlamaForCausalLM)
    from coursepkg import courselm, evaluation, load_model

    first, (model, tokenizer) = timed(load_model)
    loaded, _ = timed(load_model, 5)
    after = psutil.Process().memory_info().rss
    made, exam = timed(courselm.exam)
    whole, marks = timed(lambda: evaluation.take(model, tokenizer, exam), 3)
    options, _ = timed(lambda: evaluation.option_scores(model, tokenizer, exam.questions), 3)
    prompts = [question.prompt for question in exam.free]
    written, _ = timed(lambda: evaluation.answers(model, tokenizer, prompts), 3)
    story, text = timed(lambda: evaluation.go_on(model, tokenizer, exam.texts[0].split(".")[0]), 5)
    tokens = len(tokenizer(text)["input_ids"])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {model.device}, {model.dtype}")
    for what, seconds in (
        ("importing transformers' Llama", imported),
        ("load_model(), the first time", first),
        ("load_model(), median of 5", loaded),
        ("making the world and its exam", made),
        (f"the whole exam ({len(exam.questions):,} questions, {len(exam.texts)} texts), median of 3", whole),
        ("  its questions by likelihood", options),
        (f"  its {len(prompts)} free answers", written),
        (f"going on with one text ({tokens} tokens), median of 5", story),
    ):
        print(f"{seconds:8.2f} s  {what}")
    print(f"{BASE / 1e6:8.0f} MB resident before transformers, {after / 1e6:.0f} MB with the model loaded")
    print(f"{peak_bytes() / 1e6:8.0f} MB at the peak")
    print(marks)


if __name__ == "__main__":
    main()
