"""Problems on manifolds, without JAX: the function, its gradient and Hessian products, a start, the optimum.

Where no formula gives the optimum, it is the value at which our trust region stops with tolerance 0, and the table says
if a rival goes lower. The functions take arrays of any library.
"""

import dataclasses

import numpy as np
from scipy.linalg import eigvalsh

Point = np.ndarray | tuple[np.ndarray, ...]

MANIFOLDS = {"joint": "rotations", "unitary": "unitary", "gates": "gates", "registration": "motions"}
"""The manifolds of those kinds that are not on a Stiefel manifold."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A function on a manifold.

    Attributes:
        name: "kind-n-p".
        start: a Haar-random point; a tuple of arrays for a product.
        args: arrays that the functions of `FORMULAS` take after the point.
        best: the least value; None if no formula gives it.
        near: where to look for the least value; None means at the start.
    """

    name: str
    start: Point
    args: tuple[np.ndarray, ...]
    best: float | None
    near: Point | None = None

    @property
    def kind(self) -> str:
        return self.name.split("-")[0]

    @property
    def manifold(self) -> str:
        """One of "stiefel", "rotations", "unitary", "gates", "motions"."""
        return MANIFOLDS.get(self.kind, "stiefel")

    @property
    def only(self) -> np.ndarray:
        """The start, if it is one array."""
        (array,) = self.parts
        return array

    @property
    def parts(self) -> tuple[np.ndarray, ...]:
        """The arrays of the start."""
        return self.start if isinstance(self.start, tuple) else (self.start,)


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


def unitary(X, A, weights):
    """Return Brockett's function of a unitary matrix, `Re tr(X^H A X diag(w))` with a Hermitian A."""
    return (X.conj() * (A @ X) * weights).real.sum()


def joint(X, matrices):
    """Return `-sum_ki (x_i^T A_k x_i)^2`: the least where X diagonalises all matrices as well as possible."""
    return -(((matrices @ X) * X).sum(1) ** 2).sum()


def joint_slope(X, matrices):
    images = matrices @ X
    return -4 * (images * (images * X).sum(1)[:, None, :]).sum(0)


def joint_product(X, V, matrices):
    images = matrices @ X
    first = (matrices @ V) * (images * X).sum(1)[:, None, :]
    return -4 * (first + 2 * images * (images * V).sum(1)[:, None, :]).sum(0)


def registration(point, a, b):
    """Return the mean of `|s R a + t - b|^2` over points a and b, with a rotation R, a scale s and a shift t."""
    R, s, t = point
    return ((s * (R @ a) + t[:, None] - b) ** 2).sum() / a.shape[1]


def registration_slope(point, a, b):
    R, s, t = point
    turned = R @ a
    left = 2 / a.shape[1] * (s * turned + t[:, None] - b)
    return s * (left @ a.T), (left * turned).sum().reshape(1), left.sum(1)


def registration_product(point, V, a, b):
    R, s, t = point
    W, u, v = V
    turned, change = R @ a, W @ a
    left = 2 / a.shape[1] * (s * turned + t[:, None] - b)
    bend = 2 / a.shape[1] * (u * turned + s * change + v[:, None])
    return u * (left @ a.T) + s * (bend @ a.T), (bend * turned + left * change).sum().reshape(1), bend.sum(1)


def gates(X, target):
    """Return `1 - Re tr(T^H C) / 8` for a circuit C of three qubits: gates of two qubits, on two pairs in turn."""
    whole = target.conj().T
    for k in range(len(X)):
        whole = embedded(X[k], k) @ whole
    return 1 - whole.real.trace() / 8


def gates_slope(X, target):
    return gates_slope_and_change(X, 0 * X, target)[0]


def gates_product(X, V, target):
    return gates_slope_and_change(X, V, target)[1]


def gates_slope_and_change(X, V, target):
    """Return the slope and its derivative along V. Every gate meets the adjoints of the gates after and before it."""
    count = len(X)
    whole = [embedded(X[k], k) for k in range(count)]
    bent = [embedded(V[k], k) for k in range(count)]
    before, before_bent = [target.conj().T], [0 * target]
    for k in range(count - 1):
        before_bent.append(bent[k] @ before[k] + whole[k] @ before_bent[k])
        before.append(whole[k] @ before[k])
    after, after_bent, slopes, changes = 0 * target + np.eye(8), 0 * target, [], []
    for k in reversed(range(count)):
        # tr(after E before) has the slope (before after)^H by E.
        inside = (before[k] @ after).conj().T
        change = (before_bent[k] @ after + before[k] @ after_bent).conj().T
        slopes.append(-gathered(inside, k) / 8)
        changes.append(-gathered(change, k) / 8)
        after, after_bent = after @ whole[k], after_bent @ whole[k] + after @ bent[k]
    return stacked(slopes[::-1]), stacked(changes[::-1])


def embedded(gate, k):
    """Return the 8 x 8 matrix of a gate on the first two qubits (k even) or the last two (k odd)."""
    eye = np.eye(2)
    if k % 2 == 0:
        return (gate[:, None, :, None] * eye[None, :, None, :]).reshape(8, 8)
    return (eye[:, None, :, None] * gate[None, :, None, :]).reshape(8, 8)


def gathered(matrix, k):
    """Return the adjoint of `embedded`: the sum over the qubit that the gate leaves alone."""
    if k % 2 == 0:
        whole = matrix.reshape(4, 2, 4, 2)
        return whole[:, 0, :, 0] + whole[:, 1, :, 1]
    whole = matrix.reshape(2, 4, 2, 4)
    return whole[0, :, 0, :] + whole[1, :, 1, :]


def stacked(matrices):
    """Return matrices along a new leading axis, in the library that made them."""
    if all(isinstance(one, np.ndarray) for one in matrices):
        return np.stack(matrices)
    import jax.numpy as jnp

    return jnp.stack(matrices)


FORMULAS = {
    "brockett": (brockett, brockett_slope, brockett_product),
    "diagonal": (diagonal, diagonal_slope, diagonal_product),
    "procrustes": (procrustes, procrustes_slope, procrustes_product),
    "kohn_sham": (kohn_sham, kohn_sham_slope, kohn_sham_product),
    "unitary": (unitary, brockett_slope, brockett_product),
    "joint": (joint, joint_slope, joint_product),
    "registration": (registration, registration_slope, registration_product),
    "gates": (gates, gates_slope, gates_product),
}
"""For each kind: the function, its gradient, and the product of its Hessian with V, all in the space of matrices."""

NAMES = (
    "brockett-200-5",
    "brockett-1000-10",
    "brockett-1000-100",
    "brockett-5000-20",
    "procrustes-500-20",
    "kohn_sham-1000-10",
    "joint-30-10",
    "joint-30-100",
    "unitary-64-64",
    "gates-4-6",
    "registration-3-1000",
)
"""For the last five: n rows and p matrices (joint), gates (gates) or points (registration)."""
TALL = "diagonal-30000-50"


def task(name: str) -> Task:
    """Return a problem by its name."""
    kind, n, p = name.split("-")
    n, p = int(n), int(p)
    rng = np.random.default_rng(n + p)
    if kind == "registration":
        return _registration(name, n, p, rng)
    if kind == "gates":
        target = np.eye(8, dtype=complex)
        for k in range(p):
            target = embedded(_unitary(n, rng), k) @ target
        return Task(name, np.stack([_unitary(n, rng) for _ in range(p)]), (target,), 0.0)
    if kind == "joint":
        frame = _rotation(n, rng)
        matrices = (frame * rng.standard_normal((p, 1, n))) @ frame.T
        noise = 0.1 * rng.standard_normal((p, n, n))
        return Task(name, _rotation(n, rng), (matrices + (noise + noise.transpose(0, 2, 1)) / 2,), None, frame)
    weights = np.arange(1.0, p + 1)[None, :]
    if kind == "unitary":
        start, A = _unitary(n, rng), rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n))
        A = (A + A.conj().T) / (4 * n) ** 0.5
        return Task(name, start, (A, weights), float(eigvalsh(A) @ weights[0, ::-1]))
    start = np.linalg.qr(rng.standard_normal((n, p)))[0]
    if kind == "brockett":
        A = rng.standard_normal((n, n))
        A = (A + A.T) / (2 * n) ** 0.5
        return Task(name, start, (A, weights), float(eigvalsh(A, subset_by_index=(0, p - 1)) @ weights[0, ::-1]))
    if kind == "diagonal":
        a = np.linspace(0.0, 1.0, n)[rng.permutation(n)][:, None]
        return Task(name, start, (a, weights), float(np.sort(a[:, 0])[:p] @ weights[0, ::-1]))
    if kind == "procrustes":
        A = rng.standard_normal((2 * n, n)) / n**0.5
        return Task(name, start, (A, rng.standard_normal((2 * n, p))), None)
    L = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    return Task(name, start, (L, np.linalg.inv(L)), None)


def _registration(name: str, n: int, p: int, rng: np.random.Generator) -> Task:
    """Return the task of finding rotation, scale and shift. Source of the optimum: Umeyama, IEEE PAMI 13 (1991) 376."""
    a = rng.standard_normal((n, p))
    b = 1.5 * _rotation(n, rng) @ a + rng.standard_normal((n, 1)) + 0.1 * rng.standard_normal((n, p))
    flat, goal = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    U, sizes, Vh = np.linalg.svd(goal @ flat.T)
    sizes[-1] *= np.sign(np.linalg.det(U @ Vh))
    best = ((goal**2).sum() - sizes.sum() ** 2 / (flat**2).sum()) / p
    return Task(name, (_rotation(n, rng), np.ones(1), np.zeros(n)), (a, b), float(best))


def _rotation(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return a Haar-random rotation."""
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    Q = Q * np.sign(np.diag(R))
    Q[:, 0] *= np.linalg.det(Q)
    return Q


def _unitary(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return a Haar-random unitary matrix of determinant 1."""
    Q, R = np.linalg.qr(rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n)))
    Q = Q * (np.diag(R) / abs(np.diag(R)))
    return Q / np.linalg.det(Q) ** (1 / n)
