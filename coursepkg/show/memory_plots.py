"""The figures of lecture 01: where parameters sit, what four bits really cost, how caches and activations grow."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from coursepkg import memory
from coursepkg.memory import GB, MB
from coursepkg.results import Results
from coursepkg.show.figures import COLOURS, figure

_LINES = (
    COLOURS["weights"],
    COLOURS["gradients"],
    COLOURS["optimizer"],
    COLOURS["KV cache"],
    COLOURS["scales"],
)


def parameter_shares(models: Sequence[str]) -> Figure:
    """For each model the share of its parameters in embeddings and head, and in the decoder's Linear layers."""
    made, (axis,) = figure(8.0, 0.9 + 0.42 * len(models))
    for row, name in enumerate(models):
        arch = memory.architecture(name)
        linear = 100 * arch.parameters("linear") / arch.parameters()
        axis.barh(row, linear, height=0.62, color=COLOURS["weights"])
        axis.barh(row, 100 - linear, left=linear, height=0.62, color=COLOURS["16 bit"])
        axis.text(linear / 2, row, f"{linear:.0f} %", ha="center", va="center", color="white", fontsize=9)
    axis.set_yticks(range(len(models)), models)
    axis.set_ylim(len(models) - 0.5, -0.5)
    axis.set_xlim(0, 100)
    axis.set_xlabel(
        "% of parameters: Linear layers (blue, what 4 bits reach); embeddings, head, norms (grey)"
    )
    return made


def stored_steps(model: str) -> Figure:
    """From 4 bits times 7·10⁹ to what an NF4 model with double quantization stores, one step a bar, in GB."""
    arch, nominal = memory.architecture(model), 7e9 * 4 / 8
    linear = arch.parameters("linear")
    rest = memory.weight_bytes(model, "nf4+dq") - sum(
        memory.FORMATS["nf4+dq"].stored_bytes(*t.shape) for t in arch.tensors if t.role == "linear"
    )
    bits = [4.0, memory.FORMATS["nf4+dq"].effective_bits(), memory.FORMATS["nf4"].effective_bits()]
    steps = [
        ("4 bits × 7·10⁹", nominal, 0),
        (f"4 bits × its {linear / 1e9:.2f}·10⁹ Linear weights", linear * bits[0] / 8, 0),
        ("+ scales, double quantization", linear * (bits[1] - bits[0]) / 8, linear * bits[0] / 8),
        ("+ embeddings, head, norms in 16 bit", rest, linear * bits[1] / 8),
        ("stored in all", memory.weight_bytes(model, "nf4+dq"), 0),
        ("without double quantization", memory.weight_bytes(model, "nf4"), 0),
    ]
    colours = [COLOURS[c] for c in ("16 bit", "weights", "scales", "16 bit", "weights", "weights")]
    made, (axis,) = figure(8.0, 2.9)
    for row, ((_, width, left), colour) in enumerate(zip(steps, colours, strict=True)):
        axis.barh(row, width / GB, left=left / GB, height=0.62, color=colour)
        axis.text((left + width) / GB + 0.04, row, f"{width / GB:.2f}", va="center", fontsize=9)
    axis.set_yticks(range(len(steps)), [label for label, _, _ in steps])
    axis.set_ylim(len(steps) - 0.5, -0.5)
    axis.set_xlim(0, 4.8)
    axis.set_xlabel(f"GB (10⁹ bytes), {model}")
    return made


def cache_growth(models: Sequence[str], contexts: Sequence[int]) -> Figure:
    """KV cache in GB over the context length, both axes logarithmic, a line for each model with its name at the end."""
    made, (axis,) = figure(8.0, 3.6)
    for name, colour in zip(models, _LINES, strict=False):
        sizes = [memory.kv_cache_bytes(name, n) / GB for n in contexts]
        axis.plot(contexts, sizes, color=colour, linewidth=2)
        axis.text(contexts[-1] * 1.08, sizes[-1], name, color=colour, va="center", fontsize=9)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    ticks = contexts[-1::-2]
    axis.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axis.set_xlim(contexts[0], contexts[-1] * 4)
    axis.set_xlabel("context, tokens")
    axis.set_ylabel("KV cache, GB, 16 bit")
    axis.grid(axis="y", linewidth=0.4)
    return made


def training_sums(sums: Mapping[str, Mapping[str, float]]) -> Figure:
    """Stacked bars of GB by part, for each way to add up the bytes of training a 7B."""
    made, (axis,) = figure(8.0, 1.1 + 0.46 * len(sums))
    colours = {"master copy": COLOURS["scales"], **COLOURS}
    for row, parts in enumerate(sums.values()):
        left = 0.0
        for name, size in parts.items():
            axis.barh(row, size, left=left, height=0.62, color=colours[name])
            if size >= 5:
                axis.text(
                    left + size / 2, row, f"{size:g}", ha="center", va="center", color="white", fontsize=9
                )
            left += size
        axis.text(left + 1, row, f"{left:g} GB", va="center", fontsize=9, fontweight="bold")
    axis.set_yticks(range(len(sums)), list(sums))
    axis.set_ylim(len(sums) - 0.5, -0.5)
    axis.set_xlim(0, 125)
    axis.set_xlabel("GB (10⁹ bytes) for 7·10⁹ parameters")
    names = list(dict.fromkeys(name for parts in sums.values() for name in parts))
    handles = [axis.barh(0, 0, color=colours[name]) for name in names]
    made.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    return made


def activation_bars(model: str, length: int) -> Figure:
    """Peak activations of one sequence in GB, with everything kept and with checkpointing: layers, and head and loss."""
    made, (axis,) = figure(8.0, 2.1)
    for row, checkpointing in enumerate((False, True)):
        found = memory.activations(model, length, checkpointing=checkpointing)
        layers, rest = found.layers / GB, (found.peak - found.layers) / GB
        axis.barh(row, layers, height=0.62, color=COLOURS["activations"], label="layers")
        axis.barh(
            row, rest, left=layers, height=0.62, color=COLOURS["weights"], label="head and loss, at the peak"
        )
        axis.text(layers + rest + 0.1, row, f"{layers + rest:.2f} GB", va="center", fontsize=9)
    axis.set_yticks((0, 1), ("all kept", "checkpointing"))
    axis.set_ylim(1.5, -0.5)
    axis.set_xlim(0, axis.get_xlim()[1] * 1.08)
    axis.set_xlabel(f"GB (10⁹ bytes), {model}, full finetuning in bf16, one sequence of {length:,} tokens")
    made.legend(
        *(both[:2] for both in axis.get_legend_handles_labels()),
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )
    return made


def device_rows(found: Results) -> Figure:
    """Predicted against measured peak memory of a device: a point for each row, and the diagonal they should lie on."""
    made, (axis,) = figure(5.4, 3.8)
    colours = {"inference": COLOURS["KV cache"], "lora": COLOURS["gradients"], "qlora": COLOURS["weights"]}
    colours["qlora, ours"] = COLOURS["scales"]
    end = 1.08 * max(max(row["predicted"], row["measured_peak"]) for row in found.rows) / GB
    axis.plot([0, end], [0, end], color=COLOURS["16 bit"], linewidth=1)
    for method, colour in colours.items():
        rows = [row for row in found.rows if row["method"] == method]
        if not rows:
            continue
        predicted, measured = ([row[key] / GB for row in rows] for key in ("predicted", "measured_peak"))
        axis.scatter(predicted, measured, color=colour, label=method)
    axis.set_xlim(0, end)
    axis.set_ylim(0, end)
    axis.set_xlabel("predicted peak, GB")
    axis.set_ylabel("measured peak, GB")
    axis.legend(frameon=False)
    return made


def layer_parts(model: str) -> Figure:
    """kB that one decoder layer keeps for each token, by part, for full finetuning and for two ways to place LoRA."""
    made, (axis,) = figure(8.0, 2.6)
    arch = memory.architecture(model)
    q_and_v = memory.Lora(16, ("q_proj", "v_proj"))
    rows = {"full finetuning": None, "LoRA, all Linears": memory.Lora(16), "LoRA, q and v": q_and_v}
    shades = {"norms": COLOURS["16 bit"], "attention": COLOURS["KV cache"]}
    shades |= {"mlp": COLOURS["activations"], "adapters": COLOURS["adapters"]}
    for row, lora in enumerate(rows.values()):
        left = 0.0
        for name, size in memory.layer_parts(arch, lora=lora).items():
            width = size / MB * 1000
            axis.barh(
                row,
                width,
                left=left,
                height=0.62,
                color=shades[name],
                label={"mlp": "MLP"}.get(name, name) if row == 0 else None,
            )
            left += width
        axis.text(left + 4, row, f"{left:,.0f} kB", va="center", fontsize=9)
    axis.set_yticks(range(3), list(rows))
    axis.set_ylim(2.5, -0.5)
    axis.set_xlim(0, axis.get_xlim()[1] * 1.08)
    axis.set_xlabel(f"kB (10³ bytes) kept for each token and layer, {model}, bf16")
    made.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return made
