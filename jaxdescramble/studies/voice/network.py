"""A fully connected network that takes noise off speech: spectra of some frames in, a mask of the middle frame out."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float, Int, PRNGKeyArray, PyTree

from jaxdescramble._base.checks import positive_integer
from jaxdescramble._base.products import matmul
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.studies.voice.noises import NOISES
from jaxdescramble.studies.voice.recordings import Recording
from jaxdescramble.studies.voice.spectra import BANDS, FRAME, RATE, features, spectra
from jaxdescramble.studies.voice.synthetic import generator


@dataclass(frozen=True)
class VoicePlan:
    """Everything that a training run depends on, except the recordings and the random key.

    All hidden layers have as many neurons as there are bands, 129, so a diagonal has a meaning in every layer.

    Args:
        lags: number of frames that the network reads, odd; its answer is about the middle one.
        hidden: number of hidden layers.
        steps: number of training steps.
        batch: number of frames in a step; each step mixes new frames with new noise.
        learning_rate: learning rate of Adam at the start; it falls to 0 along a cosine.
        snrs: range of the signal-to-noise ratio in dB.
        shuffled: whether every frame gets the target of another frame, so that only a mean mask can be learned.
    """

    lags: int = 5
    hidden: int = 2
    steps: int = 3000
    batch: int = 256
    learning_rate: float = 1e-3
    snrs: tuple[float, float] = (0.0, 10.0)
    shuffled: bool = False

    def __post_init__(self):
        for name in ("lags", "hidden", "steps", "batch"):
            positive_integer(getattr(self, name), name)
        if self.lags % 2 == 0:
            raise ValueError(f"lags: got {self.lags}; must be odd, so that one frame is in the middle.")
        if self.shuffled and self.batch < 2:
            raise ValueError(f"batch: got {self.batch}; shuffled targets need at least 2 frames.")
        if self.snrs[0] > self.snrs[1]:
            raise ValueError(f"snrs: got {self.snrs}; the first must not be larger than the second.")


Params = dict[str, Array]


@functools.partial(register_dataclass, data_fields=["params", "losses"], meta_fields=["plan"])
@dataclass(frozen=True)
class TrainedVoiceNet:
    """Weights `W1`, `W2`, ... (out, in) and biases `b1`, `b2`, ... after training, and the loss of every step."""

    params: Params
    losses: Float[Array, " steps"]
    plan: VoicePlan


def network(params: Params, x: Float[Array, "frames lags 129"]) -> Float[Array, "frames 129"]:
    """Return the mask of the middle frame, between 0 and 1 in each band.

    Args:
        params: weights `W1`, `W2`, ... of shape (out, in) and biases `b1`, `b2`, ...
        x: features of each frame and its neighbours (`spectra.features`, `spectra.in_context`).

    >>> params = initial_parameters(jax.random.key(0), VoicePlan(lags=1))
    >>> network(params, jnp.zeros((2, 1, 129))).shape
    (2, 129)
    """
    x = x.reshape(x.shape[0], -1)
    last = len(params) // 2
    for i in range(1, last):
        x = jax.nn.relu(matmul(x, params[f"W{i}"].T) + params[f"b{i}"][None, :])
    return jax.nn.sigmoid(matmul(x, params[f"W{last}"].T) + params[f"b{last}"][None, :])


def initial_parameters(key: PRNGKeyArray, plan: VoicePlan, dtype: DTypeLike = "float32") -> Params:
    """Draw normal weights of variance `2 / inputs`, and biases 0."""
    sizes = [plan.lags * BANDS, *[BANDS] * plan.hidden, BANDS]
    params = {}
    for i, (given, made) in enumerate(itertools.pairwise(sizes), start=1):
        scale = jnp.asarray(np.sqrt(2 / given), dtype)
        params[f"W{i}"] = scale * jax.random.normal(jax.random.fold_in(key, i), (made, given), dtype)
        params[f"b{i}"] = jnp.zeros(made, dtype)
    return params


class Pool(NamedTuple):
    """What training draws from: spectra of speech and of noise, both of mean square 1.

    Attributes:
        clean: spectra of all recordings, one after the other.
        centres: frames whose neighbours belong to the same recording.
        noise: spectra of each kind of noise.
    """

    clean: Complex[Array, "frames 129"]
    centres: Int[Array, " centres"]
    noise: Complex[Array, "kinds times 129"]


def pool(recordings: Sequence[Recording], lags: int, key: PRNGKeyArray, seconds: int = 60) -> Pool:
    """Compute the spectra of recordings, and of `seconds` of each noise in pieces of two seconds.

    Raises:
        ValueError: if no recording has `lags` frames.
    """
    rng, half = generator(key), lags // 2
    parts = [spectra(one.sound) for one in recordings]
    ends = np.cumsum([len(one) for one in parts])
    centres = [np.arange(end - len(one) + half, end - half) for one, end in zip(parts, ends, strict=True)]
    if not sum(map(len, centres)):
        raise ValueError(f"recordings: none of the {len(parts)} has {lags} frames; give longer ones.")
    tracks = []
    for make in NOISES.values():
        pieces = [make(rng, 2 * RATE, recordings) for _ in range(max(1, seconds // 2))]
        pieces = [one / np.sqrt(np.mean(one**2)) for one in pieces]
        tracks.append(spectra(np.concatenate(pieces)))
    return Pool(
        jnp.asarray(np.concatenate(parts), jnp.complex64),
        jnp.asarray(np.concatenate(centres), jnp.int32),
        jnp.asarray(np.stack(tracks), jnp.complex64),
    )


def train(key: PRNGKeyArray, given: Pool, plan: VoicePlan | None = None) -> TrainedVoiceNet:
    """Train a network by Adam in one compiled program; the loss is the share of the noise that stays.

    With the mixture Y, its mask m and the clean spectrum S, this is the mean of `|m Y - S|^2`, in units of the mean
    noise power of the recording. A mask of ones has a loss of about 1; one of zeros has the ratio of speech to noise.

    Args:
        key: random key; it decides weights, frames, noise and ratios.
        given: speech and noise, from `pool` with the plan's `lags`.
        plan: everything else; None means `VoicePlan()`.

    Returns:
        A `TrainedVoiceNet`.

    Raises:
        FloatingPointError: if the loss is not finite.
    """
    plan = plan or VoicePlan()
    params, losses = _train(key, given, plan)
    if not bool(jnp.isfinite(losses).all()):
        raise FloatingPointError(f"learning_rate: got {plan.learning_rate}; the loss is not finite. Lower it.")
    return TrainedVoiceNet(params, losses, plan)


@functools.partial(jax.jit, static_argnames="plan")
def _train(key: Array, given: Pool, plan: VoicePlan) -> tuple[Params, Array]:
    optimiser = optax.adam(optax.cosine_decay_schedule(plan.learning_rate, plan.steps))
    for_weights, for_steps = jax.random.split(key)
    initial = initial_parameters(for_weights, plan)

    def loss(params: Params, batch: Batch) -> Array:
        missed = network(params, batch.x) * batch.noisy - batch.clean
        square = jnp.real(missed) ** 2 + jnp.imag(missed) ** 2
        return jnp.mean(jnp.mean(square, axis=1) / batch.noise) / (FRAME / 2)

    def step(carry: tuple[Params, PyTree], i: Array) -> tuple[tuple[Params, PyTree], Array]:
        params, state = carry
        batch = mixed_frames(jax.random.fold_in(for_steps, i), given, plan)
        if plan.shuffled:
            batch = batch._replace(noisy=jnp.roll(batch.noisy, 1, 0), clean=jnp.roll(batch.clean, 1, 0))
        value, gradient = jax.value_and_grad(loss)(params, batch)
        update, state = optimiser.update(gradient, state, params)
        return (cast(Params, optax.apply_updates(params, update)), state), value

    (params, _), losses = jax.lax.scan(step, (initial, optimiser.init(initial)), jnp.arange(plan.steps))
    return params, losses


class Batch(NamedTuple):
    """Frames of mixtures.

    Attributes:
        x: features of each frame in context.
        noisy, clean: spectra of the middle frame.
        noise: mean square of the noise that was added.
    """

    x: Float[Array, "batch lags 129"]
    noisy: Complex[Array, "batch 129"]
    clean: Complex[Array, "batch 129"]
    noise: Float[Array, " batch"]


def mixed_frames(key: PRNGKeyArray, given: Pool, plan: VoicePlan) -> Batch:
    """Draw frames, a kind of noise for each of them, a time in that noise, and a ratio."""
    keys, half = jax.random.split(key, 4), plan.lags // 2
    places = given.centres[jax.random.randint(keys[0], (plan.batch,), 0, given.centres.shape[0])]
    kinds = jax.random.randint(keys[1], (plan.batch,), 0, given.noise.shape[0])
    times = jax.random.randint(keys[2], (plan.batch,), half, given.noise.shape[1] - half)
    power = 10 ** (-jax.random.uniform(keys[3], (plan.batch,), jnp.float32, *plan.snrs) / 10)
    around = jnp.arange(-half, half + 1)
    clean = given.clean[places[:, None] + around[None, :]]
    noise = given.noise[kinds[:, None], times[:, None] + around[None, :]]
    noisy = clean + noise * jnp.sqrt(power)[:, None, None]
    whole = jnp.broadcast_to(1 + power[:, None], noisy.shape[:2])
    return Batch(features(noisy, whole), noisy[:, half], clean[:, half], power)
