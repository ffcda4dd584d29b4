"""How much a network changes when hard gates replace its soft gates."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base import results
from jaxdescramble.gated.gate_kinds import Hard
from jaxdescramble.gated.networks import Params, apply
from jaxdescramble.gated.spec import Spec


class HardeningGap(NamedTuple):
    """The changes that hard gates cause, over a batch.

    Attributes:
        outputs: `|f_hard - f|_F / |f|_F`.
        direction: the same after f_hard is multiplied by the best common factor; at most 1. It is 0 if the outputs are
            only scaled. Soft gates that multiply by more than 1 scale them, for example.
        predictions: share of samples whose largest output changes its place. With a single output: share of samples
            whose sign changes.
    """

    outputs: Float[Array, ""]
    direction: Float[Array, ""]
    predictions: Float[Array, ""]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def hardening_gap(params: Params, x: ArrayLike, spec: Spec) -> HardeningGap:
    """Measure how much a network that was trained with soft gates changes when `1[q > 0]` replaces them.

    Args:
        params: parameters from `init`.
        x: the samples, shape (batch, inputs) or (batch, *space, channels).
        spec: the network. The feature gate of a "dgn" does not change.

    Returns:
        A `HardeningGap`; all zero for hard and straight-through gates.

    Raises:
        ValueError, TypeError: if an array does not match the spec.

    >>> from jaxdescramble.gated import FullyConnected, Soft, init
    >>> spec = Spec(FullyConnected(5, (4, 3), 2), gate=Soft())
    >>> params, x = init(jax.random.key(0), spec), jax.random.normal(jax.random.key(1), (7, 5))
    >>> bool(hardening_gap(params, x, spec).outputs > 0)
    True
    """
    soft = apply(params, x, spec)
    hard = apply(params, x, dataclasses.replace(spec, gate=Hard()))
    tiny = jnp.finfo(soft.dtype).tiny
    size = jnp.maximum(jnp.linalg.norm(soft), tiny)
    factor = jnp.sum(hard * soft) / jnp.maximum(jnp.sum(hard**2), tiny)
    before, after = (f[:, 0] > 0 if f.shape[1] == 1 else jnp.argmax(f, axis=1) for f in (soft, hard))
    return HardeningGap(
        jnp.linalg.norm(hard - soft) / size,
        jnp.linalg.norm(factor * hard - soft) / size,
        jnp.mean((before != after).astype(soft.dtype)),
    )
