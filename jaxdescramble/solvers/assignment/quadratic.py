"""Quadratic assignment, `min_p sum_ij a_ij b_(p(i) p(j))` over the symmetric group, with a lower bound.

Smoothness over permutations is such a problem: `||D P S||_F^2` with `P S = S[p]`, `A = D^T D`, `B = S S^T`. The problem
is NP-hard. One compiled program runs many searches in step, and every answer comes with its largest possible distance
from the optimum.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from jaxdescramble._base.checks import is_traced, numbers, positive_integer, random_key, real_array, true_or_false
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.results import Stored
from jaxdescramble._base.status import Status, check_status
from jaxdescramble.manifolds import permutation
from jaxdescramble.solvers.assignment._bounds import lower_bound
from jaxdescramble.solvers.assignment._search import descend, kick, straighten, tabu
from jaxdescramble.solvers.assignment._starts import quadratic, random_stochastic, relax, spectral

WALK = 250
"""Number of exchanges in one walk, between two kicks."""


@functools.partial(
    register_dataclass,
    data_fields=["point", "value", "bound", "steps", "status"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True, repr=False)
class Assignment(Stored):
    """A permutation, and how good it is. It is a pytree; leading axes are batches.

    Attributes:
        point: the permutation p; no exchange of two entries improves it. Its matrix is
            `manifolds.permutation.matrix(p)`.
        value: `sum_ij a_ij b_(p(i) p(j))`, computed at this p; for integer matrices it is an exact integer.
        bound: lower bound of all permutations, rounding included; rounded up for integer matrices.
        steps: number of exchanges made in each search.
        status: a `jaxdescramble.Status`. SOLVED means that no exchange improves p; `gap` bounds the distance from the
            optimum.
    """

    point: Int[Array, "*batch n"]
    value: Shaped[Array, "*batch"]
    bound: Float[Array, "*batch"]
    steps: Int[Array, "*batch"]
    status: Int[Array, "*batch"]

    @property
    def gap(self) -> Float[Array, "*batch"]:
        """Value minus bound: zero proves that p is optimal."""
        return self.value - self.bound

    def check(self) -> "Assignment":
        """Return this result if every problem of the batch was solved.

        Raises:
            FloatingPointError: if a problem failed; the message says which, why, and what to do.
        """
        check_status(self.status, "quadratic_assignment")
        return self


def quadratic_assignment(
    a: ArrayLike,
    b: ArrayLike,
    *,
    key: PRNGKeyArray,
    start: ArrayLike | None = None,
    searches: int = 16,
    steps: int = 5000,
    symmetric: bool | None = None,
) -> Assignment:
    """Return the permutation that fits B to A best: `argmin_p sum_ij a_ij b_(p(i) p(j))`, which is `tr(A P B^T P^T)`.

    Use it to order neurons instead of mixing them, or for any quadratic assignment problem. One search starts at the
    given start, or at the best order from eigenvectors. Half of the searches start at the ends of Frank-Wolfe descents
    among doubly stochastic matrices, from the barycentre and from random points. The others start at random
    permutations. In every round, each search is kicked, reverses and moves stretches of its order, and walks along best
    exchanges with a tabu list. Before the next round, copies of the better half replace the worse half. The searches
    stop early if they reach the bound. The function works under `jax.jit` and `jax.vmap`. The time grows as
    `searches * steps * n^2`, 3 ns each on one core, and as n^3 for the bound.

    Args:
        a: real matrix A, shape (n, n), symmetric or not, of a floating or integer type.
        b: real matrix B, of the same shape.
        key: random key.
        start: a permutation (n,) as the start of one search; the answer is at least as good. None means no such start.
        searches: number of searches.
        steps: number of exchanges of each search, in walks of 250.
        symmetric: whether A or B is symmetric, which saves half the work. None looks at the numbers; under jit or vmap
            it means False.

    Returns:
        An `Assignment(point, value, bound, steps, status)`.

    Raises:
        TypeError: if a matrix has complex, half-precision or boolean numbers.
        ValueError: if a matrix is not square, the sizes differ, or `start` is not a permutation.

    >>> D = jnp.diff(jnp.eye(6), axis=0)
    >>> signals = jnp.asarray([3.0, 0.0, 5.0, 1.0, 4.0, 2.0])[:, None]
    >>> found = quadratic_assignment(D.T @ D, signals @ signals.T, key=jax.random.key(0), steps=250)
    >>> order = signals[found.point, 0].tolist()
    >>> order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]), round(float(found.value), 4)
    (True, 5.0)

    Source: Taillard, Parallel Computing 17 (1991) 443 (tabu search); Stuetzle, Eur. J. Oper. Res. 174 (2006) 1519
    (iterated local search); Vogelstein et al., PLoS ONE 10 (2015) e0121002 (Frank-Wolfe). Bounds:
    `solvers/assignment/_bounds.py`.
    """
    one, other = _matrix(a, "a"), _matrix(b, "b")
    if one.shape != other.shape:
        raise ValueError(f"b: got shape {other.shape}; must have the shape of a, {one.shape}.")
    searches, steps, key = positive_integer(searches, "searches"), positive_integer(steps, "steps"), random_key(key)
    rounds = -(-steps // WALK)
    if symmetric is None:
        symmetric = _looks_symmetric(one) or _looks_symmetric(other)
    symmetric = true_or_false(symmetric, "symmetric")
    first = None if start is None else _permutation(start, len(one))
    return _solve(one, other, key, first, searches, rounds, min(steps, WALK), symmetric)


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _solve(
    a: Shaped[Array, "n n"],
    b: Shaped[Array, "n n"],
    key: PRNGKeyArray,
    start: Int[Array, " n"] | None,
    searches: int,
    rounds: int,
    walk: int,
    symmetric: bool,
) -> Assignment:
    n = len(a)
    integers = jnp.issubdtype(a.dtype, jnp.integer) and jnp.issubdtype(b.dtype, jnp.integer)
    dtype = jnp.result_type(float) if integers else jnp.result_type(a, b)
    finite = jnp.isfinite(a).all() & jnp.isfinite(b).all()
    A, A_unit = _scaled(a.astype(dtype), finite)
    B, B_unit = _scaled(b.astype(dtype), finite)
    if symmetric:
        A, B = (A + A.T) / 2, (B + B.T) / 2
    floor = lower_bound(A, B, symmetric)
    least = 4 * n * jnp.finfo(dtype).eps * jnp.ones((), dtype)
    point, made = _search(A, B, key, start, searches, rounds, walk, symmetric, least, floor)
    point, extra, done = descend(A, B, point, least)
    value = jnp.sum(a * b[point][:, point])
    # Units are powers of two, so exact numbers stay exact.
    bound = floor * A_unit * B_unit
    if integers:
        bound = jnp.ceil(bound)
        finite = finite & (jnp.abs(quadratic(A, B, point)) * A_unit * B_unit < jnp.iinfo(value.dtype).max)
    else:
        value = jnp.where(finite, value, jnp.nan)
        finite = finite & jnp.isfinite(value)
    status = jnp.where(finite, jnp.where(done, Status.SOLVED, Status.STEPS_SPENT), Status.NOT_FINITE)
    bound = jnp.where(finite, bound, jnp.nan)
    return Assignment(point, value, bound, made + extra, status.astype(jnp.int32))


def _search(
    a: Float[Array, "n n"],
    b: Float[Array, "n n"],
    key: PRNGKeyArray,
    start: Int[Array, " n"] | None,
    searches: int,
    rounds: int,
    walk: int,
    symmetric: bool,
    least: Float[Array, ""],
    floor: Float[Array, ""],
) -> tuple[Int[Array, " n"], Int[Array, ""]]:
    """Return the best permutation of all searches, and the number of exchanges of each."""
    n = len(a)
    if n == 1:
        return permutation.identity(1), jnp.zeros((), jnp.int32)
    begin, key = jax.random.split(key)
    value_of = functools.partial(quadratic, a, b)
    points = _starts(a, b, begin, start, searches)
    values = jax.vmap(value_of)(points)

    def attempt(key: Array, p: Array, tried: Array, first: Array) -> tuple[Array, Array]:
        disturb, forbid = jax.random.split(key)
        p = jnp.where(first, p, kick(disturb, p))
        p = straighten(a, b, p, tried, least, symmetric)
        # Tenures lie between n / 2 and 3 n / 2.
        tenures = jnp.floor((jax.random.uniform(forbid, (walk,)) + 0.5) * n + 1).astype(jnp.int32)
        p = tabu(a, b, p, tenures, least, symmetric)
        return p, value_of(p)

    def play(state: tuple) -> tuple:
        points, values, key, k = state
        key, shared, each = jax.random.split(key, 3)
        # Copy the better half. (One rival per search was as good on QAPLIB, and worse on lines.)
        every = jnp.arange(searches)
        chosen = jnp.where(k > 0, jnp.argsort(values)[every % max(1, searches // 2)], every)
        points, values = points[chosen], values[chosen]
        # All searches try the same stretches: slices at one place for all need no gather.
        centres, items = jax.random.uniform(shared, (2, n))
        tried = jnp.stack([1 + jnp.floor(centres * (2 * n - 3)), jnp.floor(items * (n - 1))], axis=1)
        again, found = jax.vmap(attempt, (0, 0, None, None))(
            jax.random.split(each, searches), points, tried.astype(jnp.int32), k == 0
        )
        better = found <= values
        return jnp.where(better[:, None], again, points), jnp.where(better, found, values), key, k + 1

    def going(state: tuple) -> Array:
        return (state[3] < rounds) & (jnp.min(state[1]) > floor + 16 * n * least)

    points, values, _, k = jax.lax.while_loop(going, play, (points, values, key, jnp.zeros((), jnp.int32)))
    return points[jnp.argmin(values)], k * walk


def _starts(
    a: Float[Array, "n n"], b: Float[Array, "n n"], key: PRNGKeyArray, start: Int[Array, " n"] | None, searches: int
) -> Int[Array, "searches n"]:
    n, descents = len(a), searches // 2
    relaxed, free = jax.random.split(key)
    points = [(spectral(a, b) if start is None else start)[None]]
    if descents:
        inner = jax.vmap(lambda key: random_stochastic(key, n, a.dtype))(jax.random.split(relaxed, descents))
        inner = inner.at[0].set(1 / n)
        points.append(jax.vmap(lambda P: relax(a, b, P))(inner))
    others = jax.random.split(free, searches - descents)[1:]
    return jnp.concatenate([*points, jax.vmap(lambda key: permutation.random(key, n))(others)])


def _scaled(m: Float[Array, "n n"], usable: Array) -> tuple[Float[Array, "n n"], Float[Array, ""]]:
    """Return a matrix with entries below one (zeros if it is not usable), and its unit, a power of two."""
    m = jnp.where(usable, m, 0)
    unit = jnp.ldexp(jnp.ones((), m.dtype), jnp.frexp(jnp.max(jnp.abs(m)))[1])
    return m / unit, unit


def _matrix(value: ArrayLike, name: str) -> Array:
    """Return `value` as a square matrix of default integers or of real floating-point numbers."""
    matrix = numbers(value, name, "an array of numbers, a square matrix (n, n)")
    integers = jnp.issubdtype(matrix.dtype, jnp.integer)
    matrix = matrix.astype(int) if integers else real_array(value, name, (2,), "a square matrix (n, n)")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or 0 in matrix.shape:
        raise ValueError(
            f"{name}: expected a square matrix (n, n), got shape {matrix.shape}; use jax.vmap for a batch."
        )
    return matrix


def _permutation(value: ArrayLike, n: int) -> Int[Array, " n"]:
    start = numbers(value, "start", f"a permutation, {n} integers")
    if not jnp.issubdtype(start.dtype, jnp.integer) or start.shape != (n,):
        raise ValueError(f"start: expected a permutation, {n} integers; got {start.dtype} of shape {start.shape}.")
    if not is_traced(start) and not np.array_equal(np.sort(np.asarray(start)), np.arange(n)):
        raise ValueError(
            f"start: expected each of 0 ... {n - 1} once; use permutation.nearest(matrix) to project a matrix."
        )
    return start.astype(jnp.int32)


def _looks_symmetric(m: Array) -> bool:
    return not is_traced(m) and bool(np.array_equal(np.asarray(m), np.asarray(m).T))
