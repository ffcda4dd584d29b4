"""Put the readings of a network and of the draws together into a report."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxdescramble.descrambling import descramble
from jaxdescramble.findings.explanations.draws import Battery
from jaxdescramble.findings.explanations.judging import joint_p_values
from jaxdescramble.findings.explanations.preparing import Prepared
from jaxdescramble.findings.explanations.report import LayerExplanation, Report, Verdict, headline_of
from jaxdescramble.findings.explanations.weight_nulls import NULLS, Untrained, WeightNull
from jaxdescramble.objectives import Objective


def report_of(
    layers: list[Prepared],
    batteries: list[Battery],
    values: list[np.ndarray],
    drawn: dict[str, list[np.ndarray]],
    nulls: list[WeightNull | Untrained],
    objective: Objective,
    key: PRNGKeyArray,
    alpha: float,
    skipped: dict[str, str],
    stopped: str,
    samples: tuple[int, int],
    groups: int,
    others: dict[str, dict[str, float]],
) -> Report:
    flat = [(one, reading) for one, battery in zip(layers, batteries, strict=True) for reading in battery]
    directions = np.asarray([reading.direction for _, reading in flat])
    observed = np.concatenate(values)
    p_values = {}
    for name, rows in drawn.items():
        p_values[name], _ = joint_p_values(observed, np.concatenate(rows, axis=1), directions)
    verdicts: list[Verdict] = []
    for place, (one, reading) in enumerate(flat):
        own = {name: float(p[place]) for name, p in p_values.items()}
        known = [p for p in own.values() if not math.isnan(p)]
        stacks = {name: np.concatenate(rows, axis=1)[:, place] for name, rows in drawn.items()}
        verdicts.append(
            Verdict(
                layer=one.source.name,
                reading=reading.name,
                value=float(observed[place]),
                direction=reading.direction,
                depends_on_point=reading.depends_on_point,
                p_value=max(known) if known else math.nan,
                p_values=own,
                nulls={name: (float(stack.mean()), float(stack.std())) for name, stack in stacks.items()},
                note=reading.note,
            )
        )
    found = tuple(sorted(verdicts, key=lambda one: (math.isnan(one.p_value), one.p_value)))
    judged = sum(not math.isnan(one.p_value) for one in verdicts)
    count = len(next(iter(drawn.values()))[0])
    findings = tuple(one for one in found if one.p_value <= alpha)
    names = tuple(one.name for one in nulls)
    start, pictures = 0, {}
    for k, (one, battery) in enumerate(zip(layers, batteries, strict=True)):
        own = tuple(verdicts[start : start + len(battery)])
        start += len(battery)
        pictures[one.source.name] = _pictures(one, nulls, objective, jax.random.fold_in(key, k), own, {
            name: rows[k] for name, rows in drawn.items()
        })  # fmt: skip
    return Report(
        layers=pictures,
        verdicts=found,
        headline=headline_of(findings, judged, len(layers), count, alpha, names),
        alpha=alpha,
        draws=count,
        nulls=names,
        samples=samples,
        groups=groups,
        skipped=skipped,
        descriptions=others,
        stopped=stopped,
    )


def _pictures(
    one: Prepared,
    nulls: list[WeightNull | Untrained],
    objective: Objective,
    key: PRNGKeyArray,
    verdicts: tuple[Verdict, ...],
    drawn: dict[str, np.ndarray],
) -> LayerExplanation:
    weight = one.weight
    null = next((null for null in nulls if not isinstance(null, Untrained)), NULLS["random frame"]())
    other = null.draw(key, weight, False)
    factor = jnp.concatenate(one.inputs.factors, axis=1)
    right = None if one.source.into.ordered else descramble(factor, objective).point

    def readable(matrix):
        after = matrix if one.source.output.ordered else descramble(matrix @ factor, objective).point @ matrix
        return np.asarray(after if right is None else after @ right.T)

    n, m = weight.shape
    singular = np.linalg.svd(np.asarray(weight), compute_uv=False)
    edge = float(np.sqrt(np.sum(singular**2) / (n * m)) * (math.sqrt(n) + math.sqrt(m)))
    return LayerExplanation(
        name=one.source.name,
        before=np.asarray(weight),
        after=readable(weight),
        null=readable(other),
        null_name=null.name,
        singular_values=singular,
        edge=edge,
        columns=(len(one.picked[0]), len(one.picked[1])),
        draws=drawn,
        verdicts=verdicts,
    )
