"""MTCNN: three small networks that find faces in pictures, with convolutions and PReLU.

"pnet" reads pictures of any size, "rnet" 24 x 24, "onet" 48 x 48; three colours between -1 and 1. The outputs are a
box, for "onet" five landmarks, and the probabilities of "no face" and "face".

Source: Zhang et al., IEEE Signal Processing Letters 23, 1499 (2016); weights of mtcnn 1.0.0 (MIT licence).
"""

import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base.checks import file_path, one_of, positive_integer, random_key
from jaxdescramble.studies.published._files import read, want

INSTALL = (
    "MTCNN (MIT licence) comes as pickles of joblib. In an environment of its own: pip install --no-deps mtcnn==1.0.0; "
    "pip install numpy safetensors joblib lz4; then `python benchmarks/convert_mtcnn.py --out FOLDER` writes "
    "mtcnn_pnet.safetensors, mtcnn_rnet.safetensors and mtcnn_onet.safetensors."
)
SIZES = {"pnet": 12, "rnet": 24, "onet": 48}
# Kernels (height, width, in, out) and the pooling after each: (window, stride, padding); then the dense layers.
CONVOLUTIONS = {
    "pnet": (((3, 3, 3, 10), (2, 2, "SAME")), ((3, 3, 10, 16), None), ((3, 3, 16, 32), None)),
    "rnet": (((3, 3, 3, 28), (3, 2, "SAME")), ((3, 3, 28, 48), (3, 2, "VALID")), ((2, 2, 48, 64), None)),
    "onet": (
        ((3, 3, 3, 32), (3, 2, "SAME")),
        ((3, 3, 32, 64), (3, 2, "VALID")),
        ((3, 3, 64, 64), (2, 2, "SAME")),
        ((2, 2, 64, 128), None),
    ),
}
HIDDEN = {"pnet": 0, "rnet": 128, "onet": 256}
HEADS = {"pnet": ("box", "face"), "rnet": ("box", "face"), "onet": ("box", "landmarks", "face")}
WIDTHS = {"box": 4, "landmarks": 10, "face": 2}

Params = dict[str, dict[str, Array]]
Network = Callable[[Params, Float[Array | np.ndarray, "pictures height width 3"]], dict[str, Array]]


def load(path: str | os.PathLike[str] | None = None, net: str = "onet") -> tuple[Network, Params]:
    """Read one of the three networks from the folder that `benchmarks/convert_mtcnn.py` writes.

    Args:
        path: the folder, or the path of one file.
        net: "pnet", "rnet" or "onet".

    Returns:
        A function `f(params, pictures)` that returns a dictionary of outputs, and its parameters, in float32.

    Raises:
        TypeError: if `path` is not a path.
        ValueError: if there is no such file (the error says what to install), or if it holds another network.
    """
    net = one_of(net, "net", tuple(SIZES))
    if path is not None and file_path(path, "path").is_dir():
        path = Path(path) / f"mtcnn_{net}.safetensors"
    arrays = read(path, INSTALL)
    want(arrays, shapes(net))
    params: Params = {}
    for name, array in arrays.items():
        layer, _, part = name.partition(".")
        params.setdefault(layer, {})[part] = jnp.asarray(array)
    return {"pnet": pnet, "rnet": rnet, "onet": onet}[net], params


def shapes(net: str) -> dict[str, tuple[int | None, ...]]:
    """Return names and shapes of all arrays of a network, in the order of the package's own lists.

    >>> list(shapes("pnet").items())[:3]
    [('conv1.weight', (3, 3, 3, 10)), ('conv1.bias', (10,)), ('conv1.slope', (1, 1, 10))]
    """
    found: dict[str, tuple[int | None, ...]] = {}
    width = 0
    for k, (kernel, _) in enumerate(CONVOLUTIONS[net], start=1):
        width = kernel[-1]
        found |= {f"conv{k}.weight": kernel, f"conv{k}.bias": (width,), f"conv{k}.slope": (1, 1, width)}
    if HIDDEN[net]:
        found |= {"dense.weight": (9 * width, HIDDEN[net]), "dense.bias": (HIDDEN[net],), "dense.slope": (HIDDEN[net],)}
    for head in HEADS[net]:
        last = (HIDDEN[net],) if HIDDEN[net] else (1, 1, width)
        found |= {f"{head}.weight": (*last, WIDTHS[head]), f"{head}.bias": (WIDTHS[head],)}
    return found


def pnet(params: Params, pictures: Float[Array | np.ndarray, "pictures height width 3"]) -> dict[str, Array]:
    """Return box and probabilities at every place of a picture; a picture of 12 x 12 has one place."""
    return _network(params, pictures, "pnet")


def rnet(params: Params, pictures: Float[Array | np.ndarray, "pictures 24 24 3"]) -> dict[str, Array]:
    """Return box and probabilities of pictures 24 x 24."""
    return _network(params, pictures, "rnet")


def onet(params: Params, pictures: Float[Array | np.ndarray, "pictures 48 48 3"]) -> dict[str, Array]:
    """Return box, landmarks and probabilities of pictures 48 x 48."""
    return _network(params, pictures, "onet")


def _network(params: Params, pictures: Array | np.ndarray, net: str) -> dict[str, Array]:
    def bent(x: Array, slope: Array) -> Array:
        return jnp.where(x > 0, x, slope * x)

    def convolved(x: Array, own: dict[str, Array]) -> Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, own["weight"], (1, 1), "VALID", dimension_numbers=numbers, precision="highest"
        )
        return y + own["bias"][None, None, None]

    x = jnp.asarray(pictures)
    for k, (_, pool) in enumerate(CONVOLUTIONS[net], start=1):
        own = params[f"conv{k}"]
        x = bent(convolved(x, own), own["slope"][None])
        if pool is not None:
            size, step, padding = pool
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, size, size, 1), (1, step, step, 1), padding)
    if HIDDEN[net]:
        # The package exchanges height and width before it makes a vector.
        x = jnp.swapaxes(x, 1, 2).reshape(len(x), -1)
        own = params["dense"]
        x = bent(jnp.matmul(x, own["weight"], precision="highest") + own["bias"][None], own["slope"][None])
    found = {}
    for head in HEADS[net]:
        own = params[head]
        if HIDDEN[net]:
            found[head] = jnp.matmul(x, own["weight"], precision="highest") + own["bias"][None]
        else:
            found[head] = convolved(x, own)
    found["face"] = jax.nn.softmax(found["face"])
    return found


def inputs(key: PRNGKeyArray, net: str = "onet", count: int = 100) -> Float[np.ndarray, "pictures size size 3"]:
    """Make pictures of overlapping ellipses of random size, place and colour ("dead leaves"), between -1 and 1.

    Edges of all directions and sizes occur, as in photographs; there are no faces.

    >>> pictures = inputs(jax.random.key(0), "pnet", 2)
    >>> pictures.shape, bool(abs(pictures).max() <= 1)
    ((2, 12, 12, 3), True)
    """
    size, count = SIZES[one_of(net, "net", tuple(SIZES))], positive_integer(count, "count")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(random_key(key))).ravel().tolist())
    rows, columns = np.mgrid[0:size, 0:size] / size
    pictures = np.broadcast_to(rng.uniform(-1, 1, (count, 1, 1, 3)), (count, size, size, 3)).astype(np.float32)
    for picture in pictures:
        for radius in np.sort(rng.uniform(0.02, 1, 40) ** -1)[::-1] ** -1:
            y, x, turn = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0, np.pi)
            along = (rows - y) * np.sin(turn) + (columns - x) * np.cos(turn)
            across = (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn)
            inside = along**2 + (across / rng.uniform(0.3, 1)) ** 2 < (0.5 * radius) ** 2
            picture[inside] = rng.uniform(-1, 1, 3) + rng.normal(0, 0.02, (int(inside.sum()), 3))
    return np.clip(pictures, -1, 1)
