"""Train voice networks, measure what they gain on held-out speech, and ask what can be read from them."""

import functools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxdescramble._base.checks import positive_integer
from jaxdescramble.findings import READINGS, Report, Verdict, explain
from jaxdescramble.solvers.watch import Progress
from jaxdescramble.studies.voice.cleaning import METHODS, Gain, Mixture, frames_of, gains, mean_gain, mixtures
from jaxdescramble.studies.voice.network import (
    Params,
    TrainedVoiceNet,
    VoicePlan,
    initial_parameters,
    network,
    pool,
    train,
)
from jaxdescramble.studies.voice.questions import Answer, diagonals, units
from jaxdescramble.studies.voice.readings import OWN
from jaxdescramble.studies.voice.recordings import Recording, held_out

EXPLAINED = 5000
"""Largest number of frames that are explained; they are spread evenly over the held-out mixtures."""


@dataclass(frozen=True)
class VoiceReport:
    """What was gained and what was read; `markdown()` gives the tables.

    Attributes:
        speech: what the speech is, in words.
        trained, tested: recordings for training, and held-out ones; `by_speaker` says whether speakers were held out.
        nets: one trained network for each seed.
        gains: for each set of test recordings, the gains of every mixture by the first network.
        network_gains: for each set, the mean gain of each network in dB.
        explanation: `jd.explain` of the first network.
        shuffled: the same readings of a network that was trained on shuffled targets, by layer and reading; no test.
        diagonals, units: answers of each network.
    """

    speech: str
    trained: tuple[Recording, ...]
    tested: tuple[Recording, ...]
    nets: tuple[TrainedVoiceNet, ...]
    gains: dict[str, list[Gain]]
    network_gains: dict[str, list[float]]
    explanation: Report
    shuffled: dict[tuple[str, str], float]
    diagonals: tuple[list[Answer], ...]
    units: tuple[list[Answer], ...]

    @property
    def by_speaker(self) -> bool:
        """Whether no speaker is both in training and in the test."""
        return not {one.speaker for one in self.trained} & {one.speaker for one in self.tested}

    def markdown(self) -> str:
        """Return the tables: gains, readings of each layer, and the questions about several layers."""
        plan, seconds = self.nets[0].plan, [sum(len(one.sound) for one in side) / 8000 for side in self._sides]
        held = f"{len({one.speaker for one in self.tested})} speakers" if self.by_speaker else "recordings"
        lines = [
            f"{self.speech}: {len(self.trained)} recordings for training ({seconds[0]:.0f} s), {len(self.tested)} held "
            f"out ({seconds[1]:.0f} s; {held} that training has not heard). "
            f"{plan.lags} frame{'s' * (plan.lags > 1)} of 129 bands in, "
            f"{plan.hidden} hidden layers of 129 neurons, {plan.steps} steps of {plan.batch} frames, "
            f"{len(self.nets)} seed{'s' * (len(self.nets) > 1)}.",
            "",
            "### Gain of the signal-to-noise ratio in dB",
            "",
        ]
        return "\n".join([*lines, *self._gain_rows(), "", *self._explained_rows(), "", *self._answer_rows()])

    @property
    def _sides(self) -> tuple[tuple[Recording, ...], tuple[Recording, ...]]:
        return self.trained, self.tested

    def _gain_rows(self) -> list[str]:
        lines = ["| speech | noise | ratio | " + " | ".join(METHODS) + " |", "|---" * (3 + len(METHODS)) + "|"]
        for name, found in self.gains.items():
            for kind, snr in dict.fromkeys((one.kind, one.snr) for one in found):
                cells = [f"{mean_gain(found, method, kind, snr).mean():.1f}" for method in METHODS]
                lines.append(f"| {name} | {kind} | {snr:g} dB | {' | '.join(cells)} |")
            own, other = (mean_gain(found, method) for method in ("network", "subtraction"))
            wins = int((own > other).sum())
            cells = [f"**{mean_gain(found, method).mean():.1f}**" for method in METHODS]
            lines.append(f"| {name} | all | all | {' | '.join(cells)} |")
            lines.append(
                f"| {name} | network better than subtraction | in {wins} of {len(own)} recordings |"
                + " |" * len(METHODS)
            )
        means = "; ".join(
            f"{name}: {', '.join(f'{value:.1f}' for value in found)}" for name, found in self.network_gains.items()
        )
        return [*lines, "", f"Mean gain of the networks of all seeds: {means}."]

    def _explained_rows(self) -> list[str]:
        report = self.explanation
        nulls = list(dict.fromkeys(null for one in report.verdicts for null in one.nulls))
        lines = [
            "### Readings of `jd.explain`, first seed",
            "",
            f"> {report.headline}",
            "",
            "| layer | reading | value | " + " | ".join(nulls) + " | shuffled targets | p |",
            "|---" * (5 + len(nulls)) + "|",
        ]
        for layer in report.layers.values():
            for one in layer.verdicts:
                cells = [f"{one.nulls[null][0]:.3g}" if null in one.nulls else "" for null in nulls]
                cells.append(f"{self.shuffled.get((one.layer, one.reading), float('nan')):.3g}")
                about = f"{_short(one.layer)} | {one.reading} | {one.value:.3g}"
                lines.append(f"| {about} | {' | '.join(cells)} | {_p(one.p_value)} |")
        return lines

    def _answer_rows(self) -> list[str]:
        lines: list[str] = []
        for title, seeds in (
            ("Is a layer diagonal in the paper's frame?", self.diagonals),
            ("Neurons and waves for a formant, neurons for few bands", self.units),
        ):
            nulls = list(dict.fromkeys(null for one in seeds[0] for null in one.nulls))
            lines += [f"### {title}", "", "Values and p-values of all seeds; nulls of the first.", ""]
            lines += [
                "| reading | values | " + " | ".join(f"{null} (p)" for null in nulls) + " | shuffled targets | p |"
            ]
            lines += ["|---" * (4 + len(nulls)) + "|"]
            for k, one in enumerate(seeds[0]):
                cells = [
                    f"{one.nulls[null]:.3f} ({_p(one.p_values[null])})" if null in one.nulls else "" for null in nulls
                ]
                values = ", ".join(f"{seed[k].value:.3f}" for seed in seeds)
                ps = ", ".join(_p(seed[k].p_value) for seed in seeds)
                lines.append(f"| {one.name} | {values} | {' | '.join(cells)} | {one.shuffled:.3f} | {ps} |")
            lines.append("")
        return lines[:-1]


def _short(layer: str) -> str:
    return layer.strip("[]'")


def _p(value: float) -> str:
    return f"{value:.3f}"


def explained(
    params: Params,
    made: Sequence[Mixture],
    plan: VoicePlan,
    key: PRNGKeyArray,
    draws: int = 199,
    progress: Progress | None = None,
) -> Report:
    """Explain a voice network with frames of these mixtures: `jd.explain`, with the recordings as groups.

    Neighbouring frames are alike, and the mixtures of one recording share its speech, so all frames of a recording
    stay in one half. The nulls are random frames, and whole networks that were never trained.
    """
    x, recording = frames_of(made, plan.lags)
    step = max(1, -(-len(x) // EXPLAINED))
    return explain(
        network,
        params,
        x[::step],
        init=functools.partial(initial_parameters, plan=plan),
        groups=recording[::step],
        readings=(*READINGS, *OWN),
        draws=draws,
        key=key,
        progress=progress,
    )


def experiment(
    recordings: Sequence[Recording],
    speech: str,
    key: PRNGKeyArray,
    plan: VoicePlan | None = None,
    *,
    others: Mapping[str, Sequence[Recording]] | None = None,
    seeds: int = 3,
    draws: int = 199,
    progress: Progress | None = None,
) -> VoiceReport:
    """Train networks on recordings, and ask the paper's questions.

    Args:
        recordings: speech; a part of the speakers is held out.
        speech: what the speech is, in words, for the report.
        key: random key of noise, networks and draws.
        plan: plan of the training; None means `VoicePlan()`.
        others: more sets of recordings for the test, by name; training never hears them.
        seeds: number of networks.
        draws: number of draws from each null.
        progress: called as `progress(stage, done, total)`.

    Returns:
        A `VoiceReport`.

    Raises:
        ValueError: if there are too few recordings to hold some out.
    """
    plan, seeds = plan or VoicePlan(), positive_integer(seeds, "seeds")
    tell = progress or (lambda stage, done, total: None)
    trained, tested = held_out(list(recordings))
    keys = dict(zip(("pool", "test", "train", "explain", "ask"), jax.random.split(key, 5), strict=True))
    given = pool(trained, plan.lags, keys["pool"])
    nets = []
    for seed in range(seeds):
        tell("training", seed, seeds + 1)
        nets.append(train(jax.random.fold_in(keys["train"], seed), given, plan))
    tell("training", seeds, seeds + 1)
    control = train(jax.random.fold_in(keys["train"], seeds), given, replace(plan, shuffled=True)).params

    sets = {"held out": tested, **{name: list(one) for name, one in (others or {}).items()}}
    made = {name: mixtures(one, keys["test"]) for name, one in sets.items()}
    found = {name: [gains(net.params, one, plan.lags) for net in nets] for name, one in made.items()}

    at = statistics.median(sorted({one.snr for one in made["held out"]}))
    shown = [one for one in made["held out"] if one.snr == at]
    report = explained(nets[0].params, shown, plan, keys["explain"], draws, progress)
    # One draw, because only the values are wanted.
    verdicts: tuple[Verdict, ...] = explained(control, shown, plan, keys["explain"], 1).verdicts
    answers: dict[str, list[list[Answer]]] = {"diagonals": [], "units": []}
    for seed, net in enumerate(nets):
        tell("asking", seed, seeds)
        own = jax.random.fold_in(keys["ask"], seed)
        answers["diagonals"].append(diagonals(net.params, control, plan, own, draws))
        answers["units"].append(units(net.params, control, plan, own, draws))
    tell("done", 1, 1)
    return VoiceReport(
        speech=speech,
        trained=tuple(trained),
        tested=tuple(tested),
        nets=tuple(nets),
        gains={name: one[0] for name, one in found.items()},
        network_gains={
            name: [float(np.mean(mean_gain(one, "network"))) for one in by_net] for name, by_net in found.items()
        },
        explanation=report,
        shuffled={(one.layer, one.reading): one.value for one in verdicts},
        diagonals=tuple(answers["diagonals"]),
        units=tuple(answers["units"]),
    )
