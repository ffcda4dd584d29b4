"""Measure how soon Ctrl-C ends `minimise` and `descramble`, and show the result that it leaves.

    python -m benchmarks.interrupt_solve [--sizes 64 384 1024] [--out benchmarks/results/interrupt_solve.md]

The calls use the defaults on random signals. SIGINT comes some seconds after the first report of progress. The program
prints the reports of `progress=` twice a second, and the point in the exception.
"""

import argparse
import os
import platform
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxdescramble as jd

SECONDS = 4.0
"""Between the first report of progress and SIGINT."""


def misfit(point: Any, signals: Any) -> Any:
    """Return the total variation, as a function that a user might write."""
    return jnp.mean(jnp.sqrt(jnp.diff(point @ signals, axis=0) ** 2 + 1e-6))


def interrupted(call: Callable[[Callable], Any], say: Callable[[str], None]) -> None:
    """Run a call, send SIGINT, and print the time to the answer and the result."""
    began, sent, spoke = time.perf_counter(), [], [-1.0]

    def send() -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    def progress(stage: str, done: int, total: int) -> None:
        now = time.perf_counter()
        if spoke[0] < 0:
            timer = threading.Timer(SECONDS, send)
            timer.daemon = True
            timer.start()
        if now - spoke[0] > 0.5:
            spoke[0] = now
            say(f"{now - began:8.2f} s  {stage}: {done} of {total}")

    try:
        call(progress)
        say("the call ended before SIGINT came")
    except jd.Interrupted as stopped:
        now = time.perf_counter()
        found = stopped.result
        off = float(jd.manifolds.orthogonal.defect(found.point))
        say(f"{now - began:8.2f} s  Interrupted {now - sent[0]:.2f} s after SIGINT: value {float(found.value):.6g}")
        say(f"            steps {int(found.steps)}, {jd.Status(int(found.status)).name}, ||P^T P - 1|| = {off:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 384, 1024])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    objective = jd.objectives.total_variation()
    for n in given.sizes:
        signals = jnp.cumsum(jax.random.normal(jax.random.key(0), (n, 2 * n)), axis=0)
        say(f"$ jd.minimise(misfit, jnp.eye({n}), signals, progress=...)")
        interrupted(lambda progress, S=signals: jd.minimise(misfit, jnp.eye(len(S)), S, progress=progress), say)
        say(f"$ jd.descramble(signals, jd.objectives.total_variation(), progress=...)  # {n} features")
        interrupted(lambda progress, S=signals: jd.descramble(S, objective, progress=progress), say)
    if given.out:
        load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
        head = f"`python -m benchmarks.interrupt_solve`; {os.cpu_count()} cores, {platform.machine()}, load {load}."
        text = "\n".join(lines)
        given.out.write_text(f"# Solves that are interrupted\n\n{head}\n\n```text\n{text}\n```\n")
    os._exit(0)  # a normal exit would wait for XLA's current step


if __name__ == "__main__":
    main()
