"""Local search for a quadratic assignment: exchanges with a tabu list, reversed or moved stretches, kicks.

One step of each costs O(n^2) in vector operations and needs no matrix product, so a batch of searches can advance in
step.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxdescramble.manifolds import permutation


def tabu(
    a: Float[Array, "n n"],
    b: Float[Array, "n n"],
    p: Int[Array, " n"],
    tenures: Int[Array, " steps"],
    least: Float[Array, ""],
    symmetric: bool,
) -> Int[Array, " n"]:
    """Return the best permutation on a walk that always makes the best allowed exchange, even uphill.

    After an exchange, the same exchange is forbidden for a while, unless it leads below the best value so far. With
    `G = A C^T + A^T C` and `c_ij = b_(p(i) p(j))`, an exchange of u and v changes G into `(G + x y^T + x' y'^T) Pi`. Pi
    exchanges columns u and v, `x_i = a_iu - a_iv`, `y_j = c_jv - c_ju`, and x', y' are the same for the transposes. The
    gains of other pairs change by `-(x_i - x_j) (y_i - y_j)`, and the same for x', y'. G gives the gains of u and v.

    Args:
        a: matrix A.
        b: matrix B.
        p: first permutation.
        tenures: for each step, the number of steps for which its exchange is then forbidden.
        least: smallest decrease that counts as a gain.
        symmetric: whether both matrices are symmetric, which saves half the work.

    >>> a = jnp.asarray([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> b = jnp.asarray([[0.0, 1.0, 1.0], [1.0, 0.0, 5.0], [1.0, 5.0, 0.0]])
    >>> tabu(a, b, jnp.asarray([0, 1, 2]), jnp.full(5, 2), jnp.asarray(1e-6), True)[1].item()  # the hub costs least
    0

    Source: Taillard, Parallel Computing 17 (1991) 443; pairs as attributes: Skorin-Kapov, ORSA J. Comput. 2 (1990) 33.
    """
    n = len(a)
    places = jnp.arange(n, dtype=jnp.int32)
    across = jnp.broadcast_to(places[None, :], (n, n))
    down = across.T
    own_a, own_b = jnp.diagonal(a), jnp.diagonal(b)
    c = b[p][:, p]
    value = jnp.sum(a * c)

    def allowed(gains: Array, until: Array, k: Array, value: Array, best: Array) -> Bool[Array, "*any"]:
        return (until <= k) | (value + gains < best - least)

    def changed(G: Array, gains: Array, x: Array, y: Array) -> tuple[Array, Array]:
        moved = (x[:, None] - x[None, :]) * (y[:, None] - y[None, :])
        return G + x[:, None] * y[None, :], gains - moved

    def step(k: Array, state: tuple) -> tuple:
        p, G, gains, until, value, best, best_p = state
        open_to = allowed(gains, until, k, value, best) & (across != down)
        v = jnp.argmin(jnp.min(jnp.where(open_to, gains, jnp.inf), axis=0)).astype(jnp.int32)
        open_to = allowed(gains[v], until[v], k, value, best) & (places != v)
        u = jnp.argmin(jnp.where(open_to, gains[v], jnp.inf)).astype(jnp.int32)
        value = value + gains[u, v]
        at_u, at_v = p[u], p[v]
        y = (b[:, at_v] - b[:, at_u])[p]
        G, gains = changed(G, gains, a[:, u] - a[:, v], 2 * y if symmetric else y)
        if not symmetric:
            G, gains = changed(G, gains, a[u] - a[v], (b[at_v] - b[at_u])[p])
        G_u, G_v = G[:, u], G[:, v]
        G = jnp.where(across == u, G_v[:, None], jnp.where(across == v, G_u[:, None], G))
        p = jnp.where(places == u, at_v, jnp.where(places == v, at_u, p))
        diagonal, own_c = jnp.diagonal(G), own_b[p]

        def fresh(w: Array) -> Array:
            corner_a = own_a[w] + own_a - a[w] - a[:, w]
            corner_c = own_c[w] + own_c - (b[p[w]] + b[:, p[w]])[p]
            return G[w] + G[:, w] - diagonal - diagonal[w] + corner_a * corner_c

        at, of = fresh(u), fresh(v)
        gains = jnp.where(down == u, at[None, :], jnp.where(down == v, of[None, :], gains))
        gains = jnp.where(across == u, at[:, None], jnp.where(across == v, of[:, None], gains))
        here = ((down == u) & (across == v)) | ((down == v) & (across == u))
        until = jnp.where(here, (k + tenures[k]).astype(jnp.int32), until)
        fell = value < best - least
        return p, G, gains, until, value, jnp.minimum(value, best), jnp.where(fell, p, best_p)

    gains = permutation.exchange_gains(a, b, p)
    state = (p, permutation.gradient(a, c), gains, jnp.zeros((n, n), jnp.int32), value, value, p)
    return jax.lax.fori_loop(0, len(tenures), step, state)[6]


def descend(
    a: Float[Array, "n n"], b: Float[Array, "n n"], p: Int[Array, " n"], least: Float[Array, ""]
) -> tuple[Int[Array, " n"], Int[Array, ""], Bool[Array, ""]]:
    """Make the best exchange while one gains; return the permutation, the number of exchanges, and whether it ended.

    >>> a = jnp.asarray([[0.0, 1.0], [0.0, 0.0]])
    >>> descend(a, jnp.asarray([[0.0, 3.0], [2.0, 0.0]]), jnp.asarray([0, 1]), jnp.asarray(1e-6))[0].tolist()
    [1, 0]
    """
    n = len(p)

    def exchange(state: tuple) -> tuple:
        p, gains, k = state
        u, v = jnp.divmod(jnp.argmin(gains), n)
        p = p.at[u].set(p[v]).at[v].set(p[u])
        return p, permutation.exchange_gains(a, b, p), k + 1

    state = (p, permutation.exchange_gains(a, b, p), jnp.zeros((), jnp.int32))
    going = lambda state: (jnp.min(state[1]) < -least) & (state[2] < 10 * n)  # noqa: E731
    p, gains, k = jax.lax.while_loop(going, exchange, state)
    return p, k, jnp.min(gains) >= -least


def reversals(
    a: Float[Array, "n n"], c: Float[Array, "n n"], centre: Int[Array, ""], symmetric: bool
) -> tuple[Float[Array, " m"], Int[Array, " m"], Int[Array, " m"]]:
    """Return the change from reversing a stretch i ... j, for all stretches of one centre `i + j`; inf for no stretch.

    To reverse a longer stretch is to reverse a shorter one and exchange the two ends. So the changes are running sums
    of changes from exchanges, computed with the inside already reversed.

    Returns:
        Changes, first entries i, last entries j; the shortest stretch comes first.

    >>> line = jnp.abs(jnp.arange(4.0)[:, None] - jnp.arange(4.0)[None, :])
    >>> reversals(jnp.diag(jnp.ones(3), 1), line, jnp.asarray(3), False)[0].tolist()  # 0213, 3210
    [2.0, 0.0]
    """
    n = len(a)
    places = jnp.arange(n)
    middle = (centre - 1) // 2
    i = middle - jnp.arange(n // 2)
    j = centre - i
    real = (i >= 0) & (j < n)
    inside = (places[None, :] > i[:, None]) & (places[None, :] < j[:, None])

    def ends(m: Array) -> Array:
        return _shifted(m[::-1], n - 1 - middle, 0)[: n // 2] - _shifted(m, centre - middle, 0)[: n // 2]

    def turned(a: Array, c: Array) -> Array:
        between = -ends(c)
        return jnp.sum(ends(a) * jnp.where(inside, _shifted(between[:, ::-1], n - 1 - centre, 1), between), axis=1)

    change = 2 * turned(a, c) if symmetric else turned(a, c) + turned(a.T, c.T)
    i_real, j_real = jnp.where(real, i, 0), jnp.where(real, j, 0)
    change = change + (permutation.corners(a) * permutation.corners(c))[i_real, j_real]
    return jnp.where(real, jnp.cumsum(jnp.where(real, change, 0)), jnp.inf), i, j


def insertions(
    a: Float[Array, "n n"], c: Float[Array, "n n"], i: Int[Array, ""], symmetric: bool
) -> Float[Array, " m"]:
    """Return the change from moving the entry at i to each of the places i + 1, i + 2, ...; inf beyond the end.

    >>> line = jnp.abs(jnp.arange(4.0)[:, None] - jnp.arange(4.0)[None, :])
    >>> insertions(jnp.diag(jnp.ones(3), 1), line, jnp.asarray(1), False).tolist()  # 0213, 0231
    [2.0, 2.0, inf]
    """
    n = len(a)
    places = jnp.arange(n)
    u = i + jnp.arange(n - 1)
    real = u + 1 < n
    passed, here = (places[None, :] >= i) & (places[None, :] < u[:, None]), places[None, :] == u[:, None]

    def stepped(a: Array, c: Array) -> Array:
        between = _shifted(c, i + 1, 0)[:-1] - c[i][None, :]
        between = jnp.where(passed, _shifted(between, 1, 1), jnp.where(here, between[:, i][:, None], between))
        return jnp.sum((_shifted(a, i, 0) - _shifted(a, i + 1, 0))[:-1] * between, axis=1)

    change = 2 * stepped(a, c) if symmetric else stepped(a, c) + stepped(a.T, c.T)
    u_real, v_real = jnp.where(real, u, 0), jnp.where(real, u + 1, 0)
    change = change + permutation.corners(a)[u_real, v_real] * permutation.corners(c)[i, v_real]
    return jnp.where(real, jnp.cumsum(jnp.where(real, change, 0)), jnp.inf)


def straighten(
    a: Float[Array, "n n"],
    b: Float[Array, "n n"],
    p: Int[Array, " n"],
    places_to_try: Int[Array, "steps 2"],
    least: Float[Array, ""],
    symmetric: bool,
) -> Int[Array, " n"]:
    """Reverse stretches and move single entries where that gains most. On a line, exchanges alone do this badly.

    Args:
        a: matrix A.
        b: matrix B.
        p: first permutation.
        places_to_try: for each step, a centre for `reversals` and a place for `insertions`.
        least: smallest decrease that counts as a gain.
        symmetric: whether both matrices are symmetric.

    >>> line = jnp.diag(jnp.ones(5), 1)
    >>> far = jnp.abs(jnp.arange(6.0)[:, None] - jnp.arange(6.0)[None, :])
    >>> try_all = jnp.stack([jnp.arange(1, 10), jnp.arange(9) % 5], axis=1)
    >>> straighten(line, far, jnp.asarray([3, 2, 1, 0, 4, 5]), try_all, jnp.asarray(1e-6), False).tolist()
    [0, 1, 2, 3, 4, 5]

    Source: Lin, Bell Syst. Tech. J. 44 (1965) 2245 (reversals); Or, thesis, Northwestern University (1976) (moves).
    """
    places = jnp.arange(len(a), dtype=jnp.int32)
    mirrored = a[::-1, ::-1]

    def moved(a: Array, p: Array, i: Array) -> Array:
        change = insertions(a, b[p][:, p], i, symmetric)
        at = jnp.argmin(change)
        end = i + at + 1
        order = jnp.where((places >= i) & (places < end), places + 1, jnp.where(places == end, i, places))
        return jnp.where(change[at] < -least, p[order], p)

    def step(p: Array, tried: Array) -> tuple[Array, None]:
        change, i, j = reversals(a, b[p][:, p], tried[0], symmetric)
        at = jnp.argmin(change)
        turned = p[jnp.where((places >= i[at]) & (places <= j[at]), tried[0] - places, places)]
        p = moved(a, jnp.where(change[at] < -least, turned, p), tried[1])
        return moved(mirrored, p[::-1], tried[1])[::-1], None

    return jax.lax.scan(step, p, places_to_try)[0]


def kick(key: PRNGKeyArray, p: Int[Array, " n"]) -> Int[Array, " n"]:
    """Disturb a permutation: rotate up to two fifths of its entries in a ring, or exchange two neighbouring stretches.

    >>> sorted(kick(jax.random.key(0), jnp.arange(6)).tolist())
    [0, 1, 2, 3, 4, 5]

    Source: Martin, Otto, Felten, Complex Systems 5 (1991) 299 (the double bridge); Stuetzle, Eur. J. Oper. Res. 174
    (2006) 1519 (rings).
    """
    n = len(p)
    # Draw all numbers at once: each call of a generator takes a third of a second to compile.
    chance = jax.random.uniform(key, (n + 2,))
    places = jnp.arange(n, dtype=jnp.int32)
    order = jnp.argsort(chance[:n]).astype(jnp.int32)
    length = 2 + jnp.floor(chance[n] * max(2, 2 * n // 5 - 1)).astype(jnp.int32)
    following = jnp.where(places + 1 < length, jnp.roll(order, -1), jnp.where(places < length, order[0], order))
    ring = places.at[order].set(following)
    if n < 3:
        return p[ring]
    first, second, third = jnp.sort(order[:3])
    border = first + third - second
    after = jnp.where(places <= border, places + second - first, places - border + first - 1)
    bridge = jnp.where((places >= first) & (places <= third), after, places)
    return p[jnp.where(chance[n + 1] < 0.5, ring, bridge)]


def _shifted(m: Float[Array, "n m"], by: Int[Array, ""] | int, axis: int) -> Float[Array, "n m"]:
    """Shift an axis so that entry k + by moves to place k; fill with zeros."""
    n = m.shape[axis]
    padded = jnp.pad(m, [(n, n) if this == axis else (0, 0) for this in range(2)])
    return jax.lax.dynamic_slice_in_dim(padded, n + by, n, axis)
