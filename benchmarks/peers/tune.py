"""How the settings of the rivals were chosen: `python benchmarks/peers/tune.py [--sizes 32 80] [--only NAME]`.

Every setting of a rival is given the same short time; the one that reaches the smallest gap, or the last target first,
goes into the rival's file. Nothing else reads this.
"""

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.peers.run import launch

GRIDS = {
    "pymanopt_tr": {"retraction": ["qr", "polar"]},
    "pymanopt_cg": {"retraction": ["qr", "polar"], "rule": ["HagerZhang", "HestenesStiefel", "PolakRibiere"]},
    "geojax_tr": {"largest": [1.0, 0.3, 0.1]},
    "geoopt_radam": {"rate": [0.003, 0.01, 0.03, 0.1, 0.3], "canonical": [False, True]},
    "pogo": {"rate": [0.01, 0.03, 0.1, 0.3, 1.0], "momentum": [0.0]},
    "torch_expm": {"memory": [10, 30]},
    "scipy_cayley": {"memory": [10, 20, 50]},
}


def main() -> None:
    """Print a row for every setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 80])
    parser.add_argument("--only", nargs="+", choices=GRIDS, default=list(GRIDS))
    parser.add_argument("--limit", type=float, default=20.0)
    given = parser.parse_args()
    for name, n in itertools.product(given.only, given.sizes):
        grid = GRIDS[name]
        for values in itertools.product(*grid.values()):
            settings = dict(zip(grid, values, strict=True))
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "record.json"
                found = launch(name, n, "plain", out, given.limit, "cpu", core=1, settings=settings)
            seconds = " / ".join(f"{one:.2f}" for one in found["seconds"].values())
            print(f"{name:14} {n:4} {settings}: {seconds or 'none'}; gap {found['gap']}", flush=True)


if __name__ == "__main__":
    main()
