"""Optional packages, imported when they are needed and not before."""

import importlib
from types import ModuleType


def extra(module: str, what: str, group: str = "demo") -> ModuleType:
    """A module of an optional dependency, or an `ImportError` that says how to get it.

    Args:
        module: its name, dotted.
        what: what needs it, for the message.
        group: the extra of this package that brings it.

    Raises:
        ImportError: it is not installed.

    >>> extra("no_such_module", "figures need matplotlib")
    Traceback (most recent call last):
    ImportError: figures need matplotlib: pip install 'jaxdescramble[demo]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{what}: pip install 'jaxdescramble[{group}]'") from error
