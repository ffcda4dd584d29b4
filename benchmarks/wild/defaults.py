"""The call that a user makes, on each case: `jd.descramble(signals, objective)`. How long, what value, which status?

Run: python -m benchmarks.wild.defaults --data FOLDER [--cases tune] [--only TEXT] [--out FILE]

Float64, one LAPACK thread. The first call compiles; the second call is timed alone. Each case is a process of its own,
and finished cases are kept in `--parts`, so an interrupted run goes on where it stopped.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

import jaxdescramble as jd
from benchmarks.wild.cases import END, OBJECTIVES, TUNE, signals_of

LONGEST = 120.0
"""Largest number of seconds of one call."""


def call(case, data):
    """Return the record of one case: seconds of the first and the second call, value, steps, status."""
    jax.config.update("jax_enable_x64", True)
    signals = jnp.asarray(signals_of(case, data))
    objective = OBJECTIVES[case.objective](len(signals))

    def solve():
        start = time.perf_counter()
        found = jax.block_until_ready(jd.descramble(signals, objective, max_seconds=LONGEST))
        return found, time.perf_counter() - start

    _, first = solve()
    found, second = solve()
    return {
        "n": signals.shape[0], "m": signals.shape[1], "first": first, "second": second,
        "initial": float(found.initial_value), "value": float(found.value), "steps": int(found.steps),
        "status": jd.Status(int(found.status)).name, "load": os.getloadavg()[0],
    }  # fmt: skip


def table(rows):
    """Format the records as Markdown."""
    lines = [
        f"| {name} | {one['n']} x {one['m']} | {one['initial']:.4f} | {one['value']:.5f} | {one['steps']} "
        f"| {one['status']} | {max(one['first'] - one['second'], 0):.1f} | {one['second']:.2f} |"
        for name, one in rows.items()
    ]
    newline = "\n"
    return f"""# Default calls on signals of ordinary networks

`python -m benchmarks.wild.defaults`; {platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}, float64, one
LAPACK thread, `jd.descramble(signals, objective)` without other arguments. Compilation is the first call without the
second. Calls were stopped after {LONGEST:.0f} s. Highest load after a case:
{max(one["load"] for one in rows.values()):.1f}.

| case | size | P = 1 | value | steps | status | compile, s | call, s |
|---|---|---|---|---|---|---|---|
{newline.join(lines)}
"""


def main(given):
    given.parts.mkdir(parents=True, exist_ok=True)
    cases = [one for one in {"tune": TUNE, "end": END}[given.cases] if given.only in one.name]
    rows = {}
    for case in cases:
        file = given.parts / f"{case.name}.json"
        if not file.exists():
            command = [sys.executable, "-m", "benchmarks.wild.defaults", *sys.argv[1:], "--case", case.name]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            file.write_text(done.stdout.splitlines()[-1])
        rows[case.name] = json.loads(file.read_text())
        print(case.name, rows[case.name], flush=True)
    given.out.write_text(table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", choices=("tune", "end"), default="tune")
    parser.add_argument("--only", default="", help="only the cases whose names contain this text")
    parser.add_argument("--parts", type=Path, default=Path("wild-parts"), help="folder for finished cases")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "wild_defaults.md")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(call(next(one for one in TUNE + END if one.name == arguments.case), arguments.data)))
    else:
        main(arguments)
