"""`jaxdescramble explain`: read the arguments of the command line, call `explain`, print the result."""

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from jaxdescramble._base.inputs.arrays import stored
from jaxdescramble.findings import Report, explain
from jaxdescramble.show.bars import bar
from jaxdescramble.solvers import Interrupted

SAMPLES = ("weights", "groups", "names")
"""What a file of data may say about its samples: arguments of `explain`."""


def run_explain(
    what: str, data: Path | None, out: Path, draws: int, seed: int, layers: list[str] | None, quiet: bool
) -> Report:
    """Explain the network in a Python file, or the layers in a file of arrays, and print what was found.

    Args:
        what: `model.py:function`, or a `.npz` or `.safetensors` file.
        data: a `.npz` file with `x` (only with a Python file), and optionally `weights`, `groups` and `names`.
        out: folder of the report; the same command continues an interrupted run.
        draws: number of draws from each null.
        seed: random seed of the split and the draws.
        layers: patterns of names.
        quiet: print the headline only.

    Raises:
        ValueError, TypeError, OSError: if a file is missing or holds something else.
        Interrupted: on Ctrl-C; the report of the draws so far has been written.
    """
    explained = functools.partial(
        explain, out=out, draws=draws, key=jax.random.key(seed), layers=layers or None, folder=out / "draws"
    )
    path, _, name = what.rpartition(":")
    try:
        with bar() as progress:
            if path.endswith(".py"):
                f, params = _built(Path(path), name)
                x, *samples = _data(data)
                report = explained(f, params, x, **dict(zip(SAMPLES, samples, strict=True)), progress=progress)
            else:
                if what.endswith(".py"):
                    raise ValueError(f"{what}: name the function that builds the network: {what}:build.")
                samples = _data(data, needs_x=False)[1:] if data is not None else [None] * len(SAMPLES)
                report = explained(what, **dict(zip(SAMPLES, samples, strict=True)), progress=progress)
    except Interrupted as stopped:
        if isinstance(stopped.result, Report):
            print(f"{stopped.result.headline} Interrupted; the same command continues.", flush=True)
        raise
    print(report.headline)
    if not quiet:
        for name, why in report.skipped.items():
            print(f"not judged: {name}: {why}")
        for one in report.findings:
            print(f"  {one.sentence}")
    print(f"report: {out / 'index.html'}")
    return report


def _built(path: Path, name: str) -> tuple[Callable[..., object], object]:
    """Run a Python file, and return what its function `name` returns: f and params."""
    if not path.exists():
        raise FileNotFoundError(2, "no such file", str(path))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    build = getattr(module, name, None)
    if not callable(build):
        raise ValueError(f"{path}: has no function {name!r}. Write a function that returns f and params.")
    found = build()
    if not isinstance(found, tuple) or len(found) != 2 or not callable(found[0]):
        raise TypeError(f"{path}:{name}: returned {type(found).__name__}; must return (f, params), with f(params, x).")
    return found


def _data(path: Path | None, needs_x: bool = True) -> list[np.ndarray | None]:
    """Return x, weights, groups and names; None means that the file does not hold it."""
    if path is None:
        raise ValueError("--data: give a .npz file with the inputs of the network, named x.")
    arrays = {one.name.rpartition("/")[2]: one for one in stored(path)}
    if needs_x and "x" not in arrays:
        raise ValueError(f"{path}: has no array named x; its arrays are {', '.join(arrays)}.")
    found = [arrays[name].read() if name in arrays else None for name in ("x", *SAMPLES[:-1])]
    names = None
    if SAMPLES[-1] in arrays:
        with np.load(path, allow_pickle=False) as file:  # `stored` reads numbers only
            names = file[SAMPLES[-1]]
    return [*found, names]
