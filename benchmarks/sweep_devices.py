"""Compare one program over a mesh with a queue for each device. benchmarks/sweep.py starts this process.

Run: python -m benchmarks.sweep_devices COUNT FOLDER, with XLA_FLAGS=--xla_force_host_platform_device_count=8
"""

import hashlib
import json
import sys
import time

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxdescramble as jd
from jaxdescramble.descrambling.solving import solve

N, M, CHUNK, LAYERS = 24, 60, 4, 32


def way(steps):
    return jd.solvers.GradientDescent(max_steps=steps, tolerance=0.0)


def main(count: int, folder: str):
    rng = np.random.default_rng(0)
    signals = np.cumsum(rng.standard_normal((LAYERS, N, M)), axis=1).astype(np.float32)
    objective, steps = jd.objectives.sparsity(), rng.permutation(np.repeat([400, 8000], LAYERS // 2))
    problems = [jd.Problem(S, objective, way(int(most))) for S, most in zip(signals, steps, strict=True)]
    mesh = Mesh(np.array(jax.devices()[:count]), ("problems",))

    def one(most, S):
        return solve(objective, way(most), "O", objective.summarise(S), None, 0)

    spec = PartitionSpec("problems")
    program = jax.jit(jax.shard_map(jax.vmap(one), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
    place = NamedSharding(mesh, spec)

    def waves():
        found = []
        for first in range(0, LAYERS, CHUNK * count):
            rows = slice(first, first + CHUNK * count)
            operands = jax.device_put((np.asarray(steps[rows], np.int32), signals[rows]), place)
            found.append(np.asarray(program(*operands)["value"]))
        return np.concatenate(found)

    waves()
    jd.sweep(problems, f"{folder}/warm", mesh, chunk_size=CHUNK)
    pairs = []
    for turn in range(3):
        began = time.perf_counter()
        values = waves()
        middle = time.perf_counter()
        table = jd.sweep(problems, f"{folder}/{turn}", mesh, chunk_size=CHUNK)
        pairs.append((middle - began, time.perf_counter() - middle, values, table["value"]))
    wave, queue = (float(np.median([pair[side] for pair in pairs])) for side in (0, 1))
    bits = [hashlib.sha256(np.asarray(pairs[-1][side], np.float32).tobytes()).hexdigest()[:8] for side in (2, 3)]
    print(json.dumps([wave, queue, *bits]))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
