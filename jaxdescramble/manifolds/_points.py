"""Points in the form that manifolds take: types, shapes, and distance from the manifold."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base.checks import is_traced, numbers
from jaxdescramble._base.products import adjoint, complex_type, is_complex, matmul
from jaxdescramble._base.programs import fused


def like_point(value: Any, point: Any, name: str) -> Any:
    """Return an array, or a pytree of arrays, of the shapes and types of a point.

    Raises:
        TypeError: if the structure differs or complex numbers meet a real point.
        ValueError: if a shape differs.

    >>> like_point([1, 2], jnp.zeros(2), "vector").tolist()
    [1.0, 2.0]
    """
    if isinstance(point, Array):
        array = numbers(value, name)
        if array.shape != point.shape:
            raise ValueError(f"{name}: got shape {array.shape}; must have the shape of the point, {point.shape}.")
        if is_complex(array) and not is_complex(point):
            raise TypeError(f"{name}: got complex numbers ({array.dtype}) for a point of {point.dtype}.")
        return array.astype(point.dtype)
    leaves, structure = jax.tree.flatten(point)
    try:
        given = structure.flatten_up_to(value)
    except (ValueError, TypeError) as error:
        raise TypeError(
            f"{name}: got the structure {jax.tree.structure(value)}; must have that of the point, {structure}."
        ) from error
    return structure.unflatten([like_point(one, leaf, name) for one, leaf in zip(given, leaves, strict=True)])


def check_near(defect: Any, point: Array, name: str, cure: str) -> None:
    """Raise `ValueError` if a concrete point lies off its manifold by more than 1e-2.

    Args:
        defect: function of a NumPy array that returns how far it is off.
        point: the point.
        name: name of the argument, for the message.
        cure: what was measured, and what to do.
    """
    if is_traced(point):
        return
    # Use NumPy: inside a user's jit, jnp would trace this test and give no answer.
    with np.errstate(all="ignore"):  # NaN must fail the test below
        off = defect(np.asarray(point))
    if not off <= 1e-2:
        raise ValueError(f"{name}: got {cure.format(off=f'{off:.3g}', name=name)}")


NOT_ORTHOGONAL = "||P^T P - 1|| = {off}; must be orthogonal. Use manifolds.orthogonal.polar({name})[0]."
"""What was measured of a matrix that is not orthogonal, and what to do; see `check_near`."""


def orthonormality(host: np.ndarray) -> float:
    """Return `||X^H X - 1||_F` of a NumPy array, the largest one of a batch.

    >>> float(orthonormality(np.eye(3)))
    0.0
    """
    gram = np.swapaxes(host, -1, -2).conj() @ host
    return np.linalg.norm(gram - np.eye(host.shape[-1]), axis=(-2, -1)).max()


@fused
def orthonormal_defect(point: Inexact[Array, "*batch n p"]) -> Float[Array, "*batch"]:
    """Return `||X^H X - 1||_F`.

    >>> float(orthonormal_defect(jnp.eye(3)))
    0.0
    """
    gram = matmul(adjoint(point), point)
    eye = jnp.broadcast_to(jnp.eye(point.shape[-1], dtype=point.dtype), gram.shape)
    return jnp.linalg.norm(gram - eye, axis=(-2, -1))


def numbers_of(value: Any, name: str, complex_numbers: bool | None, manifold: str) -> Array:
    """Return a point as an array of the types of a manifold; real numbers become complex where these are needed.

    Raises:
        TypeError: if the value is not made of numbers, or has the wrong type.

    >>> numbers_of(np.eye(2, dtype=np.float32), "point", True, "U(n)").dtype.name
    'complex64'
    """
    array = numbers(value, name)
    typed(array, name, complex_numbers, manifold)
    if complex_numbers and not is_complex(array):
        return array.astype(complex_type(array.dtype))
    return array


def typed(like: Any, name: str, complex_numbers: bool | None, manifold: str) -> None:
    """Raise `TypeError` for a type that a manifold does not have; None allows real and complex numbers."""
    if complex_numbers is False and jnp.issubdtype(like.dtype, jnp.complexfloating):
        raise TypeError(
            f"{name}: got complex numbers ({like.dtype}); a point of {manifold} is real. Use manifolds.Unitary() for "
            "square matrices, manifolds.Stiefel() or manifolds.Grassmann() for others, manifolds.Euclidean() for free "
            "numbers."
        )
    if like.dtype in (jnp.float16, jnp.bfloat16) or not jnp.issubdtype(like.dtype, jnp.inexact):
        coarse = " is too coarse for manifolds" if like.dtype in (jnp.float16, jnp.bfloat16) else ""
        raise TypeError(f"{name}: got {like.dtype}{coarse}; convert to a floating type with .astype(jnp.float32).")
