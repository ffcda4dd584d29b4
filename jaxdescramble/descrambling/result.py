"""Result of a descrambling: the descrambler, its certificate (bound, gap, status), and methods that use them."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact, Int, PRNGKeyArray

from jaxdescramble._base.checks import (
    file_path,
    numbers,
    positive_integer,
    random_key,
    real_array,
    real_or_complex_array,
    same_size,
    sample_weights,
)
from jaxdescramble._base.files import write_arrays
from jaxdescramble._base.products import is_complex, matmul, real_type
from jaxdescramble._base.programs import fused
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.results import Result
from jaxdescramble._base.status import check_status
from jaxdescramble.descrambling._objective_files import objective_named, written
from jaxdescramble.objectives import Objective
from jaxdescramble.objectives.weighing import clear
from jaxdescramble.solvers import Stationarity, stationarity

FORMAT, WIDE_FORMAT = 3, 4
"""Versions of the files: of a square point, and of a point from `rank`, which also has `left_out`."""


@functools.partial(
    register_dataclass,
    data_fields=[
        "point",
        "value",
        "initial_value",
        "bound",
        "gap",
        "rank",
        "steps",
        "status",
        "singular_values",
        "objective",
        "classes",
        "samples",
        "residual",
        "left_out",
    ],
    meta_fields=[],
    asides=["how"],
)
@dataclasses.dataclass(frozen=True, repr=False)
class Descrambling(Result):
    """A descrambler, and how good it is. A pytree; leading axes are batches.

    Attributes:
        point: the descrambler P; `P S` are the descrambled signals and `P W` the descrambled weights. Shape (n, n), or
            (k, n) with orthonormal rows for `rank=k`. Complex with group "U" or "SU".
        value: the objective at P.
        initial_value: the objective in the raw frame, P = 1; with `rank=k`, of the k leading principal components.
        bound: a lower bound of the objective for all matrices of the group; minus infinity if the objective has none.
            With `rank`, for all P with the same rows up to a turn.
        gap: `value - bound`, the most that a better P could gain; zero up to rounding for a closed form.
        rank: number of principal components of the signals that are larger than rounding; with `rank=k`, at most k.
        steps: number of iterations; 0 for a closed form.
        status: a `jaxdescramble.Status` per problem; `.check()` turns a bad one into an exception.
        singular_values: singular values of the signals, descending; with `rank=k`, the k largest.
        objective: the objective that was minimised.
        classes: number of determinant classes of O(n) that were searched: 2, or 1 with group "SO" or a given start.
        samples: effective number of samples, `(sum w)^2 / sum w^2` with weights w (Kish); without weights, their
            number. NaN if unknown, as in files of format 1.
        residual: size of the gradient at P in units of the gradient in the space of all matrices; 0 for a closed form,
            NaN for a permutation. If an iterative solver ended with `DECREASE_SMALL` and this is above 1e-4, the
            derivative of the point is NaN.
        left_out: the fraction of the energy `||S||_F^2` (weighted) that `P S` does not contain; 0 without `rank`.
        how: what was done to find P, in words: the solver, its starts and its stages.
    """

    point: Inexact[Array, "*batch k n"]
    value: Float[Array, "*batch"]
    initial_value: Float[Array, "*batch"]
    bound: Float[Array, "*batch"]
    gap: Float[Array, "*batch"]
    rank: Int[Array, "*batch"]
    steps: Int[Array, "*batch"]
    status: Int[Array, "*batch"]
    singular_values: Float[Array, "*batch k"]
    objective: Objective
    classes: Int[Array, "*batch"] | int = 1
    samples: Float[Array, "*batch"] | float = math.nan
    residual: Float[Array, "*batch"] | float = math.nan
    left_out: Float[Array, "*batch"] | float = 0.0
    how: str = ""

    def check(self) -> "Descrambling":
        """Return this result if every problem of the batch has an answer.

        Raises:
            FloatingPointError: if a problem has none; the message names it, the reason and what to do.
        """
        check_status(self.status, "descramble", steps=self.steps)
        return self

    def problem(self, index: int | tuple[int, ...]) -> "Descrambling":
        """Return one problem of the batch, by its index on the leading axes.

        Raises:
            TypeError: if the index is not an integer or a tuple of integers.
            IndexError: if the index is out of range.
        """
        axes = self.point.shape[:-2]
        place = index if isinstance(index, tuple) else (index,)
        if not all(hasattr(i, "__index__") and np.ndim(i) == 0 and not isinstance(i, bool) for i in place):
            raise TypeError(f"index: expected an integer, or a tuple of them, got {index!r}.")
        if len(place) > len(axes) or any(not -size <= i < size for i, size in zip(place, axes, strict=False)):
            raise IndexError(f"index: there is no problem {index}; the batch has the shape {axes}.")
        leaves = {name: leaf for name, leaf in vars(self).items() if np.ndim(leaf)}
        return dataclasses.replace(self, **_member(leaves, place))

    def transform(self, signals: ArrayLike) -> Inexact[Array, "*batch k m"]:
        """Return `P S` for any signals S of this layer, also new ones.

        Args:
            signals: the signals S, shape (features, samples), or with the batch axes of the point.

        Raises:
            ValueError: if the features do not fit.
        """
        ndim = self.point.ndim
        columns = self._array(signals, {2, ndim}, "(features, samples) or (layers, features, samples)")
        same_size(columns, -2, self.point.shape[-1], "signals", "the descrambler")
        return jnp.matmul(self.point, columns.astype(self.point.dtype), precision="highest")

    def _array(self, signals: ArrayLike, ndims: set[int], axes: str) -> Array:
        return (real_or_complex_array if is_complex(self.point) else real_array)(signals, "signals", ndims, axes)

    def score(self, signals: ArrayLike, weights: ArrayLike | None = None) -> Float[Array, "*batch"]:
        """Return the objective of `P S` on signals S, such as held-out signals that P has not seen.

        With `rank`, this is the objective of the signals `P S`, as if nothing had been left out.

        Args:
            signals: the signals S, with the batch axes of those that were descrambled.
            weights: how much each sample counts, shape (samples,) or with the batch axes, at least 0; None means 1
                each.

        Raises:
            ValueError, TypeError: if the features, the batch axes or the weights do not fit.
        """
        columns, weights = self._columns(signals, weights)
        arrays = self._square(columns, weights)
        return batched(_score, columns.ndim - 2)(self.objective, *arrays)

    def _columns(self, signals: ArrayLike, weights: object) -> tuple[Array, Array | None]:
        """Return the signals, and the weights of their samples or None, in the form that the objective takes."""
        if isinstance(signals, list | tuple) and any(getattr(one, "ndim", 0) == 2 for one in signals):
            raise TypeError(
                f"signals: got a list of {len(signals)}; give one array. For a frame that layers share, score them one "
                "by one: [found.score(S) for S in layers]."
            )
        columns = self._array(signals, {self.point.ndim}, "(features, samples), with the batch axes of the answer")
        same_size(columns, -2, self.point.shape[-1], "signals", "the descrambler")
        if columns.shape[:-2] != self.point.shape[:-2]:
            raise ValueError(
                f"signals: batch {columns.shape[:-2]} does not fit the descrambler's {self.point.shape[:-2]}."
            )
        return weighed(self.objective, columns.astype(self.point.dtype), weights)

    def _square(self, columns: Array, weights: Array | None) -> tuple[Array, ...]:
        """Return a square point and signals for the objective: P and S; with `rank=k`, the point 1 and `P S`."""
        point, k = self.point, self.point.shape[-2]
        if k != point.shape[-1]:
            if weights is not None:
                columns = clear(columns, weights)
            columns = matmul(point, columns)
            point = jnp.broadcast_to(jnp.eye(k, dtype=point.dtype), (*point.shape[:-1], k))
        return (point, columns) if weights is None else (point, columns, weights)

    def stationarity(
        self, signals: ArrayLike, weights: ArrayLike | None = None, *, key: PRNGKeyArray, steps: int = 60
    ) -> Stationarity:
        """Test whether P is a minimum: return its gradient norm and extreme curvatures, without gauge directions.

        Use it for answers of an iterative solver if the `gap` is large, so that the bound does not decide. It takes
        about `steps` products with the Hessian. See `solvers.stationarity` for the meaning of the result.

        Args:
            signals: the signals that were descrambled, with their batch axes.
            weights: the weights of their samples; None means 1 each.
            key: random key of the first direction.
            steps: number of Hessian products, fixed at compile time.

        Raises:
            TypeError, ValueError: if the features or the batch axes do not fit, `key` is not a key, or `steps` is less
                than 1.
        """
        (columns, weights), key = self._columns(signals, weights), random_key(key)
        arrays = self._square(columns, weights)
        return batched(functools.partial(_stationarity, key=key, steps=steps), columns.ndim - 2)(
            self.objective, *arrays
        )

    def tightest_bound(
        self, signals: ArrayLike, weights: ArrayLike | None = None, *, steps: int = 40
    ) -> Float[Array, "*batch"]:
        """Return the highest known lower bound for all orthogonal P: `bound`, or that of the objective's relaxation.

        Use it if `gap` is large: `value` minus this bound is the most that a better P could gain. The relaxation takes
        steps + 1 eigendecompositions of matrices of dimension n (n + 1) / 2. On one core of an idle machine, this is a
        second at n = 32 and a minute at n = 64. Problems of a batch are solved one after another.

        Args:
            signals: the signals that were descrambled, with their batch axes.
            weights: the weights of their samples; None means 1 each.
            steps: number of steps that improve the multipliers of the relaxation, fixed at compile time; 0 takes none.
                Every number gives a valid bound.

        Returns:
            The bound; minus infinity if the objective has none, and NaN if the signals are not finite.

        Raises:
            ValueError: if the features or the batch axes do not fit, `steps` is negative, or the dimension is above
                6000.

        >>> from jaxdescramble import objectives
        >>> from jaxdescramble.descrambling import descramble
        >>> signals = jax.random.normal(jax.random.key(0), (4, 100))
        >>> found = descramble(signals, objectives.locality("neumann"))
        >>> [round(float(x), 2) for x in (found.bound, found.tightest_bound(signals), found.value)]
        [0.0, 0.28, 0.28]
        """
        columns, weights = self._columns(signals, weights)
        steps = positive_integer(steps, "steps", least=0)
        return _tightest_bound(self.objective, self._square(columns, weights)[1], steps, weights)

    def save(self, path: str | Path) -> None:
        """Write to a `.npz` file; an old file stays until the new one is complete.

        Raises:
            TypeError: if `path` is not a path.
            OSError: if the file cannot be written (no such folder, a full disk).
        """
        path = file_path(path, "path")
        fields = {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}
        del fields["objective"], fields["how"]
        arrays, header = written(self.objective)
        version = FORMAT if self.point.shape[-2] == self.point.shape[-1] else WIDE_FORMAT
        if version == FORMAT:
            del fields["left_out"]
        about = {"format": version, "how": self.how}
        try:
            text = json.dumps({**about, **header})
        except TypeError:
            text = None
        if text is None or any(array.dtype == object for array in arrays.values()):
            # If a file cannot hold the objective, the user must give it to `load`; the numbers are saved anyway.
            arrays, text = {}, json.dumps({**about, "objective": "", "settings": {}, "summary": ""})
        write_arrays(path, {**fields, **arrays, "header": np.asarray(text)})

    @staticmethod
    def load(path: str | Path, objective: Objective | None = None) -> "Descrambling":
        """Read what `save` wrote.

        Args:
            path: path of the file.
            objective: the objective that was minimised; needed only if it is not one of `jaxdescramble.objectives`.

        Raises:
            FileNotFoundError: if there is no such file.
            TypeError: if `path` is not a path.
            ValueError: if the file is not a complete file of `save`, or the objective must be given.
        """
        path = file_path(path, "path")
        try:
            # Open the file here: NumPy does not close a file that it cannot read.
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                content = {name: file[name] for name in file.files}
            header = json.loads(str(content.pop("header")))
        except FileNotFoundError:
            raise
        except Exception as error:  # numpy, zipfile and json raise different errors for a broken file
            raise ValueError(
                f"path: {path} is not a whole Descrambling file ({error}); write it again with .save()."
            ) from error
        if header.get("format") not in (FORMAT, WIDE_FORMAT):
            raise ValueError(
                f"path: {path} has format {header.get('format')!r}, of another version of jaxdescramble; this version "
                f"reads format {FORMAT} and {WIDE_FORMAT}. Solve the problem again, or read the arrays with numpy.load."
            )
        data = {name: content.pop(name) for name in list(content) if ":" in name}
        if objective is None:
            objective = objective_named(header, data, str(path))
        numbers = {name: jnp.asarray(value) for name, value in content.items()}
        return Descrambling(**numbers, objective=objective, how=header.get("how", ""))


@fused
def _member(stacks: dict[str, Array], place: tuple[int | Array, ...]) -> dict[str, Array]:
    return {name: stack[place] for name, stack in stacks.items()}


def _score(objective: Objective, point: Array, columns: Array, weights: Array | None = None) -> Array:
    return objective(point, objective.summarise(columns, weights))


def _stationarity(
    objective: Objective, point: Array, columns: Array, weights: Array | None = None, *, key: PRNGKeyArray, steps: int
) -> Stationarity:
    group = "U" if is_complex(point) else None
    return stationarity(objective, point, objective.summarise(columns, weights), key=key, steps=steps, group=group)


@functools.partial(jax.jit, static_argnames="steps")
def _tightest_bound(objective: Objective, columns: Array, steps: int, weights: Array | None = None) -> Array:
    def one(problem: tuple[Array, Array | None]) -> Array:
        S, w = problem
        found = objective.tightest_bound(objective.summarise(S, w), steps)
        found = jnp.asarray(-jnp.inf if found is None else found, real_type(S.dtype))
        if w is None:
            return jnp.where(jnp.isfinite(S).all(), found, jnp.nan)
        known = jnp.isfinite(clear(S, w)).all() & (jnp.isfinite(w) & (w >= 0)).all()
        return jnp.where(known, found, jnp.nan)

    batch = columns.shape[:-2]
    if not batch:
        return one((columns, weights))
    flat = jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[len(batch) :])), (columns, weights))
    return jax.lax.map(one, flat).reshape(batch)


def weighed(objective: Objective, columns: Array, weights: object) -> tuple[Array, Array | None]:
    """Check signals and the weights of their samples; return both in the form that an objective takes.

    Args:
        objective: the objective that will read them.
        columns: the signals, shape (..., features, samples).
        weights: the weights, shape (samples,) for all layers or (..., samples); or None.

    Returns:
        The signals, and weights of shape (..., samples) or None.

    Raises:
        TypeError, ValueError: if the weights are not valid for this objective; see `Objective.summarise`.

    >>> from jaxdescramble import objectives
    >>> weighed(objectives.smoothness(), jnp.ones((3, 4, 2)), [1, 0])[1].shape
    (3, 2)
    """
    if weights is None:
        return columns, None
    shape = (*columns.shape[:-2], columns.shape[-1])
    weights = numbers(weights, "weights", f"one weight for each sample, an array of shape {shape[-1:]} or {shape}")
    layers = max(weights.ndim - 1, 0)
    given = sample_weights(weights, [shape[-1:], shape], real_type(columns.dtype), layers=layers)
    columns, given = objective.weighed(columns, given)
    return columns, None if given is None else jnp.broadcast_to(given, shape)


def batched(function: Callable, axes: int) -> Callable:
    """Return `function(objective, *arrays)`, vmapped over that many leading axes of the arrays."""
    for _ in range(axes):
        inner = function
        function = lambda objective, *arrays, inner=inner: jax.vmap(functools.partial(inner, objective))(*arrays)  # noqa: E731
    return function
