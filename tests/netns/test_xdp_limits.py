"""Lists, rates of clients and a bandwidth in the network driver: over veth, between namespaces."""

from __future__ import annotations

import time

import pytest
from xdp_server import PORT, STATIC, ask, in_mode, serving

from conftest import Cli, Net, wait_until

pytestmark = pytest.mark.root


def test_limits_hold_in_the_driver(net: Net, cli: Cli) -> None:
    """A denied client gets nothing, a limited one its burst; a reload changes both, and clients stay known."""
    denied = cli.folder / "denied"
    denied.write_text(f"{net.left_v4}/32\n")
    limits = ("--deny", str(denied), "--client-rate", "1/1000s", "--client-burst", "3", "--client-leak", "0", "--kod")
    with in_mode(cli, net, "native"), serving(cli, net, "--xdp", "native", *limits, *STATIC) as served:
        wait_until(lambda: "xdp: eth0, native" in str(served.stats()["notes"]), message="attached")
        time.sleep(0.2)
        assert ask(net, net.right_v4, 2, 0.2) == [["none"]] * 2
        said = ask(net, net.right_v6, 6, 0.2)
        stats = served.stats()
        # A busy host may let the lease run out: the sockets then answer, each client its burst.
        passed = sum(stats["xdp"]["passed"].values())
        time_given = [answer for answer in said if answer != ["none"] and bytes.fromhex(answer[0])[1] == 1]
        assert 3 <= len(time_given) <= 3 + passed, (said, passed)
        assert [bytes.fromhex(said[3][0])[12:16], said[5]] == [b"RATE", ["none"]] or passed
        assert (stats["dropped"]["denied"], stats["received"]) == (2, 8)
        assert stats["dropped"]["rate_limited"] + stats["answered"] == 6
        assert stats["xdp"]["dropped"]["denied"] > 0
        assert (stats["kissed"], stats["xdp"]["kissed"]) == (1, 1) or passed
        assert served.control("clients").split()[5:8] == ["3", "3", "0"] or passed, "answered, limited, withheld"
        denied.write_text(f"{net.left_v6}/128\n")
        served.control("reload")
        assert [answer[1] for answer in ask(net, net.right_v4, 3)] == [net.right_v4] * 3
        assert ask(net, net.right_v6, 1, 0.2) == [["none"]]
        assert served.stats()["dropped"]["denied"] == 3


def test_the_bandwidth_holds_in_the_driver(net: Net, cli: Cli) -> None:
    with serving(cli, net, "--xdp", "generic", "--max-rate", "80kbps", *STATIC) as served:
        flags = ("--rate", "2000", "--for", "1s", "--warmup", "0", "--json", "-", "--quiet")
        loaded = cli("load", "ntp", f"{net.right_v4}:{PORT}", *flags, inside=net.left)
        stats = served.stats()
        # A full bucket of 16 KiB, 10 kB in this second and some more; each path may spend the same for 50 ms.
        answered = loaded.json["outcomes"]["answered"] + loaded.json["outcomes"]["late"]
        assert (16 << 10) <= stats["sent_bytes"] == 76 * stats["answered"] < (16 << 10) + 20_000, stats
        assert answered == stats["answered"]
        # A busy host asks less often than that.
        assert stats["received"] == stats["answered"] + stats["dropped"]["over_budget"] > 250
        assert stats["xdp"]["dropped"]["over_budget"] > 20
