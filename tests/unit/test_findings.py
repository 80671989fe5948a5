"""Findings from ledgers made by hand: each cause is named by its counters, and a healthy run has none."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import ledgers
import msgspec
import pytest
import results
from ledgers import HERE, LISTENER, SENT, SOCKET, closed, contention, over_streams, run, sampled, threads

from conftest import ROOT
from flatout.analysis import causes, explained, explained_limit, findings
from flatout.host.drops import Dropped
from flatout.result.finding import Finding
from flatout.result.model import LoadResult, Trial
from flatout.runner.counters import Sampled
from flatout.view import ledger as account
from flatout.view.page import tables


def drops(number: int, **changes: Any) -> dict[str, Any]:
    return {"sockets": [msgspec.structs.replace(SOCKET, drops=number, **changes)]}


def listener(number: int) -> dict[str, Any]:
    return {"sockets": [msgspec.structs.replace(LISTENER, drops=number)]}


def shared() -> Any:
    return msgspec.structs.replace(HERE, shared_cpus=[1], why="shared with ntpd (process 812)")


Case = tuple[LoadResult, Sampled]
NOBODY = {"placement": msgspec.structs.replace(HERE, where="nobody", target=None), "sockets": []}
CASES: dict[str, tuple[Case, str]] = {
    "receive buffer": (
        (run(900), sampled(**drops(900))),
        "The receive buffer of ntpd (process 812), 0.0.0.0:123 was full: 900 requests were dropped there. It holds 256 "
        "datagrams of this size, which is 256 ms at this rate. Its busiest thread used only 10% of a CPU: it "
        "waits for something else, or does not read.",
    ),
    "application": (
        (run(256), sampled(**drops(0, unread_bytes=212_992), target_stopped=True, stopped_pids=[814])),
        "ntpd (process 812): 256 requests still lay unread in its receive buffer at the end; its process 814 is "
        "stopped by a signal.",
    ),
    "softnet backlog": (
        (run(500, contention=contention(backlog_drops=600)), sampled(limits={"netdev_max_backlog": 1000})),
        "A CPU's receive backlog was full: this host dropped 500 packets before any socket. It has room for 1,000 "
        "packets (net.core.netdev_max_backlog).",
    ),
    "accept queue": (
        (over_streams(), sampled({"TcpExt.ListenOverflows": 10, "TcpExt.ListenDrops": 10}, **listener(10))),
        "The accept queue of named (process 9), 0.0.0.0:53 was full: handshakes were dropped 10 times, and clients try "
        "again after 1 s or more. It has room for 1 (listen's backlog, at most net.core.somaxconn).",
    ),
    "SYN queue": (
        (
            over_streams(connections={"failed": 2, "timed_out": 2}),
            sampled({"TcpExt.SyncookiesSent": 7, "TcpExt.TCPReqQFullDrop": 2}, **listener(0)),
        ),
        "The target's SYN queue was full: 7 handshakes went by SYN cookies and 2 connection requests were dropped.",
    ),
    "TIME_WAIT table": (
        (over_streams(), sampled({"TcpExt.TCPTimeWaitOverflow": 7}, limits={"tcp_max_tw_buckets": 3})),
        "The table of closed connections (TIME_WAIT) of this host's network namespace has room for 3 and was full 7 "
        "times.",
    ),
    "uneven workers": (
        (run(900), sampled(sockets=[SOCKET, SOCKET, msgspec.structs.replace(SOCKET, drops=900)])),
        "One of the 3 sockets of ntpd (process 812) at 0.0.0.0:123 had 100% of the drops: the kernel picks a socket by "
        "the flow, and few flows spread unevenly. The busiest thread used 10% of a CPU.",
    ),
    "slow application": (
        (run(1_500), sampled(**drops(1_500))),
        "ntpd (process 812) answered 1,000/s and no more, while its busiest thread used only 10% of a CPU: it waits "
        "for something between requests.",
    ),
    "wrong checksum": (
        (run(40), sampled({}, {"Udp.InCsumErrors": 40}, **drops(40))),
        "40 requests arrived with a wrong UDP checksum and were dropped: something on the way changes them.",
    ),
    "no route back": (
        (run(80), sampled({}, {"Ip.OutNoRoutes": 80})),
        "The host of ntpd (process 812 in another network namespace) has no route back: 80 answers could not leave.",
    ),
    "unanswered frames": (
        (run(SENT, link=ledgers.LINK), sampled(placement=ledgers.ELSEWHERE, sockets=[])),
        "10,000 requests left by eth0, past this host's network layer, and nothing came back by it.",
    ),
    "wrong hardware address": (
        (run(70), sampled({}, {"link.eth0.rx_otherhost_dropped": 70})),
        "70 requests reached devices of the target's network namespace with another host's hardware address",
    ),
    "single thread": (
        (run(900, contention=contention(target=threads(busiest_share=0.99))), sampled()),
        "ntpd (process 812) does its work in one thread, which used 99% of a CPU; it may use 2 CPUs.",
    ),
    "CPU": (
        (
            run(900, contention=contention(busy_s={"0": 9.9, "1": 9.9}, target=threads(busy_threads=2, cpu_s=9.0))),
            sampled(),
        ),
        "All 1 CPUs that ntpd (process 812) had were busy, at 99% or more.",
    ),
    "soft interrupts": (
        (run(900, contention=contention(softirq_s={"0": 9.5, "1": 0.1})), sampled()),
        "Soft interrupts took 95% of CPU 0: on one host the kernel's receiving runs on the sender's CPU.",
    ),
    "generator": (
        (run(unsent={"late": 700, "no_slot": 3}), sampled()),
        "This generator fell behind: 700 requests could not leave within 1 ms of due",
    ),
    "send errors": (
        (run(unsent={"send_failed": 5000}, warnings=["sendmsg: Operation not permitted"]), sampled()),
        "This host refused to send 5,000 requests: Operation not permitted.",
    ),
    "full slots": (
        (run(unsent={"no_slot": 5000}), sampled()),
        "5,000 requests could not leave, as all slots of their flow or connection waited for answers: answers came "
        "too slowly for this rate.",
    ),
    "answers' queue": (
        (run(80), sampled({}, {"Udp.SndbufErrors": 80, "Udp.InDatagrams": 10_000, "Udp.OutDatagrams": 9_920})),
        "The host of ntpd (process 812 in another network namespace) dropped 80 answers before they left",
    ),
    "other programs": (
        (run(contention=contention(others_s=9.0, busy_s={"0": 9.9, "1": 9.9}), unsent={"late": 12}), sampled()),
        "Other programs used 0.9 of this host's 2 CPUs, and all CPUs were busy.",
    ),
    "shared CPU": (
        (run(900, contention=contention(target=threads(run_delay_share=0.3, run_delay_s=3.0))), sampled()),
        "ntpd (process 812) waited for a CPU, a thread of it for 30.0% of the time.",
    ),
    "steal": (
        (run(900, contention=contention(steal_s=3.0)), sampled()),
        "The hypervisor gave 15.0% of this host's CPU time to others (3.00 s).",
    ),
    "CPU quota": (
        (run(900, contention=contention(throttled_s=2.0)), sampled()),
        "A CPU quota took 2 s of CPU time from this process's control group.",
    ),
    "conntrack full": (
        (
            run(40),
            sampled({}, {"conntrack.drop": 40}, limits={"target_conntrack_count": 262_144, "conntrack_max": 262_144}),
        ),
        "The connection tracking table of the target's network namespace was full: 40 packets were dropped. It had "
        "262,144 of 262,144 entries when the run ended.",
    ),
    "conntrack": (
        (run(40), sampled({"conntrack.drop": 40}, limits={"conntrack_count": 50, "conntrack_max": 262_144})),
        "Connection tracking of this host's network namespace dropped 40 packets, and its table was not full. It had "
        "50 of 262,144 entries when the run ended.",
    ),
    "ephemeral ports": (
        (
            over_streams(connections={"local": 20, "no_port": 20, "failed": 20, "peak": 80}),
            sampled(limits={"ports": 100}),
        ),
        "This host had no port left for 20 connections: the range has 100 for one target",
    ),
    "descriptors": (
        (
            over_streams(connections={"failed": 5, "timed_out": 5}),
            sampled(target_files=64, target_files_limit=64, **listener(0)),
        ),
        "ntpd (process 812) held 64 of the 64 descriptors that it may.",
    ),
    "send queue": (
        (run(unsent={"dropped_here": 12}), sampled()),
        "This host's own queue of eth0 was full: 12 requests were dropped before they left (ENOBUFS).",
    ),
    "device": (
        (run(SENT), sampled(placement=ledgers.ELSEWHERE, sockets=[], device_up=False)),
        "The device eth0 towards the target is down, or has no carrier.",
    ),
    "neighbour": (
        (run(SENT), sampled(placement=ledgers.ELSEWHERE, sockets=[], neighbour="10.0.0.9")),
        "The next hop 10.0.0.9 does not answer ARP on eth0: nothing reaches the target.",
    ),
    "firewall": (
        (run(1_000), sampled({}, {"Ip.InReceives": 10_000, "Ip.InDelivers": 9_000})),
        "A packet filter of the target's network namespace dropped 1,000 packets.",
    ),
    "reverse path filter": (
        (run(90), sampled({}, {"Ip.InReceives": 10_000, "Ip.InDelivers": 9_910, "TcpExt.IPReversePathFilter": 90})),
        "The reverse path filter of the target's network namespace dropped 90 packets: no route leads back.",
    ),
    "dropped by the kernel": (
        (run(200), sampled()._replace(drops=[Dropped("own", 0, "TC_INGRESS", True, "eth0", 200)])),
        "The kernel dropped 200 packets, most of them for the reason TC_INGRESS (a filter or program of tc at a "
        "device's input): eth0 of this host's network namespace.",
    ),
    "generator's receive buffer": (
        (run(60, own_drops=60), sampled()),
        "60 answers reached this generator and were dropped, as it did not read them in time.",
    ),
    "port closed": (
        (run(refused=SENT), sampled({"Udp.NoPorts": SENT}, **NOBODY)),
        "No program is bound to 192.0.2.10:123: 10,000 requests were refused.",
    ),
    "refused": (
        (run(refused=SENT), sampled({"Udp.NoPorts": 1})),
        "10,000 requests were refused although a program is bound to 192.0.2.10:123: a packet filter says no.",
    ),
    "socket memory": (
        (run(30), sampled({"Udp.MemErrors": 30}, sockets=[msgspec.structs.replace(SOCKET, drops=30)])),
        "The kernel's memory for UDP sockets was used up (net.ipv4.udp_mem).",
    ),
}


# What a cause has for its effect is a finding too.
EFFECTS = {"other programs": "generator", "uneven workers": "receive buffer", "slow application": "receive buffer"}


def found(case: Case) -> list[Finding]:
    return findings(closed(*case))


@pytest.mark.parametrize("name", CASES)
def test_each_cause_is_named_by_its_counters_and_alone(name: str) -> None:
    case, sentence = CASES[name]
    first, *others = found(case)
    others = [each for each in others if each.name != EFFECTS.get(name)]
    assert first.name == name
    assert first.sentence.startswith(sentence)
    assert [other.name for other in others] == []
    assert first.remedy
    assert first.evidence


def test_every_cause_has_a_case_here() -> None:
    assert len(causes.CAUSES) <= len(CASES)
    seen = {find for case, _ in CASES.values() for find in causes.CAUSES if find(closed(*case)) is not None}
    assert seen == set(causes.CAUSES)


HEALTHY: dict[str, Case] = {
    "all answered": (run(), sampled()),
    "one lost": (run(1), sampled(**drops(1))),
    "a spinning generator": (run(contention=contention(busy_s={"0": 9.9, "1": 9.9})), sampled()),
    "a busy server that keeps up": (run(contention=contention(target=threads(busiest_share=0.99))), sampled()),
    "a server that waits and keeps up": (run(contention=contention(target=threads(run_delay_share=0.4))), sampled()),
    "a server that waits beside a late generator": (
        run(unsent={"late": 2}, contention=contention(target=threads(run_delay_share=0.04))),
        sampled(),
    ),
    "shared CPUs": (run(placement=shared()), sampled(placement=shared())),
    "stolen time without loss": (run(contention=contention(steal_s=3.0)), sampled()),
    "a quota without loss": (run(contention=contention(throttled_s=2.0)), sampled()),
    "few lost of a server that is idle": (run(60), sampled()),
    "others' drops": (run(contention=contention(backlog_drops=500)), sampled({"Udp.RcvbufErrors": 800})),
    "others' handshakes": (over_streams(), sampled({"TcpExt.ListenOverflows": 3}, **listener(0))),
    "a firewall at work for others": (run(), sampled({"Ip.InReceives": 900}, {"Ip.InReceives": 80})),
    "two unsent": (run(unsent={"late": 2}), sampled()),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_has_none(name: str) -> None:
    assert found(HEALTHY[name]) == []


def test_connections_that_reach_no_neighbour() -> None:
    nothing = {"established": 0, "failed": 100, "timed_out": 100, "peak": 0, "live": 0}
    none = msgspec.structs.replace(run().outcomes, sent=0, answered=0, planned=0)
    seen = sampled(placement=ledgers.ELSEWHERE, sockets=[], neighbour="10.0.0.9")
    result = over_streams(connections=nothing, outcomes=none, loss=None)
    assert [each.name for each in found((result, seen))] == ["neighbour"]


def test_what_a_filter_dropped_is_not_blamed_on_a_busy_server() -> None:
    busy = contention(target=threads(busiest_share=0.99, run_delay_share=0.2))
    seen = sampled({}, {"Ip.InReceives": 10_000, "Ip.InDelivers": 9_000})
    assert [each.name for each in found((run(1_000, contention=busy), seen))] == ["firewall"]


def test_what_explains_most_comes_first() -> None:
    names = [each.name for each in found((run(956, own_drops=20), sampled(**drops(700, unread_bytes=236 * 832))))]
    assert names == ["receive buffer", "application", "generator's receive buffer"]


def test_a_full_ring_is_told_from_other_drops() -> None:
    ring = {"link.eth0.rx_missed_errors": 60, "link.eth0.rx_fifo_errors": 10, "link.eth0.rx_over_errors": 10}
    (first,) = found((run(80), sampled({}, {**ring, "link.eth0.rx_errors": 20})))
    assert first.sentence.startswith("The receive ring of a network device was full: it dropped 70 packets")
    assert [text.partition(": ")[2].partition(" ")[0] for text in first.evidence] == ["70", "10"]


def test_the_rule_that_dropped_is_named() -> None:
    rules = {"nft.inet wall in handle 4": 3, 'nft.inet wall in handle 5 "ntp"': 990}
    filtered = {"Ip.InReceives": 10_000, "Ip.InDelivers": 9_000}
    (first,) = found((run(1_000), sampled({"nft.ip nat out handle 2": 7}, {**filtered, **rules})))
    assert first.sentence.endswith('The rule that dropped most is inet wall in handle 5 "ntp" of the target.')
    assert first.evidence[1:] == [
        'nft counter of inet wall in handle 5 "ntp" of the target: 990 packets',
        "nft counter of ip nat out handle 2 of this host: 7 packets",
        "nft counter of inet wall in handle 4 of the target: 3 packets",
    ]


def test_what_a_queue_dropped_after_it_took_it_is_named_with_its_numbers() -> None:
    queue = {"qdisc.eth0.fq_codel.drops": 80, "qdisc.eth0.fq_codel.overlimits": 5, "qdisc.wlan0.pfifo_fast.drops": 9}
    (first,) = found((run(90), sampled(queue, placement=ledgers.ELSEWHERE, sockets=[], queued={"eth0": 10})))
    assert first.name == "send queue"
    assert "eth0 (fq_codel): 90 requests were dropped there after it had taken them." in first.sentence
    assert first.evidence[0] == "queue of eth0 (fq_codel): drops 80, overlimits 5"
    assert first.evidence[-1] == "queue of eth0: 10 packets waiting at the end"


def test_a_thread_that_others_keep_from_its_cpu_is_single_nevertheless() -> None:
    busy = contention(target=threads(busiest_share=0.6, run_delay_share=0.38))
    assert found((run(9_000, contention=busy), sampled(**drops(9_000))))[0].name == "single thread"
    idle = contention(target=threads(busiest_share=0.6, run_delay_share=0.2))
    assert "single thread" not in {each.name for each in found((run(9_000, contention=idle), sampled(**drops(9_000))))}


def test_a_quota_of_the_targets_group_explains_what_it_lost() -> None:
    result = run(900, contention=contention(throttled_s=0.0, target_throttled_s=4.0))
    first = found((result, sampled(**drops(900))))[0]
    assert first.sentence == "A CPU quota took 4 s of CPU time from ntpd (process 812)'s control group."
    assert first.explains == 900


READERS = {
    "Its processes 813, 814 are stopped by a signal: nothing is read.": (
        contention(),
        {"target_stopped": True, "stopped_pids": [813, 814]},
    ),
    "Its busiest thread used 98% of a CPU.": (contention(target=threads(busiest_share=0.98)), {}),
    "A thread of it waited for a CPU for 5% of the time.": (contention(target=threads(run_delay_share=0.05)), {}),
}


@pytest.mark.parametrize("reader", READERS)
def test_the_receive_buffer_says_what_its_reader_did(reader: str) -> None:
    about, around = READERS[reader]
    first = next(
        each
        for each in found((run(900, contention=about), sampled(**drops(900), **around)))
        if each.name == "receive buffer"
    )
    assert first.sentence.endswith(reader)


def test_a_longer_wait_than_the_buffer_lasts_is_compared_with_it() -> None:
    result = closed(run(900), sampled(**drops(900)))
    assert result.ledger is not None
    waited = msgspec.structs.replace(result.ledger, longest_wait_ns=300_000_000)
    (first,) = findings(msgspec.structs.replace(result, ledger=waited))
    assert "which is 256 ms at this rate; the longest wait of its threads for a CPU was 300 ms." in first.sentence


def test_a_run_without_a_ledger_has_no_findings_from_it() -> None:
    assert findings(run(900)) == []


# --- Searches ---


def trial(rate_per_s: float, verdict: str, name: str = "") -> Trial:
    made = results.trial(rate_per_s, "search", results.Server(), 1)
    known = [Finding(name=name, sentence="It.", evidence=[], remedy="do", confidence="high")] if name else []
    return msgspec.structs.replace(made, verdict=verdict, findings=known)


def test_a_search_has_the_findings_of_the_trial_next_above_its_limit() -> None:
    done = results.limit()
    value = done.limit.value or 0.0
    tried = [trial(value * 3, "failed", "far"), trial(value * 1.1, "failed", "near"), trial(value, "held", "held")]
    found = explained_limit(msgspec.structs.replace(done, trials=tried))
    assert [each.name for each in found.findings] == ["near"]
    assert explained_limit(msgspec.structs.replace(done, trials=tried[2:])).findings == []


# --- Views ---


def test_the_page_has_both_as_tables() -> None:
    result = explained(closed(*CASES["receive buffer"][0]))
    (found,) = tables.findings(result)
    assert [(row[0], row[4], row[5]) for row in found.rows] == [("receive buffer", "high", "900")]
    (account_of_it,) = tables.ledger(result)
    assert account_of_it.rows == [["receive buffer", "900", "9.00 %", "ntpd (process 812), 0.0.0.0:123"]]
    assert tables.findings(run()) == tables.ledger(run()) == []


def test_the_views_show_lines_and_the_unexplained_rest_with_what_is_blind() -> None:
    lossless = explained(closed(run(), sampled(placement=ledgers.ELSEWHERE, sockets=[])))
    assert account.rows(lossless) == []
    rows = account.rows(closed(run(1_000), sampled(placement=ledgers.ELSEWHERE, sockets=[])))
    assert [(row.place, row.number) for row in rows] == [
        ("unexplained", 1_000),
        ("receive buffer", None),
        ("application", None),
    ]


# Causes of connections, and of what is answered: a one-way run has neither.
NOT_ONE_WAY = {"accept_queue", "answer_queue", "own_receive_buffer", "syn_queue"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "python/flatout/analysis/causes").glob("*.py")), ids=lambda path: path.stem
)
def test_words_fit_one_way_messages_too(path: Path) -> None:
    """Their receivers are no servers, and get no requests; `many` has the word for what is sent."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef)
    }
    said = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    wrong = [text for text in said if text not in texts and re.search(r"\b(requests?|server)\b", text)]
    assert wrong == [] or path.stem in NOT_ONE_WAY
