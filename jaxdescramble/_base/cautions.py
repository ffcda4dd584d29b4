"""The one class of warning that this package gives, and how it is given."""

import sys
import warnings
from pathlib import Path

PACKAGE = str(Path(__file__).parent.parent)


class JaxdescrambleWarning(UserWarning):
    """A result that you can use, but should look at twice.

    Every warning of this package is of this class: `warnings.simplefilter("error", jd.JaxdescrambleWarning)` turns all
    of them into errors, `"ignore"` turns them off.
    """


def caution(message: str) -> None:
    """Warn, at the line of the caller's code that called the package.

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
