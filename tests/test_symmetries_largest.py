"""Symmetries: the derived groups are the largest ones, in their dimension, their signs and their orders."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import residual, residual_params, tokens
from further_architectures import EVERY
from largest import Forced, derivative, generators, small

import jaxdescramble as jd
from jaxdescramble.networks.symmetry.deriving import strands_of
from jaxdescramble.networks.symmetry.groups import Element, Matrices


@pytest.fixture(autouse=True)
def networks_may_promote_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


KNOWN_TO_BE_LARGER = {
    # A norm takes the mean away: `1 w^T` may be added to what writes. Beside a gain, this is not claimed.
    ("gpt", "['embedding']"): 6,
    ("bert", "['embedding']"): 6,
    # The same, and `b 1^T` for the two products that read a value without its mean.
    ("mixer", "['embedding']"): 18,
}
"""Dimensions of the true group that the derived one does not have."""
NO_DERIVATIVE = ("deep linear gates", "llama, rotary")
"""Gates that are comparisons have no derivative; a plane of rotary angles is the subject of a test of its own."""


def inside(found, name):
    """The dimension of the scales of whole places of a stream: those are counted by the streams inside of it."""
    derivation, total = found.derivation, 0
    for stream in found.values():
        if number_of(found, name) in derivation.places[number_of(found, stream.name)]:
            scales = 0 if stream.group.name.startswith("O") else 1
            each = scales if isinstance(stream.group, Matrices) else stream.group.sizes.shape[1]
            total += each * int(np.prod(stream.group.places))
    return total


def number_of(found, name):
    """The number of a stream."""
    return found.derivation.stream_of[next(iter(strands_of(found[name].group)))]


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in EVERY if name not in NO_DERIVATIVE])
def test_the_lie_algebra_has_the_dimension_of_the_group(name):
    f, draws, x, found = small(name)
    forced, change = Forced(found, draws), derivative(f, x)
    measured, claimed = {}, {}
    for stream in found:
        measured[stream] = generators(change, draws, forced.tangents(found[stream]))
        extra = KNOWN_TO_BE_LARGER.get((name, stream), 0)
        claimed[stream] = found[stream].group.dimension + inside(found, stream) + extra
    assert measured == claimed


class Changes:
    """How much a function changes at some draws of its parameters: the largest change, relative to its values."""

    def __init__(self, f, draws, x, found):
        self.forced = Forced(found, draws)
        self.run = jax.jit(lambda params: jax.lax.map(lambda p: f(p, x), params))
        self.before = self.run(self.stacked(self.forced.leaves))

    def stacked(self, leaves):
        return jax.tree.unflatten(self.forced.tree, [jnp.moveaxis(jnp.asarray(leaf), -1, 0) for leaf in leaves])

    def __call__(self, elements):
        moved = self.forced.moved(elements)
        leaves = [old if new is None else new for old, new in zip(self.forced.leaves, moved, strict=True)]
        after = self.run(self.stacked(leaves))
        # A negative variance makes NaN.
        change = jnp.where(jnp.isfinite(after), jnp.abs(after - self.before), jnp.inf).max()
        return float(change / jnp.abs(self.before).max())

    def kept(self, elements):
        change = self(elements)
        assert change < 1e-11 or change > 1e-6, change
        return change < 1e-11


def has(group, matrix):
    try:
        group.given(matrix)
    except ValueError:
        return False
    return True


def spanned(basis):
    """All sums of columns modulo 2, as a set of tuples."""
    columns = basis.T.tolist()
    choices = itertools.product((0, 1), repeat=len(columns))
    zero = [0] * len(basis)
    return {tuple(np.sum([zero, *itertools.compress(columns, some)], axis=0) % 2) for some in choices}


def orders(n):
    """A transposition, a cycle, and a swap of two blocks."""
    half = n // 2
    return {(1, 0, *range(2, n)), (*range(1, n), 0), (*range(half, 2 * half), *range(half), *range(2 * half, n))}


@pytest.mark.thorough
@pytest.mark.parametrize("name", list(EVERY))
def test_signs_and_orders_keep_the_function_exactly_where_the_group_has_them(name):
    f, draws, x, found = small(name)
    change, tried = Changes(f, draws[:3], x, found), 0
    for stream in found.values():
        group, n = stream.group, stream.size
        shape = (*group.places, n)
        members = [m for m in change.forced.members(stream) if any(m in own for own in change.forced.finest)]
        first = (0,) * len(group.places)
        if isinstance(group, Matrices):
            flip = np.eye(n)
            flip[0, 0] = -1
            for matrix in (flip, -np.eye(n), *(np.eye(n)[list(order)] for order in orders(n))):
                every = np.broadcast_to(np.eye(n), (*shape, n)).copy()
                every[first] = matrix
                assert change.kept({m: Element(matrices={m: every}) for m in members}) == has(group, matrix)
                tried += 1
            continue
        for order in orders(n):
            every = np.broadcast_to(np.arange(n), shape).copy()
            every[first] = order
            assert change.kept({m: Element(every) for m in change.forced.members(stream)}) == group.moves
            tried += 1
        if inside(found, stream.name):
            continue  # a sign of a whole place is an element of the stream inside
        rows = [change.forced.members(stream).index(m) for m in members]
        one = spanned(group.signs[rows])
        every = spanned(np.concatenate([group.signs, group.common_signs], 1)[rows])
        trials = list(itertools.product((0, 1), repeat=len(members)))
        if len(trials) > 32:
            some = np.random.default_rng(0).choice(len(trials), 24, replace=False)
            trials = [*(trials[i] for i in some), *sorted(one)[:8], *sorted(every)[:8]]
        for signs in trials:
            for where, allowed in ((0, one), (slice(None), every)):
                scales = {m: np.ones(shape) for m in members}
                for m, odd in zip(members, signs, strict=True):
                    scales[m][(*first, where)] = -1.0 if odd else 1.0
                kept = change.kept({m: Element(scales={m: scale}) for m, scale in scales.items()})
                assert kept == (signs in allowed), (stream, signs, where)
                tried += 1
    assert tried >= 5


def root_mean_square(eps):
    return lambda v: v * jax.lax.rsqrt(jnp.mean(v * v, axis=-1, keepdims=True) + eps)


def standardised(eps):
    return lambda v: jax.nn.standardize(v, epsilon=eps)


@pytest.mark.thorough
@pytest.mark.parametrize("norm", [root_mean_square, standardised])
def test_scales_that_eps_alone_forbids_are_near_symmetries_and_not_claimed(norm):
    """With eps = 0 a common scale of the stream is a symmetry; the derived group does not have it there either."""
    x, params = tokens(), residual_params()
    blocks = [block | {"out": 2 * block["out"]} for block in params["blocks"]]
    # What writes the stream is twice as large; each reader has a norm before it.
    moved = params | {"embedding": 2 * params["embedding"], "blocks": blocks}
    for eps, least, most in ((0.0, 0.0, 1e-12), (1e-6, 1e-8, 1e-3), (1e-3, 1e-5, 0.5)):
        f = residual(norm(eps))
        before, after = f(params, x), f(moved, x)
        assert least <= float(jnp.abs(after - before).max() / jnp.abs(before).max()) < most
        with pytest.raises(ValueError, match=r"orthogonal|vector of ones"):
            jd.transform(f, params, x, {"['embedding']": 2 * np.eye(6)})
