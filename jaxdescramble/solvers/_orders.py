"""Orders of neurons: the order in which neighbours are most alike, and the line with the shortest links."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul


def chain(affinity: Float[Array, "r r"]) -> Int[Array, " r"]:
    """Return the order in which neighbours are most alike: join the best pairs first, then reverse stretches."""
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
    """Improve an order by 2-opt: reverse a stretch i ... j as long as its ends then fit their new neighbours better."""
    r, places = len(order), jnp.arange(len(order))
    padded = jnp.pad(affinity, (0, 1))  # the extra entry is an absent neighbour, at both ends

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


def line(W: Float[Array, "n n"]) -> Int[Array, " n"]:
    """Return the order of least `sum_ij W_ij (x_i - x_j)^2`: start from Fiedler's, then exchange while it gains."""
    n = len(W)
    degrees = jnp.sum(W, axis=1)
    _, vectors = decompositions.eigh(jnp.diag(degrees) - W)
    x = jnp.argsort(jnp.argsort(vectors[:, min(1, n - 1)])).astype(W.dtype) - (n - 1) / 2

    def best(x: Array) -> tuple[Array, Array]:
        # The cost of each item at the place of every other item, while all the others stay.
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
