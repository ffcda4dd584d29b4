"""The threads of the LAPACK that JAX uses on CPUs.

JAX takes its decompositions on CPUs from `scipy.linalg.cython_lapack`, so from the OpenBLAS that SciPy is linked to.
The threads of OpenBLAS wait for each other by spinning. When other work occupies the cores, they wait most of the
time: on two busy cores, a closed form of 80 neurons takes hundreds of times longer with two threads than with one. On
idle cores a second thread gains nothing up to some hundreds of neurons (`benchmarks/results/busy.md`). Nothing in
Python can switch threads inside a user's `jit`. Therefore `import jaxdescramble` sets this library to one thread, for
the whole process.

Why not `threadpoolctl`? It lists every BLAS library of the process, NumPy's own included, but it does not know which
of them JAX uses. `dlsym` does: it looks a symbol of `cython_lapack` up in the libraries that this module is linked to,
and in no others. The tests use `threadpoolctl` as an independent witness.
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

# OpenBLAS reads these, in this order; the first that holds a positive integer decides.
VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
PREFIXES, SUFFIXES = ("scipy_", ""), ("", "64_", "_64")

_lock = threading.RLock()
# What the number was when the first `one_thread` began; one entry for each that has not ended.
_held: list[int] = []


class Before(int):
    """The number of threads before a call of `threads`. As a context manager it restores this number at the end."""

    def __enter__(self) -> "Before":
        return self

    def __exit__(self, *_: object) -> None:
        if self:
            _put(int(self))


def threads(count: int | None = None) -> Before:
    """Set how many threads LAPACK uses on CPUs inside JAX, for the whole process; without `count`, tell the number.

    `import jaxdescramble` sets one thread. It keeps the number of OpenBLAS if one of the environment variables
    OPENBLAS_NUM_THREADS, GOTO_NUM_THREADS or OMP_NUM_THREADS holds a positive integer. More threads can pay for large
    matrices on an idle machine; on a busy machine they can cost a hundredfold.

    Only the OpenBLAS that SciPy is linked to is set, because JAX uses that one. NumPy's wheels bring their own library,
    which stays as it is. If SciPy is linked to something else (MKL, Accelerate), nothing is ever set and the number
    is 0. Sweeps and films use one thread while they solve, whatever is set here.

    Args:
        count: the number of threads; None to leave it as it is.

    Returns:
        The number before, an integer; 0 if LAPACK is not OpenBLAS. In a `with` statement, it is restored at the end.

    Raises:
        TypeError, ValueError: `count` is not a positive integer.

    >>> before = threads(2)
    >>> with threads(1):
    ...     threads()
    1
    >>> threads(before)
    2
    """
    library = _openblas()
    if count is not None and isinstance(count, Before) and count == 0:
        return count  # where there is nothing to set, there is nothing to restore
    wanted = None if count is None else positive_integer(count, "count")
    if library is None:
        if wanted is not None:
            caution("threads: SciPy's LAPACK is not OpenBLAS, so its threads cannot be set here; nothing was changed.")
        return Before(0)
    with _lock:
        before = _held[0] if _held else library[0]()
        if wanted is not None:
            _put(wanted)
    return Before(before)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Hold LAPACK to one thread, for the whole process, and restore the number after the last of several holders.

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
    """Set one thread, unless the environment says how many; `import jaxdescramble` calls this once."""
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
            # Somebody holds LAPACK to one thread: the last holder will set this number.
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
    """Yield the libraries to search, without importing `scipy.linalg`, which takes a fifth of a second, if possible."""
    found = importlib.util.find_spec("scipy")
    for folder in (found and found.submodule_search_locations) or ():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            yield from Path(folder, "linalg").glob(f"cython_lapack{suffix}")
    # Where loading by path fails, the import loads the library; jaxlib imports it at its first decomposition anyway.
    module = Path(str(importlib.import_module("scipy.linalg.cython_lapack").__file__))
    yield module
    # On Windows a symbol is not searched in the libraries that a module is linked to; SciPy's wheels keep theirs here.
    yield from module.parents[2].glob("scipy.libs/*openblas*.dll")


def _after_fork() -> None:
    """Holders were threads of the parent: a child has none of them, and needs a lock that nobody holds."""
    global _lock
    _lock = threading.RLock()
    if _held:
        before = _held[0]
        _held.clear()
        _put(before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
