"""Descramble the published six-layer networks, both sides of every layer, in one call.

Run: python examples/published_deernet.py PATH/deervet_64_512_a.npz [--samples 4000] [--out published.png]
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescramble as jd
from jaxdescramble.datasets import deer, deernet_weights


def main(path: str, samples: int, out: str):
    net = deernet_weights.load(path)
    traces, points = jax.random.split(jax.random.key(0))
    batch = deer.sample(traces, samples, deer.DeerGrid(512, float(net.time[-1])), dtype="float32")
    inputs = deernet_weights.encode(batch.trace.T, deernet_weights.random_points(points, samples))

    answer = deernet_weights.network(net.params, inputs)
    matches = [np.corrcoef(a, b)[0, 1] for a, b in zip(answer, batch.distribution.T, strict=True)]
    print(f"correlation with the truth: {np.mean(matches):.3f} over {samples} simulated traces")

    start = time.perf_counter()
    layers = jax.block_until_ready(jd.descramble_network(deernet_weights.network, net.params, inputs))
    print(f"{len(layers)} layers, both sides, in {time.perf_counter() - start:.1f} s, compilation included")
    for name, layer in layers.items():
        for side, found in layer.sides.items():
            print(
                f"{name:26s} {side:6s}  roughness {found.initial_value:.1e} -> {found.check().value:.1e}  "
                f"rank {found.rank}/{found.point.shape[0]}"
            )

    # The input of the first layer has five blocks of 64: the trace, two windows, and the windows times the trace.
    first = next(iter(layers.values())).weight
    energy = jnp.linalg.norm(first.reshape(len(first), 5, 64), axis=(0, 2)) ** 2
    print("share of layer 1 by input block a, b, v, va, vb:", *[f"{share:.2f}" for share in energy / energy.sum()])

    from jaxdescramble.show import figures

    figures.layers_figure(layers).savefig(out, dpi=150)
    print(f"the figure is in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--out", default="published.png")
    main(**vars(parser.parse_args()))
