"""Matrix products in full precision on every device, adjoints, and complex numbers as pairs of real ones."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Inexact, Shaped

from jaxdescramble._base.programs import fused


def matmul(a: Array, b: Array) -> Array:
    """Return `a @ b` in the precision of its type.

    By default, accelerators multiply float32 in TF32 or bfloat16 passes. This loses three digits of orthogonality, and
    the signals of one network would differ between machines.

    >>> matmul(jnp.eye(2), jnp.ones((2, 1))).tolist()
    [[1.0], [1.0]]
    """
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


@fused
def adjoint(a: Shaped[Array, "*batch n k"]) -> Shaped[Array, "*batch k n"]:
    """Return the transpose of a real matrix, the conjugate transpose of a complex one; leading axes are batches.

    >>> adjoint(jnp.asarray([[1j, 2.0]])).tolist()
    [[-1j], [(2-0j)]]
    """
    turned = jnp.swapaxes(a, -1, -2)
    return jnp.conj(turned) if is_complex(a) else turned


def is_complex(a: Array | jax.ShapeDtypeStruct) -> bool:
    """Return whether an array holds complex numbers, or would hold them.

    >>> is_complex(jnp.ones(2))
    False
    """
    return bool(jnp.issubdtype(a.dtype, jnp.complexfloating))


def real_type(dtype: DTypeLike) -> np.dtype:
    """Return the type of the real part of a floating or complex type.

    >>> real_type("complex64").name, real_type("float32").name
    ('float32', 'float32')
    """
    return jnp.finfo(dtype).dtype


def complex_type(dtype: DTypeLike) -> np.dtype:
    """Return the complex type whose parts have this type.

    >>> complex_type("float32").name
    'complex64'
    """
    return np.dtype(jnp.result_type(dtype, jnp.complex64))


def as_real(a: Array) -> Array:
    """Return a complex array as a real one with a leading axis of 2; return a real array as it is.

    >>> as_real(jnp.asarray([1 + 2j])).tolist()
    [[1.0], [2.0]]
    """
    return jnp.stack([a.real, a.imag]) if is_complex(a) else a


def as_like(a: Array, like: Array) -> Array:
    """Return an array made by `as_real` in the form of `like`: complex if `like` is complex.

    >>> as_like(jnp.asarray([[1.0], [2.0]]), jnp.asarray([0j])).tolist()
    [(1+2j)]
    """
    return jax.lax.complex(a[0], a[1]) if is_complex(like) else a


@fused
def inner(a: Array, b: Array) -> Float[Array, ""]:
    """Return the real inner product `<A, B> = Re tr(A^H B)` of two arrays of one shape.

    >>> float(inner(jnp.ones((2, 2)), jnp.eye(2)))
    2.0
    """
    return jnp.vdot(a, b, precision=jax.lax.Precision.HIGHEST).real


@fused
def squared(a: Inexact[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the square of each real entry, or of the absolute value of each complex one.

    >>> squared(jnp.asarray([3 + 4j])).tolist(), squared(jnp.asarray([2.0])).tolist()
    ([25.0], [4.0])
    """
    return a.real**2 + a.imag**2 if is_complex(a) else a**2


@fused
def square_sum(a: Inexact[Array, "*shape"]) -> Float[Array, ""]:
    """Return the sum of the squared absolute values of all entries.

    >>> float(square_sum(jnp.asarray([3.0, 4.0])))
    25.0
    """
    return jnp.sum(squared(a))
