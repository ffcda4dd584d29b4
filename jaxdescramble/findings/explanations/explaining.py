"""`explain`: what is found in a network, and what chance would have shown."""

import os
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray, PyTree

from jaxdescramble._base.checks import (
    instance_of,
    number_between,
    one_of,
    positive_integer,
    random_key,
    true_or_false,
)
from jaxdescramble._base.status import Status
from jaxdescramble.findings.explanations._descriptions import Asked, described
from jaxdescramble.findings.explanations._intervals import FEWEST_RESAMPLES
from jaxdescramble.findings.explanations._reporting import report_of
from jaxdescramble.findings.explanations._running import Network, Store, draw, prepare
from jaxdescramble.findings.explanations._samples import (
    Labels,
    Texts,
    columns_of_arrays,
    names_of,
    samples_of,
    some_columns,
    some_samples,
    texts_of,
)
from jaxdescramble.findings.explanations._workers import Workers
from jaxdescramble.findings.explanations.draws import Battery, observed
from jaxdescramble.findings.explanations.readings import READINGS, LayerReading, fitting
from jaxdescramble.findings.explanations.report import Report
from jaxdescramble.findings.explanations.sources import (
    ENDS,
    LayerSignals,
    Pattern,
    from_file,
    from_mapping,
    from_network,
)
from jaxdescramble.findings.explanations.splitting import halves
from jaxdescramble.findings.explanations.weight_nulls import NULLS, Untrained, WeightNull
from jaxdescramble.findings.explanations.whole_networks import (
    TrainedNetworks,
    WholeNull,
    check_networks,
    same_structure,
)
from jaxdescramble.objectives import Objective, smoothness
from jaxdescramble.solvers.watch import Interrupted, Progress, watched

Layers = Mapping[str, LayerSignals | Mapping[str, ArrayLike] | Sequence[ArrayLike]]


def explain(
    f_or_layers: Callable[..., PyTree] | Layers | str | os.PathLike[str],
    params: PyTree = None,
    x: PyTree = None,
    out: str | os.PathLike[str] | None = None,
    *,
    init: Callable[[PRNGKeyArray], PyTree] | None = None,
    others: Sequence[PyTree] = (),
    nulls: Sequence[str | WeightNull | WholeNull] | None = None,
    objective: Objective | None = None,
    layers: Pattern = None,
    weights: ArrayLike | None = None,
    groups: ArrayLike | Sequence[str] | None = None,
    names: Texts | None = None,
    ordered: Sequence[str] = ENDS,
    centred: bool = False,
    readings: Battery = READINGS,
    draws: int = 199,
    intervals: int = 0,
    shuffled_inputs: bool = False,
    alpha: float = 0.05,
    key: PRNGKeyArray | None = None,
    progress: Progress | None = None,
    max_seconds: float | int | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Report:
    """Say which readings of a network are findings: which ones chance does not show.

    The samples are split in two halves. Every layer is descrambled on one half and read on the other, and the other way
    round. The same is done with draws from null models. All readings of all layers are judged together, so the
    probability that a network without findings shows any is at most `alpha`. The first sentence of the report counts
    them.

    A small p-value means: against "random frame", that the weight is aligned with its inputs; against "permuted
    entries", that it matters where the entries of the weight stand; against "untrained", that `init` does not make it;
    against "trained on shuffled targets" (`findings.TrainedNetworks`), that the targets make it.

    Biases are left out: signals are `W X`, with W the weight and X the input signals of a layer.

    Args:
        f_or_layers: a JAX function `f(params, x)`. Or layers without a function: a mapping `{name: (weight, input)}` or
            `{name: (weight, input, preactivation)}` with arrays (out, in), (in, samples), (out, samples), in the order
            of the network (see `LayerSignals` for pictures and channels); or the path of a `.npz` or `.safetensors`
            file with arrays `<layer>.weight` and `<layer>.input`. The inputs of the first layer and the outputs of the
            last one count as ordered. In a file, names are sorted: "fc2" comes before "fc10", and "decoder" before
            "encoder", so give the mapping yourself if the names do not sort in the order of the network.
        params, x: parameters and a batch of inputs of f. Use inputs that training has not seen. Give pictures as
            pictures, shape (batch, height, width), and flatten them in f: then frequencies have two dimensions. Of more
            than 32,768 samples (or tokens, if `weights` or `groups` have one entry for each), as many are chosen at
            random. Only these rows of x are read, so x may be a `numpy.memmap` that is larger than memory.
        out: path of a folder for the report (`Report.save`); None writes nothing.
        init: function of a random key that returns fresh parameters. Then "untrained" replaces "permuted entries".
        others: parameters of other trained networks. The report says how many of them have a smaller reading; this is
            a description, not a test.
        nulls: names ("random frame", "isotropic weights", "permuted entries") or null models, such as
            `findings.TrainedNetworks([params, ...])`. None means "random frame" and "untrained" or "permuted entries".
        objective: what "readable" means; None means `objectives.smoothness()`. It must have a closed form.
        layers: which layers: a part of the name, a pattern with `*`, a list of these, or a function of the name.
        weights: how much each sample counts, shape (batch,) or (batch, tokens); 0 leaves out padding.
        groups: the group of each sample (its sentence, its subject), shape (batch,) or (batch, tokens); a group stays
            in one half. Negative numbers leave samples out. None makes each sample a group. Equal samples always stay
            together. For time series, see `findings.time_blocks`.
        names: the name of each sample (its label, its word), texts of shape (batch,) or (batch, tokens). The page then
            lists the samples on which each of the strongest waves is largest and smallest. Like weights of tokens,
            names of tokens leave out layers that mix tokens (after a mean over tokens).
        ordered: which ends of the network have an order with a meaning: "inputs", "outputs", both (default) or none.
            The logits of classes have none: give `ordered=["inputs"]`. `LayerSignals` decides for its layer.
        centred: whether to subtract from the input signals of each layer their mean over the samples of the half.
            Without it, the strongest wave may be this mean; the page says so.
        readings: the readings to take; see `findings.READINGS`.
        draws: number of draws from each null; 199 gives p-values down to 0.005. N `TrainedNetworks` give at most N
            draws, and p-values down to `1 / (N + 1)`.
        intervals: number of resamples for 95% intervals of the readings; 0 means no intervals. The groups of each half
            are drawn again, with replacement. A half needs at least 10 groups. The intervals take no part in the tests.
        shuffled_inputs: whether the report also shows the readings when each feature of x is put in a random order
            over the samples of each half. This destroys the correlations between features. It is a description: any
            real input would fail it as a test.
        alpha: largest p-value of a finding.
        key: random key of the split and the draws; None means `jax.random.key(0)`. Do not choose it after you have seen
            a result.
        progress: called as `progress(stage, done, total)`; `show.bar()` gives one that draws a bar.
        max_seconds: stop drawing after this many seconds; the report then has fewer draws, and says so.
        folder: path of a folder that keeps finished draws. A call with the same arguments continues there.

    Returns:
        A `Report`: `headline`, `findings` (`print(findings[0])` says what it means), `verdicts`, `layers[name].plot()`,
        `layers[name].waves`, `page()`, `save(folder)`.

    Raises:
        TypeError, ValueError: if an argument has a wrong type or shape; if a half of the samples stays empty; if no
            layer can be judged (NaN in the signals); if `init`, `others` or a null of networks has another structure
            than `params`; if the file holds weights without signals.
        TimeoutError: if `max_seconds` is over before the first draws are complete.
        Interrupted: on Ctrl-C; `result` is the report with the draws so far.

    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> W, X = jax.random.normal(keys[0], (6, 12)), jax.random.normal(keys[1], (12, 80))
    >>> report = explain({"first": (W, X)}, draws=19)
    >>> report.headline[:26], report.draws
    ('None of 10 readings of 1 l', 19)

    Source: nulls and the joint correction are ours, after Westfall and Young 1993.
    """
    watch = watched(progress, max_seconds, (params, x, weights), "explain")
    if watch is None:
        raise TypeError("explain: cannot run inside jit, vmap or grad; it writes a report. Call it outside.")
    draws, alpha = (
        positive_integer(draws, "draws"),
        float(number_between(alpha, "alpha", 0, 1, "a number between 0 and 1")),
    )
    objective = smoothness() if objective is None else instance_of(objective, "objective", Objective, "an Objective")
    given_key = jax.random.key(0) if key is None else random_key(key)
    seed = tuple(int(one) for one in np.asarray(jax.random.key_data(given_key)).ravel())
    intervals = positive_integer(intervals, "intervals", least=0)
    if 0 < intervals < FEWEST_RESAMPLES:
        raise ValueError(f"intervals: got {intervals}; must be 0, or at least {FEWEST_RESAMPLES} resamples.")
    shuffled_inputs = true_or_false(shuffled_inputs, "shuffled_inputs")
    centred = true_or_false(centred, "centred")
    if isinstance(ordered, str) or any(one not in ENDS for one in ordered):
        raise ValueError(f"ordered: got {ordered!r}; must be a list of 'inputs' and 'outputs', or an empty one.")
    for one in instance_of(readings, "readings", tuple, "a tuple of readings such as findings.READINGS"):
        instance_of(one, "readings", LayerReading, "a tuple of readings such as findings.READINGS")
    chosen_nulls = _nulls(nulls, init)
    labels = Labels(weights, groups, None if names is None else texts_of(names))

    watch.tell("reading the network", 0, 1)
    if callable(f_or_layers):
        if params is None or x is None:
            raise TypeError("explain: a function needs its parameters and a batch of inputs: explain(f, params, x).")
        if init is not None:
            same_structure(init(given_key), params, "init")
        for k, other in enumerate(others):
            same_structure(other, params, f"others: network {k}")
        for null in chosen_nulls:
            if isinstance(null, TrainedNetworks):
                check_networks(null, params)
        given = some_samples(x, labels, seed)
        x = given.data
        axes, own_weights, own_groups = samples_of(x, *given.labels)
        named = names_of(given.labels.names, axes)
        side = halves(own_groups, own_weights, seed)
        sources, skipped = from_network(f_or_layers, params, x, axes, objective, layers, ordered)
    else:
        if params is not None or x is not None:
            raise TypeError(
                "explain: params and x belong to a function f(params, x), and layers bring their own signals. To write "
                "the page, name the folder: explain(layers, out='folder')."
            )
        whole = [f"null '{one.name}'" for one in chosen_nulls if isinstance(one, WholeNull) and init is None]
        asked_for = {"`init`": init is not None, "`others`": bool(others), "`shuffled_inputs`": shuffled_inputs}
        needy = [*(name for name, yes in asked_for.items() if yes), *whole]
        if needy:
            raise TypeError(
                f"explain: {' and '.join(needy)} need a function f(params, x), because signals must be computed."
            )
        mapping = f_or_layers if isinstance(f_or_layers, Mapping) else from_file(f_or_layers)
        given = some_columns(mapping, layers, labels, seed)
        sources, skipped = from_mapping(given.data, objective, layers, ordered), {}
        side, own_weights, own_groups = columns_of_arrays(sources, given.labels.weights, given.labels.groups, seed)
        axes = own_weights.shape
        named = names_of(given.labels.names, axes)
    sources = [one._replace(centred=centred) for one in sources]
    if not sources and not skipped:
        raise ValueError(f"layers: {layers!r} matches no layer.")
    with Workers(watch) as workers:
        ready, refused = prepare(workers, sources, side, own_weights, seed)
        skipped |= refused
        if not ready:
            reasons = "; ".join(f"{name}: {why}" for name, why in skipped.items())
            raise ValueError(f"explain: no layer can be judged. {reasons}.")
        network = Network(f_or_layers, params, x, ready) if callable(f_or_layers) else None
        batteries = [fitting(readings, one.source.output, one.source.into) for one in ready]
        if not any(batteries):
            raise ValueError("readings: none of them fits the axes of these layers.")
        values = list(workers.run(observed(ready, batteries), to_the_end=True))
        store = Store.at(folder, ready, given_key, objective, chosen_nulls)
        drawn = draw(workers, ready, batteries, chosen_nulls, draws, given_key, network, store)
        if drawn.draws == 0 and watch.stopped == Status.INTERRUPTED:
            raise Interrupted("explain was interrupted before the first draws were complete.", None)
        if drawn.draws == 0:
            raise TimeoutError(f"max_seconds: {max_seconds} seconds are not enough for the first draws; allow more.")
        used = np.where(own_weights > 0, side, -1)
        asked = Asked(others, shuffled_inputs, intervals, axes, used, own_groups, seed)
        more = described(workers, network, ready, batteries, values, asked)
        report = report_of(
            workers, ready, batteries, values, drawn.rows, chosen_nulls, given_key, alpha, skipped,
            stopped="; ".join(one for one in (drawn.stopped, more.missing) if one),
            samples=(int((used == 0).sum()), int((used == 1).sum())),
            groups=len(np.unique(own_groups[own_groups >= 0])),
            descriptions=given.description | more.descriptions, intervals=more.intervals,
            about_intervals=more.about_intervals, names=named,
        )  # fmt: skip
    if out is not None:
        report.save(out)
    watch.tell("done", 1, 1)
    if watch.stopped == Status.INTERRUPTED:
        raise Interrupted(
            "explain was interrupted; .result of this exception is the report of the draws so far.", report
        )
    return report


def _nulls(
    given: Sequence[str | WeightNull | WholeNull] | None, init: Callable[[PRNGKeyArray], PyTree] | None
) -> list[WeightNull | WholeNull]:
    if given is None:
        given = ["random frame"] if init is not None else ["random frame", "permuted entries"]
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"nulls: got {given!r}; must be a list of names or null models, such as ['random frame'].")
    found: list[WeightNull | WholeNull] = []
    for one in given:
        if isinstance(one, str):
            found.append(NULLS[one_of(one, "nulls", tuple(NULLS))]())
        elif isinstance(one, WholeNull):
            found.append(one)
        else:
            found.append(instance_of(one, "nulls", WeightNull, "a name or a null model"))
    if init is not None:
        if not callable(init):
            raise TypeError(f"init: got {init!r}; must be a function of a random key that returns parameters.")
        found.append(Untrained(init))
    if not found:
        raise ValueError("nulls: got an empty list; without a null, no reading can be judged.")
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"nulls: two of them have the name '{twice}'. Give each null its own name.")
    return found
