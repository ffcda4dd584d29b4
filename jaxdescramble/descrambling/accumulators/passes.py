"""The second pass: evaluate or minimise an objective over all data, with one batch in memory at a time."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from jaxdescramble._base import results
from jaxdescramble._base.checks import positive_integer, real_array, same_size
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.descrambling.accumulators._batches import (
    Batch,
    Batches,
    Signals,
    checked,
    chunks,
    cleared_columns,
    faults,
    length,
    paired,
    starting_at,
    weights_of,
)
from jaxdescramble.descrambling.accumulators._compensated import BLOCK
from jaxdescramble.descrambling.accumulators.accumulator import Accumulator
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import Objective, Samples
from jaxdescramble.solvers import riemannian
from jaxdescramble.solvers.watch import OpenProgress


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Share(Samples):
    """A part of the samples, with the unit of all samples; its objective is its contribution to the mean over all.

    >>> share = Share(jnp.asarray([[1.0, 2.0]]), jnp.asarray(2.0))
    >>> float(share.scale()), float(share.power())  # what two entries of all have on average
    (2.0, 8.0)
    """

    unit: Float[Array, ""]
    exponent: ClassVar[int] = 1

    def power(self) -> Float[Array, ""]:
        return self.unit**2 * (self.signals.size if self.weights is None else self.size * jnp.sum(self.weights))

    def scale(self) -> Float[Array, ""]:
        return self.unit

    def normalised(self) -> "Share":
        return Share(self.signals / self.unit, jnp.ones_like(self.unit), weights=self.weights)


@overload
def score(
    objective: Objective,
    point: ArrayLike,
    batches: Batches,
    accumulator: Accumulator,
    *,
    gradient: Literal[False] = False,
) -> Array: ...


@overload
def score(
    objective: Objective, point: ArrayLike, batches: Batches, accumulator: Accumulator, *, gradient: Literal[True]
) -> tuple[Array, Array]: ...


def score(
    objective: Objective,
    point: ArrayLike,
    batches: Batches,
    accumulator: Accumulator,
    *,
    gradient: bool = False,
) -> Array | tuple[Array, Array]:
    """Return the objective of `P S` over all samples, from one batch at a time.

    Use it to check a P that was found on a reservoir. The value equals that of all samples in memory:
    `f(P) = sum_b m_b f_b(P) / m`. Here m is the number of samples, m_b that of batch b, and f_b the objective of batch
    b in the unit of all data (`accumulator.unit`). With sample weights, m and m_b are sums of weights.

    This holds for objectives that are means over samples when the unit of the data is fixed: all in
    `jaxdescramble.objectives` that apply to signals, and their weighted sums, except `sparsity("l4")` and similarity
    to a reference. The function tests it on a few columns, so you can use your own objectives too.

    Args:
        objective: an objective of signals.
        point: the matrix P, shape (n, n), of the accumulator's dtype.
        batches: a list or an iterator of batches, or a function `batches(first)` (see `Accumulator.consume`). They must
            hold the data that the accumulator holds, with the same weights; the order and the cuts may differ.
        accumulator: the accumulator of these data.
        gradient: True also returns the (Euclidean) gradient.

    Returns:
        The value, or `(value, gradient)`.

    Raises:
        ValueError, TypeError: if the objective is not such a mean, or if the batches are not the accumulated data.

    >>> from jaxdescramble import objectives
    >>> S = np.random.default_rng(0).standard_normal((3, 100)).astype("float32")
    >>> acc = Accumulator.empty(3, "float32").add(S)
    >>> objective = objectives.total_variation(boundary="neumann")
    >>> P = jnp.eye(3, dtype="float32")
    >>> abs(float(score(objective, P, [S[:, :60], S[:, 60:]], acc) - objective(P, S))) < 1e-6
    True
    """
    point = _point(point, "point", accumulator)
    unit = _unit(objective, point, accumulator)
    value, slope, square, count, mass = 0.0, np.zeros(point.shape), 0.0, 0, 0.0
    for number, item in enumerate(starting_at(batches, 0)):
        batch, weights, columns, weight = _batch(item, number, accumulator)
        added, bend, energy = _over(objective, point, batch, unit, gradient, weights)
        if not np.isfinite(added):
            raise ValueError(f"batch {number}: {_why(batch)}.")
        value, slope, square = value + added, slope + bend, square + energy
        count, mass = count + columns, mass + weight
    _check_same(count, square, mass, accumulator)
    value = jnp.asarray(value / mass, point.dtype)
    return (value, jnp.asarray(slope / mass, point.dtype)) if gradient else value


class Refined(NamedTuple):
    """Result of `refine`.

    Attributes:
        point: the descrambler P, orthogonal up to rounding.
        values: the objective of each batch, computed before P is updated with this batch. The values are noisy.
        state: state of the optax transformation; pass it to the next call of `refine` to continue.
    """

    point: Float[Array, "n n"]
    values: Float[np.ndarray, " steps"]
    state: PyTree

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def refine(
    objective: Objective,
    start: ArrayLike,
    batches: Batches,
    accumulator: Accumulator,
    transform: optax.GradientTransformation,
    *,
    passes: int = 1,
    state: PyTree = None,
    progress: OpenProgress | None = None,
) -> Refined:
    """Improve P by stochastic descent over all data, one step for each batch.

    Use it to go from the answer on a reservoir to the answer on all data. Check with `score` whether P became better.

    Args:
        objective: an objective of signals, which must be a mean over samples (see `score`).
        start: the first point P, orthogonal, such as `descramble(accumulator.summary(objective), objective).point`.
        batches: a list or an iterator of batches, or a function `batches(first)` (see `Accumulator.consume`). Batches
            should have similar sizes and a random order. An iterator serves one pass only.
        accumulator: the accumulator of these data.
        transform: an optax transformation such as `optax.adam(optax.cosine_decay_schedule(1e-2, steps))`;
            `solvers.riemannian` keeps its steps on the group. Let the rate decay: with a constant rate P never settles.
            Use one object for all calls, because a new one compiles again.
        passes: number of passes over the stream.
        state: state of the transformation from an earlier call; None starts a new one.
        progress: called as `progress(stage, done, total)` after each step; the text `stage` contains the value, and
            `total` is None if `batches` has no length.

    Returns:
        A `Refined(point, values, state)`.

    Raises:
        ValueError, TypeError: if the objective is not such a mean, if the batches are not the accumulated data, if
            `start` is not orthogonal, or if an iterator is given for several passes.

    >>> from jaxdescramble import objectives
    >>> S = np.random.default_rng(0).laplace(size=(3, 400)).astype("float32")
    >>> acc, parts = Accumulator.empty(3, "float32").add(S), np.split(S, 4, axis=1)
    >>> P = jnp.eye(3, dtype="float32")
    >>> found = refine(objectives.sparsity(), P, parts, acc, optax.sgd(0.1), passes=5)
    >>> bool(score(objectives.sparsity(), found.point, parts, acc) < objectives.sparsity()(P, S))
    True

    Source: Bonnabel, IEEE Trans. Automat. Contr. 58 (2013) 2217.
    """
    point = _point(start, "start", accumulator)
    orthogonal.check_orthogonal(point, "start")
    unit = _unit(objective, point, accumulator)
    if positive_integer(passes, "passes") > 1 and isinstance(batches, Iterator):
        raise TypeError("batches: an iterator is spent after one pass; give a list, or a function batches(first).")
    state = riemannian(transform).init(point) if state is None else state
    values: list[float] = []
    each = length(batches)
    total = None if each is None else passes * each
    for _ in range(passes):
        square, count, mass = 0.0, 0, 0.0
        for number, item in enumerate(starting_at(batches, 0)):
            batch, weights, columns, weight = _batch(item, number, accumulator)
            if not columns:
                continue
            added, slope, energy = _over(objective, point, batch, unit, True, weights)
            if not np.isfinite(added):
                raise ValueError(f"batch {number}: {_why(batch)}.")
            point, state = _step(transform, point, state, jnp.asarray(slope / weight, point.dtype))
            values.append(added / weight)
            square, count, mass = square + energy, count + columns, mass + weight
            if progress is not None:
                progress(f"refine, value {values[-1]:.6g}", len(values), total)
        _check_same(count, square, mass, accumulator)
    return Refined(point, np.asarray(values, accumulator.dtype), state)


@functools.partial(jax.jit, static_argnums=0)
def _step(transform: optax.GradientTransformation, point: Array, state: PyTree, slope: Array) -> tuple[Array, PyTree]:
    updates, state = riemannian(transform).update(slope, state, point)
    return jnp.asarray(optax.apply_updates(point, updates)), state


def _batch(item: Batch, number: int, accumulator: Accumulator) -> tuple[Signals, np.ndarray | None, int, float]:
    """Return a checked batch, its weights or None, the number of samples that count, and the sum of their weights."""
    batch, weights = paired(item)
    batch = checked(batch, accumulator.size, accumulator.dtype, f"batch {number}")
    weights = weights_of(batch, weights, f"batch {number}")
    if weights is None:
        return batch, None, batch.shape[1], float(batch.shape[1])
    return cleared_columns(batch, weights), weights, int((weights > 0).sum()), float(np.sum(weights, dtype=np.float64))


def _over(
    objective: Objective, point: Array, batch: Signals, unit: Array, gradient: bool, weights: np.ndarray | None
) -> tuple[float, np.ndarray, float]:
    """Return the sums over a batch of (weighted) values, gradients and squares, in float64 on the host."""
    value, slope, square = 0.0, np.zeros(point.shape), 0.0
    if weights is not None:
        for (chunk, _, rows), (own, *_) in zip(chunks(batch), chunks(weights[None, :]), strict=True):
            own = jnp.asarray(own).reshape(-1)
            found = _weighted_blocks(objective, point, jnp.asarray(chunk), own, unit, rows, gradient)
            parts = [np.asarray(part, np.float64) for part in found]
            value, slope, square = value + float(parts[0].sum()), slope + parts[1], square + float(parts[2].sum())
        return value, slope, square
    for chunk, real, rows in chunks(batch):
        width = chunk.shape[0 if rows else 1]
        values, bend, flat, energy = _blocks(objective, point, jnp.asarray(chunk), unit, rows, gradient)
        *each, nothing = np.asarray(values, np.float64) * min(width, BLOCK)
        # Subtract what the padding contributes: columns of zeros, which usually contribute nothing.
        padding = (width - real) / min(width, BLOCK)
        value += float(sum(each) - padding * nothing)
        slope += (np.asarray(bend, np.float64) - padding * np.asarray(flat, np.float64)) * min(width, BLOCK)
        square += float(np.asarray(energy, np.float64).sum())
    return value, slope, square


@functools.partial(jax.jit, static_argnames=("rows", "gradient"))
def _weighted_blocks(
    objective: Objective, point: Array, chunk: Array, weights: Array, unit: Array, rows: bool, gradient: bool
) -> tuple[Array, Array, Array]:
    """Return weighted values of the blocks, the sum of weighted gradients, and weighted energies; padding weighs 0."""
    axis = 0 if rows else 1
    width = min(chunk.shape[axis], BLOCK)

    def step(slope: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
        block = jax.lax.dynamic_slice_in_dim(chunk, k * width, width, axis)
        own = jax.lax.dynamic_slice_in_dim(weights, k * width, width)
        share, mass = Share(block if axis else block.T, unit, weights=own), jnp.sum(own)
        if not gradient:
            value = objective(point, share)
        else:
            value, bend = jax.value_and_grad(lambda point: objective(point, share))(point)
            slope = slope + mass * bend
        return slope, (mass * value, jnp.sum(own[None, :] * (share.signals / unit) ** 2))

    slope, (values, energies) = jax.lax.scan(step, jnp.zeros_like(point), jnp.arange(chunk.shape[axis] // width))
    return values, slope, energies


@functools.partial(jax.jit, static_argnames=("rows", "gradient"))
def _blocks(
    objective: Objective, point: Array, chunk: Array, unit: Array, rows: bool, gradient: bool
) -> tuple[Array, Array, Array, Array]:
    """Return values and energies of the blocks and of a block of zeros, the summed gradient, and that of the zeros."""
    axis = 0 if rows else 1
    width = min(chunk.shape[axis], BLOCK)
    blocks = chunk.shape[axis] // width

    def step(carry: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        block = jax.lax.dynamic_slice_in_dim(chunk, k * width, width, axis)
        share = Share(jnp.where(k < blocks, block if axis else block.T, 0), unit)
        if not gradient:
            value, bend = objective(point, share), carry[1]
        else:
            value, bend = jax.value_and_grad(lambda point: objective(point, share))(point)
        return (carry[0] + jnp.where(k < blocks, bend, 0), bend), (value, jnp.sum((share.signals / unit) ** 2))

    zeros = jnp.zeros_like(point)
    (slope, flat), (values, energies) = jax.lax.scan(step, (zeros, zeros), jnp.arange(blocks + 1))
    return values, slope, flat, energies


def _point(point: ArrayLike, name: str, accumulator: Accumulator) -> Array:
    if not isinstance(accumulator, Accumulator):
        raise TypeError(f"accumulator: expected an Accumulator, got {type(accumulator).__name__}.")
    point = real_array(point, name, (2,), "(features, features)")
    if point.shape[0] < point.shape[1] == accumulator.size:
        raise ValueError(
            f"{name}: got shape {point.shape}, a P of fewer rows, from rank=k. Accumulate `P @ batch` in a second "
            f"pass, and use {name}=jnp.eye({len(point)}) with them; the descrambler of the layer is then `R @ P`."
        )
    for axis in (0, 1):
        same_size(point, axis, accumulator.size, name, "the accumulator's features")
    if point.dtype != accumulator.dtype:
        raise TypeError(f"{name}: {point.dtype} given for data of {accumulator.dtype}; convert one of them.")
    return point


def _unit(objective: Objective, point: Array, accumulator: Accumulator) -> Array:
    """Return the unit of all data; raise unless the objective is a mean over samples when the unit is fixed."""
    if not isinstance(objective, Objective):
        raise TypeError(f"objective: expected an Objective, got {type(objective).__name__}.")
    if objective.applies_to != "signals":
        raise ValueError(
            f"{objective.name}: applies to a weight matrix, or to columns in an order that matters (applies_to = "
            "'weights'); a stream has samples without an order. Use jd.descramble with all columns at once."
        )
    n = accumulator.size
    # Test columns without a pattern, with different energies, and with a unit that is not their own.
    columns = jnp.asarray(np.sin(1 + np.outer(np.arange(n) + 1.7, [1.0, 2.3, 3.1])) * [0.4, 1.0, 2.5], point.dtype)
    try:
        whole, parts = _tried(objective, point, columns)
    except ValueError as error:
        raise ValueError(f"{objective.name}: cannot be taken batch by batch ({error})") from error
    scale = float(jnp.max(jnp.abs(parts))) + abs(float(whole))
    if not abs(float(whole) - float(jnp.mean(parts))) <= float(jnp.finfo(point.dtype).eps) ** 0.5 * scale:
        raise ValueError(
            f"{objective.name}: is not a mean over samples in the unit of the data, so batches do not add up to it: "
            f"{float(whole):.6g} of three columns, {float(jnp.mean(parts)):.6g} on average of one. Use the reservoir: "
            "objective(point, accumulator.summary('samples'))."
        )
    return jnp.asarray(accumulator.unit, point.dtype)


@jax.jit
def _tried(objective: Objective, point: Array, columns: Array) -> tuple[Array, Array]:
    one = jnp.ones((), columns.dtype)
    parts = jax.lax.map(lambda column: objective(point, Share(column[:, None], one)), columns.T)
    return objective(point, Share(columns, one)), parts


def _why(batch: Signals) -> str:
    return "the objective is not finite" if np.isfinite(np.asarray(batch)).all() else faults(batch)


def _check_same(count: int, square: float, mass: float, accumulator: Accumulator) -> None:
    """Check that the second pass has seen the data of the first: the same number of samples and the same energy."""
    if count != accumulator.count:
        raise ValueError(f"batches: {count} samples, but the accumulator has counted {accumulator.count}: other data.")
    known = accumulator.count if accumulator.tally is None else accumulator.tally[0]
    if abs(mass - known) > 1e-6 * known:
        raise ValueError(
            f"batches: their samples weigh {mass:.6g}, but the accumulator has counted {known:.6g}: other weights."
        )
    expected = accumulator.size * mass
    # If all data are zero, the unit is 1 and the energy is 0 instead of the expected one; this is not an error.
    if abs(square - expected) > 1e-3 * expected and (square or accumulator.gram.any()):
        raise ValueError(
            f"batches: the mean square of their entries is {square / expected:.6g} of what was accumulated: other data."
        )
