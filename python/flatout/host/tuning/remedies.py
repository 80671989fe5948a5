"""The settings that a finding names, for one step of `limit --improve`: values now, values to try, risks.

A setting is raised, never lowered, and only where it can be undone. What a finding leaves to people is said in words:
what another host has, quotas, security, NOTRACK (rules for state must accept untracked packets), programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from flatout.host import target as find_target
from flatout.host.target import Address
from flatout.host.tuning import live_socket, namespaces, process_limits
from flatout.host.tuning.check import Setting
from flatout.host.tuning.rules import AtLeast, Rule, Spanning
from flatout.host.tuning.system import System
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

# How long a buffer is to last at the rate of the run, at least.
_SLACK_S = 0.05
_MOST_BYTES = 1 << 25
_TIMES = 4
_FULL_QUEUE = 4096
# Of a limit, where the finding is about the process that has it.
_NEARLY = 0.95
At = tuple[Address, int]


class Remedy(NamedTuple):
    """One step: settings that belong together; `name` is empty where what helps is no setting.

    `unmet`: why it cannot be done here, instead of settings.
    """

    finding: str
    name: str
    settings: tuple[Setting, ...] = ()
    risk: str = ""
    unmet: str = ""


class Context(NamedTuple):
    """What a step is for: the run whose findings ask for it, its target, and the host."""

    run: LoadResult
    targets: Sequence[At]
    system: System


def remedy(finding: Finding, context: Context) -> Remedy | None:
    """The step that a finding asks for; None where it names no setting of a host."""
    maker = _MAKERS.get(finding.name)
    if maker is None:
        return None
    if _where(context) == "elsewhere" and finding.name not in _OF_THIS_END:
        made = Remedy("", finding.name, unmet=f"the target is on another host: run there `{check_there(context)}`")
    else:
        made = maker(context)
    return made._replace(finding=finding.name)


def check_there(context: Context) -> str:
    """The command that compares the settings of the target's host with what the run needs."""
    run, ports = context.run, dict.fromkeys(port for _, port in context.targets)
    of = f"tcp --connections {run.connections.peak}" if run.connections else "udp"
    ports_text = "".join(f" --port {port}" for port in ports)
    return f"flatout host check --role server --for {of} --rate {max(round(run.rate_per_s.sent), 1)}{ports_text}"


def _where(context: Context) -> str:
    return (context.run.placement and context.run.placement.where) or "elsewhere"


def _receive_buffer(context: Context) -> Remedy:
    name = "receive buffer of the target's socket (SO_RCVBUF)"
    risk = "under lasting overload what lies in it is answered late; up to so much more kernel memory a socket"
    ledger = context.run.ledger
    sockets = list(_sockets(context, live_socket.RCVBUF, stream=False))
    charge = ledger.surroundings.packet_bytes if ledger else None
    most = most_bytes(context.system)
    slack = context.run.rate_per_s.sent / max(len(sockets), 1) * _SLACK_S * (charge or 0)
    return _of_sockets(context, name, sockets, risk, lambda now: min(max(int(slack), _TIMES * now), most) & ~1)


def _accept_queue(context: Context) -> Remedy:
    name = "accept queue of the target's socket (listen)"
    risk = "a program that accepts too slowly keeps clients waiting instead of turning them away"
    sockets = list(_sockets(context, live_socket.BACKLOG, stream=True))
    made = _of_sockets(context, name, sockets, risk, lambda now: max(_TIMES * now, _FULL_QUEUE))
    if made.unmet:
        return made
    most = max(int(one.wanted or 0) for one in made.settings)
    bound = _at_target(context, "net.core.somaxconn")
    if bound is None:
        return Remedy("", name, unmet=_UNSEEN.format("net.core.somaxconn"))
    limit = _setting("net.core.somaxconn", bound, AtLeast((most,)), context.system)
    if limit is None:
        return made
    if why := context.system.blocked(bound):
        return Remedy("", name, unmet=f"net.core.somaxconn bounds it, and cannot be changed: {why}")
    return made._replace(settings=(limit, *made.settings))


def _descriptors(context: Context) -> Remedy:
    """Of the target's processes; this one has raised its own as far as it may."""
    name = "limit on descriptors of the target's process"
    about = context.run.ledger.surroundings if context.run.ledger else None
    held, limit = (about.target_files, about.target_files_limit) if about else (None, None)
    if held is None or limit is None or held < _NEARLY * limit:
        return Remedy("", name, unmet="it is this process's own: begin flatout with a higher one (ulimit -n)")
    target = context.run.placement.target if context.run.placement else None
    proc = context.system.root / "proc"
    keys = [key for pid in (target.pids if target else ()) if (key := process_limits.key(pid, proc))]
    made, why = [], "the target's process cannot be seen: it is another user's (run as root)"
    for key in keys:
        why = context.system.blocked(key) or "it is as high as it may be"
        soft, hard = map(int, context.system.seen(key).split() or (-1, -1))
        most = max(hard, _TIMES * soft) if context.system.may_raise_hard_limits() else hard
        wanted = min(_TIMES * soft, most)
        if wanted > soft > 0:
            made.append(_differing(name, key, f"{soft} {hard}", f"{wanted} {max(wanted, hard)}", _FILES))
    return Remedy("", name, tuple(made), _FILES) if made else Remedy("", name, unmet=why)


def most_bytes(system: System) -> int:
    """The most that a receive buffer is made: without rights a sysctl bounds it, which the kernel doubles."""
    if system.may_exceed_buffers():
        return _MOST_BYTES
    text = system.seen(_path("net.core.rmem_max"))
    return min(2 * int(text), _MOST_BYTES) if text.isdecimal() else _MOST_BYTES


def _sockets(context: Context, setting: str, *, stream: bool) -> Iterator[str]:
    """The keys of the target's sockets, as far as they can be seen."""
    about = context.run.placement.target if context.run.placement else None
    proc = context.system.root / "proc"
    if about is None or not about.pids:
        return
    for address, port in context.targets:
        bound = find_target.bound(proc / str(about.pids[0]) / "net", address, port, stream=stream)
        for inode, pid in find_target.holders_of([one.inode for one in bound], about.pids, proc).items():
            found = live_socket.key(pid, inode, setting, proc)
            if found:
                yield found


def _of_sockets(context: Context, name: str, keys: Sequence[str], risk: str, wanted: Callable[[int], int]) -> Remedy:
    made, why = [], "the target's sockets cannot be seen: they are another user's (run as root)"
    for key in dict.fromkeys(keys):
        why = context.system.blocked(key)
        if why:
            why = f"its descriptor cannot be duplicated (pidfd_getfd): {why}"
            break
        now = context.system.seen(key)
        if now.isdecimal() and wanted(int(now)) > int(now):
            made.append(_differing(name, key, now, str(wanted(int(now))), risk))
        else:
            why = f"it is as large as flatout makes it ({now})"
    return Remedy("", name, tuple(made), risk) if made else Remedy("", name, unmet=why)


def _sysctl(
    name: str, rule: Callable[[str], Rule], risk: str, *, whole_host: bool = False
) -> Callable[[Context], Remedy]:
    """A sysctl of the target's network namespace. `whole_host`: of the whole host, or of the generator's end."""

    def make(context: Context) -> Remedy:
        key = _path(name) if whole_host else _at_target(context, name)
        if key is None:
            return Remedy("", name, unmet=_UNSEEN.format(name))
        now = context.system.seen(key)
        found = _setting(name, key, rule(now), context.system) if now else None
        if why := context.system.blocked(key):
            return Remedy("", name, unmet=f"{name} cannot be changed here: {why}")
        if found is None:
            return Remedy("", name, unmet=f"{name} is as large as flatout makes it ({now})")
        return Remedy("", name, (_differing(name, key, found.now or "", found.wanted or "", risk),), risk)

    return make


def _at_target(context: Context, name: str) -> str | None:
    """The key of a sysctl in the target's network namespace; None where that cannot be seen."""
    if _where(context) != "namespace":
        return _path(name)
    about = context.run.placement.target if context.run.placement else None
    pids = about.pids if about else []
    return namespaces.key(pids[0], _path(name), context.system.root / "proc") if pids else None


def _setting(name: str, key: str, rule: Rule, system: System) -> Setting | None:
    now = system.seen(key)
    wanted = rule.reached(now) if now else now
    return _differing(name, key, now, wanted, "") if wanted.split() != now.split() else None


def _differing(name: str, key: str, now: str, wanted: str, risk: str) -> Setting:
    return Setting(name=name, key=key, now=now, wanted=wanted, state="differs", why="", risk=risk)


def _path(sysctl: str) -> str:
    return str(Path("/proc/sys", *sysctl.split(".")))


def _larger(now: str) -> Rule:
    return AtLeast(tuple(_TIMES * int(word) for word in now.split()))


def _socket_memory(context: Context) -> Remedy:
    name = "net.ipv4.tcp_mem" if context.run.scenario.streams else "net.ipv4.udp_mem"
    return _sysctl(name, _larger, _MEMORY, whole_host=True)(context)


_UNSEEN = "the target is in another network namespace, of which no process can be seen: raise {} there"
_FILES = "a program that uses select() fails at descriptors above 1,023"
_MEMORY = "kernel memory that other programs then lack"
_MAKERS: dict[str, Callable[[Context], Remedy]] = {
    "receive buffer": _receive_buffer,
    "accept queue": _accept_queue,
    "SYN queue": _sysctl("net.ipv4.tcp_max_syn_backlog", _larger, "320 bytes for each half-open connection"),
    "softnet backlog": _sysctl("net.core.netdev_max_backlog", _larger, "delay, and memory", whole_host=True),
    "conntrack full": _sysctl("net.netfilter.nf_conntrack_max", _larger, "256 bytes an entry"),
    "ephemeral ports": _sysctl(
        "net.ipv4.ip_local_port_range",
        lambda _now: Spanning(1024, 65535),
        "a port that a server listens at later may be taken",
        whole_host=True,
    ),
    "socket memory": _socket_memory,
    "descriptors": _descriptors,
}
# What the host of the generator has, wherever the target is.
_OF_THIS_END = frozenset({"ephemeral ports"})
SETTABLE = frozenset(_MAKERS)
