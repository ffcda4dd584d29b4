"""The gauge of a descrambler, and how to remove it: canonical representatives, and alignment.

An answer P is known only up to its gauge. If an orthogonal G commutes with `A = D^T D`, then `||D P S||_F` has the same
value at P and at `G P`, so both are answers. The gauge is the group of all such G. They may change the sign of a single
mode, apply O(2) to a cosine-sine pair (phase and direction), or apply O(k) to the modes of k equal eigenvalues. If the
operator D is periodic, the circular shifts of the link axis are a subgroup. The link axis is the axis of the
descrambled neurons: the rows of `P S` and of `P W`.

For complex matrices, G is unitary: signs become phases, and O(k) becomes U(k).
"""

import dataclasses
import functools
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Complex, Float, Inexact

from jaxdescramble._base import results
from jaxdescramble._base.checks import (
    an_operator,
    one_with,
    positive_integer,
    real_or_complex_array,
    same_size,
    true_or_false,
)
from jaxdescramble._base.products import adjoint, is_complex
from jaxdescramble._base.programs import fused
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.manifolds import orthogonal, unitary
from jaxdescramble.manifolds.projections import square
from jaxdescramble.operators import Operator


class Alignment(NamedTuple):
    """Result of `align`.

    Attributes:
        aligned: the aligned matrix, `element @ p`.
        element: the element G of the gauge group that brings p nearest to q.
        distance: what is left, `||element p - q||_F / ||q||_F`; 0 means that p and q are the same answer.
    """

    aligned: Inexact[Array, "n k"]
    element: Inexact[Array, "n n"]
    distance: Float[Array, ""]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


@runtime_checkable
class Gauge(Protocol):
    """A group of orthogonal matrices that leave an objective unchanged. Any class with these two members is one.

    `Stabiliser`, `CircularShifts` and `Phases` are groups of unitary matrices if `nearest` gets complex matrices.
    """

    @property
    def size(self) -> int: ...

    def nearest(self, p: Inexact[Array, "n k"], q: Inexact[Array, "n k"]) -> Inexact[Array, "n n"]:
        """Return the element G with the smallest `||G p - q||_F`."""
        ...


@functools.partial(register_dataclass, data_fields=["operator"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Stabiliser:
    """All orthogonal matrices that commute with `D^T D`: the gauge of `objectives.smoothness`.

    The group is O(k) for each run of k equal eigenvalues, and U(k) for complex matrices.

    >>> from jaxdescramble.operators import derivative
    >>> Stabiliser(derivative(5)).operator.multiplicities
    (1, 2, 2)
    """

    operator: Operator

    @property
    def size(self) -> int:
        """Number of points n."""
        return self.operator.size

    def nearest(self, p: Inexact[Array, "n k"], q: Inexact[Array, "n k"]) -> Inexact[Array, "n n"]:
        """Return the element G with the smallest `||G p - q||_F`.

        This is one orthogonal Procrustes problem for each run of equal eigenvalues.
        """
        an_operator(self.operator)
        p, q = (part.astype(jnp.result_type(p, q)) for part in (p, q))
        p_modes, q_modes = self.operator.analyse(p), self.operator.analyse(q)
        turns = modes = self.operator.analyse(jnp.eye(self.size, dtype=p.dtype))
        if is_complex(p):
            overlap = jnp.matmul(q_modes, adjoint(p_modes), precision="highest")
            return self.operator.synthesise(_turned(overlap, modes, self.operator.multiplicities))
        for rows in _blocks(self.operator.multiplicities):
            nearest = _nearest_turns(jnp.einsum("bik,bjk->bij", q_modes[rows], p_modes[rows], precision="highest"))
            turns = turns.at[rows].set(jnp.einsum("bij,bjn->bin", nearest, modes[rows], precision="highest"))
        return self.operator.synthesise(turns)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class CircularShifts:
    """Circular shifts of n points, with optional reversal and one common sign: the gauge of a periodic link axis.

    Use it if the objective compares neighbours on a circle but has no operator, such as total variation.

    Attributes:
        size: number of points n.
        reversal: whether the order of the points may be reversed.
        sign: whether all points may change sign together; for complex matrices, whether they have a common free phase.

    >>> CircularShifts(4).nearest(jnp.eye(4)[:, :1], jnp.eye(4)[:, 1:2])[:, 0].tolist()
    [0.0, 1.0, 0.0, 0.0]
    """

    size: int
    reversal: bool = True
    sign: bool = True

    def __post_init__(self):
        object.__setattr__(self, "size", positive_integer(self.size, "size"))
        object.__setattr__(self, "reversal", true_or_false(self.reversal, "reversal"))
        object.__setattr__(self, "sign", true_or_false(self.sign, "sign"))

    def nearest(self, p: Inexact[Array, "n k"], q: Inexact[Array, "n k"]) -> Inexact[Array, "n n"]:
        """Return the element G with the smallest `||G p - q||_F`. One FFT correlates p and q for all shifts at once."""
        p, q = (part.astype(jnp.result_type(p, q)) for part in (p, q))
        candidates = [p, p[::-1]] if self.reversal else [p]
        if is_complex(p):
            return self._nearest_complex(jnp.stack(candidates), q)
        spectra = jnp.stack([jnp.fft.rfft(candidate, axis=0) for candidate in candidates])
        overlap = jnp.sum(jnp.conj(spectra) * jnp.fft.rfft(q, axis=0)[None], axis=2)
        scores = jnp.fft.irfft(overlap, n=self.size, axis=1)
        best = jnp.argmax(jnp.abs(scores) if self.sign else scores)
        element = self._element(best).astype(p.dtype)
        negative = self.sign & (scores.ravel()[best] < 0)
        return jnp.where(negative, -element, element)

    def _element(self, number: Array) -> Float[Array, "n n"]:
        """Return the shift of this number; those from n on follow a reversal."""
        reverse, shift = jnp.divmod(number, self.size)
        eye = jnp.eye(self.size)
        return jnp.roll(jnp.where(reverse == 1, eye[::-1], eye), shift, axis=0)

    def _nearest_complex(self, candidates: Complex[Array, "c n k"], q: Complex[Array, "n k"]) -> Complex[Array, "n n"]:
        overlap = jnp.sum(jnp.conj(jnp.fft.fft(candidates, axis=1)) * jnp.fft.fft(q, axis=0)[None], axis=2)
        scores = jnp.fft.ifft(overlap, axis=1)
        best = jnp.argmax(jnp.abs(scores) if self.sign else scores.real)
        element = self._element(best).astype(q.dtype)
        return element * _phases(scores.ravel()[best]) if self.sign else element


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Phases:
    """A free phase for each neuron, or one for all: `G = diag(e^{i phi_1}, ..., e^{i phi_n})`; signs for real matrices.

    Use it for complex signals and an objective without an operator. Sparsity, entropy and locality read the absolute
    value of each neuron, so every phase is free. Total variation compares neurons, so only a common phase is.

    Attributes:
        size: number of neurons n.
        common: whether all neurons have the same phase.

    >>> Phases(2).nearest(jnp.asarray([[1.0], [1j]]), jnp.asarray([[1j], [1.0]])).round(4).tolist()
    [[1j, 0j], [0j, -1j]]
    """

    size: int
    common: bool = False

    def __post_init__(self):
        object.__setattr__(self, "size", positive_integer(self.size, "size"))
        object.__setattr__(self, "common", true_or_false(self.common, "common"))

    def nearest(self, p: Inexact[Array, "n k"], q: Inexact[Array, "n k"]) -> Inexact[Array, "n n"]:
        """Return the element G with the smallest `||G p - q||_F`: the phases of the inner products of the rows."""
        overlap = jnp.sum(q * jnp.conj(p), axis=1)
        if self.common:
            overlap = jnp.broadcast_to(jnp.sum(overlap), overlap.shape)
        return jnp.diag(_phases(overlap) if is_complex(overlap) else jnp.where(overlap < 0, -1, 1).astype(p.dtype))


def align(p: ArrayLike, q: ArrayLike, gauge: Gauge) -> Alignment:
    """Bring p as near to q as the gauge allows: find `min_G ||G p - q||_F` over G in the gauge group.

    Use it before you compare two answers. An answer is known only up to its gauge: the matrices G for which `G P` is as
    good as P. p and q can be two descramblers of one layer, the descrambled weights `P W` of two networks, or their
    descrambled signals `P S` of the same inputs. Their rows are the descrambled neurons (the link axis).

    Args:
        p, q: real or complex matrices of the same shape (n, k), n being the number of neurons.
        gauge: the gauge group. `Stabiliser(operator)` suits `objectives.smoothness`, with the operator of the objective
            (`objective.operator(n)`). `degeneracy(operator, summary)` adds the freedom that the signals leave; it
            aligns real descramblers only. `CircularShifts(n)` suits other objectives on a circle, and `Phases(n)`
            objectives that read the absolute values of complex signals. Any object with `size` and `nearest(p, q)`
            works too.

    Returns:
        An `Alignment`: the aligned matrix `G p`, the element G, and the relative distance that is left.

    Raises:
        TypeError: if a matrix is not made of floating-point numbers, or `gauge` is not a gauge.
        ValueError: if the shapes differ, or do not fit the gauge.

    >>> from jaxdescramble.operators import derivative
    >>> t = 2 * jnp.pi * jnp.arange(6) / 6
    >>> float(align(jnp.sin(t)[:, None], jnp.cos(t)[:, None], Stabiliser(derivative(6))).distance.round(4))
    0.0

    Source: Schönemann 1966, for each run of equal eigenvalues.
    """
    p = real_or_complex_array(p, "p", (2,), "(link, columns)")
    q = real_or_complex_array(q, "q", (2,), "(link, columns)")
    if p.shape != q.shape:
        raise ValueError(f"align: got p of shape {p.shape} and q of shape {q.shape}; must be the same.")
    one_with(gauge, "gauge", ("size", "nearest"), "a gauge such as exact.Stabiliser(operator)")
    same_size(p, 0, gauge.size, "p", "the gauge")
    p, q = (part.astype(jnp.result_type(p, q)) for part in (p, q))
    element = gauge.nearest(p, q)
    aligned = jnp.matmul(element, p, precision="highest")
    norm = jnp.linalg.norm(q)
    return Alignment(aligned, element, jnp.linalg.norm(aligned - q) / jnp.where(norm > 0, norm, 1))


def canonical(point: ArrayLike, operator: Operator) -> Inexact[Array, "n n"]:
    """Return the point `G P` that is nearest to the identity: `argmax_G Re tr(G P)` over the stabiliser of `D^T D`.

    Use it to choose one answer out of many equal ones, always in the same way. The choice is continuous in P, except at
    points where a block of modes is orthogonal to the same block of the identity. No choice can avoid all such points.

    Args:
        point: the descrambler P, an orthogonal or unitary matrix of shape (n, n).
        operator: the derivative operator D, from `jaxdescramble.operators`.

    Raises:
        TypeError: if `point` is not made of floating-point numbers, or `operator` is not an operator.
        ValueError: if `point` is not square (as with `rank=k`), or the sizes differ.

    >>> from jaxdescramble.operators import derivative
    >>> bool(abs(canonical(-jnp.eye(4), derivative(4)) - jnp.eye(4)).max() < 1e-5)
    True
    """
    shape = np.shape(point)
    if len(shape) == 2 and shape[0] < shape[1]:
        raise ValueError(
            f"point: got shape {shape}, a P of fewer rows, from rank=k; it has no nearest turn to the identity. "
            "Bring it near another answer: exact.align(point, other, exact.Stabiliser(objective.operator(k)))."
        )
    point = square(point, "point", or_complex=True)
    an_operator(operator)
    same_size(point, 0, operator.size, "point", "the operator")
    return align(point, jnp.eye(operator.size, dtype=point.dtype), Stabiliser(operator)).aligned


def canonical_modes(directions: Inexact[Array, "n n"], operator: Operator) -> Inexact[Array, "n n"]:
    """Rotate the columns of U within each block, so that `T U^T` (`T U^H` if complex) is nearest to the identity.

    Here T is the eigenbasis of the operator. This needs fewer operations than a product of matrices (n^3). For complex
    U, each block is turned by a unitary matrix; where the directions are real, this is the answer for real ones. That
    matrix is a constant in derivatives.
    """
    overlap = operator.analyse(directions)
    if is_complex(directions):
        return _turned(jnp.conj(jax.lax.stop_gradient(overlap)), directions.T, operator.multiplicities).T
    for rows in _blocks(operator.multiplicities):
        turns = _nearest_turns(overlap[rows[:, :, None], rows[:, None, :]])
        turned = jnp.einsum("bij,nbj->nbi", turns, directions[:, rows], precision="highest")
        directions = directions.at[:, rows].set(turned)
    return directions


def _turned(
    overlap: Complex[Array, "n n"], modes: Complex[Array, "n k"], runs: tuple[int, ...]
) -> Complex[Array, "n k"]:
    """Turn the rows of each run by the unitary matrix that is nearest to its block of the overlap."""
    turned, order = [], []
    for rows in _blocks(runs):
        nearest = _nearest_unitary(overlap[rows[:, :, None], rows[:, None, :]])
        turned.append(jnp.einsum("bij,bjn->bin", nearest, modes[rows], precision="highest").reshape(-1, modes.shape[1]))
        order.append(rows.ravel())
    # Join the blocks and sort; do not write `.at[].set`: XLA of jaxlib 0.10.2 miscompiles it for some complex arrays.
    return jnp.concatenate(turned)[np.argsort(np.concatenate(order))]


def _nearest_unitary(overlap: Complex[Array, "b k k"]) -> Complex[Array, "b k k"]:
    """Return the unitary polar factors of many small matrices; for size 1 these are phases."""
    return jax.vmap(unitary.polar)(overlap) if overlap.shape[-1] > 1 else _phases(overlap)


@fused
def _phases(numbers: Complex[Array, "*shape"]) -> Complex[Array, "*shape"]:
    """Return `z / |z|` of each number, and 1 for zeros."""
    # Divide by the size of the larger part first, so that no square under- or overflows.
    largest = jnp.maximum(jnp.abs(numbers.real), jnp.abs(numbers.imag))
    scaled = jnp.where(largest > 0, numbers / jnp.where(largest > 0, largest, 1), 1)
    return scaled / jnp.abs(scaled)


@functools.cache
def _blocks(multiplicities: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Return the modes of each run of equal eigenvalues. Runs of the same length form an array (runs, length)."""
    # Use int32, because JAX mixes up integer types if 64-bit types are turned off after they were on.
    starts = np.cumsum([0, *multiplicities[:-1]]).astype(np.int32)
    lengths = np.asarray(multiplicities, np.int32)
    return tuple(starts[lengths == size, None] + np.arange(size, dtype=np.int32) for size in np.unique(lengths))


@fused
def _nearest_turns(overlap: Float[Array, "b k k"]) -> Float[Array, "b k k"]:
    """Return the polar factors of many small matrices, for sizes 1 and 2 (all lines and circles) in closed form."""
    size = overlap.shape[-1]
    if size == 1:
        return jnp.where(overlap < 0, -1, 1).astype(overlap.dtype)
    if size > 2:
        return jax.vmap(lambda m: orthogonal.polar(m)[0])(overlap)
    (a, b), (c, d) = overlap[:, 0].T, overlap[:, 1].T
    # Compare the nearest rotation of the plane with the nearest reflection, and take the better one.
    turn, flip = (a + d, c - b), (a - d, b + c)
    is_flip = jnp.hypot(*flip) > jnp.hypot(*turn)
    x, y = jnp.where(is_flip, flip[0], turn[0]), jnp.where(is_flip, flip[1], turn[1])
    # Only the direction matters; scale to size one, so that no square under- or overflows.
    size = jax.lax.stop_gradient(jnp.maximum(jnp.abs(x), jnp.abs(y)))
    x, size = jnp.where(size > 0, x, 1), jnp.where(size > 0, size, 1)
    x, y = x / size, y / size
    length = jnp.sqrt(x**2 + y**2)
    cosine, sine = x / length, y / length
    handed = jnp.where(is_flip, -1, 1).astype(x.dtype)
    return jnp.stack([jnp.stack([cosine, -handed * sine], -1), jnp.stack([sine, handed * cosine], -1)], axis=-2)
