"""Signals whose second moment is circulant: the descrambler only permutes Fourier modes, and FFTs suffice."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxdescramble._base.checks import is_finite, is_traced, real_array
from jaxdescramble.objectives.smooth import paired_roughness
from jaxdescramble.operators import Derivative, derivative


@functools.partial(jax.tree_util.register_dataclass, data_fields=["order", "powers", "value"], meta_fields=["operator"])
@dataclasses.dataclass(frozen=True)
class ModePermutation:
    """A descrambler that moves Fourier mode `order[k]` of the signals to mode k: `P = T Pi T^T`, held as indices.

    Attributes:
        order: mode numbers (as in `operator.eigenvalues`), most powerful first.
        powers: eigenvalues of B in that order, descending.
        value: the minimum of smoothness, from the rearrangement inequality.
        operator: the periodic derivative whose modes these are.
    """

    order: Int[Array, " n"]
    powers: Float[Array, " n"]
    value: Float[Array, ""]
    operator: Derivative

    def transform(self, signals: Float[Array, "n m"]) -> Float[Array, "n m"]:
        """`P S` in n log n per column."""
        return self.operator.synthesise(self.operator.analyse(signals)[self.order])

    @property
    def point(self) -> Float[Array, "n n"]:
        """P as a matrix."""
        return self.transform(jnp.eye(self.operator.size, dtype=self.powers.dtype))


def circulant_minimiser(
    autocovariance: ArrayLike, order: int = 2, boundary: str = "periodic", scheme: str = "spectral"
) -> ModePermutation:
    """The smoothest descrambler of stationary signals on a circle, from their autocovariance alone.

    `B = S S^T` circulant with first column c shares the Fourier basis of A, so `P = T Pi T^T`, with Pi sorting the
    eigenvalues `fft(c)`: a one-channel convolution of stationary input is descrambled by permuting modes, and left
    alone when it is low-pass already. Costs n log n; no matrix is formed.

    Args:
        autocovariance: c, shape (n,), even: `c[k] = c[n - k]`.
        order, scheme: of the periodic derivative.
        boundary: "periodic"; anything else has another basis and is refused.

    Raises:
        ValueError: c is not even, not finite, or the boundary is not periodic.

    >>> low_pass = jnp.asarray([3.0, 2.0, 1.0, 2.0])
    >>> circulant_minimiser(low_pass).order.tolist()
    [0, 1, 2, 3]

    Source: Sule, Spencer, Czaja 2025, on convolutional networks; the statement in this form is derived here.
    """
    c = real_array(autocovariance, "autocovariance", (1,), "(points,)")
    if not isinstance(boundary, str) or boundary != "periodic":
        raise ValueError(
            f"circulant_minimiser: boundary {boundary!r} does not share the Fourier basis; use 'periodic'."
        )
    n = c.shape[0]
    if not is_traced(c):
        if not is_finite(c):
            raise ValueError("autocovariance: contains NaN or infinity.")
        known = np.asarray(c)
        odd = float(np.max(np.abs(known - np.roll(known[::-1], 1))))
        if odd > 100 * n * float(np.finfo(known.dtype).eps) * float(np.max(np.abs(known))):
            raise ValueError(
                f"autocovariance: c[k] and c[n-k] differ by up to {odd:.3g}; a second moment is symmetric. "
                "Average the two."
            )
    D = derivative(n, order, "periodic", scheme)
    # Mode k of the ascending Fourier basis has frequency ceil(k / 2).
    powers = jnp.maximum(jnp.fft.rfft(c).real.astype(c.dtype)[(jnp.arange(n) + 1) // 2], 0)
    # Cosine and sine of one frequency have one power: a stable sort keeps them together and in order.
    descending = jnp.argsort(-powers, stable=True)
    value = paired_roughness(D.eigenvalues, powers[descending])
    return ModePermutation(descending, powers[descending], value, D)
