"""The exact descrambler of signals whose second moment is circulant: it permutes Fourier modes, by FFTs."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxdescramble._base.checks import is_finite, is_traced, real_array
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.objectives.smooth import paired_roughness
from jaxdescramble.operators import Derivative, derivative


@functools.partial(register_dataclass, data_fields=["order", "powers", "value"], meta_fields=["operator"])
@dataclasses.dataclass(frozen=True)
class ModePermutation:
    """A descrambler that moves Fourier mode `order[k]` of the signals to mode k: `P = T Pi T^T`, stored as indices.

    Attributes:
        order: numbers of the modes (as in `operator.eigenvalues`), strongest first.
        powers: eigenvalues of B in this order, descending.
        value: the minimum of smoothness, from the rearrangement inequality.
        operator: the periodic derivative with these modes.
    """

    order: Int[Array, " n"]
    powers: Float[Array, " n"]
    value: Float[Array, ""]
    operator: Derivative

    def transform(self, signals: Float[Array, "n m"]) -> Float[Array, "n m"]:
        """Return `P S`, in n log n operations per column."""
        return self.operator.synthesise(self.operator.analyse(signals)[self.order])

    @property
    def point(self) -> Float[Array, "n n"]:
        """The descrambler P as a matrix."""
        return self.transform(jnp.eye(self.operator.size, dtype=self.powers.dtype))


def circulant_minimiser(
    autocovariance: ArrayLike, order: int = 2, boundary: str = "periodic", scheme: str = "spectral"
) -> ModePermutation:
    """Return the smoothest descrambler of stationary signals on a circle, from their autocovariance.

    Use it for a one-channel convolution of stationary input. A circulant `B = S S^T` with first column c shares the
    Fourier basis of A, so `P = T Pi T^T`, where Pi sorts the eigenvalues `fft(c)`. Low-pass signals stay as they are.
    The cost is n log n, and no matrix is formed.

    Args:
        autocovariance: c, shape (n,), even: `c[k] = c[n - k]`.
        order, scheme: order and scheme of the periodic derivative, see `operators.derivative`.
        boundary: must be "periodic"; other boundaries have another basis.

    Raises:
        ValueError: if c is not even or not finite, or the boundary is not periodic.

    >>> low_pass = jnp.asarray([3.0, 2.0, 1.0, 2.0])
    >>> circulant_minimiser(low_pass).order.tolist()
    [0, 1, 2, 3]

    Source: Sule, Spencer, Czaja 2025, on convolutional networks; this form of the statement is derived here.
    """
    c = real_array(autocovariance, "autocovariance", (1,), "(points,)")
    if not isinstance(boundary, str) or boundary != "periodic":
        raise ValueError(
            f"circulant_minimiser: got boundary {boundary!r}; must be 'periodic', which has the Fourier basis."
        )
    n = c.shape[0]
    if not is_traced(c):
        if not is_finite(c):
            raise ValueError("autocovariance: contains NaN or infinity; must be finite.")
        known = np.asarray(c)
        odd = float(np.max(np.abs(known - np.roll(known[::-1], 1))))
        if odd > 100 * n * float(np.finfo(known.dtype).eps) * float(np.max(np.abs(known))):
            raise ValueError(
                f"autocovariance: c[k] and c[n-k] differ by up to {odd:.3g}; must be equal. Average the two."
            )
    D = derivative(n, order, "periodic", scheme)
    # Mode k of the ascending Fourier basis has frequency ceil(k / 2).
    powers = jnp.maximum(jnp.fft.rfft(c).real.astype(c.dtype)[(jnp.arange(n) + 1) // 2], 0)
    # The cosine and the sine of one frequency have equal power; a stable sort keeps each pair together and in order.
    descending = jnp.argsort(-powers, stable=True)
    value = paired_roughness(D.eigenvalues, powers[descending])
    return ModePermutation(descending, powers[descending], value, D)
