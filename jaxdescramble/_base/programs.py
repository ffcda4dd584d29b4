"""Programs that compile quickly on a CPU, for calls outside `jit`.

LLVM spends most of a first call on the many small loops around the matrix products, which hardly affect the speed. At
LLVM's first optimisation level, and without XLA's fusion emitters, the programs of L-BFGS compile in less than half the
time (1.7 s instead of 4.3 s) and run 0 to 10% slower (`benchmarks/first_call.py`).
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from jaxdescramble._base.checks import staged

P = ParamSpec("P")
R = TypeVar("R")

OPTIONS: dict[str, int] = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}


def fused(function: Callable[P, R], static_argnames: str | Sequence[str] = ()) -> Callable[P, R]:
    """Return a function of several small operations that outside `jit` is one program; inside, it is as it was.

    Outside `jit`, JAX compiles each operation by itself, and starts them one by one. Use this for functions that decide
    nothing by the numbers that they get.

    >>> float(fused(lambda x: jnp.sum(x**2 + 1))(jnp.ones(3)))
    6.0
    """
    compiled = jax.jit(function, static_argnames=static_argnames, inline=True)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return compiled(*args, **kwargs)

    return call


def quick_jit(function: Callable[P, R], static_argnames: str | Sequence[str] = ()) -> Callable[P, R]:
    """Return `jax.jit(function)`, with options that shorten compilation if all arrays are on CPUs.

    Inside other programs, on other devices, or if `XLA_FLAGS` sets an optimisation level, it is plain `jax.jit`.

    >>> float(quick_jit(jnp.sum)(jnp.ones(3)))
    3.0
    """
    plain = jax.jit(function, static_argnames=static_argnames)

    @functools.cache
    def quick() -> Callable[P, R]:
        options = known_options()
        return jax.jit(function, static_argnames=static_argnames, compiler_options=options) if options else plain

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        leaves = jax.tree.leaves((args, kwargs))
        return plain(*args, **kwargs) if staged(leaves) or not _on_cpu(leaves) else quick()(*args, **kwargs)

    return call


def _on_cpu(leaves: list[object]) -> bool:
    devices = {device.platform for leaf in leaves if isinstance(leaf, jax.Array) for device in leaf.devices()}
    return (devices or {jax.default_backend()}) == {"cpu"}


@functools.cache
def known_options() -> dict[str, int]:
    """Return those of `OPTIONS` that this XLA supports; return none if the user chose an optimisation level."""
    if "xla_backend_optimization_level" in os.environ.get("XLA_FLAGS", ""):
        return {}
    found = {}
    for name, value in OPTIONS.items():
        try:
            jax.jit(lambda x: x + 1, compiler_options={name: value}).lower(jnp.zeros(())).compile()
            found[name] = value
        except jax.errors.JaxRuntimeError:  # this release of XLA does not know the option
            continue
    return found
