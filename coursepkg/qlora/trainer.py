"""The trainer of transformers, for adapters: it saves and resumes them alone, keeps the order of the data, and looks whether gradients arrive."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ProgressCallback

from coursepkg import lora_model, runtime
from coursepkg.qlora.bar import Bar
from coursepkg.qlora.examples import IGNORED, Row, collate
from coursepkg.qlora.settings import Settings


class NoGradient(RuntimeError):
    """A backward pass brought nothing to some adapters: they would never learn."""


def arguments(settings: Settings, folder: Path) -> TrainingArguments:
    """The settings as transformers takes them. Raises ValueError for a paged optimizer where nothing can be paged."""
    where = runtime.device()
    if "paged" in (settings.optimizer or "") and where.type != "cuda":
        raise ValueError(
            f"{settings.optimizer} pages between a CUDA GPU and its host; optimizer=None takes what fits this device"
        )
    dtype = runtime.dtype(where).dtype
    made = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=1,  # the rows of all epochs are given one after the other
        learning_rate=settings.rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup,
        max_grad_norm=settings.clip,
        weight_decay=0.0,
        optim=settings.optimizer or runtime.optimizer(where).name,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,  # with scaled gradients
        use_cpu=where.type == "cpu",
        seed=settings.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps" if settings.save_every else "no",
        save_steps=settings.save_every or 500,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=where.type == "cuda",
        label_names=["labels"],
    )
    made._n_gpu = min(
        1, made.n_gpu
    )  # one device a process: DataParallel would double the batch, and splits no tied rows
    return made


class LoraTrainer(Trainer):
    """Trainer for a model with adapters, ours or peft's.

    rows: in the order in which they are read. held_out: rows whose loss is looked at every `settings.evaluate_every` steps, with what
    `examine` says of the model at that time.
    """

    def __init__(
        self,
        model: Any,
        settings: Settings,
        folder: Path,
        rows: Sequence[Row],
        held_out: Sequence[Row] = (),
        examine: Callable[[Any], dict[str, float]] | None = None,
        progress: bool = True,
    ) -> None:
        self.settings = settings
        names = sorted({name for layer in lora_model.layers(model).values() for name in layer.active})
        if len(names) > 1:
            raise ValueError(f"one adapter is trained at a time, and {', '.join(names)} are active")
        self._forward = vars(model).get("forward")
        super().__init__(
            model,
            arguments(settings, folder),
            train_dataset=list(rows),
            eval_dataset=list(held_out) or None,
            data_collator=collate,
            callbacks=[_Watch(self), *([Bar()] if progress else [])],
            compute_metrics=_by_token,
        )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self._examine = examine
        self.is_updating = False
        self._random: Any = None
        self._seen = False

    @property
    def is_ours(self) -> bool:
        """Whether the adapters are this package's."""
        return self.adapter is not None

    @property
    def adapter(self) -> str | None:
        """The name of this package's adapter that is trained; None where there is none."""
        active = [name for layer in lora_model.layers(self.model).values() for name in layer.active]
        return active[0] if active else None

    @property
    def has_something_to_look_at(self) -> bool:
        """Whether there are held-out rows, or something to examine."""
        return self.eval_dataset is not None or self._examine is not None

    @property
    def evaluations(self) -> list[dict[str, float]]:
        """Each look at what was held out. They stand in the trainer's state, which checkpoints keep."""
        return [entry["looked"] for entry in self.state.log_history if "looked" in entry]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """With a rate of its own for the embedding, or for the rows of it that are trained."""
        if self.optimizer is None:
            kind, given = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            embedding = set(self.model.get_input_embeddings().parameters())
            groups: dict[bool, list] = {False: [], True: []}
            for parameter in (model or self.model).parameters():
                if parameter.requires_grad:
                    groups[parameter in embedding].append(parameter)
            rates = {False: self.settings.rate, True: self.settings.token_rate or self.settings.rate}
            made = [{"params": some, "lr": rates[which]} for which, some in groups.items() if some]
            self.optimizer = kind(made, **given | {"weight_decay": 0.0})
        return self.optimizer

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The loss on what is held out, and what `examine` says."""
        looked = self.evaluations
        if looked and looked[-1]["step"] == self.state.global_step:
            return {}  # the trainer asks once more when the epoch ends
        found = {"step": self.state.global_step}
        if self.eval_dataset is not None:
            found["loss"] = super().evaluate(*args, **kwargs)["eval_by_token"]
        if self._examine is not None and self.is_world_process_zero():
            self.model.eval()
            found |= {name: float(value) for name, value in self._examine(self.model).items()}
        self.state.log_history.append({"step": self.state.global_step, "looked": found})
        return {"eval_loss": found.get("loss", float("nan"))}

    def look(self, last: bool = False) -> None:
        """Evaluate, where that is due at this step (or is the `last` look) and has not been done."""
        every, step = self.settings.evaluate_every, self.state.global_step
        if self.has_something_to_look_at and step and (last or (every and step % every == 0)):
            self.evaluate()

    def prediction_step(
        self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The mean loss of a batch; for each of its rows the sum of its tokens' losses, and their number. No logits: they would fill the memory."""
        given = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = model(**{name: tensor for name, tensor in given.items() if name != "labels"}).logits
        wanted = given["labels"][:, 1:]
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), wanted.flatten(), ignore_index=IGNORED, reduction="none"
        )
        sums, counts = losses.view(wanted.shape).sum(dim=1), (wanted != IGNORED).sum(dim=1)
        return sums.sum() / counts.sum(), sums, counts

    def release(self) -> None:
        """Leave the model in evaluation mode, and its forward as it was given: accelerate has wrapped it to compute in 16 bits. Stop the bar.

        accelerate's own unwrapping would take transformers' decorators off, too.
        """
        # The last of them would keep accelerate from wrapping the model again, for the next trainer.
        for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
            vars(self.model).pop(name, None)
        if self._forward is not None:
            self.model.forward = self._forward
        self.model.eval()
        for callback in self.callback_handler.callbacks:
            getattr(callback, "stop", bool)()

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Also stops at the first loss that is no number, before anything is saved. Raises FloatingPointError."""
        if not math.isfinite(logs.get("loss", 0.0)):
            raise FloatingPointError(
                f"the loss of step {self.state.global_step} is {logs['loss']}: the rate is too high, or float16 too narrow"
            )
        super().log(logs, *args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """After the first backward pass, before anything is clipped or scaled, looks whether gradients arrive. Raises NoGradient."""
        loss = super().training_step(*args, **kwargs)
        if not self._seen and (silent := lora_model.without_gradient(self.model)):
            raise NoGradient(
                f"no gradient arrives at {len(silent)} adapters, {silent[0]} among them: something between them and the loss keeps none. "
                "A base in 4 bits that was evaluated on a CPU before it was mended is such a thing (qlora.mend)"
            )
        self._seen = True
        return loss

    def keep(self) -> Path | None:
        """Save where the run stood after its last whole step; None before the first of this trainer, and where a step may be half done."""
        if self.state.global_step == 0 or self.is_updating or self._random is None:
            return None
        place = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if not is_whole(place):
            _set_random(self._random)
            self._save_checkpoint(self.model, trial=None)
        return place

    def _get_train_sampler(self, *args: Any) -> torch.utils.data.Sampler:
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not self.is_ours:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            lora_model.save(self.model, output_dir or self.args.output_dir, self.adapter)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.is_ours:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            lora_model.read_into(self.model, resume_from_checkpoint, self.adapter)


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end, of which the trainer's state is the last."""
    try:
        return isinstance(json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


def last_whole(folder: Path) -> str | None:
    """The last of a folder's checkpoints that was written to its end."""
    found = [
        (int(path.name.rpartition("-")[2]), path)
        for path in folder.glob("checkpoint-[0-9]*")
        if is_whole(path)
    ]
    return str(max(found)[1]) if found else None


def _by_token(found: EvalPrediction) -> dict[str, float]:
    """The mean over tokens; the trainer's own is that over batches, in which short answers count for more than long ones."""
    return {"by_token": float(found.predictions.sum() / found.label_ids.sum())}


def _get_random() -> tuple[torch.Tensor, list[torch.Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _set_random(state: Any) -> None:
    if state is not None:
        torch.set_rng_state(state[0])
        if state[1]:
            torch.cuda.set_rng_state_all(state[1])


class _Watch(TrainerCallback):
    """Says when to evaluate; notes where a step begins and ends, and whether it is in the middle of changing weights."""

    def __init__(self, trainer: LoraTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.save_steps = args.save_steps  # a checkpoint's state holds those that it was saved with

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        if self.trainer._random is None:
            self.trainer.look()  # at which memory may have run out; random numbers are drawn where they were
        self.trainer._random = _get_random()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer._random = _get_random()
        every = self.trainer.settings.evaluate_every
        if every and state.global_step % every == 0 and self.trainer.has_something_to_look_at:
            control.should_evaluate = True

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.trainer.is_updating = True

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.trainer.is_updating = False
