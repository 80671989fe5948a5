"""The CPUs that the target may use are all busy, or soft interrupts take one of them."""

from __future__ import annotations

from flatout.analysis.troubles import of_server, server_in_trouble, share_of_load, target
from flatout.result.finding import Finding
from flatout.result.machine import Contention, Placement
from flatout.result.model import LoadResult

_WHOLE, _SOFTIRQ = 0.97, 0.8


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
    return Finding(
        name="soft interrupts",
        sentence=f"Soft interrupts took {share:.0%} of CPU {cpu}: it receives packets as fast as it can.",
        evidence=[f"CPU {cpu}: {about.softirq_s[cpu]:.2f} s of {about.elapsed_s:.2f} s (/proc/stat)"],
        remedy="spread packets over more receive queues or CPUs (ethtool -L, rps_cpus), off the target's own",
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
