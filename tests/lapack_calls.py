"""Reader of compiled and lowered programs: which LAPACK and BLAS calls they make, and of how many matrices at once."""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from fuzzing import Call


class LapackCall(NamedTuple):
    """One custom call of LAPACK or BLAS: its name, and the number of matrices that it takes at once."""

    name: str
    batch: int


_TARGET = re.compile(r'custom_call @(\w+)|custom_call_target="(\w+)"')
_STABLEHLO = re.compile(r"tensor<((?:\d+x)*)(?:\w+|complex<\w+>)>")  # tensor<12x32x32xf64>
_HLO = re.compile(r"\b[a-z]+\d+\[([\d,]*)\]")  # f64[12,32,32]{2,1,0}


def lapack_calls(text: str) -> list[LapackCall]:
    """Read every LAPACK and BLAS call of a program, given as StableHLO or as HLO text.

    Operands and results of one call are matrices, vectors and numbers, so the sizes in front of the last two are a
    batch.
    """
    found = []
    for line in text.splitlines():
        target = _TARGET.search(line)
        name = "" if target is None else target[1] or target[2]
        if not re.search("lapack|blas|^cpu_", name):
            continue
        if target[1]:  # the types stand at the end: ... : (tensor<...>) -> tensor<...>
            shapes = [shape.rstrip("x").split("x") for shape in _STABLEHLO.findall(line.rsplit(" : (", 1)[1])]
        else:  # f64[...] custom-call(...), ..., operand_layout_constraints={f64[...]}, ..., api_version=...
            shapes = [shape.split(",") for shape in _HLO.findall(line.split(", api_version=")[0].split("metadata=")[0])]
        assert shapes, f"no shapes in {line}"
        found.append(LapackCall(name, max(math.prod(int(size) for size in shape[:-2]) for shape in shapes)))
    return found


def batched(texts: Iterable[str]) -> list[LapackCall]:
    """Return the calls that take more than one matrix at once."""
    return [call for text in texts for call in lapack_calls(text) if call.batch > 1]


BATCH = 3


def programs(call: Call) -> Callable[[], Any]:
    """Trace a valid call, and return a function that lowers it: alone, vmapped, and three times in one program.

    Traced and vmapped are all floating arrays and random keys among the arguments, and all floating arrays that the
    function closes over.
    """
    leaves, structure = jax.tree.flatten(call.arguments)
    places = [i for i, leaf in enumerate(leaves) if _varies(leaf)]

    def outputs(varied: list[Any]) -> list[Any]:
        filled = dict(zip(places, varied, strict=True))
        arguments = jax.tree.unflatten(structure, [filled.get(i, leaf) for i, leaf in enumerate(leaves)])
        return [leaf for leaf in jax.tree.leaves(result_of(call, arguments)) if isinstance(leaf, jax.Array)]

    closed = jax.make_jaxpr(outputs)([leaves[i] for i in places])
    constants = [i for i, leaf in enumerate(closed.consts) if _varies(leaf)]

    @jax.jit
    def once(constant: list[Any], varied: list[Any]) -> Any:
        filled = dict(zip(constants, constant, strict=True))
        consts = [filled.get(i, leaf) for i, leaf in enumerate(closed.consts)]
        return jax.extend.core.jaxpr_as_fun(jax.extend.core.ClosedJaxpr(closed.jaxpr, consts))(*varied)

    def program(one: Any, other: Any, stack: Any) -> Any:
        return once(*one), once(*other), jax.vmap(once, axis_size=BATCH)(*stack)

    one = jax.tree.map(_shape, ([closed.consts[i] for i in constants], [leaves[i] for i in places]))
    stack = jax.tree.map(lambda x: jax.ShapeDtypeStruct((BATCH, *x.shape), x.dtype), one)
    return lambda: jax.jit(program).lower(one, one, stack)


def result_of(call: Call, arguments: dict[str, Any]) -> Any:
    """The result of a call; if that is a function of the call's params and x (`insert`), the result of this one."""
    result = call.function(**arguments)
    return result(arguments["params"], arguments["x"]) if callable(result) and "params" in arguments else result


def _varies(leaf: Any) -> bool:
    if not isinstance(leaf, np.ndarray | jax.Array):
        return False
    return jnp.issubdtype(leaf.dtype, jnp.floating) or jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
