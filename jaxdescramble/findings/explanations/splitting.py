"""Split samples into two halves: whole groups, balanced, duplicates together."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from jaxdescramble._base.checks import positive_integer

BLOCKS = 20
"""Number of blocks into which a time series is cut."""


def time_blocks(samples: int, blocks: int = BLOCKS, gap: int = 0) -> Int[np.ndarray, " samples"]:
    """Return groups for samples in order of time: consecutive blocks, with gaps that belong to no group (-1).

    Use it for `groups=` if neighbouring samples are alike (frames of a recording). A gap as long as the memory of the
    series makes the blocks independent.

    Args:
        samples: number of samples, in order of time.
        blocks: number of blocks.
        gap: number of samples that are left out at the end of each block.

    Raises:
        TypeError, ValueError: if a number is not an integer, or if the gaps leave nothing.

    >>> time_blocks(8, 2, gap=1).tolist()
    [0, 0, 0, -1, 1, 1, 1, -1]
    """
    samples, blocks = positive_integer(samples, "samples"), positive_integer(blocks, "blocks", least=2)
    gap = positive_integer(gap, "gap", least=0)
    if samples < blocks * (gap + 1):
        raise ValueError(
            f"time_blocks: {samples} samples do not fill {blocks} blocks with gaps of {gap}. Use fewer blocks or "
            "shorter gaps."
        )
    group = np.arange(samples) * blocks // samples
    for k in range(blocks):
        members = np.flatnonzero(group == k)
        if gap:
            group[members[len(members) - gap :]] = -1
    return group


def halves(groups: Int[np.ndarray, " samples"], sizes: np.ndarray, seed: Sequence[int]) -> Int[np.ndarray, " samples"]:
    """Return 0 or 1 for each sample: the half of its group; -1 for samples that belong to no group.

    Groups are taken in a random order, and each one goes to the half that is smaller so far.

    Args:
        groups: the group of each sample; negative numbers belong to no group.
        sizes: how much each sample counts.
        seed: integers that decide the order.

    Raises:
        ValueError: if a half stays empty.

    >>> sorted(halves(np.asarray([0, 0, 1, 1]), np.ones(4), [0]).tolist())
    [0, 0, 1, 1]
    """
    names = np.unique(groups[(groups >= 0) & (sizes > 0)])
    if len(names) < 2:
        raise ValueError(
            f"explain: the samples form {len(names)} group(s), and each half needs at least one. Give more samples, or "
            "finer `groups`. (Samples of weight 0 do not count, and equal samples are kept together.)"
        )
    counts = np.bincount(groups[groups >= 0], weights=sizes[groups >= 0], minlength=int(names[-1]) + 1)
    side, total = np.zeros(int(names[-1]) + 1, int), np.zeros(2)
    for name in np.random.default_rng(list(seed)).permutation(names):
        side[name] = int(total[1] < total[0])
        total[side[name]] += counts[name]
    return np.where(groups >= 0, side[np.maximum(groups, 0)], -1)


def with_duplicates(rows: np.ndarray, groups: np.ndarray | None) -> Int[np.ndarray, " samples"]:
    """Return groups in which equal samples, and all groups that share one, are together.

    Args:
        rows: the samples, one in each row (any further axes).
        groups: the group of each sample, or None for one group each.

    >>> with_duplicates(np.asarray([[1.0], [2.0], [1.0]]), None).tolist()
    [0, 1, 0]
    """
    count = len(rows)
    given = np.arange(count) if groups is None else np.asarray(groups)
    parent = {int(one): int(one) for one in np.unique(given)}

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    seen: dict[bytes, int] = {}
    flat = np.ascontiguousarray(rows).reshape(count, -1)
    for k in range(count):
        own = int(given[k])
        if own < 0:
            continue
        first = seen.setdefault(hashlib.blake2b(flat[k].tobytes(), digest_size=16).digest(), own)
        parent[root(own)] = root(first)
    roots = np.asarray([root(int(one)) if one >= 0 else -1 for one in given])
    _, dense = np.unique(roots[roots >= 0], return_inverse=True)
    roots[roots >= 0] = dense
    return roots
