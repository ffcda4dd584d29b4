"""Questions about a voice network that need several layers at once, or sounds whose formants are known.

A reading of `jd.explain` sees one layer. So these questions have nulls of their own here: networks that were never
trained, weights in random frames, and random mixtures of neurons.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble.exact import diagonal_sum
from jaxdescramble.findings import joint_p_values, random_frame
from jaxdescramble.findings.explanations.readings import participation
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.studies.voice.network import Params, VoicePlan, initial_parameters
from jaxdescramble.studies.voice.noises import scaled
from jaxdescramble.studies.voice.readings import near_diagonal
from jaxdescramble.studies.voice.spectra import BANDS, features, in_context, spectra
from jaxdescramble.studies.voice.synthetic import generator, vowels


class Answer(NamedTuple):
    """A reading of a whole network, with its nulls.

    Attributes:
        name: what was read.
        value: the reading of the trained network.
        nulls: mean of the draws of each null.
        p_values: the p-value against each null, corrected for all readings of the same table. A null that cannot change
            the reading is left out.
        shuffled: the reading of a network that was trained on shuffled targets; no test.
    """

    name: str
    value: float
    nulls: dict[str, float]
    p_values: dict[str, float]
    shuffled: float

    @property
    def p_value(self) -> float:
        """Return the largest p-value over the nulls; NaN if none applies."""
        return max(self.p_values.values(), default=float("nan"))


Readings = dict[str, Float[Array, ""]]


def judged(
    own: Readings,
    shuffled: Readings,
    nulls: dict[str, Callable[[PRNGKeyArray, PyTree], Readings]],
    data: PyTree,
    directions: dict[str, int],
    key: PRNGKeyArray,
    count: int = 199,
) -> list[Answer]:
    """Judge readings of a network together (Westfall and Young); the p-value is the largest over the nulls.

    Args:
        own: the readings of the network.
        shuffled: the readings of the network that was trained on shuffled targets.
        nulls: for each null a function of a key and the data, which returns the readings of one draw.
        data: arrays that the draws need.
        directions: for each reading +1 if large values are the finding, -1 if small ones are.
        key: random key of the draws.
        count: number of draws from each null.

    >>> draw = lambda key, data: {"size": jax.random.uniform(key)}
    >>> (answer,) = judged({"size": jnp.asarray(2.0)}, {"size": jnp.asarray(0.5)}, {"uniform": draw}, (), {"size": 1},
    ...                    jax.random.key(0), 19)
    >>> answer.p_value, answer.shuffled
    (0.05, 0.5)
    """
    names = tuple(directions)
    values, others = (np.asarray([float(found[name]) for name in names]) for found in (own, shuffled))
    p_values, means = {}, {}
    for place, (null, draw) in enumerate(nulls.items()):
        keys = jax.random.split(jax.random.fold_in(key, place), count)
        drawn = _drawn(keys, data, draw)
        rows = np.stack([np.asarray(drawn[name]) for name in names], axis=1)
        p_values[null], _ = joint_p_values(values, rows, np.asarray([directions[name] for name in names]))
        means[null] = rows.mean(axis=0)
    found = []
    for k, name in enumerate(names):
        # A null that cannot change a reading gives NaN; it does not judge this reading.
        own_p = {null: float(p[k]) for null, p in p_values.items() if not np.isnan(p[k])}
        own_means = {null: float(means[null][k]) for null in own_p}
        found.append(Answer(name, float(values[k]), own_means, own_p, float(others[k])))
    return found


@functools.partial(jax.jit, static_argnames="draw")
def _drawn(
    keys: Key[Array, " draws"], data: PyTree, draw: Callable[[PRNGKeyArray, PyTree], Readings]
) -> dict[str, Float[Array, " draws"]]:
    return jax.lax.map(lambda key: draw(key, data), keys)


def in_the_paper_s_frame(params: Params, lags: int) -> dict[str, Array]:
    """Turn every hidden layer into the frame with the largest diagonal sum, and read how diagonal each layer is.

    P_1 maximises the diagonal sum of the middle frame's part of `P_1 W_1`, P_2 that of `P_2 W_2 P_1^T`, and so on. The
    choice of P makes these layers diagonal. The other frames' part of `P_1 W_1`, and `W P^T` of the last layer, are
    real tests: no P was chosen for them.

    >>> whole = {"W1": jnp.eye(129)[::-1], "b1": jnp.zeros(129), "W2": jnp.eye(129)[:, ::-1], "b2": jnp.zeros(129)}
    >>> {name: round(float(value), 3) for name, value in in_the_paper_s_frame(whole, 1).items()}
    {'P1 W1, middle frame': 1.0, 'W2 P1^T': 1.0}
    """
    last, half = len(params) // 2, lags // 2
    found: dict[str, Array] = {}
    first = params["W1"].reshape(BANDS, lags, BANDS)
    point = diagonal_sum(first[:, half]).point
    for lag in range(lags):
        part = matmul(point, first[:, lag])
        if lag == half:
            found["P1 W1, middle frame"] = near_diagonal(part)
        elif abs(lag - half) == 1:
            name = "P1 W1, frames beside it"
            found[name] = found.get(name, jnp.zeros((), part.dtype)) + near_diagonal(part) / 2
    for i in range(2, last):
        turned = matmul(params[f"W{i}"], point.T)
        point = diagonal_sum(turned).point
        found[f"P{i} W{i} P{i - 1}^T"] = near_diagonal(matmul(point, turned))
    found[f"W{last} P{last - 1}^T"] = near_diagonal(matmul(params[f"W{last}"], point.T))
    return found


def diagonals(params: Params, shuffled: Params, plan: VoicePlan, key: PRNGKeyArray, count: int = 199) -> list[Answer]:
    """Ask whether the layers are diagonal in the paper's frame (see `in_the_paper_s_frame`).

    The nulls are untrained networks, and networks whose weights have the same singular values in random frames.
    """
    read = jax.jit(functools.partial(in_the_paper_s_frame, lags=plan.lags))

    def untrained(key: PRNGKeyArray, params: Params) -> Readings:
        return read(initial_parameters(key, plan))

    def framed(key: PRNGKeyArray, params: Params) -> Readings:
        drawn = {
            name: random_frame(jax.random.fold_in(key, k), leaf)
            for k, (name, leaf) in enumerate(params.items())
            if name.startswith("W")
        }
        return read(params | drawn)

    nulls = {"untrained": untrained, "random frame": framed}
    own = read(params)
    return judged(own, read(shuffled), nulls, params, dict.fromkeys(own, 1), key, count)


class Probes(NamedTuple):
    """Vowels with known formants: features of one frame in context, and the logarithms of the formants."""

    x: Float[Array, "count lags 129"]
    logs: dict[str, Float[Array, " count"]]


def probes(key: PRNGKeyArray, lags: int, count: int = 400, snr: float = 10.0) -> Probes:
    """Make vowels with white noise at this ratio, and take the frame in the middle of each.

    >>> probes(jax.random.key(0), 3, 2).x.shape
    (2, 3, 129)
    """
    made, rng = vowels(key, count), generator(jax.random.fold_in(key, 1))
    rows = []
    for sound in made.sound:
        noisy = sound + scaled(rng.standard_normal(len(sound)), sound, snr)
        own = spectra(noisy)
        rows.append(in_context(np.asarray(features(own, np.full(len(own), np.mean(noisy**2)))), lags)[len(own) // 2])
    logs = {"first": made.first, "second": made.second}
    return Probes(
        jnp.asarray(np.stack(rows), jnp.float32),
        {name: jnp.asarray(np.log(f), jnp.float32) for name, f in logs.items()},
    )


def preactivations(params: Params, x: Float[Array, "count lags 129"]) -> list[Float[Array, "count neurons"]]:
    """Return the preactivations of every hidden layer."""
    signals, found = x.reshape(x.shape[0], -1), []
    for i in range(1, len(params) // 2):
        found.append(matmul(signals, params[f"W{i}"].T) + params[f"b{i}"][None, :])
        signals = jax.nn.relu(found[-1])
    return found


def best_correlation(signals: Float[Array, "count neurons"], target: Float[Array, " count"]) -> Float[Array, ""]:
    """Return the largest squared correlation of a neuron with the target.

    >>> signals = jnp.stack([jnp.arange(4.0), jnp.ones(4)], axis=1)
    >>> float(best_correlation(signals, 3 - 2 * jnp.arange(4.0)))
    1.0
    """
    centred = signals - jnp.mean(signals, axis=0, keepdims=True)
    wanted = target - jnp.mean(target)
    product = jnp.sum(centred * wanted[:, None], axis=0) ** 2
    size = jnp.sum(centred**2, axis=0) * jnp.sum(wanted**2)
    return jnp.max(product / jnp.where(size > 0, size, 1))


def bands_of_neurons(weight: Float[Array, "neurons inputs"]) -> Float[Array, ""]:
    """Return how many bands a neuron of the first layer reads, as a share of all; mean over neurons.

    >>> round(float(bands_of_neurons(jnp.eye(129))) * 129, 3)
    1.0
    """
    energy = jnp.sum(weight.reshape(weight.shape[0], -1, BANDS) ** 2, axis=1)
    return jnp.mean(participation(energy.T)) / BANDS


def waves(signals: Float[Array, "count neurons"]) -> Float[Array, "count neurons"]:
    """Return the signals along their principal components: the waves of the smoothest frame, without their order.

    >>> found = waves(jnp.asarray([[3.0, 4.0], [-3.0, -4.0]]))
    >>> jnp.abs(found).round(3).tolist()
    [[0.0, 5.0], [0.0, 5.0]]
    """
    return matmul(signals, decompositions.eigh(matmul(signals.T, signals))[1])


def _units(
    weight: Float[Array, "neurons inputs"], signals: list[Float[Array, "count neurons"]], given: Probes
) -> Readings:
    found = {"bands of a neuron, layer 1": bands_of_neurons(weight)}
    for place, own in enumerate(signals, start=1):
        for formant, target in given.logs.items():
            found[f"best neuron for the {formant} formant, layer {place}"] = best_correlation(own, target)
            found[f"best wave for the {formant} formant, layer {place}"] = best_correlation(waves(own), target)
    return found


def units(
    params: Params, shuffled: Params, plan: VoicePlan, key: PRNGKeyArray, count: int = 199, vowels_count: int = 400
) -> list[Answer]:
    """Ask for neurons and waves that follow a formant, and for neurons that read few bands.

    A neuron follows a formant if its preactivation correlates with the formant's logarithm, over steady vowels.

    The nulls are untrained networks, and the trained network with the neurons of each layer mixed by a random rotation
    before the ReLU. The first tells whether training made the finding, the second whether neurons are better than
    mixtures of them.
    """
    for_probes, for_draws = jax.random.split(key)
    given = probes(for_probes, plan.lags, vowels_count)

    @jax.jit
    def read(params: Params, given: Probes) -> Readings:
        return _units(params["W1"], preactivations(params, given.x), given)

    def untrained(key: PRNGKeyArray, data: tuple) -> Readings:
        return read(initial_parameters(key, plan), data[0])

    def mixed(key: PRNGKeyArray, data: tuple) -> Readings:
        given, weight, signals = data
        turn = orthogonal.random(key, BANDS, "O", weight.dtype)
        return _units(matmul(turn, weight), [matmul(own, turn.T) for own in signals], given)

    data = given, params["W1"], preactivations(params, given.x)
    own = read(params, given)
    directions = {name: -1 if name.startswith("bands") else 1 for name in own}
    nulls = {"untrained": untrained, "mixed neurons": mixed}
    return judged(own, read(shuffled, given), nulls, data, directions, for_draws, count)
