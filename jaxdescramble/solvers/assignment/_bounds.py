"""Lower bounds of the quadratic assignment problem `min_p sum_ij a_ij b_(p(i) p(j))`.

Each bound is the least cost of a linear assignment plus a constant. There are three families. Eigenvalue bounds are
tight if B is nearly a rotated A (isomorphic graphs). Projected eigenvalue bounds are tight if distances meet dense
flows, or the rows of A sum to zero (smoothness). Gilmore and Lawler's bound is tight if the flows are sparse.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble.manifolds.assignment import assign


class Bound(NamedTuple):
    """The parts of a bound `constant + min_p sum_i cost_(i p(i))`.

    Attributes:
        cost: cost matrix of the linear assignment.
        constant: constant that is added.
    """

    cost: Float[Array, "n n"]
    constant: Float[Array, ""]

    def evaluate(self) -> Float[Array, ""]:
        """Return the bound, computed from the dual prices that prove the assignment optimal.

        >>> float(Bound(jnp.eye(2), jnp.asarray(3.0)).evaluate())
        3.0
        """
        found = assign(self.cost)
        return jnp.sum(found.rows) + jnp.sum(found.prices) + self.constant


def lower_bound(a: Float[Array, "n n"], b: Float[Array, "n n"], symmetric: bool = False) -> Float[Array, ""]:
    """Return the best of the bounds below, minus what rounding may have added.

    Args:
        a: real matrix A.
        b: real matrix B of the same size.
        symmetric: whether both are symmetric, which saves work. False is correct for all matrices.

    >>> a, b = jnp.diag(jnp.asarray([1.0, 2.0])), jnp.diag(jnp.asarray([3.0, 5.0]))
    >>> round(float(lower_bound(a, b)), 4)  # 1 * 5 + 2 * 3
    11.0
    """
    bounds = [gilmore_lawler(a, b)]
    if not symmetric:
        bounds.append(gilmore_lawler(a.T, b.T))
    for project in (False, True) if len(a) > 1 else (False,):
        bounds += [eigenvalue_bound(a, b, symmetric, project, split) for split in (False, True)]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *bounds)
    size = jnp.sqrt(jnp.sum(a**2)) * jnp.sqrt(jnp.sum(b**2))
    return jnp.max(jax.vmap(Bound.evaluate)(together)) - 8 * len(a) * jnp.finfo(a.dtype).eps * size


def gilmore_lawler(a: Float[Array, "n n"], b: Float[Array, "n n"]) -> Bound:
    """Return `min_p sum_i l_(i p(i))`, where l_ij is the least cost of row i in the place of row j.

    `l_ij = a_ii b_jj + <a_i ascending, b_j descending>`, with the diagonal left out of the product: every row assumes
    the order of the others that suits it best.

    >>> a, b = jnp.asarray([[0.0, 1.0], [1.0, 0.0]]), jnp.asarray([[0.0, 4.0], [4.0, 0.0]])
    >>> float(gilmore_lawler(a, b).evaluate())
    8.0

    Source: Gilmore, J. SIAM 10 (1962) 305; Lawler, Management Science 9 (1963) 586.
    """
    eye = jnp.eye(len(a), dtype=bool)
    rising = jnp.sort(jnp.where(eye, jnp.inf, a), axis=1)[:, :-1]
    falling = -jnp.sort(jnp.where(eye, jnp.inf, -b), axis=1)[:, :-1]
    return Bound(matmul(rising, falling.T) + _outer(jnp.diagonal(a), jnp.diagonal(b)), jnp.zeros((), a.dtype))


def eigenvalue_bound(
    a: Float[Array, "n n"],
    b: Float[Array, "n n"],
    symmetric: bool = False,
    project: bool = True,
    split: bool = True,
) -> Bound:
    """Return `sum_i lambda_i mu_(n+1-i)`, the minimum over all orthogonal matrices, which include permutations.

    lambda and mu are the eigenvalues of `(A + A^T)/2 + i (A - A^T)/2` and of the same matrix for B. These matrices are
    Hermitian and give the same form.

    Args:
        a: matrix A.
        b: matrix B.
        symmetric: whether both are symmetric; then the eigenvalues are those of real matrices.
        project: minimise only over orthogonal matrices with row and column sums of one, `e e^T / n + V Y V^T`, n > 1.
            An assignment bounds the part that is linear in them.
        split: bound the diagonals by a separate assignment.

    >>> a = jnp.asarray([[0.0, 1.0], [1.0, 0.0]])
    >>> [round(float(eigenvalue_bound(a, 4 * a, project=project).evaluate()), 4) for project in (False, True)]
    [-8.0, 8.0]

    Source: Finke, Burkard, Rendl, Ann. Discrete Math. 31 (1987) 61; projected: Hadley, Rendl, Wolkowicz, Math. Oper.
    Res. 17 (1992) 727; not symmetric: the same authors, Linear Algebra Appl. 169 (1992) 53.
    """
    cost, constant = jnp.zeros_like(a), jnp.zeros((), a.dtype)
    if split:
        cost = cost + _outer(jnp.diagonal(a), jnp.diagonal(b))
        a, b = (m - jnp.diag(jnp.diagonal(m)) for m in (a, b))
    if project:
        cost = cost + (_outer(a.sum(axis=1), b.sum(axis=1)) + _outer(a.sum(axis=0), b.sum(axis=0))) / len(a)
        constant = -jnp.sum(a) * jnp.sum(b) / len(a) ** 2
    rising, other = jax.vmap(lambda m: _eigenvalues(m, symmetric, project))(jnp.stack([a, b]))
    return Bound(cost, constant + jnp.sum(rising * other[::-1]))


def sums_to_zero(n: int, dtype: jnp.dtype) -> Float[Array, "n m"]:
    """Return V, an orthonormal basis of the vectors with entry sum zero, in n - 1 columns.

    >>> V = sums_to_zero(3, jnp.zeros(0).dtype)
    >>> bool(abs(V.sum(axis=0)).max() < 1e-6), V.shape
    (True, (3, 2))
    """
    # The reflection that maps the first axis to e / sqrt(n) maps the other axes to such a basis.
    mirror = jnp.full(n, -(n**-0.5), dtype).at[0].add(1)
    return (jnp.eye(n, dtype=dtype) - 2 * _outer(mirror, mirror) / jnp.sum(mirror**2))[:, 1:]


def _eigenvalues(m: Float[Array, "n n"], symmetric: bool, project: bool) -> Float[Array, " k"]:
    def projected(part: Inexact[Array, "n n"]) -> Inexact[Array, "k k"]:
        V = sums_to_zero(len(m), m.dtype)
        return matmul(V.T, matmul(part, V)) if project else part

    even = projected((m + m.T) / 2)
    if symmetric:
        return decompositions.eigh(even)[0]
    return decompositions.eigh(even + 1j * projected((m - m.T) / 2))[0]


def _outer(x: Float[Array, " n"], y: Float[Array, " m"]) -> Float[Array, "n m"]:
    return x[:, None] * y[None, :]
