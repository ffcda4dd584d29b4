"""Gated networks on what runs here: the paper's comparison, what learns in the gates, and how fast a target may wave.

Parts that are finished stay in their folder, and a run goes on from those that are there.
"""

import dataclasses
import functools
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescramble import gated
from jaxdescramble._base.checks import one_of, positive_integer
from jaxdescramble._base.parts import part
from jaxdescramble.datasets import picture_files, pictures
from jaxdescramble.datasets.pictures import Pictures
from jaxdescramble.studies.gating import training
from jaxdescramble.studies.gating.spectrum import spectrum
from jaxdescramble.studies.gating.stages import KERNELS, learning_in_gates
from jaxdescramble.studies.gating.training import ARCHITECTURES, KINDS, GatingPlan

Progress = Callable[[str, int, int], None]
BUILT_IN = ("digits", "shifted")
FROM_FILES = {"mnist": picture_files.mnist, "cifar10": picture_files.cifar10, "cifar100": picture_files.cifar100}
# Whoever changes what a kept part depends on counts up.
VERSION = 2
QUICK = GatingPlan(widths=(16,) * 3, channels=(4,) * 2, blocks=1, steps=40, batch=16, chunks=2)


@dataclasses.dataclass(frozen=True)
class ComparisonSettings:
    """Everything a run depends on.

    Attributes:
        sets: of pictures, built in ("digits", "shifted") or from files ("mnist", "cifar10", "cifar100").
        folder: where those files are.
        seeds: of every variant.
        plan: sizes and training.
        stage_seeds: of the experiment on stages.
        frequencies, widths, spectrum_steps: of the experiment on waves.
    """

    sets: tuple[str, ...] = BUILT_IN
    folder: str | None = None
    seeds: int = 5
    plan: GatingPlan = dataclasses.field(default_factory=GatingPlan)
    stage_seeds: int = 3
    frequencies: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    widths: tuple[int, ...] = (16, 64, 128)
    spectrum_steps: int = 2000

    def __post_init__(self):
        for name in ("seeds", "stage_seeds", "spectrum_steps"):
            positive_integer(getattr(self, name), name)
        if not self.sets:
            raise ValueError("sets: got none; there are digits, shifted, mnist, cifar10, cifar100.")
        for size in (*self.frequencies, *self.widths):
            positive_integer(size, "frequencies, widths")
        for of in self.sets:
            one_of(of, "sets", (*BUILT_IN, *FROM_FILES))
            if of in FROM_FILES and self.folder is None:
                raise ValueError(f"folder: {of} is read from files; say where they are.")

    @classmethod
    def quick(cls, sets: tuple[str, ...] = BUILT_IN, folder: str | None = None) -> "ComparisonSettings":
        """A run that exercises everything and proves nothing."""
        return cls(sets, folder, 2, QUICK, 1, (1, 4), (8,), 50)


def compare_gates(settings: ComparisonSettings, folder: Path, progress: Progress | None = None) -> dict[str, Any]:
    """The comparison, the stages and the waves.

    Args:
        settings: what to run.
        folder: where finished parts are kept; those of the same settings are not done again.
        progress: called as `progress(stage, done, total)`.

    Returns:
        "settings"; "comparison" by set of pictures; "stages" by set and architecture; "spectrum".

    Raises:
        ImportError: scikit-learn, whose digits are used, is not installed.
        ValueError, OSError: pictures that cannot be read, a part that cannot be written.
    """
    say = progress or (lambda stage, done, total: None)
    plan = settings.plan
    found: dict[str, Any] = {"settings": dataclasses.asdict(settings), "comparison": {}, "stages": {}}
    for of in settings.sets:
        key = jax.random.fold_in(jax.random.key(6), zlib.crc32(of.encode()))
        parts = functools.cache(functools.partial(pictures_of, of, settings.folder))
        stage = f"comparison, {of}"
        from_files = settings.folder if of in FROM_FILES else None
        common = {"plan": dataclasses.asdict(plan), "set": of, "folder": from_files, "version": VERSION}
        wanted = common | {"seeds": settings.seeds}
        say(stage, 0, plan.chunks)
        found["comparison"][of] = part(
            folder, f"comparison-{of}", wanted,
            lambda parts=parts, key=key, stage=stage: comparison(
                key, parts(), plan, settings.seeds, functools.partial(say, stage)
            ),
        )  # fmt: skip
        for name in ARCHITECTURES:
            stage = f"stages, {of}, {name}"
            wanted = common | {"seeds": settings.stage_seeds, "architecture": name, "kernels": KERNELS}
            say(stage, 0, 4)
            found["stages"].setdefault(of, {})[name] = part(
                folder, f"stages-{of}-{name}", wanted,
                lambda parts=parts, key=key, stage=stage, name=name: _stages(
                    key, name, parts(), plan, settings.stage_seeds, functools.partial(say, stage)
                ),
            )  # fmt: skip
    say("waves", 0, 1)
    wanted = {name: getattr(settings, name) for name in ("frequencies", "widths", "spectrum_steps")}
    wanted["version"] = VERSION
    found["spectrum"] = part(folder, "spectrum", wanted, lambda: _spectrum(settings, functools.partial(say, "waves")))
    say("done", 1, 1)
    return found


def pictures_of(of: str, folder: str | None = None) -> tuple[Pictures, Pictures, Pictures]:
    """Pictures to learn from, to choose by, and to report: 60, 20 and 20 percent, or a file's own test part."""
    key = jax.random.key(20211103)
    if of in FROM_FILES:
        assert folder is not None, "ComparisonSettings asks for it"
        learned, chosen_by = pictures.split(FROM_FILES[of](folder, "train"), 0.9, 0.1, key=key)
        return learned, chosen_by, FROM_FILES[of](folder, "test")
    if of == "digits":
        whole = pictures.digits(size=8, dtype=jnp.float32)
    else:
        whole = pictures.shifted(key, 1797, size=8, templates=jax.random.key(5), dtype=jnp.float32)
    one, two, three = pictures.split(whole, 0.6, 0.2, 0.2, key=key)
    return one, two, three


def comparison(
    key: Any,
    parts: tuple[Pictures, Pictures, Pictures],
    plan: GatingPlan,
    seeds: int,
    callback: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Every kind of every architecture, every variant, every seed, in one program.

    Returns:
        "accuracy" and "validation" (where it is best) by architecture, kind and variant, a list over seeds; "seconds";
        "hardening", by architecture and kind, the share of answers that change when soft gates are made hard. And no
        arrays.
    """
    shape, classes = parts[0].images.shape[1:], int(np.max(parts[0].labels)) + 1
    programs = {(name, kind): plan.spec(name, kind, shape, classes) for name in ARCHITECTURES for kind in KINDS}  # pyright: ignore
    groups = {pair: training.replicas(key, spec, seeds) for pair, spec in programs.items()}
    began = time.perf_counter()
    courses = training.train(programs, groups, parts, plan, callback=callback)
    seconds = time.perf_counter() - began
    accuracy: dict[str, Any] = {}
    validation: dict[str, Any] = {}
    hardening: dict[str, Any] = {}
    for (name, kind), course in courses.items():
        spec = programs[name, kind]
        rows = zip(training.variants(spec), *(np.asarray(one).reshape(-1, seeds) for one in
                                            (course.chosen, course.validation.max(axis=1))), strict=True)  # fmt: skip
        for variant, test, chosen in rows:
            accuracy.setdefault(name, {}).setdefault(kind, {})[", ".join(variant)] = test.tolist()
            validation.setdefault(name, {}).setdefault(kind, {})[", ".join(variant)] = chosen.tolist()
        if kind != "dnn":
            gap = gated.hardening_gap(
                jax.tree.map(lambda leaf: leaf[0], course.params),
                jnp.asarray(parts[2].images).reshape(-1, *spec.architecture.input_shape),
                spec,
            )
            hardening.setdefault(name, {})[kind] = float(gap.predictions)
    networks = sum(len(group.ones) for group in groups.values())
    return {
        "accuracy": accuracy, "validation": validation, "hardening": hardening, "seconds": seconds, "networks": networks
    }, {}  # fmt: skip


def _stages(*arguments: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    found = learning_in_gates(*arguments)
    return {name: np.asarray(value).tolist() for name, value in found._asdict().items()}, {}


def _spectrum(
    settings: ComparisonSettings, callback: Callable[[int, int], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    found = spectrum(
        jax.random.key(7), settings.frequencies, settings.widths, steps=settings.spectrum_steps, callback=callback
    )
    by_kind = {
        what: {kind: one.tolist() for kind, one in getattr(found, what).items()} for what in ("errors", "hardened")
    }
    return {"frequencies": found.frequencies, "widths": found.widths, "kinks": found.kinks.tolist(), **by_kind}, {}
