"""The main experiment: train DEERNet, descramble it, read its layers, and compare every reading with nulls.

The steps: simulate and train, and train again on shuffled targets. Tap the layers, and descramble them on one half of
the signals. Check on held-out signals that only the frame has changed. Read both layers on the other half, beside their
null models. Build the rational replica that the readings suggest.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base.checks import positive_integer
from jaxdescramble.datasets.deer import DeerBatch, sample
from jaxdescramble.descrambling import LayerDescrambling, descramble_network
from jaxdescramble.findings import FIRST_LAYER, SECOND_LAYER, Reading, compare, random_frame
from jaxdescramble.networks.taps import insert, wiretap
from jaxdescramble.studies.deernet.claims import Finding, corrected, judge
from jaxdescramble.studies.deernet.network import TrainedDEERNet, TrainingPlan, initial_parameters, network, train
from jaxdescramble.studies.deernet.replica import Agreement, Replica, agreement, rational_replica

Progress = Callable[[str, int, int], None]
# The paper's tap of the last layer contains its weight. The one reading that this changes is listed separately.
JOINT_LAYER = tuple(entry for entry in SECOND_LAYER if entry.name == "link purity")


@dataclass(frozen=True)
class DemonstrationSettings:
    """Everything that a demonstration depends on.

    Attributes:
        seed: random seed.
        plan: plan of the training.
        shuffled_steps: training steps of the null network on shuffled targets, whose loss is flat after 500 steps.
        signals: number of traces in each half of the signals, and in the held-out set.
        draws: number of draws from each null model of weights; p = 0.05 needs at least 19.
    """

    seed: int = 0
    plan: TrainingPlan = TrainingPlan()  # noqa: RUF009 - frozen
    shuffled_steps: int = 1500
    signals: int = 4096
    draws: int = 39

    def __post_init__(self):
        for name in ("shuffled_steps", "signals", "draws"):
            positive_integer(getattr(self, name), name)

    @classmethod
    def quick(cls, seed: int = 0, layers: int = 2) -> "DemonstrationSettings":
        """Return settings for a run of seconds with little training. Such a run tests the code, not the claims."""
        return cls(seed, TrainingPlan(layers=layers, steps=300, batch=256), 100, 512, 19)


@dataclass(frozen=True)
class Smoothness:
    """Values of the smoothness objective at one layer, on fitted and on held-out signals."""

    raw: float
    descrambled: float
    bound: float
    float64_bound: float
    raw_held_out: float
    held_out: float
    rank: int
    size: int

    @property
    def fall(self) -> float:
        """Raw value divided by descrambled value, on the signals that P was fitted to."""
        return self.raw / self.descrambled

    @property
    def fall_held_out(self) -> float:
        """Raw value divided by descrambled value, on held-out signals."""
        return self.raw_held_out / self.held_out


@dataclass(frozen=True)
class Demonstration:
    """All results of the demonstration, and the data of its figures."""

    settings: DemonstrationSettings
    net: TrainedDEERNet
    layers: dict[str, LayerDescrambling]
    joint: LayerDescrambling
    readings: dict[str, list[Reading]]
    findings: list[Finding]
    smoothness: dict[str, Smoothness]
    function_change: float
    test: DeerBatch
    estimates: dict[str, Float[Array, "distances samples"]]
    agreement: dict[str, Agreement]
    replica: Replica
    seconds: dict[str, float]

    @property
    def first(self) -> Float[Array, "link time"]:
        """The weight `P W_1`: rows are the descrambled link axis, columns are time."""
        return next(iter(self.layers.values())).weight

    @property
    def last(self) -> Float[Array, "distance link"]:
        """The weight `W_n Q^T`: rows are distances, columns are the descrambled link axis."""
        return list(self.layers.values())[-1].weight


def demonstrate(
    settings: DemonstrationSettings | None = None, folder: Path | None = None, progress: Progress | None = None
) -> Demonstration:
    """Run the whole demonstration.

    Args:
        settings: what to run; None means the settings of the README.
        folder: path of the folder for training checkpoints, from which an interrupted run continues. None keeps no
            checkpoints.
        progress: called as `progress(stage, done, total)`.

    Returns:
        A `Demonstration`.

    Raises:
        ValueError: if a checkpoint in the folder belongs to another run. The message says what differs.

    Source: Amey et al., PNAS 118, e2016917118 (2021); nulls and verdicts are ours.
    """
    settings = settings or DemonstrationSettings()
    report = progress or (lambda stage, done, total: None)
    clock = _Clock()
    keys = dict(zip(("train", "shuffle", "signals", "nulls", "replica"), _split(settings.seed, 5), strict=True))

    net = _trained(keys["train"], settings.plan, folder, "training", report)
    clock.lap("train")
    shuffled_plan = replace(settings.plan, shuffled=True, steps=settings.shuffled_steps)
    shuffled = _trained(keys["shuffle"], shuffled_plan, folder, "training the null", report)
    clock.lap("train the null")

    report("descrambling", 0, 1)
    fit, read, test = _three_sets(keys["signals"], settings)
    layers, joint = _descrambled(net.params, fit.trace)
    for layer in layers.values():
        for side in layer.sides.values():
            side.check()
    change = _function_change(net.params, layers, test.trace.T)
    smoothness = _smoothness(net.params, layers, fit.trace.T, test.trace.T)
    clock.lap("descramble")

    report("reading", 0, 1)
    nulls = _nulls(keys["nulls"], net, shuffled, settings.draws)
    readings = corrected(_read_both_layers(net.params, nulls, fit.trace, read.trace))
    clock.lap("read")

    report("building the replica", 0, 1)
    replica = rational_replica(keys["replica"], settings.signals, grid=settings.plan.grid, priors=settings.plan.priors)
    estimates = {"network": network(net.params, test.trace.T).T, "replica": replica.apply(test.trace)}
    agreements = {name: agreement(estimate, test.distribution) for name, estimate in estimates.items()}
    agreements["replica and network"] = agreement(estimates["replica"], estimates["network"])
    clock.lap("replica")
    report("done", 1, 1)
    return Demonstration(
        settings, net, layers, joint, readings, judge(readings, agreements),
        smoothness, change, test, estimates, agreements, replica, clock.laps,
    )  # fmt: skip


@jax.jit
def _descrambled(params: dict[str, Array], traces: Array) -> tuple[dict[str, LayerDescrambling], LayerDescrambling]:
    """Descramble every layer, and the last layer once more with the paper's joint tap."""
    layers = descramble_network(network, params, traces.T)
    return layers, list(descramble_network(network, params, traces.T, joint=True).values())[-1]


class Frames(NamedTuple):
    """The descrambled first and last weights of networks; a leading axis counts the networks."""

    first: Float[Array, "*networks link points"]
    last: Float[Array, "*networks distances link"]
    joint: Float[Array, "*networks distances link"]


@jax.jit
def frames(params: dict[str, Array], traces: Float[Array, "points samples"]) -> Frames:
    """Descramble many networks on these traces, and return their first and last weights."""

    def one(params: dict[str, Array]) -> Frames:
        layers, joint = _descrambled(params, traces)
        first, *_, last = layers.values()
        return Frames(first.weight, last.weight, joint.weight)

    return jax.vmap(one)(params)


def _read_both_layers(
    params: dict[str, Array], nulls: dict[str, dict[str, Array]], *halves: Array
) -> dict[str, list[Reading]]:
    """Read each battery on the network and on every null network, all in one compiled pipeline."""
    crowd = jax.tree.map(lambda leaf, *others: jnp.concatenate([leaf[None], *others]), params, *nulls.values())
    fit, read = (frames(crowd, half) for half in halves)
    sizes = [len(stack["W1"]) for stack in nulls.values()]
    starts = np.cumsum([1, *sizes])
    readings = {}
    for name, side, battery in (
        ("first", "first", FIRST_LAYER),
        ("last", "last", SECOND_LAYER),
        ("last, joint tap", "joint", JOINT_LAYER),
    ):
        one, other = getattr(fit, side), getattr(read, side)
        of_nulls = {
            null: (one[start : start + size], other[start : start + size])
            for null, start, size in zip(nulls, starts, sizes, strict=False)
        }
        readings[name] = compare(battery, one[0], other[0], of_nulls)
    return readings


def _trained(key, plan: TrainingPlan, folder: Path | None, stage: str, report: Progress) -> TrainedDEERNet:
    checkpoint = None if folder is None else folder / f"{stage.replace(' ', '-')}.npz"
    report(stage, 0, plan.steps)
    return train(key, plan=plan, checkpoint=checkpoint, callback=lambda step, loss: report(stage, step, plan.steps))


def _split(seed: int, count: int) -> list[PRNGKeyArray]:
    return list(jax.random.split(jax.random.key(seed), count))


def _three_sets(key, settings: DemonstrationSettings) -> list[DeerBatch]:
    keys = jax.random.split(key, 3)
    return [sample(k, settings.signals, settings.plan.grid, settings.plan.priors, "float32") for k in keys]


def _nulls(key, net: TrainedDEERNet, shuffled: TrainedDEERNet, draws: int) -> dict[str, dict[str, Array]]:
    """Stack the parameters of the null networks, which go through the same pipeline as the trained network."""
    for_frames, for_starts = jax.random.split(key)

    def framed(key):
        keys = jax.random.split(key, len(net.params))
        return {name: random_frame(k, net.params[name]) for name, k in zip(sorted(net.params), keys, strict=True)}

    start = functools.partial(initial_parameters, plan=net.plan, dtype="float32")
    return {
        "random frame": jax.vmap(framed)(jax.random.split(for_frames, draws)),
        "untrained": jax.vmap(start)(jax.random.split(for_starts, draws)),
        "shuffled targets": jax.tree.map(lambda leaf: leaf[None], shuffled.params),
    }


def _function_change(params, layers: dict[str, LayerDescrambling], traces: Array) -> float:
    """Insert `P^-1 P` at every side, and return the relative change of the network's outputs."""
    outputs, inputs = (
        {name: layer.sides[side].point for name, layer in layers.items() if side in layer.sides}
        for side in ("output", "input")
    )
    before, after = (jax.jit(f)(params, traces) for f in (network, insert(network, params, traces, outputs, inputs)))
    return float(jnp.linalg.norm(after - before) / jnp.linalg.norm(before))


def _smoothness(params, layers, fitted: Array, held_out: Array) -> dict[str, Smoothness]:
    (_, fit_taps), (_, test_taps) = (jax.jit(wiretap(network))(params, traces) for traces in (fitted, held_out))
    found = {}
    for name, layer in layers.items():
        for side, one in layer.sides.items():
            tap = "preactivation" if side == "output" else "input"
            signals, unseen = getattr(fit_taps[name], tap), getattr(test_taps[name], tap)
            raw = float(one.objective(jnp.eye(len(unseen), dtype=unseen.dtype), unseen))
            found[f"{name} {side}"] = Smoothness(
                float(one.initial_value), float(one.value), float(one.bound), _float64_bound(one.objective, signals),
                raw, float(one.score(unseen)), int(one.rank), len(unseen),
            )  # fmt: skip
    return found


def _float64_bound(objective, signals: Array) -> float:
    """Compute the optimum of these signals in NumPy's float64, to check the float32 result."""
    singular = np.linalg.svd(np.asarray(signals, np.float64), compute_uv=False)
    a = np.asarray(objective.operator(len(signals)).eigenvalues)
    return float(np.sum(a[: len(singular)] * singular**2) / (a[-1] * np.sum(singular**2)))


class _Clock:
    def __init__(self):
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now
