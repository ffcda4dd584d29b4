"""Import optional packages only when they are needed."""

import importlib
from types import ModuleType


def extra(module: str, what: str, group: str = "demo") -> ModuleType:
    """Return a module of an optional package, or raise an `ImportError` that says how to install it.

    Args:
        module: dotted name of the module.
        what: what needs the module, for the message.
        group: the extra of jaxdescramble that installs it.

    Raises:
        ImportError: if the module is not installed.

    >>> extra("no_such_module", "figures need matplotlib")
    Traceback (most recent call last):
    ImportError: figures need matplotlib: pip install 'jaxdescramble[demo]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{what}: pip install 'jaxdescramble[{group}]'") from error
