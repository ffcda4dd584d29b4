"""Explain a published network with inputs and groups that suit it."""

import os

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxdescramble._base.checks import one_of, random_key
from jaxdescramble.findings import READINGS, Report, explain
from jaxdescramble.solvers.watch import Progress
from jaxdescramble.studies.published import crepe, deernet_six, minilm, mtcnn

NAMES = ("crepe", "minilm", "deernet", "pnet", "rnet", "onet")
COUNTS = {"crepe": 600, "minilm": 210, "deernet": 1000, "pnet": 400, "rnet": 60, "onet": 24}
"""Number of tones, sentences, traces or pictures if `count` is None."""


def explained(
    name: str,
    path: str | os.PathLike[str] | None = None,
    *,
    count: int | None = None,
    draws: int = 199,
    layers: str | list[str] | None = None,
    key: PRNGKeyArray | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    max_seconds: float | None = None,
) -> Report:
    """Explain a published network: `jd.explain` with inputs and groups that suit it.

    | name | inputs | groups |
    |---|---|---|
    | crepe | tones, named; one window at a random place for each tone and layer | tones of one semitone |
    | minilm | sentences, tokens named; padding and the marks at both ends have weight 0 | sentences |
    | deernet | simulated traces; the first layer has five blocks of 64 points | traces |
    | pnet, rnet, onet | pictures of ellipses | pictures |

    Args:
        name: one of the names above.
        path: the argument of `load` of the network's module.
        count: number of tones, sentences, traces or pictures; None means `COUNTS[name]`.
        draws, layers, out, progress, max_seconds: arguments of `explain`.
        key: random key of inputs, halves and draws; None means `jax.random.key(0)`.

    Raises:
        ValueError: if the files are not there; the error says what to install.

    >>> explained("crepe", "nowhere.safetensors")
    Traceback (most recent call last):
    ValueError: path: there is no file nowhere.safetensors. CREPE (MIT licence) comes as pickles of PyTorch. ...
    """
    name = one_of(name, "name", NAMES)
    count = COUNTS[name] if count is None else count
    for_inputs, for_windows, for_draws = jax.random.split(jax.random.key(0) if key is None else random_key(key), 3)
    if name == "crepe":
        _, sound = crepe.load(path)
        tones = crepe.inputs(for_inputs, count)
        return explain(
            crepe.windows(sound, tones.frames, for_windows),
            groups=tones.semitone,
            names=[f"{frequency:.0f} Hz" for frequency in np.asarray(tones.frequency)],
            readings=(*READINGS, crepe.LADDER),
            draws=draws, layers=layers, key=for_draws, out=out, progress=progress, max_seconds=max_seconds,
        )  # fmt: skip
    if name == "deernet":
        _, dense = deernet_six.load(path)
        return explain(
            deernet_six.layers(dense, deernet_six.inputs(for_inputs, count).inputs),
            draws=draws, layers=layers, key=for_draws, out=out, progress=progress, max_seconds=max_seconds,
        )  # fmt: skip
    if name == "minilm":
        f, params = minilm.load(path)
        x, weights, names = minilm.inputs(path, count=count)
    else:
        f, params = mtcnn.load(path, name)
        x, weights, names = mtcnn.inputs(for_inputs, name, count), None, None
    return explain(
        f, params, x, weights=weights, names=names,
        draws=draws, layers=layers, key=for_draws, out=out, progress=progress, max_seconds=max_seconds,
    )  # fmt: skip
