"""`serve record` and `load record` through the command line: rows 66 to 72 and 74 of what the seeds can do."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from test_contract import check

import flatout
from conftest import Cli, Ran, Running, free_port, wait_until

FORMAT = "id:u4 seq:u4 sent:u8 x:f4 y:f4"
SIZE = 24
JSON = ("--json", "-", "--quiet")


class Receiving(NamedTuple):
    """A receiver that runs, and where."""

    running: Running
    address: str

    @property
    def reported(self) -> str:
        return self.running.err.read_text(encoding="utf-8")

    def seconds(self) -> list[Any]:
        """The objects so far; the last line may be under way."""
        *whole, _ = self.running.out.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in whole]

    def stop(self) -> tuple[Any, Ran]:
        """Ends it; the totals, and all that it left."""
        self.running.interrupt()
        done = self.running.end()
        assert done.code == 0, done.err
        return json.loads(done.out.splitlines()[-1]), done


Receive = Callable[..., Receiving]


@pytest.fixture
def receive(cli: Cli) -> Receive:
    """Starts receivers and waits until they listen."""

    def start(*flags: object) -> Receiving:
        address = f"127.0.0.1:{free_port()}"
        started = Receiving(cli.start("serve", "record", "--listen", address, "--json", "-", *flags), address)
        wait_until(lambda: "Ctrl-C stops it" in started.reported or started.running.process.poll() is not None)
        assert started.running.process.poll() is None, started.reported
        return started

    return start


def send(address: str, *messages: bytes) -> None:
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for message in messages:
            sock.sendto(message, (host, int(port)))


def record(sequence: int, identity: int = 1) -> bytes:
    return struct.pack("<IIQff", identity, sequence, 0, 0.0, 0.0)


def came(receiving: Receiving, number: int) -> None:
    """Waits until so many messages came, as the lines of seconds tell."""
    wait_until(lambda: sum(line["received"] for line in receiving.seconds()) >= number)


def test_row_66_the_seeds_message_at_a_rate_by_many_senders(cli: Cli, receive: Receive) -> None:
    """Eight senders, four bytes each: the run of tokio_udp_rate_test, a thousandth of it."""
    receiving = receive("--format", "movement")
    flags = "--format movement --threads 2 --players 8 --rate 8k --count 8k"
    run = cli("load", "record", receiving.address, *flags.split(), *JSON).json
    check(run, "LoadResult")
    totals, _ = receiving.stop()
    assert run["outcomes"]["planned"] == 8_000
    assert run["scenario"]["senders"] == 8
    assert totals["received"] == totals["parsed"] == run["outcomes"]["received"]
    assert sum(worker["bytes"] for worker in totals["workers"]) == 4 * totals["received"]


def test_row_66_players_send_at_a_tick(cli: Cli, receive: Receive) -> None:
    receiving = receive()
    flags = "--players 100 --tick 20 --spread 0% --count 2k"
    run = cli("load", "record", receiving.address, *flags.split(), *JSON).json
    totals, _ = receiving.stop()
    assert run["scenario"]["spread"] == 0.0
    assert run["outcomes"]["planned"] == 2_000
    assert totals["senders"] == 100


def test_row_67_bincodes_bytes_are_parsed_and_handed_over_through_a_bounded_queue(receive: Receive) -> None:
    """A little-endian u32, 7, as bincode makes it of the seed's message; another number is another message."""
    receiving = receive("--format", "movement", "--queue", "100", "--full", "wait")
    send(receiving.address, *[bytes.fromhex("07000000")] * 300, bytes.fromhex("00000007"), b"\x07", b"\x07" * 5)
    came(receiving, 303)
    totals, done = receiving.stop()
    assert (totals["received"], totals["parsed"], totals["handed_over"]) == (303, 300, 300)
    assert totals["malformed"] == {"short": 1, "long": 1, "wrong_constant": 1}
    assert (totals["queue"]["size"], totals["queue"]["policy"], totals["queue"]["dropped"]) == (100, "wait", 0)
    assert "malformed 3 (too short 1, too long 1, with another constant 1)" in done.err


def test_row_67_the_default_address_is_the_seeds(cli: Cli) -> None:
    done = cli("serve", "record", "--for", "1ms")
    assert "127.0.0.1:31234" in done.err


def test_row_68_rates_at_receiver_and_handler_and_the_total_count(receive: Receive) -> None:
    receiving = receive()
    send(receiving.address, *(record(n) for n in range(500)))
    came(receiving, 500)
    totals, done = receiving.stop()
    assert re.search(r"\d+\.\d s +\d\.\d{3}M pps .*  parsed +[\d.]+ k?/s  handed over +[\d.]+ k?/s", done.err)
    assert "received 500 = parsed 500 + malformed 0" in done.err
    assert totals["total"] is True


def test_row_69_one_receiver_or_two(cli: Cli, receive: Receive) -> None:
    """Two receivers behind one load: each is asked, and the sum is what came."""
    one, two = receive(), receive()
    flags = "--rate 10k --count 3k --players 4"
    run = cli("load", "record", f"{one.address},{two.address}", *flags.split(), *JSON).json
    check(run, "LoadResult")
    parts = [receiving.stop()[0]["parsed"] for receiving in (one, two)]
    assert all(parts)
    assert sum(parts) == run["outcomes"]["received"]


def test_row_69_each_of_several_receivers_gets_something(cli: Cli, receive: Receive) -> None:
    receivers = [receive() for _ in range(3)]
    flags = "--rate 5k --count 1k --players 4 --flows 3"
    cli("load", "record", ",".join(receiving.address for receiving in receivers), *flags.split(), *JSON)
    assert all(receiving.stop()[0]["parsed"] for receiving in receivers)


@pytest.mark.parametrize("flags", [(), ("--shared",), ("--no-gro",)], ids=str)
def test_row_70_threads_with_sockets_of_their_own_or_one_shared(cli: Cli, receive: Receive, flags: Any) -> None:
    receiving = receive("--threads", "2", *flags)
    load = ("--rate", "20k", "--count", "5k", "--flows", "64", "--gso", *JSON)
    run = cli("load", "record", receiving.address, *load).json
    totals, done = receiving.stop()
    assert len(totals["workers"]) == 2
    assert sum(worker["received"] for worker in totals["workers"]) == totals["received"] == run["outcomes"]["received"]
    assert "by worker: " in done.err
    assert ("2 threads on one socket" in done.err) == ("--shared" in flags)


def test_row_71_a_line_a_second_as_udpreceiver_writes_it(receive: Receive) -> None:
    receiving = receive()
    wait_until(receiving.seconds)
    _, done = receiving.stop()
    assert re.search(r"  0\.000M pps   0\.000MiB /   0\.000Mb", done.err)


def test_row_72_pins_and_what_the_machine_is(receive: Receive) -> None:
    receiving = receive("--cpus", "0")
    _, done = receiving.stop()
    assert "1 thread on CPUs 0" in done.err
    assert re.search(r"^Machine: .*lo has \d+ RX queue", done.err, re.MULTILINE)
    assert re.search(r"Memory: at most about [\d.]+ MiB \(with 1,000,000 senders\)", done.err)


def test_row_72_the_receiving_threads_keep_to_the_cpus_named(receive: Receive) -> None:
    """What the kernel says of each of them, in turn."""
    named = sorted(os.sched_getaffinity(0))[-2:]
    receiving = receive("--threads", "3", "--cpus", ",".join(map(str, named)))
    tasks = Path(f"/proc/{receiving.running.process.pid}/task")

    def kept() -> list[str]:
        found = [task for task in tasks.iterdir() if (task / "comm").read_text() == "flatout-receive\n"]
        reported = "".join((task / "status").read_text() for task in found)
        return sorted(re.findall(r"^Cpus_allowed_list:\t(.+)$", reported, re.MULTILINE))

    wanted = sorted(str(named[n % len(named)]) for n in range(3))
    wait_until(lambda: kept() == wanted, message=f"on CPUs {wanted}")
    receiving.stop()


@pytest.mark.parametrize("protocol", ["record", "ntp"])
def test_cpus_that_it_may_not_use_are_bad_use(cli: Cli, protocol: str) -> None:
    done = cli("serve", protocol, "--listen", "127.0.0.1:0", "--cpus", max(os.sched_getaffinity(0)) + 1)
    assert done.code == 2
    assert "are not among those this process may use" in done.err


def test_row_74_loss_is_known_by_sequence_numbers(receive: Receive) -> None:
    receiving = receive()
    sent = [0, 1, 2, 5, 4, 6, 6, 9]  # 3, 7 and 8 are missing; 4 is late; 6 came twice
    send(receiving.address, *(record(n) for n in sent), *(record(n, identity=2) for n in (0, 1)))
    came(receiving, 10)
    totals, done = receiving.stop()
    assert (totals["missing"], totals["reordered"], totals["duplicate"], totals["senders"]) == (3, 1, 1, 2)
    assert "of 2 senders: lost 3, duplicate 1, reordered 1" in done.err


def test_row_74_the_sender_knows_too(cli: Cli, receive: Receive) -> None:
    """What is sent is received, lost or malformed, exactly, and the two counts agree."""
    receiving = receive()
    flags = ("--rate", "5k", "--count", "1k", "--players", "7", "--require", "loss<99%", *JSON)
    done = cli("load", "record", receiving.address, *flags)
    outcomes = done.json["outcomes"]
    assert done.code in (0, 4), done.err
    assert outcomes["sent"] == outcomes["received"] + outcomes["lost"] + outcomes["invalid"]
    totals, _ = receiving.stop()
    assert outcomes["received"] == totals["parsed"] == outcomes["sent"] - totals["missing"]


def test_every_second_has_a_length_and_a_line(cli: Cli, receive: Receive) -> None:
    receiving = receive()
    done = cli("load", "record", receiving.address, "--rate", "1k", "--for", "2s", "--json", "-")
    reported = [second["t_s"] for second in done.json["intervals"]]
    assert reported[:2] == [1.0, 2.0]
    assert len(set(reported)) == len(reported), "a rest without length"
    assert [float(line.split()[0]) for line in done.err.splitlines() if "s  asked" in line] == [
        round(s, 1) for s in reported
    ]


def test_senders_are_told_once_however_many_runs_they_sent_in(cli: Cli, receive: Receive) -> None:
    receiving = receive()
    for senders in (5, 3, 5):
        flags = f"--rate 5k --count 500 --players {senders}"
        run = cli("load", "record", receiving.address, *flags.split(), *JSON).json
        assert run["receiver"]["senders"] == senders
    totals, done = receiving.stop()
    assert totals["senders"] == sum(worker["senders"] for worker in totals["workers"]) == 5
    assert "by the sequence numbers of 5 senders" in done.err


def test_another_format_is_noticed_at_both_ends(cli: Cli, receive: Receive) -> None:
    receiving = receive("--format", "a:u4 b:u4")
    done = cli("load", "record", receiving.address, "--count", "10", "--quiet")
    assert done.code == 2
    assert "8 bytes" in done.err
    send(receiving.address, *[record(0)] * 20)
    came(receiving, 20)
    _, left = receiving.stop()
    assert f"hint: the messages that arrived have {SIZE} bytes, the format has 8" in left.err


def test_the_other_byte_order_is_noticed(cli: Cli, receive: Receive) -> None:
    receiving = receive("--endian", "big", "--no-counters")
    cli("load", "record", receiving.address, "--rate", "5k", "--count", "1k", "--players", "10", *JSON)
    _, done = receiving.stop()
    assert "is the byte order right (--endian)" in done.err


def test_where_nobody_counts_that_is_said(cli: Cli, receive: Receive) -> None:
    receiving = receive("--no-counters")
    done = cli("load", "record", receiving.address, "--rate", "5k", "--count", "1k", "--json", "-")
    check(done.json, "LoadResult")
    assert done.code in (0, 4), done.err
    assert (done.json["outcomes"]["received"], done.json["loss"], done.json["receiver"]) == (None, None, None)
    assert "The number of received messages is unknown" in done.err
    assert sum(line["parsed"] for line in receiving.seconds()) <= done.json["outcomes"]["sent"]
    search = cli("limit", "record", receiving.address, "--budget", "5s", "--quiet")
    assert search.code == 3, search.err


def test_every_line_fits_the_schema_and_adds_up(receive: Receive) -> None:
    receiving = receive("--threads", "2")
    send(receiving.address, *(record(n) for n in range(100)), b"short")
    came(receiving, 101)
    totals, done = receiving.stop()
    *seconds, last = [json.loads(line) for line in done.out.splitlines()]
    for line in (*seconds, last):
        check(line, "ReceiveLine")
    for name in ("received", "parsed", "handed_over", "missing", "kernel_drops"):
        assert sum(line[name] for line in seconds) == totals[name], name
    assert totals["received"] == totals["parsed"] + sum(totals["malformed"].values()) == 101
    queue = totals["queue"]
    assert totals["parsed"] == totals["handed_over"] + queue["dropped"] + queue["waiting"]


@pytest.mark.parametrize(
    "flags",
    [
        ("--format", "id:u3"),
        ("--threads", "0"),
        ("--queue", "0"),
        ("--buffer", "x"),
        ("--full", "never"),
        ("--listen", "127.0.0.1"),
        ("--listen", "203.0.113.7:31234"),
        ("--json", "/nowhere/x"),
        ("--transport", "tcp"),
    ],
    ids=" ".join,
)
def test_bad_use(cli: Cli, flags: tuple[str, ...]) -> None:
    listen = () if "--listen" in flags else ("--listen", "127.0.0.1:0")
    done = cli("serve", "record", *listen, "--for", "1ms", *flags)
    assert done.code == 2, done.err
    assert done.err


def test_a_port_in_use_is_said(cli: Cli) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        done = cli("serve", "record", "--listen", f"127.0.0.1:{held.getsockname()[1]}", "--for", "1ms")
    assert done.code == 2, done.err


def test_served_from_python_like_any_other() -> None:
    with flatout.serve("record", "127.0.0.1:0", format=FORMAT, queue=100) as server:
        send(server.address, *(record(n) for n in range(10)))
        stats = wait_until(lambda: (reported := server.stats())["handed_over"] == 10 and reported)
        assert isinstance(server, flatout.Server)
        assert isinstance(server, flatout.Receiver)
        assert server.alive
        assert (server.transports, server.threads, server.carrier, server.streams) == (("udp",), 1, "", False)
        assert server.memory_bound > 1 << 20
    assert not server.alive
    assert (stats["received"], stats["queue"]["size"], stats["connections"]) == (10, 100, None)
