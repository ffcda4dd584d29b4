"""What a solver gives back."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxdescramble._base import results
from jaxdescramble._base.results import Stored
from jaxdescramble._base.status import FUNCTION_DIAGNOSES, check_status

Count = Shaped[Array | np.ndarray, "*batch"]
"""Of type int32; of float0, which is NumPy's, where a solution is a tangent."""


class History(NamedTuple):
    """A trace of a solve, one entry after each step; NaN from the last step on.

    Attributes:
        value: f.
        gradient_norm: `||g||_F`.
    """

    value: Float[Array, "*batch length"]
    gradient_norm: Float[Array, "*batch length"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["point", "value", "gradient_norm", "steps", "status", "evaluations", "history", "classes"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True, repr=False)
class Solution(Stored):
    """Result of a solve: a point of the group, and what the solver did to find it. A pytree; leading axes are batches.

    Attributes:
        point: P, orthogonal to rounding. Differentiable (`minimise`).
        value: f(P), at this very point. Differentiable.
        gradient_norm: `||skew(P^T grad f)||_F`.
        steps: outer steps taken, in the determinant class of the answer.
        status: a `jaxdescramble.Status`.
        evaluations: of the function, its gradient or a Hessian product, together, in all classes.
        history: values and gradient norms after each step, if asked for.
        classes: how many determinant classes of O(n) the answer is the best of: 2, or 1 for that of the start alone.
    """

    point: Float[Array, "*batch n n"]
    value: Float[Array, "*batch"]
    gradient_norm: Float[Array, "*batch"]
    steps: Count
    status: Count
    evaluations: Count
    history: History | None = None
    classes: Count | int = 1

    def check(self) -> "Solution":
        """This result, if every problem of the batch was solved.

        Raises:
            FloatingPointError: says which problems were not, why, and what to do.
        """
        check_status(self.status, "minimise", FUNCTION_DIAGNOSES)
        return self
