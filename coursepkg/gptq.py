"""GPTQ: weights are rounded one input after the other, and what rounding one spoils, the inputs after it make good.

A layer gives y = x Wᵀ. Rounding W to Ŵ changes that, over the inputs x of some text, by Σ ‖x (W − Ŵ)ᵀ‖², which is
tr((W − Ŵ) H (W − Ŵ)ᵀ) with the Gram matrix H = Σ xᵀ x. Where inputs go together, the error in one column of W can be
answered in others: GPTQ moves the columns that are not rounded yet, by what is best for this sum.

Once column i has been rounded, the others are best moved by −(w_i − ŵ_i) [H⁻¹]_ij / [H⁻¹]_ii (the optimal brain surgeon), with
H⁻¹ taken over the columns that are left. All the rows that this needs are those of the Cholesky factor of H⁻¹, which `moves`
gives. They are had without an inverse of H, too: with H = R D Rᵀ, R upper triangular with ones on its diagonal and D diagonal,
they are R⁻¹.

`quantize` needs no inverse at all. For a row e = w − ŵ of what has been lost, the sum is Σ_j D_jj (e R)_j², and (e R)_j = e_j + Σ_{i<j} e_i R_ij:
column j is best rounded at w_j + Σ_{i<j} e_i R_ij. That is where the paper's moves bring it by the time its turn comes.

Source: Frantar et al. 2023, "GPTQ", equation 2 and section 4 with Algorithm 1.
"""

import warnings
from dataclasses import replace

import torch

from coursepkg import affine
from coursepkg.affine import Quantized, Scheme

#: Columns that are rounded before their neighbours further away are moved.
LEAF = 16
#: Rows of a triangular matrix that are inverted at once.
SOLVED = 256
#: Dampings that are tried before a Gram matrix is given up, each ten times the one before.
TRIES = 4


class MoreDamping(UserWarning):
    """The Gram matrix was not positive definite with the damping asked for; more was used."""


@torch.no_grad()
def quantize(
    weight: torch.Tensor,
    gram: torch.Tensor,
    scheme: Scheme,
    act_order: bool = False,
    static_groups: bool = False,
    damping: float = 0.01,
) -> Quantized:
    """Round a weight so that its layer's outputs change little.

    weight: (out_features, in_features), floating point. gram: (in_features, in_features), float32 or float64: the sum of
    xᵀ x over calibration inputs, or any multiple of it (the paper's Hessian is twice that).
    scheme: codes and scales, as in `affine`. A group gets its scale when its first column's turn comes, from weights that
    have been moved by then; with static_groups, from the weights as they were.
    act_order: the inputs with the largest diagonal of the Gram matrix come first, while many can still answer (an option
    of the authors' code). Groups stay those of neighbours in the weight, so that they are static.
    damping: share of the diagonal's mean that is added to it.

    An input that was always 0 gets weight 0: no text shows what it is worth. Where the damped matrix is not positive definite,
    ten times the damping is tried, with the warning MoreDamping. Raises ValueError for shapes that do not go together,
    infinities and NaN, a damping that is not above 0, and where no damping helps.
    """
    _check(weight, gram, damping)
    columns = weight.detach().T.to(gram.device, torch.float32).clone(memory_format=torch.contiguous_format)
    diagonal = gram.diagonal()
    columns[diagonal == 0] = 0
    rulers = _Rulers(scheme, tuple(weight.shape))
    known = len(columns) if act_order or static_groups else 1
    for first in range(0, known, rulers.size):
        rulers.choose(first, columns[first : first + rulers.size])
    if act_order:
        order = diagonal.argsort(descending=True, stable=True)
        columns, gram, rulers.order = columns[order], gram[order][:, order], order.tolist()
    codes = _Rounding(columns, _factor(gram, damping).float(), rulers).run()
    if act_order:
        codes = torch.empty_like(codes).index_copy_(0, order, codes)
    return Quantized(codes.T.contiguous(), *rulers.made(), scheme)


def moves(gram: torch.Tensor, damping: float = 0.01) -> torch.Tensor:
    """U (n, n), upper triangular with ones on its diagonal, float32: column j moves by −U_ij for each unit that column i loses.

    U is the Cholesky factor of the damped H⁻¹ (the upper one), each row divided by its diagonal. gram, damping: as in `quantize`, which
    says what is raised.
    """
    upper = _factor(gram, damping)
    _invert(upper)
    return upper.float()


def _factor(gram: torch.Tensor, damping: float) -> torch.Tensor:
    """R of the damped H = R D Rᵀ, in the Gram matrix's dtype."""
    diagonal = gram.diagonal()
    mean = diagonal.mean()
    if not mean > 0:
        raise ValueError("the Gram matrix is 0: no input was seen, or all were 0")
    for power in range(TRIES):
        share = damping * 10**power
        damped = gram.flip(0, 1)
        damped.diagonal().add_(torch.where(diagonal > 0, share * mean, mean).flip(0))
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper = lower.flip(0, 1)
            upper /= upper.diagonal().clone()
            return upper
        if power + 1 < TRIES:
            warnings.warn(
                f"the Gram matrix is not positive definite with damping {share:g}; trying {10 * share:g}. More or more varied "
                "calibration text helps",
                MoreDamping,
                stacklevel=4,
            )
    raise ValueError(
        f"the Gram matrix is not positive definite even with damping {share:g}: it is no sum of xᵀ x"
    )


def _invert(upper: torch.Tensor) -> None:
    """Put an upper triangular matrix's inverse in its place, ones on both diagonals: half by half, with products of matrices."""
    if len(upper) <= SOLVED:
        one = torch.eye(len(upper), dtype=upper.dtype, device=upper.device)
        upper.copy_(torch.linalg.solve_triangular(upper, one, upper=True, unitriangular=True))
        return
    middle = len(upper) // 2
    first, beside, second = upper[:middle, :middle], upper[:middle, middle:], upper[middle:, middle:]
    _invert(first)
    _invert(second)
    beside.copy_(-(first @ beside) @ second)


def _check(weight: torch.Tensor, gram: torch.Tensor, damping: float) -> None:
    if weight.ndim != 2 or gram.shape != (weight.shape[1],) * 2:
        raise ValueError(
            f"a weight (out, in) needs a Gram matrix (in, in), not {tuple(weight.shape)} and {tuple(gram.shape)}"
        )
    if gram.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the Gram matrix must be float32 or float64, not {gram.dtype}: it is a long sum")
    if not (_finite(weight) and _finite(gram)):
        raise ValueError("the weight or the Gram matrix holds infinities or NaN")
    if (gram.diagonal() < 0).any():
        raise ValueError("the Gram matrix has a negative diagonal: it is no sum of xᵀ x")
    if not damping > 0:
        raise ValueError(f"damping must be above 0, not {damping}")


def _finite(x: torch.Tensor) -> bool:
    """Whether no value is infinite or NaN. (Both are found in the extremes, which are had without a copy.)"""
    return not x.numel() or all(end.isfinite() for end in x.aminmax())


class _Rulers:
    """Scales and zero-points of a weight's blocks, chosen one after the other or all at first.

    order: which column of the weight is rounded when; None is from the left to the right.
    """

    def __init__(self, scheme: Scheme, shape: tuple[int, int]) -> None:
        self.scheme, self.columns = scheme, shape[1]
        self.size = affine.block_shape(shape, scheme.granularity)[1]
        self.found: dict[int, tuple[torch.Tensor, torch.Tensor | None]] = {}
        self.order: list[int] | None = None

    def choose(self, first: int, columns: torch.Tensor) -> None:
        """Those of the block that starts at column `first`, from its columns (size, out_features)."""
        granularity = "tensor" if self.scheme.granularity == "tensor" else "channel"
        self.found[first // self.size] = affine.choose_qparams(
            columns.T, replace(self.scheme, granularity=granularity)
        )

    def of(self, place: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Those of the column whose turn it is, a value for each output."""
        column = place if self.order is None else self.order[place]
        scale, zero_point = self.found[column // self.size]
        return scale[:, 0].float(), None if zero_point is None else zero_point[:, 0]

    def made(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """All of them, as in Quantized."""
        scales, zeros = zip(*(self.found[at] for at in sorted(self.found)), strict=True)
        return torch.cat(scales, 1), None if zeros[0] is None else torch.cat(zeros, 1)


class _Rounding:
    """One weight's way through the rule. Everything has a row for each input, in the order in which they are rounded.

    lost: the weight as it was; a column that is done holds what it has lost. best: where each column is best rounded, for what the columns
    before it have lost so far. factor: R.
    Neighbours hear of a loss at once, columns further away by products of matrices, for halves of halves of the columns. (The
    paper's lazy batches hold back what goes beyond 128 columns; this is the same at every size.)
    """

    def __init__(self, columns: torch.Tensor, factor: torch.Tensor, rulers: _Rulers) -> None:
        self.lost, self.best, self.factor, self.rulers = columns, columns.clone(), factor, rulers
        self.codes = torch.empty(columns.shape, dtype=rulers.scheme.code_dtype, device=columns.device)

    def run(self) -> torch.Tensor:
        """The codes."""
        self._round(0, len(self.lost))
        return self.codes

    def _round(self, first: int, end: int) -> None:
        """Round the columns from `first` to `end`, which have heard of all that earlier ones lost."""
        size = self.rulers.size
        if first // size not in self.rulers.found:
            self.rulers.choose(first, self._moved(first, first + size))
        if end - first <= min(LEAF, size):
            self._one_by_one(first, end)
            return
        blocks = -(-(end - first) // size)
        middle = first + (blocks // 2 * size if blocks > 1 else (end - first) // 2)
        self._round(first, middle)
        self.best[middle:end].addmm_(self.factor[first:middle, middle:end].T, self.lost[first:middle])
        self._round(middle, end)

    def _one_by_one(self, first: int, end: int) -> None:
        for i in range(first, end):
            scale, zero_point = self.rulers.of(i)
            codes = affine.nearest_codes(self.best[i], scale, zero_point, self.rulers.scheme)
            self.codes[i] = codes
            self.lost[i] -= affine.values(codes, scale, zero_point)
            if i + 1 < end:
                self.best[i + 1 : end].addr_(self.factor[i, i + 1 : end], self.lost[i])

    def _moved(self, first: int, end: int) -> torch.Tensor:
        """A block's columns as the paper has moved them before the first of them is rounded: all of them can still answer, so that
        what moves one moves those after it, too."""
        block = slice(first, end)
        moves = self.factor[block, block].clone()
        _invert(moves)
        return torch.addmm(self.lost[block], moves.T, self.best[block] - self.lost[block])
