"""How far a network moves when its soft gates are made hard."""

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
    """What hard gates change, over a batch.

    Attributes:
        outputs: `|f_hard - f|_F / |f|_F`.
        direction: the same with the best common factor on f_hard: 0 if outputs are only scaled, as they are by soft
            gates that let more than 1 through; at most 1.
        predictions: share of the samples whose largest output (or, of a single one, whose sign) is another.
    """

    outputs: Float[Array, ""]
    direction: Float[Array, ""]
    predictions: Float[Array, ""]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def hardening_gap(params: Params, x: ArrayLike, spec: Spec) -> HardeningGap:
    """What becomes of a network that was trained with soft gates when `1[q > 0]` is put in their place.

    Args:
        params, x, spec: as for `apply`. The nonlinearity of a dgn's features stays.

    Returns:
        Gaps, all zero for hard and straight-through gates.

    Raises:
        ValueError, TypeError: arrays that do not fit the spec.

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
