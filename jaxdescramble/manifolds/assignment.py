"""Linear assignment: give each row a column of its own at the least total cost. It is the projection onto S(n).

The code finds shortest augmenting paths in `lax` loops, because the alternatives were slower or unsafe. On one core,
for eight problems of n = 50 at once, it takes 6 to 12 ms; an auction with scaled steps takes 250 to 740 ms. A
`pure_callback` to SciPy takes 2 ms, but on a machine with one core the callback waits forever for the thread that runs
it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Matching(NamedTuple):
    """An assignment, and the proof that no other is cheaper.

    Attributes:
        columns: the column of each row.
        rows: u, the dual value of each row.
        prices: v, the dual value of each column. `u_i + v_j <= c_ij` for all i and j, with equality on the assignment;
            therefore `sum_i u_i + sum_j v_j` is the least cost.
    """

    columns: Int[Array, " n"]
    rows: Float[Array, " n"]
    prices: Float[Array, " n"]


def assign(cost: Float[Array, "n n"], prices: Float[Array, " n"] | None = None) -> Matching:
    """Return the permutation of least cost, `argmin_p sum_i c_(i p(i))`, in O(n^3); works under jit and vmap.

    Args:
        cost: c, shape (n, n). If any entry is not finite, the result is some permutation.
        prices: v of a similar problem; starting from it saves most of the work.

    >>> found = assign(jnp.asarray([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]]))
    >>> found.columns.tolist(), float(found.rows.sum() + found.prices.sum())
    ([1, 0, 2], 5.0)

    Source: Crouse, IEEE Trans. Aerosp. Electron. Syst. 52 (2016) 1679; Jonker, Volgenant, Computing 38 (1987) 325.
    """
    cost = jnp.where(jnp.isfinite(cost).all(), cost, 0)
    prices = jnp.min(cost, axis=0) if prices is None else jnp.where(jnp.isfinite(prices).all(), prices, 0)
    n = len(cost)
    places = jnp.arange(n, dtype=jnp.int32)
    reduced = cost - prices[None, :]
    rows, wanted = jnp.min(reduced, axis=1), jnp.argmin(reduced, axis=1).astype(jnp.int32)
    # A column goes to the first of the rows that want it; the other rows stay free, -1.
    first = jnp.full(n, n, jnp.int32).at[wanted].min(places)
    owners = jnp.where(first < n, first, -1)
    columns = jnp.where(first[wanted] == places, wanted, -1)

    def augment(state: tuple) -> tuple:
        rows, prices, owners, columns = state
        # vmap also runs this step for finished problems: their searches must end at once.
        done = jnp.all(columns >= 0)
        root = jnp.argmin(columns >= 0).astype(jnp.int32)

        def grow(tree: tuple) -> tuple:
            row, low, distance, inside, parents, _, _ = tree
            through = low - rows[row] + cost[row] - prices
            shorter = (through < distance) & ~inside
            distance, parents = jnp.where(shorter, through, distance), jnp.where(shorter, row, parents)
            column = jnp.argmin(jnp.where(inside, jnp.inf, distance)).astype(jnp.int32)
            inside = inside | (places == column)
            return owners[column], distance[column], distance, inside, parents, column, owners[column] < 0

        far, none = jnp.full(n, jnp.inf, cost.dtype), jnp.zeros(n, bool)
        tree = (root, jnp.zeros((), cost.dtype), far, none, jnp.full(n, root), root, done)
        _, low, distance, inside, parents, sink, _ = jax.lax.while_loop(lambda tree: ~tree[6], grow, tree)
        shift = jnp.where(inside, low - distance, 0)
        raised = rows + jnp.where(columns >= 0, shift[columns], 0) + jnp.where(places == root, low, 0)

        def switch(walk: tuple) -> tuple:
            column, owners, columns, _ = walk
            row = parents[column]
            return columns[row], owners.at[column].set(row), columns.at[row].set(column), row == root

        _, owners, columns, _ = jax.lax.while_loop(lambda walk: ~walk[3], switch, (sink, owners, columns, done))
        return raised, prices - shift, owners, columns

    state = (rows, prices, owners, columns)
    rows, prices, _, columns = jax.lax.while_loop(lambda state: jnp.any(state[3] < 0), augment, state)
    return Matching(columns, rows, prices)
