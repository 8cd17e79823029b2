"""File descriptors: as many as the system lets this process have."""

import contextlib
import resource

__all__ = ["raise_descriptor_limit"]


def raise_descriptor_limit() -> int:
    """Raise the soft limit to the hard one; return what holds then.

    The soft limit is commonly 1,024 for the sake of programs that call select(2); a proxied stream
    takes two descriptors.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS: the hard limit may not be had
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
