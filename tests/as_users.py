"""Call every public function once, as users run it; `test_as_users.py` starts this script and reads what it prints.

Run: python tests/as_users.py [2]    (with a number k: every k-th function, and at least one of every room)

Nothing is set here: 32-bit types, JAX's default flags and rank promotion, no shape checks, LAPACK's threads as
`import jaxdescramble` leaves them. The script prints one line of JSON: the settings, for every call the reason why its
answer is wrong, or null, and the seconds of computing that it took.
"""

import json
import os
import sys
import time
import warnings
from typing import Any

import jax
import numpy as np
from fuzzing_calls import CALLS, NO_FILE

import jaxdescramble as jd


def wrong(result: Any) -> str | None:
    """Return why an answer is wrong: a float that is not finite without a status that says so, or a 64-bit type."""
    status = getattr(result, "status", None)
    told = status is not None and not all(jd.Status(int(one)).usable for one in np.ravel(np.asarray(status)))
    leaves = [leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, jax.Array)]
    leaves = [leaf for leaf in leaves if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)]
    if any(leaf.dtype.itemsize == 8 and leaf.dtype.kind == "f" for leaf in leaves):
        return "a 64-bit array"
    floats = [np.asarray(leaf) for leaf in leaves if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)]
    if not told and not all(np.isfinite(leaf).all() for leaf in floats):
        return "not finite, and no status says so"
    return None


def chosen(step: int) -> list[str]:
    """Return the calls to make: every `step`-th, and the first of every room."""
    # Calls without a file here, and other uses of the same function, are left out.
    paths = [path for path in CALLS if path not in NO_FILE and " " not in path]
    first = {path.split(".")[0]: path for path in reversed(paths)}
    return [path for k, path in enumerate(paths) if k % step == 0 or path in first.values()]


def main(step: int) -> None:
    answers: dict[str, str | None] = {}
    seconds: dict[str, float] = {}
    for path in chosen(step):
        call = CALLS[path]
        before = time.process_time()
        try:
            answers[path] = wrong(call.function(**call.arguments))
        except Exception as error:
            answers[path] = f"{type(error).__name__}: {error}"
        seconds[path] = round(time.process_time() - before, 2)
    settings = {
        "64-bit types": jax.config.jax_enable_x64,
        "rank promotion": jax.config.jax_numpy_rank_promotion,
        "LAPACK's threads": jd.threads(),
        "flags": os.environ.get("XLA_FLAGS"),
    }
    print(json.dumps({"settings": settings, "answers": answers, "seconds": seconds}))


if __name__ == "__main__":
    warnings.simplefilter("error", jd.JaxdescrambleWarning)
    main(*map(int, sys.argv[1:] or ["1"]))
