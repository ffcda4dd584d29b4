"""The reference problem and its scrambled twin: this library beside every peer, one command, one table.

Run: python benchmarks/peers/run.py [--sizes 32 80 128] [--only pymanopt_tr ours_tr] [--limit 60] [--quick] [--fresh]

The rivals run one after another, each in its own process, with one thread on one core, in float64. The records are
kept in `benchmarks/peers/.cache`, so that an interrupted run continues where it stopped; the table shows all of them.
`--fresh` measures everything again. A rival that missed the last gap at one size is skipped at larger sizes, except the
fastest peer; `--all` skips nobody. Packages that the rivals need: pip install pymanopt autograd geoopt torch geojax
pogo-torch python-picard scikit-learn.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.peers.reference import STARTS, TARGETS  # noqa: E402
from benchmarks.peers.rivals import RIVALS  # noqa: E402
from benchmarks.peers.sparsity import METHODS, SAMPLES, TOLERANCE  # noqa: E402
from benchmarks.peers.table import write  # noqa: E402

CACHE = Path(__file__).parent / ".cache"
OUT = ROOT / "benchmarks" / "results" / "peers.md"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ALWAYS = ("pymanopt_tr",)


def environment() -> dict[str, str]:
    """Return the environment of the rivals: one BLAS thread, one thread for XLA's own products, no accelerator."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    return os.environ | ONE_THREAD | {"XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}


def child(module: str, arguments: list[str], out: Path, lost: dict[str, Any], patience: float) -> dict[str, Any]:
    """Run a process; return its record, or one that says why it failed."""
    command = [sys.executable, "-m", f"benchmarks.peers.{module}", *arguments, "--out", str(out)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), timeout=patience, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return json.loads(out.read_text())
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:160]
        record = lost | {"note": f"failed: {reason}"}
    except subprocess.TimeoutExpired:
        record = lost | {"note": f"killed after {patience:.0f} s"}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1))
    return record


def launch(
    name: str, n: int, start: str, out: Path, limit: float, clock: str, core: int, settings: dict | None = None
) -> dict[str, Any]:
    """Run one rival on one reference problem."""
    lost = {"name": name, "n": n, "start": start, "limit": limit, "clock": clock, "settings": settings or {}}
    lost |= {"seconds": {}, "steps": {}, "evaluations": 0, "gap": None, "gap_projected": None, "defect": None}
    lost |= {"compile_s": 0.0, "share": 1.0, "versions": {}}
    arguments = [name, str(n), start, "--limit", str(limit), "--settings", json.dumps(settings or {})]
    return child("child", [*arguments, "--clock", clock, "--core", str(core)], out, lost, 4 * limit + 180)


def kept(pattern: str) -> list[dict[str, Any]]:
    """Return the records of the cache."""
    return [json.loads(path.read_text()) for path in sorted(CACHE.glob(pattern))]


def solved(record: dict[str, Any]) -> bool:
    """Return whether the last gap was reached."""
    return str(TARGETS[-1]) in record["seconds"]


def hopeless(name: str, n: int, start: str, limit: float) -> bool:
    """Return whether the last gap was missed at a smaller size, with as much time."""
    found = kept(f"{name}-*-{start}.json")
    return any(one["n"] < n and not solved(one) and one["limit"] >= limit for one in found)


def measure(given: argparse.Namespace) -> None:
    """Measure every record that the cache lacks, or has only with a shorter limit or another clock."""
    for n, start, name in itertools.product(given.sizes, given.starts, given.only):
        out = CACHE / f"{name}-{n}-{start}.json"
        if out.exists() and not given.fresh:
            old = json.loads(out.read_text())
            if old["clock"] == given.clock and (solved(old) or old["limit"] >= given.limit):
                continue
        if hopeless(name, n, start, given.limit) and not (given.all or name in ALWAYS):
            continue
        record = launch(name, n, start, out, given.limit, given.clock, given.core)
        seconds = " / ".join(f"{one:.3g}" for one in record["seconds"].values()) or "none"
        print(f"{start:9} {n:4} {name:18} {seconds} {record['note']}", flush=True)


def measure_sparsity(given: argparse.Namespace) -> None:
    """Measure the records of the second problem that the cache lacks."""
    for n, (name, method) in itertools.product(given.sparsity, METHODS.items()):
        out = CACHE / f"sparsity-{name}-{n}.json"
        if out.exists() and not given.fresh and json.loads(out.read_text())["clock"] == given.clock:
            continue
        lost = {"name": name, "label": method.label, "n": n, "m": SAMPLES, "tolerance": TOLERANCE}
        lost |= {"versions": {}, "clock": given.clock}
        record = child("sparsity", [name, str(n), "--clock", given.clock, "--core", str(given.core)], out, lost, 300)
        print(f"sparsity  {n:4} {name:18} {record['note'] or format(record['seconds'], '.3g')}", flush=True)


def main() -> None:
    """Measure what is not in the cache, and write the table of all that is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 80, 128, 256, 512])
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--only", nargs="+", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each rival on each problem")
    parser.add_argument("--sparsity", type=int, nargs="*", default=[16, 32, 64], help="sizes of the second problem")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: on a machine that others use too"
    )
    parser.add_argument("--core", type=int, default=(os.cpu_count() or 1) - 1)
    parser.add_argument("--quick", action="store_true", help="the smallest sizes alone, ten seconds each")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--all", action="store_true", help="ask everyone at every size")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    if given.quick:
        given.sizes, given.sparsity, given.limit = [32], [16], 10.0
    measure(given)
    measure_sparsity(given)
    reference = [one for start in STARTS for one in kept(f"*-{start}.json")]
    sparsity = kept("sparsity-*.json")
    write(reference, sorted(sparsity, key=lambda one: (one["n"], list(METHODS).index(one["name"]))), given.out)


if __name__ == "__main__":
    main()
