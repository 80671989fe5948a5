"""ntpdig of NTPsec, a second client, asks `serve ntp` at NTP's own port, in a network namespace of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from conftest import Cli, Net, wait_until

pytestmark = [pytest.mark.peer, pytest.mark.root]


@pytest.mark.parametrize("address", ["right_v4", "right_v6"])
def test_ntpdig_gets_an_answer(net: Net, peer: Callable[[str], str], cli: Cli, address: str) -> None:
    asked = str(getattr(net, address))
    listen = f"[{asked}]:123" if ":" in asked else f"{asked}:123"
    serving = cli.start("serve", "ntp", "--listen", listen, "--json", "totals.json", "--for", "60s", inside=net.right)
    wait_until(lambda: "Ctrl-C" in serving.err.read_text(), message="serving")
    reported = net.run(net.left, peer("ntpdig"), "-t", "10", "-p", "2", asked)
    serving.interrupt()
    assert serving.end().code == 0
    offset = re.search(rf" ([+-]?[\d.]+) \+/- [\d.]+ {re.escape(asked)} s10 no-leap", reported)
    assert offset, reported
    assert abs(float(offset[1])) < 0.1, "the same clock"
    totals = json.loads((cli.folder / "totals.json").read_text().splitlines()[-1])
    assert totals["received"] == totals["answered"] == 2
