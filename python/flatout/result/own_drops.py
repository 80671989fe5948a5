"""What the generator's host dropped itself, in words. Pure."""

from __future__ import annotations


def text(number: int, *, by_driver: bool) -> str:
    """Answers that sockets dropped; by the driver also frames that the interface took and did not send."""
    if by_driver:
        return f"{number:,} frames were dropped by this host's interface, or as answers that were not read in time"
    return f"{number:,} answers reached this host but were not read in time"
