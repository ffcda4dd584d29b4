"""The best element of one stream while all others stay: an assignment, scales, or a Procrustes problem.

The distance of the pieces is `sum ||a - g b||^2`. With all other streams fixed, it depends on g only through

    S = sum A B^T,   N = the squared norms of the rows of B,

with the pieces unfolded along the stream's axis; there is one S for each strand and side of the stream. An order with
scales c costs `sum_i [N_j c^2 - 2 S_ij c]` with j = order(i). The best c of each pair (i, j) is found first, then the
order by a linear assignment. An orthogonal matrix is the polar factor of the sum of all S. In GL(n), one side moves by
g, the other by `g^-T`; `g H + K g = S` (K of the dual side) makes both distances small, and is exact if they can be 0.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble.descrambling.matching.pieces import Axis, Kind, State, moved, moved_back
from jaxdescramble.manifolds.assignment import assign

Side = tuple[int, bool]
"""A strand of the stream, by position, and whether it is the dual."""

NEWTON_STEPS = 12
"""Steps for the best scales of each pair of positions; eight give 32-bit accuracy for scales between 1/30 and 30."""

WORST_CONDITION = 1e4
"""Largest condition number of a matrix in GL(n) that is taken; otherwise the orthogonal one is."""


@functools.partial(jax.jit, static_argnames=("kinds", "axes"))
def update(
    kinds: tuple[Kind, ...],
    axes: tuple[tuple[Axis, ...], ...],
    one: list[Array],
    other: list[Array],
    states: list[State],
    active: Array,
) -> State:
    """Return the best element of the first stream for each start that is active, and the old one for the others.

    States have a leading axis for the starts.
    """

    def solved(active: Array, states: list[State]) -> State:
        found = _update(kinds, axes, one, other, states, active)
        return {name: jnp.where(active, leaf, states[0][name]) for name, leaf in found.items()}

    return jax.vmap(solved)(active, states)


@jax.custom_batching.custom_vmap
def _columns(cost: Array) -> Array:
    return assign(cost).columns


@_columns.def_vmap
def _columns_of_many(size: int, batched: list[bool], cost: Array) -> tuple[Array, bool]:
    """Solve assignments in turn on CPUs, where lockstep takes twice as long: 16 of n = 512 take .49 s, in turn .23."""
    in_lockstep = jax.vmap(lambda cost: assign(cost).columns)
    return jax.lax.platform_dependent(cost, cpu=lambda cost: jax.lax.map(_columns, cost), default=in_lockstep), True


@functools.partial(jax.jit, static_argnames=("kinds", "axes"))
def distance(kinds: tuple[Kind, ...], axes: tuple[Axis, ...], one: Array, other: Array, states: list[State]) -> Array:
    """Return the squared distance of a piece, for each restart."""
    return jax.vmap(lambda states: jnp.sum(jnp.square(one - moved(other, axes, states, kinds))))(states)


def _update(
    kinds: tuple[Kind, ...],
    axes: tuple[tuple[Axis, ...], ...],
    one: list[Array],
    other: list[Array],
    states: list[State],
    active: Array,
) -> State:
    kind = kinds[0]
    if kind.outer and not kind.places:
        return _outer(kinds, axes, one, other, states)
    S: dict[Side, Array] = {}
    N: dict[Side, Array] = {}
    H: dict[Side, Array] = {}
    K: dict[Side, Array] = {}
    for own, whole, b in zip(axes, one, other, strict=True):
        for axis in own:
            if axis.slot:
                continue
            inside = [x for x in own if axis.axis in x.places]
            rest = [x for x in own if x is not axis and x not in inside]
            a, moving = moved_back(whole, inside, states, kinds), moved(b, rest, states, kinds)
            side = (axis.strand, axis.dual)
            S[side] = S.get(side, 0) + _products(a, moving, axis)
            if kind.ordered:
                N[side] = N.get(side, 0) + _norms(moving, axis)
            else:
                H[side] = H.get(side, 0) + _products(moving, moving, axis)
                K[side] = K.get(side, 0) + _products(a, a, axis)
    # A start that has converged asks for an assignment that takes no time.
    S = {side: jnp.where(active, form, jnp.eye(kind.size, dtype=form.dtype)) for side, form in S.items()}
    flat = functools.partial(_flat, kind)
    if kind.ordered:
        return _unflat(kind, jax.vmap(lambda S, N: _ordered(kind, S, N))(flat(S, 2), flat(N, 1)))
    return _unflat(kind, jax.vmap(lambda S, H, K: _matrix(kind, S, H, K))(flat(S, 2), flat(H, 2), flat(K, 2)))


def _flat(kind: Kind, forms: dict[Side, Array], ndim: int) -> dict[Side, Array]:
    """Return forms with one axis for all places."""
    return {side: form.reshape(-1, *form.shape[form.ndim - ndim :]) for side, form in forms.items()}


def _unflat(kind: Kind, state: State) -> State:
    """Return a state with an axis for each of the places."""
    found = {}
    for name, leaf in state.items():
        leaf = leaf.reshape(*kind.places, *leaf.shape[1:])
        # Scales have the strands first.
        found[name] = jnp.moveaxis(leaf, len(kind.places), 0) if name == "scales" else leaf
    return found


def _products(a: Array, b: Array, axis: Axis) -> Array:
    """Return `A B^T`, with the arrays unfolded along an axis, at each of its places: shape (*places, n, n)."""
    left, right = list(range(a.ndim)), list(range(a.ndim))
    right[axis.axis] = a.ndim
    return jnp.einsum(a, left, b, right, [*axis.places, axis.axis, a.ndim], precision="highest")


def _norms(b: Array, axis: Axis) -> Array:
    letters = list(range(b.ndim))
    return jnp.einsum(b, letters, b, letters, [*axis.places, axis.axis], precision="highest")


# Orders with scales


def _ordered(kind: Kind, S: dict[Side, Array], N: dict[Side, Array]) -> State:
    sides = list(S)
    products, norms = jnp.stack([S[side] for side in sides]), jnp.stack([N[side] for side in sides])
    strands = np.array([strand for strand, _ in sides])
    turned = np.array([-1 if dual else 1 for _, dual in sides])
    exponents = turned[:, None] * _basis(kind.sizes)[strands]
    basis = jnp.asarray(_basis(kind.common_signs))

    def with_signs(odd: Array) -> tuple[Array, ...]:
        return _with_scales(kind, strands, products * _signs(odd[strands], products), norms, exponents)

    def step(i: Array, state: tuple[Array, tuple[Array, ...]]) -> tuple[Array, tuple[Array, ...]]:
        odd, found = state
        flipped = (odd + basis[:, i % basis.shape[1]]) % 2
        other = with_signs(flipped)
        better = other[0] < found[0]
        return jax.tree.map(lambda new, old: jnp.where(better, new, old), (flipped, other), (odd, found))

    # Signs of the whole stream, one after the other, twice: the assignment decides.
    none = jnp.zeros(len(kind.sizes), basis.dtype)
    state = (none, with_signs(none))
    odd, (_, order, logs, flips) = jax.lax.fori_loop(0, 2 * basis.shape[1], step, state) if basis.size else state
    flips = (flips + odd[None]) % 2
    logs = logs @ jnp.asarray(_basis(kind.sizes).T, logs.dtype)
    if _basis(kind.common_sizes).size:
        logs = logs + _common_logs(kind, strands, turned, products, norms, order, logs, flips)
    return {"order": order, "scales": (jnp.where(flips == 1, -1, 1) * jnp.exp(logs)).T}


def _signs(odd: Array, like: Array) -> Array:
    """Return 1 and -1 for whole numbers modulo 2, shape (sides, 1, 1)."""
    return jnp.where(odd == 1, -1, 1).astype(like.dtype)[:, None, None]


def _with_scales(
    kind: Kind, strands: np.ndarray, products: Array, norms: Array, exponents: np.ndarray
) -> tuple[Array, Array, Array, Array]:
    """Return the least distance, the order, the logarithms of the free scales, and the signs of the strands."""
    if not exponents.shape[1] and not any(kind.signs):
        return _with_orders(kind, products, norms)
    flips = _best_signs(products, _basis(kind.signs)[strands])
    odd = jnp.einsum("sk,kij->sij", jnp.asarray(_basis(kind.signs)), flips) % 2
    own = products * jnp.where(odd[strands] == 1, -1, 1)
    logs = _best_scales(own, norms, exponents)
    factors = _factors(exponents, logs)
    cost = jnp.sum(norms[:, None, :] * factors**2 - 2 * own * factors, axis=0)
    rows, order = jnp.arange(kind.size), _assigned(kind, cost)
    return cost[rows, order].sum(), order, logs[:, rows, order].T, odd[:, rows, order].T


def _with_orders(kind: Kind, products: Array, norms: Array) -> tuple[Array, Array, Array, Array]:
    """Return what `_with_scales` returns, where no scale and no sign is free."""
    cost = jnp.sum(norms, axis=0)[None, :] - 2 * jnp.sum(products, axis=0)
    rows, order = jnp.arange(kind.size), _assigned(kind, cost)
    no_logs, no_flips = jnp.zeros((kind.size, 0), products.dtype), jnp.zeros((kind.size, len(kind.signs)), int)
    return cost[rows, order].sum(), order, no_logs, no_flips


def _assigned(kind: Kind, cost: Array) -> Array:
    """Return the order of least cost, or that of a stream whose order must stay."""
    return _columns(cost) if kind.moves else jnp.arange(kind.size, dtype=jnp.int32)


def _basis(rows: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Return the basis of free charges that a `Kind` holds: whole numbers, shape (strands, free)."""
    return np.array(rows, int).reshape(len(rows), -1)


def _best_signs(products: Array, basis: np.ndarray) -> Array:
    """Return which free signs to flip for the largest sum of the products, for every pair: shape (free, n, n).

    One sign after the other, three times; with one free sign this is the best choice.
    """
    count = basis.shape[1]
    flips = jnp.zeros((count, *products.shape[1:]), int)
    if not count:
        return flips
    table = jnp.asarray(basis)

    def step(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        own, flips = state
        k = i % count
        touched = (table[:, k] % 2)[:, None, None]
        flip = jnp.sum(own * touched, axis=0) < 0
        return own * jnp.where((touched == 1) & flip[None], -1, 1), flips.at[k].set((flips[k] + flip) % 2)

    return jax.lax.fori_loop(0, 3 * count, step, (products, flips))[1]


def _factors(exponents: np.ndarray, logs: Array) -> Array:
    """Return the factor of each side: `e^x`, x = exponents @ t."""
    return jnp.exp(jnp.einsum("lk,k...->l...", jnp.asarray(exponents, logs.dtype), logs))


def _best_scales(products: Array, norms: Array, exponents: np.ndarray) -> Array:
    """Return t that minimises `sum_l N_l e^(2 x_l) - 2 S_l e^(x_l)`, x = exponents @ t, for every pair of positions.

    Newton's method, one scale after the other; the result has the shape (free scales, n, n).
    """
    count = exponents.shape[1]
    t = jnp.zeros((count, *products.shape[1:]), products.dtype)
    if not count:
        return t
    tiny = jnp.finfo(products.dtype).tiny
    table = jnp.asarray(exponents, products.dtype)

    def step(i: Array, t: Array) -> Array:
        k = i % count
        factors = _factors(exponents, t)
        power = table[:, k][:, None, None]
        square, linear = norms[:, None, :] * factors**2, products * factors
        slope = jnp.sum(2 * power * (square - linear), axis=0)
        bend = jnp.sum(power**2 * (4 * square - 2 * linear), axis=0)
        return t.at[k].add(-jnp.clip(slope / jnp.maximum(jnp.abs(bend), tiny), -1, 1))

    return jnp.clip(jax.lax.fori_loop(0, NEWTON_STEPS * count, step, t), -30, 30)


def _common_logs(
    kind: Kind,
    strands: np.ndarray,
    turned: np.ndarray,
    products: Array,
    norms: Array,
    order: Array,
    logs: Array,
    odd: Array,
) -> Array:
    """Return the logarithms of scales that are the same at all positions, by strand: shape (1, strands)."""
    rows = jnp.arange(kind.size)
    factors = (jnp.exp(logs[:, strands] * turned[None]) * jnp.where(odd[:, strands] == 1, -1, 1)).T
    S = jnp.sum(products[:, rows, order] * factors, axis=1)[:, None, None]
    N = jnp.sum(norms[:, order] * factors**2, axis=1)[:, None]
    basis = _basis(kind.common_sizes)
    best = _best_scales(S, N, turned[:, None] * basis[strands])[:, 0, 0]
    return (best @ jnp.asarray(basis.T, logs.dtype))[None]


# Matrices


def _matrix(kind: Kind, S: dict[Side, Array], H: dict[Side, Array], K: dict[Side, Array]) -> State:
    total = functools.reduce(jnp.add, S.values())
    turned = _polar(kind, total)
    if kind.orthogonal or kind.ones:
        return {"matrix": turned, "dual": turned}
    zero = jnp.zeros_like(total)
    left = sum((form for (_, dual), form in K.items() if dual), zero)
    right = sum((form for (_, dual), form in H.items() if not dual), zero)
    # Where the pieces say nothing, g is the orthogonal matrix.
    ridge = 100 * jnp.finfo(total.dtype).eps * (jnp.trace(left) + jnp.trace(right))
    free = _sylvester(left, right, total + ridge * turned, ridge)
    singular = decompositions.singular_values(free)
    sound = singular[-1] * WORST_CONDITION > singular[0]
    inverse = decompositions.inverse(jnp.where(sound, free, turned)).T

    def cost(matrix: Array, dual: Array) -> Array:
        found = jnp.zeros((), total.dtype)
        for side, form in S.items():
            acting = dual if side[1] else matrix
            found += jnp.sum(matmul(acting, H[side]) * acting) - 2 * jnp.sum(form * acting)
        return found

    better = sound & (cost(free, inverse) < cost(turned, turned))
    return {"matrix": jnp.where(better, free, turned), "dual": jnp.where(better, inverse, turned)}


def _polar(kind: Kind, total: Array) -> Array:
    """Return the orthogonal matrix g of largest `<g, total>`; where it must, it keeps the ones vector, or its line."""
    if not kind.ones:
        left, _, right = decompositions.svd(total)
        return matmul(left, right)
    n = kind.size
    mean = jnp.full((n, n), 1 / n, total.dtype)
    centre = jnp.eye(n, dtype=total.dtype) - mean
    sign = jnp.where((kind.ones < 0) & (total.sum() < 0), -1, 1)
    left, _, right = decompositions.svd(matmul(matmul(centre, total), centre) + _weight(total) * mean)
    return matmul(matmul(matmul(centre, left), right), centre) + sign * mean


def _weight(total: Array) -> Array:
    """Return a number of the size of a matrix, so that the vector of ones is a singular vector of its own."""
    return jnp.sqrt(jnp.sum(total**2)) + jnp.finfo(total.dtype).tiny


def _sylvester(left: Array, right: Array, total: Array, ridge: Array) -> Array:
    """Solve `left g + g right + ridge g = total` for positive semidefinite matrices."""
    one, U = decompositions.eigh(left)
    two, V = decompositions.eigh(right)
    weights = jnp.maximum(one, 0)[:, None] + jnp.maximum(two, 0)[None, :] + ridge
    inner = matmul(matmul(U.T, total), V)
    return matmul(matmul(U, inner / jnp.maximum(weights, jnp.finfo(total.dtype).tiny)), V.T)


# Streams at whose positions others have an element: heads, groups


def _outer(
    kinds: tuple[Kind, ...],
    axes: tuple[tuple[Axis, ...], ...],
    one: list[Array],
    other: list[Array],
    states: list[State],
) -> State:
    """Return the order of heads for which the heads' own elements could do best: these are looked for pair by pair."""
    n = kinds[0].size
    alone: Array | float = 0.0
    inner: dict[int, Array] = {}
    for own, a, b in zip(axes, one, other, strict=True):
        for axis in own:
            if axis.slot:
                continue
            inside = [x for x in own if axis.axis in x.places]
            if not inside:
                moving = moved(b, [x for x in own if x is not axis], states, kinds)
                alone = alone + _products(a, moving, axis)
                continue
            last = max(inside, key=lambda x: (kinds[x.slot].size, not kinds[x.slot].ordered))
            rest = [x for x in own if x is not axis and x not in inside]
            moving = moved(b, rest, states, kinds)
            left, right = list(range(a.ndim)), list(range(a.ndim))
            right[axis.axis], right[last.axis] = a.ndim, a.ndim + 1
            wanted = [axis.axis, a.ndim, last.axis, a.ndim + 1]
            pair = jnp.einsum(a, left, moving, right, wanted, precision="highest")
            inner[last.slot] = inner.get(last.slot, 0) + pair
    score = alone + jnp.zeros((n, n))
    for slot, forms in inner.items():
        flat = forms.reshape(n * n, *forms.shape[2:])
        score = score + jax.vmap(functools.partial(_best_inner, kinds[slot]))(flat).reshape(n, n)
    order = assign(-score).columns
    return {"order": order, "scales": states[0]["scales"]}


def _best_inner(kind: Kind, form: Array) -> Array:
    """Return the largest `<g, form>` of the group of an inner stream."""
    if not kind.ordered:
        return decompositions.singular_values(form).sum()
    sizes = jnp.abs(form) if np.shape(kind.signs)[1:] != (0,) else form
    columns = assign(-sizes).columns
    return sizes[jnp.arange(kind.size), columns].sum()
