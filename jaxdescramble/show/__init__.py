"""Show results: figures, reports, progress bars, the command line. Needs the extra `jaxdescramble[demo]`."""

from typing import TYPE_CHECKING

from jaxdescramble._base.lazy import front_door

if TYPE_CHECKING:
    from jaxdescramble.show.bars import bar
    from jaxdescramble.show.figures import (
        first_layer_figure,
        last_layer_figure,
        layers_figure,
        products_figure,
        vectors_figure,
    )
    from jaxdescramble.show.papers.evidence import nulls_figure, replica_figure
    from jaxdescramble.show.papers.report import write_report

__all__ = [
    "bar",
    "first_layer_figure",
    "last_layer_figure",
    "layers_figure",
    "nulls_figure",
    "products_figure",
    "replica_figure",
    "vectors_figure",
    "write_report",
]

__getattr__, __dir__ = front_door(
    __name__,
    {
        "bars": ("bar",),
        "figures": (
            "first_layer_figure",
            "last_layer_figure",
            "layers_figure",
            "products_figure",
            "vectors_figure",
        ),
        "papers.evidence": ("nulls_figure", "replica_figure"),
        "papers.report": ("write_report",),
    },
)
