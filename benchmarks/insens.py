"""Compare exact Insens of a convolutional network of 38,656 neurons with the arithmetic that it needs.

Run: python -m benchmarks.insens [--out FILE]    (Captum's row needs torch and captum)

The network is 28 x 28 inputs, 5 x 5 x 32, pool, 5 x 5 x 64, pool, dense 1024, dense 10, in float32 with random weights.
The floor is the time of the products of the forward route alone, as matrix products of the same sizes (patches by
kernels), in the same run. Everything is warmed up.
"""

import argparse
import functools
import os
import platform
import resource
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescramble import attribution
from jaxdescramble.attribution import switched

LAYOUT = ("NHWC", "HWIO", "NHWC")


def network(params, x):
    for w in params[:2]:
        x = jax.nn.relu(jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=LAYOUT))
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jax.nn.relu(x.reshape(len(x), -1) @ params[2]) @ params[3]


def timed(function, repeats=3):
    jax.block_until_ready(function())
    best = np.inf
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(function())
        best = min(best, time.perf_counter() - begun)
    return best


def captums(images):
    """Return the seconds of Captum's integrated gradients (64 steps) for one image, or None if it is not installed."""
    try:
        import captum.attr  # pyright: ignore[reportMissingImports]
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    layers = [torch.nn.Conv2d(1, 32, 5, padding=2), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
              torch.nn.Conv2d(32, 64, 5, padding=2), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
              torch.nn.Linear(3136, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 10)]  # fmt: skip
    model = torch.nn.Sequential(*layers)
    image = torch.tensor(np.asarray(images[:1]).transpose(0, 3, 1, 2), requires_grad=True)
    method = captum.attr.IntegratedGradients(model)
    return timed(lambda: method.attribute(image, target=0, n_steps=64).detach().numpy())


def main(out: Path):
    shapes = [(5, 5, 1, 32), (5, 5, 32, 64), (3136, 1024), (1024, 10)]
    keys = jax.random.split(jax.random.key(0), 5)
    params = [jax.random.normal(k, s) * (2 / np.prod(s[:-1])) ** 0.5 for k, s in zip(keys, shapes, strict=False)]
    images = jax.random.normal(keys[4], (32, 28, 28, 1))
    exact = jax.jit(lambda x: switched.insens(network, params, x))
    found = exact(images[:1])
    costs = dict(found.costs)
    one = timed(lambda: exact(images[:1]))
    batch = timed(lambda: exact(images), 1)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    floor = 0.0
    for rows, inner, columns in ((784 * 784, 25, 32), (784 * 196, 800, 64), (784, 3136, 1024)):
        left, right = jax.random.normal(keys[0], (rows, inner)), jax.random.normal(keys[1], (inner, columns))
        product = jax.jit(lambda a, b: a @ b)
        floor += timed(functools.partial(product, left, right), 5)
    probed = jax.jit(lambda x, k: switched.insens(network, params, x, "probes", key=k).map)
    rough = timed(lambda: probed(images[:1], keys[1]))
    neurons = 28 * 28 * 32 + 14 * 14 * 64 + 1024
    each = jax.jit(lambda x: switched.insens(network, params, x, route="reverse").map)
    reverse = timed(lambda: each(images[:1]), 1)
    np.testing.assert_allclose(each(images[:1]), found.map, rtol=0, atol=1e-5 * float(jnp.abs(found.map).max()))
    usual = jax.jit(lambda x: attribution.integrated_gradients(network, params, x, 0))
    integrated = timed(lambda: usual(images[:1]))
    theirs = captums(images)
    lines = [
        "# Exact Insens of a convolutional network",
        "",
        f"`python -m benchmarks.insens`; {platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}, float32; "
        f"{neurons} neurons, {int(found.count[0])} of them inactive; route {found.route}, {costs['forward'] / 1e9:.1f} "
        f"thousand million multiplications; at most {memory:.2f} GiB for one image and for the batch.",
        "",
        "| what | seconds | of the floor |",
        "|---|---|---|",
    ]
    table = [("floor: the products alone", floor), ("Insens, exact, one image", one),
             ("Insens, exact, an image of a batch of 32", batch / 32), ("Insens, 32 random probes, one image", rough),
             ("Insens, exact, by a pass backward for every neuron", reverse),
             ("integrated gradients, 64 steps, ours", integrated)]  # fmt: skip
    table += [("integrated gradients, 64 steps, Captum", theirs)] if theirs is not None else []
    for name, seconds in table:
        lines.append(f"| {name} | {seconds:.3g} | {seconds / floor:.2f} |")
    print("\n".join(lines))
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "insens.md")
    main(**vars(parser.parse_args()))
