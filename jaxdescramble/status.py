"""How one problem ended, as data inside `jit` and as an exception at the edge."""

import enum

import numpy as np
from jaxtyping import Array, Int

from jaxdescramble.checks import is_traced


class Status(enum.IntEnum):
    """How a problem ended: an integer per problem, so that it survives `jit` and `vmap`.

    `SOLVED`, `KINK` and `PRECISION` are answers; the others say why there is none. `KINK` is an exact answer at which
    the value has no gradient in the signals, only a supergradient: singular values that are equal, in this precision,
    meet unequal eigenvalues. `PRECISION` is where an iterative solver could lower the value no further, short of the
    gradient norm it was asked for: what is left is rounding.
    """

    SOLVED = 0
    KINK = 1
    ZERO_SIGNALS = 2
    NOT_FINITE = 3
    PRECISION = 4
    STEPS_SPENT = 5
    OFF_GROUP = 6

    @property
    def usable(self) -> bool:
        """Whether the point of a result with this status is a minimiser."""
        return self in (Status.SOLVED, Status.KINK, Status.PRECISION)


DIAGNOSES = {
    Status.ZERO_SIGNALS: (
        "the signals, or their squares, are all zero, so every point is a minimiser. Likely causes: no columns were "
        "given to the summary, weights that are all zero, dead neurons (a ReLU layer that never fires), the wrong tap, "
        "or entries whose squares leave the type's range (rescale them). Pass signals with some energy."
    ),
    Status.NOT_FINITE: (
        "the signals (or the operator, or weights of samples, of which none may be negative either) contain NaN or "
        "infinity. Likely causes: an overflow in half precision, a "
        "diverged network, or a division by zero in preprocessing. Find the columns with "
        "`jnp.isfinite(signals).all(axis=0)`."
    ),
    Status.STEPS_SPENT: (
        "all steps were taken before the gradient vanished. The point is orthogonal and as good as its value says. Go "
        "on from it (start=result.point), allow more max_steps, ask for less (tolerance=), or give a preconditioner."
    ),
    Status.OFF_GROUP: (
        "the point is not orthogonal, most likely because the start was not. Project it: "
        "groups.orthogonal.polar(start)[0]."
    ),
}


def check_status(status: Int[Array, "*batch"], what: str) -> None:
    """Raise `FloatingPointError` with a diagnosis if any problem of a batch has no answer.

    Args:
        status: one `Status` per problem, any batch shape.
        what: the name of the result, for the message.

    Raises:
        FloatingPointError: names the first failing problems, the likely causes and what to do.

    >>> check_status(np.asarray([0, 1]), "descramble")
    """
    if is_traced(status):
        raise TypeError(f"{what}: .check() reads concrete numbers; call it outside jit, on the result.")
    seen = np.asarray(status)
    for member in Status:
        if member.usable or not (seen == member).any():
            continue
        where = "" if seen.ndim == 0 else f" in problems {np.argwhere(seen == member)[:5].tolist()} of {seen.shape}"
        raise FloatingPointError(f"{what}: {member.name}{where}: {DIAGNOSES[member]}")
