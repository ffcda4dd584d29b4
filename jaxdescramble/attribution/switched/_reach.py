"""How far a neuron sees, and what a pass over the network costs: the basis of the choice between routes."""

from jaxdescramble.networks.facts import Facts
from jaxdescramble.networks.graph import Block, Graph, Operation
from jaxdescramble.networks.kinds import kind_of
from jaxdescramble.networks.kinds.kind import Reach


def reaches(graph: Graph, facts: Facts) -> dict[int, dict[int, Reach]]:
    """Return for every value that depends on x the axes of x along which each of its elements sees a window only.

    Each kind of operation says in `networks.kinds` what its results see; a dense layer and a reshape see everything
    along the axes that they touch.
    """
    (x,) = graph.arguments[1]
    known = {x: {a: Reach(a, 1, 0, 0) for a in range(1, len(graph.shape(x)))}}
    for operation in graph.operations:
        of_data = [(k, known[n]) for k, n in enumerate(operation.inputs) if n in known]
        if not of_data:
            continue
        kind = kind_of(operation)
        after = [kind.reach_after(operation, position, reach, graph) for position, reach in of_data]
        both = {a: _union([reach[a] for reach in after]) for a in after[0] if all(a in reach for reach in after)}
        met = {a: reach for a, reach in both.items() if reach is not None}
        known.update(dict.fromkeys((n for n in operation.outputs if n in facts.data), met))
    return known


def colours(graph: Graph, reach: dict[int, Reach]) -> tuple[int, ...]:
    """Return the number of classes of places along each axis of a sample, so that no element sees two of one class."""
    shape = graph.shape(graph.arguments[1][0])
    return tuple(
        int(min(size, reach[a].high - reach[a].low + 1)) if a in reach else size
        for a, size in enumerate(shape)
        if a > 0
    )


def multiplications(graph: Graph) -> dict[Operation, int]:
    """Return how many numbers every product in a network multiplies, on all samples and all steps of scans."""
    found: dict[Operation, int] = {}

    def walk(block: Block, times: int) -> None:
        for operation in block.operations:
            if operation.body is not None:
                walk(operation.body, times * operation.params["length"])
            count = kind_of(operation).multiplications(operation, graph)
            if count:
                found[operation] = times * count

    walk(graph, 1)
    return found


def _union(all_: list[Reach]) -> Reach | None:
    first = all_[0]
    if any((r.axis, r.stride) != (first.axis, first.stride) for r in all_):
        return None
    return first._replace(low=min(r.low for r in all_), high=max(r.high for r in all_))
