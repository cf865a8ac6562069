"""A change of weights, the nearest one of a rank, and what is missing: pictures side by side over the rank."""

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure

from coursepkg.show.explorer import Explorer
from coursepkg.show.figures import COLOURS, figure


def example() -> torch.Tensor:
    """A change (64, 64) with four strong directions, and noise."""
    generator = torch.Generator().manual_seed(3)
    strong = [
        size * torch.outer(torch.randn(64, generator=generator), torch.randn(64, generator=generator))
        for size in (4, 2, 1, 0.5)
    ]
    return torch.stack(strong).sum(0) + torch.randn(64, 64, generator=generator)


class RankExplorer(Explorer):
    """A slider for the rank. delta: the change, (out_features, in_features), or None for `example`; its first 64 rows and columns are drawn."""

    def __init__(self, delta: torch.Tensor | None = None) -> None:
        self.delta = example() if delta is None else delta.detach().float()
        self.left, self.values, self.right = torch.linalg.svd(self.delta, full_matrices=False)
        most = len(self.values)
        ranks = [rank for rank in (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256) if rank < most]
        self.rank = widgets.SelectionSlider(
            options=[*ranks, most], value=4 if most > 4 else most, description="Rank", continuous_update=False
        )
        super().__init__((self.rank,))

    def nearest(self) -> torch.Tensor:
        """The matrix of the chosen rank that is nearest to the change."""
        rank = self.rank.value
        return (self.left[:, :rank] * self.values[:rank]) @ self.right[:rank]

    @property
    def kept(self) -> float:
        """The share of the change's square sum that it holds."""
        squares = self.values.square()
        return (squares[: self.rank.value].sum() / squares.sum()).item() if squares.any() else 1.0

    def figure(self) -> Figure:
        made, axes = figure(9.4, 3.0, columns=4)
        near = self.nearest()
        limit = (
            self.delta.abs().quantile(0.999).item()
            if self.delta.numel() < 2**24
            else self.delta.abs().max().item()
        )
        for axis, (title, matrix) in zip(
            axes,
            (("the change", self.delta), ("nearest of this rank", near), ("missing", self.delta - near)),
            strict=False,
        ):
            axis.imshow(matrix[:64, :64].numpy(), cmap="PuOr", vmin=-limit, vmax=limit)
            axis.set_title(title, fontsize=10)
            axis.set_xticks([])
            axis.set_yticks([])
        count, rank = len(self.values), self.rank.value
        axes[3].bar(range(rank), self.values[:rank].numpy(), width=1.0, color=COLOURS["weights"])
        axes[3].bar(
            range(rank, count), self.values[rank:].numpy(), width=1.0, color=COLOURS["16 bit"], alpha=0.5
        )
        axes[3].set_title("singular values", fontsize=10)
        axes[3].set_xlabel("direction")
        return made

    def said(self) -> str:
        rows, columns = self.delta.shape
        count = self.rank.value * (rows + columns)
        return (
            f"Rank {self.rank.value}: <b>{self.kept:.1%}</b> of the change's square sum in <b>{count:,}</b> numbers, "
            f"{count / (rows * columns):.1%} of the matrix's {rows * columns:,}."
        )
