"""An NTP server that notes who asked; as a program it prints its port, and once its input ends, how many that were."""

from __future__ import annotations

import socket
import sys
import threading


class Counting:
    """An NTP server that notes who asked: (address, port)."""

    def __init__(self, family: socket.AddressFamily, host: str) -> None:
        self.seen: set[tuple[str, int]] = set()
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.bind((host, 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        reply = bytes([0x24, 2, 0, 0xE7]) + bytes(8) + b"TEST"
        stamp = (3_900_000_000 << 32).to_bytes(8)
        while True:
            asked, source = self._socket.recvfrom(100)
            if asked == b"end":
                return
            self.seen.add((source[0], source[1]))
            self._socket.sendto(reply + stamp + asked[40:48] + stamp + stamp, source)

    def end(self) -> None:
        with socket.socket(self._socket.family, socket.SOCK_DGRAM) as own:
            own.sendto(b"end", self._socket.getsockname()[:2])
        self._thread.join()
        self._socket.close()


if __name__ == "__main__":
    counting = Counting(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, sys.argv[1])
    print(counting.port, flush=True)
    sys.stdin.read()
    counting.end()
    print(len({address for address, _ in counting.seen}))
