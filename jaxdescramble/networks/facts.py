"""Facts about the values of a graph that are known without running it."""

import collections
import dataclasses
from collections.abc import Callable, Iterable
from typing import NamedTuple

from jaxdescramble.networks.graph import IDENTITY, Block, Graph, Operation
from jaxdescramble.networks.kinds import kind_of


class Origin(NamedTuple):
    """The argument leaf that a value is a view of, and the slices between the two, as text."""

    leaf: int
    cut: str


@dataclasses.dataclass(eq=False)
class Facts:
    """Dependencies within a graph of `f(params, x)`.

    Attributes:
        parameters, data: the values that depend on the first argument, and on the others.
        origin: by value, the argument leaf that it is a view of.
        loops: by value, the scans around it; `varying`: those of whose steps it depends.
        readers: by value, the operations that read it, with the position of the operand.
        returned: the values that a block returns.
        home: by operation or value, the block that it belongs to.
        makers: by value, the operation that computes it.
        passed: by result of a body, the values that it becomes outside, or in the next step.
        spread: answers of `along` so far.
    """

    graph: Graph
    parameters: set[int]
    data: set[int]
    origin: dict[int, Origin] = dataclasses.field(default_factory=dict)
    loops: dict[int, tuple[Operation, ...]] = dataclasses.field(default_factory=dict)
    varying: dict[int, set[Operation]] = dataclasses.field(default_factory=dict)
    readers: dict[int, list[tuple[Operation, int]]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )
    returned: set[int] = dataclasses.field(default_factory=set)
    home: dict[Operation | int, Block] = dataclasses.field(default_factory=dict)
    makers: dict[int, Operation] = dataclasses.field(default_factory=dict)
    spread: dict[int, set[int]] = dataclasses.field(default_factory=dict)
    passed: dict[int, list[int]] = dataclasses.field(default_factory=lambda: collections.defaultdict(list))

    def is_input(self, value: int) -> bool:
        """Return whether a value is x itself, at most rearranged or sliced: no layer comes before it."""
        origin = self.origin.get(value)
        return origin is not None and origin.leaf not in self.graph.arguments[0]

    def onward(self, value: int) -> Iterable[int]:
        """Give the values in other blocks that a value becomes because a loop or a branch hands it on."""
        for operation, position in self.readers[value]:
            # The operands of a scan are the inputs of its body, in the same order.
            if operation.body is not None:
                yield operation.body.inputs[position]
        yield from self.passed.get(value, ())

    def along(self, value: int) -> set[int]:
        """Return the axes along which a value may vary; it is constant along axes that a broadcast added."""
        if value not in self.spread:
            maker = self.makers.get(value)
            wide = {i for i, size in enumerate(self.graph.shape(value)) if size > 1}
            if maker is not None and maker.name == "broadcast_in_dim":
                inner = self.along(maker.inputs[0])
                wide &= {int(j) for i, j in enumerate(maker.params["broadcast_dimensions"]) if i in inner}
            elif maker is not None and maker.pointwise:
                wide &= {i for operand in maker.operands_of(value) for i in self.along(operand)}
            self.spread[value] = wide
        return self.spread[value]


def study(graph: Graph) -> Facts:
    """Return the facts about the graph of a function of parameters (its first argument) and data (the others)."""
    parameters = set(graph.arguments[0])
    data = {number for argument in graph.arguments[1:] for number in argument}
    facts = Facts(graph, _reached(graph, parameters), _reached(graph, data))
    for number in graph.inputs:
        facts.origin[number] = Origin(number, "")
    _walk(facts, graph, ())
    _vary(facts, graph)
    return facts


def _reached(graph: Graph, start: Iterable[int]) -> set[int]:
    """Return every value that depends on one of these."""
    reached = set(start)

    def enter(operation: Operation) -> None:
        reached.update(i for i, feeds in operation.feeds.items() if not reached.isdisjoint(feeds))

    def leave(operation: Operation) -> None:
        if operation.body is not None:
            results = zip(operation.outputs, operation.body.outputs, strict=True)
            reached.update(output for output, result in results if result in reached)
        elif operation.name in IDENTITY:
            reached.update(n for n in operation.outputs if not reached.isdisjoint(operation.operands_of(n)))
        elif not reached.isdisjoint(operation.reads):
            reached.update(operation.outputs)

    _spread(graph, lambda: len(reached), enter, leave)
    return reached


def _spread(
    block: Block, size: Callable[[], int], enter: Callable[[Operation], None], leave: Callable[[Operation], None]
) -> None:
    """Go through a block in order, and through each loop until `size()`, the amount of knowledge, stops growing."""
    for operation in block.operations:
        before = -1
        while operation.blocks and before != size():  # a carry may reach more in the next step
            before = size()
            enter(operation)
            for inner in operation.blocks:
                _spread(inner, size, enter, leave)
        leave(operation)


def _walk(facts: Facts, block: Block, loops: tuple[Operation, ...]) -> None:
    facts.returned.update(block.outputs)
    for number in block.inputs:
        facts.loops[number] = loops
        facts.home[number] = block
    for operation in block.operations:
        facts.home[operation] = block
        for position, number in enumerate(operation.inputs):
            facts.readers[number].append((operation, position))
        for number in operation.outputs:
            facts.loops[number] = loops
            facts.home[number] = block
            facts.makers[number] = operation
        _view(facts, operation)
        for number, feeds in operation.feeds.items():
            # A loop reads a leaf whole (while) or a slice of it at each step (scan): both are still that leaf.
            if all(feed in (feeds[0], number) for feed in feeds) and feeds[0] in facts.origin:
                facts.origin[number] = facts.origin[feeds[0]]
            for feed in feeds[1:]:
                facts.passed[feed].append(number)
        if operation.body is not None:
            for number, result in zip(operation.outputs, operation.body.outputs, strict=True):
                facts.passed[result].append(number)
            _walk(facts, operation.body, (*loops, operation))
        for inner in operation.unread:
            _walk(facts, inner, loops)


def _view(facts: Facts, operation: Operation) -> None:
    for position, number in enumerate(operation.inputs):
        if number not in facts.origin or not operation.outputs:
            continue
        leaf, cuts = facts.origin[number]
        before = facts.graph.shape(number)
        kind = kind_of(operation)
        if kind.arranges(operation, facts.graph):
            facts.origin[operation.output_for(position)] = Origin(leaf, cuts)
        elif kind.cuts:
            for i, output in enumerate(operation.outputs):
                spans = kind.spans(operation, i)
                texts = [
                    ":" if span == (0, size, 1) else ":".join(map(str, span[: 2 if span[2] == 1 else 3]))
                    for span, size in zip(spans, before, strict=True)
                ]
                text = "" if set(texts) == {":"} else f"[{', '.join(texts)}]"
                facts.origin[output] = Origin(leaf, cuts + text)


def _vary(facts: Facts, graph: Graph) -> None:
    varying = facts.varying

    def union(numbers: Iterable[int]) -> set[Operation]:
        return set().union(*(varying.get(number, set()) for number in numbers))

    def enter(operation: Operation) -> None:
        own = {operation} if operation.body is not None else set()
        for number, feeds in operation.feeds.items():
            varying[number] = union(feeds) | own

    def leave(operation: Operation) -> None:
        if operation.body is not None:
            for number, result in zip(operation.outputs, operation.body.outputs, strict=True):
                varying[number] = union([result]) - {operation}
        elif operation.name in IDENTITY:
            varying.update((number, union(operation.operands_of(number))) for number in operation.outputs)
        else:
            varying.update(dict.fromkeys(operation.outputs, union(operation.reads)))

    _spread(graph, lambda: sum(map(len, varying.values())), enter, leave)
