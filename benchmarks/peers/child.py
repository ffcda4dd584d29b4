"""One rival on one problem, in a process of its own: `python -m benchmarks.peers.child NAME N START --out FILE`.

Started by `run.py`, which sets the number of threads; the process keeps to one core.
"""

import argparse
import importlib.metadata
import json
import os
from pathlib import Path

from benchmarks.peers.reference import STARTS, Stopwatch, reference
from benchmarks.peers.rivals import RIVALS


def main() -> None:
    """Solve, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=RIVALS)
    parser.add_argument("n", type=int)
    parser.add_argument("start", choices=STARTS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=float, default=60.0)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--core", type=int, default=-1, help="the core to keep to; -1 for any")
    parser.add_argument("--settings", type=json.loads, default={}, help="of the rival, as JSON; for tuning")
    given = parser.parse_args()
    if given.core >= 0:
        os.sched_setaffinity(0, {given.core})
    rival = RIVALS[given.name]
    problem = reference(given.n, given.start)
    watch = Stopwatch(problem, given.limit, clock=given.clock)
    rival.load()(problem, watch, **given.settings)
    record = {"name": given.name, "n": given.n, "start": given.start, "limit": given.limit, "clock": given.clock}
    record["settings"] = given.settings
    record |= watch.record() | {"versions": {one: importlib.metadata.version(one) for one in rival.packages}}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
