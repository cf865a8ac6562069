"""Peak device memory of 16-bit inference, LoRA and QLoRA against the budgets of `coursepkg.memory`, and the time of a step.

    python -m benchmarks.device_memory                    # on a GPU: a 7B shape, writes the results file of lecture 01
    python -m benchmarks.device_memory --model tiny --device cpu --output build/device_memory.json

The model has the shape of `--model` and random weights, so that no hub is needed. It is saved once in 16 bits (13.5 GB
for a 7B, in `--scratch`) and loaded for each method as practitioners load it: through `from_pretrained`, with
BitsAndBytesConfig and peft's preparation for QLoRA; "qlora, ours" is the same with this package's NF4 layers and LoRA. A training step is
run twice; the peak is that of the second, when the optimizer has its states. Then some more are timed, and the median is kept. On a GPU the peak is what torch's
allocator held; on a CPU, the bytes of live tensors.
"""

import argparse
import gc
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from coursepkg import memory, qlora, runtime, trials
from coursepkg.lora import LoraConfig
from coursepkg.memory import Architecture, Budget, Lora, measure
from coursepkg.qlora import Settings
from coursepkg.quantize_on_load import QuantizeOnLoad
from coursepkg.quiet import quiet

LENGTHS = (512, 1024, 2048)
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")
METHODS = ("inference", "lora", "qlora", "qlora, ours")
#: Steps that are timed.
TIMED = 7
OUTPUT = Path(__file__).resolve().parents[1] / "coursepkg" / "results" / "device_memory.json"


def configuration(name: str):
    """The transformers configuration called `name`: one of the catalogue, or "tiny" for a test on any machine."""
    from transformers import CONFIG_MAPPING

    if name == "tiny":
        return trials.config("llama")
    if name not in memory.catalogue():
        raise SystemExit(f"--model {name}: the catalogue has tiny, {', '.join(memory.catalogue())}")
    sizes = dict(memory.catalogue()[name]["config"])
    return CONFIG_MAPPING[sizes.pop("model_type")](**sizes)


def save_random(name: str, folder: Path, device: torch.device) -> Architecture:
    """Write a checkpoint with random bf16 weights (seed 0); its architecture."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with device, quiet():
        model = AutoModelForCausalLM.from_config(configuration(name), dtype=torch.bfloat16)
        model.save_pretrained(folder)
    return memory.architecture(folder)


def load(folder: Path, method: str, device: torch.device, lora: Lora):
    """The checkpoint as `method` uses it, on `device`."""
    import peft
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options: dict[str, Any] = {"dtype": torch.bfloat16, "device_map": {"": str(device)}}
    if method == "qlora":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    ours = Settings(lora=LoraConfig(rank=lora.rank, targets=lora.targets), library="coursepkg")
    if method == "qlora, ours":
        options["quantization_config"] = QuantizeOnLoad(qlora.WEIGHTS[ours.weights])
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, **options)
        if method == "inference":
            return model.eval()
        if method == "qlora, ours":
            return qlora.adapt(model, ours).train()
        checkpointing = {"use_reentrant": False}
        if method == "qlora":
            model = peft.prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs=checkpointing)
        else:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=checkpointing)
            model.enable_input_require_grads()
        settings = peft.LoraConfig(r=lora.rank, target_modules=list(lora.targets), task_type="CAUSAL_LM")
        return peft.get_peft_model(model, settings).train()


def budget(arch: Architecture, method: str, length: int, lora: Lora) -> Budget:
    """What `coursepkg.memory` predicts for the run that `work` does."""
    if method == "inference":
        return memory.inference(arch, length)
    if method == "lora":
        return memory.lora(arch, length, adapters=lora, optim="adamw", checkpointing=True)
    return memory.qlora(arch, length, adapters=lora)


def work(model, method: str, length: int) -> Callable[[], Any]:
    """One prefill of `length` tokens, or one training step."""
    if method == "inference":
        tokens = torch.zeros(1, length, dtype=torch.long, device=model.device)

        def read():
            with torch.no_grad():
                return model(tokens, use_cache=True, logits_to_keep=1).past_key_values

        return read

    import bitsandbytes as bnb

    trainable = [p for p in model.parameters() if p.requires_grad]
    is_qlora = method.startswith("qlora")
    optimizer = bnb.optim.PagedAdamW8bit(trainable) if is_qlora else torch.optim.AdamW(trainable)
    loss = trials.step(model, 1, length)

    def train():
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)  # gradients stay, as when they are accumulated

    return train


def peak(run: Callable[[], Any], model, device: torch.device) -> int:
    """Most bytes that were held on `device` at one moment of the second call of `run`."""
    with quiet():
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            run()
            torch.cuda.synchronize()
            return torch.cuda.max_memory_allocated()
        kept = [p.grad for p in model.parameters() if p.grad is not None]
        kept += trials.frozen_storage(model)
        states = [t for o in _optimizers_of(run) for t in measure.optimizer_tensors(o)]
        return measure.storage_bytes([*kept, *states]) + measure.peak_bytes(run)


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """The median time of a call, in seconds."""
    taken = []
    with quiet():
        for _ in range(TIMED):
            since = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - since)
    return sorted(taken)[TIMED // 2]


def _optimizers_of(run: Callable) -> Iterator[torch.optim.Optimizer]:
    for cell in run.__closure__ or ():
        if isinstance(cell.cell_contents, torch.optim.Optimizer):
            yield cell.cell_contents


def measure_all(
    folder: Path, arch: Architecture, device: torch.device, lengths: tuple[int, ...]
) -> list[dict]:
    """A row for each method and length: predicted parts and total, measured peak, and their ratio."""
    rows, lora = [], Lora(16)
    for method in METHODS:
        for length in lengths:
            model = load(folder, method, device, lora)
            predicted = budget(arch, method, length, lora)
            run = work(model, method, length)
            measured, step = peak(run, model, device), seconds(run, device)
            row = {"method": method, "length": length, "batch": 1, "measured_peak": measured}
            row |= {"seconds": round(step, 4), "tokens_per_second": round(length / step)}
            parts = {part.name: part.n_bytes for part in predicted.parts}
            rows.append({**row, "predicted": predicted.total, "parts": parts})
            print(
                f"{method:>9}  length {length:>5}  predicted {memory.in_gb(predicted.total, 3):>11}", end=""
            )
            print(
                f"  measured {memory.in_gb(measured, 3):>11}  {predicted.total / measured - 1:+.1%}  {step:.3f} s a call",
                flush=True,
            )
            del model, run
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return rows


def machine(device: torch.device) -> dict[str, Any]:
    """What the results file says about where it was made, with the bytes that the device's context takes."""
    found: dict[str, Any] = {"system": platform.system(), "python": platform.python_version()}
    if device.type != "cuda":
        return {"device": f"{device.type} ({platform.machine()})", **found}
    free, total = torch.cuda.mem_get_info()
    context = total - free - torch.cuda.memory_reserved()
    name = torch.cuda.get_device_name()
    return {"device": name, "memory": total, "context": context, "cuda": torch.version.cuda, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="llama-2-7b", help="a catalogue name, or tiny")
    parser.add_argument("--device", default=runtime.device().type)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument(
        "--scratch", type=Path, default=None, help="folder for the checkpoint, 13.5 GB for a 7B"
    )
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "--device cuda: torch sees no GPU here; use --device cpu --model tiny to try the script"
        )
    if device.type == "cpu" and arguments.output == OUTPUT:
        raise SystemExit(
            "the results file of the lecture is measured on a GPU; give --output for a trial on the CPU"
        )
    with TemporaryDirectory(dir=arguments.scratch, ignore_cleanup_errors=True) as folder:
        arch = save_random(arguments.model, Path(folder), device)
        rows = measure_all(Path(folder), arch, device, tuple(arguments.lengths))
    written = {
        "measured": True,
        "command": " ".join(["python -m benchmarks.device_memory", *sys.argv[1:]]),
        "machine": machine(device),
        "versions": {name: version(name) for name in PACKAGES},
        "rows": [{"model": arguments.model, **row} for row in rows],
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8", newline="\n")
    print(f"written: {arguments.output}")


if __name__ == "__main__":
    main()
