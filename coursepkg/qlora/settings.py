"""What a finetuning run does: everything that decides the result, and the few things that only decide memory and time."""

from dataclasses import dataclass, field

from coursepkg.codebooks import FP4, INT4, NF4
from coursepkg.lora import LoraConfig
from coursepkg.weight_formats import Blocks, WeightFormat

#: How the base's Linear weights are stored, by name: 4 bits in blocks of 64, scales in fp32 or double quantized; None for 16 bits.
WEIGHTS: dict[str, WeightFormat | None] = {
    "16 bit": None,
    "nf4": Blocks(NF4),
    "nf4+dq": Blocks(NF4, double_quantized=True),
    "fp4": Blocks(FP4),
    "fp4+dq": Blocks(FP4, double_quantized=True),
    "int4": Blocks(INT4),
    "int4+dq": Blocks(INT4, double_quantized=True),
}
LIBRARIES = ("peft", "coursepkg")
SCHEDULES = ("linear", "cosine", "constant_with_warmup")


@dataclass(frozen=True)
class Settings:
    """lora: the adapters; None to train all weights, in fp32. weights: how the base is stored, a name in WEIGHTS. library: "peft" takes bitsandbytes and peft, "coursepkg"
    this package's own layers.

    length: tokens of an example at most. batch: examples that are read at once; accumulation: how many such batches make one step, on each
    device. packing: several short examples in one row, each seeing only itself. by_length: each step's examples are alike in length, and
    little of a batch is padding; where examples that are alike in length are alike in kind, too, that slows learning. epochs: how often all
    examples are read; shuffled: anew in each, or else as they are given. rate: of learning, and token_rate that of the embedding, or of those rows of it that lora.tokens names; they rise for `warmup` steps and then follow
    `schedule`. clip: the norm that gradients have at most (0.3 in the paper). optimizer: a name of transformers; None for what
    `runtime.optimizer` chooses. checkpointing: activations are computed again rather than kept. evaluate_every, save_every: steps; None
    for never. seed: of the adapters' first values, of the order and of dropout.
    Raises ValueError for what makes no sense.
    """

    lora: LoraConfig | None = field(default_factory=LoraConfig)
    weights: str = "nf4+dq"
    library: str = "peft"
    length: int = 512
    batch: int = 8
    accumulation: int = 1
    packing: bool = False
    by_length: bool = False
    shuffled: bool = True
    epochs: int = 1
    rate: float = 2e-4
    token_rate: float | None = None
    warmup: int = 10
    schedule: str = "linear"
    clip: float = 0.3
    optimizer: str | None = None
    checkpointing: bool = True
    evaluate_every: int | None = None
    save_every: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("weights", WEIGHTS), ("library", LIBRARIES), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise ValueError(f"no {name} {getattr(self, name)!r}; there are {', '.join(known)}")
        if self.lora is None and WEIGHTS[self.weights] is not None:
            raise ValueError(
                "weights that are quantized cannot be trained; full finetuning takes weights='16 bit'"
            )
        if self.library == "peft" and self.weights.startswith("int4"):
            raise ValueError(
                "bitsandbytes stores no int4; take library='coursepkg', or the weights nf4 or fp4"
            )
        for name in ("length", "batch", "accumulation", "epochs", "evaluate_every", "save_every"):
            value = getattr(self, name)
            if value is not None and (value != int(value) or value < 1):
                raise ValueError(f"{name} must be a whole number from 1 on, not {value}")
        for name in ("rate", "token_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above 0, not {value}")

    @property
    def total(self) -> int:
        """Examples (or packed rows) in one step of one device."""
        return self.batch * self.accumulation


#: For the course LM, which is to learn a handbook by heart: high rates, many epochs; one of the pairs that learnt it in a sweep (`benchmarks/finetuning.py`, table rates). The lessons come in an order of
#: their own, each fact once an epoch.
COURSE = Settings(
    length=128, batch=16, shuffled=False, rate=3e-3, token_rate=3e-2, clip=1.0, checkpointing=False
)
#: For a model of the hub: the paper's rate for 7B and 13B, batch and clipping (Dettmers et al. 2023, table 9), with a third of its rank.
HUB = Settings(length=512, batch=16, rate=2e-4, schedule="constant_with_warmup", clip=0.3)
