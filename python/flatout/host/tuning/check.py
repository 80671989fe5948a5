"""Compares the settings of a host with what an aim needs. Changes nothing."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from typing import Literal

import msgspec

from flatout.host.describe import describe
from flatout.host.tuning import driver_programs, netfilter
from flatout.host.tuning.aim import Aim, Machine
from flatout.host.tuning.machine import machine as described
from flatout.host.tuning.rules import same
from flatout.host.tuning.system import FOREIGN_DEVICES, System, reason
from flatout.host.tuning.tunable import Tunable
from flatout.host.tuning.tunables import TUNABLES
from flatout.result.model import SCHEMA, Host

NOTRACK = "connection tracking (NOTRACK)"
_WHY_NOTRACK = "tracking costs time for each packet, and drops what does not fit into its table"
_RISK_NOTRACK = "rules for state must accept untracked packets of these ports; NAT of them ends"

State = Literal["ok", "differs", "advice", "absent", "unknown"]
# Of these nothing is left to do for `apply`.
FINE = ("ok", "advice", "absent")


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A setting: its value now (null where it cannot be read), the value wanted, why, and the risk of that.

    `key`: its file, or the program that has it; empty where nothing does. "irq:41:NAME" is that interrupt's affinity,
    "ethtool:IF:SETTING" what ethtool shows, "xdp:IF:driver" what its driver can do for programs. `state`: "advice"
    where it differs and is left to people, "absent" where this kernel, device or network namespace does not have it,
    "unknown" where it cannot be read. `blocked`: why it cannot be changed here, why it is left, or what the device
    cannot do.
    """

    name: str
    key: str
    now: str | None
    wanted: str | None
    state: State
    why: str
    risk: str
    blocked: str = ""


class HostCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found. `passed`: every setting that is here is known and as wanted; advice does not count."""

    schema: str = SCHEMA
    kind: Literal["host-check"] = "host-check"
    aim: Aim
    host: Host
    started_at: str
    settings: list[Setting]
    passed: bool


_NO_DEVICES = Setting(
    name="network devices",
    key="/sys/class/net",
    now=None,
    wanted=None,
    state="unknown",
    why="their queues and interrupts decide which CPU does the kernel's part",
    risk="",
    blocked=FOREIGN_DEVICES,
)


def check(aim: Aim, system: System) -> HostCheck:
    """Reads all settings that matter for an aim. Errors: ArgumentError for an interface that is not there."""
    machine = described(system, aim.interface)
    settings = [one for tunable in TUNABLES if tunable.matters(aim) for one in _settings(tunable, aim, machine, system)]
    if system.foreign_devices:
        settings.append(_NO_DEVICES)
    if aim.transport == "udp":
        settings += _driver_programs(machine, system)
    settings.append(_tracking(aim, machine, system))
    return HostCheck(
        aim=aim,
        host=describe(),
        started_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        settings=settings,
        passed=all(one.state in FINE for one in settings),
    )


def _settings(tunable: Tunable, aim: Aim, machine: Machine, system: System) -> Iterator[Setting]:
    for key in tunable.keys(system, machine):
        rule = tunable.rule(aim, machine, key)
        if rule is None:
            continue
        now: str | None = None
        wanted: str | None = None
        state: State = "unknown"
        blocked = ""
        try:
            now = tunable.parse(system.read(key))
            wanted = rule.reached(now)
            state = "ok" if same(key, now, wanted) else "differs"
        except OSError as error:
            state = "absent" if error.errno in (errno.ENOENT, errno.EOPNOTSUPP) else "unknown"
            text = error.strerror or ""
            blocked = text if ":" in text else reason(error.errno)
        except (ValueError, IndexError):
            blocked = "not the text that is expected of it"
        if state == "differs" and tunable.advice:
            state, blocked = "advice", tunable.advice
        elif state == "differs":
            blocked = tunable.remedy or system.blocked(key)
        elif state == "ok":
            blocked = tunable.short(machine, key)
        yield Setting(
            name=tunable.name,
            key=key,
            now=now,
            wanted=wanted,
            state=state,
            why=tunable.why,
            risk=tunable.risk,
            blocked=blocked,
        )


def _driver_programs(machine: Machine, system: System) -> Iterator[Setting]:
    for one in driver_programs.support(machine, system):
        why, risk = driver_programs.WHY, driver_programs.RISK
        yield Setting(name=driver_programs.NAME, why=why, risk=risk, **one._asdict())


def _tracking(aim: Aim, machine: Machine, system: System) -> Setting:
    """Whether the packets of the service are tracked, by whichever program there is."""
    key = _program(system)
    now: str | None = None
    wanted: str | None = None
    state: State = "ok"
    blocked = ""
    if machine.tracks is None:
        state, blocked = "unknown", "only root may see whether a rule of the firewall tracks"
    elif not machine.tracks:
        now = wanted = "tracks nothing"
    elif not aim.ports:
        key = ""
        now, wanted, state = "tracks all", "not the ports of the service", "differs"
        blocked = "the ports are not known: name them with --port"
    elif not key:
        now, wanted, state = "tracks all", netfilter.text(netfilter.wanted(aim)), "differs"
        blocked = "neither nft nor iptables is installed"
    else:
        try:
            now = system.read(key)
            # Rules for other ports that are there already stay.
            wanted = netfilter.with_more(now, netfilter.wanted(aim))
            state = "ok" if now == wanted else "differs"
            blocked = system.blocked(key) if state == "differs" else ""
        except OSError as error:
            state, blocked = "unknown", error.strerror or reason(error.errno)
    return Setting(
        name=NOTRACK,
        key=key,
        now=now,
        wanted=wanted,
        state=state,
        why=_WHY_NOTRACK,
        risk=_RISK_NOTRACK,
        blocked=blocked,
    )


def _program(system: System) -> str:
    """The key of the rules, by the program that this host has; empty where it has none."""
    for key, command in ((netfilter.NFT, "nft"), (netfilter.IPTABLES, "iptables")):
        if system.run((command, "--version"), "")[0] == 0:
            return key
    return ""
