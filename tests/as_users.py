"""Call every public function once, as users run it; `test_as_users.py` starts this script and reads what it prints.

Run: python tests/as_users.py

Nothing is set here: 32-bit types, JAX's default flags and rank promotion, no shape checks, LAPACK's threads as
`import jaxdescramble` leaves them. The script prints one line of JSON: the settings, for every call the reason why its
answer is wrong, or null, and the seconds of computing that it took.
"""

import json
import os
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


def main() -> None:
    answers: dict[str, str | None] = {}
    seconds: dict[str, float] = {}
    for path, call in CALLS.items():
        if path in NO_FILE or " " in path:  # no such file here, or another use of the same function
            continue
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
    main()
