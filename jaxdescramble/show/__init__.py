"""What people see: figures, the report, the command line. Needs the extra `jaxdescramble[demo]` when called."""

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
