"""Compare our Gram matrix of ten million columns in float32 with plain accumulation; float64 judges both.

Run: python -m benchmarks.streaming [--columns 10000000] [--out FILE]

Columns look like activations: 256 features with means and a decaying spectrum, rectified in the second half, the last
one constant (a bias unit). Each batch is computed again from its number, so only one batch is in memory. The judge sums
the same float32 columns in float64. The rival is `gram += x @ x.T` in float32, one product per batch. Both are warmed
up and see every batch in turns. Times do not include making the data and judging.

Then comes a second pass: sparsity over the whole stream, starting from the answer of a reservoir.
"""

import argparse
import os
import platform
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdescramble.descrambling import descramble
from jaxdescramble.descrambling.accumulators import Accumulator, refine, score
from jaxdescramble.objectives import sparsity

FEATURES, BATCH = 256, 8192


def batch_of(number, size, half, means):
    """Return float32 columns that depend only on the number."""
    rng = np.random.default_rng([7, number])
    x = half @ rng.standard_normal((FEATURES, size), "float32") + means
    np.maximum(x[FEATURES // 2 :], 0, out=x[FEATURES // 2 :])
    x[-1] = 0.1
    return x


def resident():
    """Return the memory of this process in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def errors(gram, exact):
    """Return the largest errors relative to sqrt(g_ii g_jj), without and with the constant, and in Frobenius norm."""
    size = np.sqrt(np.diag(exact))
    off = np.abs(gram - exact) / np.outer(size, size)
    return off[:-1, :-1].max(), off[-1].max(), np.linalg.norm(gram - exact) / np.linalg.norm(exact)


def timed(function, *arguments):
    """Return the result, and wall-clock and processor seconds."""
    begun = time.perf_counter(), time.process_time()
    found = jax.block_until_ready(function(*arguments))
    return found, np.asarray([time.perf_counter() - begun[0], time.process_time() - begun[1]])


def machine_rate(side=2048):
    """Return the best rate of eight square products, in 10^9 operations per second."""
    x = jnp.ones((side, side), "float32")
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    jax.block_until_ready(product(x))
    return 2e-9 * side**3 / min(timed(product, x)[1][0] for _ in range(8))


@jax.jit
def plain(gram, total, x):
    return gram + jnp.matmul(x, x.T, precision="highest"), total + jnp.sum(x, axis=1)


def summed(gram, total, x):
    """Add a batch to both sums; the time of its transfer counts for both."""
    return plain(gram, total, jnp.asarray(x))


def added(acc, batch):
    """Add a batch, and wait until the arrays are ready."""
    acc = acc.add(batch)
    jax.block_until_ready(acc.sums)
    return acc


def first_pass(columns):
    rng = np.random.default_rng(0)
    half = (rng.standard_normal((FEATURES, FEATURES)) * np.arange(1, FEATURES + 1) ** -0.75).astype("float32")
    means = rng.standard_normal((FEATURES, 1)).astype("float32")
    exact, acc = np.zeros((FEATURES, FEATURES)), Accumulator.empty(FEATURES, "float32")
    gram, total = jnp.zeros((FEATURES, FEATURES), "float32"), jnp.zeros(FEATURES, "float32")
    sizes = [BATCH] * (columns // BATCH) + [columns % BATCH] * (columns % BATCH > 0)
    for size in {sizes[0], sizes[-1]}:
        x = batch_of(0, size, half, means)
        added(acc, x)
        jax.block_until_ready(summed(gram, total, x))
    marks = {max(1, round(len(sizes) * share)): share for share in (0.1, 0.5, 1.0)}
    memory, ours, rival, rate = {}, np.zeros(2), np.zeros(2), machine_rate()
    for number, size in enumerate(sizes):
        x = batch_of(number, size, half, means)
        acc, spent = timed(added, acc, x)
        ours += spent
        (gram, total), spent = timed(summed, gram, total, x)
        rival += spent
        wide = x.astype("float64")
        exact += wide @ wide.T
        if number + 1 in marks:
            memory[marks[number + 1]] = resident()
    rate = max(rate, machine_rate())
    assert acc.count == columns
    rows = {
        "`Accumulator.add`": (errors(acc.moments.gram(), exact), ours),
        "plain float32": (errors(np.asarray(gram, "float64"), exact), rival),
    }
    return rows, memory, rate


def second_pass(columns=200_000, features=32, kept=1000):
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.standard_normal((features, features)))[0]
    S = np.matmul(turn, rng.laplace(size=(features, columns))).astype("float32")
    batches, objective = np.array_split(S, 50, axis=1), sparsity("logcosh")
    acc = Accumulator.empty(features, "float32", reservoir=kept, key=jax.random.key(0)).consume(batches)
    start = descramble(acc.summary(objective), objective).point
    rate = optax.adam(optax.cosine_decay_schedule(0.02, 2 * len(batches)))
    found, seconds = timed(lambda: refine(objective, start, batches, acc, rate, passes=2))
    best = descramble(S, objective, start=start)
    values = [score(objective, point, batches, acc) for point in (start, found.point, best.point)]
    P = np.asarray(found.point, np.float64)
    drift = np.abs(P.T @ P - np.eye(features)).max()
    return (columns, features, kept), [float(value) for value in values], seconds[0], drift, float(best.value)


def report(columns):
    rows, memory, rate = first_pass(columns)
    (m, n, kept), (start, refined, best), seconds, drift, in_memory = second_pass()
    lines = [
        "# More data than memory",
        "",
        f"`python -m benchmarks.streaming --columns {columns}`; {platform.machine()}, {jax.default_backend()}, "
        f"{len(os.sched_getaffinity(0))} cores (shared with others), jax {jax.__version__}, float32. The "
        f"machine's rate, from the best of square products before and after: {rate:.0f} thousand million operations a "
        "second.",
        "",
        f"The Gram matrix of {columns:.3g} columns of {FEATURES} features in batches of {BATCH}. Errors are against "
        "float64 accumulation of the same columns, the largest in units of sqrt(g_ii g_jj).",
        "",
        "| what | largest error | with the constant feature | Frobenius | seconds | processor seconds | "
        "10^9 operations/s | of the machine's rate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, ((largest, constant, frobenius), (wall, processor)) in rows.items():
        speed = 2e-9 * columns * FEATURES**2 / wall
        lines.append(
            f"| {name} | {largest:.1e} | {constant:.1e} | {frobenius:.1e} | {wall:.1f} | {processor:.1f} | "
            f"{speed:.0f} | {speed / rate:.2f} |"
        )
    held = ", ".join(f"{size:.0f} MiB at {share:.0%}" for share, size in memory.items())
    ours, other = (rows[name][1] for name in rows)
    lines += [
        "",
        "An operation is one of the 2 n^2 m of the plain product; the accumulator makes two products for it. It takes "
        f"{ours[0] / other[0]:.1f} times as long as the plain sum ({ours[1] / other[1]:.1f} by processor time).",
        "",
        f"Memory of the whole process, the judge's included: {held}.",
        "",
        f"Second pass: `sparsity('logcosh')` of {m} columns of {n} features, from a reservoir of {kept}. Values over "
        "all columns, by `score`:",
        "",
        "| point | value over all the data | above the best |",
        "|---|---|---|",
        f"| the reservoir's answer | {start:.6f} | {start - best:.1e} |",
        f"| refined, two passes of 50 batches | {refined:.6f} | {refined - best:.1e} |",
        f"| all in memory | {best:.6f} ({in_memory:.6f} by the objective itself) | 0 |",
        "",
        f"Refining took {seconds:.1f} s, compiler included; P^T P is 1 to {drift:.0e}.",
    ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=10_000_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "streaming.md")
    options = parser.parse_args()
    text = report(options.columns)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
