"""Compare neural path kernels in tiles with the matrix products that they consist of.

Run: python -m benchmarks.path_kernel [--samples 10000] [--peer PYTHON] [--out FILE]

Dense: 784 inputs, 5 gated layers of width 256, hard gates as int8, float32; a sum of squares uses each tile. There are
two floors in the same run: the products alone, with the shapes of the tiles, as `jnp.matmul`; and the machine's rate,
the best of five square products. The rivals take turns, the best of the rounds counts, and everything is warmed up.
Processor time of all threads depends less on other processes of a shared machine.

Convolutional: circular, three 3 x 3 convolutions of 16 channels and the average, against the number of positions D.

`--peer` is a Python with neural-tangents (0.6.5 needs jax 0.4.34 and tf2jax 0.3.6, so it needs its own environment).
Its analytic kernel of a ReLU network of the same depth is a different kernel without gates. It is shown for context; it
is not a rival.
"""

import argparse
import functools
import os
import platform
import resource
import subprocess
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescramble.gated import path_kernel as pk

INPUTS, WIDTH, LAYERS, TILE, ROUNDS = 784, 256, 5, 512, 5
CHANNELS, CONVOLUTIONS = 16, 3

PEER = """
import time, jax, jax.numpy as jnp
from neural_tangents import stax
layers = [stax.Dense(1), stax.Relu()] * {layers}
kernel = jax.jit(lambda a, b: stax.serial(*layers, stax.Dense(1))[2](a, b, "ntk"))
x = jax.random.normal(jax.random.key(0), (2, {side}, {inputs}), "float32")
jax.block_until_ready(kernel(x[0], x[1]))
best = 1e9
for _ in range(20):
    begun = time.perf_counter()
    jax.block_until_ready(kernel(x[0], x[1]))
    best = min(best, time.perf_counter() - begun)
print(best, jax.__version__)
"""


def paired(rivals, rounds=ROUNDS):
    """Return the best wall-clock and processor seconds of each rival over several calls, in turns, after a warm-up."""
    best = dict.fromkeys(rivals, (np.inf, np.inf))
    for turn in range(rounds + 1):
        for name, rival in rivals.items():
            begun = time.perf_counter(), time.process_time()
            jax.block_until_ready(rival())
            wall, processor = time.perf_counter() - begun[0], time.process_time() - begun[1]
            if turn:
                best[name] = min(best[name][0], wall), min(best[name][1], processor)
    return best


def compilation(function, *arguments):
    """Return the seconds to trace and compile."""
    begun = time.perf_counter()
    jax.jit(function).lower(*arguments).compile()
    return time.perf_counter() - begun


@jax.jit
def squares(total, block):
    return total + jnp.sum(block**2)


def streamed(data1, data2=None):
    total = jnp.zeros((), "float32")
    for tile in pk.tiles(pk.dense, data1, data2, TILE):
        total = squares(total, tile.block)
    return total


def drawn(samples, seed):
    rng = np.random.default_rng(seed)
    gates = [jnp.asarray(rng.random((samples, WIDTH), "float32") > 0.5, "int8") for _ in range(LAYERS)]
    return jnp.asarray(rng.standard_normal((samples, INPUTS), "float32")), gates


def high_water():
    """Return the largest memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def dense_rows(samples):
    one, two = drawn(samples, 0), drawn(samples, 1)
    rng = np.random.default_rng(2)
    parts = [jnp.asarray(rng.standard_normal((TILE, n), "float32")) for n in (INPUTS, *[WIDTH] * LAYERS)]
    times = -(-samples // TILE)

    def products(parts):
        return [jnp.matmul(a, a.T) for a in parts]

    program = jax.jit(products)

    def alone():
        for _ in range(times**2):
            jax.block_until_ready(program(parts))

    x, gates = one[0][:TILE], [gate[:TILE] for gate in one[1]]
    compiled = {"products alone": compilation(products, parts)}
    each = compilation(lambda a, g: pk.dense(a, a, g, g), x, gates)
    rivals = {
        "products alone": alone,
        "kernel, all tiles": lambda: streamed(one, two),
        "kernel with itself, half of them": lambda: streamed(one),
    }
    before = high_water()
    best = paired(rivals)
    memory = high_water() - before
    done = {
        "products alone": (times * TILE) ** 2,
        "kernel, all tiles": samples**2,
        "kernel with itself, half of them": samples * (samples + TILE) / 2,
    }
    work = 2 * (INPUTS + LAYERS * WIDTH)
    rows = [
        (name, best[name], *(work * done[name] / taken for taken in best[name]), compiled.get(name, each))
        for name in rivals
    ]
    return rows, memory


def machine_rate():
    """Return the best rate of square products of size 256 to 4096, in operations per second."""
    rates = []
    for n in (256, 512, 1024, 2048, 4096):
        a = jax.random.normal(jax.random.key(n), (n, n), "float32")
        best = paired({"": functools.partial(jax.jit(jnp.matmul), a, a)})
        rates.append(2 * n**3 / best[""][0])
    return max(rates)


def convolutional_rows():
    rows = []
    for side in (4, 8, 12, 16):
        D = side**2
        samples = max(TILE // D, 2)
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.normal(size=(samples, side, side, 3)), "float32")
        shape = (CONVOLUTIONS, samples, side, side, CHANNELS)
        gates = list(jnp.asarray(rng.random(shape) > 0.5, "int8"))
        flat = [x.reshape(samples * D, 3)] + [gate.reshape(samples * D, CHANNELS).astype("float32") for gate in gates]
        products = jax.jit(lambda parts: [jnp.matmul(a, a.T) for a in parts])
        rivals = {
            "products": functools.partial(products, flat),
            "kernel": functools.partial(pk.convolutional, x, x, gates, gates),
        }
        compiled = compilation(lambda a, g: pk.convolutional(a, a, g, g), x, gates)
        best = paired(rivals, 10)
        rows.append((D, samples, best["kernel"][0] / samples**2, best["products"][0] / samples**2, compiled))
    return rows


def peer(python):
    """Return nanoseconds per pair of neural-tangents' analytic kernel of the same depth, and its version of jax."""
    script = PEER.format(layers=LAYERS, side=TILE, inputs=INPUTS)
    shown = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    best, version = shown.stdout.split()
    return 1e9 * float(best) / TILE**2, version


def main(samples: int, peer_python: str | None, out: Path):
    rows, memory = dense_rows(samples)
    rate = machine_rate()
    floor = rows[0][2]
    lines = [
        "# Neural path kernels in tiles",
        "",
        f"`python -m benchmarks.path_kernel`; {platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__} on "
        f"{jax.devices()[0].platform}, float32. The machine's rate, from the best of five square products: "
        f"{rate / 1e9:.0f} thousand million operations a second.",
        "",
        f"{samples} x {samples} samples, {INPUTS} inputs, {LAYERS} gate layers of width {WIDTH} in int8, tiles of "
        f"{TILE} x {TILE} to a sum of squares. With the data in place, all runs together took {memory:.0f} MiB "
        f"more, compiler included; the kernel itself has {4 * samples**2 / 2**20:.0f}.",
        "",
        "| what | seconds | 10^9 operations/s | of the products' rate | by processor time | of the machine's rate | "
        "compilation, seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, taken, wall, processor, compiled in rows:
        lines.append(
            f"| {name} | {taken[0]:.2f} | {wall / 1e9:.0f} | {wall / floor:.2f} | {processor / rows[0][3]:.2f} | "
            f"{wall / rate:.2f} | {compiled:.2f} |"
        )
    ours = 1e9 * rows[1][1][0] / samples**2
    lines += ["", f"A pair of samples: {ours:.1f} ns."]
    if peer_python is not None:
        theirs, version = peer(peer_python)
        lines[-1] += (
            f" For context, neural-tangents' analytic kernel of a ReLU network of the same depth, which takes no gates "
            f"and one product instead of six (jax {version}, {TILE} x {TILE}): {theirs:.1f} ns."
        )
    lines += [
        "",
        f"Convolutional: {CONVOLUTIONS} circular 3 x 3 convolutions of {CHANNELS} channels and the average.",
        "",
        "| positions D | samples | microseconds a pair | ns a pair, by D^2 | products alone | compilation, seconds |",
        "|---|---|---|---|---|---|",
    ]
    for D, n, each, floor, compiled in convolutional_rows():
        lines.append(
            f"| {D} | {n} | {1e6 * each:.3g} | {1e9 * each / D**2:.2f} | {1e9 * floor / D**2:.2f} | {compiled:.2f} |"
        )
    print("\n".join(lines))
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--peer", dest="peer_python", default=None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "path_kernel.md")
    main(**vars(parser.parse_args()))
