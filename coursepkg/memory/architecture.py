"""A decoder-only transformer as shapes: which tensors it has, how large, and what each is for.

An `Architecture` is read from the `config.json` that every transformers checkpoint carries. No weights, and no
transformers, are needed; the tests hold the result, tensor by tensor, against the models of transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Literal

Role = Literal["embedding", "linear", "bias", "norm", "head"]

# What a config.json may leave out, by model_type: the defaults of transformers' own config classes.
FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False},
    "mistral": {"tie_word_embeddings": False, "num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": {
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "max_window_layers": 28,
        "sliding_window": 4096,
    },
    "qwen3": {
        "tie_word_embeddings": False,
        "attention_bias": False,
        "head_dim": 128,
        "use_sliding_window": False,
        "max_window_layers": 28,
        "sliding_window": 4096,
    },
    "gemma3_text": {
        "tie_word_embeddings": True,
        "attention_bias": False,
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    },
}


@dataclass(frozen=True)
class TensorSpec:
    """One parameter tensor: its name in transformers' state dict, its shape, and its role."""

    name: str
    shape: tuple[int, ...]
    role: Role

    @property
    def count(self) -> int:
        """Number of parameters in the tensor."""
        return prod(self.shape)


@dataclass(frozen=True)
class Architecture:
    """The shape of a decoder-only transformer.

    hidden_size, intermediate_size: widths of the residual stream and of the MLP.
    num_heads, num_kv_heads, head_dim: query heads, key/value heads (fewer: GQA; one: MQA), width of a head.
    tied: the output head is the embedding table, stored once.
    windows: for each layer the length of its sliding attention window in tokens, or None for full attention.
    sandwich_norms: norms after attention and MLP as well as before (Gemma 3).
    qk_norm: a norm over each head of the queries and of the keys.
    """

    name: str
    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    tied: bool
    windows: tuple[int | None, ...]
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    sandwich_norms: bool = False

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together; the values have the same."""
        return self.num_kv_heads * self.head_dim

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The Linear layers of one decoder layer: name to (out_features, in_features)."""
        h, f, q, kv = self.hidden_size, self.intermediate_size, self.query_size, self.kv_size
        return {
            "q_proj": (q, h),
            "k_proj": (kv, h),
            "v_proj": (kv, h),
            "o_proj": (h, q),
            "gate_proj": (f, h),
            "up_proj": (f, h),
            "down_proj": (h, f),
        }

    @cached_property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Every parameter tensor of the model, each once (a tied head is not listed again)."""
        found = [TensorSpec("model.embed_tokens.weight", (self.vocab_size, self.hidden_size), "embedding")]
        for i in range(self.num_layers):
            found += self._layer(f"model.layers.{i}.")
        found.append(TensorSpec("model.norm.weight", (self.hidden_size,), "norm"))
        if not self.tied:
            found.append(TensorSpec("lm_head.weight", (self.vocab_size, self.hidden_size), "head"))
        return tuple(found)

    def _layer(self, prefix: str) -> list[TensorSpec]:
        found = []
        for name, shape in self.linears.items():
            block = "self_attn" if name[0] in "qkvo" else "mlp"
            found.append(TensorSpec(f"{prefix}{block}.{name}.weight", shape, "linear"))
            if self.qkv_bias if name[0] in "qkv" else self.o_bias if name[0] == "o" else self.mlp_bias:
                found.append(TensorSpec(f"{prefix}{block}.{name}.bias", shape[:1], "bias"))
        if self.qk_norm:
            found += [
                TensorSpec(f"{prefix}self_attn.{n}.weight", (self.head_dim,), "norm")
                for n in ("q_norm", "k_norm")
            ]
        norms = ["input_layernorm", "post_attention_layernorm"]
        if self.sandwich_norms:
            norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        return found + [TensorSpec(f"{prefix}{n}.weight", (self.hidden_size,), "norm") for n in norms]

    def parameters(self, *roles: Role) -> int:
        """Number of parameters, of all tensors or of those with one of `roles`."""
        return sum(t.count for t in self.tensors if not roles or t.role in roles)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], name: str = "this model") -> "Architecture":
        """Read the `config.json` of a transformers checkpoint (as a dict).

        A multimodal Gemma 3 gives its language model; the vision tower is left out.
        Raises ValueError for a family whose tensors this course does not know, or a config that lacks a size.
        """
        if "text_config" in config:
            config = config["text_config"]
        family = config.get("model_type")
        if family not in FAMILY_DEFAULTS:
            raise ValueError(
                f"{name}: model_type {family!r} is not one whose memory this course can compute; "
                f"it knows {', '.join(FAMILY_DEFAULTS)}"
            )
        # null means "left out", but for the window, where it means full attention
        stated = {k: v for k, v in config.items() if v is not None or k == "sliding_window"}
        c = {**FAMILY_DEFAULTS[family], **stated}
        sizes = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
        for key in sizes + [key for key in ("num_key_value_heads", "head_dim") if key in c]:
            if type(c.get(key)) is not int or c[key] < 1:
                raise ValueError(f"{name}: its config needs a positive integer {key}, and has {c.get(key)!r}")
        if len(c.get("layer_types", range(c["num_hidden_layers"]))) != c["num_hidden_layers"]:
            raise ValueError(
                f"{name}: its config has {len(c['layer_types'])} layer_types for {c['num_hidden_layers']} layers"
            )
        heads = c["num_attention_heads"]
        return cls(
            name=name,
            model_type=family,
            vocab_size=c["vocab_size"],
            hidden_size=c["hidden_size"],
            intermediate_size=c["intermediate_size"],
            num_layers=c["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=c.get("num_key_value_heads", heads),
            head_dim=c.get("head_dim", c["hidden_size"] // heads),
            tied=c["tie_word_embeddings"],
            windows=_windows(family, c),
            qkv_bias=family == "qwen2" or c.get("attention_bias", False),
            o_bias=family != "qwen2" and c.get("attention_bias", False),
            mlp_bias=c.get("mlp_bias", False),
            qk_norm=family in ("qwen3", "gemma3_text"),
            sandwich_norms=family == "gemma3_text",
        )


def _windows(family: str, c: Mapping[str, Any]) -> tuple[int | None, ...]:
    """The sliding window of each layer, or None where a layer attends to everything before it."""
    layers, window = c["num_hidden_layers"], c.get("sliding_window")
    if "layer_types" in c:
        return tuple(window if kind == "sliding_attention" else None for kind in c["layer_types"])
    if family == "gemma3_text":
        every = c["sliding_window_pattern"]
        return tuple(None if (i + 1) % every == 0 else window for i in range(layers))
    if family == "mistral":
        return (window,) * layers
    if family in ("qwen2", "qwen3") and c["use_sliding_window"]:
        return tuple(window if i >= c["max_window_layers"] else None for i in range(layers))
    return (None,) * layers
