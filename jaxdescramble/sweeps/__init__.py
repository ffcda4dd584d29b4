"""Many problems over many devices and hosts, kept on the disk chunk by chunk, and nothing lost."""

from jaxdescramble.sweeps.problems import Generated, Problem, Source, grid
from jaxdescramble.sweeps.run import sweep
from jaxdescramble.sweeps.table import Table

__all__ = ["Generated", "Problem", "Source", "Table", "grid", "sweep"]
