"""LAPACK held to one thread while many decompositions are made.

JAX's decompositions on a CPU are those of the OpenBLAS that comes with SciPy, whose threads wait for each other by
spinning. Where something else has the cores - a training loop, another job, a container that sees more than it may
use - they mostly wait: a closed form of 320 neurons, 14 ms with one thread, was measured to take more than a second
with two on two busy cores; on two idle ones the second thread gains nothing (12.1 against 11.9 ms) and costs as much.
"""

import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import scipy

_lock = threading.Lock()
_inside: list[int] = []


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """OpenBLAS on one thread, for the whole process, and back to as many as before; nothing where it is not found.

    >>> with one_thread():
    ...     jnp.linalg.eigvalsh(jnp.eye(3)).tolist()
    [1.0, 1.0, 1.0]
    """
    found = _openblas()
    if found is None:
        yield
        return
    get, put = found
    with _lock:
        # Of several films at once the first in notes how many there were, the last out brings them back.
        _inside.append(get() if not _inside else _inside[0])
        put(1)
    try:
        yield
    finally:
        with _lock:
            before = _inside.pop()
            if not _inside:
                put(before)


@functools.cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    home = Path(scipy.__file__).parent
    # As wheels have it: beside the package on Linux and Windows, inside it on a Mac.
    for path in (*home.parent.glob("scipy.libs/*openblas*"), *home.glob(".dylibs/*openblas*")):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(path))
            return library.scipy_openblas_get_num_threads, library.scipy_openblas_set_num_threads
    return None
