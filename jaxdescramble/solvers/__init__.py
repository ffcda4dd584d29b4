"""Minimise any function on the orthogonal group (`minimise`), and quadratic assignment on S(n)."""

from jaxdescramble.solvers.assignment.quadratic import Assignment, quadratic_assignment
from jaxdescramble.solvers.combinators import Chain, Continuation, Progressive, Restarts, SinglePrecision, Tournament
from jaxdescramble.solvers.conjugate_gradient import ConjugateGradient
from jaxdescramble.solvers.descent import Solver
from jaxdescramble.solvers.first_order import Optax, riemannian
from jaxdescramble.solvers.frames import InFrame
from jaxdescramble.solvers.gradient_descent import GradientDescent
from jaxdescramble.solvers.lbfgs import LBFGS
from jaxdescramble.solvers.minibatches import Minibatches
from jaxdescramble.solvers.minimisation import minimise
from jaxdescramble.solvers.modes import FromModes
from jaxdescramble.solvers.polar_power import PolarPower
from jaxdescramble.solvers.preconditioners import Analytic, Automatic, Kronecker
from jaxdescramble.solvers.second_order import Stationarity, stationarity
from jaxdescramble.solvers.solution import History, Solution
from jaxdescramble.solvers.starts import FromSources, Seriated
from jaxdescramble.solvers.trust_region import TrustRegion
from jaxdescramble.solvers.watch import Interrupted

__all__ = [
    "LBFGS",
    "Analytic",
    "Assignment",
    "Automatic",
    "Chain",
    "ConjugateGradient",
    "Continuation",
    "FromModes",
    "FromSources",
    "GradientDescent",
    "History",
    "InFrame",
    "Interrupted",
    "Kronecker",
    "Minibatches",
    "Optax",
    "PolarPower",
    "Progressive",
    "Restarts",
    "Seriated",
    "SinglePrecision",
    "Solution",
    "Solver",
    "Stationarity",
    "Tournament",
    "TrustRegion",
    "minimise",
    "quadratic_assignment",
    "riemannian",
    "stationarity",
]
