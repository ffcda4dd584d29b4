"""The film: what a training loop calls every step, and a worker thread that makes the frames."""

import functools
import operator
import os
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxdescramble._base.checks import is_traced, one_of, positive_integer, wide_types
from jaxdescramble._base.lapack import one_thread
from jaxdescramble.descrambling.film._program import FilmSettings, Plan, make_frame, make_plan
from jaxdescramble.descrambling.film._resume import resumed_track
from jaxdescramble.descrambling.film._snapshot import described, snapshot
from jaxdescramble.descrambling.film.frames import Frame, Frames, frame_files, joined, read_frame, write_frame
from jaxdescramble.descrambling.network import ENDS
from jaxdescramble.descrambling.solving import DirectSolver
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.networks.positions import axes_of_samples
from jaxdescramble.objectives import Objective
from jaxdescramble.solvers import Solver


class Film:
    """Descramble a network every so many steps while it trains.

    `see` copies the parameters - before the next step can donate them - and returns; a thread makes the frame: every
    layer and side as `descramble_network` has them, in one program compiled once. Iterative solvers start from the
    frame before, and every frame is brought as near to it as the objective's gauge allows, so that what moves in the
    film has moved in the network. While a frame is being made LAPACK has one thread in this process, and no other frame
    is begun: what comes meanwhile is skipped and counted, and training never waits. The first frame compiles, seconds;
    `wait` after it keeps that out of the loop.

    A side without an answer (a network that diverged: NaN) says so in its status, and the film goes on from the last
    answer there was. If the very first frame cannot be made at all (f fails, say) the next `see` raises, while nothing
    is lost yet; later failures let training go on, and `close` raises them.

    Args:
        f: `f(params, x)`, as for `descramble_network`.
        x: a batch of inputs, the same for all frames; a few times as many samples as features. The film copies it.
        objective, solver, group, joint, ends: as for `descramble_network`. `smoothness(summary="gram")` costs least; an
            iterative solver's `max_steps` says what a frame may cost at most.
        every: steps from frame to frame.
        layers: names of the layers to film; all if None.
        out: a folder for the frames, one file each, written whole or not at all. A film whose folder holds frames goes
            on from the last one that is not later than the first step seen; later ones, of a run that was given up, are
            renamed to `*.given-up`.
        wait: let `see` wait for the frame before rather than skip one.
        weights: how much each sample of x counts, of the shape of its first axes, as for `descramble_network`.
        device: where frames are made; the CPU, or where the parameters are if JAX has no CPU backend.

    Raises:
        TypeError, ValueError: bad arguments. OSError: `out` cannot be a folder.

    >>> f = lambda params, x: jnp.tanh(x @ params["first"]) @ params["second"]
    >>> params = {"first": jnp.eye(6, 4), "second": jnp.ones((4, 2))}
    >>> with Film(f, jax.random.normal(jax.random.key(0), (50, 6)), every=10, wait=True) as film:
    ...     for step in range(30):
    ...         seen = film.see(step, params)
    >>> film.frames.steps.tolist(), film.frames.layers["['first']"].weight.shape, film.skipped
    ([0, 10, 20], (3, 4, 6), 0)
    """

    def __init__(
        self,
        f: Callable[[PyTree, PyTree], PyTree],
        x: PyTree,
        objective: Objective | Callable[[str, str, int], Objective | None] | None = None,
        solver: Solver | DirectSolver | None = None,
        *,
        every: int = 100,
        layers: Collection[str] | None = None,
        group: str = "O",
        joint: bool = False,
        ends: str = "ordered",
        out: str | os.PathLike[str] | None = None,
        wait: bool = False,
        device: Any = None,
        weights: ArrayLike | Sequence[ArrayLike] | None = None,
    ):
        if not callable(f):
            raise TypeError(f"f: got {type(f).__name__}; expected a function f(params, x).")
        if isinstance(layers, str) or (layers is not None and not all(isinstance(name, str) for name in layers)):
            raise TypeError(f"layers: got {layers!r}; expected a list of names such as [\"['encode']\"].")
        if not (objective is None or isinstance(objective, Objective) or callable(objective)):
            raise TypeError(f"objective: got {objective!r}; expected one such as objectives.smoothness().")
        for path, leaf in jax.tree_util.tree_leaves_with_path(x):
            if not path and np.ndim(leaf) < 2:
                raise ValueError(
                    f"x: got shape {np.shape(leaf)}; expected a batch (samples, features) of typical inputs. For a "
                    "single one there is nothing to descramble; give many."
                )
        self.every, self.skipped = positive_integer(every, "every"), 0
        self._f, self._objective, self._solver = f, objective, solver
        names = None if layers is None else tuple(dict.fromkeys(layers))
        self._settings = FilmSettings(
            one_of(group, "group", orthogonal.NAMES), joint, one_of(ends, "ends", ENDS), names
        )
        self._device, self._wait = device, wait
        self._x = jax.device_put(snapshot(x, "x"), self._place(x))
        self._weights = None if weights is None else jax.device_put(axes_of_samples(x, weights)[0], self._device)
        self._out = None if out is None else Path(out)
        if self._out is not None:
            self._out.mkdir(parents=True, exist_ok=True)
        self._last: int | None = None
        self._structure: Any = None
        self._plan: Plan | None = None
        self._frames: list[Frame] = []  # those that are in no file
        self._made = 0
        self._failed: list[tuple[int, Exception]] = []
        self._unwritten: list[tuple[int, OSError]] = []
        self._told = self._closed = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="jaxdescramble-film")
        self._pending: Future | None = None

    def see(self, step: int, params: PyTree) -> bool:
        """Make a frame of these parameters, if the step is a multiple of `every` and no frame is being made.

        Args:
            step: the loop's own count, rising from call to call.
            params: those that the step returned: the film copies them before the next one may donate them.

        Returns:
            Whether a frame was begun.

        Raises:
            RuntimeError: the film is closed; the first frame failed; parameters that were donated already.
            TypeError, ValueError: a step that is no integer or does not rise, parameters with another structure.
        """
        if self._closed:
            raise RuntimeError("film.see: the film is closed. Make another Film; with the same `out` it goes on.")
        if self._failed and not self._made:
            self._told = True
            self._complain()
        if isinstance(step, jax.Array) or not hasattr(step, "__index__"):
            # To read a number off the device is to wait for all steps before it.
            raise TypeError(f"step: got {type(step).__name__}; give the loop's own integer, outside jit.")
        step = operator.index(step)
        if step % self.every:
            return False
        if self._last is not None and step <= self._last:
            raise ValueError(
                f"step: got {step} after {self._last}; steps have to rise. To go on from an earlier checkpoint close "
                "this film and make another with the same `out`."
            )
        self._check_structure(params)
        self._last = step
        if self._pending is not None and not self._pending.done():
            if not self._wait:
                self.skipped += 1
                return False
            self.wait()
        self._pending = self._worker.submit(self._work, step, snapshot(params, "params"), wide_types())
        return True

    def wait(self) -> None:
        """Wait for the frame that is being made: after the first `see` this keeps compilation out of the loop."""
        if self._pending is not None:
            self._pending.result()

    def close(self) -> Frames:
        """Wait for the last frame and give all there are, those found in `out` included. May be called again.

        Raises:
            RuntimeError: frames that could not be made; the others are in `film.frames`.
            OSError: frames that could not be written; they are in `film.frames`, all of them.
        """
        self._finish(complain=True)
        return self.frames

    @property
    def frames(self) -> Frames:
        """The frames so far; at any time."""
        kept = {frame.step: frame for frame in self._frames}
        if self._out is not None:
            kept |= {step: read_frame(path) for step, path in frame_files(self._out).items() if step not in kept}
        return joined([kept[step] for step in sorted(kept)])

    def __enter__(self) -> "Film":
        return self

    def __exit__(self, kind: Any, error: Any, where: Any) -> None:
        self._finish(complain=error is None)

    def _finish(self, complain: bool) -> None:
        if self._closed:
            return
        self._closed = True
        self._worker.shutdown(wait=True)
        if complain and not self._told:
            self._complain()

    def _complain(self) -> None:
        if self._failed:
            step, error = self._failed[0]
            raise RuntimeError(
                f"film: {len(self._failed)} frame(s) could not be made, the first at step {step}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if self._unwritten:
            step, error = self._unwritten[0]
            raise OSError(
                error.errno,
                f"film: {len(self._unwritten)} frame(s) could not be written, the first at step {step} "
                f"({error.strerror}). They are in film.frames: free some space, then film.frames.save(folder)",
                str(self._out),
            ) from error

    def _check_structure(self, params: Any) -> None:
        found = described(params)
        if self._structure is None:
            if any(is_traced(leaf) for leaf in jax.tree.leaves(params)):
                raise TypeError("params: traced arrays; call film.see outside jit, with what the step returned.")
            self._structure = found
        if found != self._structure:
            for place in dict.fromkeys([*self._structure, *found]):
                before, now = (seen.get(place, "nothing") for seen in (self._structure, found))
                if before != now:
                    raise ValueError(
                        f"params{place}: got {now}, where frames before had {before}. A film is of one network: make "
                        "another Film for another."
                    )

    def _place(self, tree: Any) -> Any:
        if self._device is not None:
            return self._device
        try:
            self._device = jax.local_devices(backend="cpu")[0]
        except RuntimeError:  # JAX_PLATFORMS leaves it out
            arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
            self._device = min(arrays[0].devices(), key=lambda one: one.id) if arrays else jax.local_devices()[0]
        return self._device

    # What follows runs on the worker, one frame at a time.

    def _work(self, step: int, params: Any, x64: bool) -> None:
        try:
            began = time.perf_counter()
            # A context of the training loop does not reach this thread.
            with jax.enable_x64(x64), one_thread():
                layers = self._make(step, jax.device_put(params, self._device))
            frame = Frame(step, time.perf_counter() - began, layers)
            self._keep(frame)
        except Exception as error:
            # Whatever it is, training is worth more; `see` or `close` says it.
            self._failed.append((step, error))
            return
        self._made += 1

    def _make(self, step: int, params: Any) -> dict[str, dict[str, Any]]:
        if self._plan is None:
            plan = make_plan(self._f, params, self._x, self._objective, self._settings, self._weights)
            self._names = {
                one: repr(objective)
                for names, objective in zip(plan.members, plan.objectives, strict=True)
                for one in names
            }
            self._track = jax.device_put(resumed_track(self._out, step, plan), self._device)
            leaves, structure = jax.tree.flatten(
                (plan.objectives, self._solver, params, self._x, self._track, self._weights)
            )
            fixed = functools.partial(make_frame, self._f, self._settings, plan.members)
            # Compiled ahead: a program that could be traced again would be, some day, in the midst of training. A list
            # of numbers, since typed records do not take the descriptions of arguments that lowering puts into them.
            program = jax.jit(lambda leaves: fixed(*jax.tree.unflatten(structure, leaves)))
            self._program = program.lower(leaves).compile()
            self._plan = plan
        arguments = (self._plan.objectives, self._solver, params, self._x, self._track, self._weights)
        layers, self._track = self._program(jax.tree.leaves(arguments))
        # A dictionary would come back from the program in alphabetical order.
        return dict(zip(self._plan.layers, jax.tree.map(np.asarray, jax.device_get(layers)), strict=True))

    def _keep(self, frame: Frame) -> None:
        if self._out is not None:
            try:
                write_frame(self._out, frame, self._names)
            except OSError as error:
                self._unwritten.append((frame.step, error))
            else:
                return
        self._frames.append(frame)
