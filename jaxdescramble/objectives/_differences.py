"""Differences between neighbours on a grid, and their properties in closed form."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base import transforms


@dataclasses.dataclass(frozen=True)
class Differences:
    """The operator D that takes differences of neighbours along every axis of a grid. Two such values can be compared.

    Attributes:
        sizes, ends: sizes and boundaries of the axes.
        order: order of the differences.
        isotropic: whether the differences of all axes at one point form a gradient.

    >>> on_a_line(3)(jnp.asarray([[1.0], [4.0], [9.0]])).tolist()
    [[[3.0], [5.0]]]
    """

    sizes: tuple[int, ...]
    ends: tuple[str, ...]
    order: int = 1
    isotropic: bool = False

    def __call__(self, Y: Inexact[Array, "n m"]) -> Inexact[Array, "axes k m"]:
        """Return `D Y`, shape (parts, K, samples): K numbers per sample (1 part), or K gradients (1 part per axis)."""
        parts = []
        for axis, end in enumerate(self.ends):
            d = Y.reshape((*self.sizes, Y.shape[1]))
            if end == "neumann":
                d = jnp.diff(d, self.order, axis=axis)
                # A gradient needs all its parts at every point. At the end of an axis the slope is zero.
                missing = self.sizes[axis] - d.shape[axis] if self.isotropic else 0
                d = jnp.pad(d, [(0, missing if i == axis else 0) for i in range(d.ndim)])
            else:
                for _ in range(self.order):
                    d = jnp.roll(d, -1, axis) - d
            parts.append(d.reshape((math.prod(d.shape[:-1]), Y.shape[1])))
        return jnp.stack(parts) if self.isotropic else jnp.concatenate(parts)[None]

    def of_product(
        self, point: Inexact[Array, "n features"], times_signals: Callable[[Array], Array]
    ) -> Inexact[Array, "axes k m"]:
        """Return `D (P S)`. On a line this is `(D P) S`, so that no differences of large arrays are taken.

        Args:
            point: P.
            times_signals: the function `M -> M S`.

        >>> on_a_line(2).of_product(jnp.eye(2), lambda M: M @ jnp.asarray([[1.0], [4.0]])).tolist()
        [[[3.0]]]
        """
        # On a grid, D has twice as many rows as P.
        return times_signals(self(point)[0])[None] if len(self.sizes) == 1 else self(times_signals(point))

    def largest_variation(self, d: Inexact[Array, "axes k m"]) -> float:
        """Return the largest sum of |d| for signals of root mean square 1, or 1 if it is 0.

        It is `m sqrt(lambda_max K n)` for m samples of n features, with K differences per sample and the largest
        eigenvalue `lambda_max` of `D^T D`.

        >>> saw, D = jnp.asarray([[1.0], [-1.0], [1.0], [-1.0]]), Differences((4,), ("periodic",))
        >>> D.largest_variation(D(saw)), float(abs(D(saw)).sum())
        (8.0, 8.0)
        """
        _, k, m = d.shape
        return m * math.sqrt(self.eigenvalues[-1] * k * math.prod(self.sizes)) or 1.0

    @property
    def largest_square(self) -> int:
        """The largest squared difference of a sample of energy 1.

        On a circle of few points, a difference overlaps itself; then the value is larger.
        """
        k = self.order
        rows = [
            math.comb(2 * k, k) if end == "neumann" or size > k else 4**k
            for size, end in zip(self.sizes, self.ends, strict=True)
        ]
        return sum(rows) if self.isotropic else max(rows)

    @property
    def eigenvalues(self) -> np.ndarray:
        """Eigenvalues of `D^T D`, ascending."""
        return _eigenvalues(self.sizes, self.ends, self.order)

    @property
    def rows(self) -> Float[np.ndarray, "axes k n"]:
        """The matrix of D, shape (axes, K, n)."""
        return _rows(self)

    @property
    def stencil(self) -> tuple[np.ndarray, np.ndarray]:
        """The points in each difference, shape (K, L), and their coefficients, shape (axes, K, L)."""
        return _stencil(self)


def on_a_line(n: int) -> Differences:
    """Return first differences on a line of n points."""
    return Differences((n,), ("neumann",))


@functools.lru_cache(maxsize=32)
def _eigenvalues(sizes: tuple[int, ...], ends: tuple[str, ...], order: int) -> np.ndarray:
    """Return the eigenvalues of `D^T D`: all sums of one eigenvalue per axis. They do not depend on `isotropic`."""
    total = np.zeros(1)
    for points, end in zip(sizes, ends, strict=True):
        if end == "periodic" or order == 1:
            one_axis = (2 * np.sin(transforms.angles(points, end) / 2)) ** (2 * order)
        else:
            one_axis = np.zeros(points)
            singular = np.linalg.svd(np.diff(np.eye(points), order, axis=0), compute_uv=False)
            one_axis[: len(singular)] = singular**2
        total = np.add.outer(total, one_axis).ravel()
    return np.sort(total)


@functools.lru_cache(maxsize=8)
def _rows(D: Differences) -> np.ndarray:
    with jax.ensure_compile_time_eval():
        return np.asarray(D(jnp.eye(math.prod(D.sizes))), np.float64)


@functools.lru_cache(maxsize=8)
def _stencil(D: Differences) -> tuple[np.ndarray, np.ndarray]:
    rows = _rows(D)
    touched = np.abs(rows).sum(axis=0)
    width = max(1, int((touched > 0).sum(axis=1).max(initial=1)))
    place = np.argsort(-touched, axis=1, kind="stable")[:, :width]
    return place, np.take_along_axis(rows, np.broadcast_to(place, (len(rows), *place.shape)), axis=2)
