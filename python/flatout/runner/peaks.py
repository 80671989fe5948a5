"""The most that the target held at once during a run: descriptors, and connections that waited to be accepted.

When a run has ended its connections are closed, and nothing of it is left to see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flatout.host import target_sockets
from flatout.host.target_sockets import Sockets

# Of servers with many processes any may be at its limit; more than these are not looked at on each tick.
_MOST_PIDS = 16
Files = tuple[int, int]


class Peaks:
    """Looks again and again, and keeps the most.

    files: the descriptors held and allowed, of the process that came nearest to its limit; None: not known.
    """

    def __init__(self, pids: Sequence[int], listeners: Callable[[], Sockets]) -> None:
        self._pids = pids[:_MOST_PIDS]
        self._listeners = listeners
        self._queues: dict[int, int] = {}
        self.files: Files | None = None

    def look(self) -> None:
        """Costs some system calls, not one for each descriptor or connection."""
        for pid in self._pids:
            found = target_sockets.files(pid)
            if found is not None and (self.files is None or _share(found) > _share(self.files)):
                self.files = found
        for inode, listener in self._listeners().items():
            if listener.queue is not None:
                self._queues[inode] = max(self._queues.get(inode, 0), listener.queue)

    def added_to(self, sockets: Sockets) -> Sockets:
        """The sockets with the longest queue of each."""
        return {
            inode: each if each.queue is None else each._replace(queue=max(each.queue, self._queues.get(inode, 0)))
            for inode, each in sockets.items()
        }


def _share(files: Files) -> float:
    return files[0] / max(files[1], 1)
