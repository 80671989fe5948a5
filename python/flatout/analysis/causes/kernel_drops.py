"""The kernel says that it dropped packets, and why, where no counter does."""

from __future__ import annotations

from flatout.analysis.troubles import enough
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

# What reasons that users meet mean, and what helps; the kernel's list is in include/net/dropreason-core.h.
_MEANINGS = {
    "TC_INGRESS": ("a filter or program of tc at a device's input", "tc filter show dev DEVICE ingress"),
    "TC_EGRESS": ("a filter or program of tc at a device's output", "tc filter show dev DEVICE egress"),
    "XDP": ("an XDP program", "ip link show dev DEVICE, bpftool net"),
    "BPF_CGROUP_EGRESS": ("a BPF program of a control group", "bpftool cgroup tree"),
    "SOCKET_FILTER": ("a filter of the receiving socket", "ss -uanpe shows the socket; its program sets the filter"),
    "SECURITY_HOOK": ("a security module", "the audit log"),
    "XFRM_POLICY": ("an IPsec policy", "ip xfrm policy"),
    "IP_OUTNOROUTES": ("no route to the destination", "ip route get ADDRESS"),
    "IP_INNOROUTES": ("no route on the way", "ip route get ADDRESS"),
    "IP_LOCAL_SOURCE": ("a source address that is the receiver's own", "addresses that two hosts have"),
    "IP_INVALID_SOURCE": ("a source address that no packet may have", "the sources of the load"),
    "PKT_TOO_BIG": ("a packet longer than the link takes", "the MTU: ip link"),
    "IP_CSUM": ("a wrong checksum", "checksum offload: ethtool -K"),
    "NOMEM": ("no memory in the kernel", "free memory, vm.min_free_kbytes"),
}


def find(run: LoadResult) -> Finding | None:
    """The ledger's lines of drop reasons that belong to no other place, the reason with most packets first."""
    lines = (
        [line for line in run.ledger.lines if line.place == "dropped_by_kernel" and line.count] if run.ledger else []
    )
    total = sum(line.count or 0 for line in lines)
    if not enough(total, run):
        return None
    most = max(lines, key=lambda line: line.count or 0)
    reason, _, where = most.where.partition(", ")
    meaning, remedy = _MEANINGS.get(
        reason, ("", "the kernel's include/net/dropreason-core.h says what the reason means")
    )
    named = f"{reason} ({meaning})" if meaning else reason
    return Finding(
        name="dropped by the kernel",
        sentence=f"The kernel dropped {total:,} packets, most of them for the reason {named}: {where}.",
        evidence=[f"{line.where}: {line.counted or line.count:,} {line.source}" for line in lines],
        remedy=remedy,
        confidence="medium",
        explains=sum(line.count or 0 for line in lines if line.side == "lost"),
    )
