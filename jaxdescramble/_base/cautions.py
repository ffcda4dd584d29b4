"""The only class of warning in this package, and the function that gives it."""

import sys
import warnings
from pathlib import Path

PACKAGE = str(Path(__file__).parent.parent)


class JaxdescrambleWarning(UserWarning):
    """A warning about a result that you can use, but should check.

    Every warning of this package has this class. `warnings.simplefilter("error", jd.JaxdescrambleWarning)` turns all
    of them into errors, and `"ignore"` turns them off.
    """


def caution(message: str) -> None:
    """Warn at the line of the user's code that called the package.

    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     caution("look twice")
    >>> str(seen[0].message), seen[0].category.__name__
    ('look twice', 'JaxdescrambleWarning')
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, JaxdescrambleWarning, stacklevel=level)
