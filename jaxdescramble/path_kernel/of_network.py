"""The gates of a ReLU network that somebody else wrote, as path kernels take them."""

from collections.abc import Mapping

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from jaxdescramble.checks import is_traced

WINNER = " winner"


def open_gates(pieces: Mapping[str, ArrayLike]) -> list[Int[Array, "batch *units"]]:
    """Gate patterns of a ReLU network as a list, 1 where a gate is open, in the order of computation.

    With them the path kernel of a trained network of any framework is
    `dense(x, x, gates, gates)`, `gates = open_gates(switched.gates(f, params, x))`.

    Args:
        pieces: what `switched.gates` gives: by layer, (batch, width), or (batch, *space, channels), channels last.

    Returns:
        int8 arrays of the same shapes.

    Raises:
        ValueError: gates that are not those of a ReLU: maxima, which choose, or more than two pieces; no gates.

    >>> from jaxdescramble import switched
    >>> f = lambda W, x: jax.nn.relu(x @ W)
    >>> [gate.tolist() for gate in open_gates(switched.gates(f, jnp.eye(2), jnp.asarray([[1.0, -1.0]])))]
    [[[1, 0]]]

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529): a ReLU network's kernel at a stage of its training.
    """
    if not pieces:
        raise ValueError("pieces: there are no gates; of a linear network the kernel is that of its inputs.")
    for name, piece in pieces.items():
        if name.endswith(WINNER):
            raise ValueError(
                f"pieces: {name!r} chooses among neurons (a maximum, a max-pool), and paths go through gates alone. "
                "Take average pools."
            )
        if not is_traced(piece) and int(jnp.max(jnp.asarray(piece))) > 1:
            raise ValueError(
                f"pieces: {name!r} has pieces up to {int(jnp.max(jnp.asarray(piece)))}; a ReLU has 0 and 1. Of other "
                "gates give the slopes."
            )
    return [jnp.asarray(piece, jnp.int8) for piece in pieces.values()]
