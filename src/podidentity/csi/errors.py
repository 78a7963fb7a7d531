"""Why a mount is refused.

::

    MountError                one line for the driver's event; a person can act on it
"""

from __future__ import annotations


class MountError(Exception):
    """The volume cannot be mounted; ``str`` is one line."""
