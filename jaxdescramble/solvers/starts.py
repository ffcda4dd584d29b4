"""Starting points read off the signals, as combinators: each makes its start and hands it to the solver inside.

A descent from a random point finds the planted frame of sparse signals, but neither that of piecewise constant signals
(too many ways to be wrong about the order of neurons) nor that of local ones. Both orders can be read off:

- `FromModes`: principal components on the slowest modes of an operator, which is the closed form of smoothness.
- `FromSources`: where the objective is an L1 norm of `D P S`, the rows of `D P` are the directions along which the
  signals are sparse. Those are found one set at a time without knowing their order; the order is that in which their
  mutual angles are those of the rows of D.
- `Seriated`: rows of a given start put into the order in which neurons that are active together stand together.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdescramble import decompositions
from jaxdescramble.groups import orthogonal
from jaxdescramble.objectives.sparse import log_cosh
from jaxdescramble.objectives.spatial import heavy
from jaxdescramble.operators import Operator
from jaxdescramble.products import matmul
from jaxdescramble.solvers.descent import Report
from jaxdescramble.solvers.lbfgs import LBFGS
from jaxdescramble.solvers.problem import name_of
from jaxdescramble.solvers.solution import Solution
from jaxdescramble.solvers.solve import solve

CORNER = 0.3
"""How widely the corner of |z| is rounded in the search for sparse sources, in units of their standard deviation."""

CORNERS = (0.3, 0.1, 0.03, 0.01)
"""The same where each source is sharpened by itself."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FromModes:
    """From the principal components of the signals on the slowest modes of an operator, strongest on slowest.

    `P = T U^T`, T the eigenvectors of `D^T D` by rising eigenvalue, U the left singular vectors of S: the minimiser of
    `||D P S||_F`. Signs are chosen such that P is in the determinant class of the given start, of which nothing else is
    used.

    Attributes:
        solver: what is run from there.
        operator: D, such as `operators.derivative(n)`.

    >>> from jaxdescramble import objectives, operators, solvers
    >>> objective = objectives.total_variation()
    >>> signals = jax.random.normal(jax.random.key(0), (4, 40)).cumsum(axis=0)
    >>> solver = FromModes(solvers.LBFGS(), operators.derivative(4))
    >>> found = solvers.minimise(objective, jnp.eye(4)[::-1], objective.summarise(signals), solver=solver)
    >>> bool(found.value <= objective(jnp.eye(4), signals))
    True

    Source: `exact.brockett_minimiser`; Amey et al., PNAS 118, e2016917118 (2021).
    """

    solver: Any
    operator: Operator

    def run(self, function: Any, start: Array, args: tuple, report: Report) -> Solution:
        """What the solver finds from there."""
        summary = _summary_of(function, args)
        directions, _ = summary.principal()
        point = self.operator.synthesise(directions.T).astype(start.dtype)
        # The weakest component turned round is the least change that changes the class.
        fast = self.operator.synthesise(jnp.eye(len(start), dtype=start.dtype)[:, -1:]).astype(start.dtype)
        return solve(function, _in_class_of(start, point, fast), args, self.solver, report)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FromSources:
    """From the directions along which the signals are sparse, in the order that the objective asks for.

    1. Sources: `V` that minimises `mean(log cosh(V X / a))`, X the whitened signals, from several Haar points. The rows
       of V, each then sharpened by itself (`min |v^T X|_1` without the constraint that sources be uncorrelated) and
       taken back through the whitening, are the rows of `D P` in any order, sign and length.
    2. Order and signs: for D = 1 any will do. Otherwise the r least dense rows (r the rank of D) make the chain in
       which the angle between neighbours is nearest to a straight one, as those of differences are: `D D^T` is a
       tridiagonal matrix, or nearly so. It is found greedily and improved by reversing stretches of it.
    3. `P = polar(D^T B)`, which minimises `||D P - B||_F`; then the solver.

    An objective without `sparse_under` is taken to have D = 1: `FromSources(Seriated(solver), keys)` suits locality.

    Attributes:
        solver: what is run from there.
        keys: sources of chance, one for each search for sources, of which the best is used.
        search: what the sources are found with.

    Raises:
        TypeError: the first argument of the function is no summary with samples.
        ValueError: fewer samples than features; a D whose rows form no chain, such as that of a 2-D grid.

    >>> from jaxdescramble import datasets, objectives, solvers
    >>> hidden = datasets.planted.piecewise_constant(jax.random.key(0), 16, 160)
    >>> objective = objectives.total_variation()
    >>> solver = FromSources(solvers.LBFGS(max_steps=200), jax.random.split(jax.random.key(1), 2))
    >>> found = solvers.minimise(objective, jnp.eye(16), objective.summarise(hidden.signals), solver=solver)
    >>> bool(found.value <= objective(hidden.frame, hidden.signals) + 1e-5)
    True

    Source: this package. Sparse sources are those of complete dictionary learning (Sun, Qu, Wright, IEEE Trans. Inf.
    Theory 63 (2017) 853; their rounding by a linear program is the sharpening here) and of FastICA (Hyvarinen, IEEE
    Trans. Neural Networks 10 (1999) 626).
    """

    solver: Any
    keys: Any
    search: Any = dataclasses.field(default_factory=lambda: LBFGS(tolerance=1e-3, max_steps=300, preconditioner=None))

    def run(self, function: Any, start: Array, args: tuple, report: Report) -> Solution:
        """What the solver finds from there; the work of the search is counted in."""
        summary = _summary_of(function, args)
        signals = getattr(summary, "signals", None)
        if signals is None:
            raise TypeError(f"FromSources: the summary that {name_of(function)} reads keeps no samples.")
        n, m = signals.shape
        if m < n:
            raise ValueError(f"FromSources: {m} samples of {n} features; sources need at least as many samples.")
        D = _sparse_under(function, n)
        rows, density, work = self._sources(summary, signals)
        if D is None:
            point, weak = orthogonal.polar(rows)[0], jnp.eye(n, dtype=start.dtype)[:, :1]
        else:
            rank, weak = _independent(D, name_of(function))
            B = rows[jnp.argsort(density)[:rank]]
            gram = matmul(B, B.T)
            order = _chain(jnp.abs(gram))
            along = jnp.sign(gram[order[:-1], order[1:]]) * np.sign(np.sum(D[: rank - 1] * D[1:rank], axis=1))
            signs = jnp.cumprod(jnp.concatenate([jnp.ones(1, B.dtype), jnp.where(along < 0, -1, 1).astype(B.dtype)]))
            lengths = np.linalg.norm(D[:rank], axis=1)
            B = B[order] * (signs * lengths.astype(B.dtype))[:, None]
            point, _ = orthogonal.polar(matmul(jnp.asarray(D[:rank].T, B.dtype), B))
            weak = jnp.asarray(weak, B.dtype)
        found = solve(function, _in_class_of(start, point, weak), args, self.solver, report)
        return dataclasses.replace(found, evaluations=(found.evaluations + work).astype(jnp.int32))

    def _sources(
        self, summary: Any, signals: Float[Array, "n m"]
    ) -> tuple[Float[Array, "n n"], Float[Array, " n"], Array]:
        """Unit rows that make sparse sources of the signals, how dense each of these is, and the work."""
        n, m = signals.shape
        U, s, Vh = decompositions.svd(heavy(signals, summary), full_matrices=False)
        known = decompositions.resolved(s)
        white = jnp.where(known[:, None], Vh, 0) * m**0.5
        whiten = jnp.where(known, 1 / jnp.where(known, s, 1), 0)[:, None] * U.T
        # A direction in which there are no signals makes sources of nothing: it stands for itself, as a dense one.
        whiten = jnp.where(known[:, None], whiten, U.T)
        shares = None
        if summary.weights is not None:  # the columns of Vh are those of weighted samples
            white = jnp.where(known[:, None], matmul(whiten, signals), 0) * m**0.5
            shares = summary.weigh(jnp.ones(m, signals.dtype))
        density_of = jax.tree_util.Partial(_density)
        turns = jax.vmap(lambda key: orthogonal.random(key, n, "O", s.dtype))(self.keys)
        found = jax.vmap(lambda turn: solve(density_of, turn, (white, shares), self.search, Report()))(turns)
        best = jnp.argmin(jnp.where(jnp.isfinite(found.value), found.value, jnp.inf))
        turn = _sharpened(found.point[best], white, shares)
        rows = matmul(turn, whiten)
        rows = rows / jnp.sqrt(jnp.sum(rows**2, axis=1, keepdims=True))
        Z = matmul(turn, white)
        density = jnp.mean(_times(jnp.abs(Z), shares), axis=1)
        density = density + jnp.maximum(1 - jnp.mean(_times(Z**2, shares), axis=1), 0)
        return rows, density, found.evaluations.sum()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Seriated:
    """From the given start with its rows put in line: neurons that are active together stand together.

    The order minimises `sum_ij W_ij (x_i - x_j)^2`, `W_ij = sum_s y_is^2 y_js^2 / E_s`, x the places of the rows of
    `Y = P S`: over permutations this is locality on a line exactly. It is begun with the order of the Fiedler vector of
    W, the minimiser without the constraint that places be 1 ... n, and improved by exchanges. The determinant class is
    kept by the sign of a row.

    Attributes:
        solver: what is run from there.

    >>> from jaxdescramble import objectives, solvers
    >>> objective = objectives.locality()
    >>> signals = jnp.eye(6)[:, :-1] + jnp.eye(6)[:, 1:]
    >>> start = jnp.eye(6)[jnp.asarray([3, 0, 4, 1, 5, 2])]
    >>> solver = Seriated(solvers.LBFGS(max_steps=0))
    >>> found = solvers.minimise(objective, start, objective.summarise(signals), solver=solver)
    >>> abs(found.value - objective(jnp.eye(6), signals)) < 1e-5
    Array(True, dtype=bool)

    Source: Atkins, Boman, Hendrickson, SIAM J. Comput. 28 (1998) 297.
    """

    solver: Any

    def run(self, function: Any, start: Array, args: tuple, report: Report) -> Solution:
        """What the solver finds from there."""
        summary = getattr(_summary_of(function, args), "normalised", lambda: None)()
        signals = getattr(summary, "signals", None)
        if summary is None or signals is None:
            raise TypeError(f"Seriated: the summary that {name_of(function)} reads keeps no samples.")
        square = matmul(start, signals.astype(start.dtype)) ** 2
        energies = jnp.sum(square, axis=0, keepdims=True)
        W = matmul(square / jnp.where(energies > 0, energies, 1), summary.weigh(square).T)
        W = (W - jnp.diag(jnp.diagonal(W))) / jnp.maximum(jnp.max(W), jnp.finfo(W.dtype).tiny)
        W = jnp.where(jnp.isfinite(W).all(), W, 0)
        point = start[_line(W)]
        first = jnp.eye(len(start), dtype=start.dtype)[:, :1]
        return solve(function, _in_class_of(start, point, first), args, self.solver, report)


def _summary_of(function: Any, args: tuple) -> Any:
    if not args or not hasattr(args[0], "principal"):
        raise TypeError(
            f"{name_of(function)}: a start is read off the signals, which must be a summary and the first argument: "
            "minimise(objective, start, objective.summarise(signals), solver=...)."
        )
    return args[0]


def _times(terms: Float[Array, "k m"], shares: Float[Array, " m"] | None) -> Float[Array, "k m"]:
    return terms if shares is None else terms * shares[None, :]


def _density(turn: Float[Array, "n n"], white: Float[Array, "n m"], shares: Any = None) -> Float[Array, ""]:
    """How dense the sources are: the mean of |z|, its corner rounded."""
    return CORNER * jnp.mean(_times(log_cosh(matmul(turn, white) / CORNER), shares))


def _sharpened(turn: Float[Array, "n n"], white: Float[Array, "n m"], shares: Any = None) -> Float[Array, "n n"]:
    """Each row v by itself, no longer orthogonal to the others, moved to a minimum of `|v^T X|_1` with `v^T v0` fixed.

    Uncorrelated rows are not what makes sparse sources: those of finitely many samples are correlated by chance. By
    reweighted least squares, whose corner is rounded less and less.
    """

    def one(first: Array) -> Array:
        row = first
        for corner in CORNERS:
            z = matmul(row[None], white)[0]
            weight = 1 / jnp.sqrt(z**2 + corner**2)
            moment = matmul(_times(white * weight[None, :], shares), white.T)
            # Directions without signals, of whitened length zero, are left as they are.
            ridge = 1e-6 * jnp.trace(moment) / len(first)
            row = matmul(
                decompositions.inverse(moment + ridge * jnp.eye(len(first), dtype=first.dtype)), first[:, None]
            )
            row = row[:, 0] / jnp.sqrt(jnp.sum(row**2))
        return jnp.where(jnp.isfinite(row).all(), row, first)

    return jax.lax.map(one, turn)


def _in_class_of(start: Array, point: Array, axis: Float[Array, "n 1"]) -> Array:
    """The point, mirrored along a unit vector where that is what it takes to be in the start's determinant class."""
    other = decompositions.determinant_sign(start) * decompositions.determinant_sign(point) < 0
    mirrored = point - 2 * matmul(axis, matmul(axis.T, point))
    return jnp.where(other, mirrored, point)


def _sparse_under(function: Any, n: int) -> np.ndarray | None:
    """D of an objective that names one, None for the identity."""
    named: Callable[..., Operator] | None = getattr(function, "sparse_under", None)
    if named is None:
        return None
    operator = named(n, **function.options)
    with jax.ensure_compile_time_eval():
        D = np.asarray(operator.apply(jnp.eye(n)), np.float64)
    return None if D.shape == (n, n) and np.array_equal(D, np.eye(n)) else D


def reads_sources(function: Any, summary: Any) -> bool:
    """Whether `FromSources` can make a start for an objective of these signals: it is an L1 norm of `P S` or of
    differences along a line or circle, and there are samples enough.

    >>> from jaxdescramble import objectives
    >>> summary = objectives.Samples(jnp.ones((4, 9)))
    >>> reads_sources(objectives.total_variation(), summary), reads_sources(objectives.locality(), summary)
    (True, False)
    """
    signals = getattr(summary, "signals", None)
    if getattr(function, "sparse_under", None) is None or signals is None or signals.shape[1] < signals.shape[0]:
        return False
    D = _sparse_under(function, signals.shape[0])
    return D is None or _chain_rank(D)[1]


def _chain_rank(D: np.ndarray) -> tuple[int, bool]:
    """The rank r of D, and whether its first r rows are a chain of independent ones."""
    rank = int(np.linalg.matrix_rank(D))
    rows = D[:rank] / np.linalg.norm(D[:rank], axis=1, keepdims=True)
    cosines = np.abs(rows @ rows.T) - np.eye(rank)
    next_door = np.abs(np.subtract.outer(np.arange(rank), np.arange(rank))) == 1
    is_chain = rank > 1 and cosines[next_door].min() > cosines[~next_door].max(initial=0) + 0.05
    return rank, bool(is_chain and np.linalg.matrix_rank(D[:rank]) == rank)


def _independent(D: np.ndarray, name: str) -> tuple[int, np.ndarray]:
    """The rank r of D, whose first r rows are a chain of independent ones, and a unit vector that D does not see."""
    rank, is_chain = _chain_rank(D)
    if not is_chain:
        raise ValueError(
            f"FromSources: the differences that {name} looks at form no chain (a line or a circle of neurons does). "
            "Use solvers.FromModes or solvers.Restarts."
        )
    return rank, np.linalg.svd(D)[2][-1][:, None]


def _chain(affinity: Float[Array, "r r"]) -> Int[Array, " r"]:
    """The order in which neighbours are most alike: the best pairs first, then stretches reversed while it gains."""
    r = len(affinity)
    eye = jnp.eye(r, dtype=bool)

    def join(_: Array, state: tuple) -> tuple:
        linked, component = state
        free = jnp.sum(linked, axis=1) < 2
        allowed = free[:, None] & free[None, :] & (component[:, None] != component[None, :])
        i, j = jnp.divmod(jnp.argmax(jnp.where(allowed, affinity, -1)), r)
        linked = linked.at[i, j].set(True).at[j, i].set(True)
        return linked, jnp.where(component == component[j], component[i], component)

    linked, _ = jax.lax.fori_loop(0, r - 1, join, (jnp.zeros((r, r), bool), jnp.arange(r)))

    def walk(k: Array, state: tuple) -> tuple:
        order, visited = state
        ahead = linked[order[k - 1]] & ~visited
        at = jnp.argmax(ahead)
        return order.at[k].set(at), visited.at[at].set(True)

    end = jnp.argmin(jnp.sum(linked, axis=1))
    order = jnp.zeros(r, end.dtype).at[0].set(end)
    order, _ = jax.lax.fori_loop(1, r, walk, (order, eye[end]))
    return _reversed_while_it_gains(affinity, order)


def _reversed_while_it_gains(affinity: Float[Array, "r r"], order: Int[Array, " r"]) -> Int[Array, " r"]:
    """2-opt: turn the stretch i ... j round as long as its two ends then fit their new neighbours better."""
    r, places = len(order), jnp.arange(len(order))
    padded = jnp.pad(affinity, (0, 1))  # the last is nobody, at both ends

    def best(order: Array) -> tuple[Array, Array]:
        nobody = jnp.full(1, r, order.dtype)
        before, after = jnp.concatenate([nobody, order[:-1]]), jnp.concatenate([order[1:], nobody])
        now = padded[before, order][:, None] + padded[order, after][None, :]
        then = padded[before[:, None], order[None, :]] + padded[order[:, None], after[None, :]]
        gain = jnp.where(places[:, None] < places[None, :], then - now, 0)
        return jnp.max(gain), jnp.argmax(gain)

    def turn(state: tuple) -> tuple:
        order, (_, where), k = state
        i, j = jnp.divmod(where, r)
        inside = (places >= i) & (places <= j)
        order = order[jnp.where(inside, i + j - places, places)]
        return order, best(order), k + 1

    least = 1e-4 * jnp.max(affinity)
    state = (order, best(order), 0)
    return jax.lax.while_loop(lambda s: (s[1][0] > least) & (s[2] < 4 * r), turn, state)[0]


def _line(W: Float[Array, "n n"]) -> Int[Array, " n"]:
    """The order of least `sum_ij W_ij (x_i - x_j)^2`: Fiedler's, then exchanges while they gain."""
    n = len(W)
    degrees = jnp.sum(W, axis=1)
    _, vectors = decompositions.eigh(jnp.diag(degrees) - W)
    x = jnp.argsort(jnp.argsort(vectors[:, min(1, n - 1)])).astype(W.dtype) - (n - 1) / 2

    def best(x: Array) -> tuple[Array, Array]:
        # What item a costs at the place of b, all others staying.
        Wx, Wxx = matmul(W, x[:, None]), matmul(W, x[:, None] ** 2)
        cost = degrees[:, None] * x[None, :] ** 2 - 2 * Wx * x[None, :] + Wxx
        stay = jnp.diagonal(cost)
        gain = stay[:, None] + stay[None, :] - cost - cost.T - 2 * W * (x[:, None] - x[None, :]) ** 2
        return jnp.max(gain), jnp.argmax(gain)

    def exchange(state: tuple) -> tuple:
        x, (_, where), k = state
        i, j = jnp.divmod(where, n)
        x = x.at[i].set(x[j]).at[j].set(x[i])
        return x, best(x), k + 1

    least = 1e-6 * jnp.sum(degrees)
    x = jax.lax.while_loop(lambda s: (s[1][0] > least) & (s[2] < 4 * n), exchange, (x, best(x), 0))[0]
    return jnp.argsort(x)
