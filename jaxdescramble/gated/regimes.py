"""Regimes of training: which gates the network starts with, and whether they are trained."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from jaxdescramble._base.checks import instance_of
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.results import Result
from jaxdescramble.gated._layers import Layers
from jaxdescramble.gated.gate_kinds import Hard
from jaxdescramble.gated.initial import init
from jaxdescramble.gated.networks import Params
from jaxdescramble.gated.spec import Spec, checked, layers_of


@functools.partial(register_dataclass, data_fields=["params"], meta_fields=["learned"])
@dataclasses.dataclass(frozen=True, repr=False)
class Regime(Result):
    """The parameters at the start of a training, and the networks that are trained.

    `optax.transforms.selective_transform(optimiser, freeze_mask=regime.frozen)` trains these networks and leaves the
    others exactly as they are. `optax.masked(optimiser, regime.trainable)` alone is wrong: it passes the gradients of
    the frozen weights on, and they are added to these weights.

    Attributes:
        params: parameters from `init`.
        learned: names of the trained networks: "values", and "features" if they are trained too.

    >>> from jaxdescramble.gated import FullyConnected, init
    >>> frnpf_ii(jax.random.key(0), Spec(FullyConnected(5, (4, 3), 2), "dgn")).trainable
    {'features': False, 'values': True}
    """

    params: Params
    learned: tuple[str, ...]

    @property
    def trainable(self) -> dict[str, bool]:
        """A mask for `params` (a tree prefix): True for networks that are trained."""
        return {name: name in self.learned for name in self.params}

    @property
    def frozen(self) -> dict[str, bool]:
        """A mask for `params` (a tree prefix): True for networks that are not trained."""
        return {name: name not in self.learned for name in self.params}


def frnpf_ii(key: PRNGKeyArray, spec: Spec, **how: Any) -> Regime:
    """Start with fixed random features, independent of the values (FRNPF-II). Only the values are trained.

    In this regime the expected neural tangent kernel is the neural path kernel times a number, at any width.

    Args:
        key: random key; it decides all weights.
        spec: the network, of any kind that has features.
        how: options of `init`, such as `scale` and `distribution`.

    Returns:
        A `Regime` that trains the values.

    Raises:
        ValueError: if the kind is "dnn", which has no features.

    >>> from jaxdescramble.gated import FullyConnected
    >>> frnpf_ii(jax.random.key(0), Spec(FullyConnected(5, (4, 3), 2), "dgn")).learned
    ('values',)

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529).
    """
    _has_features(spec)
    return Regime(init(key, spec, **how), ("values",))


def frnpf_di(key: PRNGKeyArray, spec: Spec, **how: Any) -> Regime:
    """Start with features that are a frozen copy of the values (FRNPF-DI). Only the values are trained.

    At the start, a "dgn" with hard gates is the ReLU network of its values. Its gates depend on its weights, so the
    expected tangent kernel differs from that of `frnpf_ii`.

    Args:
        key: random key; it decides all weights.
        spec: the network, of kind "dgn" or "dlgn". Only their features have the shapes of the values.
        how: options of `init`, such as `scale` and `distribution`.

    Returns:
        A `Regime` that trains the values.

    Raises:
        ValueError: if the kind is not "dgn" or "dlgn".

    >>> from jaxdescramble.gated import FullyConnected
    >>> params = frnpf_di(jax.random.key(0), Spec(FullyConnected(5, (4, 3), 2), "dgn")).params
    >>> bool((params["features"][1]["weight"] == params["values"][1]["weight"]).all())
    True

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529).
    """
    _has_features(spec)
    if spec.kind == "dlgn-sf":
        raise ValueError("kind: got 'dlgn-sf', whose features cannot be a copy of its values. Use 'dgn' or 'dlgn'.")
    params = init(key, spec, **how)
    return Regime(params | {"features": _copy(params["values"][:-1])}, ("values",))


def flnpf(key: PRNGKeyArray, spec: Spec, trained: Params, **how: Any) -> Regime:
    """Start with the frozen gates of a trained network and new random values (FLNPF). Only the values are trained.

    Args:
        key: random key; it decides the values. It may be the key with which a trained "dnn" started: the new values
            still differ from those of the "dnn".
        spec: the network, of any kind that has features.
        trained: parameters of a trained network of the same architecture, at any stage of its training: of a "dnn" if
            the kind of the spec is "dgn", or of a network of the same kind as the spec, whose features are used.
        how: options of `init`, such as `scale` and `distribution`.

    Returns:
        A `Regime` that trains the values.

    Raises:
        ValueError: if the parameters do not match; if a "dnn" is given for a kind other than "dgn", whose features are
            not a ReLU network.

    >>> from jaxdescramble.gated import FullyConnected
    >>> net = FullyConnected(5, (4, 3), 2)
    >>> trained = init(jax.random.key(0), Spec(net, "dnn"))  # and then trained
    >>> params = flnpf(jax.random.key(0), Spec(net, "dgn"), trained).params
    >>> bool((params["features"][1]["weight"] == trained["values"][1]["weight"]).all())
    True

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529).
    """
    _has_features(spec)
    instance_of(trained, "trained", Mapping, "params, a dictionary of layers")
    if "features" in trained:
        features = _trained(trained, "features", spec)
    elif spec.kind == "dgn":
        features = _trained(trained, "values", spec)[:-1]
    else:
        raise ValueError(
            f"trained: got parameters of a dnn, whose layers do not make the same gates as features of a {spec.kind}. "
            f"Use kind='dgn', or parameters of a trained {spec.kind}."
        )
    return Regime(init(key, spec, **how) | {"features": _copy(features)}, ("values",))


def dlnpf(key: PRNGKeyArray, spec: Spec, **how: Any) -> Regime:
    """Start with random features and values, and train both, each with its own weights (DLNPF).

    Args:
        key: random key; it decides all weights.
        spec: the network, of any kind that has features, with gates that have a gradient.
        how: options of `init`, such as `scale` and `distribution`.

    Returns:
        A `Regime` that trains features and values.

    Raises:
        ValueError: if the kind is "dnn"; if the gates are hard and therefore have no gradient.

    >>> from jaxdescramble.gated import FullyConnected, Soft
    >>> dlnpf(jax.random.key(0), Spec(FullyConnected(5, (4, 3), 2), "dgn", Soft())).learned
    ('features', 'values')

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529).
    """
    _has_features(spec)
    if isinstance(spec.gate, Hard):
        raise ValueError("gate: got a hard gate, which has no gradient, so the features cannot learn. Use Soft().")
    return Regime(init(key, spec, **how), ("features", "values"))


def _has_features(spec: Spec) -> None:
    if checked(spec).kind == "dnn":
        raise ValueError("kind: got 'dnn', which has no features. Use 'dgn', 'dlgn' or 'dlgn-sf'.")


def _trained(trained: Params, name: str, spec: Spec) -> Layers:
    try:
        return layers_of(trained, name, spec)
    except (TypeError, ValueError) as error:
        raise type(error)(f"trained: {error}") from error


def _copy(layers: Layers) -> Layers:
    # Copy the buffers: a training step that donates its parameters must not get the same buffer twice.
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), layers)
