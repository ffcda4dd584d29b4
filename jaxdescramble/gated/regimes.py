"""Regimes of training: where gates come from, and whether they are learned. All are built from the same parts."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from jaxdescramble._base.checks import instance_of
from jaxdescramble._base.results import Result
from jaxdescramble.gated.gate_kinds import Hard
from jaxdescramble.gated.initial import init
from jaxdescramble.gated.networks import Params
from jaxdescramble.gated.spec import Spec, checked, layers_of


@functools.partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["learned"])
@dataclasses.dataclass(frozen=True, repr=False)
class Regime(Result):
    """Parameters to start from, and which of the networks are trained.

    `optax.transforms.selective_transform(optimiser, freeze_mask=regime.frozen)` trains those and leaves the others
    as they are, bit by bit. (`optax.masked(optimiser, regime.trainable)` alone does not: what it masks it passes on, so
    that bare gradients are added to the frozen weights.)

    Attributes:
        params: as `init` makes them.
        learned: "values", and "features" if they are trained too.

    >>> from jaxdescramble.gated import FullyConnected, init
    >>> frnpf_ii(jax.random.key(0), Spec(FullyConnected(5, (4, 3), 2), "dgn")).trainable
    {'features': False, 'values': True}
    """

    params: Any
    learned: tuple[str, ...]

    @property
    def trainable(self) -> dict[str, bool]:
        """A prefix of the tree of params: what is trained."""
        return {name: name in self.learned for name in self.params}

    @property
    def frozen(self) -> dict[str, bool]:
        """A prefix of the tree of params: what is not."""
        return {name: name not in self.learned for name in self.params}


def frnpf_ii(key: PRNGKeyArray, spec: Spec, **how: Any) -> Regime:
    """Fixed random features, independently initialised: frozen gates that know nothing of the values.

    Here the expected neural tangent kernel is the neural path kernel times a number, at any width.

    Args:
        key: source of chance.
        spec: any kind with features.
        how: `scale`, `distribution`, ... as for `init`.

    Returns:
        Start and what is trained: the values.

    Raises:
        ValueError: a dnn, which has no features.

    >>> from jaxdescramble.gated import FullyConnected
    >>> frnpf_ii(jax.random.key(0), Spec(FullyConnected(5, (4, 3), 2), "dgn")).learned
    ('values',)

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529).
    """
    _has_features(spec)
    return Regime(init(key, spec, **how), ("values",))


def frnpf_di(key: PRNGKeyArray, spec: Spec, **how: Any) -> Regime:
    """Fixed random features, dependently initialised: the features are a frozen copy of the values at the start.

    At the start a dgn with hard gates is then the ReLU network of its values, and the expected tangent kernel is not
    that of `frnpf_ii`, for its gates depend on its weights.

    Args:
        key, how: as for `frnpf_ii`.
        spec: a dgn or dlgn, whose features are shaped as values are.

    Returns:
        Start and what is trained: the values.

    Raises:
        ValueError: another kind.

    >>> from jaxdescramble.gated import FullyConnected
    >>> params = frnpf_di(jax.random.key(0), Spec(FullyConnected(5, (4, 3), 2), "dgn")).params
    >>> bool((params["features"][1]["weight"] == params["values"][1]["weight"]).all())
    True

    Source: as for `frnpf_ii`.
    """
    _has_features(spec)
    if spec.kind == "dlgn-sf":
        raise ValueError("kind: features of a dlgn-sf are not shaped as its values, and cannot be a copy of them.")
    params = init(key, spec, **how)
    return Regime(params | {"features": _copy(params["values"][:-1])}, ("values",))


def flnpf(key: PRNGKeyArray, spec: Spec, trained: Params, **how: Any) -> Regime:
    """Fixed learned features: gates of a trained network, frozen, and values that start anew.

    Args:
        key, how: as for `frnpf_ii`. It may be the key that the trained dnn began with: values are fresh all the same.
        spec: any kind with features.
        trained: params of a trained "dnn" of the same architecture (for a "dgn"), or of a trained network of the kind
            of the spec, whose features are taken: at any stage of its training.

    Returns:
        Start and what is trained: the values.

    Raises:
        ValueError: params that do not fit; a dnn for a kind other than "dgn", whose features are not a ReLU network.

    >>> from jaxdescramble.gated import FullyConnected
    >>> net = FullyConnected(5, (4, 3), 2)
    >>> trained = init(jax.random.key(0), Spec(net, "dnn"))  # and then trained
    >>> params = flnpf(jax.random.key(0), Spec(net, "dgn"), trained).params
    >>> bool((params["features"][1]["weight"] == trained["values"][1]["weight"]).all())
    True

    Source: as for `frnpf_ii`.
    """
    _has_features(spec)
    instance_of(trained, "trained", Mapping, "params, a dictionary of layers")
    if "features" in trained:
        features = _trained(trained, "features", spec)
    elif spec.kind == "dgn":
        features = _trained(trained, "values", spec)[:-1]
    else:
        raise ValueError(
            f"trained: params of a dnn, whose layers would not make its gates as features of a {spec.kind}. Use "
            f"kind='dgn', or params of a trained {spec.kind}."
        )
    return Regime(init(key, spec, **how) | {"features": _copy(features)}, ("values",))


def dlnpf(key: PRNGKeyArray, spec: Spec, **how: Any) -> Regime:
    """Decoupled learning of features: gates and values both learn, each with weights of its own.

    Args:
        key, how: as for `frnpf_ii`.
        spec: any kind with features, and gates that can be learned through.

    Returns:
        Start and what is trained: both.

    Raises:
        ValueError: a dnn; hard gates, which have no gradient.

    >>> from jaxdescramble.gated import FullyConnected, Soft
    >>> dlnpf(jax.random.key(0), Spec(FullyConnected(5, (4, 3), 2), "dgn", Soft())).learned
    ('features', 'values')

    Source: as for `frnpf_ii`.
    """
    _has_features(spec)
    if isinstance(spec.gate, Hard):
        raise ValueError("gate: a hard gate has no gradient, and features would stay as they are. Use Soft().")
    return Regime(init(key, spec, **how), ("features", "values"))


def _has_features(spec: Spec) -> None:
    if checked(spec).kind == "dnn":
        raise ValueError("kind: a dnn makes its gates of its own values; regimes are of kinds with features.")


def _trained(trained: Any, name: str, spec: Spec) -> tuple[Any, ...]:
    try:
        return layers_of(trained, name, spec)
    except (TypeError, ValueError) as error:
        raise type(error)(f"trained: {error}") from error


def _copy(layers: Any) -> Any:
    # Buffers of their own: a training step that donates its params must not meet one buffer twice.
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), layers)
