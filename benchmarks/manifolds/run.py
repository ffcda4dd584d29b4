"""Manifolds: this library beside five peers, one command, one table.

Run: python -m benchmarks.manifolds.run [--tasks brockett-200-5] [--only "**L-BFGS**"] [--limit 60] [--core 1] [--fresh]

Every rival runs in a process of its own, with one thread on one core, in float64, from the same Haar-random start.
Records are kept in `benchmarks/manifolds/.cache`. Rivals: pip install pymanopt geojax geoopt cdopt geotorch torch.
"""

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.manifolds.problems import FORMULAS, NAMES, TALL, Task, task
from benchmarks.manifolds.rivals import RIVALS, SECOND_ORDER, Trace, has, ours
from benchmarks.peers.run import environment
from benchmarks.peers.table import hardware

ROOT = Path(__file__).parents[2]
CACHE = Path(__file__).parent / ".cache"
GAPS = (1e-3, 1e-6, 1e-9)
"""Gaps to reach, `(f - f*) / (f(start) - f*)`."""


def optimum(posed: Task) -> float:
    """Return the least value of a task; where no formula gives it, that of our trust region, kept in the cache."""
    if posed.best is not None:
        return posed.best
    path = CACHE / f"{posed.name}-best.json"
    if not path.exists():
        from jaxdescramble import solvers

        trace = Trace([-np.inf], 600.0)
        ours(
            posed if posed.near is None else dataclasses.replace(posed, start=posed.near), trace, solvers.TrustRegion()
        )
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(trace.lowest))
    return json.loads(path.read_text())


def child(name: str, rival: str, limit: float, core: int, out: Path) -> None:
    """Solve, and write the record."""
    os.sched_setaffinity(0, {core})
    posed = task(name)
    best = optimum(posed)
    first = float(FORMULAS[posed.kind][0](posed.start, *posed.args))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trace = Trace([best + gap * (first - best) for gap in GAPS], limit)
    RIVALS[rival](posed, trace)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    record = {
        "task": name, "rival": rival, "limit": limit, "reached": trace.reached, "compile_s": trace.compile_s,
        "gap": (trace.lowest - best) / (first - best), "peak_mb": peak / 1024, "before_mb": before / 1024,
    }  # fmt: skip
    out.write_text(json.dumps(record))


def launch(name: str, rival: str, limit: float, core: int) -> dict[str, Any]:
    """Run one rival in a process of its own."""
    out = CACHE / f"{name}-{list(RIVALS).index(rival)}.json"
    command = [sys.executable, "-m", "benchmarks.manifolds.run", "--child", name, rival, str(out)]
    command += ["--limit", str(limit), "--core", str(core)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), timeout=6 * limit + 120, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return json.loads(out.read_text())
        note = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:160]
    except subprocess.TimeoutExpired:
        note = "killed"
    record = {"task": name, "rival": rival, "limit": limit, "reached": {}, "gap": None, "note": note}
    out.write_text(json.dumps(record))
    return record


def cell(record: dict[str, Any] | None) -> str:
    """Seconds to the three gaps, and evaluations to the last one."""
    if record is None:
        return ""
    if record.get("note"):
        return "failed"
    times = [f"{record['reached'][str(k)][0]:.3g}" if str(k) in record["reached"] else "-" for k in range(len(GAPS))]
    last = record["reached"].get(str(len(GAPS) - 1))
    return " / ".join(times) + (f" ({last[1]})" if last else f" (gap {record['gap']:.0e})")


def table(records: dict[tuple[str, str], dict[str, Any]], names: list[str]) -> list[str]:
    """Return the lines of the table, and what the fastest peers take."""
    lines = ["| solver | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for rival in RIVALS:
        lines.append(f"| {rival} | " + " | ".join(cell(records.get((name, rival))) for name in names) + " |")
    peers = [rival for rival in RIVALS if not rival.startswith("**")]
    for title, mine, others in (
        ("first order: fastest peer / L-BFGS", "**L-BFGS**", [one for one in peers if one not in SECOND_ORDER]),
        ("first order: fastest peer / conjugate gradients", "**conjugate gradients**",
         [one for one in peers if one not in SECOND_ORDER]),
        ("second order: fastest peer / trust region", "**trust region**", list(SECOND_ORDER)),
    ):  # fmt: skip
        cells = []
        for name in names:
            found = []
            for k in map(str, range(len(GAPS))):
                own = records.get((name, mine), {}).get("reached", {}).get(k)
                times = [records.get((name, one), {}).get("reached", {}).get(k) for one in others]
                times = [time[0] for time in times if time]
                found.append("-" if not own else f"{min(times) / own[0]:.1f}" if times else "none")
            cells.append(" / ".join(found))
        lines.append(f"| *{title}* | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Measure what is not in the cache, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=[*NAMES, TALL], default=[*NAMES, TALL])
    parser.add_argument("--only", nargs="+", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each rival on each problem")
    parser.add_argument("--core", type=int, default=(os.cpu_count() or 1) - 1)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "manifolds.md")
    parser.add_argument("--note", default="", help="a sentence about the machine, for the table")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    CACHE.mkdir(exist_ok=True)
    if given.child:
        child(given.child[0], given.child[1], given.limit, given.core, Path(given.child[2]))
        return
    for name in given.tasks:
        posed = task(name)
        optimum(posed)
        for rival in given.only:
            path = CACHE / f"{name}-{list(RIVALS).index(rival)}.json"
            if name == TALL and not rival.startswith("**") and "pymanopt" not in rival:
                continue
            if not has(rival, posed.manifold):
                continue
            if not path.exists() or given.fresh:
                print(name, rival, cell(launch(name, rival, given.limit, given.core)), flush=True)
    paths = [path for path in sorted(CACHE.glob("*-*-*-*.json")) if not path.name.endswith("-best.json")]
    found = [json.loads(path.read_text()) for path in paths]
    records = {(one["task"], one["rival"]): one for one in found}
    names = [name for name in (*NAMES, TALL) if any(task == name for task, _ in records)]
    lines = [
        "# Manifolds", "",
        "`python -m benchmarks.manifolds.run`; each rival in a process of its own, one thread, float64, one start.",
        f"Hardware: {hardware()}. {given.note}".strip(), "",
        f"Seconds to gaps {', '.join(f'{gap:.0e}' for gap in GAPS)} of `(f - f*) / (f(start) - f*)`, compiled before; "
        "in brackets the evaluations (function with gradient, or Hessian product) to the last, or the gap at the end.",
        "Names are kind-n-p. Ratios are for the three gaps; above 1, this library is faster. All get the slope and the "
        "Hessian products as formulas in their own library, except the row that says otherwise, geotorch, and our "
        "Hessian products, which differentiate the slope. An empty cell: the peer does not have the manifold.", "",
        *table(records, names), "",
        "Peak memory of the whole process, MB:", "",
        "| solver | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|",
    ]  # fmt: skip
    for rival in RIVALS:
        here = [records.get((name, rival)) for name in names]
        sizes = [f"{one['peak_mb']:.0f}" if one and "peak_mb" in one else "" for one in here]
        lines.append(f"| {rival} | " + " | ".join(sizes) + " |")
    lower = [f"{one['rival']} on {one['task']}: {one['gap']:.1e}" for one in found if (one["gap"] or 0) < -1e-10]
    lines += ["", f"Values below the optimum that was assumed: {', '.join(lower) or 'none'}."]
    notes = [f"{one['rival']} on {one['task']}: {one['note']}" for one in found if one.get("note")]
    if notes:
        lines += ["", "Failed: " + "; ".join(notes) + "."]
    given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
