"""Learning with a kernel: ridge regression, its leave-one-out error, classification, the fit of a kernel to targets.

The regularisation is dimensionless: `A = K + lambda tr(K)/n I`. One lambda therefore means the same at every scale of
K. It is never below `n eps`.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxdescramble._base import decompositions, results
from jaxdescramble._base.checks import instance_of, is_finite, is_traced, numbers, real_array, same_size, true_or_false
from jaxdescramble._base.products import matmul
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.results import Stored
from jaxdescramble.gated.path_kernel.blocks import Tile, gather


@functools.partial(register_dataclass, data_fields=["coefficients", "regularisation", "solved"], meta_fields=[])
@dataclasses.dataclass(frozen=True, repr=False)
class KernelRidge(Stored):
    """Result of kernel ridge regression: `f(x) = sum_i K(x, x_i) coefficients_i`.

    Attributes:
        coefficients: `A^-1 Y`, one column for every target; NaN if not `solved`.
        regularisation: the lambda that was used, at least `n eps`.
        solved: whether A was finite and positive definite.
    """

    coefficients: Float[Array, "n targets"]
    regularisation: Float[Array, ""]
    solved: Bool[Array, ""]

    def check(self) -> "KernelRidge":
        """Return this result, or raise if it is not solved.

        Raises:
            FloatingPointError: if the kernel was not finite or not positive definite.
        """
        if is_traced(self.solved):
            raise TypeError("ridge: .check() needs concrete numbers. Call it outside jit, on the result.")
        if not bool(self.solved):
            raise FloatingPointError(
                f"ridge: the Cholesky factorisation failed at regularisation {float(self.regularisation):.3g}: the "
                "kernel is not finite or not positive definite. Likely causes: an overflow (use normalise='width'), "
                "the logarithm of a kernel, a block off the diagonal, or rounding of a kernel of low rank in float32. "
                "Compute it in float64, or use a larger regularisation."
            )
        return self


class LeaveOneOut(NamedTuple):
    """Predictions of ridge regression for each sample from all the others, for every candidate of the regularisation.

    Attributes:
        regularisation: the candidates that were used, each at least `n eps`.
        predictions: prediction for each sample, from a fit to all other samples.
        error: mean over samples of the squared distance from the targets.
        wrong: share of samples whose largest prediction is not at their largest target. With a single target: share of
            samples whose prediction has the wrong sign.
    """

    regularisation: Float[Array, " candidates"]
    predictions: Float[Array, "candidates n targets"]
    error: Float[Array, " candidates"]
    wrong: Float[Array, " candidates"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict

    @property
    def best(self) -> Float[Array, ""]:
        """The regularisation with the smallest error. Candidates that failed are ignored."""
        return self.regularisation[jnp.nanargmin(self.error)]


def ridge(kernel: ArrayLike | Iterable[Tile], targets: ArrayLike, regularisation: ArrayLike = 0.0) -> KernelRidge:
    """Fit kernel ridge regression by a Cholesky factorisation: `coefficients = (K + lambda tr(K)/n I)^-1 Y`.

    Args:
        kernel: kernel K of the training samples, shape (n, n), or its tiles, which are gathered.
        targets: targets Y, shape (n,) or (n, targets). Integers of shape (n,) are labels: each class becomes a column
            of 0 and 1.
        regularisation: lambda, at least 0. A value below `n eps` is raised to `n eps`.

    Returns:
        A `KernelRidge`. Its `check()` raises if the fit failed.

    Raises:
        ValueError, TypeError: if shapes do not match; if the regularisation is negative.

    >>> K = jnp.asarray([[2.0, 1.0], [1.0, 2.0]])
    >>> [round(float(c), 4) for c in ridge(K, jnp.asarray([3.0, 0.0])).check().coefficients[:, 0]]
    [2.0, -1.0]

    Source: Saunders, Gammerman, Vovk, ICML 1998.
    """
    K, Y = _given(kernel, targets)
    return KernelRidge(*_fit(K, Y, _regularisation(regularisation, K)))


def predict(fit: KernelRidge, kernel: ArrayLike | Iterable[Tile]) -> Float[Array, "m targets"]:
    """Predict values for new samples: `K(x, x_train) coefficients`.

    Args:
        fit: result of `ridge`.
        kernel: kernel of new samples against the training samples, shape (m, n), or its tiles. Tiles are used one by
            one, so the whole kernel need not fit into memory.

    Returns:
        Array of shape (m, targets).

    Raises:
        ValueError: if the kernel does not have one column for each training sample.

    >>> fit = ridge(jnp.eye(2), jnp.asarray([3.0, 0.0]))
    >>> [round(float(y), 4) for y in predict(fit, jnp.asarray([[0.5, 0.5]]))[0]]
    [1.5]
    """
    instance_of(fit, "fit", KernelRidge, "a KernelRidge, as ridge makes it")
    blocks = _blocks(kernel)
    if blocks is None:
        K = real_array(cast(ArrayLike, kernel), "kernel", (2,), "(new, training)")
        same_size(K, 1, len(fit.coefficients), "kernel", "the training samples")
        return matmul(K, fit.coefficients)
    found: dict[tuple[int, int], Array] = {}
    heard: dict[tuple[int, int], int] = {}
    for rows, columns, block in blocks:
        if columns.stop > len(fit.coefficients):
            raise ValueError(
                f"kernel: a tile reaches column {columns.stop}, but there are {len(fit.coefficients)} training samples."
            )
        share = matmul(block, fit.coefficients[columns])
        place = (rows.start, rows.stop)
        found[place] = found[place] + share if place in found else share
        heard[place] = heard.get(place, 0) + columns.stop - columns.start
    if not found or set(heard.values()) != {len(fit.coefficients)} or min(found)[0] != 0:
        raise ValueError(
            f"kernel: the tiles do not cover all {len(fit.coefficients)} training samples once. Was the iterator used "
            "before?"
        )
    return jnp.concatenate([found[place] for place in sorted(found)])


def classify(fit: KernelRidge, kernel: ArrayLike | Iterable[Tile]) -> Int[Array, " m"]:
    """Return the class with the largest value. For a single target, return 1 where the value is positive, else 0.

    Args:
        fit: result of `ridge` with labels as targets.
        kernel: kernel of new samples against the training samples, shape (m, n), or its tiles.

    Returns:
        Array of classes, shape (m,).

    Raises:
        ValueError: if the kernel does not have one column for each training sample.

    >>> fit = ridge(jnp.eye(3), jnp.asarray([2, 0, 1]))
    >>> classify(fit, jnp.eye(3)).tolist()
    [2, 0, 1]
    """
    values = predict(fit, kernel)
    return jnp.argmax(values, axis=1) if values.shape[1] > 1 else (values[:, 0] > 0).astype(jnp.int32)


def leave_one_out(kernel: ArrayLike | Iterable[Tile], targets: ArrayLike, regularisation: ArrayLike) -> LeaveOneOut:
    """Compute the leave-one-out predictions of ridge regression and their errors, without n separate fits.

    Use it to choose the regularisation: `leave_one_out(...).best`. The prediction for sample i is
    `y_i - c_i / (A^-1)_ii` with `c = A^-1 Y`, so each candidate needs a single factorisation.

    Args:
        kernel: kernel K of the training samples, shape (n, n), or its tiles, which are gathered.
        targets: targets Y, shape (n,) or (n, targets). Integers of shape (n,) are labels: each class becomes a column
            of 0 and 1.
        regularisation: candidates for lambda, shape (candidates,), or one number. The unit tr(K)/n always comes from
            all samples, although one is left out.

    Returns:
        A `LeaveOneOut`. It is NaN for candidates with which the kernel is not positive definite.

    Raises:
        ValueError, TypeError: if shapes do not match; if the regularisation is negative.

    >>> K = jnp.eye(2) + 1.0
    >>> found = leave_one_out(K, jnp.asarray([3.0, 0.0]), 0.5)  # A = [[3, 1], [1, 3]]
    >>> [round(float(y), 4) for y in found.predictions[0, :, 0]]
    [0.0, 1.0]

    Source: Craven, Wahba, Numer. Math. 31 (1979); Allen's PRESS.
    """
    K, Y = _given(kernel, targets)
    candidates = jnp.atleast_1d(_regularisation(regularisation, K, candidates=True))
    predictions = _without(K, Y, candidates)
    error = jnp.mean(jnp.sum((predictions - Y[None]) ** 2, axis=2), axis=1)
    if Y.shape[1] > 1:
        missed = jnp.argmax(predictions, axis=2) != jnp.argmax(Y, axis=1)[None]
    else:
        missed = (predictions[:, :, 0] > 0) != (Y[None, :, 0] > 0)
    return LeaveOneOut(candidates, predictions, error, jnp.mean(missed, axis=1, dtype=K.dtype))


def alignment(kernel: ArrayLike | Iterable[Tile], targets: ArrayLike, centred: bool = True) -> Float[Array, ""]:
    """Measure how well a kernel suits targets: `<K, Y Y^T> / (||K||_F ||Y Y^T||_F)`, between -1 and 1.

    With `centred`, the means over samples are subtracted from K and Y first: `H K H` with `H = I - 11^T/n`. This
    removes the constant part of a kernel. The constant part dominates kernels of hard gates and says nothing about the
    targets.

    Args:
        kernel: kernel K, shape (n, n), or its tiles. Tiles are used one by one, so the whole kernel need not fit into
            memory.
        targets: targets Y, shape (n,) or (n, targets). Integers of shape (n,) are labels: each class becomes a column
            of 0 and 1.
        centred: whether to subtract the means.

    Returns:
        The alignment; 0 if K or Y is zero (after centring). It is differentiable in a matrix K.

    Raises:
        ValueError, TypeError: if shapes do not match; if the targets are not finite.

    >>> y = jnp.asarray([1.0, -1.0, 1.0])
    >>> round(float(alignment(y[:, None] * y[None, :], y)), 4)
    1.0

    Source: Cristianini et al. 2001; centred, Cortes, Mohri, Rostamizadeh, JMLR 13 (2012).
    """
    true_or_false(centred, "centred")
    blocks = _blocks(kernel)
    if blocks is not None:
        return _streamed_alignment(blocks, targets, centred)
    K, Y = _given(kernel, targets)
    if centred:
        Y = Y - jnp.mean(Y, axis=0, keepdims=True)
        K = K - jnp.mean(K, axis=0, keepdims=True)
        K = K - jnp.mean(K, axis=1, keepdims=True)
    return _ratio(jnp.sum(matmul(K, Y) * Y), jnp.sum(K**2), Y)


def complexity(
    kernel: ArrayLike | Iterable[Tile], targets: ArrayLike, regularisation: ArrayLike = 0.0
) -> Float[Array, ""]:
    """Compute `y^T H^-1 y` with `H = n K / tr K + lambda I`, summed over targets. Small values mean a good kernel.

    Use it over the stages of a training to see whether the gates learn. It does not depend on the size of the kernel.

    Args:
        kernel: kernel K of the training samples, shape (n, n), or its tiles, which are gathered.
        targets: targets Y, shape (n,) or (n, targets). Integers of shape (n,) are labels: each class becomes a column
            of 0 and 1.
        regularisation: lambda, at least 0. A value below `n eps` is raised to `n eps`.

    Returns:
        The complexity; NaN if the kernel is not positive definite with this regularisation.

    Raises:
        ValueError, TypeError: if shapes do not match; if the regularisation is negative.

    >>> round(float(complexity(4 * jnp.eye(2), jnp.asarray([1.0, 2.0]))), 4)  # H = I
    5.0

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529) follow it over training; the measure comes from Arora et al.
    2019 (arXiv 1901.08584).
    """
    K, Y = _given(kernel, targets)
    coefficients = _fit(K, Y, _regularisation(regularisation, K))[0]
    return jnp.sum(coefficients * Y) * jnp.trace(K) / len(K)


def _shifted(K: Array, regularisation: Array) -> Array:
    unit = jnp.trace(K) / len(K)
    return K + regularisation * unit * jnp.eye(len(K), dtype=K.dtype)


@jax.jit
def _fit(K: Array, Y: Array, regularisation: Array) -> tuple[Array, Array, Array]:
    factor = decompositions.cholesky(_shifted(K, regularisation))
    solved = jnp.isfinite(factor).all()
    coefficients = decompositions.solve_cholesky(factor, Y)
    return jnp.where(solved, coefficients, jnp.nan), regularisation, solved


@jax.jit
def _without(K: Array, Y: Array, candidates: Array) -> Array:
    def one(regularisation: Array) -> Array:
        factor = decompositions.cholesky(_shifted(K, regularisation))
        inverse = decompositions.solve_triangular(factor, jnp.eye(len(K), dtype=K.dtype))
        coefficients = matmul(inverse.T, matmul(inverse, Y))
        return Y - coefficients / jnp.sum(inverse**2, axis=0)[:, None]

    return jax.lax.map(one, candidates)


def _streamed_alignment(kernel: Iterable[Tile], targets: ArrayLike, centred: bool) -> Array:
    Y = _targets(targets)
    n = len(Y)
    Y = Y - jnp.mean(Y, axis=0, keepdims=True) if centred else Y
    shift, product, square, sums = None, 0.0, 0.0, np.zeros(n)
    for rows, columns, block in kernel:
        if max(rows.stop, columns.stop) > n:
            raise ValueError(f"targets: got {n}, but the kernel has at least {max(rows.stop, columns.stop)} samples.")
        if shift is None:  # centring removes any constant; subtracting one here avoids cancellation in the squares
            shift = jnp.mean(block) if centred else jnp.zeros((), block.dtype)
        *numbers, row_sums = _block_sums(block, shift, Y[rows], Y[columns])
        product, square = product + float(numbers[0]), square + float(numbers[1])
        sums[rows] += np.asarray(row_sums, float)
    if centred:
        square += sums.sum() ** 2 / n**2 - 2 * (sums**2).sum() / n
    return _ratio(jnp.asarray(product, Y.dtype), jnp.asarray(max(square, 0.0), Y.dtype), Y)


@jax.jit
def _block_sums(block: Array, shift: Array, left: Array, right: Array) -> tuple[Array, Array, Array]:
    block = block - shift
    left, right = left.astype(block.dtype), right.astype(block.dtype)
    return jnp.sum(matmul(block, right) * left), jnp.sum(block**2), jnp.sum(block, axis=1)


def _ratio(product: Array, square: Array, Y: Array) -> Array:
    whole = square * jnp.sum(matmul(Y.T, Y) ** 2)
    return jnp.where(whole <= 0, 0, product / jnp.sqrt(jnp.where(whole <= 0, 1, whole)))


def _blocks(kernel: ArrayLike | Iterable[Tile]) -> Iterable[Tile] | None:
    """Return the tiles of the kernel, or None if the kernel is not given as tiles."""
    if isinstance(kernel, list | tuple):
        return kernel if kernel and all(isinstance(one, Tile) for one in kernel) else None
    return cast(Iterable[Tile], kernel) if isinstance(kernel, Iterator) else None


def _given(kernel: ArrayLike | Iterable[Tile], targets: ArrayLike) -> tuple[Array, Array]:
    blocks = _blocks(kernel)
    K = real_array(cast(ArrayLike, kernel) if blocks is None else gather(blocks), "kernel", (2,), "(n, n)")
    same_size(K, 1, len(K), "kernel", "its own rows")
    Y = _targets(targets)
    same_size(Y, 0, len(K), "targets", "the kernel")
    return K, Y.astype(K.dtype)


def _targets(targets: ArrayLike) -> Array:
    array = numbers(targets, "targets", "numbers (n,) or (n, targets), or labels")
    if jnp.issubdtype(array.dtype, jnp.integer) and array.ndim == 1:
        if is_traced(array):
            raise TypeError("targets: got labels inside jit. Pass jax.nn.one_hot(labels, classes).")
        if not len(array) or int(array.min()) < 0:
            raise ValueError("targets: got no labels, or negative ones; must be labels 0, 1, ..., one for each sample.")
        return jax.nn.one_hot(array, int(array.max()) + 1)
    array = real_array(array, "targets", (1, 2), "(n,) or (n, targets)")
    if not is_finite(array):
        raise ValueError("targets: contain NaN or infinity. Remove these samples.")
    return array if array.ndim == 2 else array[:, None]


def _regularisation(value: ArrayLike | Sequence[float], K: Array, candidates: bool = False) -> Array:
    array = numbers(value, "regularisation", "a number, or candidates")
    if array.ndim > candidates or 0 in array.shape or jnp.iscomplexobj(array) or array.dtype == bool:
        raise TypeError(f"regularisation: got {array.dtype} of shape {array.shape}; must be a number, or candidates.")
    array = array.astype(K.dtype)
    if not is_traced(array) and not (np.asarray(array) >= 0).all():
        raise ValueError(f"regularisation: got {value}; must be at least 0.")
    return jnp.maximum(array, len(K) * jnp.finfo(K.dtype).eps)
