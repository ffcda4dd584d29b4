"""geoopt's Riemannian Adam on the square Stiefel manifold: the gradient is given by hand, two products a step."""

import geoopt  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]

from benchmarks.peers.reference import Reference, Stopwatch, nearest

# The best of those that `tune.py` tried, by size.
RATES = {32: 0.1, 80: 0.1}


def radam(problem: Reference, watch: Stopwatch, rate: float | None = None, canonical: bool = False) -> None:
    """Constant rate; one step turns P by the rate in radians, all planes together."""
    torch.set_num_threads(1)
    A, B = torch.as_tensor(problem.A), torch.as_tensor(problem.B)
    rate = nearest(RATES, problem.n) if rate is None else rate
    manifold = geoopt.Stiefel(canonical=canonical)

    def solve(steps: int) -> None:
        point = geoopt.ManifoldParameter(torch.eye(problem.n, dtype=torch.float64), manifold=manifold)
        optimiser = geoopt.optim.RiemannianAdam([point], lr=rate)
        for _ in range(steps):
            watch.tick()
            with torch.no_grad():
                slope = A @ point @ B
                watch.step(torch.sum(point * slope).item(), point.detach())
                point.grad = 2 * slope
            optimiser.step()

    watch.warm(lambda: solve(3))
    watch.run(lambda: solve(10**9))
