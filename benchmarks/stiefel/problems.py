"""Problems on Stiefel manifolds, in numpy alone: the function, its gradient and Hessian products, a start, the optimum.

The optimum of Brockett's function is known; that of the others is the value at which our trust region stops with
tolerance 0, and the table says if a rival goes lower.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

Function = Callable[[np.ndarray], float]


@dataclasses.dataclass(frozen=True)
class Task:
    """A function of n x p matrices with orthonormal columns.

    Attributes:
        name: "kind-n-p".
        start: a Haar-random point.
        args: arrays that the functions of `FORMULAS` take after the point.
        best: the least value; None if no formula gives it.
    """

    name: str
    start: np.ndarray
    args: tuple[np.ndarray, ...]
    best: float | None

    @property
    def kind(self) -> str:
        return self.name.split("-")[0]


def brockett(X, A, weights):
    """Return `tr(X^T A X diag(w))`; the minimum lies at eigenvectors of the p least eigenvalues, in order."""
    return (X * (A @ X) * weights).sum()


def brockett_slope(X, A, weights):
    return 2 * (A @ X) * weights


def brockett_product(X, V, A, weights):
    return 2 * (A @ V) * weights


def diagonal(X, a, weights):
    """Brockett's function with a diagonal matrix: the function itself takes O(n p)."""
    return (X * (a * X) * weights).sum()


def diagonal_slope(X, a, weights):
    return 2 * (a * X) * weights


def diagonal_product(X, V, a, weights):
    return 2 * (a * V) * weights


def procrustes(X, A, B):
    """Return `||A X - B||^2 / 2` with a rectangular unknown; it has no closed form."""
    return ((A @ X - B) ** 2).sum() / 2


def procrustes_slope(X, A, B):
    return A.T @ (A @ X - B)


def procrustes_product(X, V, A, B):
    return A.T @ (A @ V)


def kohn_sham(X, L, inverse):
    """Return `tr(X^T L X) / 2 + rho^T L^-1 rho / 4`, rho the row sums of X^2: a simplified total energy."""
    rho = (X**2).sum(1)
    return (X * (L @ X)).sum() / 2 + (rho * (inverse @ rho)).sum() / 4


def kohn_sham_slope(X, L, inverse):
    return L @ X + (inverse @ (X**2).sum(1))[:, None] * X


def kohn_sham_product(X, V, L, inverse):
    return L @ V + (inverse @ (X**2).sum(1))[:, None] * V + 2 * (inverse @ (X * V).sum(1))[:, None] * X


FORMULAS = {
    "brockett": (brockett, brockett_slope, brockett_product),
    "diagonal": (diagonal, diagonal_slope, diagonal_product),
    "procrustes": (procrustes, procrustes_slope, procrustes_product),
    "kohn_sham": (kohn_sham, kohn_sham_slope, kohn_sham_product),
}
"""For each kind: the function, its gradient, and the product of its Hessian with V, all in the space of matrices."""

NAMES = (
    "brockett-200-5",
    "brockett-1000-10",
    "brockett-1000-100",
    "brockett-5000-20",
    "procrustes-500-20",
    "kohn_sham-1000-10",
)
TALL = "diagonal-30000-50"


def task(name: str) -> Task:
    """Return a problem by its name."""
    kind, n, p = name.split("-")
    n, p = int(n), int(p)
    rng = np.random.default_rng(n + p)
    start = np.linalg.qr(rng.standard_normal((n, p)))[0]
    weights = np.arange(1.0, p + 1)[None, :]
    if kind == "brockett":
        A = rng.standard_normal((n, n))
        A = (A + A.T) / (2 * n) ** 0.5
        return Task(name, start, (A, weights), float(np.sort(np.linalg.eigvalsh(A))[:p] @ weights[0, ::-1]))
    if kind == "diagonal":
        a = np.linspace(0.0, 1.0, n)[rng.permutation(n)][:, None]
        return Task(name, start, (a, weights), float(np.sort(a[:, 0])[:p] @ weights[0, ::-1]))
    if kind == "procrustes":
        A = rng.standard_normal((2 * n, n)) / n**0.5
        return Task(name, start, (A, rng.standard_normal((2 * n, p))), None)
    L = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    return Task(name, start, (L, np.linalg.inv(L)), None)
