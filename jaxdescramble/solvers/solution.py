"""The result of a solver, and the record of its steps."""

import dataclasses
import functools
import math
import os
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from jaxdescramble._base import results
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.results import Stored
from jaxdescramble._base.status import FUNCTION_DIAGNOSES, check_status
from jaxdescramble.solvers._point_files import nested, put_together, taken_apart

Count = Shaped[Array | np.ndarray, "*batch"]
"""A number of type int32. If a solution is a tangent, the type is float0, which only NumPy has."""


class History(NamedTuple):
    """The record of a solve, one entry for each step; entries after the last step are NaN.

    Attributes:
        value: f(P) after the step.
        gradient_norm: norm of the gradient after the step; on O(n) `||g||_F` with `g = skew(P^T grad f)`.
    """

    value: Float[Array, "*batch length"]
    gradient_norm: Float[Array, "*batch length"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


@functools.partial(
    register_dataclass,
    data_fields=["point", "value", "gradient_norm", "steps", "status", "evaluations", "history", "classes", "residual"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True, repr=False)
class Solution(Stored):
    """Result of a solve: a point, and what the solver did to find it. A pytree; leading axes are batches.

    Attributes:
        point: P, on the manifold up to rounding; an array, or a pytree of arrays. `minimise` makes it differentiable.
        value: f(P). `minimise` makes it differentiable.
        gradient_norm: norm of the gradient on the manifold; on O(n), `||skew(P^T grad f)||_F`.
        steps: number of (outer) steps in the determinant class of the answer. `Restarts` and the other combinators add
            up the steps of all their solves.
        status: a `jaxdescramble.Status`: 0 (`SOLVED`), 1 (`KINK`), 4 (`PRECISION`) and 9 (`DECREASE_SMALL`) are
            answers.
        evaluations: number of evaluations of the function, its gradient or a Hessian product, over all classes.
        history: value and gradient norm after each step; None if no record was requested.
        classes: number of determinant classes that were searched: 2 on O(n), 1 for the class of the start only and on
            connected manifolds.
        residual: `gradient_norm` in units of the norm of the gradient in the space of all matrices, from 0 (a
            stationary point) to 1. It says how far derivatives of the point can be trusted. On `Euclidean()` alone it
            is always 1.
    """

    point: PyTree
    value: Float[Array, "*batch"]
    gradient_norm: Float[Array, "*batch"]
    steps: Count
    status: Count
    evaluations: Count
    history: History | None = None
    classes: Count | int = 1
    residual: Float[Array, "*batch"] | float = math.nan

    def check(self) -> "Solution":
        """Return this result if every problem of the batch was solved.

        Raises:
            FloatingPointError: if a problem was not solved; the message names it, the reason and what to do.
        """
        check_status(self.status, "minimise", FUNCTION_DIAGNOSES, steps=self.steps)
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `.npz` file. An old file of this name stays whole until the new one is complete.

        The point is an array, or a pytree of tuples, lists and dicts with text as keys.

        Raises:
            TypeError: if `path` is not a path, the result is traced, or the point has other containers or keys.
            OSError: if the file cannot be written (no such folder, a full disk).
        """
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if not hasattr(self.point, "dtype"):
            content["point"], content["structure"] = taken_apart(self.point)
        results.write(path, content, type(self).__name__, self.format)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Solution":
        """Read a file that `save` wrote. All arrays are JAX arrays.

        Raises:
            FileNotFoundError: if the file does not exist.
            TypeError: if `path` is not a path.
            ValueError: if the file is not a whole file of this class, or has another version.

        >>> import jax.numpy as jnp
        >>> one = jnp.asarray(1.0)
        >>> Solution(({"turn": jnp.eye(2)}, one), one, one, one, one, one).save("found.npz")
        >>> Solution.load("found.npz").point[0]["turn"].shape
        (2, 2)
        """
        content = results.read(path, cls.__name__, cls.format)
        structure = content.pop("structure", None)
        below = results.below_path(content, "point")
        found = results.built(cls, content)
        if structure is None:
            return found if "point" in content else dataclasses.replace(found, point=nested(below))
        try:
            return dataclasses.replace(found, point=put_together(below, str(structure)))
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(
                f"path: {path} is not a whole Solution file ({error}); write it again with .save()."
            ) from error
