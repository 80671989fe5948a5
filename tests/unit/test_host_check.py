"""Row 55 to 57: which settings matter for an aim, their values now and wanted, and what cannot be changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hosts
import jsonschema
import pytest

from conftest import Cli
from flatout import schema
from flatout.host.tuning.aim import Aim, Role
from flatout.host.tuning.check import NOTRACK, HostCheck, check
from flatout.host.tuning.machine import machine
from flatout.view.terminal import tuning as view

SERVER = Aim(role="server", transport="udp", rate_per_s=500_000.0, ports=[123])
CLIENT = Aim(role="client", transport="tcp", connections=1_000_000)


def found(root: Path, aim: Aim, programs: hosts.Programs | None = None) -> HostCheck:
    return check(aim, hosts.host(root, programs))


def states(one: HostCheck) -> dict[str, str]:
    return {setting.name: setting.state for setting in one.settings}


def wanted(one: HostCheck) -> dict[str, str | None]:
    return {setting.name: setting.wanted for setting in one.settings}


def test_a_server_over_udp(tmp_path: Path) -> None:
    one = found(hosts.tree(tmp_path), SERVER)
    values = wanted(one)
    assert not one.passed
    # 20 ms of 500,000 datagrams of 832 B are 8.3 MB, of which a socket asks for half.
    assert values["net.core.rmem_max"] == str(4 << 20)
    assert values["net.core.netdev_max_backlog"] == "5000"
    assert values["rps_cpus"] == "3"
    assert values["scaling_governor"] == "performance"
    assert states(one)["net.ipv4.udp_mem"] == "ok"
    assert states(one)[NOTRACK] == "ok", "nothing is tracked"
    assert {"net.core.somaxconn", "fs.file-max", "net.ipv4.ip_local_port_range"}.isdisjoint(values)
    assert [one.key for one in one.settings if one.name == "rps_cpus"] == [
        "/sys/class/net/eth0/queues/rx-0/rps_cpus"
    ], "neither loopback nor a queue that is not there"


def test_a_client_of_a_million_connections(tmp_path: Path) -> None:
    one = found(hosts.tree(tmp_path), CLIENT)
    values = wanted(one)
    assert values["net.ipv4.ip_local_port_range"] == "1024\t65535"
    assert values["net.ipv4.tcp_tw_reuse"] == "1"
    assert values["net.ipv4.tcp_mem"] == "750000\t1500000\t3000000"
    assert values["fs.nr_open"] == "1100000"
    assert states(one)["fs.file-max"] == "ok"
    limit = next(setting for setting in one.settings if setting.name == "limit on descriptors")
    assert (limit.now, limit.wanted, limit.state) == ("20000", "1100000", "differs")
    assert "LimitNOFILE" in limit.blocked
    assert view.check(one).count("cannot be changed here: only the starter") == 1


def test_a_server_over_tcp(tmp_path: Path) -> None:
    one = found(hosts.tree(tmp_path), Aim(role="server", transport="tcp", connections=100_000))
    values = wanted(one)
    assert values["net.core.somaxconn"] == values["net.ipv4.tcp_max_syn_backlog"] == "8192"
    assert states(one)["net.ipv4.tcp_syncookies"] == "ok"
    assert values["net.core.rps_sock_flow_entries"] == values["rps_flow_cnt"] == "32768"
    more = wanted(found(tmp_path, Aim(role="server", transport="tcp", connections=5_000_000)))
    assert more["net.core.somaxconn"] == "131072", "as much as any of the scripts that it replaces"


def test_few_connections_need_no_more_ports(tmp_path: Path) -> None:
    root = hosts.tree(tmp_path)
    name = "net.ipv4.ip_local_port_range"
    few = Aim(role="client", transport="tcp", connections=1000)
    assert states(found(root, few))[name] == "ok"
    (root / hosts.file_of(name)).write_text("40000\t40099\n", encoding="ascii")
    assert states(found(root, few))[name] == "differs"


def test_memory_bounds_what_connections_may_hold(tmp_path: Path) -> None:
    root = hosts.tree(tmp_path, others={"proc/meminfo": "MemTotal: 4194304 kB"})
    assert wanted(found(root, CLIENT))["net.ipv4.tcp_mem"] == "287898\t524288\t575796"


def test_what_the_kernel_does_not_have_is_no_fault(tmp_path: Path) -> None:
    root = hosts.tree(tmp_path, {})
    one = found(root, SERVER)
    assert states(one)["net.core.rmem_max"] == "absent"
    assert "another network namespace" in one.settings[0].blocked
    assert states(one)["rps_cpus"] == "differs"


def test_a_text_that_is_no_number_is_unknown(tmp_path: Path) -> None:
    one = found(hosts.tree(tmp_path, {**hosts.SYSCTLS, "net.core.rmem_max": "much"}), SERVER)
    assert states(one)["net.core.rmem_max"] == "unknown"
    assert not one.passed
    assert "cannot be read" in view.check(one)


def test_a_read_only_file_says_whose_it_is(tmp_path: Path) -> None:
    root = hosts.tree(tmp_path)
    (root / hosts.file_of("net.core.rmem_max")).chmod(0o444)
    assert "whole host" in found(root, SERVER).settings[0].blocked


@pytest.mark.parametrize(("driver", "matters"), [("veth", True), ("dummy", False), ("", False)])
@pytest.mark.parametrize("carrier", ["1", "0"])
def test_interfaces_are_cards_or_veth_with_a_link(tmp_path: Path, driver: str, matters: bool, carrier: str) -> None:
    root = hosts.tree(tmp_path, others={"sys/class/net/x/carrier": carrier})
    devices = machine(hosts.host(root, None, hosts.Devices({"x": driver})), None).devices
    assert ("x" in devices) == (matters and carrier == "1")
    assert "eth0" in devices


def test_each_cpu_has_a_queue_to_send_by(tmp_path: Path) -> None:
    queue = "sys/class/net/eth0/queues/tx-{}/xps_cpus"
    root = hosts.tree(tmp_path, others={queue.format(0): "1", queue.format(1): "0"})
    masks = [(one.now, one.wanted) for one in found(root, SERVER).settings if one.name == "xps_cpus"]
    assert masks == [("1", "1"), ("0", "2")]


# --- Connection tracking ---


def tracking(root: Path, aim: Aim, *installed: str, **more: Any) -> Any:
    return found(root, aim, hosts.Programs(*installed, **more)).settings[-1]


def test_tracked_ports_are_to_be_left_out(tmp_path: Path) -> None:
    root = hosts.tree(tmp_path, hosts.SYSCTLS | hosts.TRACKING)
    one = tracking(root, SERVER, "nft")
    assert (one.now, one.wanted) == ("none", "output udp sport 123; prerouting udp dport 123")
    assert (one.state, one.blocked) == ("differs", "")
    far = tracking(root, Aim(role="client", transport="tcp", ports=[53]), "iptables")
    assert far.wanted == "output tcp dport 53; prerouting tcp sport 53"
    assert far.key.startswith("iptables")


def test_without_a_port_or_a_program_it_says_so(tmp_path: Path) -> None:
    root = hosts.tree(tmp_path, hosts.SYSCTLS | hosts.TRACKING)
    assert "--port" in tracking(root, Aim(role="server", transport="udp"), "nft").blocked
    assert "neither nft nor iptables" in tracking(root, SERVER).blocked


def test_rules_that_need_tracking_are_enough(tmp_path: Path) -> None:
    root = hosts.tree(tmp_path, hosts.SYSCTLS | hosts.TRACKING | {"net.netfilter.nf_conntrack_count": "0"})
    assert tracking(root, SERVER, "nft").state == "ok"
    assert tracking(root, SERVER, "nft", ruleset="ct state established accept").state == "differs"


@pytest.mark.parametrize(
    ("listed", "state"),
    [
        ("*filter\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT", "differs"),
        ("*nat\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT", "differs"),
        ("*filter\n-A INPUT -p udp -m udp --dport 53 -j DROP\nCOMMIT", "ok"),
        ("", "ok"),
    ],
)
def test_rules_of_iptables_track_too(tmp_path: Path, listed: str, state: str) -> None:
    root = hosts.tree(tmp_path, hosts.SYSCTLS | hosts.TRACKING | {"net.netfilter.nf_conntrack_count": "0"})
    one = found(root, SERVER, hosts.Programs("iptables", "iptables-save", saved=listed)).settings[-1]
    assert one.state == state


def test_a_check_loads_no_table(tmp_path: Path) -> None:
    """`iptables -t nat -S` loads a module that tracks, where none was."""
    root = hosts.tree(tmp_path, hosts.SYSCTLS | hosts.TRACKING | {"net.netfilter.nf_conntrack_count": "0"})
    programs = hosts.Programs("iptables", "ip6tables", "iptables-save", "ip6tables-save")
    found(root, SERVER, programs)
    assert not [call for call in programs.calls if "-t" in call]


def test_what_only_root_may_see_is_unknown(tmp_path: Path) -> None:
    root = hosts.tree(tmp_path, hosts.SYSCTLS | hosts.TRACKING | {"net.netfilter.nf_conntrack_count": "0"})
    programs = hosts.Programs("nft")
    programs.refuses = "Operation not permitted (you must be root)"
    one = found(root, SERVER, programs).settings[-1]
    assert (one.state, one.now) == ("unknown", None)
    assert "only root" in one.blocked


def test_where_no_port_is_known_the_table_has_room(tmp_path: Path) -> None:
    """The alternative to NOTRACK of tcpscaler: a million."""
    root = hosts.tree(tmp_path, hosts.SYSCTLS | hosts.TRACKING | {"net.netfilter.nf_conntrack_buckets": "262144"})
    one = wanted(found(root, Aim(role="server", transport="tcp"), hosts.Programs()))
    assert one["net.netfilter.nf_conntrack_max"] == one["net.netfilter.nf_conntrack_buckets"] == "1000000"
    assert "net.netfilter.nf_conntrack_max" not in wanted(found(root, SERVER))


def test_clients_on_the_link_have_room_in_the_neighbour_table(tmp_path: Path) -> None:
    names = [f"net.{family}.neigh.default.gc_thresh{number}" for family in ("ipv4", "ipv6") for number in (1, 2, 3)]
    root = hosts.tree(tmp_path, hosts.SYSCTLS | dict.fromkeys(names, "128"))
    many = wanted(found(root, Aim(role="server", transport="udp", connections=20_000)))
    assert [many[name] for name in names] == ["4096", "8192", "16384"] * 2
    assert set(names).isdisjoint(wanted(found(root, Aim(role="server", transport="udp", connections=1000))))


@pytest.mark.parametrize(
    ("name", "value", "role"),
    [
        ("net.core.somaxconn", 100_000, "server"),
        ("net.ipv4.tcp_max_syn_backlog", 100_000, "server"),
        ("fs.file-max", 20_000_000, "server"),
        ("fs.nr_open", 20_000_000, "server"),
        ("net.netfilter.nf_conntrack_max", 1_000_000, "server"),
        ("limit on descriptors", 1_048_576, "client"),
    ],
)
def test_what_the_scripts_of_tcpscaler_set_is_reached(tmp_path: Path, name: str, value: int, role: Role) -> None:
    """Theirs are of one size; these follow from the number of connections, here that of the largest experiment."""
    root = hosts.tree(tmp_path, hosts.SYSCTLS | hosts.TRACKING)
    aim = Aim(role=role, transport="tcp", connections=20_000_000)
    assert int(wanted(found(root, aim, hosts.Programs("nft")))[name] or 0) >= value


def test_a_table_that_is_too_small_is_told(tmp_path: Path) -> None:
    root = hosts.tree(tmp_path, hosts.SYSCTLS | hosts.TRACKING)
    assert wanted(found(root, CLIENT))["net.netfilter.nf_conntrack_max"] == "2000000"


def test_a_program_that_refuses_is_quoted(tmp_path: Path) -> None:
    programs = hosts.Programs("nft")
    programs.refuses = "Operation not permitted (you must be root)"
    root = hosts.tree(tmp_path, hosts.SYSCTLS | hosts.TRACKING)
    one = found(root, SERVER, programs).settings[-1]
    assert one.state == "unknown"
    assert "you must be root" in one.blocked


# --- As shown ---


def test_the_table_has_it_all(tmp_path: Path) -> None:
    text = view.check(found(hosts.tree(tmp_path), SERVER))
    assert "as a server over UDP, port 123, 500,000/s" in text
    assert "DIFFERS net.core.rmem_max" in text
    assert "risk: " in text
    assert "cannot be changed here" not in text
    assert "flatout host apply" in text
    assert max(map(len, text.splitlines())) <= 110


def test_many_queues_take_one_line(tmp_path: Path) -> None:
    files = {f"sys/class/net/eth0/queues/rx-{n}/rps_cpus": "0" for n in range(32)}
    root = hosts.tree(tmp_path, others={**files, "sys/devices/system/cpu/online": "0-63"})
    text = view.check(found(root, SERVER))
    assert text.count("rps_cpus") == 1
    assert "and 31 more" in text


def test_the_command_prints_what_the_schema_says(cli: Cli) -> None:
    done = cli("host", "check", "--role", "server", "--for", "udp", "--rate", "500k", "--port", "123", "--json", "-")
    one = json.loads(done.out)
    jsonschema.validate(one, schema.schema())
    assert one["kind"] == "host-check"
    assert one["aim"] == {
        "role": "server",
        "transport": "udp",
        "connections": None,
        "rate_per_s": 500_000.0,
        "ports": [123],
        "interface": None,
    }
    assert done.code == (0 if one["passed"] else 1)
    assert "as a server over UDP" in done.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--role", "server", "--for", "udp", "--port", "0"), "--port 0"),
        (("--role", "server", "--for", "udp", "--rate", "fast"), "--rate"),
        (("--role", "server", "--for", "udp", "--connections", "0"), "--connections"),
        (("--role", "guest", "--for", "udp"), "role"),
        (("--role", "server"), "for"),
    ],
)
def test_a_wrong_flag_is_named(cli: Cli, arguments: tuple[str, ...], named: str) -> None:
    done = cli("host", "check", *arguments)
    assert done.code == 2
    assert named in done.err + done.out
