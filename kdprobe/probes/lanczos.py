"""Which eigenvalues does a matrix have that is known only by its products?  Lanczos, and its error.

After j steps from a start q_1 the rows of Q span the start's Krylov space, and
    H Q' = Q' T + r e_j',   T tridiagonal, r orthogonal to Q.
An eigenvector s of T with value theta gives the Ritz vector x = Q' s, for which
    ||H x - theta x|| = ||r|| |s_j|,
so that an eigenvalue of H lies no farther from theta than that. Every new vector is made orthogonal
to all before it, twice, so that no eigenvalue is found two times.

Source: Parlett 1998, The Symmetric Eigenvalue Problem, sections 4.5 and 13.2.

Axes: p weights, j steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

CHECK = 4  # steps from one look at the bounds to the next
UNSURE = 32  # units in the last place of the largest eigenvalue: what rounding adds to a bound
ROUNDING = 8  # units in the last place of the largest product: a rest below them is no direction

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Ritz:
    """What the small matrix T tells of the large one. float64, on the CPU."""

    values: Tensor  # (j,) ascending
    vectors: Tensor  # (j, j), one column a value, in the basis Q
    bounds: Tensor  # (j,) an eigenvalue of H lies within this of the value


@dataclass(frozen=True)
class Krylov:
    """An orthonormal basis, the matrix in it, and what leads out of it."""

    basis: Tensor  # (j, p) rows Q
    diagonal: Tensor  # (j,) float64 of T
    beside: Tensor  # (j,) float64: beside T's diagonal; the last one is ||r||
    rest: Tensor  # (p,) r

    @property
    def matrix(self) -> Tensor:
        """T (j, j)."""
        return tridiagonal(self.diagonal, self.beside)

    @property
    def first_answer(self) -> Tensor:
        """(p,) the product with the first vector of the basis."""
        other = self.basis[1] * self.beside[0] if len(self.basis) > 1 else self.rest
        return (self.basis[0] * self.diagonal[0] + other).to(self.basis)

    def ritz(self) -> Ritz:
        """Eigenvalues of T, and how far they may be from those of H."""
        return _ritz(self.diagonal, self.beside, self.basis.dtype)

    def vectors(self, columns: Tensor) -> Tensor:
        """(i, p): vectors of p weights from `columns` (j, i), their coordinates in the basis."""
        return columns.T.to(self.basis) @ self.basis

    def without(self, v: Tensor) -> Tensor:
        """The part of `v` (p,) that is orthogonal to the basis."""
        return orthogonal(v, self.basis)


def orthogonal(v: Tensor, basis: Tensor) -> Tensor:
    """`v` (p,) less its part in the span of the orthonormal rows of `basis` (i, p)."""
    for _ in range(2):
        v = v - (basis @ v) @ basis
    return v


def lanczos(
    product: Product,
    start: Tensor,
    steps: int,
    enough: Callable[[Ritz], bool] | None = None,
    locked: Tensor | None = None,
    begun: Krylov | None = None,
) -> Krylov:
    """At most `steps` steps from `start` (p,), fewer where `enough` says so.

    `locked` (i, p) are orthonormal rows that all vectors are kept orthogonal to: the matrix is then
    the one without its part there. `begun` are the first of the steps, where they were taken.
    """
    kept = 0 if locked is None else len(locked)
    done = 0 if begun is None else len(begun.basis)
    steps = max(1, done, min(steps, len(start) - kept))
    room = start.new_empty(kept + steps, len(start))
    if locked is not None:
        room[:kept] = locked
    diagonal, beside = [], []
    w = orthogonal(start, room[:kept])
    if begun is not None:
        room[kept : kept + done], w = begun.basis, begun.rest
        diagonal, beside = list(begun.diagonal.to(w.device)), list(begun.beside.to(w.device))
    size = vector_norm(w, dtype=torch.float64)
    largest = torch.stack([size * 0, *(value.abs() for value in diagonal)]).max()
    for step in range(done, steps):
        q = room[kept + step] = torch.where(size > 0, w / size, 0)
        w = product(q)
        diagonal.append((q.double() * w.double()).sum())
        largest = largest.maximum(vector_norm(w, dtype=torch.float64))
        w = orthogonal(w, room[: kept + step + 1])
        size = vector_norm(w, dtype=torch.float64)
        size = size * (size > ROUNDING * torch.finfo(w.dtype).eps * largest)
        beside.append(size)
        looking = enough is not None and (step + 1) % CHECK == 0
        if looking and enough and enough(_ritz(*_scalars(diagonal, beside), w.dtype)):
            break
    on, off = _scalars(diagonal, beside)
    return Krylov(room[kept : kept + len(on)], on, off, w * (size > 0))


def _scalars(diagonal: list[Tensor], beside: list[Tensor]) -> tuple[Tensor, Tensor]:
    """T up to the first step that led nowhere: what comes after it are zeros."""
    on, off = torch.stack(diagonal).cpu(), torch.stack(beside).cpu()
    ends = (off == 0).nonzero()
    last = int(ends[0]) + 1 if len(ends) else len(off)
    return on[:last], off[:last]


def _ritz(diagonal: Tensor, beside: Tensor, made_in: torch.dtype) -> Ritz:
    values, vectors = torch.linalg.eigh(tridiagonal(diagonal, beside))
    rounding = UNSURE * torch.finfo(made_in).eps * values.abs().max()
    return Ritz(values, vectors, beside[-1] * vectors[-1].abs() + rounding)


def tridiagonal(diagonal: Tensor, beside: Tensor) -> Tensor:
    """T (j, j) from its diagonal and what stands beside it, whose last number leads out of it."""
    return torch.diag(diagonal) + torch.diag(beside[:-1], 1) + torch.diag(beside[:-1], -1)
