"""Published DEERNet networks, and traces from a spectrometer: readers of files that you have.

Nothing is downloaded or shipped; every reader takes a path. The networks have six layers with batch norm and softplus.
They read 64 points, at any places, of a trace of 512.
"""

import os
import zipfile
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxdescramble._base import results
from jaxdescramble._base.checks import file_path, numbers, positive_integer, random_key, real_array, same_size

# Points of a whole trace, points of it that a network sees, and the constant with which batch norm avoids 0 / 0.
TRACE, SEEN, EPSILON = 512, 64, 1e-5
AXES = "(out, in) for the weight, (out,) for the others"


class PublishedDEERNet(NamedTuple):
    """A network, and the grids of its training."""

    params: dict[str, dict[str, Array]]  # "layer_1": {"weight", "mean", "var", "offset", "scale"}, ...
    time: np.ndarray  # us, (512,)
    distance: np.ndarray  # angstrom, (512,)

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


class MeasuredTrace(NamedTuple):
    """A measured trace, and the fit of its authors; all arrays have shape (points,)."""

    time: np.ndarray  # us
    trace: np.ndarray
    background: np.ndarray
    residual: np.ndarray

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def load(path: str | os.PathLike) -> PublishedDEERNet:
    """Read a published network, `deervet_64_512_*.npz`.

    Args:
        path: path of the file, which has `weight_k` (out, in), `bn_{mean,var,offset,scale}_k`, `time_grid_s` and
            `distance_grid_angstrom`.

    Returns:
        A `PublishedDEERNet`; its parameters keep the file's dtype.

    Raises:
        TypeError: if `path` is not a path.
        ValueError: if the file is missing or is not such an archive, or an array is missing or does not fit the others.
    """
    path = file_path(path, "path")
    if not path.is_file():
        raise ValueError(f"path: there is no file {path}; give the path of a deervet_64_512_*.npz that you have.")
    try:
        # Open the file here, because numpy does not close a file that it cannot read.
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"path: {path} is not a readable .npz archive ({error}).") from error

    layers = sum(name.startswith("weight_") for name in arrays)
    statistics = ("mean", "var", "offset", "scale")
    needed = [f"weight_{k}" for k in range(1, layers + 1)] + ["time_grid_s", "distance_grid_angstrom"]
    needed += [f"bn_{name}_{k}" for k in range(1, layers + 1) for name in statistics]
    missing = [name for name in needed if name not in arrays]
    if missing or not layers:
        raise ValueError(
            f"path: {path} lacks {', '.join(missing or ['weight_1'])}; it has {', '.join(sorted(arrays))}."
        )

    params, width = {}, 5 * SEEN
    for k in range(1, layers + 1):
        weight = jnp.asarray(arrays[f"weight_{k}"])
        if weight.ndim != 2 or weight.shape[1] != width:
            raise ValueError(f"path: {path} has weight_{k} of shape {weight.shape}; must be (out, {width}).")
        width = weight.shape[0]
        layer = {name: jnp.asarray(arrays[f"bn_{name}_{k}"]) for name in statistics}
        for name, value in layer.items():
            if value.shape != (width,):
                raise ValueError(f"path: {path} has bn_{name}_{k} of shape {value.shape}; must be ({width},).")
        params[f"layer_{k}"] = {"weight": weight, **layer}
    return PublishedDEERNet(params, arrays["time_grid_s"] * 1e6, arrays["distance_grid_angstrom"])


def network(
    params: dict[str, dict[str, Array]], inputs: Float[Array, "samples inputs"]
) -> Float[Array, "samples distances"]:
    """Apply the published network, layer by layer, and divide each output by its mean.

    x <- softplus(scale (W x - mean)/sqrt(var + eps) + offset),  eps = 1e-5

    Args:
        params: parameters from `load`.
        inputs: inputs from `encode`, shape (samples, 320).

    Returns:
        Distance distributions as rows, each with mean 1.

    Raises:
        TypeError: if `params` or `inputs` has the wrong type.
        ValueError: if an array of `params` is missing, or the shapes do not fit.

    Source: Worswick et al., Science Advances 4, eaat5218 (2018); Keeley et al., J. Magn. Reson. 338, 107186 (2022).
    """
    x = inputs = real_array(inputs, "inputs", (2,), "(samples, inputs)")
    params = _checked(params, inputs.shape[1])
    for k in range(1, len(params) + 1):
        layer = params[f"layer_{k}"]
        mean, var, offset, scale = (layer[name][None, :] for name in ("mean", "var", "offset", "scale"))
        preactivation = jnp.matmul(x, layer["weight"].T, precision=jax.lax.Precision.HIGHEST)
        x = jax.nn.softplus(scale * (preactivation - mean) / jnp.sqrt(var + EPSILON) + offset)
    return x / x.mean(axis=-1, keepdims=True)


def _checked(params: object, width: int) -> dict[str, dict[str, Array]]:
    form = "params: expected {'layer_1': {'weight', 'mean', 'var', 'offset', 'scale'}, ...}, as load returns them"
    if not isinstance(params, Mapping) or not params:
        raise TypeError(f"{form}, got {params!r}.")
    found = {}
    for k in range(1, len(params) + 1):
        layer = params.get(f"layer_{k}")
        if not isinstance(layer, Mapping) or not {"weight", "mean", "var", "offset", "scale"} <= set(layer):
            raise ValueError(f"{form}; layer_{k} is {layer!r}.")
        found[f"layer_{k}"] = {
            name: real_array(x, f"params['layer_{k}']['{name}']", (1, 2), AXES) for name, x in layer.items()
        }
        weight = found[f"layer_{k}"]["weight"]
        if weight.ndim != 2 or weight.shape[1] != width:
            raise ValueError(
                f"params: layer_{k} has a weight of shape {weight.shape}; must be (out, {width}) to fit the inputs."
            )
        width = weight.shape[0]
        for name, value in found[f"layer_{k}"].items():
            if name != "weight" and value.shape != (width,):
                raise ValueError(f"params: layer_{k} has {name} of shape {value.shape}; must be ({width},).")
    return found


def random_points(key: PRNGKeyArray, samples: int) -> Int[Array, "samples seen"]:
    """Choose, for every trace, the 64 of 512 points that the network sees: ascending, with the first and the last.

    Args:
        key: random key.
        samples: number of traces.

    Returns:
        Places, counted from 0, shape (samples, 64).

    Raises:
        TypeError: if `key` is not a key, or `samples` is not an integer.
        ValueError: if `samples` is less than 1.

    >>> import jax
    >>> points = random_points(jax.random.key(0), 3)
    >>> points.shape, points[:, 0].tolist(), points[:, -1].tolist()
    ((3, 64), [0, 0, 0], [511, 511, 511])
    """
    keys = jax.random.split(random_key(key), positive_integer(samples, "samples"))

    def one(key):
        inner = jax.random.choice(key, jnp.arange(1, TRACE - 1), (SEEN - 2,), replace=False)
        return jnp.concatenate([jnp.array([0]), jnp.sort(inner), jnp.array([TRACE - 1])])

    return jax.vmap(one)(keys)


def encode(traces: ArrayLike, points: Int[Array, "samples seen"]) -> Float[Array, "samples inputs"]:
    """Return the network's inputs for traces: the places of the points, and the values there.

    [a, b, v, v a, v b] with a = 2 (i/512 - 1/2), b = 4 (i/512 - 1/2)^2 - 1/2, the place i = 1..512, and the trace v,
    rescaled to [0, 1].

    Args:
        traces: traces as rows, shape (samples, 512); the transpose of the traces of `deer.sample`.
        points: places, counted from 0, shape (samples, 64), from `random_points`.

    Returns:
        Inputs, shape (samples, 320).

    Raises:
        TypeError: if the points are not integers.
        ValueError: if the traces do not have 512 points, or the numbers of samples differ.
    """
    traces = real_array(traces, "traces", (2,), "(samples, 512)")
    same_size(traces, 1, TRACE, "traces", "the network, which reads traces of 512 points as rows")
    points = numbers(points, "points", "places, an array of integers (samples, 64)")
    if points.ndim != 2 or not jnp.issubdtype(points.dtype, jnp.integer):
        raise TypeError(f"points: expected integers (samples, 64), got {points.dtype} of shape {points.shape}.")
    same_size(points, 0, traces.shape[0], "points", "the traces, which are rows")
    lowest, highest = traces.min(axis=1, keepdims=True), traces.max(axis=1, keepdims=True)
    v = jnp.take_along_axis((traces - lowest) / (highest - lowest), points, axis=1)
    place = (points + 1).astype(traces.dtype) / TRACE - 0.5
    a, b = 2 * place, 4 * place**2 - 0.5
    return jnp.concatenate([a, b, v, v * a, v * b], axis=1)


def load_trace(path: str | os.PathLike) -> MeasuredTrace:
    """Read a measured trace, `deer_trace_*.dat`: columns of time (us), signal, background fit and residual.

    Args:
        path: path of the file.

    Returns:
        A `MeasuredTrace`, in float64.

    Raises:
        TypeError: if `path` is not a path.
        ValueError: if the file is missing, or does not have four columns of numbers with ascending times.
    """
    path = file_path(path, "path")
    if not path.is_file():
        raise ValueError(f"path: there is no file {path}; give the path of a deer_trace_*.dat that you have.")
    try:
        table = np.loadtxt(path, ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"path: {path} is not a table of numbers ({error}).") from error
    if table.shape[1] != 4 or len(table) < 2:
        raise ValueError(f"path: {path} has {table.shape} rows and columns; must have at least two rows, four columns.")
    if not np.all(np.isfinite(table)) or not np.all(np.diff(table[:, 0]) > 0):
        raise ValueError(f"path: {path} has numbers that are not finite, or times that do not ascend.")
    return MeasuredTrace(*table.T)
