"""Compare settings of LAPACK's threads, on a machine whose cores are busy and on one whose cores are free.

Run: python benchmarks/busy.py [--out benchmarks/results/busy.md] [--rounds 3] [--only busy]

There are three settings: "package" (what `import jaxdescramble` sets), "variable" (OPENBLAS_NUM_THREADS=1) and
"OpenBLAS" (its default, one thread for each core). Each runs in new processes that take turns. For the busy part, the
script starts one process for each core that computes without end. Times are medians over all repetitions of all rounds,
without compilation and first call.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES, LARGE = (32, 80, 128, 320, 512), 2048
SETTINGS = ("package", "variable", "OpenBLAS")
# The load of other processes changes with time. So the two most similar settings enclose the third, in both orders.
TURNS = ("package", "variable", "OpenBLAS", "variable", "package")
NETWORK = "`descramble_network`, 64-128-64-10"


def compute_without_end():
    while True:
        sum(range(1000))


def timed(call, limit, least=3, most=100):
    """Return the seconds of repeated calls: at least 3 calls, at most 100, and no new call after `limit` seconds."""
    import jax

    jax.block_until_ready(call())
    seconds, began = [], time.perf_counter()
    while len(seconds) < least or (len(seconds) < most and time.perf_counter() - began < limit):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return seconds


def worker(large):
    """Measure all cases in this process, with the settings of its start."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import jaxdescramble as jd

    print(f"threads: {jd.threads()}", file=sys.stderr)
    found = {}
    for n in (*SIZES, *([LARGE] if large else [])):
        signals = jnp.asarray(np.cumsum(np.random.default_rng(0).standard_normal((n, 2 * n)), axis=0), "float32")
        jitted = jax.jit(lambda signals: jd.descramble(signals).point)
        found[f"{n} eager"] = timed(lambda signals=signals: jd.descramble(signals).point, 2.0)
        found[f"{n} jitted"] = timed(lambda signals=signals, jitted=jitted: jitted(signals), 2.0)
    sizes = (64, 128, 64, 10)
    keys = jax.random.split(jax.random.key(0), 4)
    pairs = itertools.pairwise(sizes)
    params = [jax.random.normal(key, pair) / 8 for key, pair in zip(keys[:3], pairs, strict=True)]
    x = jax.random.normal(keys[3], (512, 64))

    def f(params, x):
        for weight in params[:-1]:
            x = jax.nn.relu(x @ weight)
        return x @ params[-1]

    def network():
        layers = jd.descramble_network(f, params, x).values()
        return [side.point for layer in layers for side in (layer.input, layer.output) if side is not None]

    found[NETWORK] = timed(network, 3.0)
    print(json.dumps(found))


def run_worker(setting, large, cache):
    unset = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    # One process compiles, the others load its programs from the cache.
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": cache}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    if setting != "package":
        environment["OPENBLAS_NUM_THREADS"] = "1" if setting == "variable" else str(os.cpu_count())
    command = [sys.executable, __file__, "--worker", *(["--large"] if large else [])]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(rounds, busy, cache):
    """Return the seconds by setting and case, and the load of the machine before ours."""
    load = os.getloadavg()[0]
    workers = [multiprocessing.Process(target=compute_without_end, daemon=True) for _ in range(os.cpu_count() or 1)]
    for one in workers if busy else []:
        one.start()
    found = {setting: {} for setting in SETTINGS}
    try:
        for _ in range(rounds):
            for setting in TURNS:
                for case, seconds in run_worker(setting, not busy, cache).items():
                    found[setting].setdefault(case, []).extend(seconds)
    finally:
        for one in workers if busy else []:
            one.terminate()
    return found, load


def table(found):
    from statistics import median

    lines = [
        "| n, call | package, ms | variable, ms | OpenBLAS, ms | package / variable | OpenBLAS / package |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for case in found["package"]:
        ours, one, theirs = (median(found[setting][case]) for setting in SETTINGS)
        lines.append(
            f"| {case} | {ours * 1e3:.3g} | {one * 1e3:.3g} | {theirs * 1e3:.3g} | {ours / one:.2f} "
            f"| {theirs / ours:.3g} |"
        )
    return lines


def main(out, rounds, only):
    lines = [
        "# LAPACK's threads on a busy machine",
        "",
        f"`python benchmarks/busy.py --rounds {rounds}`; {os.cpu_count()} cores, {platform.machine()}. Closed form of "
        "smoothness for (n, 2 n) float32 signals with `descramble`, called as it is (eager) and inside `jax.jit`; "
        "medians in milliseconds. *package*: as `import jaxdescramble` leaves the threads; *variable*: "
        "`OPENBLAS_NUM_THREADS=1`; *OpenBLAS*: its own default, one thread for each core.",
    ]
    with tempfile.TemporaryDirectory() as cache:
        for busy in (True, False):
            if only not in (None, "busy" if busy else "idle"):
                continue
            found, load = measured(rounds, busy, cache)
            title = "Busy: one computing process for each core" if busy else "Without load of our own"
            lines += ["", f"## {title}", "", f"Load average before the start: {load:.1f}.", "", *table(found)]
            print("\n".join(lines), file=sys.stderr)
    text = "\n".join(lines) + "\n"
    if out is None:
        print(text)
    else:
        out.write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["busy", "idle"])
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--large", action="store_true")
    given = parser.parse_args()
    if given.worker:
        worker(given.large)
    else:
        main(given.out, given.rounds, given.only)
