"""Matrix products in full precision on every device."""

import jax
import jax.numpy as jnp
from jaxtyping import Array


def matmul(a: Array, b: Array) -> Array:
    """Return `a @ b` in the precision of its type.

    By default, accelerators multiply float32 in TF32 or bfloat16 passes. This loses three digits of orthogonality, and
    the signals of one network would differ between machines.

    >>> matmul(jnp.eye(2), jnp.ones((2, 1))).tolist()
    [[1.0], [1.0]]
    """
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
