"""Matrix products in full precision, wherever they run."""

import jax
import jax.numpy as jnp
from jaxtyping import Array


def matmul(a: Array, b: Array) -> Array:
    """`a @ b` in the precision of its type.

    Accelerators multiply float32 in TF32 or bfloat16 passes otherwise, three digits short of orthogonality, and one
    network's signals would differ between machines.

    >>> matmul(jnp.eye(2), jnp.ones((2, 1))).tolist()
    [[1.0], [1.0]]
    """
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
