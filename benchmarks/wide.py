"""Time the descrambling of wide layers (`rank=k`), and compare its answers with exact ones.

Run: python -m benchmarks.wide [--part memory|sketch|accuracy] [--out benchmarks/results/wide.md]

Signals are `L diag(i^-power) N`, with L orthonormal (a product of random reflections) and N normal samples. Each part
is a process of its own, because the memory of a process only grows.

memory: 4096 features, 20,000 samples in memory, rank 256, the closed form; the first call compiles, the second does
not. The check: kept energy and value from the singular values that LAPACK finds in the same signals.

sketch: 16384 features in batches of 512 samples, which are made when they are needed; `objectives.Sketch` of rank 512,
then rank 128. The peak memory of the process includes the interpreter and JAX. The check: the energy that the answer
keeps of the same batches, read a second time, and the upper limit by the exact spectrum of the model.

accuracy: the randomised vectors against those of a full decomposition, for several spectra.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import jaxdescramble as jd  # noqa: E402
from jaxdescramble._base import range_finder  # noqa: E402

PARTS = ("memory", "sketch", "accuracy")


def peak():
    """Return the largest memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed(function, *arguments):
    """Return the result, and wall-clock and processor seconds; half of the latter on two idle cores."""
    begun = np.asarray([time.perf_counter(), time.process_time()])
    found = jax.block_until_ready(function(*arguments))
    return found, np.asarray([time.perf_counter(), time.process_time()]) - begun


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *rows]


class Model:
    """Signals with singular values like i^-power, in batches that can be made again."""

    def __init__(self, n, power, dtype, reflections=8):
        rng = np.random.default_rng(0)
        self.scale = np.arange(1, n + 1.0) ** -power
        self.mirrors = rng.standard_normal((reflections, n))
        self.mirrors /= np.linalg.norm(self.mirrors, axis=1, keepdims=True)
        self.dtype = dtype

    def batch(self, number, size):
        """Return the samples of a batch, shape (n, size)."""
        rng = np.random.default_rng([1, number])
        columns = self.scale[:, None].astype(self.dtype) * rng.standard_normal((len(self.scale), size), self.dtype)
        for mirror in self.mirrors.astype(self.dtype):
            columns -= 2 * np.outer(mirror, mirror @ columns)
        return columns


def memory(n=4096, m=20_000, k=256, power=0.75):
    rows = []
    for dtype in ("float32", "float64"):
        signals = jnp.asarray(Model(n, power, dtype).batch(0, m))
        ask = lambda signals: jd.descramble(signals, rank=k)  # noqa: E731
        found, first = timed(ask, signals)
        found, again = timed(ask, signals)
        high = peak()
        # The exact singular values, by LAPACK in float64.
        gram = np.asarray(signals, "float64")
        squares = np.linalg.eigvalsh(gram @ gram.T)[::-1]
        a = np.asarray(jd.objectives.smoothness().operator(k).eigenvalues, "float64")
        value = (a * squares[:k]).sum() / (a.max() * squares[:k].sum())
        left_out = squares[k:].sum() / squares.sum()
        rows.append(
            f"| {n} x {m} | {dtype} | {k} | {first[0]:.1f} | {again[0]:.1f} | {again[1]:.1f} | {high:.1f} | "
            f"{abs(float(found.value) - value):.1e} | {float(found.left_out):.6f} | "
            f"{abs(float(found.left_out) - left_out):.1e} |"
        )
        print(rows[-1], flush=True)
    head = (
        "signals",
        "type",
        "rank",
        "first call, s",
        "second, s",
        "processor, s",
        "peak, GiB",
        "error of the value",
        "left out",
        "its error",
    )
    return ["## In memory", "", *table(head, rows), ""]


def sketch(n=16384, m=20_480, size=512, rank=512, k=128, power=0.75):
    rows = []
    for dtype in ("float32",):
        model = Model(n, power, dtype)
        summary, spent = jd.objectives.Sketch.empty(n, dtype, rank=rank), np.zeros(2)
        for number in range(m // size):
            batch = jnp.asarray(model.batch(number, size))
            summary, seconds = timed(summary.update, batch)
            spent += seconds
        found, solve = timed(lambda summary: jd.descramble(summary, rank=k), summary)
        high = peak()
        kept = total = 0.0
        for number in range(m // size):
            batch = model.batch(number, size)
            kept += float(np.sum((np.asarray(found.point) @ batch).astype("float64") ** 2))
            total += float(np.sum(batch.astype("float64") ** 2))
        # The energy that any k directions keep of normal samples of this model, up to the noise of the samples.
        excess = k * float(np.asarray(summary.error)) / total
        best = (model.scale[:k] ** 2).sum() / (model.scale**2).sum()
        rows.append(
            f"| {n} x {m} | {dtype} | {rank} | {k} | {spent[0]:.0f} | {spent[1]:.0f} | {solve[0]:.1f} | {high:.1f} | "
            f"{1 - kept / total:.5f} | {float(found.left_out):.5f} | {1 - best:.5f} | {excess:.5f} |"
        )
        print(rows[-1], flush=True)
    head = (
        "signals",
        "type",
        "columns",
        "rank",
        "updates, s",
        "processor, s",
        "descramble, s",
        "peak, GiB",
        "really left out",
        "reported",
        "of the model",
        "bound of the excess",
    )
    return ["## Streamed", "", *table(head, rows), ""]


def accuracy(n=1500, m=2000, k=100):
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((size, n)))[0] for size in (n, m))
    i = np.arange(1, n + 1.0)
    spectra = {
        "1/i": 1 / i,
        "1/sqrt(i)": i**-0.5,
        "exp(-i/60)": np.exp(-i / 60),
        "80 components 1/i, then flat noise": np.where(i <= 80, 1 / i, 0) + 0.002 * (1 - 0.3 * i / n),
    }
    rows = []
    find = jax.jit(range_finder.leading, static_argnums=1)
    for name, values in spectra.items():
        for dtype in ("float32", "float64"):
            signals = ((left * values) @ right.T).astype(dtype)
            U = np.asarray(find(jnp.asarray(signals), k).vectors, "float64")
            best = (values[:k] ** 2).sum()
            outside = (U - left[:, :k] @ (left[:, :k].T @ U)) * values[:k]
            missed = 1 - np.sum((U.T @ (left * values)) ** 2) / best
            rows.append(
                f"| {name} | {dtype} | {abs(missed):.1e} | {np.linalg.norm(outside) / best**0.5:.1e} | "
                f"{abs(U.T @ U - np.eye(k)).max():.1e} |"
            )
            print(rows[-1], flush=True)
    head = "| singular values | type | energy missed | signals in wrong directions | orthonormal to |"
    about = f"{n} features, {m} samples, {k} vectors; shares of the energy and of the norm of the best k components."
    return ["## Accuracy of the randomised vectors", "", about, "", head, "|---|---|---|---|---|", *rows, ""]


def main(out: Path, part: str | None):
    if part is not None:
        out.write_text("\n".join({"memory": memory, "sketch": sketch, "accuracy": accuracy}[part]()))
        return
    lines = [
        "# Wide layers: the k leading principal components",
        "",
        f"`python -m benchmarks.wide`; {platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}, "
        f"jax {jax.__version__}. Smoothness, the closed form. Singular values of the model fall like i^-0.75. "
        f"Load before the run: {os.getloadavg()[0]:.1f}; other processes slow the wall clock, not the processor time.",
        "",
    ]
    for name in PARTS:
        own = out.with_suffix(f".{name}")
        subprocess.run([sys.executable, "-m", "benchmarks.wide", "--part", name, "--out", str(own)], check=True)
        lines.append(own.read_text())
        own.unlink()
    out.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "wide.md")
    parser.add_argument("--part", choices=PARTS, default=None)
    main(**vars(parser.parse_args()))
