"""Import the public names of a package at their first use."""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping


def front_door(
    package: str, homes: Mapping[str, Iterable[str]], modules: Iterable[str] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package that imports its names at their first use.

    Args:
        package: full name of the package.
        homes: for each module, relative to the package, the names that the package takes from it.
        modules: the public modules and subpackages of the package.

    >>> get, names = front_door("jaxdescramble._base", {"products": ("matmul",)}, ("checks",))
    >>> get("matmul").__name__, get("checks").__name__, names()
    ('matmul', 'jaxdescramble._base.checks', ['checks', 'matmul'])
    """
    home_of = {name: home for home, names in homes.items() for name in names}
    public = sorted({*home_of, *modules})

    def get(name: str) -> object:
        if name in home_of:
            found = getattr(importlib.import_module(f"{package}.{home_of[name]}"), name)
        elif name in public:
            found = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        setattr(sys.modules[package], name, found)
        return found

    return get, lambda: public
