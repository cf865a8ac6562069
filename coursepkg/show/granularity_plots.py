"""The figures of lecture 03 that show blocks and bits: which weights share a scale, what that does to them, how codes are packed."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from coursepkg.affine import Quantized
from coursepkg.show.figures import COLOURS, figure


def blocks_by_hand(matrix: torch.Tensor, made: Mapping[str, Quantized]) -> Figure:
    """For each label a small matrix: its values, below each its code, the blocks that share a scale outlined, and cells
    the darker the larger the error."""
    drawn, axes = figure(3.2 * len(made), 3.1, columns=len(made))
    errors = {label: (each.dequantize() - matrix).abs() for label, each in made.items()}
    worst = max(error.max().item() for error in errors.values())
    rows, columns = matrix.shape
    for axis, (label, each) in zip(axes, made.items(), strict=True):
        axis.imshow(errors[label].numpy(), cmap="Oranges", vmin=0, vmax=1.6 * worst)
        for row in range(rows):
            for column in range(columns):
                axis.text(
                    column,
                    row - 0.14,
                    f"{matrix[row, column]:.2f}",
                    ha="center",
                    va="center",
                    fontsize=10,
                )
                code = f"{each.codes[row, column]:d}"
                axis.text(
                    column,
                    row + 0.26,
                    code,
                    ha="center",
                    va="center",
                    fontsize=9,
                    color=COLOURS["weights"],
                    fontweight="bold",
                )
        _outline(axis, matrix.shape, each.scale.shape)
        count = each.scale.numel()
        axis.set_title(f"{label}: {count} scale{'s' if count > 1 else ''}", fontsize=11)
        axis.set_axis_off()
    return drawn


def _outline(axis: Axes, shape: Sequence[int], scales: Sequence[int]) -> None:
    """A frame around each block."""
    height, width = (whole / part for whole, part in zip(shape, scales, strict=True))
    for row in range(scales[0]):
        for column in range(scales[1]):
            axis.add_patch(
                Rectangle(
                    (column * width - 0.47, row * height - 0.47),
                    width - 0.06,
                    height - 0.06,
                    fill=False,
                    linewidth=1.8,
                    edgecolor=COLOURS["device"],
                )
            )


def error_maps(weight: torch.Tensor, made: Mapping[str, Quantized]) -> Figure:
    """For each label the errors of a matrix's weights as a picture, in one scale of colours, and the share of codes 0."""
    drawn, axes = figure(8.6, 3.5, columns=len(made))
    errors = {label: (each.dequantize() - weight).abs() for label, each in made.items()}
    worst = torch.stack(list(errors.values())).quantile(0.999).item()
    few_colours = colormaps["viridis"].resampled(6)  # noise in many colours makes a large file
    for number, (axis, (label, each)) in enumerate(zip(axes, made.items(), strict=True)):
        image = axis.imshow(errors[label].numpy(), cmap=few_colours, vmin=0, vmax=worst, aspect="auto")
        zeros = (each.codes == 0).float().mean().item()
        axis.set_title(f"{label}\n{100 * zeros:.1f} % of codes are 0", fontsize=10)
        axis.set_xlabel("input feature")
        if number:
            axis.set_yticklabels([])
        else:
            axis.set_ylabel("output feature")
    drawn.colorbar(image, ax=axes, label="size of the error", fraction=0.04, pad=0.02)
    return drawn


def axes_of_sharing(outputs: int = 4, inputs: int = 8, group: int = 4) -> Figure:
    """Which weights of y = W x share a scale, a colour for each: rows, groups along the inputs, columns."""
    kinds = {
        "per output channel\n$y_j = s_j\\,\\Sigma_i\\, q_{ji} x_i$": (1, inputs),
        "groups along the inputs\n$y_j = \\Sigma_g\\, s_{jg} \\,\\Sigma_{i \\in g}\\, q_{ji} x_i$": (
            1,
            group,
        ),
        "per input channel\n$y_j = \\Sigma_i\\, s_i\\, q_{ji} x_i$": (outputs, 1),
    }
    drawn, axes = figure(9.2, 2.25, columns=len(kinds))
    shades = [COLOURS[name] for name in ("weights", "scales", "optimizer", "KV cache", "activations")]
    shades += [COLOURS[name] for name in ("gradients", "adapters", "16 bit")]
    for axis, (label, (height, width)) in zip(axes, kinds.items(), strict=True):
        for row in range(outputs):
            for column in range(inputs):
                block = row // height * (inputs // width) + column // width
                axis.add_patch(
                    Rectangle((column + 0.05, row + 0.05), 0.9, 0.9, color=shades[block % len(shades)])
                )
        axis.set_xlim(-0.1, inputs + 0.1)
        axis.set_ylim(outputs + 0.1, -0.1)
        axis.set_aspect("equal")
        axis.set_title(label, fontsize=10)
        axis.set_xlabel("inputs i: the sum runs this way →", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    axes[0].set_ylabel("outputs j", fontsize=9)
    return drawn


def bit_stream(codes: Sequence[int], bits: int, first: int = 0, word: int = 8) -> Figure:
    """The bits of codes in a row, the lowest bit of the first code first, each code in a colour of its own, with a line
    where a byte or a word ends.

    first: the number of the first code that is drawn; it begins at bit first · bits of its stream.
    """
    drawn, (axis,) = figure(9.2, 1.75)
    shades = [COLOURS[name] for name in ("activations", "scales", "optimizer", "KV cache", "adapters")]
    start = first * bits
    for number, code in enumerate(codes, first):
        at = number * bits
        for bit in range(bits):
            axis.add_patch(
                Rectangle((at + bit, 0), 1, 1, color=shades[number % len(shades)], alpha=0.55, linewidth=0)
            )
            axis.text(at + bit + 0.5, 0.5, str(code >> bit & 1), ha="center", va="center", fontsize=10)
        axis.text(at + bits / 2, 1.12, f"{code}", ha="center", fontsize=10, fontweight="bold")
        axis.text(at + bits / 2, -0.12, f"{number}", ha="center", va="top", fontsize=8)
    end = start + len(codes) * bits
    for edge in range(-(-start // word) * word, end + 1, word):
        axis.plot([edge, edge], [-0.35, 1.6], color=COLOURS["device"], linewidth=2)
    name = "byte" if word == 8 else f"{word}-bit word"
    for number in range(start // word, -(-end // word)):
        left, right = max(start, number * word), min(end, (number + 1) * word)
        axis.text(
            (left + right) / 2, 1.75, f"{name} {number}", ha="center", fontsize=9, color=COLOURS["device"]
        )
    axis.text(start - 0.3, 1.12, "code", ha="right", fontsize=9)
    axis.text(start - 0.3, 0.5, "bits", ha="right", va="center", fontsize=9)
    axis.text(start - 0.3, -0.12, "number", ha="right", va="top", fontsize=9)
    axis.set_xlim(start - 2.2, end + 0.2)
    axis.set_ylim(-0.6, 2.1)
    axis.set_axis_off()
    return drawn
