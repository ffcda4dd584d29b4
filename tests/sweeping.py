"""A small sweep as a script: the process that `test_sweep_processes.py` kills and starts again, or starts twice.

Run: python tests/sweeping.py OUT [--wait SECONDS] [--process I --count N --port P]
"""

import argparse
import json
import os
import time

CHUNK, LAYERS, N, M = 4, 24, 8, 30


def signals(layer, wait):
    """Signals that take some time to come, so that a kill has a sweep to fall into."""
    import numpy as np

    time.sleep(wait)
    return np.cumsum(np.random.default_rng(layer).standard_normal((N, M)), axis=0).astype(np.float32)


def problems(wait):
    import jaxdescramble as jd
    from jaxdescramble.sweeps import Generated

    aims = {f"order {k}": jd.objectives.smoothness(order=k) for k in (1, 2)}
    return jd.grid({layer: Generated(signals, (layer, wait), (N, M)) for layer in range(LAYERS)}, aims)


def main(out: str, wait: float, process: int | None, count: int, port: int):
    import jax

    import jaxdescramble as jd

    if process is not None:
        jax.distributed.initialize(f"127.0.0.1:{port}", count, process)
    table = jd.sweep(problems(wait), out, chunk_size=CHUNK)
    print(json.dumps({"done": table.done, "devices": len(jax.local_devices()), "processes": jax.process_count()}))


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--wait", type=float, default=0.0)
    parser.add_argument("--process", type=int)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    main(**vars(parser.parse_args()))
