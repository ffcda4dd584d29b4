"""The threads of the LAPACK that JAX uses on CPUs.

JAX takes its decompositions on CPUs from `scipy.linalg.cython_lapack`, and so from the OpenBLAS that SciPy links.
The threads of OpenBLAS wait for each other by spinning. When other work occupies the cores, they wait most of the
time: on two busy cores, a closed form of 80 neurons takes hundreds of times longer with two threads than with one. On
idle cores a second thread gains nothing up to a few hundred neurons (`benchmarks/results/busy.md`). Python code cannot
switch threads inside a user's `jit`. Therefore `import jaxdescramble` sets OpenBLAS to one thread, for the whole
process.

Why not `threadpoolctl`? It lists every BLAS library of the process, NumPy's own included, but it does not know which
of them JAX uses. `dlsym` knows: it looks up a symbol of `cython_lapack` only in the libraries that this module links.
The tests use `threadpoolctl` as an independent check.
"""

import contextlib
import ctypes
import functools
import importlib
import importlib.machinery
import importlib.util
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from jaxdescramble._base.cautions import caution
from jaxdescramble._base.checks import positive_integer

# OpenBLAS reads these variables in this order; the first with a positive integer decides.
VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
PREFIXES, SUFFIXES = ("scipy_", ""), ("", "64_", "_64")

_lock = threading.RLock()
# One entry for each open `one_thread`: the number of threads before the first of them began.
_held: list[int] = []


class Before(int):
    """The number of threads before a call of `threads`. Used in a `with` statement, it restores this number."""

    def __enter__(self) -> "Before":
        return self

    def __exit__(self, *_: object) -> None:
        if self:
            _put(int(self))


def threads(count: int | None = None) -> Before:
    """Set the number of threads that LAPACK uses on CPUs inside JAX; without `count`, only return the number.

    Use more threads for large matrices on an idle machine; on a busy machine they can be a hundred times slower. The
    setting holds for the whole process. `import jaxdescramble` sets one thread, unless one of the environment
    variables OPENBLAS_NUM_THREADS, GOTO_NUM_THREADS or OMP_NUM_THREADS holds a positive integer.

    This function sets only the OpenBLAS that SciPy links, because JAX uses that one. NumPy's wheels bring their own
    library, which does not change. If SciPy links another library (MKL, Accelerate), this function sets nothing and
    returns 0. Sweeps and films always use one thread while they solve.

    Args:
        count: number of threads; None changes nothing.

    Returns:
        The number of threads before the call; 0 if LAPACK is not OpenBLAS. A `with` statement restores it at its end.

    Raises:
        TypeError: if `count` is not an integer.
        ValueError: if `count` is less than 1.

    >>> before = threads(2)
    >>> with threads(1):
    ...     threads()
    1
    >>> threads(before)
    2
    """
    library = _openblas()
    if count is not None and isinstance(count, Before) and count == 0:
        return count  # nothing was set, so nothing needs restoring
    wanted = None if count is None else positive_integer(count, "count")
    if library is None:
        if wanted is not None:
            caution("threads: SciPy's LAPACK is not OpenBLAS, so its threads cannot be set; nothing changed.")
        return Before(0)
    with _lock:
        before = _held[0] if _held else library[0]()
        if wanted is not None:
            _put(wanted)
    return Before(before)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Hold LAPACK to one thread, for the whole process. The last of several holders restores the number.

    >>> with one_thread():
    ...     jnp.linalg.eigvalsh(jnp.eye(3)).tolist()
    [1.0, 1.0, 1.0]
    """
    library = _openblas()
    if library is None:
        yield
        return
    get, put = library
    with _lock:
        _held.append(_held[0] if _held else get())
        put(1)
    try:
        yield
    finally:
        with _lock:
            before = _held.pop()
            if not _held:
                put(before)


def set_default(environment: Mapping[str, str] = os.environ) -> None:
    """Set one thread, unless the environment sets a number. `import jaxdescramble` calls this function once."""
    if any(_positive(environment.get(name, "")) for name in VARIABLES):
        return
    library = _openblas()
    if library is not None:
        library[1](1)


def _put(count: int) -> None:
    library = _openblas()
    if library is None:
        return
    with _lock:
        if _held:
            # LAPACK is held to one thread now: the last holder sets this number.
            _held[:] = [count] * len(_held)
        else:
            library[1](count)


def _positive(text: str) -> bool:
    return text.strip().isdigit() and int(text) > 0


@functools.cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Return the functions that get and set the number of threads of the OpenBLAS behind `cython_lapack`."""
    for path in _libraries():
        for prefix, suffix in itertools.product(PREFIXES, SUFFIXES):
            with contextlib.suppress(OSError, AttributeError):
                library = ctypes.CDLL(str(path))
                get = library[f"{prefix}openblas_get_num_threads{suffix}"]
                put = library[f"{prefix}openblas_set_num_threads{suffix}"]
                get.restype, put.argtypes, put.restype = ctypes.c_int, (ctypes.c_int,), None
                return get, put
    return None


def _libraries() -> Iterator[Path]:
    """Yield the libraries to search; try to avoid the import of `scipy.linalg`, which takes 0.2 s."""
    found = importlib.util.find_spec("scipy")
    for folder in (found and found.submodule_search_locations) or ():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            yield from Path(folder, "linalg").glob(f"cython_lapack{suffix}")
    # If loading by path fails, this import loads the library. jaxlib imports it at its first decomposition anyway.
    module = Path(str(importlib.import_module("scipy.linalg.cython_lapack").__file__))
    yield module
    # Windows does not search for a symbol in the libraries that a module links; SciPy's wheels keep theirs here.
    yield from module.parents[2].glob("scipy.libs/*openblas*.dll")


def _after_fork() -> None:
    """Give a forked child a free lock and no holders, because the holders were threads of the parent."""
    global _lock
    _lock = threading.RLock()
    if _held:
        before = _held[0]
        _held.clear()
        _put(before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
