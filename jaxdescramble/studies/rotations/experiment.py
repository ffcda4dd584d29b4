"""Which frame of a small transformer loses least when its numbers are rounded? Train, rotate, round, and compare.

Finished parts are kept in a folder, and a later run continues from them.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxdescramble._base.checks import positive_integer
from jaxdescramble._base.parts import Json, part
from jaxdescramble.studies.rotations import frames, learning
from jaxdescramble.studies.rotations._networks import fingerprint, trained
from jaxdescramble.studies.rotations.frames import Frame
from jaxdescramble.studies.rotations.quantising import Quantising
from jaxdescramble.studies.rotations.tables import Rotations
from jaxdescramble.studies.rotations.text import Text, windows
from jaxdescramble.studies.rotations.transformer import (
    Params,
    TransformerPlan,
    cross_entropy,
    folded,
    network,
)

Progress: TypeAlias = Callable[[str, int, int], None]
VERSION = 1
"""Increase this number if you change what a kept part depends on."""
BITS = ((8, 8), (4, 8), (8, 4), (4, 4))
LEARNED = ((4, 4),)
RATE = 1.5
"""SpinQuant's rate."""
STEPS_TIMED = 5
SPINQUANT, TUNED, OURS = "SpinQuant's rule, rate 1.5", "SpinQuant's rule, rate chosen", "Riemannian Adam"
METHODS = ("none", "Haar", "Hadamard", "data-free", "data learned", SPINQUANT, TUNED, OURS)
GRIDS = {"spinquant": (0.5, 1.5, 5.0), "adam": (0.003, 0.01)}
"""Rates to choose from, on validation text."""


@dataclasses.dataclass(frozen=True)
class RotationSettings:
    """Everything that a run depends on, except the text.

    Attributes:
        plan: sizes and training of the networks.
        seeds: number of networks, each with its own rotations and batches.
        bits: bits of weights and activations.
        learned: those of them for which frames are learned from the loss; rates are chosen at the last one.
        draws: random frames of each kind and seed; their mean cost counts. Learning starts from the first Hadamard.
        tested: windows of the test text.
        calibrated: windows of the training text whose activations are used.
        samples: largest number of activations of each kind.
        lbfgs: largest number of steps of L-BFGS.
        steps, rows: steps of learning from the loss, and windows of a step.
        repeats: pairs of timings of the two rules.
        grids: rates to choose from, for each rule.
    """

    plan: TransformerPlan = dataclasses.field(default_factory=TransformerPlan)
    seeds: int = 3
    bits: tuple[tuple[int, int], ...] = BITS
    learned: tuple[tuple[int, int], ...] = LEARNED
    draws: int = 2
    tested: int = 128
    calibrated: int = 32
    samples: int = 8192
    lbfgs: int = 60
    steps: int = 100
    rows: int = 8
    repeats: int = 6
    grids: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=lambda: dict(GRIDS))

    def __post_init__(self):
        for name in ("seeds", "draws", "tested", "calibrated", "samples", "lbfgs", "steps", "rows", "repeats"):
            positive_integer(getattr(self, name), name)

    @classmethod
    def quick(cls) -> "RotationSettings":
        """Return settings of a run of seconds, which tests the code and not the claims."""
        plan = TransformerPlan(layers=1, width=16, heads=2, gated=16, length=16, batch=8, steps=40, learning_rate=1e-2)
        grids = {"spinquant": (1.5,), "adam": (0.01,)}
        return cls(plan, 2, ((4, 4),), ((4, 4),), 1, 8, 4, 64, 5, 3, 2, 2, grids)


@functools.partial(jax.jit, static_argnames=("heads", "bits"))
def _loss(params: Params, tokens: Array, heads: int, bits: Quantising | None) -> Array:
    def some(tokens: Array) -> Array:
        return cross_entropy(network(params, tokens, heads=heads, rounding=bits), tokens)

    return jax.lax.map(some, tokens.reshape(-1, min(16, len(tokens)), tokens.shape[1])).mean()


@functools.partial(jax.jit, static_argnames="heads")
def _change(params: Params, other: Params, tokens: Array, heads: int) -> Array:
    before, after = (network(one, tokens, heads=heads) for one in (params, other))
    return jnp.abs(after - before).max() / jnp.abs(before).max()


class _Seed:
    """A trained network with what every method needs."""

    def __init__(self, settings: RotationSettings, text: Text, params: Params, seed: int):
        plan = settings.plan
        self.settings, self.plan, self.text = settings, plan, text
        self.params = folded(params, plan)
        key = jax.random.fold_in(jax.random.key(1), seed)
        self.batch_key, *keys = (jax.random.fold_in(key, draw) for draw in range(1 + settings.draws))
        self.haar = [frames.haar(key, plan) for key in keys]
        self.hadamard = [frames.hadamard(key, plan) for key in keys]
        self.test = jnp.asarray(windows(text.test, plan.length, settings.tested), jnp.int32)

    @functools.cached_property
    def seen(self) -> Array:
        """Return held-out activations of the residual stream."""
        return learning.activations(self.params, self.test[:16], self.plan, self.settings.samples).stream

    def loss(self, params: Params, bits: Quantising | None, tokens: Array | None = None) -> float:
        """Return the held-out loss of a network with rounded numbers."""
        return float(_loss(params, self.test if tokens is None else tokens, self.plan.heads, bits))

    def moved(self, frame: Frame) -> tuple[Params, dict[str, float]]:
        """Return parameters in a frame, the kurtosis there, and how far the frame is from one that costs nothing."""
        after = frames.transformed(self.params, frame, self.plan)
        change = _change(self.params, after, self.test[:4], self.plan.heads)
        spread = learning.kurtosis(frame.stream @ self.seen)
        return after, {"kurtosis": float(spread), "changed": float(change), "off": frames.off_orthogonal(frame)}

    def batches(self, steps: int) -> Array:
        """Return windows of the training text for each step; all rules see the same."""
        return learning.batches_of(self.batch_key, self.text.training, steps, self.settings.rows, self.plan.length)

    def learned(self, rule: str, rate: float, bits: Quantising) -> learning.Learned:
        """Learn a frame from the loss; all rules begin at the same frame."""
        batches = self.batches(self.settings.steps)
        return learning.loss_learned(self.hadamard[0], self.params, batches, bits, self.plan, rule, rate)


Part = tuple[Mapping[str, object], Mapping[str, np.ndarray]]


def _given(seed: _Seed) -> Part:
    """Measure the frames that do not look at the loss."""
    settings, start = seed.settings, seed.hadamard[0]
    tokens = jnp.asarray(windows(seed.text.training, seed.plan.length, settings.calibrated), jnp.int32)
    began = time.perf_counter()
    free = learning.data_free(start, seed.params, settings.lbfgs)
    between = time.perf_counter()
    seen = learning.activations(seed.params, tokens, seed.plan, settings.samples)
    data = learning.data_learned(start, seen, settings.lbfgs)
    seconds = {"data-free": between - began, "data learned": time.perf_counter() - between}
    tried = {"none": [frames.unmoved(seed.plan)], "Haar": seed.haar, "Hadamard": seed.hadamard}
    tried |= {"data-free": [free], "data learned": [data]}
    found: dict[str, Any] = {"unrounded": seed.loss(seed.params, None), "methods": {}}
    for name, some in tried.items():
        rows, facts = [], []
        for frame in some:
            params, fact = seed.moved(frame)
            facts.append(fact)
            rows.append([seed.loss(params, Quantising(*pair)) for pair in settings.bits])
        found["methods"][name] = {
            "losses": np.mean(rows, axis=0).tolist(),
            "kurtosis": float(np.mean([one["kurtosis"] for one in facts])),
            "seconds": seconds.get(name, 0.0),
            **{key: max(one[key] for one in facts) for key in ("changed", "off")},
        }
    learned = {"data-free": free, "data learned": data}
    return found, {f"{name}-{part}": np.asarray(one) for name, frame in learned.items()
                   for part, one in frame._asdict().items()}  # fmt: skip


def _from_loss(seed: _Seed, bits: Quantising, rule: str, rate: float) -> Part:
    """Measure a frame that was learned from the loss, on the test text and on validation text."""
    tokens = jnp.asarray(windows(seed.text.validation, seed.plan.length, seed.settings.tested), jnp.int32)
    made = seed.learned(rule, rate, bits)
    params, facts = seed.moved(made.frame)
    losses = {"loss": seed.loss(params, bits), "validation": seed.loss(params, bits, tokens)}
    arrays = {name: np.asarray(one) for name, one in made.frame._asdict().items()}
    return {**losses, "seconds": made.seconds, **facts}, arrays | {"losses": made.losses}


def _timed(seed: _Seed, bits: Quantising, rates: Mapping[str, float]) -> Part:
    """Time a few steps of both rules in turn."""
    given = (seed.hadamard[0], seed.params, seed.batches(min(STEPS_TIMED, seed.settings.steps)))
    return learning.timed(*given, bits, seed.plan, rates, seed.settings.repeats), {}


def transformer_rotations(
    text: Text, folder: Path, settings: RotationSettings | None = None, progress: Progress | None = None
) -> Rotations:
    """Train small transformers on a text, round them in several frames, and compare the loss on held-out text.

    A frame is a rotation of the residual stream and one inside each head. The exact network is the same in all of them:
    `jd.transform` moves the parameters. The rates of the two rules that learn from the loss are chosen by the first
    network's loss on validation text, at the last setting of bits; the test text serves the table only.

    Args:
        text: the text (see `studies.rotations.text.load`).
        folder: folder of finished parts. Parts of the same settings are not run again.
        settings: what to run; None means `RotationSettings()`.
        progress: called as `progress(stage, done, total)`.

    Returns:
        A `Rotations`; its costs are losses on held-out text minus that of the exact network, in nats for each byte.

    Raises:
        ValueError: if the text is too short.
        OSError: if a part cannot be written.
    """
    settings, say = settings or RotationSettings(), progress or (lambda stage, done, total: None)
    found = [_measured(seed, text, folder, settings, say) for seed in range(settings.seeds)]
    say("done", 1, 1)
    shape = (settings.seeds, len(settings.bits), len(METHODS))
    cost, kurtosis, seconds = (np.full(shape, np.nan) for _ in range(3))
    for s, (given, _) in enumerate(found):
        for name, one in given["methods"].items():
            m = METHODS.index(name)
            cost[s, :, m] = np.asarray(one["losses"]) - given["unrounded"]
            kurtosis[s, :, m], seconds[s, :, m] = one["kurtosis"], one["seconds"]
    for s, (given, rows) in enumerate(found):
        for pair, methods in zip(settings.learned, rows, strict=True):
            for name, one in methods.items():
                b, m = settings.bits.index(pair), METHODS.index(name)
                cost[s, b, m] = one["loss"] - given["unrounded"]
                kurtosis[s, b, m], seconds[s, b, m] = one["kurtosis"], one["seconds"]

    def worst(key: str) -> np.ndarray:
        every = [[*given["methods"].values(), *(one for row in rows for one in row.values())] for given, rows in found]
        return np.asarray([max(one[key] for one in some) for some in every])

    plan = settings.plan
    return Rotations(
        network=f"transformer, {plan.layers} blocks, {plan.width} wide, {plan.heads} heads",
        measure="held-out loss added by rounding, nats for each byte",
        bits=tuple(Quantising(*pair).name for pair in settings.bits),
        methods=METHODS,
        cost=cost,
        unrounded=np.asarray([given["unrounded"] for given, _ in found]),
        kurtosis=kurtosis,
        seconds=seconds,
        changed=worst("changed"),
        off=worst("off"),
        timed=np.stack([np.asarray(some) for some in seconds_of(text, folder, settings, say).values()], axis=1),
    )


def _measured(
    number: int, text: Text, folder: Path, settings: RotationSettings, say: Progress
) -> tuple[Json, list[Json]]:
    """Return the numbers of a seed: those of frames that do not look at the loss, and of the others for all bits."""
    rates, rows = rates_of(text, folder, settings, say), []
    rules = {SPINQUANT: ("spinquant", RATE), TUNED: ("spinquant", rates["spinquant"]), OURS: ("adam", rates["adam"])}
    seed = _Lazy(number, text, folder, settings, say)
    for pair in reversed(settings.learned):
        rows.insert(0, {name: seed.tried(Quantising(*pair), *how) for name, how in rules.items()})
    say(f"network {number}: given frames", 0, 1)
    asked = wanted(settings, text, GIVEN, seed=number)
    return part(folder, f"given-{number}", asked, lambda: _given(seed.made)), rows


GIVEN = ("plan", "bits", "draws", "tested", "calibrated", "samples", "lbfgs")
FROM_LOSS = ("plan", "tested", "samples", "steps", "rows")


def wanted(settings: RotationSettings, text: Text, names: tuple[str, ...], **more: object) -> dict[str, object]:
    """Return everything that a part depends on: some of the settings, the text, the version, and `more`."""
    every = dataclasses.asdict(settings)
    return {**{name: every[name] for name in names}, "text": fingerprint(text), "version": VERSION, **more}


class _Lazy:
    """A seed whose network is trained or read if a part needs it."""

    def __init__(self, number: int, text: Text, folder: Path, settings: RotationSettings, say: Progress):
        self.number, self.text, self.folder, self.settings, self.say = number, text, folder, settings, say

    @functools.cached_property
    def made(self) -> _Seed:
        tell = functools.partial(self.say, f"training network {self.number}")
        net = trained(self.folder, self.number, self.text, self.settings.plan, tell)
        return _Seed(self.settings, self.text, net.params, self.number)

    def tried(self, bits: Quantising, rule: str, rate: float) -> Json:
        """Return the numbers of a rule at a rate."""
        self.say(f"network {self.number}, {bits.name}: {rule} with rate {rate:g}", 0, 1)
        asked = wanted(self.settings, self.text, FROM_LOSS, seed=self.number, bits=bits.name, rule=rule, rate=rate)
        # A dot would begin a suffix of the file's name.
        name = f"loss-{self.number}-{bits.name}-{rule}-{rate:g}".replace(".", "_")
        return part(self.folder, name, asked, lambda: _from_loss(self.made, bits, rule, rate))


def rates_of(
    text: Text, folder: Path, settings: RotationSettings, progress: Progress | None = None
) -> dict[str, float]:
    """Return the rate of each rule with the smallest loss of network 0 on validation text, at the last bits."""
    seed = _Lazy(0, text, folder, settings, progress or (lambda stage, done, total: None))
    bits = Quantising(*settings.learned[-1])
    return {
        rule: min(rates, key=lambda rate, rule=rule: seed.tried(bits, rule, rate)["validation"])
        for rule, rates in settings.grids.items()
    }


def seconds_of(
    text: Text, folder: Path, settings: RotationSettings, progress: Progress | None = None
) -> dict[str, list[float]]:
    """Return seconds of five steps of SpinQuant's rule and of ours, in turn, for network 0 at the last bits."""
    seed = _Lazy(0, text, folder, settings, progress or (lambda stage, done, total: None))
    bits = Quantising(*settings.learned[-1])
    rates = {"spinquant": RATE, "adam": rates_of(text, folder, settings, progress)["adam"]}
    asked = wanted(settings, text, FROM_LOSS, repeats=settings.repeats, rates=rates)
    made = part(folder, "seconds", asked, lambda: _timed(seed.made, bits, rates))
    return {rule: made[rule] for rule in rates}
