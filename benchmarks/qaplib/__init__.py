"""Published quadratic assignment problems, with published permutations that attain their published optima.

The matrices that are data stand in the text files beside this one, an empty line between the two of a problem;
distances on grids, on a hypercube and between the wards of a hospital, and Taillard's uniform numbers, are made here.
`load` refuses a problem whose permutation does not give the optimum to the last digit: a slip of one number in either
matrix would show.

Source: Burkard, Karisch, Rendl, QAPLIB, J. Global Optim. 10 (1997) 391; Taillard's generator, Parallel Computing 17
(1991) 443. Optimality of tai30a and sko42: Fujii, Ito, Kim, Kojima, Shinano, Toh, arXiv 2101.09629.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parent


class Instance(NamedTuple):
    """A problem: `optimum = min_p sum_ij a_ij b_(p(i) p(j))`, attained at `permutation`."""

    a: np.ndarray
    b: np.ndarray
    optimum: int
    permutation: np.ndarray


def solutions():
    """Return the optimum and a best permutation of each problem, counted from zero, as printed: p or its inverse."""
    lines = [line.split() for line in (HERE / "solutions.txt").read_text().splitlines()]
    return {name: (int(optimum), np.asarray(places, int) - 1) for name, optimum, *places in lines}


def matrices(name):
    """Return the matrices of a text file."""
    blocks = (HERE / f"{name}.txt").read_text().strip().split("\n\n")
    return [np.asarray([line.split() for line in block.splitlines()], int) for block in blocks]


def grid(rows, columns):
    """Distances between the places of a grid, along its lines."""
    y, x = np.divmod(np.arange(rows * columns), columns)
    return abs(x[:, None] - x) + abs(y[:, None] - y)


def taillard(n):
    """Return the problem taiNa: uniform numbers from 0 to 99, of one generator, flows before distances."""
    state, found = 123456789, []
    for _ in range(2):
        m = np.zeros((n, n), int)
        for i, j in zip(*np.triu_indices(n, 1), strict=True):
            state = 16807 * state % (2**31 - 1)
            m[i, j] = m[j, i] = 100 * state // (2**31 - 1)
        found.append(m)
    return found[::-1]


def hospital():
    """Distances of kra30a: two wings, four rows of at most four wards 50 apart, 115 from wing to wing."""
    rows = [(0, 0, x) for x in (1, 2, 3)] + [(0, y, x) for y in (1, 2) for x in range(4)]
    rows += [(0, 3, x) for x in range(3)] + [(1, y, x) for y in range(4) for x in range(4)]
    wing, y, x = np.asarray(rows).T
    return 50 * (abs(x[:, None] - x) + abs(y[:, None] - y)) + 115 * (wing[:, None] != wing)


def cube():
    """Distances of the esc problems: Hamming's, less one."""
    bits = np.arange(16)[:, None] >> np.arange(4) & 1
    return np.maximum((bits[:, None] != bits).sum(axis=2) - 1, 0)


# Nugent's: the grid, the problem with its flows, and k if every k-th place of that problem is left out (0: none).
NUGENT = {
    "nug12": (3, 4, "nug12", 0), "nug14": (3, 5, "nug15", 0), "nug15": (3, 5, "nug15", 0), "nug16a": (4, 5, "nug20", 0),
    "nug16b": (4, 4, "nug20", 5), "nug17": (4, 5, "nug20", 0), "nug18": (4, 5, "nug20", 0), "nug20": (4, 5, "nug20", 0),
    "nug21": (3, 7, "nug30", 0), "nug22": (2, 11, "nug30", 0), "nug24": (4, 6, "nug30", 0), "nug25": (5, 5, "nug30", 6),
    "nug27": (3, 9, "nug30", 0), "nug28": (4, 7, "nug30", 0), "nug30": (5, 6, "nug30", 0), "sko42": (6, 7, "sko42", 0),
}  # fmt: skip


def _pair(name, n):
    if name in NUGENT:
        rows, columns, flows, skipped = NUGENT[name]
        flow = matrices(flows)[0]
        kept = [i for i in range(len(flow)) if not skipped or i % skipped != skipped - 1]
        return grid(rows, columns), flow[np.ix_(kept, kept)]
    if name.startswith("tai"):
        return taillard(n)
    if name.startswith("scr"):
        return matrices("scr20")[0], grid(5, 4)
    if name.startswith("had"):
        return matrices("had20")
    if name == "kra30a":
        return hospital(), matrices(name)[0]
    if name == "esc16a":
        return np.pad(matrices(name)[0], (0, 6)), cube()
    return matrices(name)


def load(name):
    """Load one problem and check it. Smaller ones of a family are the first rows and columns of the largest.

    >>> load("nug12").optimum
    578
    """
    optimum, printed = solutions()[name]
    n = len(printed)
    a, b = (m[:n, :n] for m in _pair(name, n))
    for p in (printed, np.argsort(printed)):
        if a.shape == b.shape == (n, n) and (a * b[np.ix_(p, p)]).sum() == optimum:
            return Instance(a, b, optimum, p)
    raise ValueError(f"{name}: the published permutation does not give {optimum}; a number in its file is wrong.")
