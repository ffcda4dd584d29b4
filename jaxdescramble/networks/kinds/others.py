"""Operations with few rules: Fourier transforms, `iota`, loops of unknown length."""

from collections.abc import Sequence

from jaxdescramble.networks._places import Steps
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds.kind import Kind


class Fourier(Kind):
    """`fft` along the last axes: a parameter that meets its result element by element is a matrix in disguise."""

    primitives = frozenset({"fft"})
    is_transform = True

    def steps_after(
        self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph
    ) -> Sequence[Sequence[int] | None] | None:
        return None if any(steps[-len(operation.params["fft_lengths"]) :]) else steps


class Counting(Kind):
    """`iota`."""

    primitives = frozenset({"iota"})

    def ties(self, operation: Operation, book: Book) -> None:
        (result,) = operation.outputs
        axes, along = list(book.spread(result)), int(operation.params["dimension"])
        axes[along] = book.strands.axis(book.graph.shape(result)[along])
        book.pin(book.labels(axes), "counts them")
        book.axes[result] = tuple(axes)


class Opaque(Kind):
    """Loops of unknown length, and calls of the host: they cannot be differentiated backwards."""

    primitives = frozenset({"while", "pure_callback", "io_callback"})
    has_tangent = False


KINDS = (Fourier(), Counting(), Opaque())
