"""Batches on an accelerator: this library beside geoopt and POGO on one card, float64.

Run: python benchmarks/peers/gpu.py [--sizes 64 256 1024 4096] [--batches 1 16 512] [--limit 60]

Without a GPU it says so and ends well. `--cpu` measures on the processor in its place, for trying the script out.
A problem of a batch is the reference problem with its features in an order of its own. A gap is reached when every
problem of the batch has reached it; peers look every 20 steps, so that looking costs them nothing.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.peers.reference import TARGETS, nearest, reference  # noqa: E402

OUT = ROOT / "benchmarks" / "results" / "peers_gpu.md"
LOOK = 20
MATRICES = 60  # of the batch's shape that the hungriest solver may hold
Reached = dict[float, tuple[float, int]]


def batch_of(n: int, batch: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return A, the B of every problem, and the least value that they share."""
    problem = reference(n)
    orders = [np.random.default_rng(i).permutation(n) for i in range(batch)]
    return problem.A, np.stack([problem.B[np.ix_(order, order)] for order in orders]), problem.best


def ours(n: int, batch: int, limit: float, cpu: bool, name: str) -> tuple[Reached, float, float]:
    """Run one compiled program for the whole batch; a recorded solve says how many steps are needed."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    from jaxdescramble import objectives, solvers

    A, Bs, best = batch_of(n, batch)
    analytic = solvers.Analytic()
    solver: Any = {
        "ours_tr": solvers.TrustRegion(preconditioner=analytic),
        "ours_lbfgs": solvers.LBFGS(preconditioner=analytic),
        "ours_box": solvers.LBFGS(preconditioner=solvers.Kronecker()),
    }[name]
    if name == "ours_box":
        A, unit = jnp.asarray(A), 1.0
        function: Callable = quadratic
        data = (jnp.broadcast_to(A, (batch, n, n)), jnp.asarray(Bs))
    else:
        function = objectives.smoothness(summary="gram")
        counts = jnp.full((batch,), 4 * n, jnp.int32)
        data = (jax.vmap(objectives.Gram)(jnp.asarray(Bs), counts),)
        unit = float(np.linalg.eigvalsh(A)[-1] * np.trace(Bs[0]))
    length = 4096

    def whole(history: int) -> Callable:
        def solve(solver: Any, *data: Any) -> Any:
            def one(*mine: Any) -> Any:
                return solvers.minimise(function, jnp.eye(n), *mine, solver=solver, group="SO", history=history)

            return jax.vmap(one)(*data)

        return jax.jit(solve)

    recorded, plain = whole(length), whole(0)
    endless = dataclasses.replace(solver, max_steps=length)
    values = np.asarray(recorded(endless, *data).history.value) * unit
    gaps = (np.minimum.accumulate(np.where(np.isnan(values), np.inf, values), axis=1) - best) / best
    reached, cold = {}, None
    for target in TARGETS:
        if not (gaps[:, -1] <= target).all():
            break
        steps = int((gaps <= target).argmax(axis=1).max()) + 1
        limited = dataclasses.replace(solver, max_steps=steps)
        taken = []
        while len(taken) < 4 and sum(taken) < limit:
            start = time.perf_counter()
            jax.block_until_ready(plain(limited, *data))
            taken.append(time.perf_counter() - start)
        cold = taken[0] if cold is None else cold
        reached[target] = (float(np.median(taken[1:] or taken)), steps)
    warm = reached[TARGETS[0]][0] if reached else 0.0
    return reached, max((cold or 0.0) - warm, 0.0), float(gaps[:, -1].max())


def quadratic(point, A, B):
    """Return the objective, written without knowledge of this library."""
    import jax.numpy as jnp

    return jnp.sum(point * (A @ point @ B))


def torch_peer(n: int, batch: int, limit: float, cpu: bool, name: str) -> tuple[Reached, float, float]:
    """geoopt or POGO: a loop on the host, gradients by hand, one parameter for the whole batch."""
    import torch  # pyright: ignore[reportMissingImports]

    place = "cpu" if cpu else "cuda"
    A, Bs, best = batch_of(n, batch)
    A, Bs = torch.as_tensor(A, device=place), torch.as_tensor(Bs, device=place)
    start = torch.eye(n, dtype=torch.float64, device=place).repeat(batch, 1, 1)
    if name == "geoopt":
        import geoopt  # pyright: ignore[reportMissingImports]

        from benchmarks.peers.rivals.geoopt_adam import RATES

        point = geoopt.ManifoldParameter(start, manifold=geoopt.Stiefel(canonical=False))
        optimiser: Any = geoopt.optim.RiemannianAdam([point], lr=nearest(RATES, n))
    else:
        from pogo import POGO, base  # pyright: ignore[reportMissingImports]

        from benchmarks.peers.rivals.pogo_adam import RATES

        point = torch.nn.Parameter(start)
        optimiser = POGO([point], base.VectorAdam(), nearest(RATES, n))

    def step() -> Any:
        with torch.no_grad():
            slope = A @ point @ Bs
            value = (point * slope).sum(dim=(-2, -1)).max()
            point.grad = 2 * slope
        optimiser.step()
        return value

    before = time.perf_counter()
    step().item()
    cold = time.perf_counter() - before
    reached: Reached = {}
    gap, steps, began = np.inf, 0, time.perf_counter()
    while time.perf_counter() - began < limit and len(reached) < len(TARGETS):
        for _ in range(LOOK - 1):
            step()
        gap = (step().item() - best) / best
        steps += LOOK
        for target in TARGETS:
            if gap <= target and target not in reached:
                reached[target] = (time.perf_counter() - began, steps)
    return reached, cold, gap


ENTRIES = {"geoopt": torch_peer, "pogo": torch_peer, "ours_tr": ours, "ours_lbfgs": ours, "ours_box": ours}


def card() -> str | None:
    """Return the name of the GPU that JAX sees, or None. Another process asks, so that this one holds no GPU memory."""
    ask = "import jax; print(jax.devices('gpu')[0].device_kind)"
    told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    return told.stdout.strip().splitlines()[-1] if told.returncode == 0 else None


def launch(name: str, n: int, batch: int, given: argparse.Namespace) -> dict[str, Any]:
    """Measure one entry in a new process, so that no library holds memory that another needs."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers.gpu",
        "--entry",
        name,
        "--sizes",
        str(n),
        "--batches",
        str(batch),
    ]
    command += ["--limit", str(given.limit)] + ["--cpu"] * given.cpu
    keep = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | ({"JAX_PLATFORMS": "cpu"} if given.cpu else {})
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | keep, capture_output=True, text=True, timeout=8 * given.limit + 300
        )
    except subprocess.TimeoutExpired:
        return {"failed": "took too long"}
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if done.returncode == 0 and lines else {"failed": done.stderr.strip()[-120:]}


def row(name: str, n: int, batch: int, found: dict[str, Any], fastest: float | None) -> str:
    """Return one line of the table."""
    if "failed" in found:
        reason = found["failed"].replace("|", " ").replace("\n", " ")
        return f"| {n} | {batch} | {name} | failed: {reason} | | | | | | |"
    reached = found["reached"]
    cells = [f"{reached[str(target)][0]:.3g}" if str(target) in reached else "NR" for target in TARGETS]
    last = reached.get(str(TARGETS[-1]))
    against = f"{fastest / last[0]:.3g}" if last and fastest else "-"
    steps = last[1] if last else ""
    return (
        f"| {n} | {batch} | {name} | {' | '.join(cells)} | {against} | {steps} | {found['gap']:.1e} | "
        f"{found['compile_s']:.1f} |"
    )


def main() -> None:
    """Measure on the card, or say that there is none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 128, 512])
    parser.add_argument("--limit", type=float, default=60.0)
    parser.add_argument("--memory", type=float, default=120e9, help="bytes of the card that may be used")
    parser.add_argument("--cpu", action="store_true", help="on the processor, for trying this script out")
    parser.add_argument("--entry", choices=ENTRIES, help="internal: one measurement, printed as JSON")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    if given.entry:
        n, batch = given.sizes[0], given.batches[0]
        reached, compile_s, gap = ENTRIES[given.entry](n, batch, given.limit, given.cpu, given.entry)
        print(json.dumps({"reached": reached, "compile_s": compile_s, "gap": gap}))
        return
    kind = "CPU, for trying the script out" if given.cpu else card()
    if kind is None:
        print("No GPU is here, so nothing was measured. (--cpu --sizes 16 --batches 2 tries the script out.)")
        return
    head = ["# Beside the peers, on an accelerator", "", f"`python benchmarks/peers/gpu.py`; {kind}. float64.", ""]
    head += ["| n | batch | solver | 1e-2, s | 1e-4, s | 1e-6, s | fastest peer / this | steps | gap | compile, s |"]
    lines = [*head, "|---|---|---|---|---|---|---|---|---|---|"]
    for n in given.sizes:
        for batch in given.batches:
            if 8 * n * n * batch * MATRICES > given.memory:
                print(f"n = {n}, batch {batch}: left out, would need more memory than --memory", flush=True)
                continue
            found = {name: launch(name, n, batch, given) for name in ENTRIES}
            last = str(TARGETS[-1])
            peers = [
                found[one]["reached"][last][0] for one in ("geoopt", "pogo") if last in found[one].get("reached", {})
            ]
            for name, one in found.items():
                lines.append(row(name, n, batch, one, min(peers, default=None)))
                print(lines[-1], flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
