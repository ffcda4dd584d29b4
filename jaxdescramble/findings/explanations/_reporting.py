"""Put the readings of a network and of the draws together into a report."""

import itertools
import math

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxdescramble.findings.explanations._intervals import Intervals
from jaxdescramble.findings.explanations._pictures import Shared, pictures
from jaxdescramble.findings.explanations._workers import Workers, sharing, threads
from jaxdescramble.findings.explanations.draws import Battery
from jaxdescramble.findings.explanations.judging import distances, joint_p_values
from jaxdescramble.findings.explanations.preparing import Prepared
from jaxdescramble.findings.explanations.report import LayerExplanation, Report, Verdict
from jaxdescramble.findings.explanations.sentences import claim_of, headline_of, in_words
from jaxdescramble.findings.explanations.waves import Names
from jaxdescramble.findings.explanations.weight_nulls import WeightNull
from jaxdescramble.findings.explanations.whole_networks import WholeNull


def report_of(
    workers: Workers,
    layers: list[Prepared],
    batteries: list[Battery],
    values: list[np.ndarray],
    drawn: dict[str, list[np.ndarray]],
    nulls: list[WeightNull | WholeNull],
    key: PRNGKeyArray,
    alpha: float,
    skipped: dict[str, str],
    stopped: str,
    samples: tuple[int, int],
    groups: int,
    descriptions: dict[str, dict[str, float]],
    intervals: Intervals,
    about_intervals: str,
    names: Names | None,
) -> Report:
    flat = [(one, reading) for one, battery in zip(layers, batteries, strict=True) for reading in battery]
    directions = np.asarray([reading.direction for _, reading in flat])
    observed = np.concatenate(values)
    tables = {name: np.concatenate(rows, axis=1) for name, rows in drawn.items()}
    p_values = {name: joint_p_values(observed, table, directions)[0] for name, table in tables.items()}
    none = [np.full((len(battery), 2), math.nan) for battery in batteries]
    ends = np.concatenate([rest if own is None else own for own, rest in zip(intervals, none, strict=True)])
    verdicts: list[Verdict] = []
    for place, (one, reading) in enumerate(flat):
        own = {name: float(p[place]) for name, p in p_values.items()}
        judged = {name: p for name, p in own.items() if not math.isnan(p)}
        value = float(observed[place])
        nulls_found = {
            name: (float(table[:, place].mean()), float(table[:, place].std())) for name, table in tables.items()
        }
        p_value, axes = max(judged.values(), default=math.nan), (one.source.output, one.source.into)
        claim, look_at = "", ""
        if p_value <= alpha:
            claim = claim_of(reading, value, [nulls_found[name][0] for name in judged], *axes)
            look_at = in_words(reading.look_at, *axes)
        verdicts.append(
            Verdict(
                layer=one.source.name,
                reading=reading.name,
                value=value,
                direction=reading.direction,
                depends_on_point=reading.depends_on_point,
                p_value=p_value,
                p_values=own,
                nulls=nulls_found,
                effect=min(
                    distances(value, reading.direction, [nulls_found[name] for name in judged]), default=math.nan
                ),
                note=reading.note,
                interval=_interval(ends[place]),
                claim=claim,
                look_at=look_at,
            )
        )
    found = tuple(sorted(verdicts, key=lambda one: (math.isnan(one.p_value), one.p_value, -one.effect)))
    count_judged = sum(not math.isnan(one.p_value) for one in verdicts)
    counts = {name: len(table) for name, table in tables.items()}
    findings = tuple(one for one in found if one.p_value <= alpha)
    places = itertools.pairwise(itertools.accumulate(map(len, batteries), initial=0))
    own = [tuple(verdicts[first:last]) for first, last in places]

    def pictured(group: list[int]) -> list[LayerExplanation]:
        shared = Shared.of(layers[group[0]], names)
        return [
            pictures(
                layers[k], shared, nulls, jax.random.fold_in(key, k), own[k],
                {name: kept[k] for name, kept in drawn.items()}, names,
            )
            for k in group
        ]  # fmt: skip

    # A part of a group finds again what the group shares, which costs little beside many pictures.
    alike = [group[k :: threads()] for group in sharing([id(one.inputs) for one in layers]) for k in range(threads())]
    alike = [part for part in alike if part]
    sizes = [layers[part[0]].inputs.factors[0].size + sum(layers[k].weight.size for k in part) for part in alike]
    found_layers = workers.run_together(alike, pictured, sizes, to_the_end=True)
    return Report(
        layers=dict(zip((one.source.name for one in layers), found_layers, strict=True)),
        verdicts=found,
        headline=headline_of(findings, count_judged, len(layers), counts, alpha),
        alpha=alpha,
        draws=max(counts.values()),
        nulls=tuple(one.name for one in nulls),
        samples=samples,
        groups=groups,
        skipped=skipped,
        descriptions=descriptions,
        stopped=stopped,
        intervals=about_intervals,
    )


def _interval(ends: np.ndarray) -> tuple[float, float] | None:
    return (float(ends[0]), float(ends[1])) if np.isfinite(ends).all() else None
