"""torch's own way: `P = matrix_exp(X - X^T)` and L-BFGS with a strong Wolfe line search on X."""

import torch  # pyright: ignore[reportMissingImports]

from benchmarks.peers.reference import Reference, Stopwatch


def lbfgs(problem: Reference, watch: Stopwatch, memory: int = 10) -> None:
    """Derivatives by autograd through the exponential."""
    torch.set_num_threads(1)
    A, B = torch.as_tensor(problem.A), torch.as_tensor(problem.B)
    generator = torch.zeros(problem.n, problem.n, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [generator],
        lr=1.0,
        max_iter=10**9,
        max_eval=10**9,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        history_size=memory,
        line_search_fn="strong_wolfe",
    )

    def closure():
        watch.tick()
        optimiser.zero_grad()
        lower = torch.tril(generator, -1)
        point = torch.linalg.matrix_exp(lower - lower.T)
        value = torch.sum(point * (A @ point @ B))
        watch.step(value.item(), point.detach())
        value.backward()
        return value

    watch.run(lambda: optimiser.step(closure))
