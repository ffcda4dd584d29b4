"""First-order descent on minibatches, for data with too many samples for full gradients."""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray, PyTree

from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.manifolds.manifold import Manifold
from jaxdescramble.solvers import _slices as slices
from jaxdescramble.solvers.descent import Function, RunOptions, record_step, summed_up
from jaxdescramble.solvers.first_order import riemannian
from jaxdescramble.solvers.problem import ManifoldFunction, check_samples, real_type_of
from jaxdescramble.solvers.solution import Solution
from jaxdescramble.solvers.watch import Watch


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Minibatches:
    """An optax transformation that takes each step on other samples, drawn with replacement.

    Use it if a gradient over all samples costs too much. The data of the function must be a summary that keeps samples
    (`objectives.Samples`). The reported value, gradient norm and status are those of all samples, at the end. Let the
    step size fall (an optax schedule): with a constant one, the point keeps moving around the minimum, and the status
    is `STEPS_SPENT`.

    Attributes:
        transform: an optax transformation such as `optax.adam(optax.cosine_decay_schedule(0.1, 1000))`. A new one
            compiles a new program, so make it once.
        size: number of samples in a batch.
        max_steps: number of steps.
        tolerance: tolerance of the last gradient norm, for the status.
        key: random key; it decides the samples of each batch.

    >>> from jaxdescramble import objectives, solvers
    >>> objective = objectives.sparsity("logcosh", epsilon=1.0)
    >>> summary = objective.summarise(jax.random.laplace(jax.random.key(0), (4, 2000)))
    >>> start = solvers.minimise(objective, jnp.eye(4), summary).point
    >>> solver = Minibatches(optax.sgd(0.1), size=50, max_steps=20, key=jax.random.key(1))
    >>> solvers.minimise(objective, start, summary, solver=solver).steps.item()
    20

    Source: Bonnabel, IEEE Trans. Automat. Contr. 58 (2013) 2217.
    """

    transform: optax.GradientTransformation = dataclasses.field(metadata={"static": True})
    size: int = dataclasses.field(metadata={"static": True})
    max_steps: ArrayLike = 1000
    tolerance: ArrayLike | None = None
    key: PRNGKeyArray = dataclasses.field(kw_only=True)

    def run(self, function: Function, start: PyTree, args: tuple, options: RunOptions) -> Solution:
        """Run the solver from a start; see `solvers.solve.solve`."""
        check_samples("Minibatches", "draw", function, args)
        manifold = options.manifold
        carry = start, riemannian(self.transform, manifold).init(start), options.start(real_type_of(start))
        last, done = jnp.asarray(self.max_steps, jnp.int32), jnp.zeros((), jnp.int32)
        if options.watch is None:
            return self._end(function, args, self._walk(function, args, carry, done, last, manifold), last, manifold)
        return self._watched(function, args, carry, int(last), manifold, options.watch)

    def _watched(
        self, function: Function, args: tuple, carry: tuple, last: int, manifold: Manifold, watch: Watch
    ) -> Solution:
        done, steps = 0, 1
        while done < last and not watch.over():
            before, until = time.perf_counter(), min(done + steps, last)
            later = _walk(self, function, args, carry, np.int32(done), np.int32(until), manifold)
            if not watch.wait(later):
                break
            seconds = time.perf_counter() - before
            # The first slice, of one step, may include compilation.
            steps = 8 if done == 0 else int(np.clip(steps * slices.SECONDS / max(seconds, 1e-6), 1, 8 * steps))
            carry, done = later, until
            watch.tell("Minibatches", done, last)
        found = _end(self, function, args, carry, np.int32(done), manifold)
        if watch.stopped is None:
            return found
        return dataclasses.replace(found, status=jnp.full_like(found.status, watch.stopped))

    def _walk(
        self, function: Function, args: tuple, carry: tuple, first: ArrayLike, last: ArrayLike, manifold: Manifold
    ) -> tuple:
        optimiser = riemannian(self.transform, manifold)

        def step(k: Array, carry: tuple) -> tuple:
            point, state, record = carry
            drawn = tuple(_draw(argument, jax.random.fold_in(self.key, k), self.size) for argument in args)
            problem = ManifoldFunction(function, drawn, manifold)
            iterate = problem.evaluate(point)
            record = record_step(record, k, iterate)
            # `update` takes what `jax.grad` returns.
            slope = jax.tree.map(jnp.conj, problem.euclidean(iterate))
            updates, state = optimiser.update(slope, state, point)
            return optax.apply_updates(point, updates), state, record

        return jax.lax.fori_loop(first, last, step, carry)

    def _end(self, function: Function, args: tuple, carry: tuple, steps: ArrayLike, manifold: Manifold) -> Solution:
        point, _, record = carry
        steps = jnp.asarray(steps, jnp.int32)
        iterate = ManifoldFunction(function, args, manifold).evaluate(point)
        return summed_up(iterate, steps, steps + 1, record, self.tolerance, manifold)


@functools.partial(jax.jit, static_argnames="manifold")
def _walk(
    solver: Minibatches,
    function: Function,
    args: tuple,
    carry: tuple,
    first: ArrayLike,
    last: ArrayLike,
    manifold: Manifold,
) -> tuple:
    return solver._walk(function, args, carry, first, last, manifold)


@functools.partial(jax.jit, static_argnames="manifold")
def _end(
    solver: Minibatches, function: Function, args: tuple, carry: tuple, steps: ArrayLike, manifold: Manifold
) -> Solution:
    return solver._end(function, args, carry, steps, manifold)


def _draw(argument: PyTree, key: PRNGKeyArray, size: int) -> PyTree:
    return argument.draw(key, size) if hasattr(argument, "draw") else argument
