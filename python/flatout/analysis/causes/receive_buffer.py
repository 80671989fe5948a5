"""The receive buffer of the target's socket overflows: its program reads too slowly, or pauses for too long."""

from __future__ import annotations

from flatout.analysis.troubles import busiest_share, enough, let_go_on, many, ms, stopped, target
from flatout.result.finding import Finding
from flatout.result.ledger import Ledger
from flatout.result.model import LoadResult

_BUSY = 0.95


def find(run: LoadResult) -> Finding | None:
    """Drops at the target's sockets, with how long the buffer lasts and what its reader did."""
    ledger = run.ledger
    dropped = ledger.count("receive_buffer") if ledger else 0
    if ledger is None or not enough(dropped, run):
        return None
    lines = [line for line in ledger.lines if line.place == "receive_buffer" and line.count]
    where = max(lines, key=lambda line: line.count or 0).where
    reader, remedy = _reader(run, ledger)
    size = _size(run, ledger)
    sentence = f"The receive buffer of {where} was full: {many(run, dropped)} were dropped there."
    return Finding(
        name="receive buffer",
        sentence=" ".join(part for part in (sentence, size, reader) if part),
        evidence=[f"{line.where}: {line.counted or line.count:,} ({line.source})" for line in lines],
        remedy=remedy,
        confidence="medium" if lines[0].source.startswith("Udp") else "high",
        explains=dropped,
    )


def _size(run: LoadResult, ledger: Ledger) -> str:
    """How many datagrams the buffer holds and how long that lasts at this rate, against the longest wait."""
    packets = _packets(ledger)
    per_s = run.rate_per_s.sent / max(len(ledger.sockets), 1)
    if not packets or per_s <= 0:
        return ""
    text = f"It holds {packets:,} datagrams of this size, which is {ms(packets / per_s * 1e9)} at this rate"
    waited = ledger.longest_wait_ns
    return f"{text}; the longest wait of its threads for a CPU was {ms(waited)}." if waited else f"{text}."


def _packets(ledger: Ledger) -> int:
    charge, buffers = ledger.surroundings.packet_bytes, [s.buffer_bytes for s in ledger.sockets if s.buffer_bytes]
    return min(buffers) // charge if charge and buffers else 0


def _reader(run: LoadResult, ledger: Ledger) -> tuple[str, str]:
    """What the program that should read did meanwhile, and what helps."""
    threads = run.contention.target if run.contention else None
    if ledger.surroundings.target_stopped:
        return f"{stopped(ledger)} by a signal: nothing is read.", let_go_on(ledger)
    busiest = busiest_share(run)
    if threads is None or busiest is None:
        return "", f"for bursts a larger receive buffer: {_larger(ledger)}; else a faster program"
    if busiest >= _BUSY:
        why = f"Its busiest thread used {busiest:.0%} of a CPU."
        return why, "more threads, each with a socket of its own (SO_REUSEPORT); a larger buffer only delays the loss"
    if threads.run_delay_share >= 0.01:
        why = f"A thread of it waited for a CPU for {threads.run_delay_share:.0%} of the time."
        return why, f"a CPU of its own for {target(run)}, or a buffer that outlasts its waits: {_larger(ledger)}"
    why = f"Its busiest thread used only {busiest:.0%} of a CPU: it waits for something else, or does not read."
    return why, f"look at what the program waits for; a larger receive buffer helps bursts: {_larger(ledger)}"


def _larger(ledger: Ledger) -> str:
    """How this buffer is enlarged. Sizes are set when a socket is made: the program has to start again."""
    limits, sizes = ledger.surroundings.limits, [s.buffer_bytes for s in ledger.sockets if s.buffer_bytes]
    size, default, most = min(sizes, default=0), limits.get("rmem_default"), limits.get("rmem_max")
    if size and size == default:
        how = f"net.core.rmem_default (now {default:,}), as the program sets no SO_RCVBUF"
    elif size and most and size >= 2 * most:
        # The kernel doubles what a program asks for.
        how = f"net.core.rmem_max (now {most:,}), which caps the program's SO_RCVBUF"
    else:
        how = "SO_RCVBUF in the program, up to net.core.rmem_max; where it sets none net.core.rmem_default"
    return f"{how}; then restart the program"
