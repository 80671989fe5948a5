"""The conditions of a run, for its folder: kernel, CPUs, devices, and the settings that matter for its load."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from flatout.host.describe import describe
from flatout.host.tuning.aim import Aim, Role, Transport
from flatout.host.tuning.check import check
from flatout.host.tuning.system import System
from flatout.result.model import SCHEMA, Host
from flatout.scenario.model import Scenario

_ROLES: tuple[Role, ...] = ("server", "client")
_OF_DEVICE = ("mtu", "speed", "operstate", "tx_queue_len")


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was made under. `settings`: the kernel's, by name and key, as `flatout host check` reads them.

    `devices`: what /sys/class/net has of each network device. `server`: the first line of its version.
    """

    schema: str = SCHEMA
    experiment: str
    point: int
    repetition: int
    host: Host
    server: str
    command: list[str]
    cpu: str
    memory_bytes: int
    load_average: list[float]
    devices: dict[str, dict[str, str]]
    settings: dict[str, str | None]


def conditions(scenario: Scenario, run: tuple[str, int, int], server: str, command: list[str]) -> Conditions:
    """Reads all of it now. `run`: the experiment's id, the point's number, the repetition."""
    return Conditions(
        experiment=run[0],
        point=run[1],
        repetition=run[2],
        host=describe(),
        server=server,
        command=command,
        cpu=_field("/proc/cpuinfo", "model name"),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        load_average=list(os.getloadavg()),
        devices=_devices(),
        settings=_settings(scenario),
    )


def transport_of(scenario: Scenario) -> Transport:
    """What carries it, as settings of a host tell transports apart."""
    return "tcp" if scenario.streams else "udp"


def _settings(scenario: Scenario) -> dict[str, str | None]:
    system, found = System(), dict[str, str | None]()
    for role in _ROLES:
        aim = Aim(role=role, transport=transport_of(scenario), connections=scenario.askers)
        found |= {f"{one.name} {one.key}".strip(): one.now for one in check(aim, system).settings}
    return found


def _devices() -> dict[str, dict[str, str]]:
    found = {}
    for device in sorted(Path("/sys/class/net").glob("*")):
        about = {name: text for name in _OF_DEVICE if (text := _text(device / name))}
        driver = device / "device" / "driver"
        found[device.name] = {**about, **({"driver": driver.resolve().name} if driver.exists() else {})}
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _field(path: str, name: str) -> str:
    lines = (line.partition(":") for line in _text(Path(path)).splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")
