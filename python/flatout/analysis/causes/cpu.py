"""The CPUs that the target may use are all busy, or soft interrupts take one of them."""

from __future__ import annotations

from flatout.analysis.troubles import of_server, server_in_trouble, share_of_load, target
from flatout.result.finding import Finding
from flatout.result.machine import Contention, Placement
from flatout.result.model import LoadResult

_WHOLE, _SOFTIRQ = 0.97, 0.8
_SPREAD = "spread packets over more receive queues or CPUs (ethtool -L, rps_cpus), off the CPUs of {}"
# On one host the kernel receives packets where they are sent: loopback and veth go by no interrupt.
_ONE_HOST = (
    "on one host the kernel's receiving runs on the sender's CPU",
    "run the generator on another host; here more load threads (--threads) on CPUs of their own (--cpus)",
)
# Whose CPU it is, by where the target is: what that means, and what helps.
_SOFTIRQ_OF = {
    "here": _ONE_HOST,
    "namespace": _ONE_HOST,
    "elsewhere": (
        "this generator's own host receives packets as fast as that CPU can",
        _SPREAD.format("the load threads (--cpus)"),
    ),
    None: ("it receives packets as fast as it can", _SPREAD.format("the target")),
}


def find(run: LoadResult) -> Finding | None:
    """All CPUs of the target at 97 % or more, with several threads of it at work; or one at 80 % in soft interrupts."""
    about, placement = run.contention, run.placement
    if about is None or about.elapsed_s <= 0 or not server_in_trouble(run):
        return None
    return _softirq(run, about) or _saturated(run, about, placement)


def _softirq(run: LoadResult, about: Contention) -> Finding | None:
    shares = {cpu: share_of_load(run, seconds) for cpu, seconds in about.softirq_s.items()}
    cpu, share = max(shares.items(), key=lambda pair: pair[1], default=("", 0.0))
    if share < _SOFTIRQ:
        return None
    where = run.placement.where if run.placement else None
    what, remedy = _SOFTIRQ_OF.get(where, _SOFTIRQ_OF[None])
    return Finding(
        name="soft interrupts",
        sentence=f"Soft interrupts took {share:.0%} of CPU {cpu}: {what}.",
        evidence=[f"CPU {cpu} of this host: {about.softirq_s[cpu]:.2f} s of {about.elapsed_s:.2f} s (/proc/stat)"],
        remedy=remedy,
        confidence="medium",
        explains=of_server(run),
    )


def _saturated(run: LoadResult, about: Contention, placement: Placement | None) -> Finding | None:
    threads, seen = about.target, placement.target if placement else None
    if threads is None or seen is None or threads.busy_threads < 2 or placement is None:
        return None
    # A load thread that spins keeps its own CPU busy whatever it does.
    cpus = [str(cpu) for cpu in seen.cpus if cpu not in placement.cpus or cpu in placement.shared_cpus]
    shares = [share_of_load(run, about.busy_s[cpu]) for cpu in cpus if cpu in about.busy_s]
    if not shares or min(shares) < _WHOLE:
        return None
    return Finding(
        name="CPU",
        sentence=f"All {len(shares)} CPUs that {target(run)} had were busy, at {min(shares):.0%} or more.",
        evidence=[f"its {threads.busy_threads} busy threads used {threads.cpu_s:.2f} s in {about.elapsed_s:.2f} s"],
        remedy="more CPUs, or fewer other programs on these; run the generator on another host",
        confidence="medium" if placement.shared_cpus else "high",
        explains=of_server(run),
    )
