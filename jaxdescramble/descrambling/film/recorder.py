"""The film: an object that a training loop calls at every step, and a worker thread that makes the frames."""

import functools
import operator
import os
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxdescramble._base.checks import is_traced, one_of, positive_integer, wide_types
from jaxdescramble._base.devices import Device
from jaxdescramble._base.lapack import one_thread
from jaxdescramble.descrambling._planning import DirectSolver
from jaxdescramble.descrambling._sides import Choice, Rank
from jaxdescramble.descrambling._unitary import UNITARY
from jaxdescramble.descrambling.film._program import FilmSettings, Plan, make_frame, make_plan
from jaxdescramble.descrambling.film._resume import resumed_track
from jaxdescramble.descrambling.film._snapshot import described, snapshot
from jaxdescramble.descrambling.film.frames import (
    Frame,
    Frames,
    LayerFrame,
    frame_files,
    joined,
    read_frame,
    write_frame,
)
from jaxdescramble.descrambling.network import ENDS
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.networks.positions import axes_of_samples
from jaxdescramble.objectives import Objective
from jaxdescramble.solvers import Solver


class Film:
    """Record a film of a training: descramble the network every `every` steps, while it trains.

    Call `film.see(step, params)` after every training step. At every `every`-th step it copies the parameters, before
    the next step can donate them, and returns; a thread makes the frame. A frame contains every layer and side that
    `descramble_network` would return. Each frame is aligned: the gauge of the objective moves it as near as possible to
    the frame before, and iterative solvers start there. So if something moves in the film, it moved in the network.

    Only one frame is made at a time. While it is made, LAPACK uses one thread in this process, and further frames are
    skipped and counted, so the training never waits. The first frame compiles, which takes seconds: call `wait()` after
    the first `see` if the loop should not run meanwhile.

    If a side has no answer (NaN, because the network diverged), its status says so, and the next frame continues from
    the last answer. If the first frame fails (f raises, for example), the next `see` raises this error, before training
    time is lost. After later failures the training goes on, and `close` raises the error.

    Args:
        f: a function `f(params, x)`, made of JAX operations.
        x: a batch of inputs, the same for all frames, with a few times as many samples as features. The film copies it.
        objective: what "readable" means, for all sides or as a function `(name, side, size) -> objective`; None means
            `objectives.smoothness()`. `smoothness(summary="gram")` costs least.
        solver: the solver; None means the one that suits the objective. `max_steps` of an iterative solver limits the
            cost of a frame.
        group: "O" allows both determinants; "SO" allows determinant +1 only.
        joint, ends: see `descramble_network`.
        every: number of steps between two frames.
        layers: names of the layers to film; None means all.
        out: path of a folder for the frames, one file each; None keeps them in memory. If the folder already holds
            frames, the film continues after the last one that is not later than the first step it sees; later frames,
            of a run that was given up, are renamed to `*.given-up`.
        wait: True makes `see` wait for the frame before; False skips a frame instead.
        rank: k, for wide layers, or a function `(name, side, size) -> k`; see `descramble_network`. Each frame finds
            the kept directions again, so P also moves if they do; `left_out` says how much a frame does not show.
        weights: how much each sample of x counts, shape (batch,) or (batch, tokens), at least 0; None means 1 each.
        device: device that makes the frames; None means the CPU, or the device of x if JAX has no CPU backend.

    Raises:
        TypeError, ValueError: if an argument is wrong.
        OSError: if `out` cannot be a folder.

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
        objective: Choice | None = None,
        solver: Solver | DirectSolver | None = None,
        *,
        every: int = 100,
        layers: Collection[str] | None = None,
        group: str = "O",
        joint: bool = False,
        ends: str = "ordered",
        rank: Rank | None = None,
        out: str | os.PathLike[str] | None = None,
        wait: bool = False,
        device: Device | None = None,
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
        if group in UNITARY:
            raise ValueError(
                f"group: got {group!r}, but a film takes networks with real weights only. Call "
                "descramble_network(..., group='U') at the steps that you want to see."
            )
        rank = rank if rank is None or callable(rank) else positive_integer(rank, "rank")
        self._settings = FilmSettings(
            one_of(group, "group", orthogonal.NAMES), joint, one_of(ends, "ends", ENDS), names, rank
        )
        self._device, self._wait = device, wait
        self._x = jax.device_put(snapshot(x, "x"), self._place(x))
        self._weights = None if weights is None else jax.device_put(axes_of_samples(x, weights)[0], self._device)
        self._out = None if out is None else Path(out)
        if self._out is not None:
            self._out.mkdir(parents=True, exist_ok=True)
        self._last: int | None = None
        self._structure: dict[str, str] | None = None
        self._plan: Plan | None = None
        self._frames: list[Frame] = []  # frames that are not in a file
        self._made = 0
        self._failed: list[tuple[int, Exception]] = []
        self._unwritten: list[tuple[int, OSError]] = []
        self._told = self._closed = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="jaxdescramble-film")
        self._pending: Future | None = None

    def see(self, step: int, params: PyTree) -> bool:
        """Make a frame of these parameters, if the step is a multiple of `every` and no other frame is being made.

        Args:
            step: number of the training step, a Python integer that rises from frame to frame.
            params: parameters that the step returned. Call this before the next step, which may donate them.

        Returns:
            Whether a frame was begun.

        Raises:
            RuntimeError: if the film is closed, the first frame failed, or the parameters were already donated.
            TypeError, ValueError: if the step is not an integer or does not rise, or the parameters have another
                structure than before.
        """
        if self._closed:
            raise RuntimeError("film.see: the film is closed. Make another Film; with the same `out` it goes on.")
        if self._failed and not self._made:
            self._told = True
            self._complain()
        if isinstance(step, jax.Array) or not hasattr(step, "__index__"):
            # Reading a number from the device would wait for all steps before it.
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
        """Wait for the frame that is being made. After the first `see`, this keeps compilation out of the loop."""
        if self._pending is not None:
            self._pending.result()

    def close(self) -> Frames:
        """Wait for the last frame and return all frames, including those found in `out`. You can call it again.

        Raises:
            RuntimeError: if frames could not be made; the others are in `film.frames`.
            OSError: if frames could not be written; all frames are in `film.frames`.
        """
        self._finish(complain=True)
        return self.frames

    @property
    def frames(self) -> Frames:
        """The frames so far. You can read them at any time."""
        kept = {frame.step: frame for frame in self._frames}
        if self._out is not None:
            kept |= {step: read_frame(path) for step, path in frame_files(self._out).items() if step not in kept}
        return joined([kept[step] for step in sorted(kept)])

    def __enter__(self) -> "Film":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
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

    def _check_structure(self, params: PyTree) -> None:
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

    def _place(self, tree: PyTree) -> Device:
        if self._device is not None:
            return self._device
        try:
            self._device = jax.local_devices(backend="cpu")[0]
        except RuntimeError:  # JAX_PLATFORMS leaves it out
            arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
            self._device = min(arrays[0].devices(), key=lambda one: one.id) if arrays else jax.local_devices()[0]
        return self._device

    # The methods below run on the worker thread, one frame at a time.

    def _work(self, step: int, params: PyTree, x64: bool) -> None:
        try:
            began = time.perf_counter()
            # Contexts of the training loop, such as enable_x64, do not reach this thread; set them again.
            with jax.enable_x64(x64), one_thread():
                layers = self._make(step, jax.device_put(params, self._device))
            frame = Frame(step, time.perf_counter() - began, layers)
            self._keep(frame)
        except Exception as error:
            # No error here may stop the training; `see` or `close` raises it.
            self._failed.append((step, error))
            return
        self._made += 1

    def _make(self, step: int, params: PyTree) -> dict[str, LayerFrame]:
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
            # Compile ahead of time, so that nothing is traced again in the middle of a training. The argument is a flat
            # list, because `lower` puts descriptions of arguments into the records, whose types do not accept them.
            program = jax.jit(lambda leaves: fixed(*jax.tree.unflatten(structure, leaves)))
            self._program = program.lower(leaves).compile()
            self._plan = plan
        arguments = (self._plan.objectives, self._solver, params, self._x, self._track, self._weights)
        layers, self._track = self._program(jax.tree.leaves(arguments))
        # The program returns a list, because it would sort the keys of a dictionary.
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
