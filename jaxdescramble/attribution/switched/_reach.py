"""How far a neuron sees, and what a pass over the network costs: what the choice between routes is made of."""

import math
from typing import NamedTuple

from jaxdescramble.networks.facts import Facts
from jaxdescramble.networks.graph import IDENTITY, Graph, Operation


class Reach(NamedTuple):
    """Along one axis of the input: place i on a value's own `axis` sees `stride * i + low` to `stride * i + high`."""

    axis: int
    stride: int
    low: int
    high: int


def reaches(graph: Graph, facts: Facts) -> dict[int, dict[int, Reach]]:
    """For every value that depends on x, the axes of x along which each of its elements sees a window only.

    Followed are convolutions and pools, padding, slices, transposition, and all that acts element by element; whatever
    else (a dense layer, a reshape) sees all there is along an axis that it touches.
    """
    (x,) = graph.arguments[1]
    known = {x: {a: Reach(a, 1, 0, 0) for a in range(1, len(graph.shape(x)))}}
    for operation in graph.operations:
        of_data = [(k, known[n]) for k, n in enumerate(operation.inputs) if n in known]
        if not of_data:
            continue
        after = [_through(operation, position, reach, graph) for position, reach in of_data]
        both = {a: _union([reach[a] for reach in after]) for a in after[0] if all(a in reach for reach in after)}
        met = {a: reach for a, reach in both.items() if reach is not None}
        known.update(dict.fromkeys((n for n in operation.outputs if n in facts.data), met))
    return known


def colours(graph: Graph, reach: dict[int, Reach]) -> tuple[int, ...]:
    """In how many classes the places along each axis of a sample fall, so that no element sees two of one class."""
    shape = graph.shape(graph.arguments[1][0])
    return tuple(
        int(min(size, reach[a].high - reach[a].low + 1)) if a in reach else size
        for a, size in enumerate(shape)
        if a > 0
    )


def multiplications(graph: Graph) -> dict[Operation, int]:
    """Of every product in a network (those in scans each time), on all samples: how many numbers are multiplied."""
    found: dict[Operation, int] = {}

    def walk(block, times: int) -> None:
        for operation in block.operations:
            if operation.body is not None:
                walk(operation.body, times * operation.params["length"])
            elif operation.name == "dot_general":
                (contract, _), _ = operation.params["dimension_numbers"]
                shape = graph.shape(operation.inputs[0])
                found[operation] = times * math.prod(graph.shape(operation.outputs[0])) * math.prod(
                    shape[i] for i in contract
                )  # fmt: skip
            elif operation.name == "conv_general_dilated":
                kernel = operation.params["dimension_numbers"].rhs_spec
                shape = graph.shape(operation.inputs[1])
                seen = math.prod(shape[i] for i in kernel[1:])
                found[operation] = times * math.prod(graph.shape(operation.outputs[0])) * seen

    walk(graph, 1)
    return found


def _through(operation: Operation, position: int, reach: dict[int, Reach], graph: Graph) -> dict[int, Reach]:
    name, params = operation.name, operation.params
    before, result = (graph.shape(n) for n in (operation.inputs[position], operation.outputs[0]))
    if name == "conv_general_dilated" and position == 0:
        numbers = params["dimension_numbers"]
        window = [graph.shape(operation.inputs[1])[i] for i in numbers.rhs_spec[2:]]
        places = {numbers.lhs_spec[2 + i]: (i, numbers.out_spec[2 + i]) for i in range(len(window))}
        kept = {a: r for a, r in reach.items() if r.axis in places and params["lhs_dilation"][places[r.axis][0]] == 1}
        return {
            a: _windowed(r, places[r.axis][1], window[i], params["window_strides"][i], params["padding"][i][0],
                         params["rhs_dilation"][i])
            for a, r in kept.items() for i in [places[r.axis][0]]
        }  # fmt: skip
    if name.startswith("reduce_window"):
        return {
            a: _windowed(r, r.axis, params["window_dimensions"][r.axis], params["window_strides"][r.axis],
                         params["padding"][r.axis][0], params["window_dilation"][r.axis])
            for a, r in reach.items() if params["base_dilation"][r.axis] == 1
        }  # fmt: skip
    if name == "pad" and position == 0:
        settings = params["padding_config"]
        return {
            a: r._replace(low=r.low - r.stride * settings[r.axis][0], high=r.high - r.stride * settings[r.axis][0])
            for a, r in reach.items() if settings[r.axis][2] == 0
        }  # fmt: skip
    if name == "transpose":
        order = list(params["permutation"])
        return {a: r._replace(axis=order.index(r.axis)) for a, r in reach.items()}
    if name == "broadcast_in_dim":
        places_ = params["broadcast_dimensions"]
        return {
            a: r._replace(axis=places_[r.axis]) for a, r in reach.items() if result[places_[r.axis]] == before[r.axis]
        }
    if name in ("reduce_sum", "reduce_max", "reduce_min"):
        gone = params["axes"]
        return {
            a: r._replace(axis=r.axis - sum(g < r.axis for g in gone)) for a, r in reach.items() if r.axis not in gone
        }
    if name in IDENTITY or (operation.pointwise and before == result):
        return dict(reach)
    if name == "slice":
        strides = params["strides"] or (1,) * len(before)
        return {
            a: Reach(r.axis, r.stride * strides[r.axis], *(end + r.stride * params["start_indices"][r.axis]
                                                           for end in (r.low, r.high)))
            for a, r in reach.items()
        }  # fmt: skip
    return {}


def _windowed(r: Reach, axis: int, window: int, stride: int, padding: int, dilation: int) -> Reach:
    low = r.low - r.stride * padding
    return Reach(axis, r.stride * stride, low, low + (r.high - r.low) + r.stride * (window - 1) * dilation)


def _union(all_: list[Reach]) -> Reach | None:
    first = all_[0]
    if any((r.axis, r.stride) != (first.axis, first.stride) for r in all_):
        return None
    return first._replace(low=min(r.low for r in all_), high=max(r.high for r in all_))
