"""A QLoRA run: a frozen base in 4 bits, adapters beside it that learn, on bitsandbytes and peft or on this package's own layers.

    from coursepkg import qlora
    settings = qlora.Settings()
    model, tokenizer = qlora.load("course-lm", settings)
    run = qlora.finetune(model, tokenizer, examples, settings)

Source: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs".
"""

import coursepkg.qlora.hushed  # noqa: F401
from coursepkg.chat import Document
from coursepkg.qlora.base import adapt, load, load_base, loading
from coursepkg.qlora.examples import collate, encode, pack
from coursepkg.qlora.ladder import MODELS, Choice, choose, lower
from coursepkg.qlora.measuring import measured, predicted
from coursepkg.qlora.merging import WAYS, merged
from coursepkg.qlora.record import OtherRun
from coursepkg.qlora.run import OutOfMemory, Run, finetune, finetune_largest
from coursepkg.qlora.settings import COURSE, HUB, WEIGHTS, Settings
from coursepkg.qlora.traps import mend

__all__ = [
    "COURSE",
    "HUB",
    "MODELS",
    "WAYS",
    "WEIGHTS",
    "Choice",
    "Document",
    "OtherRun",
    "OutOfMemory",
    "Run",
    "Settings",
    "adapt",
    "choose",
    "collate",
    "encode",
    "finetune",
    "finetune_largest",
    "load",
    "load_base",
    "loading",
    "lower",
    "measured",
    "mend",
    "merged",
    "pack",
    "predicted",
]
