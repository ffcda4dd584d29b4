"""Published networks in plain JAX: the pitch tracker CREPE, MiniLM, MTCNN, DEERNet; explained like any other network.

Nothing is downloaded or shipped. Without the files, `load` raises an error that says what to install.
"""

from jaxdescramble.studies.published.explaining import NAMES, explained

__all__ = ["NAMES", "explained"]
