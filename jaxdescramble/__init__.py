"""Find the frame in which a neural network's layers become readable: descrambler groups in JAX.

>>> import jaxdescramble as jd
>>> jd.descramble(jax.random.normal(jax.random.key(0), (8, 100))).point.shape
(8, 8)
"""

from importlib.metadata import version

from jaxdescramble import (
    attribution,
    datasets,
    exact,
    gated,
    groups,
    objectives,
    operators,
    path_kernel,
    reading,
    solvers,
    switched,
)
from jaxdescramble.cautions import JaxdescrambleWarning
from jaxdescramble.descramble import (
    Descrambling,
    Descramblings,
    LayerDescrambling,
    NetworkDescrambling,
    bootstrap,
    descramble,
    descramble_network,
)
from jaxdescramble.film import Film
from jaxdescramble.lapack import set_default as _set_default
from jaxdescramble.lapack import threads
from jaxdescramble.objectives import Objective
from jaxdescramble.reorder import reorder
from jaxdescramble.solvers import Interrupted, Solution, minimise, riemannian
from jaxdescramble.status import Status
from jaxdescramble.streaming import Accumulator
from jaxdescramble.sweep import Problem, grid, sweep
from jaxdescramble.wiretap import Layout, Tap, insert, wiretap

__version__ = version("jaxdescramble")
_set_default()

__all__ = [
    "Accumulator",
    "Descrambling",
    "Descramblings",
    "Film",
    "Interrupted",
    "JaxdescrambleWarning",
    "LayerDescrambling",
    "Layout",
    "NetworkDescrambling",
    "Objective",
    "Problem",
    "Solution",
    "Status",
    "Tap",
    "attribution",
    "bootstrap",
    "datasets",
    "descramble",
    "descramble_network",
    "exact",
    "gated",
    "grid",
    "groups",
    "insert",
    "minimise",
    "objectives",
    "operators",
    "path_kernel",
    "reading",
    "reorder",
    "riemannian",
    "solvers",
    "sweep",
    "switched",
    "threads",
    "wiretap",
]
