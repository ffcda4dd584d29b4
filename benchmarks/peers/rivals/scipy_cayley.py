"""scipy's L-BFGS-B on the generator of a Cayley transform, as in the paper: `P = (1 - X)^-1 (1 + X)`, X skew."""

import numpy as np
import scipy.linalg
import scipy.optimize

from benchmarks.peers.reference import Reference, Stopwatch


def lbfgs(problem: Reference, watch: Stopwatch, memory: int = 20) -> None:
    """Minimise over the strictly upper triangle of X. The gradient, by hand, takes one factorisation and two solves."""
    n, A, B = problem.n, problem.A, problem.B
    upper, eye = np.triu_indices(n, 1), np.eye(n)

    def value_and_gradient(numbers):
        watch.tick()
        X = np.zeros((n, n))
        X[upper] = numbers
        X -= X.T
        factors = scipy.linalg.lu_factor(eye - X, overwrite_a=True, check_finite=False)
        point = scipy.linalg.lu_solve(factors, eye + X, overwrite_b=True, check_finite=False)
        slope = A @ point @ B
        value = np.vdot(point, slope)
        watch.step(value, point)
        # dP = (1 - X)^-1 dX (P + 1)
        turned = scipy.linalg.lu_solve(factors, 2 * slope, trans=1, check_finite=False) @ (point + eye).T
        return value, (turned - turned.T)[upper]

    settings = {"maxcor": memory, "maxiter": 10**9, "maxfun": 10**9, "ftol": 0.0, "gtol": 0.0, "maxls": 50}
    watch.run(
        lambda: scipy.optimize.minimize(
            value_and_gradient, np.zeros(len(upper[0])), jac=True, method="L-BFGS-B", options=settings
        )
    )
