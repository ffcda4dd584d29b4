"""Starting points computed from the signals, as combinators: each computes its start and runs the solver inside.

A descent from a random point finds the planted frame of sparse signals. It does not find the frame of piecewise
constant signals, because most orders of the neurons are wrong, nor the frame of local signals. These starts do:

- `FromModes`: principal components on the slowest modes of an operator, which is the closed form of smoothness.
- `FromSources`: if the objective is an L1 norm of `D P S`, the rows of `D P` are the directions along which the signals
  are sparse. The directions are found first, in no order; then they are ordered so that the angles between them are
  those between the rows of D.
- `Seriated`: the rows of a given start, reordered so that neurons that are active together become neighbours.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives.sparse import log_cosh
from jaxdescramble.objectives.summaries import Samples
from jaxdescramble.objectives.units import heavy
from jaxdescramble.solvers._orders import chain, line
from jaxdescramble.solvers._starting import (
    check_square,
    samples_of,
    search_from,
    sparsifying_matrix,
    sparsifying_operator_of,
)
from jaxdescramble.solvers.descent import Function, RunOptions, Solver
from jaxdescramble.solvers.lbfgs import LBFGS
from jaxdescramble.solvers.problem import name_of
from jaxdescramble.solvers.solution import Solution
from jaxdescramble.solvers.solve import best, solve, solve_each, stage

CORNER = 0.3
"""Width of the rounded corner of |z| in the search for sparse sources, in units of their standard deviation."""

CORNERS = (0.3, 0.1, 0.03, 0.01)
"""The same widths, one after another, for sharpening each source by itself."""

SHARP, PRODUCTS = 1e-3, 50
"""Relative residual, and largest number of steps, of the conjugate gradients that solve its linear equations."""


@register_dataclass
@dataclasses.dataclass(frozen=True)
class FromSources:
    """A solver that starts with the sources, directions along which the signals are sparse, in the objective's order.

    Use it for objectives that are an L1 norm of `D P S`, such as total variation. The start is found in three steps:

    1. Sources: an orthogonal V that minimises `mean(log cosh(V X / a))`, with X the whitened signals and a fixed a,
       from several Haar-random points. Each row v of V is then sharpened by itself: it minimises `|v^T X|_1` without
       the constraint that sources be uncorrelated. Multiplied by the whitening matrix, these rows are the rows of
       `D P`, except for their order, signs and lengths.
    2. Order and signs: if D = 1, any order will do. Otherwise take the r least dense rows (r is the rank of D) and
       order them into a chain in which neighbours have the largest absolute cosines, as rows of differences have:
       `D D^T` is tridiagonal, or nearly so. The chain is built greedily and improved by reversing parts of it. B is the
       matrix of its rows, with the signs and lengths of the rows of D.
    3. Start: `P = polar(D^T B)`, which minimises `||D P - B||_F`. The solver runs from this P.

    An objective without a `sparsifying_operator` counts as D = 1; use `FromSources(Seriated(solver), key=key)` for
    locality.

    Attributes:
        solver: the solver that runs from this start.
        searches: number of searches for sources; the best result is used (fixed at compile time).
        search: the solver that finds the sources.
        key: random key of the points where the searches begin.

    Raises:
        TypeError: if the first argument of the function is not a summary with samples.
        ValueError: if there are fewer samples than features, or the rows of D form no chain (as on a 2-D grid).

    >>> from jaxdescramble import datasets, objectives, solvers
    >>> hidden = datasets.planted.piecewise_constant(jax.random.key(0), 16, 160)
    >>> objective = objectives.total_variation(boundary="neumann")
    >>> solver = FromSources(solvers.LBFGS(max_steps=200), 2, key=jax.random.key(1))
    >>> found = solvers.minimise(objective, jnp.eye(16), objective.summarise(hidden.signals), solver=solver)
    >>> bool(found.value <= objective(hidden.frame, hidden.signals) + 1e-5)
    True

    Source: this package. Sparse sources are those of complete dictionary learning (Sun, Qu, Wright, IEEE Trans. Inf.
    Theory 63 (2017) 853; their rounding by a linear program is the sharpening here) and of FastICA (Hyvarinen, IEEE
    Trans. Neural Networks 10 (1999) 626).
    """

    solver: Solver
    searches: int = dataclasses.field(default=1, metadata={"static": True})
    search: Solver = dataclasses.field(
        default_factory=lambda: LBFGS(tolerance=1e-3, max_steps=300, preconditioner=None)
    )
    key: PRNGKeyArray = dataclasses.field(kw_only=True)

    both_classes: ClassVar[bool] = True

    def run(self, function: Function, start: Array, args: tuple, options: RunOptions) -> Solution:
        """Return the solution that the solver finds from this start; `evaluations` include those of the search."""
        check_square("FromSources", options)
        summary = samples_of("FromSources", function, args).normalised()
        n, m = summary.signals.shape
        if m < n:
            raise ValueError(f"FromSources: {m} samples of {n} features; sources need at least as many samples.")
        D = sparsifying_matrix(function, n)
        if D is None:
            weak = np.eye(n)[:, :1]
        else:
            rank, weak = _independent(D, name_of(function))
            D = jnp.asarray(D[:rank])
        white, whiten, shares, turns = _whitened(summary, self.searches, self.key)
        with stage(options, "search for sources"):
            searches = RunOptions(watch=options.watch)
            found = solve_each(jax.tree_util.Partial(_density), turns, (white, shares), self.search, searches)
        if options.watch is not None and options.watch.over():
            return solve(function, start, args, self.solver, options)  # there is no time for a better start
        point = _from_sources(best(found).point, white, whiten, shares, D)
        found, work = search_from(function, start, point, weak, args, self.solver, options), found.evaluations.sum()
        return dataclasses.replace(found, evaluations=(found.evaluations + work).astype(jnp.int32))


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Seriated:
    """A solver that starts with reordered rows of the given start: neurons that are active together are neighbours.

    Use it for locality. With `Y = P S`, x_i the place of row i, and E_s the energy of sample s, `sum_i y_is^2`, the
    order minimises `sum_ij W_ij (x_i - x_j)^2`, `W_ij = sum_s y_is^2 y_js^2 / E_s`. Over permutations, this is exactly
    locality on a line. The search begins with the order of the Fiedler vector of W, which is the minimiser without the
    constraint that places be 1 ... n, and improves it by exchanges. With `group="SO"`, the sign of one row is chosen so
    that the determinant class stays that of the start.

    Attributes:
        solver: the solver that runs from this start.

    >>> from jaxdescramble import objectives, solvers
    >>> objective = objectives.locality("neumann")
    >>> signals = jnp.eye(6)[:, :-1] + jnp.eye(6)[:, 1:]
    >>> start = jnp.eye(6)[jnp.asarray([3, 0, 4, 1, 5, 2])]
    >>> solver = Seriated(solvers.LBFGS(max_steps=0))
    >>> found = solvers.minimise(objective, start, objective.summarise(signals), solver=solver)
    >>> abs(found.value - objective(jnp.eye(6), signals)) < 1e-5
    Array(True, dtype=bool)

    Source: Atkins, Boman, Hendrickson, SIAM J. Comput. 28 (1998) 297.
    """

    solver: Solver

    both_classes: ClassVar[bool] = True

    def run(self, function: Function, start: Array, args: tuple, options: RunOptions) -> Solution:
        """Return the solution that the solver finds from this start."""
        check_square("Seriated", options)
        summary = samples_of("Seriated", function, args).normalised()
        first = np.eye(len(start))[:, :1]
        return search_from(function, start, _in_line(start, summary), first, args, self.solver, options)


@functools.partial(jax.jit, static_argnames="searches")
def _whitened(
    summary: Samples, searches: int, key: PRNGKeyArray
) -> tuple[Float[Array, "n m"], Float[Array, "n n"], Float[Array, " m"] | None, Array]:
    """Return the whitened signals, the matrix that whitens, the shares of the samples (None if all are equal), and the
    starts of the searches for sources."""
    signals = summary.signals
    n, m = signals.shape
    U, s, Vh = decompositions.svd(heavy(signals, summary), full_matrices=False)
    known = decompositions.resolved(s)
    white = jnp.where(known[:, None], Vh, 0) * m**0.5
    whiten = jnp.where(known, 1 / jnp.where(known, s, 1), 0)[:, None] * U.T
    # A direction without signals has no sparse sources: keep the direction itself, and count it as dense.
    whiten = jnp.where(known[:, None], whiten, U.T)
    shares = None
    if summary.weights is not None:  # the columns of Vh are those of weighted samples
        white = jnp.where(known[:, None], matmul(whiten, signals), 0) * m**0.5
        shares = summary.weigh(jnp.ones(m, signals.dtype))
    keys = jax.random.split(key, searches)
    return white, whiten, shares, jax.vmap(lambda key: orthogonal.random(key, n, "O", s.dtype))(keys)


@jax.jit
def _from_sources(
    turn: Array, white: Array, whiten: Array, shares: Array | None, D: Float[Array, "r n"] | None
) -> Float[Array, "n n"]:
    """Return the frame that follows from the sources and their order; D has independent rows, None is the identity."""
    turn = _sharpened(turn, white, shares)
    rows = matmul(turn, whiten)
    rows = rows / jnp.sqrt(jnp.sum(rows**2, axis=1, keepdims=True))
    if D is None:
        return orthogonal.polar(rows)[0]
    Z = matmul(turn, white)
    density = jnp.mean(_times(jnp.abs(Z), shares), axis=1)
    density = density + jnp.maximum(1 - jnp.mean(_times(Z**2, shares), axis=1), 0)
    D = D.astype(rows.dtype)
    B = rows[jnp.argsort(density)[: len(D)]]
    gram = matmul(B, B.T)
    order = chain(jnp.abs(gram))
    along = jnp.sign(gram[order[:-1], order[1:]]) * jnp.sign(jnp.sum(D[:-1] * D[1:], axis=1))
    signs = jnp.cumprod(jnp.concatenate([jnp.ones(1, B.dtype), jnp.where(along < 0, -1, 1).astype(B.dtype)]))
    lengths = jnp.sqrt(jnp.sum(D**2, axis=1))
    return orthogonal.polar(matmul(D.T, B[order] * (signs * lengths)[:, None]))[0]


@jax.jit
def _in_line(start: Float[Array, "n n"], summary: Samples) -> Float[Array, "n n"]:
    """Return the start with its rows in the order of `Seriated`."""
    square = matmul(start, summary.signals.astype(start.dtype)) ** 2
    energies = jnp.sum(square, axis=0, keepdims=True)
    W = matmul(square / jnp.where(energies > 0, energies, 1), summary.weigh(square).T)
    W = (W - jnp.diag(jnp.diagonal(W))) / jnp.maximum(jnp.max(W), jnp.finfo(W.dtype).tiny)
    return start[line(jnp.where(jnp.isfinite(W).all(), W, 0))]


def _times(terms: Float[Array, "k m"], shares: Float[Array, " m"] | None) -> Float[Array, "k m"]:
    return terms if shares is None else terms * shares[None, :]


def _density(turn: Float[Array, "n n"], white: Float[Array, "n m"], shares: Array | None = None) -> Float[Array, ""]:
    """Return how dense the sources are: the mean of |z|, with its corner rounded."""
    return CORNER * jnp.mean(_times(log_cosh(matmul(turn, white) / CORNER), shares))


def _sharpened(turn: Float[Array, "n n"], white: Float[Array, "n m"], shares: Array | None) -> Float[Array, "n n"]:
    """Move each row v from its first value v0 to a minimum of `|v^T X|_1` with `v^T v0` fixed.

    The rows are no longer orthogonal to each other: sources of finitely many samples are correlated by chance. The
    method is reweighted least squares, with a corner that is rounded less and less.
    """

    squares, lengths = white**2, jnp.sum(white**2, axis=0)

    def one(first: Array) -> Array:
        def sharpen(row: Array, corner: Array) -> tuple[Array, None]:
            weight = _times(1 / jnp.sqrt(matmul(row[None], white) ** 2 + corner**2), shares)[0]
            # Directions without signals have whitened length zero; the ridge keeps them as they are.
            ridge = 1e-6 * jnp.dot(weight, lengths) / len(first)

            def product(row: Array) -> Array:
                return matmul(white, (weight * matmul(row[None], white)[0])[:, None])[:, 0] + ridge * row

            scale = 1 / (matmul(squares, weight[:, None])[:, 0] + ridge)
            guess = row * jnp.dot(row, first) / jnp.dot(row, product(row))
            row, _ = jax.scipy.sparse.linalg.cg(
                product, first, guess, tol=SHARP, maxiter=PRODUCTS, M=lambda row: scale * row
            )
            return row / jnp.sqrt(jnp.sum(row**2)), None

        row, _ = jax.lax.scan(sharpen, first, jnp.asarray(CORNERS, first.dtype))
        return jnp.where(jnp.isfinite(row).all(), row, first)

    return jax.vmap(one)(turn)


def order_of_sources(function: object, summary: object) -> Literal["chain", "line", "any", ""]:
    """Return how `FromSources` orders the sources of signals.

    Returns:
        "chain": by their cosines, if the objective is an L1 norm of differences along a line or circle. "line": by
        `Seriated`, if the objective says that neurons which are active together stand together. "any": it is an L1 norm
        of `P S`. "": there are fewer samples than features, or the objective is another one.

    >>> from jaxdescramble import objectives
    >>> summary = objectives.Samples(jnp.ones((4, 9)))
    >>> [order_of_sources(one, summary) for one in (objectives.total_variation(), objectives.sparsity())]
    ['chain', 'any']
    """
    if not isinstance(summary, Samples):
        return ""
    n, m = summary.signals.shape[-2:]  # the summary may be a batch
    if m < n:
        return ""
    seriates: Callable[[int], bool] | None = getattr(function, "seriates", None)
    if seriates is not None and seriates(n):
        return "line"
    if sparsifying_operator_of(function, n) is None:
        return ""
    D = sparsifying_matrix(function, n)
    return "any" if D is None else "chain" if _chain_rank(D)[1] else ""


def _chain_rank(D: np.ndarray) -> tuple[int, bool]:
    """Return the rank r of D, and whether its first r rows are independent and form a chain."""
    return _chain_rank_of(D.tobytes(), D.shape)


@functools.lru_cache(maxsize=8)
def _chain_rank_of(data: bytes, shape: tuple[int, int]) -> tuple[int, bool]:
    D = np.frombuffer(data).reshape(shape)
    rank = int(np.linalg.matrix_rank(D))
    lengths = np.linalg.norm(D[:rank], axis=1, keepdims=True)
    if rank < 2 or not lengths.all():
        return rank, False
    rows = D[:rank] / lengths
    cosines = np.abs(rows @ rows.T) - np.eye(rank)
    next_door = np.abs(np.subtract.outer(np.arange(rank), np.arange(rank))) == 1
    is_chain = cosines[next_door].min() > cosines[~next_door].max(initial=0) + 0.05
    return rank, bool(is_chain and np.linalg.matrix_rank(D[:rank]) == rank)


def _independent(D: np.ndarray, name: str) -> tuple[int, np.ndarray]:
    """Return the rank r of D and a unit vector in its null space; raise if its first r rows are not a chain."""
    rank, is_chain = _chain_rank(D)
    if not is_chain:
        raise ValueError(
            f"FromSources: the differences that {name} looks at form no chain (a line or a circle of neurons does). "
            "Use solvers.FromModes or solvers.Restarts."
        )
    return rank, np.linalg.svd(D)[2][-1][:, None]
