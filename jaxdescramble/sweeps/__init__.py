"""Solve many problems on many devices and hosts; every finished chunk is kept on the disk."""

from jaxdescramble.sweeps.problems import Generated, Problem, Source, grid
from jaxdescramble.sweeps.run import sweep
from jaxdescramble.sweeps.table import Table

__all__ = ["Generated", "Problem", "Source", "Table", "grid", "sweep"]
