"""A small transformer of the Llama kind: RMS norm before each part, rotary positions, gated units; bytes in and out."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxdescramble._base.checks import positive_integer
from jaxdescramble.networks import fold
from jaxdescramble.studies.rotations.text import Text, windows

BYTES = 256
READ = {"attention": ("q", "k", "v"), "mlp": ("gate", "up")}
"""The weights that read the result of each norm."""

Params = dict[str, Any]


@dataclass(frozen=True)
class TransformerPlan:
    """Sizes and training.

    Attributes:
        layers, width, heads, gated: number of blocks, width of the residual stream, heads, gated units of a block.
        length: bytes of a window.
        batch, steps: windows of a training step, and number of steps.
        learning_rate: largest rate of AdamW; it rises during 5% of the steps, then falls to a tenth along a cosine.
        decay: weight decay of matrices.
    """

    layers: int = 4
    width: int = 128
    heads: int = 4
    gated: int = 384
    length: int = 128
    batch: int = 16
    steps: int = 1000
    learning_rate: float = 4e-3
    decay: float = 0.1

    def __post_init__(self):
        for name in ("layers", "width", "heads", "gated", "length", "batch", "steps"):
            positive_integer(getattr(self, name), name)
        if self.width % (2 * self.heads):
            raise ValueError(f"heads: got {self.heads}; an even width of a head, width / heads, must be whole.")

    @property
    def network(self) -> Callable[..., Float[Array, "rows length 256"]]:
        """The function `f(params, tokens)`."""
        return _network_with(self.heads)


@functools.cache
def _network_with(heads: int) -> Callable[..., Array]:
    return functools.partial(network, heads=heads)


@runtime_checkable
class Rounding(Protocol):
    """Round what enters a product: weights (out, in) for each output, activations (..., in) for each token."""

    def weight(self, weight: Array) -> Array: ...
    def activation(self, x: Array) -> Array: ...


def initial(key: PRNGKeyArray, plan: TransformerPlan) -> Params:
    """Draw parameters: normal weights (out, in), gains of 1."""
    n, m, wide = plan.width, plan.gated, jnp.float32
    shapes = dict.fromkeys("qkvo", (n, n)) | {"gate": (m, n), "up": (m, n), "down": (n, m)}
    keys = iter(jax.random.split(key, 2 + plan.layers * len(shapes)))

    def drawn(shape: tuple[int, int], scale: float = 1.0) -> Array:
        return scale * shape[1] ** -0.5 * jax.random.normal(next(keys), shape, wide)

    # Parts that write to the residual stream start smaller, so that its size does not depend on the depth.
    small = (2 * plan.layers) ** -0.5
    return {
        "embedding": drawn((BYTES, n)),
        "blocks": [
            {name: drawn(shape, small if name in ("o", "down") else 1.0) for name, shape in shapes.items()}
            | {"gains": {name: jnp.ones(n, wide) for name in READ}}
            for _ in range(plan.layers)
        ],
        "gain": jnp.ones(n, wide),
        "head": drawn((BYTES, n)),
    }


def network(
    params: Params,
    tokens: Int[Array | np.ndarray, "rows length"],
    *,
    heads: int,
    rounding: Rounding | None = None,
    watch: Callable[[str, int, Array], None] | None = None,
) -> Float[Array, "rows length 256"]:
    """Return the logits of the next byte at every place.

    Args:
        params: parameters; gains that are None are left out (see `folded`).
        tokens: bytes.
        heads: number of heads.
        rounding: rounds weights and activations of the products inside the blocks; embedding and head stay exact.
        watch: called as `watch(name, block, x)` with what enters "q", "gate", "o" and "down".
    """

    def norm(x: Array, gain: Array | None) -> Array:
        x = x / jnp.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)
        return x if gain is None else x * gain[None, None]

    def entering(name: str, number: int, x: Array) -> Array:
        if watch is not None:
            watch(name, number, x)
        return x if rounding is None else rounding.activation(x)

    def dense(weight: Array, x: Array) -> Array:
        return x @ (weight if rounding is None else rounding.weight(weight)).T

    def split(x: Array) -> Array:
        return x.reshape(*x.shape[:2], heads, -1)

    length = tokens.shape[1]
    x = params["embedding"][tokens]
    angles = _angles(length, x.shape[-1] // heads, x.dtype)
    later = jnp.arange(length)[None, :] > jnp.arange(length)[:, None]
    for number, block in enumerate(params["blocks"]):
        seen = entering("q", number, norm(x, block["gains"]["attention"]))
        q, k, v = (split(dense(block[name], seen)) for name in "qkv")
        scores = jnp.einsum("sihd,sjhd->shij", _turned(q, angles), _turned(k, angles)) / q.shape[-1] ** 0.5
        shares = jax.nn.softmax(jnp.where(later[None, None], -1e9, scores))
        mixed = jnp.einsum("shij,sjhd->sihd", shares, v).reshape(x.shape)
        x = x + dense(block["o"], entering("o", number, mixed))
        seen = entering("gate", number, norm(x, block["gains"]["mlp"]))
        inner = jax.nn.silu(dense(block["gate"], seen)) * dense(block["up"], seen)
        x = x + dense(block["down"], entering("down", number, inner))
    return norm(x, params["gain"]) @ params["head"].T


def _angles(length: int, size: int, dtype: Any) -> Array:
    frequencies = 10_000.0 ** (-np.arange(size // 2) / (size // 2))
    return jnp.asarray(np.arange(length)[:, None] * frequencies, dtype)[None, :, None]


def _turned(x: Array, angles: Array) -> Array:
    """Turn the plane of coordinates k and k + size / 2 by the angle of the place."""
    first, second = jnp.split(x, 2, axis=-1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


def cross_entropy(logits: Float[Array, "rows length 256"], tokens: Int[Array, "rows length"]) -> Float[Array, ""]:
    """Return the mean loss in nats for each byte, from the second byte of each window on."""
    return optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:]).mean()


def folded(params: Params, plan: TransformerPlan) -> Params:
    """Multiply the gains into the weights that read them, and leave the gains out: the same function."""
    params, what = fold(plan.network, params, np.zeros((1, plan.length), np.int32))
    kept = {name: why for name, why in what.items() if why.startswith("kept")}
    if kept:
        raise ValueError(f"params: some gains cannot be folded: {kept}.")
    blocks = [block | {"gains": dict.fromkeys(READ)} for block in params["blocks"]]
    return params | {"blocks": blocks, "gain": None}


class Trained(NamedTuple):
    """A trained network: parameters with gains, and its losses in nats for each byte."""

    params: Params
    losses: np.ndarray
    validation: float


@functools.partial(jax.jit, static_argnames="plan")
def _advance(
    params: Params, state: Any, text: Array, key: PRNGKeyArray, start: Array, plan: TransformerPlan
) -> tuple[Params, Any, Array]:
    def step(carry: tuple[Params, Any], number: Array) -> tuple[tuple[Params, Any], Array]:
        params, state = carry
        starts = jax.random.randint(jax.random.fold_in(key, number), (plan.batch,), 0, len(text) - plan.length)
        tokens = text[starts[:, None] + jnp.arange(plan.length)[None]].astype(jnp.int32)
        loss, slope = jax.value_and_grad(lambda p: cross_entropy(plan.network(p, tokens), tokens))(params)
        update, state = _optimiser(plan).update(slope, state, params)
        return (jax.tree.map(jnp.add, params, update), state), loss

    (params, state), losses = jax.lax.scan(step, (params, state), start + jnp.arange(chunk_of(plan)))
    return params, state, losses


def chunk_of(plan: TransformerPlan) -> int:
    """Return the number of steps of one program."""
    return min(50, plan.steps)


def _optimiser(plan: TransformerPlan) -> optax.GradientTransformation:
    warm = max(1, plan.steps // 20)
    rate = optax.warmup_cosine_decay_schedule(0.0, plan.learning_rate, warm, plan.steps, plan.learning_rate / 10)
    decayed = functools.partial(jax.tree.map, lambda leaf: leaf.ndim > 1)
    adam = optax.adamw(rate, b2=0.95, weight_decay=plan.decay, mask=decayed)
    return optax.chain(optax.clip_by_global_norm(1.0), adam)


def train(
    key: PRNGKeyArray, text: Text, plan: TransformerPlan, progress: Callable[[int, int], None] | None = None
) -> Trained:
    """Train a network on the first part of a text.

    Args:
        key: random key of the parameters and the batches.
        text: the text.
        plan: sizes and training.
        progress: called as `progress(done, steps)` after every chunk of steps.
    """
    first, batches = jax.random.split(key)
    params = initial(first, plan)
    state, seen = _optimiser(plan).init(params), jnp.asarray(text.training)
    losses: list[np.ndarray] = []
    for start in range(0, plan.steps, chunk_of(plan)):
        params, state, some = _advance(params, state, seen, batches, jnp.asarray(start), plan)
        losses.append(np.asarray(some))
        if progress is not None:
            progress(start + chunk_of(plan), plan.steps)
    tokens = windows(text.validation, plan.length, min(64, len(text.validation) // plan.length))
    loss = jax.jit(lambda p, t: cross_entropy(plan.network(p, t), t))(params, jnp.asarray(tokens, jnp.int32))
    return Trained(params, np.concatenate(losses), float(loss))
