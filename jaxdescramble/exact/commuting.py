"""Exact minimiser of several quadratic criteria on several sets of signals, if the matrices commute."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxdescramble._base import results
from jaxdescramble._base.checks import real_array
from jaxdescramble._base.products import matmul
from jaxdescramble.manifolds.assignment import assign
from jaxdescramble.manifolds.projections import check_orthogonal


class CommonModes(NamedTuple):
    """The minimiser of a sum of quadratic criteria whose matrices commute.

    Attributes:
        point: the descrambler P, an orthogonal matrix of shape (n, n).
        value: value of the sum at P, its minimum over O(n).
        bound: sum of the minima of the single terms; it is below `value` unless all terms want the same pairing.
        order: for each left mode, the number of the right mode that P lays on it.
    """

    point: Float[Array, "n n"]
    value: Float[Array, ""]
    bound: Float[Array, ""]
    order: Int[Array, " n"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def commuting_minimiser(
    left: ArrayLike, right: ArrayLike, left_basis: ArrayLike | None = None, right_basis: ArrayLike | None = None
) -> CommonModes:
    """Minimise a sum of quadratic terms, `argmin over O(n) of sum_k tr(A_k P B_k P^T)`, all A and all B commuting.

    Use it for several criteria at once that share one basis. With `A_k = T diag(a_k) T^T` and
    `B_k = U diag(b_k) U^T`, the sum is linear in the squares of the entries of `T^T P U`, which form a doubly
    stochastic matrix. By Birkhoff's theorem a permutation Q is optimal, `P = T Q U^T`: the linear assignment with cost
    `C_ij = sum_k a_ki b_kj`. For one term this is the rearrangement inequality. If the A or the B do not commute, the
    sum of the minima of the single terms is still a lower bound.

    Args:
        left: the eigenvalues a_k, shape (terms, n), multiplied by the weight of each term.
        right: the eigenvalues b_k, shape (terms, n).
        left_basis: T, modes as columns, shape (n, n); None means the identity.
        right_basis: U, modes as columns, shape (n, n); None means the identity.

    Returns:
        The minimiser, as `CommonModes`.

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if the shapes do not fit, or a basis is not orthogonal.

    >>> slow, fast = [0.0, 1.0, 2.0], [2.0, 1.0, 0.0]  # two criteria that want opposite orders
    >>> found = commuting_minimiser(jnp.asarray([slow, fast]), jnp.asarray([[3.0, 2.0, 1.0], [3.0, 2.0, 1.1]]))
    >>> round(float(found.value), 3), round(float(found.bound), 3)
    (12.0, 8.2)

    Source: Birkhoff 1946; Hoffman and Wielandt, Duke Math. J. 20 (1953) 37, for one term.
    """
    a, b = real_array(left, "left", (2,), "(terms, n)"), real_array(right, "right", (2,), "(terms, n)")
    if a.shape != b.shape:
        raise ValueError(f"left, right: got shapes {a.shape} and {b.shape}; must be the same, (terms, n).")
    T, U = _basis(left_basis, "left_basis", a), _basis(right_basis, "right_basis", a)
    cost = matmul(a.T, b.astype(a.dtype))
    order = assign(cost).columns
    value = jnp.sum(jnp.take_along_axis(cost, order[:, None], axis=1))
    bound = jnp.sum(jnp.sort(a, axis=1) * jnp.sort(b, axis=1)[:, ::-1])
    return CommonModes(matmul(T, U[:, order].T), value, bound, order)


def _basis(basis: ArrayLike | None, name: str, numbers: Array) -> Float[Array, "n n"]:
    n = numbers.shape[1]
    if basis is None:
        return jnp.eye(n, dtype=numbers.dtype)
    columns = real_array(basis, name, (2,), "(n, n)").astype(numbers.dtype)
    if columns.shape != (n, n):
        raise ValueError(f"{name}: got shape {columns.shape}; must be ({n}, {n}), one column for each mode.")
    check_orthogonal(columns, name)
    return columns
