"""`limit --improve` against a server that reads in bursts, with the default receive buffer: limits before and after.

The server sleeps for 10 ms and then answers all that has come. Each round begins with a new one. What it says of the
socket afterwards is read by sock_diag. Needs root.
Usage: python bench/improve.py [--rounds 7] [--budget 30] --out DIR
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import subprocess
import sys
import time
from pathlib import Path

from flatout.host import sock_diag
from peers import SERVER, free_port, process
from record import Record, spread

BURSTY = """
import socket, sys, time
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", int(sys.argv[1])))
server.setblocking(False)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    time.sleep(0.01)
    try:
        while True:
            message, sender = server.recvfrom(2048)
            server.sendto(message, sender)
    except BlockingIOError:
        pass
"""


def buffer_bytes(port: int) -> int | None:
    """The receive buffer of the socket at a port."""
    found = (sock_diag.bound_to([port], stream=False) or {}).get(port, [])
    at = ipaddress.ip_address("127.0.0.1")
    return next((each.buffer_bytes for each in found if each.address == at), None)


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=int, default=30)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "improve")
    for number in range(arguments.rounds):
        port = free_port()
        with process([sys.executable, "-c", BURSTY, str(port), str(4 * arguments.budget)], SERVER):
            size, began = buffer_bytes(port), time.monotonic()
            command = [sys.executable, "-m", "flatout", "limit", "echo", f"127.0.0.1:{port}", "--transport", "udp"]
            command += ["--improve", "--budget", f"{arguments.budget}s", "--json", "-", "--quiet"]
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=8 * arguments.budget)
            result = json.loads(done.stdout)
            # Those without a setting are left to people.
            steps = [step for step in result["improvements"] if step["setting"]]
            kept = [step for step in steps if step["kept"]]
            record.add(
                round=number,
                finding=result["findings"][0]["name"] if result["findings"] else "",
                steps=len(steps),
                before=result["limit"]["value"],
                after=kept[-1]["limit_after"] if kept else result["limit"]["value"],
                size_before=size,
                tried=steps[0]["tried"] if steps else "",
                size_after=buffer_bytes(port),
                undone=all(step["undone"] for step in steps),
                seconds=round(time.monotonic() - began, 1),
            )
    record.finish(reported(record))


def reported(record: Record) -> list[str]:
    """Medians and spreads."""
    gains = [float(str(row["after"])) / float(str(row["before"])) for row in record.rows]
    restored = sum(row["size_before"] == row["size_after"] for row in record.rows)
    named = sum(row["finding"] == "receive buffer" for row in record.rows)
    return [
        f"- limit before: {spread(record.values('before'), 0)} requests/s",
        f"- limit after: {spread(record.values('after'), 0)} requests/s",
        f"- after / before: {spread(gains)}",
        f"- the receive buffer was named first in {named} of {len(gains)} rounds; its old size was back in {restored}",
        f"- the whole command: {spread(record.values('seconds'), 1)} s",
    ]


if __name__ == "__main__":
    main()
