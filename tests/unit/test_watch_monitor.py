"""The lines of `flatout watch`: rates, shares, drops by place, CPUs, talkers, spikes, the total."""

from __future__ import annotations

import msgspec
import pytest
from watched import NOON, SIZE, FakeTraffic, Watched, even, host

from flatout.watch.model import WatchLine
from flatout.watch.source import Prefix


def test_packets_and_bytes_of_a_second_and_of_all() -> None:
    watched = Watched()
    watched.second(even(1000))
    line = watched.second(reading=watched.traffic.reading(even(500), answered=0.5))
    [port] = line.ports
    assert (port.port, port.packets_in, port.bytes_in) == ("udp/123", 500, 500 * SIZE)
    assert port.bins_in == even(500)
    assert port.packets_out == sum(port.bins_out or ())
    assert (line.t_s, line.unix_s, line.seconds) == (2.0, NOON + 2, 1.0)
    total = watched.monitor.total(NOON + 2)
    assert total.total
    assert (total.ports[0].packets_in, total.ports[0].bytes_in) == (1500, 1500 * SIZE)
    assert total.ports[0].bins_in is None


def test_shares() -> None:
    watched = Watched()
    line = watched.second(reading=watched.traffic.reading([100] * 64, answered=0.25, v6=0.1, sntp=0.75))
    [port] = line.ports
    assert (port.ipv6, port.responses) == (pytest.approx(0.1), pytest.approx(0.25))
    assert port.mix == {"sntp": pytest.approx(0.75), "version_4": 1.0}
    quiet = watched.second()
    assert (quiet.ports[0].ipv6, quiet.ports[0].responses, quiet.ports[0].mix) == (None, None, {})


def test_a_port_of_no_known_protocol_has_packets_out_for_each_in() -> None:
    watched = Watched(FakeTraffic("tcp/53"))
    [port] = watched.second(reading=watched.traffic.reading([64] * 64, answered=0.5)).ports
    assert (port.responses, port.mix) == (pytest.approx(0.5), {})


def test_drops_by_place() -> None:
    watched = Watched()
    grown = {
        "Udp__RcvbufErrors": 11,
        "Udp6RcvbufErrors": 1,
        "TcpExt__ListenOverflows": 2,
        "dev__eth0__rx_dropped": 3,
        "dev__eth1__rx_dropped": 40,
        "dev__eth0__tx_dropped": 5,
        "conntrack__drop": 6,
        "backlog": 7,
    }
    line = watched.second(even(10), **grown, drops=12)
    found = {place: count for place, count in line.drops.items() if count}
    assert found == {
        "receive_buffer": 12,
        "accept_queue": 2,
        "device_in": 43,
        "device_out": 5,
        "conntrack": 6,
        "backlog": 7,
    }
    assert line.ports[0].socket is not None
    assert (line.ports[0].socket.drops, line.ports[0].socket.processes) == (12, ["chronyd (812)"])
    assert not any(watched.second(even(10), **grown, drops=12).drops.values()), "none of the next second"
    assert watched.monitor.total(NOON).ports[0].socket.drops == 12  # type: ignore[union-attr]


def test_drops_of_chosen_interfaces() -> None:
    watched = Watched(interfaces=["eth1"])
    line = watched.second(dev__eth0__rx_dropped=3, dev__eth1__rx_dropped=40)
    assert line.drops["device_in"] == 40


def test_what_cannot_be_read_is_named() -> None:
    watched = Watched()
    reading = host(1.0)
    blind = reading._replace(counters=reading.counters._replace(blind={"netstat": "hidden"}), backlog=None)
    watched.at += 1
    line = watched.monitor.second(moment_of(watched), watched.traffic.reading(), blind)
    assert "accept_queue" not in line.drops
    assert line.blind["accept_queue"] == "hidden"
    assert "softnet_stat" in line.blind["backlog"]


def moment_of(watched: Watched):
    from flatout.watch.monitor import Moment

    return Moment(watched.at - 1, NOON, float(watched.at))


def test_a_socket_that_comes_counts_from_zero_and_one_that_does_not_tell_is_unknown() -> None:
    watched = Watched()
    reading = host(1.0)
    fresh = reading._replace(sockets={"udp/123": reading.sockets["udp/123"]._replace(drops={77: 4, 99: 5})})  # type: ignore[union-attr]
    line = watched.monitor.second(moment_of(watched), watched.traffic.reading(), fresh)
    assert line.ports[0].socket.drops == 9  # type: ignore[union-attr]
    line = watched.second(drops=None)  # type: ignore[arg-type]
    assert line.ports[0].socket.drops is None  # type: ignore[union-attr]


def test_reasons_are_those_of_the_second() -> None:
    watched = Watched()
    watched.second(reading=watched.traffic.reading(reasons={"NETFILTER_DROP": 5}))
    line = watched.second(reading=watched.traffic.reading(reasons={"NETFILTER_DROP": 8, "NO_SOCKET": 1}))
    assert line.reasons == {"NETFILTER_DROP": 3, "NO_SOCKET": 1}
    assert watched.monitor.total(NOON).reasons == {"NETFILTER_DROP": 8, "NO_SOCKET": 1}


def test_cpus_beside_their_packets() -> None:
    watched = Watched()
    line = watched.second(even(100), busy=0.5)  # type: ignore[arg-type]
    assert line.cpus["0"].busy == pytest.approx(0.5)
    assert line.cpus["0"].softirq == pytest.approx(0.25)
    assert (line.cpus["0"].packets, line.cpus["1"].packets) == (200, 0)


def test_talkers_of_the_last_ten_seconds() -> None:
    watched = Watched()
    big, small = Prefix("192.0.2.0/24", 90, 6840), Prefix("2001:db8:1::/48", 10, 960)
    line = watched.second(reading=watched.traffic.reading(even(100), prefixes=[small, big]))
    assert [(one.prefix, one.packets, one.share) for one in line.ports[0].talkers] == [
        ("192.0.2.0/24", 90, 0.9),
        ("2001:db8:1::/48", 10, 0.1),
    ]
    for _ in range(9):
        line = watched.second(reading=watched.traffic.reading(even(100), prefixes=[small]))
    assert [(one.prefix, one.packets) for one in line.ports[0].talkers] == [
        ("2001:db8:1::/48", 100),
        ("192.0.2.0/24", 90),
    ]
    line = watched.second(reading=watched.traffic.reading(even(100), prefixes=[small]))
    assert [one.prefix for one in line.ports[0].talkers] == ["2001:db8:1::/48"]


def test_memory_of_talkers_is_bounded() -> None:
    watched = Watched()
    for second in range(30):
        many = [Prefix(f"10.{second}.{n}.0/24", 1, 76) for n in range(250)]
        line = watched.second(reading=watched.traffic.reading(even(250), prefixes=many))
    assert len(line.ports[0].talkers) == 10
    window = watched.monitor._ports[0].window
    assert sum(len(prefixes) for prefixes, _ in window._seconds) == 10 * 250


def test_a_spike_is_flagged_with_its_drops_and_talkers_and_kept() -> None:
    watched = Watched()
    for _ in range(10):
        assert watched.second(even(640)).spikes == []
    bins = even(640)
    bins[32:34] = [3000, 2000]
    loud = Prefix("192.0.2.0/24", 5000, 380_000)
    line = watched.second(reading=watched.traffic.reading(bins, prefixes=[loud], answered=0.0), Udp__RcvbufErrors=44)
    [spike] = line.spikes
    assert (spike.port, spike.direction, spike.packets) == ("udp/123", "in", 5000)
    assert spike.begin_unix_s == NOON + 10.5
    assert (spike.seconds, spike.peak_per_s, spike.usual_per_s) == (2 / 64, 3000 * 64, 640)
    assert spike.drops == 44
    assert spike.talkers[0].prefix == "192.0.2.0/24"
    assert watched.second(even(640), Udp__RcvbufErrors=44).spikes == []
    assert watched.monitor.total(NOON).spikes == [spike]
    assert watched.monitor.spikes_seen["udp/123", "in"] == 1


def test_a_spike_that_goes_on_is_one() -> None:
    watched = Watched()
    for _ in range(10):
        watched.second(even(6400))
    for lasted in (1, 2, 3):
        found = [one for one in watched.second(even(64_000)).spikes if one.direction == "in"]
        assert [(one.seconds, one.begin_unix_s) for one in found] == [(lasted, NOON + 10)]
    assert [one.packets for one in watched.monitor.spikes if one.direction == "in"] == [192_000]


def test_kept_spikes_are_bounded() -> None:
    watched = Watched()
    burst = even(64)
    burst[10] = 5000
    for _ in range(20):
        watched.second(even(64))
    for _ in range(150):
        watched.second(burst)
        for _ in range(3):
            watched.second(even(64))
    assert len(watched.monitor.spikes) == 100
    assert watched.monitor.spikes_seen["udp/123", "in"] == 150


def test_a_second_that_was_not_watched_as_a_whole_is_not_judged() -> None:
    watched = Watched()
    for _ in range(10):
        watched.second(even(640))
    watched.at += 1
    part = watched.monitor.second(
        moment_of(watched), watched.traffic.reading([9999] + [0] * 63), host(10.25), whole=False
    )
    assert part.spikes == []
    assert part.seconds == pytest.approx(0.25)


def test_lines_are_what_the_schema_says() -> None:
    watched = Watched()
    line = watched.second(even(100))
    again = msgspec.json.decode(msgspec.json.encode(line), type=WatchLine)
    assert again == line
