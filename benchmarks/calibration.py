"""Count the false findings of `explain` on networks without findings, and its power on networks with planted ones.

Run: python -m benchmarks.calibration [--networks 500] [--draws 39] [--power 100] [--only ROW] [--out FILE]

Finished rows are kept in a folder, so the same command goes on after an interruption.

Level: each null alone, on networks that are exchangeable with its draws (the other nulls count as beaten, the least
favourable case). An exact test at 5% shows more than 25 of 500 half of the time; more than 37 would be a fault.
Power: filters of low frequency, hidden by a random rotation of the neurons, in noise; three strengths, three numbers of
samples.
"""

import argparse
import functools
import itertools
import json
import os
import platform
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from scipy.stats import beta

import jaxdescramble as jd

WIDTHS = (24, 16, 20, 12)
SAMPLES = 160


def f(params, x):
    for weight in params[:-1]:
        x = jnp.tanh(x @ weight)
    return x @ params[-1]


def start(kind, key):
    """Return the parameters of an untrained network: "normal", "uniform" or "orthogonal" weights."""
    params = []
    for k, (m, n) in enumerate(itertools.pairwise(WIDTHS)):
        own = jax.random.fold_in(key, k)
        if kind == "normal":
            drawn = jax.random.normal(own, (m, n)) * (2 / m) ** 0.5
        elif kind == "uniform":
            drawn = jax.random.uniform(own, (m, n), minval=-1, maxval=1) * (6 / m) ** 0.5
        else:
            drawn = jax.nn.initializers.orthogonal(1.4)(own, (m, n))
        params.append(drawn)
    return params


def records(key, count):
    """Return correlated inputs, such as a slow signal in noise: (samples, points)."""
    walk = jnp.cumsum(jax.random.normal(key, (count, WIDTHS[0])), axis=1)
    return walk / jnp.std(walk)


STEPS, RATE = 40, 1e-2
"""How long and how fast the networks of the kind "trained" are trained."""


@functools.partial(jax.jit, static_argnames="networks")
def trained(key, x, networks):
    """Return networks trained on random targets, stacked: all on the same targets, each in another random order.

    Each has its own normal start. Nothing tells the first network from the others, so they are exact draws for it.
    """
    optimiser = optax.adam(RATE)
    for_targets, own = jax.random.split(key)
    targets = jax.random.normal(for_targets, (len(x), WIDTHS[-1]))

    def one(key):
        for_start, for_order = jax.random.split(key)
        wanted = jax.random.permutation(for_order, targets)

        def step(carry, _):
            params, state = carry
            gradient = jax.grad(lambda params: jnp.mean((f(params, x) - wanted) ** 2))(params)
            update, state = optimiser.update(gradient, state)
            return (optax.apply_updates(params, update), state), None

        params = start("normal", for_start)
        return jax.lax.scan(step, (params, optimiser.init(params)), None, STEPS)[0][0]

    return jax.vmap(one)(jax.random.split(own, networks))


LEVEL = {
    "random frame, normal start": ("normal", ["random frame"], False),
    "random frame, orthogonal start": ("orthogonal", ["random frame"], False),
    "isotropic weights, normal start": ("normal", ["isotropic weights"], False),
    "permuted entries, normal start": ("normal", ["permuted entries"], False),
    "permuted entries, uniform start": ("uniform", ["permuted entries"], False),
    "untrained, normal start": ("normal", [], True),
    "untrained, uniform start": ("uniform", [], True),
    "untrained, orthogonal start": ("orthogonal", [], True),
    "trained on random targets, tested against shuffled targets": ("trained", [], False),
}


def false_findings(kind, nulls, with_init, networks, draws):
    """Return how many of the explanations of empty networks have a finding."""
    found = 0
    for number in range(networks):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(17), number), 3)
        x = records(keys[1], SAMPLES)
        if kind == "trained":
            stack = jax.device_get(trained(keys[0], x, 1 + draws))
            params, *rest = [[weight[k] for weight in stack] for k in range(1 + draws)]
            own_nulls = [jd.findings.TrainedNetworks(rest)]
        else:
            params, own_nulls = start(kind, keys[0]), nulls if not with_init else []
        report = jd.explain(
            f,
            params,
            x,
            nulls=own_nulls,
            init=functools.partial(start, kind) if with_init else None,
            draws=draws,
            key=keys[2],
        )
        found += bool(report.findings)
    return found


def planted(key, strength):
    """Return a weight (out, in): slow filters, rotated at random, with `strength` times the norm of the noise."""
    n, m = 32, 64
    rotation, noise = jax.random.split(key)
    waves = jnp.cos(jnp.outer(jnp.arange(1, 9), jnp.pi * (jnp.arange(m) + 0.5) / m))
    hidden = jd.manifolds.orthogonal.random(rotation, n)[:, :8] @ waves
    drawn = jax.random.normal(noise, (n, m))
    return drawn / jnp.linalg.norm(drawn) + strength * hidden / jnp.linalg.norm(hidden)


def power(strength, samples, networks, draws):
    """Return the share of planted layers with at least one finding, both default nulls beaten."""
    found = 0
    for number in range(networks):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(23), number), 3)
        walk = jax.random.normal(keys[1], (64, samples))
        layer = jd.findings.LayerSignals(planted(keys[0], strength), walk, ordered_output=False)
        found += bool(jd.explain({"planted": layer}, draws=draws, key=keys[2]).findings)
    return found / networks


STRENGTHS, SIZES = (0.3, 0.5, 1.0), (60, 200, 1000)


def kept(file: Path, compute):
    """Return what a former run wrote to this file; otherwise compute it and write it."""
    if not file.exists():
        begun = time.perf_counter()
        value = compute()
        file.write_text(json.dumps({"value": value, "seconds": time.perf_counter() - begun}))
        print(file.stem, value, flush=True)
    return json.loads(file.read_text())["value"]


def main(given: argparse.Namespace):
    networks, draws = given.networks, given.draws
    given.parts.mkdir(parents=True, exist_ok=True)
    for name, row in LEVEL.items():
        if given.only in name:
            kept(given.parts / f"{name}.json", functools.partial(false_findings, *row, networks, draws))
    for strength, samples in itertools.product(STRENGTHS, SIZES):
        if given.only in "power":
            file = given.parts / f"power {strength} {samples}.json"
            kept(file, functools.partial(power, strength, samples, given.power, draws))
    given.out.write_text(table(given))


def table(given: argparse.Namespace) -> str:
    """Format all rows that are finished as Markdown."""
    networks, found = given.networks, {file.stem: json.loads(file.read_text()) for file in given.parts.glob("*.json")}
    level = []
    for name in LEVEL:
        if name in found:
            count = found[name]["value"]
            low = float(beta.ppf(0.025, count, networks - count + 1)) if count else 0.0
            high = float(beta.ppf(0.975, count + 1, networks - count))
            level.append(f"| {name} | {count} of {networks} | {count / networks:.3f} | {low:.3f} to {high:.3f} |")
    planted_rows = []
    for strength in STRENGTHS:
        names = [f"power {strength} {samples}" for samples in SIZES]
        cells = [f"{found[name]['value']:.2f}" if name in found else "" for name in names]
        planted_rows.append(f"| {strength} | " + " | ".join(cells) + " |")
    newline = "\n"
    return f"""# Calibration of `explain`

`python -m benchmarks.calibration --networks {networks} --draws {given.draws} --power {given.power}`;
{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}. Level 5%.
{sum(one["seconds"] for one in found.values()):.0f} s in all.

## False findings

Explanations of {networks} networks without findings that show at least one, all layers and readings together;
{", ".join(map(str, WIDTHS))} neurons, {SAMPLES} samples; limits of Clopper and Pearson (95%). An exact test shows more
than {networks / 20:.0f} half of the time; more than 37 of 500 would be a fault.

| null and network | with a finding | share | 95% limits |
|---|---|---|---|
{newline.join(level)}

## Power

Share of {given.power} planted layers (32 neurons, 64 inputs) with a finding; both default nulls must be beaten. Rows:
norm of the filters in units of the norm of the noise. Columns: number of samples.

| strength | {" | ".join(map(str, SIZES))} |
|{"---|" * (len(SIZES) + 1)}
{newline.join(planted_rows)}
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", type=int, default=500)
    parser.add_argument("--draws", type=int, default=39)
    parser.add_argument("--power", type=int, default=100)
    parser.add_argument("--only", default="", help="only rows whose names contain this text; 'power' for the power")
    parser.add_argument("--parts", type=Path, default=Path("calibration-parts"), help="folder for finished rows")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "calibration.md")
    main(parser.parse_args())
