"""Gated networks on small data: the paper's comparison, learning in the gates, and sines of rising frequency.

Finished parts are kept in a folder, and a later run continues from them.
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
from jaxtyping import PRNGKeyArray

from jaxdescramble import gated
from jaxdescramble._base.checks import one_of, positive_integer
from jaxdescramble._base.parts import part
from jaxdescramble.datasets import picture_files, pictures
from jaxdescramble.datasets.pictures import Pictures
from jaxdescramble.studies.gating import training
from jaxdescramble.studies.gating.claims import ComparisonNumbers, GatingNumbers, SpectrumNumbers, StagesNumbers
from jaxdescramble.studies.gating.spectrum import spectrum
from jaxdescramble.studies.gating.stages import KERNELS, learning_in_gates
from jaxdescramble.studies.gating.training import ARCHITECTURES, KINDS, GatingPlan

Progress = Callable[[str, int, int], None]
BUILT_IN = ("digits", "shifted")
FROM_FILES = {"mnist": picture_files.mnist, "cifar10": picture_files.cifar10, "cifar100": picture_files.cifar100}
# If you change what a kept part depends on, increase this number.
VERSION = 2
QUICK = GatingPlan(widths=(16,) * 3, channels=(4,) * 2, blocks=1, steps=40, batch=16, chunks=2)


@dataclasses.dataclass(frozen=True)
class ComparisonSettings:
    """Everything that a run depends on.

    Attributes:
        sets: sets of pictures, built in ("digits", "shifted") or from files ("mnist", "cifar10", "cifar100").
        folder: path of the folder with these files.
        seeds: number of seeds of every variant.
        plan: sizes and training.
        stage_seeds: number of seeds of the experiment on stages.
        frequencies, widths, spectrum_steps: settings of the experiment on sines.
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
            raise ValueError("sets: got none; must be some of digits, shifted, mnist, cifar10, cifar100.")
        for size in (*self.frequencies, *self.widths):
            positive_integer(size, "frequencies, widths")
        for of in self.sets:
            one_of(of, "sets", (*BUILT_IN, *FROM_FILES))
            if of in FROM_FILES and self.folder is None:
                raise ValueError(f"folder: got None; must be the folder with the files of {of}.")

    @classmethod
    def quick(cls, sets: tuple[str, ...] = BUILT_IN, folder: str | None = None) -> "ComparisonSettings":
        """Return settings for a short run. Such a run tests the code, not the claims."""
        return cls(sets, folder, 2, QUICK, 1, (1, 4), (8,), 50)


def compare_gates(settings: ComparisonSettings, folder: Path, progress: Progress | None = None) -> GatingNumbers:
    """Run the comparison, the stages and the sines.

    Args:
        settings: what to run.
        folder: path of the folder for finished parts. Parts of the same settings are not run again.
        progress: called as `progress(stage, done, total)`.

    Returns:
        A dictionary: "settings"; "comparison" by set of pictures; "stages" by set and architecture; "spectrum".

    Raises:
        ImportError: if scikit-learn, which provides the digits, is not installed.
        ValueError, OSError: if pictures cannot be read; if a part cannot be written.
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
    waves = functools.partial(_spectrum, settings, functools.partial(say, "waves"))
    found.update(spectrum=part(folder, "spectrum", wanted, waves))
    say("done", 1, 1)
    return {
        "settings": found["settings"],
        "comparison": found["comparison"],
        "stages": found["stages"],
        "spectrum": found["spectrum"],
    }


def pictures_of(of: str, folder: str | None = None) -> tuple[Pictures, Pictures, Pictures]:
    """Return pictures for training, validation and test: 60, 20 and 20 percent, or those of the files."""
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
    key: PRNGKeyArray,
    parts: tuple[Pictures, Pictures, Pictures],
    plan: GatingPlan,
    seeds: int,
    callback: Callable[[int, int], None] | None = None,
) -> tuple[ComparisonNumbers, dict[str, np.ndarray]]:
    """Train every kind, architecture, variant and seed in one program.

    Returns:
        A dictionary. "accuracy" and "validation" (at the step that is best on validation pictures) are given by
        architecture, kind and variant, each a list over seeds. "hardening" is the share of answers that change when
        soft gates become hard, by architecture and kind. "seconds" and "networks" are numbers. Then an empty
        dictionary, because there are no arrays.
    """
    shape, classes = parts[0].images.shape[1:], int(np.max(parts[0].labels)) + 1
    programs = {(name, kind): plan.spec(name, kind, shape, classes) for name in ARCHITECTURES for kind in KINDS}
    groups = {pair: training.replicas(key, spec, seeds) for pair, spec in programs.items()}
    began = time.perf_counter()
    courses = training.train(programs, groups, parts, plan, callback=callback)
    seconds = time.perf_counter() - began
    accuracy: dict[str, dict[str, dict[str, list[float]]]] = {}
    validation: dict[str, dict[str, dict[str, list[float]]]] = {}
    hardening: dict[str, dict[str, float]] = {}
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


def _stages(
    key: PRNGKeyArray,
    name: str,
    parts: tuple[Pictures, Pictures, Pictures],
    plan: GatingPlan,
    seeds: int,
    callback: Callable[[int, int], None],
) -> tuple[StagesNumbers, dict[str, np.ndarray]]:
    found = learning_in_gates(key, name, parts, plan, seeds, callback)
    return {
        "steps": list(found.steps),
        "network": found.network.tolist(),
        "values": found.values.tolist(),
        "kernel": found.kernel.tolist(),
        "alignment": found.alignment.tolist(),
        "complexity": found.complexity.tolist(),
        "dependent": found.dependent.tolist(),
        "decoupled": found.decoupled.tolist(),
    }, {}


def _spectrum(
    settings: ComparisonSettings, callback: Callable[[int, int], None]
) -> tuple[SpectrumNumbers, dict[str, np.ndarray]]:
    found = spectrum(
        jax.random.key(7), settings.frequencies, settings.widths, steps=settings.spectrum_steps, callback=callback
    )
    return {
        "frequencies": found.frequencies,
        "widths": found.widths,
        "kinks": found.kinks.tolist(),
        "errors": {kind: one.tolist() for kind, one in found.errors.items()},
        "hardened": {kind: one.tolist() for kind, one in found.hardened.items()},
    }, {}
