"""Frames of the transformer that cost nothing: a rotation of the residual stream, and one inside each head."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble.manifolds import orthogonal
from jaxdescramble.networks import transform
from jaxdescramble.studies.rotations.transformer import Params, TransformerPlan


class Frame(NamedTuple):
    """Rotations of a transformer.

    Attributes:
        stream: rotation of the residual stream.
        heads: rotation of the values of each head of each block.
    """

    stream: Float[Array, "width width"]
    heads: Float[Array, "layers heads size size"]


def unmoved(plan: TransformerPlan) -> Frame:
    """Return the frame in which the network was trained."""
    size, wide = plan.width // plan.heads, jnp.float32
    heads = jnp.broadcast_to(jnp.eye(size, dtype=wide), (plan.layers, plan.heads, size, size))
    return Frame(jnp.eye(plan.width, dtype=wide), heads)


def haar(key: PRNGKeyArray, plan: TransformerPlan) -> Frame:
    """Draw rotations from the Haar measure."""
    return Frame(*(drawn(one, like, orthogonal.random) for one, like in _with_keys(key, unmoved(plan))))


def hadamard(key: PRNGKeyArray, plan: TransformerPlan) -> Frame:
    """Draw random Hadamard matrices: `H diag(signs) / sqrt(n)`.

    Raises:
        ValueError: if no Hadamard matrix of one of the sizes is known.
    """
    return Frame(*(drawn(one, like, orthogonal.random_hadamard) for one, like in _with_keys(key, unmoved(plan))))


def _with_keys(key: PRNGKeyArray, frame: Frame) -> Iterator[tuple[PRNGKeyArray, Array]]:
    return zip(jax.random.split(key), frame, strict=True)


def drawn(
    key: PRNGKeyArray, like: Float[Array, "*batch n n"], draw: Callable[..., Array]
) -> Float[Array, "*batch n n"]:
    """Draw a matrix for each of the matrices in `like`, by `draw(key, n, dtype=...)`."""
    keys = jax.random.split(key, math.prod(like.shape[:-2]))
    return jnp.stack([draw(one, like.shape[-1], dtype=like.dtype) for one in keys]).reshape(like.shape)


def moved(params: Params, frame: Frame) -> Params:
    """Return folded parameters in another frame; with derivatives, as learning needs it (see `transformed`)."""

    def block(own: Params, heads: Float[Array, "heads size size"]) -> Params:
        size = heads.shape[-1]
        values = jnp.einsum("hij,hjn->hin", heads, own["v"].reshape(-1, size, own["v"].shape[1]))
        mixed = jnp.einsum("nhj,hij->nhi", own["o"].reshape(len(own["o"]), -1, size), heads)
        read = {name: own[name] @ frame.stream.T for name in ("q", "k", "gate", "up")}
        read["v"] = values.reshape(own["v"].shape) @ frame.stream.T
        written = {"o": frame.stream @ mixed.reshape(own["o"].shape), "down": frame.stream @ own["down"]}
        return own | read | written

    blocks = [block(own, heads) for own, heads in zip(params["blocks"], frame.heads, strict=True)]
    ends = {name: params[name] @ frame.stream.T for name in ("embedding", "head")}
    return params | ends | {"blocks": blocks}


def elements(frame: Frame) -> Mapping[str, np.ndarray]:
    """Return a frame as elements of the streams that `jd.symmetries` finds in the folded network."""
    heads = {f"['blocks'][{k}]['v']": np.asarray(one) for k, one in enumerate(frame.heads)}
    return {"['embedding']": np.asarray(frame.stream), **heads}


def transformed(params: Params, frame: Frame, plan: TransformerPlan) -> Params:
    """Return folded parameters in another frame, by `jd.transform`, which checks that the network is the same."""
    return transform(plan.network, params, np.zeros((1, plan.length), np.int32), elements(frame))


def off_orthogonal(frame: Iterable[Array]) -> float:
    """Return the largest entry of `P P^T - 1` of all rotations."""
    points = [np.asarray(one, np.float64) for one in frame]
    return max(float(np.abs(one @ np.swapaxes(one, -1, -2) - np.eye(one.shape[-1])).max()) for one in points)
