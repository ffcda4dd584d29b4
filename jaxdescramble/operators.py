"""Derivative operators on grids; each one knows its own eigenbasis in closed form.

An operator D acts on axis 0 of an array. A descrambler needs `A = D^T D = T diag(a) T^T`. For every operator from
`derivative`, both `a` and `T` are known on paper: the boundary gives the basis (Fourier, DCT-II, DST-I), and the scheme
gives the symbol. No operator from `derivative` needs a numerical decomposition.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base import decompositions, transforms
from jaxdescramble._base.checks import (
    an_operator,
    in_order,
    is_finite,
    is_traced,
    number_between,
    one_of,
    positive_integer,
    real_array,
    real_or_complex_array,
    same_size,
)
from jaxdescramble._base.products import is_complex
from jaxdescramble._base.pytrees import register_dataclass

BOUNDARIES = ("periodic", "neumann", "dirichlet")
SCHEMES = ("spectral", "difference")


@runtime_checkable
class Operator(Protocol):
    """What an objective or a closed form needs from a linear operator D on n points.

    `eigenvalues` (ascending) and `basis` are those of `A = D^T D`. `multiplicities` are the lengths of runs of equal
    eigenvalues (2 for each cosine and sine of a periodic derivative); they say how far the basis is free. `apply` is
    `D x`, `analyse` is `T^T x`, and `synthesise` is `T c`, all along axis 0 of an array of shape (n, ...).
    """

    @property
    def size(self) -> int: ...

    # Type checkers do not accept a cached property for a property, except with Any.
    @property
    def eigenvalues(self) -> Any: ...
    @property
    def basis(self) -> Any: ...
    @property
    def multiplicities(self) -> Any: ...
    def apply(self, x: Inexact[Array, "n *rest"]) -> Inexact[Array, "k *rest"]: ...
    def analyse(self, x: Inexact[Array, "n *rest"]) -> Inexact[Array, "n *rest"]: ...
    def synthesise(self, c: Inexact[Array, "n *rest"]) -> Inexact[Array, "n *rest"]: ...


def derivative(
    shape: int | Sequence[int],
    order: int = 2,
    boundary: str | Sequence[str] = "periodic",
    scheme: str = "spectral",
) -> "Derivative":
    """Return the derivative of a given order on a line, a circle or a grid with unit spacing.

    Use it to say along which axis, and how, neighbouring signals should be smooth. With L the (negative) Laplacian of
    the grid, `D^T D = L^order`. D is `L^(order/2)` for even orders (up to sign on a line), and the gradient of
    `L^((order-1)/2)` for odd orders. So every order has the right null space: the constants, or nothing with Dirichlet
    ends. On a line, `L = T diag(s(theta)^2) T^T` with

    | boundary  | theta_k                  | basis T                  |
    |-----------|--------------------------|--------------------------|
    | periodic  | 2 pi ceil(k/2) / n       | cosine and sine, by FFT  |
    | neumann   | pi k / n                 | DCT-II                   |
    | dirichlet | pi (k + 1) / (n + 1)     | DST-I                    |

    and the symbol `s(theta) = theta` (scheme "spectral") or `2 sin(theta/2)` (scheme "difference", the matrices of
    finite differences). On an even number of points, odd Fourier derivatives usually annihilate the fastest mode, a
    sawtooth; here this mode keeps its eigenvalue.

    Args:
        shape: number of points n, or (n_1, n_2, ...) for a grid in C order.
        order: order of the derivative, at least 1.
        boundary: "periodic", "neumann" (zero slope at the ends) or "dirichlet" (zero beyond the ends); or one per axis.
        scheme: "spectral" or "difference".

    Returns:
        A hashable `Derivative`, static under `jit`.

    Raises:
        TypeError: if a size or the order is not an integer.
        ValueError: if a name is unknown, or a size or the order is less than 1.

    >>> D = derivative(4, order=2, scheme="difference")
    >>> D.eigenvalues.round(6).tolist()
    [0.0, 4.0, 4.0, 16.0]
    >>> bool(abs(D.apply(jnp.ones(4))).max() < 1e-6)
    True

    Source: Amey et al. 2021, Methods (order 2, periodic, spectral); the others are textbook transforms
    (Strang, The discrete cosine transform, SIAM Review 41, 1999).
    """
    several = in_order(shape, "shape", "sizes") if isinstance(shape, list | tuple) or np.ndim(shape) else [shape]
    sides = tuple(positive_integer(n, "shape") for n in several)
    if not sides:
        raise ValueError("shape: got an empty tuple; give the number of points, or one number per axis.")
    one_each = isinstance(boundary, str)
    boundaries = (
        (boundary,) * len(sides) if one_each else tuple(in_order(boundary, "boundary", "a name, or one per axis"))
    )
    if len(boundaries) != len(sides):
        raise ValueError(f"boundary: got {len(boundaries)} names for a grid of {len(sides)} axes; give one for each.")
    for name in boundaries:
        one_of(name, "boundary", BOUNDARIES)
    return Derivative(sides, positive_integer(order, "order"), boundaries, one_of(scheme, "scheme", SCHEMES))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Derivative:
    """A derivative operator on a grid, from `derivative`.

    Attributes:
        shape: number of points along each axis.
        order: order of the derivative.
        boundary: one name per axis.
        scheme: "spectral" or "difference".
    """

    shape: tuple[int, ...]
    order: int
    boundary: tuple[str, ...]
    scheme: str

    @property
    def size(self) -> int:
        """Number of points n."""
        return math.prod(self.shape)

    def _symbols(self, axis: int) -> np.ndarray:
        """Square roots of the eigenvalues of the Laplacian along one axis, in the order of its transform."""
        theta = transforms.angles(self.shape[axis], self.boundary[axis])
        return theta if self.scheme == "spectral" else 2 * np.sin(theta / 2)

    @functools.cached_property
    def _laplacian(self) -> np.ndarray:
        """Eigenvalues of L on the grid of modes, shape `self.shape`."""
        total = np.zeros(self.shape)
        for axis in range(len(self.shape)):
            total = total + np.expand_dims(
                self._symbols(axis) ** 2, tuple(i for i in range(len(self.shape)) if i != axis)
            )
        return total

    @functools.cached_property
    def _ascending(self) -> np.ndarray:
        """Positions of the modes in ascending order; modes that differ only by rounding keep the grid's order."""
        values = self._laplacian.ravel()
        return np.argsort(np.round(values / max(values.max(), 1e-300), 12), kind="stable")

    @functools.cached_property
    def eigenvalues(self) -> np.ndarray:
        """Eigenvalues of `D^T D`, ascending, float64, shape (n,)."""
        return self._laplacian.ravel()[self._ascending] ** self.order

    @functools.cached_property
    def basis(self) -> np.ndarray:
        """Orthonormal eigenvectors of `D^T D` in columns, float64, shape (n, n)."""
        columns = np.ones((1, 1))
        for n, boundary in zip(self.shape, self.boundary, strict=True):
            columns = np.kron(columns, transforms.basis(n, boundary))
        return columns[:, self._ascending]

    @functools.cached_property
    def multiplicities(self) -> tuple[int, ...]:
        """Lengths of the runs of equal eigenvalues, ascending; their sum is n."""
        # On a long line, low eigenvalues differ by 1e-10 of the largest. So compare each with its neighbour.
        return _run_lengths(np.diff(self.eigenvalues) > 1e-9 * self.eigenvalues[1:])

    @functools.cached_property
    def matrix(self) -> np.ndarray:
        """The matrix D, float64, shape (k, n): k is n for even orders, and the size of the gradient for odd orders."""
        power = self._laplacian.ravel()[self._ascending] ** (self.order // 2)
        even = (self.basis * (power * self._sign)) @ self.basis.T
        if self.order % 2 == 0:
            return even
        gradients = []
        for axis, (n, boundary) in enumerate(zip(self.shape, self.boundary, strict=True)):
            one_axis = transforms.slope_matrix(n, boundary, self._symbols(axis))
            before, after = np.eye(math.prod(self.shape[:axis])), np.eye(math.prod(self.shape[axis + 1 :]))
            gradients.append(np.kron(np.kron(before, one_axis), after))
        return np.concatenate(gradients) @ even

    @property
    def _sign(self) -> int:
        return -1 if self.order % 4 in (2, 3) else 1

    def apply(self, x: Inexact[Array, "n *rest"]) -> Inexact[Array, "k *rest"]:
        """Return `D x` along axis 0 of x, shape (n, ...), by fast transforms.

        >>> D = derivative(8, order=1)
        >>> x = jnp.sin(2 * jnp.pi * jnp.arange(8) / 8)
        >>> round(float(D.apply(x)[0]), 4), round(2 * math.pi / 8, 4)
        (0.7854, 0.7854)
        """
        x = _on_points(x, "x", self.size)
        if is_complex(x):
            return jax.lax.complex(self.apply(x.real), self.apply(x.imag))
        modes = self._to_grid_modes(x)
        power = jnp.asarray(self._sign * self._laplacian ** (self.order // 2), x.dtype)
        modes = modes * power.reshape(power.shape + (1,) * (modes.ndim - power.ndim))
        if self.order % 2 == 0:
            return self._from_grid_modes(modes, x.shape)
        slopes = []
        for axis, boundary in enumerate(self.boundary):
            part = transforms.synthesise_slope(modes, boundary, jnp.asarray(self._symbols(axis), x.dtype), axis)
            for other in range(len(self.shape)):
                if other != axis:
                    part = transforms.synthesise(part, self.boundary[other], other)
            slopes.append(part.reshape((-1, *x.shape[1:])))
        return jnp.concatenate(slopes)

    def analyse(self, x: Inexact[Array, "n *rest"]) -> Inexact[Array, "n *rest"]:
        """Return the mode coefficients `T^T x` of x, shape (n, ...), in ascending order of eigenvalue."""
        x = _on_points(x, "x", self.size)
        return self._to_grid_modes(x).reshape(x.shape)[self._ascending]

    def synthesise(self, c: Inexact[Array, "n *rest"]) -> Inexact[Array, "n *rest"]:
        """Return `T c` along axis 0 of c, shape (n, ...): the inverse of `analyse`."""
        c, back = _on_points(c, "c", self.size), np.argsort(self._ascending)
        return self._from_grid_modes(c[back].reshape((*self.shape, *c.shape[1:])), c.shape)

    def _to_grid_modes(self, x: Array) -> Array:
        modes = x.reshape((*self.shape, *x.shape[1:]))
        for axis, boundary in enumerate(self.boundary):
            modes = transforms.analyse(modes, boundary, axis)
        return modes

    def _from_grid_modes(self, modes: Array, shape: tuple[int, ...]) -> Array:
        for axis, boundary in enumerate(self.boundary):
            modes = transforms.synthesise(modes, boundary, axis)
        return modes.reshape(shape)


def _run_lengths(is_step: np.ndarray) -> tuple[int, ...]:
    """Return the lengths of the runs in a sequence that steps up where `is_step` is true."""
    edges = np.concatenate([[0], np.flatnonzero(is_step) + 1, [len(is_step) + 1]])
    return tuple(int(length) for length in np.diff(edges))


@functools.partial(register_dataclass, data_fields=["matrix", "eigenvalues", "basis"], meta_fields=["multiplicities"])
@dataclasses.dataclass(frozen=True)
class MatrixOperator:
    """An operator as a matrix with its numerical eigendecomposition, from `from_matrix` or `combine`.

    It is a pytree, and its arrays may be traced. Equal eigenvalues are detected only if the matrix is concrete; for a
    traced matrix, all eigenvalues count as different.
    """

    matrix: Float[Array, "k n"]
    eigenvalues: Float[Array, " n"]
    basis: Float[Array, "n n"]
    multiplicities: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of points n."""
        return self.matrix.shape[-1]

    def apply(self, x: Inexact[Array, "n *rest"]) -> Inexact[Array, "k *rest"]:
        """Return `D x` along axis 0 of x, shape (n, ...)."""
        return _product(self.matrix, _on_points(x, "x", self.size))

    def analyse(self, x: Inexact[Array, "n *rest"]) -> Inexact[Array, "n *rest"]:
        """Return the mode coefficients `T^T x` along axis 0 of x, shape (n, ...)."""
        return _product(self.basis.T, _on_points(x, "x", self.size))

    def synthesise(self, c: Inexact[Array, "n *rest"]) -> Inexact[Array, "n *rest"]:
        """Return `T c` along axis 0 of c, shape (n, ...)."""
        return _product(self.basis, _on_points(c, "c", self.size))


def _on_points(value: ArrayLike, name: str, size: int) -> Inexact[Array, "n *rest"]:
    array = real_or_complex_array(value, name, range(1, 9), "(points, ...)")
    same_size(array, 0, size, name, "the operator's points")
    return array


def _product(matrix: Array, x: Array) -> Array:
    return jnp.tensordot(matrix.astype(x.dtype), x, axes=1, precision=jax.lax.Precision.HIGHEST)


def from_matrix(matrix: ArrayLike) -> MatrixOperator:
    """Return any matrix as an operator: a graph's incidence matrix, a band operator, a weighting.

    Use it if your features are not on a grid. `||L P S||_F^2` with any L has the closed form of smoothness. The
    decomposition is numerical: the right singular vectors of L are the eigenvectors of `L^T L`.

    Args:
        matrix: the matrix L, shape (k, n).

    Returns:
        A `MatrixOperator`, a pytree of arrays. For a traced L, values (of objectives, closed forms and bounds) have
        correct first derivatives in L, because the basis is held fixed. Points have no derivative in L: it reads zero.

    Raises:
        TypeError: if the matrix is not made of real floating-point numbers.
        ValueError: if it does not have two axes, or contains NaN or infinity.

    >>> path = jnp.asarray([[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0]])
    >>> from_matrix(path).eigenvalues.round(4).tolist()
    [0.0, 1.0, 3.0]
    """
    dense = real_array(matrix, "matrix", (2,), "(rows, points)")
    if is_traced(dense):
        return _from_traced(dense)
    if not is_finite(dense):
        raise ValueError("matrix: contains NaN or infinity; must be finite.")
    return _from_known(np.asarray(matrix, np.float64), dense.dtype)


def _from_known(matrix: np.ndarray, dtype: DTypeLike) -> MatrixOperator:
    # Use float64 on the host for every dtype: in float32, the slow modes of a Laplacian differ by less than the
    # rounding of the fast ones, and modes that only seem equal would be mixed.
    n = matrix.shape[1]
    _, singular, rows = np.linalg.svd(matrix)
    singular = np.concatenate([np.zeros(n - len(singular)), singular[::-1]])
    rounding = 8 * n * np.finfo(np.float64).eps * singular[-1]
    with np.errstate(over="ignore"):  # closed forms report infinite eigenvalues
        squares = singular**2
    known, squares, basis = (jnp.asarray(array, dtype) for array in (matrix, squares, rows[::-1].T))
    return MatrixOperator(known, squares, basis, _run_lengths(np.diff(singular) > rounding))


def _from_traced(matrix: Float[Array, "k n"]) -> MatrixOperator:
    _, _, rows = decompositions.svd(jax.lax.stop_gradient(matrix))
    basis = rows[::-1].T
    # With a fixed basis, the derivative of `|L t|^2` is the exact first derivative of the eigenvalue.
    return MatrixOperator(matrix, jnp.sum(_product(matrix, basis) ** 2, axis=0), basis, (1,) * matrix.shape[1])


def combine(weights: Sequence[ArrayLike], operators: Sequence[Operator]) -> MatrixOperator:
    """Return the operator of a weighted sum of quadratic terms on the same signals.

    `sum_k w_k ||D_k x||^2 = ||D x||^2` with `D = [sqrt(w_1) D_1; sqrt(w_2) D_2; ...]`. The decomposition is numerical,
    as in `from_matrix`.

    Args:
        weights: one number per operator, at least 0. Values have derivatives in traced weights, see `from_matrix`.
        operators: operators on the same number of points.

    Raises:
        TypeError: if an entry is not a number or not an operator.
        ValueError: if there are no operators, the lengths or sizes differ, or a weight is negative.

    >>> rough = combine([1.0, 2.0], [derivative(8, order=1), derivative(8, order=2)])
    >>> rough.size
    8
    """
    weights, operators = in_order(weights, "weights", "numbers"), in_order(operators, "operators", "operators")
    for one in operators:
        an_operator(one, "operators")
    if not operators or len(weights) != len(operators):
        raise ValueError(f"combine: got {len(weights)} weights for {len(operators)} operators; give one weight each.")
    weights = [number_between(w, "weights", 0, math.inf, "numbers of at least 0", ends=True) for w in weights]
    sizes = [operator.size for operator in operators]
    if len(set(sizes)) > 1:
        raise ValueError(f"operators: got different numbers of points, {sizes}; must be the same.")
    matrices = [getattr(operator, "matrix", None) for operator in operators]
    if not any(is_traced(w) for w in weights) and not any(matrix is None for matrix in matrices):
        parts = [math.sqrt(w) * np.asarray(matrix, np.float64) for w, matrix in zip(weights, matrices, strict=True)]
        if all(np.isfinite(part).all() for part in parts):
            return _from_known(np.concatenate(parts), jnp.zeros(0).dtype)
    eye = jnp.eye(sizes[0])
    return from_matrix(jnp.concatenate([jnp.sqrt(w) * d.apply(eye) for w, d in zip(weights, operators, strict=True)]))
