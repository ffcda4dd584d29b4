"""The three real, orthonormal trigonometric transforms behind the derivative operators, along any axis.

Each boundary has angles theta_k (ascending), a basis T (columns are modes), `analyse` (T^T x) and `synthesise` (T c).
`synthesise_slope` turns mode coefficients into the derivative of the signal. Periodic boundaries give the derivative at
the points themselves; the others half-way between points (n - 1 places with Neumann ends, n + 1 with Dirichlet ends).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import fft as jfft
from jaxtyping import Array

from jaxdescramble._base.products import is_complex
from jaxdescramble._base.programs import fused


def angles(n: int, boundary: str) -> np.ndarray:
    """Return the angles theta_k of the modes in radians per point, ascending, shape (n,).

    >>> (angles(4, "periodic") / np.pi).tolist()
    [0.0, 0.5, 0.5, 1.0]
    """
    k = np.arange(n)
    if boundary == "periodic":
        return 2 * np.pi * ((k + 1) // 2) / n
    return np.pi * k / n if boundary == "neumann" else np.pi * (k + 1) / (n + 1)


def basis(n: int, boundary: str) -> np.ndarray:
    """Return the orthonormal modes as columns, float64, shape (n, n).

    >>> np.abs(basis(5, "neumann").T @ basis(5, "neumann") - np.eye(5)).max() < 1e-12
    np.True_
    """
    j, k = np.arange(n)[:, None], np.arange(n)[None, :]
    theta = angles(n, boundary)[None, :]
    if boundary == "periodic":
        columns = np.where((k % 2 == 1) | (k == 0), np.cos(j * theta), np.sin(j * theta))
    elif boundary == "neumann":
        columns = np.cos((j + 0.5) * theta)
    else:
        columns = np.sin((j + 1) * theta)
    return columns / np.linalg.norm(columns, axis=0)


@functools.partial(fused, static_argnames=("boundary", "axis"))
def analyse(x: Array, boundary: str, axis: int) -> Array:
    """Return `T^T x` along `axis`, for complex x too."""
    if is_complex(x):
        return jax.lax.complex(analyse(x.real, boundary, axis), analyse(x.imag, boundary, axis))
    x = jnp.moveaxis(x, axis, -1)
    n = x.shape[-1]
    if n == 1:  # the only mode is constant; on CPUs, XLA's Fourier transform of length 1 fails for some layouts
        return jnp.moveaxis(x, -1, axis)
    if boundary == "neumann":
        modes = jfft.dct(x, norm="ortho")
    elif boundary == "dirichlet":
        modes = _sine_transform(x)
    else:
        spectrum = jnp.fft.rfft(x, norm="ortho")
        cosines = spectrum.real * _last(_scale(n), x)
        sines = -np.sqrt(2).astype(x.dtype) * spectrum.imag
        modes = _interleave(cosines, sines, n)
    return jnp.moveaxis(modes, -1, axis)


@functools.partial(fused, static_argnames=("boundary", "axis"))
def synthesise(c: Array, boundary: str, axis: int) -> Array:
    """Return `T c` along `axis`: the inverse of `analyse`."""
    if is_complex(c):
        return jax.lax.complex(synthesise(c.real, boundary, axis), synthesise(c.imag, boundary, axis))
    c = jnp.moveaxis(c, axis, -1)
    n = c.shape[-1]
    if n == 1:
        return jnp.moveaxis(c, -1, axis)
    if boundary == "neumann":
        x = jfft.idct(c, norm="ortho")
    elif boundary == "dirichlet":
        x = _sine_transform(c)
    else:
        x = _from_cosines_and_sines(*_separate(c, n), n)
    return jnp.moveaxis(x, -1, axis)


@functools.partial(fused, static_argnames=("boundary", "axis"))
def synthesise_slope(c: Array, boundary: str, symbols: Array, axis: int) -> Array:
    """Return the derivative along `axis` of the signal with mode coefficients `c` and symbol moduli `symbols`."""
    c = jnp.moveaxis(c, axis, -1)
    c = c * _last(symbols, c)
    n = c.shape[-1]
    if boundary == "periodic":
        cosines, sines = _separate(c, n)
        # d/dj cos = -sin and d/dj sin = cos. The fastest cosine of an even n has no sine: it keeps its own shape.
        kept = jnp.zeros_like(cosines).at[..., -1].set(cosines[..., -1]) if n % 2 == 0 else jnp.zeros_like(cosines)
        slope = _from_cosines_and_sines(sines + kept, -cosines, n)
    elif boundary == "neumann":
        slope = -_sine_transform(c[..., 1:]) if n > 1 else c[..., :0]
    else:
        slope = jfft.idct(jnp.concatenate([jnp.zeros_like(c[..., :1]), c], axis=-1), norm="ortho")
    return jnp.moveaxis(slope, -1, axis)


def slope_matrix(n: int, boundary: str, symbols: np.ndarray) -> np.ndarray:
    """Return the first derivative along one axis as a float64 matrix, the one of `synthesise_slope(analyse(x))`."""
    modes = basis(n, boundary)
    if boundary == "periodic":
        shapes = np.zeros_like(modes)
        sines = np.arange(2, n, 2)
        shapes[:, sines - 1], shapes[:, sines] = -modes[:, sines], modes[:, sines - 1]
        if n % 2 == 0:
            shapes[:, -1] = modes[:, -1]
    elif boundary == "neumann":
        shapes = np.concatenate([np.zeros((n - 1, 1)), -basis(n - 1, "dirichlet") if n > 1 else np.zeros((0, 0))], 1)
    else:
        shapes = basis(n + 1, "neumann")[:, 1:]
    return (shapes * symbols) @ modes.T


def _last(factors: Array | np.ndarray, x: Array) -> Array:
    """Return factors for the last axis of x, with the type and rank of x."""
    return jnp.asarray(factors, x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


def _scale(n: int) -> np.ndarray:
    """Return sqrt(2) for the modes that pair with a sine, and 1 for the constant and the fastest mode of an even n."""
    scale = np.full(n // 2 + 1, np.sqrt(2))
    scale[0] = 1
    if n % 2 == 0:
        scale[-1] = 1
    return scale


def _interleave(cosines: Array, sines: Array, n: int) -> Array:
    """Return [c0, c1, s1, c2, s2, ...] from spectra of n // 2 + 1 entries each."""
    pairs = jnp.stack([cosines, sines], axis=-1).reshape((*cosines.shape[:-1], -1))
    # Two entries do not exist: position 1 (the sine of the constant), and the last sine for an even n.
    return jnp.concatenate([pairs[..., :1], pairs[..., 2 : n + 1]], axis=-1)


def _separate(c: Array, n: int) -> tuple[Array, Array]:
    """Return cosine and sine coefficients, n // 2 + 1 each: the inverse of `_interleave`."""
    nothing = jnp.zeros_like(c[..., :1])
    sines = c[..., 2::2]
    padding = [nothing] if n % 2 == 0 and n > 1 else []
    return jnp.concatenate([c[..., :1], c[..., 1::2]], axis=-1), jnp.concatenate([nothing, sines, *padding], axis=-1)


def _from_cosines_and_sines(cosines: Array, sines: Array, n: int) -> Array:
    spectrum = jax.lax.complex(_last(1 / _scale(n), cosines) * cosines, -np.sqrt(0.5).astype(sines.dtype) * sines)
    return jnp.fft.irfft(spectrum, n=n, norm="ortho").astype(cosines.dtype)


def _sine_transform(x: Array) -> Array:
    """Return the orthonormal DST-I, which is its own inverse, by the FFT of the odd extension."""
    n = x.shape[-1]
    nothing = jnp.zeros_like(x[..., :1])
    odd = jnp.concatenate([nothing, x, nothing, -x[..., ::-1]], axis=-1)
    return -jnp.fft.rfft(odd, norm="ortho").imag[..., 1 : n + 1]
