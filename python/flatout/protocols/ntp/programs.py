"""NTP servers of others for experiments: their configuration. Pure text."""

from __future__ import annotations

from flatout.protocols.base import ServerPlace, ServerProgram


def chronyd(place: ServerPlace) -> dict[str, str]:
    """chronyd: serves this host's clock as it is, without touching it. It has one thread."""
    text = f"""\
local stratum 10
allow all
port {place.port}
bindaddress {place.address}
cmdport 0
bindcmdaddress /
pidfile {place.folder}/server.pid
noclientlog
"""
    return {"chrony.conf": text}


PROGRAMS = {
    # -x: the clock is not controlled; -U: also without root; -d: in the foreground.
    "chronyd": ServerProgram(
        ("chronyd", "-x", "-d", "-U", "-u", "{user}", "-f", "{folder}/chrony.conf"), ("--version",), ("udp",), chronyd
    ),
}
