"""Many problems over many devices and hosts, kept on the disk chunk by chunk, and nothing lost."""

from jaxdescramble.sweep.problems import Generated, Problem, Source, grid
from jaxdescramble.sweep.run import sweep
from jaxdescramble.sweep.table import Table

__all__ = ["Generated", "Problem", "Source", "Table", "grid", "sweep"]
