"""The wild table: `jd.descramble` beside every rival on signals of ordinary networks. One command, one table.

Run: python -m benchmarks.wild.run --data FOLDER [--cases tune end] [--only TEXT] [--rivals NAME ...] [--limit 30]

Each pair of a case and a rival is a process of its own, with one thread on one core, in float64, compile time apart.
Records are kept in `--parts`, so an interrupted run goes on where it stopped; the table shows all that are there.
Packages that the rivals need: pip install pymanopt autograd geoopt torch geojax python-picard.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.peers.run import environment
from benchmarks.peers.table import hardware
from benchmarks.wild.cases import END, TUNE, Case
from benchmarks.wild.rivals import LABELS, RIVALS, applies

ROOT = Path(__file__).parents[2]
OPTIMISED = "--xla_backend_optimization_level=3"
PATIENCE = 1800
GAPS = (1e-2, 1e-3)
Records = dict[str, dict[str, Any]]


def launch(case: Case, name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measure one pair in a new process, or return its record."""
    out = given.parts / f"{case.name} -- {name}.json"
    if out.exists() and not (given.fresh and name == "ours"):
        return json.loads(out.read_text())
    command = [sys.executable, "-m", "benchmarks.wild.child", case.name, name, "--data", str(given.data)]
    command += [
        "--out",
        str(out),
        "--limit",
        str(given.limit),
        "--core",
        str(given.core),
        "--starts",
        str(given.starts),
    ]
    settings = environment()
    settings |= {"XLA_FLAGS": f"{settings['XLA_FLAGS']} {OPTIMISED}", "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=PATIENCE)
        reason = (done.stderr.strip().splitlines() or [""])[-1][:120]
        if done.returncode == 0:
            return json.loads(out.read_text())
    except subprocess.TimeoutExpired:
        reason = f"killed after {PATIENCE} s"
    print(f"{case.name}, {name}: {reason}", flush=True)
    return {"failed": reason, "traces": []}


def reached(record: dict[str, Any], goal: float) -> float | None:
    """Return the seconds after which a value was reached, from the better start; None if never.

    For this library, the call with more starts counts too, with all of its seconds and those of its compilation.
    """
    longer = [(record["longer_s"], record["longer"])] if "longer" in record else []
    times = [seconds for trace in (*record["traces"], longer) for seconds, value in trace if value <= goal]
    times = [one for one in times if one <= record.get("limit", math.inf)]
    return min(times, default=None)


def lowest(record: dict[str, Any]) -> float:
    """Return the lowest value within the time limit; for this library, with all the time."""
    values = [value for trace in record["traces"] for seconds, value in trace if seconds <= record["limit"] * 1.05]
    return min([*values, record.get("longer", math.inf)])


def mean(values: Iterable[float]) -> float:
    """Return the geometric mean."""
    logs = [math.log(one) for one in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def figures(records: Records, limit: float) -> dict[str, Any]:
    """Return the best value of one case, and for each entry its times and how far it ends above the best."""
    values = {name: lowest(one) for name, one in records.items() if one["traces"]}
    best = min(values.values())
    times = {
        name: [reached(one, best + gap * abs(best)) for gap in GAPS] for name, one in records.items() if one["traces"]
    }
    above = {name: (value - best) / abs(best) for name, value in values.items()}
    return {"best": best, "times": times, "above": above, "limit": limit}


def cell(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.3g}"


def section(title: str, found: dict[str, dict[str, Any]], all_records: dict[str, Records]) -> Iterable[str]:
    """Yield the table of one set of cases."""
    names = [name for name in LABELS if any(name in one["times"] for one in found.values())]
    short = {
        name
        for records in all_records.values()
        for name, one in records.items()
        if name != "ours" and len(one["traces"]) < 2
    }

    def label(name: str) -> str:
        return LABELS[name] + " \\*" * (name in short)

    for place, gap in enumerate(GAPS):
        yield f"### {title}: seconds to within {gap:.1%} of the best value that anybody found"
        yield ""
        yield "| case | size | best | " + " | ".join(label(name) for name in names) + " | fastest rival / this |"
        yield "|---" * (len(names) + 4) + "|"
        ratios = []
        for case, one in found.items():
            size = next(f"{r['n']} x {r['m']}" for r in all_records[case].values() if "n" in r)
            cells = [cell(one["times"][name][place]) if name in one["times"] else "" for name in names]
            counted = {name: one["times"][name][place] or one["limit"] for name in one["times"]}
            rivals = [seconds for name, seconds in counted.items() if name != "ours"]
            against = min(rivals) / counted["ours"] if rivals and "ours" in counted else math.nan
            ratios += [against] if "ours" in counted else []
            yield f"| {case} | {size} | {one['best']:.5f} | " + " | ".join(cells) + f" | {against:.1f} |"
        both = [one for one in found.values() if "ours" in one["times"]] or list(found.values())
        means = {
            name: mean((one["times"][name][place] or one["limit"]) for one in both if name in one["times"])
            for name in names
        }
        yield (
            "| **geometric mean** | | | "
            + " | ".join(f"{means[name]:.3g}" for name in names)
            + f" | {mean(ratios):.1f} |"
        )
        everywhere = [means[name] for name in names if name != "ours" and all(name in one["times"] for one in both)]
        yield ""
        if everywhere and "ours" in means:
            yield (
                f"The fastest rival over all {len(both)} cases takes {min(everywhere) / means['ours']:.1f} times as "
                f"long as this library; the fastest rival of each case takes {mean(ratios):.1f} times as long."
            )
            yield ""
    yield f"### {title}: how far the best value within the limit lies above the best of all"
    yield ""
    yield "| case | " + " | ".join(label(name) for name in names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for case, one in found.items():
        cells = [f"{one['above'][name]:.2%}" if name in one["above"] else "" for name in names]
        yield f"| {case} | " + " | ".join(cells) + " |"
    yield ""
    yield f"### {title}: the default call"
    yield ""
    yield "| case | first call, s | call, s | value | steps | status |"
    yield "|---|---|---|---|---|---|"
    for case, records in all_records.items():
        ours = records.get("ours", {})
        if "whole" in ours and case in found:
            yield (
                f"| {case} | {ours['cold']:.1f} | {ours['whole']:.3f} | {ours['value']:.6f} | {ours['steps']} | "
                f"{ours['status']} |"
            )
    yield ""


def main() -> None:
    """Measure what is missing, and write the table of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", choices=("tune", "end"), default=["tune", "end"])
    parser.add_argument("--only", default="", help="measure only the cases whose names contain this text")
    parser.add_argument("--rivals", nargs="+", choices=(*RIVALS, "ours"), default=[*RIVALS, "ours"])
    parser.add_argument("--limit", type=float, default=30.0, help="seconds of each solve")
    parser.add_argument("--starts", type=int, default=2, help="how many of the two starts a rival is given")
    parser.add_argument("--core", type=int, default=(os.cpu_count() or 1) - 1)
    parser.add_argument("--parts", type=Path, default=Path("wild-parts"), help="folder for finished records")
    parser.add_argument("--fresh", action="store_true", help="measure this library again, but no rival")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "wild.md")
    given = parser.parse_args()
    given.parts.mkdir(parents=True, exist_ok=True)
    sets = {"tune": TUNE, "end": END}
    for case in (case for name in given.cases for case in sets[name] if given.only in case.name):
        for name in () if given.table else given.rivals:
            if applies(name, case.objective):
                record = launch(case, name, given)
                print(case.name, name, [trace[-1] for trace in record["traces"]], flush=True)
    lines = [
        "# Beside other optimisers, on signals of ordinary networks",
        "",
        f"`python -m benchmarks.wild.run`; {hardware()}. float64, one thread on one core for everybody, each in a "
        "process of its own, compile time apart. All rivals are given the same jitted value, gradient and Hessian "
        f"product, and {given.limit:.0f} s from each of two starts: the one that `jd.descramble` computes, and a "
        "random one; the better of the two counts (an asterisk: from the first start only). This library is timed as "
        "its user sees it: the default call with `max_seconds`, shorter and shorter, and one call with more restarts. "
        "Who never arrives counts with the limit in the means.",
        "",
    ]
    for name, cases in sets.items():
        records: dict[str, Records] = {}
        for case in cases:
            parts = {one: given.parts / f"{case.name} -- {one}.json" for one in LABELS}
            records[case.name] = {one: json.loads(path.read_text()) for one, path in parts.items() if path.exists()}
        found = {
            case: figures(one, given.limit) for case, one in records.items() if any(r["traces"] for r in one.values())
        }
        if found:
            title = {"tune": f"The {len(found)} cases to tune on", "end": f"The {len(found)} cases for the end"}[name]
            lines += [f"## {title}", "", *section(title, found, records)]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
