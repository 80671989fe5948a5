"""A capacity check for a test suite: the server still holds what it held, with the latency it had, or it fails.

Run it as it is: it starts flatout's own test server. In your own suite name your server instead.
"""

from __future__ import annotations

import sys

import flatout


def check(target: str) -> list[str]:
    """What the server does not meet any more; empty if all is well."""
    result = flatout.load(
        "ntp", target, rate="20k", duration="3s", arrivals="poisson", require=["loss<0.1%", "p99<20ms"]
    )
    if result.verdict != "ok":
        # Never blame the server for what this machine could not ask.
        return [f"{result.verdict}: {result.why}"]
    return [f"{r.expression}: measured {r.value}" for r in result.requirements if not r.met]


def main() -> int:
    """Checks flatout's own server on a free port."""
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        complaints = check(server.address)
    print("\n".join(complaints) or "all is well")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
