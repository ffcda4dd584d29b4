"""The type of a device, for annotations: type checkers cannot read JAX's own class."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Device(Protocol):
    """A device of JAX, such as `jax.devices()[0]`.

    >>> isinstance(jax.devices()[0], Device)
    True
    """

    @property
    def id(self) -> int: ...

    @property
    def platform(self) -> str: ...
