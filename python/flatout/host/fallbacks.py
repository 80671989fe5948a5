"""What replaces system calls that this host refuses, as notes for users."""

from __future__ import annotations

from flatout._engine import kernel

_REPLACED_BY = {
    "epoll_pwait2": "each wait takes two calls, ppoll and epoll_wait",
    "recvmmsg": "each message is received with a call of its own",
    "sendmmsg": "each message is sent with a call of its own",
}


def notes(*calls: str) -> list[str]:
    """What to say of those of `calls` that the kernel lacks, or that a sandbox or container profile forbids."""
    available = kernel()
    return [
        f"{call} is not available here, or not permitted: {_REPLACED_BY[call]}" for call in calls if not available[call]
    ]
