"""Rows of an embedding that an adapter trains: tokens that the base has hardly ever seen, which no Linear layer can tell apart.

What peft calls trainable_token_indices: the rows themselves are trained, not what is added to them, and where the head is tied to the
embedding it reads the same rows.
"""

from collections.abc import Sequence

import torch
from torch.func import functional_call


class TokenRows(torch.nn.Module):
    """An embedding, or the head that is tied to one, with some rows replaced by those of the active adapters.

    base_layer: frozen; its `weight` is (vocabulary, hidden). first: for a tied head, the embedding's TokenRows, whose rows it reads.
    An adapter's rows are `rows[name]`, float32 (tokens, hidden), rounded to the weight's dtype when they are read.
    """

    def __init__(self, base_layer: torch.nn.Module, first: "TokenRows | None" = None) -> None:
        super().__init__()
        self.base_layer = base_layer.requires_grad_(False)
        self._first = (first,)  # in a tuple, so that it does not count as a part of this module
        self.active: tuple[str, ...] = ()
        self.merged: tuple[str, ...] = ()
        self._unmerged: torch.Tensor | None = None
        if first is None:
            self.rows = torch.nn.ParameterDict()

    @property
    def weight(self) -> torch.Tensor:
        """The base's weight, without what adapters change."""
        return self.base_layer.weight

    def add(self, name: str, tokens: Sequence[int]) -> None:
        """Let an adapter have rows of its own for these tokens; they begin as the base's."""
        index = torch.tensor(tokens, dtype=torch.long, device=self.weight.device)
        self.register_buffer(f"tokens_{name}", index, persistent=False)
        self.rows[name] = torch.nn.Parameter(self.weight.detach()[index].float())

    def tokens(self, name: str) -> torch.Tensor:
        """The tokens for which an adapter has rows, int64."""
        return self.get_buffer(f"tokens_{name}")

    def activate(self, *names: str) -> None:
        """Use and train the rows of these adapters and of no others. Raises ValueError, with nothing changed, where two have rows for
        the same token."""
        names = tuple(name for name in names if name in self.rows)
        indices = [token for name in names for token in self.tokens(name).tolist()]
        if len(set(indices)) < len(indices):
            raise ValueError(
                f"{' and '.join(names)} have rows of their own for the same token; activate one at a time"
            )
        self.active = names
        for name, rows in self.rows.items():
            rows.requires_grad_(name in names)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        source = self._first[0] or self
        if source.merged or not source.active:
            return self.base_layer(x)
        weight = self.weight
        for name in source.active:
            weight = weight.index_copy(0, source.tokens(name), source.rows[name].to(weight.dtype))
        return functional_call(self.base_layer, {"weight": weight}, (x,))

    @torch.no_grad()
    def merge(self) -> None:
        """Write the active rows into the base's weight, in place; a tied head has them, too."""
        if self.merged or not self.active:
            return
        self._unmerged = torch.cat([self.weight[self.tokens(name)] for name in self.active])
        for name in self.active:
            self.weight.data[self.tokens(name)] = self.rows[name].to(self.weight.dtype)
        self.merged = self.active

    @torch.no_grad()
    def unmerge(self) -> None:
        """Undo `merge`, exactly."""
        if self.merged:
            index = torch.cat([self.tokens(name) for name in self.merged])
            self.weight.data[index] = self._unmerged.to(self.weight)
        self.merged, self._unmerged = (), None

    def extra_repr(self) -> str:
        return "tied" if self._first[0] else f"rows of {', '.join(self.rows) or 'none'}"


def put(model: torch.nn.Module, name: str, tokens: Sequence[int]) -> TokenRows:
    """Give an adapter rows in a model's embedding, and in the head where it is tied. The embedding's TokenRows.

    Raises ValueError, with nothing changed, for tokens that are not in the vocabulary or stand there twice.
    """
    found = rows_of(model)
    embedding = model.get_input_embeddings()
    vocabulary = embedding.weight.shape[0]
    if wrong := [token for token in tokens if not 0 <= token < vocabulary]:
        raise ValueError(f"the vocabulary has {vocabulary:,} tokens, and {wrong[0]} is none of them")
    if len(set(tokens)) < len(tokens):
        raise ValueError("a token stands twice among those whose rows are trained")
    if found is None:
        head = model.get_output_embeddings()
        found = TokenRows(embedding)
        _replace(model, embedding, found)
        if head is not None and head.weight is embedding.weight:
            _replace(model, head, TokenRows(head, found))
    found.add(name, tokens)
    return found


@torch.no_grad()
def alike(model: torch.nn.Module, tokens: Sequence[int], cosine: float = 0.95) -> tuple[int, ...]:
    """Those of the tokens that the model can hardly tell from another: whose row of the embedding points where another row does.

    Rows of tokens that training never read are all moved together, away from what is predicted, and end in one place (Land and Bartolo
    2024, "Fishing for Magikarp"). cosine: of the angle to the nearest other row, from which on a token counts.
    """
    weight = torch.nn.functional.normalize(model.get_input_embeddings().weight.detach().float(), dim=1)
    found = []
    for some in torch.tensor(sorted(set(tokens)), device=weight.device).split(1024):
        near = weight[some] @ weight.T
        near[torch.arange(len(some), device=weight.device), some] = -1
        found += some[near.amax(1) >= cosine].tolist()
    return tuple(found)


def rows_of(model: torch.nn.Module) -> TokenRows | None:
    """The TokenRows of a model's embedding, or None."""
    return next(
        (each for each in model.modules() if isinstance(each, TokenRows) and not each._first[0]), None
    )


def path_of(model: torch.nn.Module) -> str:
    """The name of a model's embedding."""
    embedding = model.get_input_embeddings()
    return next(path for path, module in model.named_modules() if module is embedding)


def take_away(model: torch.nn.Module) -> None:
    """Put embedding and head back in their places, with what was merged into them."""
    for module in [each for each in model.modules() if isinstance(each, TokenRows)]:
        _replace(model, module, module.base_layer)


def _replace(model: torch.nn.Module, old: torch.nn.Module, new: torch.nn.Module) -> None:
    new.train(old.training)
    for path in [path for path, module in model.named_modules(remove_duplicate=False) if module is old]:
        model.set_submodule(path, new)
