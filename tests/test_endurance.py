"""Long use: memory stays where it is, the same call gives the same bits, and an hour of sweeps loses nothing."""

import gc
import os
import shutil
import time

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import jaxdescramble as jd

N, M = 6, 30
rng = np.random.default_rng(0)
SIGNALS = np.cumsum(rng.standard_normal((16, N, M)), axis=1).astype(np.float32)
SOLVERS = {
    "closed form": (jd.objectives.smoothness(), None),
    "iteration": (jd.objectives.sparsity("l4"), jd.solvers.GradientDescent(max_steps=3)),
}


def resident():
    """MiB of this process in memory."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's /proc")


@pytest.mark.thorough
@needs_proc
@pytest.mark.parametrize("name", SOLVERS)
def test_a_thousand_solves_leave_no_trace(name):
    objective, solver = SOLVERS[name]
    for signals in SIGNALS:
        jd.descramble(signals, objective, solver)
    before = resident()
    for _ in range(63):
        for signals in SIGNALS:
            jd.descramble(signals, objective, solver).value.block_until_ready()
    assert resident() - before < 8


@needs_proc
def test_sweeps_leave_no_trace_in_memory(tmp_path):
    problems = jd.grid(SIGNALS, jd.objectives.smoothness())
    one = Mesh(np.array(jax.devices()[:1]), ("problems",))

    def run(times):
        for _ in range(times):
            jd.sweep(problems, tmp_path / "out", one, chunk_size=8)
            shutil.rmtree(tmp_path / "out")

    run(5)
    before = resident()
    run(20)
    assert resident() - before < 8


def test_the_same_call_gives_the_same_bits():
    objective, solver = SOLVERS["iteration"]
    first = jd.descramble(SIGNALS, objective, solver)
    jax.clear_caches()  # a program compiled anew is the same program
    again = jd.descramble(SIGNALS, objective, solver)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.slow
@needs_proc
def test_an_hour_of_sweeps(tmp_path):
    """Sweeps of every kind, damaged and resumed, for JAXDESCRAMBLE_SOAK_SECONDS: the same answers, no more memory."""
    seconds, began, rounds = float(os.environ.get("JAXDESCRAMBLE_SOAK_SECONDS", "3600")), time.monotonic(), 0
    problems = [one for objective, solver in SOLVERS.values() for one in jd.grid(SIGNALS, objective, solver)]
    problems += jd.grid(
        SIGNALS[:4], jd.objectives.total_variation(boundary="neumann"), jd.solvers.LBFGS(max_steps=20), seeds=range(4)
    )
    reference, before, damage = None, None, np.random.default_rng(1)
    while time.monotonic() - began < seconds or rounds < 3:
        out = tmp_path / "out"
        table = jd.sweep(problems, out, key=jax.random.key(0), chunk_size=4)
        victim = damage.choice(sorted(out.glob("chunks/*/*.npz")))
        victim.write_bytes(victim.read_bytes()[: damage.integers(victim.stat().st_size)])
        table = jd.sweep(problems, out, key=jax.random.key(0), chunk_size=4)
        bits = {name: values.tobytes() for name, values in table.columns.items()}
        reference = reference or bits
        assert bits == reference
        shutil.rmtree(out)
        rounds += 1
        if rounds == 3:
            before = resident()
    assert resident() - before < 64
    took, more = time.monotonic() - began, resident() - before
    print(f"{rounds} rounds of {len(problems)} problems in {took:.0f} s, {more:.1f} MiB more")
