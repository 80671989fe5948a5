"""The output of a receiver: a line a second, the totals, and hints on likely mistakes.

Pure: counters in, lines out. The counters are those of `Receiver.stats()`. No socket, no clock.
"""

from __future__ import annotations

from typing import Any

from flatout.view import format as fmt

Stats = dict[str, Any]

# Gauges, not counters: there is nothing to subtract.
_GAUGES = ("senders", "queue", "connections", "delay_ns", "memory_bytes", "link")
_WORKER_GAUGES = frozenset({"queued", "senders", "workers", "size", "sequence_bits", "memory_bytes"})
_REASONS = {"short": "too short", "long": "too long", "wrong_constant": "with another constant"}
# Fewer than this can be chance.
_ENOUGH = 10


def difference(before: Stats, now: Stats) -> Stats:
    """The events between two samples, in the form of a sample; gauges keep their last value."""
    changed: Stats = {}
    for name, value in now.items():
        if isinstance(value, dict) and name not in _GAUGES:
            changed[name] = {part: number - before[name].get(part, 0) for part, number in value.items()}
        elif isinstance(value, int) and name not in _GAUGES:
            changed[name] = value - before[name]
        else:
            changed[name] = value
    changed["workers"] = [_worker(*pair) for pair in zip(before["workers"], now["workers"], strict=True)]
    queued = {name: now["queue"][name] - before["queue"][name] for name in ("dropped", "waited")}
    changed["queue"] = {**now["queue"], **queued}
    # The distribution covers the whole time; only the last object has it.
    changed["delay_ns"] = None
    return changed


def _worker(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    return {name: value if name in _WORKER_GAUGES else value - before[name] for name, value in now.items()}


def second(before: Stats, now: Stats, span: float) -> list[str]:
    """What arrived between two samples, `span` seconds apart, with each worker's share where there are several."""
    came = difference(before, now)
    line = (
        f"{now['t_s']:8.1f} s {throughput(came['received'] / span, came['bytes'] / span)}"
        f"  parsed {fmt.rate_short(came['parsed'] / span):>8}"
        f"  handed over {fmt.rate_short(came['handed_over'] / span):>8}"
    )
    shares = _shares(came)
    return [line + "".join(f"  {reported}" for reported in _faults(came)), *([f"{'':10} {shares}"] if shares else [])]


def throughput(per_s: float, bytes_per_s: float) -> str:
    """Messages, bytes and bits a second, as majek's udpreceiver writes them; bytes are those of the messages alone."""
    return f"{per_s / 1e6:7.3f}M pps {bytes_per_s / (1 << 20):7.3f}MiB / {8 * bytes_per_s / 1e6:7.3f}Mb"


def _faults(came: Stats) -> list[str]:
    """Counters of faults that are above 0. `missing` falls when a late message arrives; that is not shown."""
    counted = {
        "malformed": sum(came["malformed"].values()),
        "lost": came["missing"],
        "duplicate": came["duplicate"],
        "reordered": came["reordered"],
        "dropped in the queue": came["queue"]["dropped"],
        "dropped by the kernel": came["kernel_drops"],
    }
    return [f"{word} {number:,}" for word, number in counted.items() if number > 0]


def _shares(stats: Stats) -> str:
    """Each worker's share of the messages, where there are several."""
    received = [worker["received"] for worker in stats["workers"]]
    if len(received) < 2 or not sum(received):
        return ""
    return "by worker: " + ", ".join(f"{100 * number / sum(received):.0f} %" for number in received)


def totals(stats: Stats) -> list[str]:
    """The totals, as sums."""
    queue = stats["queue"]
    lines = [
        f"in {fmt.seconds(stats['t_s'])}: received {stats['received']:,} = parsed {stats['parsed']:,}"
        f" + malformed {sum(stats['malformed'].values()):,}{_reasons(stats['malformed'])}",
        _shares(stats),
        f"parsed {stats['parsed']:,} = handed over {stats['handed_over']:,} + dropped in the queue {queue['dropped']:,}"
        f" + still there {queue['waiting']:,} ({queue['policy']}, room for {queue['size']:,})",
        _by_sequence(stats),
        f"dropped by the kernel {_where(stats)}: {stats['kernel_drops']:,}",
        _delay(stats),
    ]
    return [line for line in lines if line]


def _where(stats: Stats) -> str:
    link = stats.get("link")
    return f"at the queues of {link['interface']}" if link else "at the socket"


def _reasons(malformed: dict[str, int]) -> str:
    reported = [f"{_REASONS.get(reason, reason)} {number:,}" for reason, number in malformed.items() if number]
    return f" ({', '.join(reported)})" if reported else ""


def _by_sequence(stats: Stats) -> str:
    senders = "1 sender" if stats["senders"] == 1 else f"{stats['senders']:,} senders"
    if not _sequence_bits(stats):
        return f"{senders}; the records carry no sequence number, so the loss is unknown"
    reported = [f"lost {stats['missing']:,}", f"duplicate {stats['duplicate']:,}", f"reordered {stats['reordered']:,}"]
    reported += [f"restarts {stats['restarts']:,}"] if stats["restarts"] else []
    reported += [f"untracked, for lack of room {stats['untracked']:,}"] if stats["untracked"] else []
    return f"by the sequence numbers of {senders}: {', '.join(reported)}"


def _sequence_bits(stats: Stats) -> int:
    return max((worker["sequence_bits"] for worker in stats["workers"]), default=0)


def _delay(stats: Stats) -> str:
    """One-way delay, as far as two clocks allow."""
    ahead, delay = stats["ahead"], stats["delay_ns"]
    if delay is None and not ahead:
        return ""
    if ahead and ahead >= (delay.count if delay else 0):
        return (
            f"one-way delay: unknown, as {ahead:,} records arrived before the time they carry: the senders' clocks "
            "are ahead of this one"
        )
    reported = ", ".join(f"{name} {fmt.duration(getattr(delay, field))}" for name, field in _PERCENTILES)
    left_out = f"; {ahead:,} arrived before the time they carry and are left out" if ahead else ""
    return f"one-way delay: {reported} (two hosts' clocks may differ by more){left_out}"


_PERCENTILES = (("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max"))


def hints(stats: Stats, size: int) -> list[str]:
    """Hints on wrong settings and missing resources."""
    return [hint for hint in (_wrong_size(stats, size), _wrong_order(stats), _idle(stats), _waiting(stats)) if hint]


def _wrong_size(stats: Stats, size: int) -> str:
    wrong = stats["malformed"].get("short", 0) + stats["malformed"].get("long", 0)
    if wrong < _ENOUGH or 2 * wrong < stats["received"]:
        return ""
    whole, rest = divmod(stats["bytes"], stats["received"])
    came = f"{whole} bytes" if not rest else f"{stats['bytes'] / stats['received']:.1f} bytes on average"
    return f"the messages that arrived have {came}, the format has {size}: is it the senders' format?"


def _wrong_order(stats: Stats) -> str:
    if stats["restarts"] < _ENOUGH or 2 * stats["restarts"] < stats["parsed"]:
        return ""
    return (
        f"the sequence numbers jump on {stats['restarts']:,} of {stats['parsed']:,} records: is the byte order right "
        "(--endian), and the field?"
    )


def _idle(stats: Stats) -> str:
    idle = sum(not worker["received"] for worker in stats["workers"])
    if not idle or stats["received"] < _ENOUGH:
        return ""
    return (
        f"{idle} of {len(stats['workers'])} workers received nothing: the kernel spreads senders (address and port) "
        "over their sockets; with few senders give --shared or fewer --threads"
    )


def _waiting(stats: Stats) -> str:
    if stats["kernel_drops"] < _ENOUGH:
        return ""
    if stats["queue"]["policy"] == "wait" and stats["queue"]["waited"]:
        return "the handler was slower than the senders, and receiving waited for it (--full wait): the kernel dropped"
    return "the kernel dropped at the socket: a larger --buffer helps against bursts, more --threads against a rate"
