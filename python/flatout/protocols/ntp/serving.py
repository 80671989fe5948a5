"""The options of `serve ntp`, and what they make: options for the engine and the source of the time state."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, Literal

from flatout import units
from flatout.errors import UsageError
from flatout.protocols.base import StateSource

if TYPE_CHECKING:
    from flatout.protocols.ntp.state import TimeState
    from flatout.protocols.ntp.upstream import Upstream

_LEAPS = ("announce", "ignore", "smear")


def _option(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"engine": False, "help": text})


@dataclasses.dataclass(frozen=True)
class ServeOptions:
    """Settings of `serve ntp`."""

    upstream: str | None = _option(
        None,
        "Answer with the state of a time daemon on this host, asked each second: HOST:PORT (over NTP), chrony, "
        "chrony:HOST:PORT, chrony:/SOCKET, ntpd, ntpd:HOST:PORT, or kernel (with --static). [a test clock]",
    )
    static: str | None = _option(
        None,
        "Answer with this state, true or not: stratum=1,refid=GPS and any of delay=1ms, dispersion=1ms, precision=-20.",
    )
    max_age: str = _option("60s", "How long the last state holds when the daemon is silent or not synchronised.")
    unsynchronised: Literal["answer", "silent"] = _option(
        "answer", "What to do without a state that holds: say so (leap 3, stratum 0), or not answer."
    )
    leap: Literal["announce", "ignore", "smear"] = _option(
        "announce",
        "Leap seconds: announce them as the daemon does, ignore them (others smear the clock), or smear them here, "
        "linearly from noon to noon UTC.",
    )
    symmetric: bool = _option(True, "Answer mode 1 (symmetric active), which Windows uses, with mode 2.")
    interleaved: bool = _option(
        True, "Tell interleaved clients (RFC 9769) when the answer before really left, by the kernel's stamp."
    )
    authenticated: Literal["drop", "answer"] = _option(
        "drop", "Requests with a MAC or NTS fields: drop them, or answer them without authentication."
    )


def engine_options(given: ServeOptions) -> list[tuple[str, int]]:
    """The options as the engine takes them. Errors: UsageError."""
    return [
        ("stated", int(given.upstream is not None or given.static is not None)),
        ("silent", _one_of("unsynchronised", given.unsynchronised, ("answer", "silent"))),
        ("symmetric", int(bool(given.symmetric))),
        ("interleaved", int(bool(given.interleaved))),
        ("authenticated", _one_of("authenticated", given.authenticated, ("drop", "answer"))),
        ("leap", _one_of("leap", given.leap, _LEAPS)),
    ]


def _one_of(name: str, value: str, words: tuple[str, ...]) -> int:
    if value not in words:
        raise UsageError(f"{name}={value!r}: give {', '.join(words[:-1])} or {words[-1]}")
    return words.index(value)


def state_source(given: ServeOptions) -> StateSource | None:
    """Where the server's state comes from; None: it is a test clock. Errors: UsageError."""
    max_age_s = units.seconds("max_age", given.max_age, 2, 86_400)
    if given.upstream is None and given.static is None:
        return None
    # Sockets and ctypes are for servers only.
    from flatout.protocols.ntp.upstream import StaticSource, TimeSource

    stated = None if given.static is None else static_state(given.static)
    if given.upstream is None:
        assert stated is not None
        return StaticSource(stated)
    return TimeSource(upstream_of(given.upstream, stated), max_age_s, smear=given.leap == "smear")


def upstream_of(text: str, stated: TimeState | None) -> Upstream:
    """The upstream that the text names; `stated`: what the operator states of it. Errors: UsageError."""
    kind, _, at = text.partition(":")
    if kind == "kernel" and not at:
        if stated is None:
            raise UsageError(
                "upstream 'kernel' knows no stratum and no reference: state them, --static stratum=1,refid=PPS"
            )
        from flatout.protocols.ntp.upstream.kernel import Kernel

        return Kernel(stated)
    if stated is not None:
        raise UsageError(f"static goes with upstream 'kernel' or alone: '{text}' states all itself")
    if kind == "chrony":
        from flatout.protocols.ntp.upstream import chrony

        return chrony.Chrony(at if at.startswith("/") else _address(text, at, chrony.PORT))
    if kind == "ntpd":
        from flatout.protocols.ntp.upstream import ntpd

        return ntpd.Ntpd(*_address(text, at, ntpd.PORT))
    from flatout.protocols.ntp.upstream.daemon import Daemon

    return Daemon(*_address(text, text, None))


def _address(text: str, at: str, port: int | None) -> tuple[str, int]:
    """Host and port of `at`; nothing there: loopback. Errors: UsageError, also where the port is missing."""
    if not at and port is not None:
        return "127.0.0.1", port
    found = re.fullmatch(r"\[([0-9A-Fa-f:.%\w]+)\](?::(\d{1,5}))?|([^:\[\]\s/]+)(?::(\d{1,5}))?", at)
    if found is not None:
        number = found[2] or found[4] or port
        if number is not None and 0 < int(number) <= 65535:
            return _near(text, found[1] or found[3]), int(number)
    raise UsageError(
        f"upstream '{text}': write HOST:PORT, chrony, chrony:HOST:PORT, chrony:/SOCKET, ntpd, ntpd:HOST:PORT or kernel"
    )


def _near(text: str, host: str) -> str:
    """The host; what a name stands for is looked at when it is asked. Errors: UsageError for a public address."""
    from flatout.protocols.ntp.upstream.address import is_near

    try:
        if not is_near(host):
            raise UsageError(
                f"upstream '{text}': the daemon must keep this host's clock, and this address is neither private nor "
                "of this host"
            )
    except ValueError:
        pass  # a name
    return host


def static_state(text: str) -> TimeState:
    """The state in `stratum=…,refid=…`. Errors: UsageError."""
    from flatout.protocols.ntp.state import TimeState
    from flatout.protocols.ntp.upstream.ntpd import reference_id

    form = f"static '{text}': write it like stratum=1,refid=GPS,delay=0ms,dispersion=1ms,precision=-20"
    pairs = [part.strip().partition("=") for part in text.split(",")]
    values = {name: value for name, _, value in pairs}
    known = {"stratum", "refid", "delay", "dispersion", "precision"}
    if len(values) != len(pairs) or set(values) - known or not {"stratum", "refid"} <= set(values):
        raise UsageError(form)
    try:
        stratum, precision = int(values["stratum"]), int(values.get("precision", "-20"))
        reference = reference_id(values["refid"])
    except ValueError as error:
        raise UsageError(form) from error
    if not 1 <= stratum <= 15 or not -32 <= precision <= 0:
        raise UsageError(f"{form}; the stratum is 1 to 15, the precision -32 to 0")
    try:
        times = [units.seconds(name, values.get(name, "0"), 0, 15) for name in ("delay", "dispersion")]
    except UsageError as error:
        raise UsageError(f"{form}; {error}") from error
    delay_ns, dispersion_ns = (round(seconds * 1e9) for seconds in times)
    return TimeState(0, stratum, precision, reference, 0, delay_ns, dispersion_ns, dispersion_ppb=0)
