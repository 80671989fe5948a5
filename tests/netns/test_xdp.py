"""NTP answered in the network driver: over veth, between namespaces, by clients that cannot tell the difference."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from xdp_server import PORT, STATIC, ask, attached, in_mode, serving

from conftest import Cli, Net, wait_until

pytestmark = pytest.mark.root

NTPLIB = """
import ntplib, sys
for version in (2, 3, 4):
    answer = ntplib.NTPClient().request(sys.argv[1], version=version, timeout=10)
    # The time that an address takes to be found is on one side only.
    print(answer.stratum, answer.mode, abs(answer.offset) <= answer.delay / 2 + 1e-3 or (answer.offset, answer.delay))
"""


@pytest.mark.parametrize("mode", ["generic", "native"])
def test_all_versions_and_modes_of_both_families(net: Net, cli: Cli, mode: str) -> None:
    with in_mode(cli, net, mode), serving(cli, net, "--xdp", mode, *STATIC) as served:
        assert attached(net) == {"generic": "xdpgeneric", "native": "xdp"}[mode]
        # Before its first state the sockets answer.
        served.wait(net, net.right_v4)
        first, by_both = served.stats(), served.for_driver
        for address in (net.right_v4, net.right_v6):
            answers = ask(net, address)
            assert [answer[1] for answer in answers] == [address] * 8
            said = [bytes.fromhex(answer[0]) for answer in answers]
            wanted = [version << 3 | {1: 2, 3: 4}[mode] for version in range(1, 5) for mode in (1, 3)]
            assert [answer[0] & 0x3F for answer in said] == wanted
            assert {(len(answer), answer[1], answer[2], answer[12:16]) for answer in said} == {(48, 1, 6, b"GPS\0")}
            for answer in said:
                received, sent = (int.from_bytes(answer[at : at + 8]) for at in (32, 40))
                assert answer[24:32] == bytes(range(8))
                assert received < sent
                assert abs(received / 2**32 - 2_208_988_800 - time.time()) < 5
        stats = served.stats()
        assert [stats[name] - first[name] for name in ("received", "answered")] == [16, 16], stats
        assert served.for_driver - by_both == 16, stats
        assert stats["sent_bytes"] - first["sent_bytes"] == 8 * (76 + 96)
        by_sockets = sum(worker["received"] for worker in stats["workers"])
        assert by_sockets == stats["received"] - stats["xdp"]["answered"] < stats["received"], stats
        assert (stats["xdp"]["mode"], stats["xdp"]["interface"]) == (mode, "eth0")
    assert attached(net) == ""


@pytest.mark.peer
@pytest.mark.parametrize("address", ["right_v4", "right_v6"])
def test_real_clients(net: Net, cli: Cli, peer: Callable[[str], str], address: str, tmp_path: Path) -> None:
    asked = str(getattr(net, address))
    config = tmp_path / "client.conf"
    config.write_text(f"server {asked} iburst xleave\npidfile {tmp_path}/pid\ncmdport 0\n", encoding="ascii")
    with serving(cli, net, "--xdp", "auto", *STATIC) as served:
        assert net.run(net.left, sys.executable, "-c", NTPLIB, asked).split() == ["1", "4", "True"] * 3
        assert " s1 no-leap" in net.run(net.left, peer("ntpdig"), "-t", "10", "-p", "2", asked)
        assert served.for_driver == 5, "none of them was asked by a socket"
        command = ["ip", "netns", "exec", net.left, peer("chronyd"), "-Q", "-t", "20", "-u", "root", "-f", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
        offset = re.search(r"System clock wrong by (-?[\d.]+) seconds", done.stdout + done.stderr)
        assert done.returncode == 0, done
        assert offset, done
        assert abs(float(offset[1])) < 0.1
        stats = served.stats()
        assert stats["answered"] == stats["received"] > 5, "interleaved ones: by the sockets"
        assert stats["xdp"]["passed"]["not_plain"] > 0


def test_a_vlan_is_answered_with_its_tag(net: Net, cli: Cli, peer: Callable[[str], str]) -> None:
    for name, address in ((net.left, "10.98.0.1/24"), (net.right, "10.98.0.2/24")):
        made = ["ip", "netns", "exec", name, "ip", "link", "add", "link", "eth0", "name", "tagged", "type", "vlan"]
        if subprocess.run([*made, "id", "7"], capture_output=True, check=False).returncode:
            pytest.skip("this kernel has no VLANs")
        net.run(name, "ip", "address", "add", address, "dev", "tagged")
        net.run(name, "ip", "link", "set", "tagged", "up")
    with serving(cli, net, "--xdp", "generic", *STATIC) as served:
        assert len(ask(net, "10.98.0.2", 3)) == 3
        assert served.by_driver == 0, "the tag is beside the frame: it is for the sockets"
        net.run(net.left, peer("ethtool"), "-K", "eth0", "txvlan", "off")
        served.wait(net, "10.98.0.2")
    with serving(cli, net, "--xdp", "generic", "--interface", "eth0", *STATIC) as served:
        assert ask(net, "10.98.0.2", 1, 0.3) == [["none"]], "sockets of one interface get none of its VLANs"
        served.wait(net, net.right_v4)


def test_what_is_not_plain_is_answered_by_the_sockets(net: Net, cli: Cli) -> None:
    with serving(cli, net, "--xdp", "generic", *STATIC) as served:
        flags = ("--rate", "200", "--for", "0.5s", "--json", "-", "--quiet", "--extension-field", "0x104f:28")
        loaded = cli("load", "ntp", f"{net.right_v4}:{PORT}", "--warmup", "0", *flags, inside=net.left)
        outcomes = loaded.json["outcomes"]
        assert outcomes["answered"] + outcomes["late"] == outcomes["sent"] > 10, outcomes
        stats = served.stats()
        assert stats["answered"] == stats["received"] == sum(stats["xdp"]["passed"].values()) > 10
        assert stats["xdp"]["passed"]["not_plain"] > 10
        assert stats["xdp"]["answered"] == 0
        served.wait(net, net.right_v4)


def test_a_killed_server_leaves_nothing_behind(net: Net, cli: Cli) -> None:
    running = cli.start("serve", "ntp", "--listen", f"*:{PORT}", "--xdp", "generic", inside=net.right)
    wait_until(lambda: bool(attached(net)) or running.process.poll() is not None, message="attached")
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    wait_until(lambda: not attached(net), message="detached")


def test_a_stopped_server_does_not_answer_for_longer_than_its_lease(net: Net, cli: Cli) -> None:
    with serving(cli, net, "--xdp", "generic", *STATIC) as served:
        served.wait(net, net.right_v4)
        before = served.stats()["xdp"]
        served.running.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(0.25)
            assert ask(net, net.right_v4, 1, 0.2) == [["none"]]
        finally:
            served.running.process.send_signal(signal.SIGCONT)
        assert served.stats()["xdp"]["passed"]["no_state"] > before["passed"]["no_state"]
        served.wait(net, net.right_v4)


def test_a_state_that_is_stale_is_for_the_sockets(net: Net, cli: Cli) -> None:
    source = cli.start("serve", "ntp", "--listen", "127.0.0.1:1124", *STATIC, "--for", "100s", inside=net.right)
    wait_until(lambda: "Ctrl-C" in source.err.read_text(), message="the source")
    with serving(cli, net, "--xdp", "generic", "--upstream", "127.0.0.1:1124", "--max-age", "2s") as served:
        wait_until(lambda: served.stats()["state"]["told"] > 0, message="told")
        served.wait(net, net.right_v4)
        said = bytes.fromhex(ask(net, net.right_v4, 1)[0][0])
        assert (said[0] >> 6, said[1], said[12:16]) == (0, 1, b"GPS\0")
        source.kill()

        def stratum() -> int:
            return bytes.fromhex(ask(net, net.right_v4, 1)[0][0])[1]

        wait_until(lambda: stratum() == 0, message="no time")
        before = served.stats()["xdp"]
        assert [stratum() for _ in range(5)] == [0] * 5
        after = served.stats()["xdp"]
        assert after["answered"] == before["answered"]
        assert after["passed"]["no_state"] == before["passed"]["no_state"] + 5


def test_an_address_that_comes_later(net: Net, cli: Cli) -> None:
    with serving(cli, net, "--xdp", "generic", *STATIC) as served:
        net.run(net.right, "ip", "address", "add", "10.99.0.78/24", "dev", "eth0")
        served.wait(net, "10.99.0.78")
        net.run(net.right, "ip", "address", "delete", "10.99.0.78/24", "dev", "eth0")
        net.run(net.left, "ip", "neighbour", "replace", "10.99.0.78", "dev", "eth0", "lladdr", _ethernet(net))
        wait_until(lambda: ask(net, "10.99.0.78", 1, 0.2) == [["none"]], message="it is gone")


def _ethernet(net: Net) -> str:
    found = json.loads(net.run(net.right, "ip", "-json", "link", "show", "eth0"))
    return str(found[0]["address"])


def test_what_is_forwarded_is_left_alone(net: Net, cli: Cli) -> None:
    """A router that serves time answers for itself only."""
    with serving(cli, net, "--xdp", "generic", *STATIC) as served:
        net.run(net.left, "ip", "route", "add", "10.97.0.0/24", "via", net.right_v4)
        assert ask(net, "10.97.0.1", 2, 0.2) == [["none"]] * 2
        assert served.by_driver == 0
        passed = served.stats()["xdp"]["passed"]
        assert passed["address"] + passed["no_state"] == 2


def test_another_program_is_left_alone(net: Net, cli: Cli) -> None:
    with serving(cli, net, "--xdp", "generic", *STATIC) as served:
        flags = ("--listen", "*:1124", "--for", "1s")
        for mode in ("generic", "native"):
            refused = cli("serve", "ntp", *flags, "--xdp", mode, inside=net.right)
            assert refused.code == 2, refused.err
            assert "another XDP program" in refused.err
        auto = cli("serve", "ntp", *flags, "--xdp", "auto", inside=net.right)
        assert auto.code == 0, auto.err
        assert "xdp: sockets answer" in auto.err
        assert "another XDP program" in auto.err
        served.wait(net, net.right_v4)


def test_an_interface_that_goes_down_and_away(net: Net, cli: Cli) -> None:
    with serving(cli, net, "--xdp", "generic", *STATIC) as served:
        net.run(net.right, "ip", "link", "set", "eth0", "down")
        net.run(net.right, "ip", "link", "set", "eth0", "up")
        wait_until(lambda: ask(net, net.right_v4, 1, 0.3) != [["none"]], message="up again")
        served.wait(net, net.right_v4)
        net.run(net.right, "ip", "link", "delete", "eth0")
        wait_until(lambda: "xdp: sockets answer: the interface is gone" in str(served.stats()["notes"]), message="said")
        assert len(ask(net, "127.0.0.1", 1, where=net.right)) == 1, "the sockets go on"


def test_what_the_driver_does_not_do(net: Net, cli: Cli) -> None:
    for flags, words in [
        (("--interface", "lo"), "'lo' has no driver"),
        (("--listen", "127.0.0.1:1124"), "127.0.0.1"),
    ]:
        listen = () if "--listen" in flags else ("--listen", "*:1124")
        refused = cli("serve", "ntp", "--xdp", "generic", *listen, *flags, "--for", "1s", inside=net.right)
        assert refused.code == 2, refused.err
        assert words in refused.err
    assert "not answered in the network driver" in cli("serve", "echo", "--xdp", "auto", "--for", "1s").err


def test_privileges(net: Net, cli: Cli) -> None:
    nobody = ("setpriv", "--bounding-set=-net_admin,-bpf,-sys_admin", "--inh-caps=-net_admin,-bpf,-sys_admin")
    flags = ("serve", "ntp", "--listen", "*:1124", "--for", "1s", "--xdp")
    refused = cli.start(*flags, "generic", inside=net.right, through=nobody).end()
    assert (refused.code, "CAP_NET_ADMIN" in refused.err) == (2, True), refused.err
    without = cli.start(*flags, "auto", inside=net.right, through=nobody).end()
    assert (without.code, "sockets answer" in without.err) == (0, True), without.err
    with serving(cli, net, "--xdp", "generic", "--user", "nobody", *STATIC) as served:
        time.sleep(0.3)
        served.wait(net, net.right_v4)
