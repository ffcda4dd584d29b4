"""Compare readings of a layer with null models: batteries of readings, draws of a null, effect sizes, p-values.

A reading is a number that is read off a descrambled matrix. One reading says little: descrambling assigns the largest
principal components of any matrix to the slowest waves, so random weights look like filters too. A null model is a
model that does not contain the finding, such as random matrices. Here every reading is compared with draws from null
models, and says whether the descrambler can change it.
"""

import functools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact, PRNGKeyArray

from jaxdescramble._base import decompositions, results
from jaxdescramble._base.checks import instance_of, is_finite, random_key, real_or_complex_array
from jaxdescramble._base.products import adjoint, is_complex
from jaxdescramble._base.results import Stored
from jaxdescramble.findings.batteries import Measure
from jaxdescramble.findings.fourier import matrix, pair
from jaxdescramble.manifolds import orthogonal, unitary

LONGEST = 250
"""Largest number of characters of the names in a `repr`."""


@dataclass(frozen=True, eq=False, repr=False)
class Reading(Stored):
    """The value of one reading, and its values under the null models. Each mapping has one entry per null model.

    Attributes:
        name: name in the results.
        value: the value of the reading.
        depends_on_point: whether the descrambler can change the value.
        direction: +1 if large values are the finding, -1 if small values are, 0 if neither.
        unit: unit of the value.
        nulls: the reading of each draw, one array of shape (draws,) per null model.
        effect: `(value - mean(null)) / sd(null)`, the distance from the null in its standard deviations; sd divides by
            draws - 1. It is negative if the value is smaller than the null. None if there are fewer than two draws, or
            if the null varies only by rounding. Ratios (such as the notch) and bounded readings have skewed nulls, so
            look at `p_value` too.
        difference: `value - mean(null)`, in the unit of the value; None if no draw is finite.
        p_value: `(r + 1) / (draws + 1)`, where r is the number of draws at least as extreme in the direction of the
            finding. If direction is 0, it is the p-value of the rarer direction, doubled. A draw that is NaN counts as
            extreme.
        note: one line of explanation.
    """

    name: str
    value: float
    depends_on_point: bool
    direction: int
    unit: str
    nulls: dict[str, np.ndarray]
    effect: dict[str, float | None]
    difference: dict[str, float | None]
    p_value: dict[str, float]
    note: str


class Readings(list[Reading]):
    """The readings of a battery, in its order."""

    def __repr__(self) -> str:
        names = ", ".join(one.name for one in self)
        return f"Readings({len(self)}: {names if len(names) <= LONGEST else names[:LONGEST] + '…'})"

    def _repr_html_(self) -> str:
        rows = []
        for one in self:
            against = "; ".join(f"{null}: p = {p_value:.3g}" for null, p_value in one.p_value.items())
            rows.append((one.name, f"{one.value:.4g} {one.unit}".rstrip() + (f" ({against})" if against else "")))
        effects = np.asarray([[math.nan if x is None else x for x in one.effect.values()] for one in self], float)
        drawn = results.picture(effects, "effect sizes, a row for each reading") if effects.size else ""
        return results.laid_out("Readings", drawn, rows)

    def to_dict(self) -> dict[str, object]:
        """Return `{"items": [...]}`, each reading as plain Python values and NumPy arrays."""
        return {"items": [one.to_dict() for one in self]}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `.npz` file. An old file of this name stays whole until the new one is complete.

        Raises:
            TypeError: if `path` is not a path.
            OSError: if the file cannot be written (no such folder, a full disk).
        """
        results.write(path, {f"{place:04d}": one for place, one in enumerate(self)}, "Readings")

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Readings":
        """Read a file that `save` wrote.

        Raises:
            FileNotFoundError: if the file does not exist.
            TypeError: if `path` is not a path.
            ValueError: if the file is not a whole file of readings, or has another version.
        """
        content = results.read(path, "Readings")
        places = sorted({name.split("/")[0] for name in content})
        return Readings(results.built(Reading, results.below_path(content, place)) for place in places)


def random_frame(key: PRNGKeyArray, weight: ArrayLike) -> Inexact[Array, "n m"]:
    """Draw a matrix with the singular values of `weight` in a random frame: the isotropic null.

    The draw is `U diag(s(W)) V^T`, with the singular values s(W) and with U and V Haar-distributed (uniformly random
    directions; unitary, and `V^H`, if W is complex). To judge a descrambled weight, draw from the raw weight and
    descramble each draw in the same way. If you draw from a descrambled weight and use the draws directly, they show
    the readings without any descrambling.

    Args:
        key: random key. `jax.vmap(random_frame, in_axes=(0, None))` over keys gives many draws.
        weight: W, shape (n, m).

    Returns:
        Array of shape (n, m).

    Raises:
        TypeError, ValueError: if `weight` is not a finite matrix.

    >>> W = jnp.asarray([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> jnp.linalg.svd(random_frame(jax.random.key(0), W), compute_uv=False).round(4).tolist()
    [3.0, 1.0]

    Source: Sule, Spencer, Czaja 2025, isotropic hidden data; its use as a null is ours.
    """
    W = matrix(weight, axes="(n, m)")
    singular = decompositions.singular_values(W)
    left_key, right_key = jax.random.split(random_key(key))
    random_columns = unitary.random_columns if is_complex(W) else orthogonal.random_columns
    left, right = (
        random_columns(k, size, len(singular), singular.dtype)
        for k, size in zip((left_key, right_key), W.shape, strict=True)
    )
    return jnp.matmul(left * singular[None, :], adjoint(right), precision="highest")


def measure(battery: tuple[Measure, ...], fit: ArrayLike, read: ArrayLike) -> dict[str, Array]:
    """Compute every reading of a battery in one compiled program. You can use it inside `jit` and `vmap`.

    Args:
        battery: the readings to compute: `FIRST_LAYER`, `SECOND_LAYER`, or a tuple of `Measure`s.
        fit: the weight, descrambled with the P of the first half of the signals, shape (out, in).
        read: the same weight, descrambled with the P of the second half of the signals, shape (out, in).

    Returns:
        A dictionary from the name of each reading to its value. Matrices with NaN or infinity give NaN.

    Raises:
        TypeError, ValueError: if `battery` is not a tuple of `Measure`s; if a reading rejects the shapes or types.

    >>> from jaxdescramble.findings import FIRST_LAYER
    >>> W = jnp.cos(2 * jnp.pi * jnp.arange(16) / 16)[:, None] * jnp.ones((1, 8))
    >>> round(float(measure(FIRST_LAYER[:1], W, W)["band edge"]), 3)
    0.45
    """
    _check_battery(battery)
    for half, name in ((fit, "fit"), (read, "read")):
        real_or_complex_array(half, name, (2,), "(out, in)")
    return _measure(battery, fit, read)


@functools.partial(jax.jit, static_argnums=0)
def _measure(battery: tuple[Measure, ...], fit: ArrayLike, read: ArrayLike) -> dict[str, Array]:
    return {entry.name: entry.function(fit, read) for entry in battery}


def _check_battery(battery: object) -> None:
    if not isinstance(battery, tuple):
        raise TypeError(f"battery: got {battery!r}; must be a tuple of measures, such as FIRST_LAYER.")
    for entry in battery:
        instance_of(entry, "battery", Measure, "a tuple of measures, such as FIRST_LAYER")


@functools.partial(jax.jit, static_argnums=0)
def _measure_draws(battery: tuple[Measure, ...], fits: Array, reads: Array) -> dict[str, Array]:
    return jax.vmap(functools.partial(measure, battery))(fits, reads)


def compare(
    battery: tuple[Measure, ...],
    fit: ArrayLike,
    read: ArrayLike,
    nulls: Mapping[str, tuple[ArrayLike, ArrayLike]],
) -> Readings:
    """Compute the readings of a layer and of draws from null models, and compare the layer with the draws.

    To prepare the arguments, split the samples into two halves and find one P on each half. Readings that choose
    something, such as a law, choose it on `fit` and test it on `read`. Do the same for every draw. Each null model is
    one compiled program, vmapped over its draws.

    Args:
        battery: the readings to compute: `FIRST_LAYER`, `SECOND_LAYER`, or a tuple of `Measure`s.
        fit: the weight, descrambled with the P of the first half of the signals, shape (out, in).
        read: the same weight, descrambled with the P of the second half of the signals, shape (out, in).
        nulls: `{name: (fits, reads)}`, one entry per null model. `fits` and `reads` are stacks of shape
            (draws, out, in): every draw, descrambled on its first half and on its second half. Draws must go through
            the same pipeline as the weight.

    Returns:
        A list with one `Reading` per measure: its value, and the effect and the p-value for each null model. An effect
        is in standard deviations of the null; a negative effect means that the value is smaller than the null.

    Raises:
        TypeError, ValueError: if shapes do not match, or if an array contains NaN or infinity.

    The example uses W and the draws without descrambling, because P cannot change the band edge.

    >>> from jaxdescramble.findings import FIRST_LAYER
    >>> W = jnp.outer(jnp.cos(2 * jnp.pi * jnp.arange(16) / 16), jnp.ones(8))
    >>> draws = jax.vmap(random_frame, in_axes=(0, None))(jax.random.split(jax.random.key(0), 19), W)
    >>> edge = compare(FIRST_LAYER[:1], W, W, {"random frame": (draws, draws)})[0]
    >>> edge.p_value["random frame"], edge.effect["random frame"] < -3
    (0.05, True)
    """
    _check_battery(battery)
    fit, read = pair(fit, read, "(out, in)")
    instance_of(nulls, "nulls", Mapping, "a dictionary {name: (fits, reads)}")
    stacks = {name: _stacks(name, stack, fit) for name, stack in nulls.items()}
    values = measure(battery, fit, read)
    draws = {name: _measure_draws(battery, *stack) for name, stack in stacks.items()}
    rounding = 1e3 * float(jnp.finfo(fit.dtype).eps)
    readings = []
    for entry in battery:
        value = float(values[entry.name])
        of_null = {name: np.asarray(draw[entry.name]) for name, draw in draws.items()}
        judged = {name: _judge(value, draw, entry.direction, rounding) for name, draw in of_null.items()}
        readings.append(
            Reading(
                entry.name,
                value,
                entry.depends_on_point,
                entry.direction,
                entry.unit,
                of_null,
                {name: verdict.effect for name, verdict in judged.items()},
                {name: verdict.difference for name, verdict in judged.items()},
                {name: verdict.p_value for name, verdict in judged.items()},
                entry.note,
            )
        )
    return Readings(readings)


def _stacks(name: str, stack: tuple[ArrayLike, ArrayLike], like: Array) -> tuple[Array, Array]:
    if not isinstance(stack, tuple | list) or len(stack) != 2:
        raise TypeError(f"nulls[{name!r}]: got {type(stack).__name__}; must be a pair (fits, reads) of stacks.")
    fits, reads = (real_or_complex_array(part, f"nulls[{name!r}]", (3,), "(draws, out, in)") for part in stack)
    shape = like.shape
    for part in (fits, reads):
        if is_complex(part) != is_complex(like):
            raise TypeError(
                f"nulls[{name!r}]: got {part.dtype} for a weight of {like.dtype}; both must be real or both complex, "
                "because draws go through the same pipeline as the weight."
            )
        if part.shape[1:] != shape or part.shape != fits.shape:
            raise ValueError(
                f"nulls[{name!r}]: got stacks of shapes {fits.shape} and {reads.shape}; both must have shape "
                f"(draws, *{shape})."
            )
        if not is_finite(part):
            raise ValueError(f"nulls[{name!r}]: contains NaN or infinity. Call .check() on each draw's descrambling.")
    return fits, reads


class _Judged(NamedTuple):
    difference: float | None
    effect: float | None
    p_value: float


def _judge(value: float, draws: np.ndarray, direction: int, rounding: float) -> _Judged:
    """Return the difference from the mean of the null, the effect size and the p-value."""
    draws = draws.astype(np.float64)
    finite = draws[np.isfinite(draws)]
    size = max(abs(value), float(np.abs(finite).max(initial=0.0))) if np.isfinite(value) else 0.0
    # If P cannot change a reading and the null changes only P, all draws agree up to rounding. They count as ties.
    slack = rounding * size
    above, below = (1 + int(np.sum(~(sign * draws < sign * value - slack))) for sign in (1, -1))
    extreme = {1: above, -1: below}.get(direction, min(2 * min(above, below), len(draws) + 1))
    p_value = extreme / (len(draws) + 1)
    if not np.isfinite(value) or len(finite) == 0:
        return _Judged(None, None, p_value)
    difference = value - float(finite.mean())
    spread = float(finite.std(ddof=1)) if len(finite) > 1 else 0.0
    return _Judged(difference, difference / spread if spread > slack else None, p_value)
