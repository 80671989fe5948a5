"""What a TCP transfer over the same interface loses while 1,000,000 NTP requests a second are answered in the driver.

Over veth, one CPU a side; with two CPUs both compete for them. The transfer goes to or from the serving namespace, at a
stated rate and as fast as it goes: without a program on the interface, with one that is asked nothing, and with the
load. Needs root. Usage: python bench/xdp_transfer.py [--rounds 7] [--rate 1e6] [--limit 1e9] --out DIR
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from peers import ASKER, SERVER
from record import Record, ratios, spread
from xdp_pair import ADDRESS, CLIENT, VB, Asker, Load, Pair, asker, flatout, pair

PORT = 5201
# One end of a connection: sends for so long at no more than so many bytes a second (0: no bound), or counts.
END = """
import socket, sys, time
role, address, port, seconds, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])
if role == "send":
    with socket.socket() as sender:
        if limit:
            sender.setsockopt(socket.SOL_SOCKET, 47, int(limit))
        sender.connect((address, port))
        block, end = bytes(1 << 17), time.monotonic() + seconds
        while time.monotonic() < end:
            sender.sendall(block)
else:
    with socket.create_server((address, port)) as listener:
        print("ready", flush=True)
        connection, _ = listener.accept()
        with connection:
            block, came, began = memoryview(bytearray(1 << 18)), 0, time.monotonic()
            while got := connection.recv_into(block):
                came += got
            print(came / (time.monotonic() - began))
"""
STATES = ("no program", "idle program", "load")
WANTED = 0.95


def end_of(pair: Pair, side: str, *words: str) -> subprocess.Popen[str]:
    """One end, on the CPU of its side."""
    namespace, cpu = (pair.asking, ASKER) if side == "asker" else (pair.serving, SERVER)
    command = ["taskset", "-c", str(cpu), "ip", "netns", "exec", namespace, sys.executable, "-c", END, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def transfer(pair: Pair, direction: str, limit: float, seconds: float) -> float:
    """Bits per second that arrived."""
    receiver, sender = ("server", "asker") if direction == "in" else ("asker", "server")
    address = ADDRESS if direction == "in" else CLIENT
    words = (address, str(PORT), str(seconds), f"{limit / 8:.0f}")
    with end_of(pair, receiver, "receive", *words) as counting:
        assert counting.stdout
        if counting.stdout.readline() != "ready\n":
            raise SystemExit("the receiver did not start")
        with end_of(pair, sender, "send", *words):
            return 8 * float(counting.stdout.readline())


def under(pair: Pair, asking: Asker, kind: tuple[str, float], rate: float, seconds: float) -> dict[str, float]:
    """A transfer while the driver answers; the load begins before it and ends behind it.

    A bounded transfer has its CPU before the asker, which stands for clients elsewhere. One without a bound shares it.
    """
    asking.yields(kind[1] > 0)
    asking.begin(Load(rate, seconds + 1.5))
    time.sleep(0.4)
    bits = transfer(pair, *kind, seconds)
    came = asking.end()
    return {"bits_per_s": bits, "asked_per_s": came.asked, "answered_per_s": came.answered}


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rate", type=float, default=1e6)
    parser.add_argument("--limit", type=float, default=1e9)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "xdp_transfer")
    kinds = [(direction, limit) for direction in ("in", "out") for limit in (arguments.limit, 0.0)]
    nothing = {"asked_per_s": 0.0, "answered_per_s": 0.0}

    def add(number: int, state: str, kind: tuple[str, float], **row: float) -> None:
        row = {name: round(value) for name, value in row.items()}
        record.add(round=number, state=state, direction=kind[0], limit=f"{kind[1]:.0f}", **row)

    with pair() as made:
        for number in range(arguments.rounds):
            for kind in kinds:
                add(number, STATES[0], kind, bits_per_s=transfer(made, *kind, arguments.seconds), **nothing)
            with flatout(made, "--xdp", "native", "--interface", VB), asker(made) as asking:
                for kind in kinds:
                    add(number, STATES[1], kind, bits_per_s=transfer(made, *kind, arguments.seconds), **nothing)
                    add(number, STATES[2], kind, **under(made, asking, kind, arguments.rate, arguments.seconds))
    record.finish(_found(record, kinds, arguments.rate))


def _found(record: Record, kinds: list[tuple[str, float]], rate: float) -> list[str]:
    lines = ["| transfer | " + " | ".join(f"{state}, Mbit/s" for state in STATES) + " | NTP answered per second |"]
    lines.append("| --- | --- | --- | --- | --- |")
    text = []
    for direction, limit in kinds:
        where = {"direction": direction, "limit": f"{limit:.0f}"}
        name = f"{'to' if direction == 'in' else 'from'} the server, " + (
            f"at {limit / 1e6:.0f} Mbit/s" if limit else "as fast as it goes"
        )
        bits = {state: record.values("bits_per_s", state=state, **where) for state in STATES}
        cells = [spread([value / 1e6 for value in bits[state]], 0) for state in STATES]
        answered = spread(record.values("answered_per_s", state="load", **where), 0)
        lines.append(f"| {name} | {' | '.join(cells)} | {answered} |")
        kept = ratios(bits["load"], bits["idle program"])
        reached = "reached" if sorted(kept)[len(kept) // 2] >= WANTED else "**missed**"
        text.append(f"- {name}: {spread(kept)} of it is left under load; wanted {WANTED:g}: {reached}")
    return [
        *lines,
        "",
        *text,
        f"- load: {rate:,.0f} NTP requests/s, answered by `flatout serve ntp --xdp native`",
        "- two CPUs: one asks and has the client's end of the connection; one answers and has the server's end",
        "- the asker leaves its CPU to the transfer's end where that is bounded, and shares it in halves where not",
        "- packets of the transfer pass both devices' programs; the asker's device is polled where answers are made",
    ]


if __name__ == "__main__":
    main()
