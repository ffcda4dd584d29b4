"""The recursion of all kernels in this room: second moments of a gated network over its weights.

The gates are fixed. The weights of layer l are independent, with mean zero and variance `sigma_l^2`; the biases have
variance `beta_l^2`. Then different units of a layer are uncorrelated, and

    after a weight      E[h_i h'_i]  = sigma^2 <h, h'> + beta^2              the same for all units i
    after a convolution at (p, q)    = sigma^2 sum_t <h_(p + t), h'_(q + t)> + beta^2
    after a gate        E[h_i h'_i] -> G_i G'_i E[h_i h'_i]
    after a skip        E[h_i h'_i]  = sum over the two parts, because fresh weights multiply what they share

A signal is therefore a list of terms `pair * left_i right_i`. Here pair is one number for two samples at two positions;
left and right are products of all gates since the last weight. The next weight needs the inner product
`sum_terms pair * gram(left, right)`, which consists of matrix products. A gate after an addition multiplies the gates
of all terms, so b such blocks need b (b + 1) / 2 Gram matrices of products of gates. Without such a gate the terms of a
sum stay one term.
"""

import dataclasses
import functools
import math
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdescramble.gated.path_kernel._scaled import Scaled
from jaxdescramble.gated.path_kernel.layers import Convolution, Dense, Flatten, Gate, Layer, Layers, Pool, Skip


class Term(NamedTuple):
    """One part of a signal: its units have the moments `pair * left_i right_i`; None means ones."""

    pair: Scaled | None
    left: Array | None
    right: Array | None


class Signal(NamedTuple):
    """The output of a layer.

    Attributes:
        terms: terms of the signal, see the module; None after a pool, where only inner products are left.
        inner: `<h, h'>`, where it is known already.
        space: sizes of the axes of space.
        units: number of units, where no gate shows it.
    """

    terms: tuple[Term, ...] | None
    inner: Scaled | None
    space: tuple[int, ...]
    units: int | None


@dataclasses.dataclass
class Walk:
    """One pass through a network; with `means`, every Gram matrix of gates is divided by its width."""

    gates: list[tuple[Array, Array]]
    variances: Array | None
    bias_variances: Array | None
    means: bool = False
    logs: bool = False
    gate: int = 0
    weight: int = 0

    def through(self, layers: Layers, signal: Signal) -> Signal:
        for layer in layers:
            signal = self.step(layer, signal)
        return signal

    def step(self, layer: Layer, signal: Signal) -> Signal:
        match layer:
            case Dense():
                return self.weighted(layer, signal, self.inner(signal))
            case Convolution():
                if len(layer.window) != len(signal.space):
                    raise ValueError(
                        f"layers: {layer} has a window of {len(layer.window)} axes, but its input has space "
                        f"{signal.space}."
                    )
                return self.weighted(layer, signal, self.inner(signal).map(lambda K: self.taps(K, layer)))
            case Gate():
                return self.gated(signal)
            case Pool():
                return self.pooled(layer, signal)
            case Flatten():
                size = math.prod(signal.space) if self.means else 1
                return Signal(None, self.inner(signal).map(lambda K: _trace(K) / size), (), None)
            case Skip():
                return self.added(layer, signal)

    def inner(self, signal: Signal) -> Scaled:
        if signal.inner is not None:
            return signal.inner
        assert signal.terms is not None
        parts = [self.part(term, signal) for term in signal.terms]
        total = parts[0]
        for part in parts[1:]:
            total = total.plus(part)
        return total

    def part(self, term: Term, signal: Signal) -> Scaled:
        if term.left is None or term.right is None:
            if signal.units is None:
                raise ValueError(
                    "layers: a weight reads units whose number is unknown, because no gate follows them. Set it in the "
                    "layer before: Dense(units=...) or Convolution(..., units=...)."
                )
            assert term.pair is not None
            return term.pair if self.means else term.pair.times(jnp.asarray(signal.units, term.pair.value.dtype))
        gram = _gram(term.left, term.right)
        if term.pair is None:  # the input: its inner products are never divided by a width
            return Scaled(gram, jnp.zeros((len(term.left), len(term.right)), gram.dtype) if self.logs else None)
        return term.pair.times(gram / term.left.shape[-1] if self.means else gram)

    def weighted(self, layer: Dense | Convolution, signal: Signal, inner: Scaled) -> Signal:
        if self.variances is not None:
            inner = inner.times(self.variances[self.weight])
        if self.bias_variances is not None:
            inner = inner.plus_number(self.bias_variances[self.weight])
        self.weight += 1
        return Signal((Term(inner, None, None),), None, signal.space, layer.units)

    def taps(self, K: Array, layer: Convolution) -> Array:
        """Return `sum_t K[i + t, j + t]`, axis by axis."""
        axes = len(layer.window)
        for axis, taps in enumerate(layer.window):
            places = (1 + axis, 2 + axes + axis)
            around = [((taps - 1) // 2, taps // 2) if i in places else (0, 0) for i in range(K.ndim)]
            wide = jnp.pad(K, around, mode="wrap") if layer.padding == "circular" else jnp.pad(K, around)
            parts = [_cut(wide, places, t, K.shape[1 + axis]) for t in range(taps)]
            K = functools.reduce(operator.add, parts) / (taps if self.means else 1)
        return K

    def gated(self, signal: Signal) -> Signal:
        left, right = self.gates[self.gate]
        if signal.terms is None:
            raise ValueError(f"layers: gate {self.gate} follows a Pool or a Flatten. Put a Dense between them.")
        expected = [(*signal.space, *((signal.units,) if signal.units else left.shape[-1:]))]
        expected += [term.left.shape[1:] for term in signal.terms if term.left is not None]
        if any(shape != left.shape[1:] for shape in expected):
            raise ValueError(
                f"gates: array {self.gate} has shape {left.shape} (batch, *space, units), but its layer has shape "
                f"{expected[-1]} for each sample."
            )
        self.gate += 1
        terms = tuple(
            Term(pair, left if a is None else a * left, right if b is None else b * right)
            for pair, a, b in signal.terms
        )
        return Signal(terms, None, signal.space, left.shape[-1])

    def pooled(self, layer: Pool, signal: Signal) -> Signal:
        space = signal.space
        window = space if layer.window is None else layer.window
        if len(window) != len(space) or any(n % size for n, size in zip(space, window, strict=True)):
            raise ValueError(f"layers: {layer} must divide space {space} evenly.")
        inner = self.inner(signal).map(lambda K: _averaged(K, window))
        left = () if layer.window is None else tuple(n // size for n, size in zip(space, window, strict=True))
        if layer.window is None:
            inner = inner.map(lambda K: K.reshape(K.shape[0], K.shape[K.ndim // 2]))
        return Signal(None, inner, left, None)

    def added(self, layer: Skip, signal: Signal) -> Signal:
        inner = self.inner(signal)
        signal = signal._replace(inner=inner)
        branch, shortcut = self.through(layer.branch, signal), self.through(layer.shortcut, signal)
        if branch.space != shortcut.space:
            raise ValueError(f"layers: {layer} adds a branch with space {branch.space} to one with {shortcut.space}.")
        widths = {part.units for part in (branch, shortcut) if part.units is not None}
        if len(widths) > 1:
            raise ValueError(f"layers: {layer} adds branches of {' and '.join(map(str, sorted(widths)))} units.")
        units = widths.pop() if widths else None
        branch, shortcut = branch._replace(units=units), shortcut._replace(units=units)
        terms = None if branch.terms is None or shortcut.terms is None else shortcut.terms + branch.terms
        # Where a gate follows, nobody reads this sum, and `jit` removes it.
        total = self.inner(shortcut).plus(self.inner(branch))
        return Signal(terms, total, shortcut.space, units)


def moment(walk: Walk, layers: Layers, x1: Array, x2: Array) -> Scaled:
    """Return `E[f f']`, shape (n1, n2); it is the same for every output of a network that ends in `Dense`."""
    start = Signal((Term(None, x1, x2),), None, x1.shape[1:-1], x1.shape[-1])
    end = walk.through(layers, start)
    if end.space:
        raise ValueError(
            f"layers: positions {end.space} are left at the end. Average them with Pool() or flatten them with "
            "Flatten() before the last layer."
        )
    assert end.terms is not None
    (term,) = end.terms
    assert term.pair is not None
    return term.pair


def _gram(left: Array, right: Array) -> Array:
    """Return the inner products over units, shape (n1, *space, n2, *space)."""
    units = ((left.ndim - 1,), (right.ndim - 1,))
    return jax.lax.dot_general(left, right, (units, ((), ())), precision=jax.lax.Precision.HIGHEST)


def _cut(K: Array, places: tuple[int, int], start: int, size: int) -> Array:
    for axis in places:
        K = jax.lax.slice_in_dim(K, start, start + size, axis=axis)
    return K


def _averaged(K: Array, window: tuple[int, ...]) -> Array:
    half = K.ndim // 2
    split: list[int] = []
    means: list[int] = []
    for axis, size in enumerate(K.shape):
        split.append(size)
        if axis % half:
            step = window[axis % half - 1]
            split[-1:] = [size // step, step]
            means.append(len(split) - 1)
    return jnp.mean(K.reshape(split), axis=tuple(means))


def _trace(K: Array) -> Array:
    """Return `sum_i K[i, i]` over all positions i."""
    half = K.ndim // 2
    n1, n2 = K.shape[0], K.shape[half]
    size = K.size // (n1 * n2)
    side = round(size**0.5)
    return jnp.trace(K.reshape(n1, side, n2, side), axis1=1, axis2=3)
