"""Measure what a film costs a training loop: blocks of steps with and without the film, in turns, in one run.

Run: python benchmarks/film.py [--repeats 40] [--batch 1024]

An MLP 256-128-128-256 learns to remove noise from random walks (float32, Adam, donated buffers). Every 100 steps the
hidden sides of all layers (four problems of n = 128) are descrambled on 512 samples. A block consists of 100 steps and
one frame, and ends when the frame is finished. Everything is compiled before. Each repeat runs one block of every case
and one block without a film, in alternating order, and gives one ratio for each case. A second block without a film
shows how much such a ratio varies on this machine. Processor time is that of the whole process, all threads.
"""

import argparse
import functools
import os
import platform
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescramble as jd
from jaxdescramble.descrambling.film import Film

SIZES, EVERY, BLOCK = (256, 128, 128, 256), 100, 100


def network(params, x):
    for w in params[:-1]:
        x = jnp.tanh(x @ w)
    return x @ params[-1]


def walks(key, count):
    return jnp.cumsum(jax.random.normal(key, (count, SIZES[0])), axis=1) / 16


optimiser = optax.adam(1e-3)


@functools.partial(jax.jit, static_argnames="batch", donate_argnums=(0, 1))
def train_step(params, state, seed, batch):
    key = jax.random.key(seed)
    clean = walks(key, batch)
    noisy = clean + 0.2 * jax.random.normal(jax.random.fold_in(key, 1), clean.shape)
    grads = jax.grad(lambda params: jnp.mean((network(params, noisy) - clean) ** 2))(params)
    updates, state = optimiser.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def block(carry, batch, film=None):
    """Return seconds and processor seconds of the loop, including the rest of the last frame after it."""
    params, state, done = carry
    began, used = time.perf_counter(), time.process_time()
    for step in range(done, done + BLOCK):
        if film is not None:
            film.see(step, params)
        params, state = train_step(params, state, step, batch)
    jax.block_until_ready(params)
    if film is not None:
        film.wait()
    return (params, state, done + BLOCK), time.perf_counter() - began, time.process_time() - used


def main(repeats: int, batch: int, out: Path):
    objectives, solvers = jd.objectives, jd.solvers
    cases = {
        "smoothness, closed form": (objectives.smoothness(), None),
        'smoothness(summary="gram")': (objectives.smoothness(summary="gram"), None),
        "sparsity, polar power, 5 steps a frame": (objectives.sparsity("l4"), solvers.PolarPower(max_steps=5)),
        "total variation, L-BFGS, 2 steps a frame": (
            objectives.total_variation(epsilon=0.1, boundary="neumann"),
            solvers.LBFGS(max_steps=2, preconditioner=None),
        ),
        "total variation, L-BFGS, 5 steps a frame": (
            objectives.total_variation(epsilon=0.1, boundary="neumann"),
            solvers.LBFGS(max_steps=5, preconditioner=None),
        ),
    }
    keys = jax.random.split(jax.random.key(0), len(SIZES))
    params = [jax.random.normal(k, (a, b)) / a**0.5 for k, a, b in zip(keys, SIZES, SIZES[1:], strict=False)]
    x = walks(keys[-1], 512)
    carry = (params, optimiser.init(params), 0)
    carry, *_ = block(carry, batch)
    films, compiling = {}, {}
    for name, case in cases.items():
        films[name] = Film(network, x, *case, every=EVERY)
        films[name].see(carry[2], carry[0])
        films[name].wait()
        compiling[name] = films[name].frames.seconds[0]
        carry = (*carry[:2], carry[2] + EVERY)
    order = [None, *cases, "no film, again"]
    wall, work = ({name: [] for name in order} for _ in range(2))
    for repeat in range(repeats + 1):
        for name in order[:: -1 if repeat % 2 else 1]:
            carry, seconds, used = block(carry, batch, films.get(name))
            if repeat:  # the first repeat is a warm-up
                wall[name].append(seconds)
                work[name].append(used)
        print(f"{repeat}/{repeats}", {name: round(times[-1], 2) for name, times in wall.items() if times}, flush=True)

    base, base_work = np.asarray(wall[None]), np.asarray(work[None])
    lines = [
        "# What a film costs",
        "",
        f"`python benchmarks/film.py --repeats {repeats} --batch {batch}`; {platform.machine()}, {os.cpu_count()} "
        f"cores, jax {jax.__version__}, float32; a step without a film takes {1e3 * np.median(base) / BLOCK:.1f} ms "
        f"({1e3 * np.median(base_work) / BLOCK:.1f} ms of processor time). Load of the machine, this process included: "
        f"{os.getloadavg()[1]:.0f}.",
        "",
        "| film | time, of training | middle half | processor time, of training | s a frame | skipped | first "
        "frame, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in order[1:]:
        ratio, ratio_work = np.asarray(wall[name]) / base - 1, np.asarray(work[name]) / base_work - 1
        low, high = np.quantile(ratio, (0.25, 0.75))
        line = f"| {name} | {np.median(ratio):+.1%} | {low:+.1%} to {high:+.1%} | {np.median(ratio_work):+.1%} |"
        if name in films:
            frames, skipped = films[name].close(), films[name].skipped
            line += f" {np.median(frames.seconds[1:]):.3f} | {skipped} of {skipped + len(frames) - 1} |"
            line += f" {compiling[name]:.1f} |"
        lines.append(line)
        print(lines[-1], flush=True)
    lines += ["", *starts()]
    out.write_text("\n".join(lines) + "\n")


def starts(frames=8):
    """Compare a few steps from the previous frame with as many steps from scratch, on a smaller network."""
    keys, sizes = jax.random.split(jax.random.key(1), 4), (64, 24, 64)
    params = [jax.random.normal(k, (a, b)) / a**0.5 for k, a, b in zip(keys, sizes, sizes[1:], strict=False)]
    x = walks(keys[2], 200)[:, :64]

    @jax.jit
    def step(params, state, seed):
        clean = walks(jax.random.key(seed), 256)[:, :64]
        grads = jax.grad(lambda params: jnp.mean((network(params, clean) - clean) ** 2))(params)
        updates, state = optimiser.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    lines = [
        f"Mean value over {frames - 1} frames of a network 64-24-64, one every {EVERY} steps, for a given number of "
        "steps of L-BFGS per frame: from the frame before, and from scratch.",
        "",
        "| objective | steps | from the frame before | from scratch |",
        "|---|---|---|---|",
    ]
    for name, objective in (
        ("sparsity", jd.objectives.sparsity()),
        ("total variation", jd.objectives.total_variation(epsilon=0.1, boundary="neumann")),
    ):
        for most in (2, 5, 20, 100):
            solver, cold = jd.solvers.LBFGS(max_steps=most, preconditioner=None), []
            now, state = params, optimiser.init(params)
            with Film(network, x, objective, solver, every=EVERY, wait=True) as film:
                for i in range(frames * EVERY):
                    if film.see(i, now) and i:
                        cold += jd.descramble_network(network, now, x, objective, solver).values()
                    now, state = step(now, state, i)
            warm = [side.value[1:] for layer in film.frames.layers.values() for side in layer.sides.values()]
            cold = [float(side.value) for layer in cold for side in layer.sides.values()]
            lines.append(f"| {name} | {most} | {np.mean(warm):.4f} | {np.mean(cold):.4f} |")
            print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "film.md")
    main(**vars(parser.parse_args()))
