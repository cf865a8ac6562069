"""A whole run: order the examples, train, evaluate, keep checkpoints, go on where one was cut off, and give way when memory is not enough."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils.memory import clear_device_cache

from coursepkg.chat import Document
from coursepkg.qlora import record
from coursepkg.qlora.base import checkpoint, is_sharded, load
from coursepkg.qlora.examples import arrange, cut, encode, pack
from coursepkg.qlora.ladder import MODELS, Choice, choose, lower
from coursepkg.qlora.settings import HUB, Settings
from coursepkg.qlora.trainer import LoraTrainer, last_whole


class OutOfMemory(RuntimeError):
    """The device has not enough memory for this model, whatever is given up."""


@dataclass(frozen=True)
class Run:
    """What a run left behind, the parts before it was cut off included where it went on.

    losses: of each step, in nats a predicted token. evaluations: for each look at what was held out the step, the loss (in nats a predicted token) and what was
    examined. settings: as they were in the end, after giving way to what memory there was (since it last went on). said: what there was to say on the way.
    """

    losses: tuple[float, ...]
    evaluations: tuple[dict[str, float], ...]
    settings: Settings
    said: tuple[str, ...]
    trainer: LoraTrainer


def finetune(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Document],
    settings: Settings,
    folder: Path | str | None = None,
    held_out: Sequence[Document] = (),
    examine: Callable[[Any], dict[str, float]] | None = None,
    say: Callable[[str], Any] = print,
    progress: bool = True,
) -> Run:
    """Train the adapters of a model that `load` made, in place; it is in evaluation mode afterwards.

    folder: where checkpoints are kept, what the run is, and at the end the adapter in peft's format; a run that was cut off goes on from the last of
    them that is whole. None keeps nothing. held_out: examples whose loss is looked at; examine: called with the model, gives numbers, in the first of several processes; both at the end, and every
    `settings.evaluate_every` steps. A run that goes on should be given the same.
    Where memory runs out, the run goes on from its last whole step with what `ladder.lower` leaves, and says so.
    Raises OutOfMemory where there is nothing left to give up, ValueError for examples that do not fit and for `examine` where the model is
    sharded, record.OtherRun where the folder holds
    another run, trainer.NoGradient where adapters would not learn, and FloatingPointError where the loss is no number.
    """
    if examine is not None and is_sharded():
        raise ValueError(
            "a model that is sharded answers to all processes at once, and examine is asked in one"
        )
    asked = record.described(model, examples, settings)
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        place = Path(folder or scratch)
        said = record.claim(place, asked)
        first = {
            name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters() if p.requires_grad
        }
        last = last_whole(place)
        # In the order of the whole rows, so that a run that has to cut them off goes on where it was.
        state = PartialState()
        rows = _rows(tokenizer, examples, settings, settings.total * state.num_processes)
        held = encode(tokenizer, held_out, settings.length)
        state.wait_for_everyone()  # for all have looked at the folder before anything is written
        if folder is not None and state.is_main_process and not (place / record.RECORD).exists():
            record.write(place, asked)
        while True:
            rows, held = cut(rows, settings.length), cut(held, settings.length)
            trainer = LoraTrainer(model, settings, place, rows, held, examine, progress)
            try:
                trainer.train(resume_from_checkpoint=last)
                trainer.look(last=True)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0]
                if trainer.args.world_size > 1:
                    raise OutOfMemory(
                        f"memory ran out ({reason}); several processes do not step down by themselves, so call it again with smaller batches and more of them to a step"
                    ) from error
                last = _kept(trainer) or last
            finally:
                trainer.release()
            given = lower(settings)
            if given is None:
                raise OutOfMemory(
                    f"memory is not enough for this model even with one example of {settings.length} tokens at a time: {reason}"
                )
            settings, what = given
            at = "the beginning" if last is None else f"step {last.rpartition('-')[2]}"
            said.append(f"memory ran out ({reason}); on from {at} with {what}")
            say(said[-1])
            if folder is not None:
                record.write(place, asked, said=said)
            if last is None:
                _put_back(model, first)
            del trainer
            model.zero_grad(set_to_none=True)
            clear_device_cache(garbage_collection=True)
            checkpoint(model, settings.checkpointing)
        losses = tuple(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
        run = Run(losses, tuple(trainer.evaluations), settings, tuple(said), trainer)
        if folder is not None:
            if last_whole(place):
                trainer.keep()  # so that a finished run that is called again stays as it is
            trainer.save_model(str(place))
            if state.is_main_process:
                record.write(place, asked, losses=losses, evaluations=run.evaluations, said=said)
    return run


def finetune_largest(
    examples: Sequence[Document],
    settings: Settings = HUB,
    models: Sequence[str] = MODELS,
    folder: Path | str | None = None,
    free: int | None = None,
    say: Callable[[str], Any] = print,
    **given: Any,
) -> tuple[Any, Any, Choice, Run]:
    """Finetune the largest of the models that the device takes: the one that `choose` names, and where memory runs out all the same, whatever is
    given up, the next smaller one, from the beginning. The model, its tokenizer, what was chosen, and the run.

    free: as `choose` takes it. folder: of a folder for each model that is tried. given: as `finetune` takes it. Raises as `load` and `finetune` do.
    """
    left = list(models)
    while True:
        choice = choose(settings, left, free)
        say(f"{choice.model}: {choice.reason}")
        place = None if folder is None else Path(folder) / Path(choice.model).name
        try:
            model, tokenizer = load(choice.model, choice.settings)
            run = finetune(model, tokenizer, examples, choice.settings, place, say=say, **given)
            return model, tokenizer, choice, run
        except RuntimeError as error:
            if choice.model not in left or not (isinstance(error, OutOfMemory) or is_out_of_memory(error)):
                raise
        say(f"memory is not enough for {choice.model}; on with a smaller model, from the beginning")
        left = left[left.index(choice.model) + 1 :]
        model = tokenizer = None
        clear_device_cache(garbage_collection=True)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether it says that memory ran out, in whatever words of CUDA, its libraries, or the CPU's allocator."""
    words = ("out of memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(each in str(error) for each in words)


def _put_back(model: Any, values: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in values:
                parameter.copy_(values[name])


def _kept(trainer: LoraTrainer) -> str | None:
    try:
        kept = trainer.keep()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None
    return None if kept is None else str(kept)


def _rows(
    tokenizer: Any, examples: Sequence[Document], settings: Settings, step: int
) -> list[dict[str, list[int]]]:
    rows = encode(tokenizer, examples, settings.length)
    if not rows:
        raise ValueError("there are no examples to learn from")
    if settings.packing:
        rows = pack(rows, settings.length)
    return arrange(rows, settings, step)
