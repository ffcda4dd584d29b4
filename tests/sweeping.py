"""A small sweep as a script: the process that the tests of `test_sweep_processes.py` kill, and start again.

Run: python tests/sweeping.py OUT [--process I --count N --port P] [--shard I N]
"""

import argparse
import json
import os

CHUNK, LAYERS, N, M = 4, 24, 8, 30


def problems():
    import numpy as np

    import jaxdescramble as jd

    signals = np.random.default_rng(0).standard_normal((LAYERS, N, M)).astype(np.float32)
    aims = {f"order {k}": jd.objectives.smoothness(order=k) for k in (1, 2)}
    return jd.grid(np.cumsum(signals, axis=1), aims)


def main(out: str, process: int | None, count: int, port: int, shard: list[int] | None):
    import jax

    import jaxdescramble as jd

    if process is not None:
        jax.distributed.initialize(f"127.0.0.1:{port}", count, process)
    table = jd.sweep(problems(), out, chunk=CHUNK, shard=shard)
    print(json.dumps({"done": table.done, "devices": len(jax.local_devices()), "processes": jax.process_count()}))


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--process", type=int)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--shard", type=int, nargs=2)
    main(**vars(parser.parse_args()))
