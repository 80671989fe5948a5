"""Starts servers as they are installed: nothing pinned, their own number of threads, one small zone.

Each is ended by its id. `protocol_of` gives the protocol of a name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from peers import CHRONY, free_port

ZONE = """$ORIGIN example.com.
$TTL 300
@ IN SOA ns.example.com. host.example.com. 1 3600 600 86400 60
@ IN NS ns.example.com.
ns IN A 192.0.2.53
@ IN A 192.0.2.1
www IN A 192.0.2.2
"""
KNOT = """server:
    listen: [ 127.0.0.1@{port} ]
    rundir: {folder}
    udp-workers: {threads}
    tcp-workers: {threads}
    background-workers: 1
database:
    storage: {folder}
    journal-db-max-size: 8M
    kasp-db-max-size: 8M
    timer-db-max-size: 8M
    catalog-db-max-size: 8M
zone:
  - domain: example.com
    file: {folder}/zone
    zonefile-sync: -1
    journal-content: none
"""
UNBOUND = """server:
    directory: "{folder}"
    chroot: ""
    username: ""
    pidfile: ""
    do-daemonize: no
    use-syslog: no
    logfile: ""
    num-threads: {threads}
    interface: 127.0.0.1@{port}
    incoming-num-tcp: 200
    access-control: 127.0.0.0/8 allow
    module-config: "iterator"
    local-zone: "example.com." static
    local-data: "www.example.com. A 192.0.2.2"
"""
NSD = """server:
    ip-address: 127.0.0.1@{port}
    server-count: {threads}
    rrl-ratelimit: 0
    username: ""
    chroot: ""
    zonesdir: "{folder}"
    database: ""
    pidfile: "{folder}/pid"
    xfrdfile: "{folder}/xfrd"
    xfrdir: "{folder}"
    zonelistfile: "{folder}/zones"
remote-control:
    control-enable: no
zone:
    name: example.com
    zonefile: zone
"""
OURS = {"serve ntp": "ntp", "serve dns": "dns"}
# Program, its configuration, and its arguments before the configuration's name.
PROGRAMS = {
    "knot": ("knotd", KNOT, ["-c"]),
    "unbound": ("unbound", UNBOUND, ["-d", "-c"]),
    "nsd": ("nsd", NSD, ["-d", "-c"]),
    "chronyd": ("chronyd", CHRONY, ["-x", "-d", "-U", "-u", "root", "-f"]),
}


@contextlib.contextmanager
def server(name: str, threads: int) -> Iterator[str]:
    """A server by its name, with so many threads; its address."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = _ours(name, port, threads) if name in OURS else _peer(name, port, threads, Path(folder))
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(1.5)
            if running.poll() is not None:
                raise SystemExit(f"{command[0]} ended at once with code {running.returncode}")
            yield f"127.0.0.1:{port}"
        finally:
            running.terminate()
            running.wait(timeout=20)


def protocol_of(name: str) -> str:
    """What a server speaks."""
    return OURS.get(name, "ntp" if name == "chronyd" else "dns")


def _ours(name: str, port: int, threads: int) -> list[str]:
    more = ["--answer", "192.0.2.7"] if name == "serve dns" else []
    listen = ["--listen", f"127.0.0.1:{port}", "--threads", str(threads), "--quiet", *more]
    return [sys.executable, "-m", "flatout", "serve", OURS[name], *listen]


def _peer(name: str, port: int, threads: int, folder: Path) -> list[str]:
    program, text, arguments = PROGRAMS[name]
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        raise SystemExit(f"{program} is not installed here")
    (folder / "zone").write_text(ZONE, encoding="ascii")
    config = folder / "configuration"
    config.write_text(text.format(port=port, folder=folder, threads=threads), encoding="ascii")
    return [path, *arguments, str(config)]
