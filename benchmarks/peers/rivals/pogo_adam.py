"""POGO with its vector Adam: the gradient is given by hand, the parameter is a batch of one."""

import torch  # pyright: ignore[reportMissingImports]
from pogo import POGO, base  # pyright: ignore[reportMissingImports]

from benchmarks.peers.reference import Reference, Stopwatch, nearest

# The best of those that `tune.py` tried, by size.
RATES = {32: 0.3, 80: 1.0}


def adam(problem: Reference, watch: Stopwatch, rate: float | None = None, momentum: float = 0.0) -> None:
    """Constant rate; its vector Adam, or plain momentum where one is given."""
    torch.set_num_threads(1)
    A, B = torch.as_tensor(problem.A), torch.as_tensor(problem.B)
    rate = nearest(RATES, problem.n) if rate is None else rate

    method = base.SGD(momentum=momentum) if momentum else base.VectorAdam()

    def solve(steps: int) -> None:
        point = torch.nn.Parameter(torch.eye(problem.n, dtype=torch.float64)[None])
        optimiser = POGO([point], method, rate)
        for _ in range(steps):
            watch.tick()
            with torch.no_grad():
                slope = A @ point[0] @ B
                watch.step(torch.sum(point[0] * slope).item(), point.detach()[0])
                point.grad = 2 * slope[None]
            optimiser.step()

    watch.warm(lambda: solve(3))
    watch.run(lambda: solve(10**9))
