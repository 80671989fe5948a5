"""Real DNS servers with generated configurations: knotd, unbound and nsd on free ports of loopback.

Each serves one zone over UDP and TCP, unbound and nsd over TLS too. knotd 3.2, which Debian has, knows no TLS.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import dns.exception
import dns.message
import dns.query
import dns.rcode

from conftest import wait_until

Find = Callable[[str], str]

# The name that the certificates are for.
NAME = "dns.flatout.test"
ZONE = """$ORIGIN example.com.
$TTL 300
@ IN SOA ns.example.com. host.example.com. 1 3600 600 86400 60
@ IN NS ns.example.com.
ns IN A 192.0.2.53
@ IN A 192.0.2.1
www IN A 192.0.2.2
www IN AAAA 2001:db8::2
"""

_KNOT = """server:
    listen: [ 127.0.0.1@{port} ]
    rundir: {folder}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    tcp-idle-timeout: {idle_s}
log:
  - target: stderr
    any: info
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

_UNBOUND = """server:
    directory: "{folder}"
    chroot: ""
    username: ""
    pidfile: ""
    do-daemonize: no
    use-syslog: no
    logfile: ""
    num-threads: 1
    interface: 127.0.0.1@{port}
    interface: 127.0.0.1@{tls_port}
    tls-port: {tls_port}
    tls-service-key: "{folder}/key.pem"
    tls-service-pem: "{folder}/certificate.pem"
    tls-cert-bundle: ""
    access-control: 127.0.0.0/8 allow
    incoming-num-tcp: {places}
    tcp-idle-timeout: {idle_ms}
    extended-statistics: yes
    module-config: "iterator"
    local-zone: "example.com." static
{data}
remote-control:
    control-enable: yes
    control-use-cert: no
    control-interface: {folder}/control
"""

_NSD = """server:
    ip-address: 127.0.0.1@{port}
    ip-address: 127.0.0.1@{tls_port}
    tls-port: {tls_port}
    tls-service-key: "{folder}/key.pem"
    tls-service-pem: "{folder}/certificate.pem"
    server-count: 1
    rrl-ratelimit: {answers}
    tcp-count: {places}
    tcp-query-count: {queries}
    username: ""
    chroot: ""
    zonesdir: "{folder}"
    database: ""
    pidfile: "{folder}/pid"
    xfrdfile: "{folder}/xfrd"
    xfrdir: "{folder}"
    zonelistfile: "{folder}/zones"
remote-control:
    control-enable: yes
    control-interface: {folder}/control
zone:
    name: example.com
    zonefile: zone
"""


class DnsServer(NamedTuple):
    """A running one. `address` takes UDP and TCP, `tls` TLS; `authority` is the PEM file that its certificate needs."""

    pid: int
    address: str
    tls: str
    authority: Path
    control: list[str]

    def statistics(self) -> dict[str, int]:
        """Its own counters since it began."""
        done = subprocess.run([*self.control, "stats_noreset"], capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode == 0, done.stdout + done.stderr
        return {name: int(value) for name, value in re.findall(r"^([\w.]+)=(\d+)$", done.stdout, re.MULTILINE)}


@contextlib.contextmanager
def knot(find: Find, folder: Path, *, idle_s: int = 30) -> Iterator[DnsServer]:
    """knotd, which closes connections that have been idle for so long."""
    program = find("knotd")
    port = _free_port()
    _write(folder, "zone", ZONE)
    config = _write(folder, "knot.conf", _KNOT.format(folder=folder, port=port, idle_s=idle_s))
    with _running([program, "-c", config], folder, port) as pid:
        yield DnsServer(pid, f"127.0.0.1:{port}", "", folder / "none", [])


@contextlib.contextmanager
def unbound(find: Find, folder: Path, *, places: int = 200, idle_ms: int = 30_000) -> Iterator[DnsServer]:
    """unbound, which takes so many connections at once."""
    program, control = find("unbound"), find("unbound-control")
    port, tls_port = _free_port(), _free_port()
    authority = certificate(find, folder)
    records = [line.split(";")[0] for line in _records()]
    data = "\n".join(f"    local-data: '{record}'" for record in records)
    text = _UNBOUND.format(folder=folder, port=port, tls_port=tls_port, places=places, idle_ms=idle_ms, data=data)
    config = _write(folder, "unbound.conf", text)
    with _running([program, "-d", "-c", config], folder, port, tls_port) as pid:
        yield DnsServer(pid, f"127.0.0.1:{port}", f"127.0.0.1:{tls_port}", authority, [control, "-c", config])


@contextlib.contextmanager
def nsd(find: Find, folder: Path, *, places: int = 200, queries: int = 0, answers: int = 0) -> Iterator[DnsServer]:
    """nsd, which ends each connection after so many queries and answers so many a second over UDP (0: any number)."""
    program, control = find("nsd"), find("nsd-control")
    port, tls_port = _free_port(), _free_port()
    authority = certificate(find, folder)
    _write(folder, "zone", ZONE)
    text = _NSD.format(folder=folder, port=port, tls_port=tls_port, places=places, queries=queries, answers=answers)
    config = _write(folder, "nsd.conf", text)
    with _running([program, "-d", "-c", config], folder, port, tls_port) as pid:
        yield DnsServer(pid, f"127.0.0.1:{port}", f"127.0.0.1:{tls_port}", authority, [control, "-c", config])


def certificate(find: Find, folder: Path, name: str = NAME) -> Path:
    """Makes key.pem and certificate.pem for `name`; returns the authority that signed it."""
    openssl = find("openssl")
    authority, request = folder / "authority.pem", folder / "request.pem"
    small = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _must(
        openssl, "req", "-x509", *small, "-days", "2", "-subj", "/CN=flatout's tests",
        "-keyout", folder / "authority.key", "-out", authority,
    )  # fmt: skip
    _must(openssl, "req", *small, "-subj", f"/CN={name}", "-keyout", folder / "key.pem", "-out", request)
    extensions = folder / "extensions"
    extensions.write_text(f"subjectAltName = DNS:{name}\n", encoding="ascii")
    _must(
        openssl, "x509", "-req", "-in", request, "-days", "2", "-CAcreateserial", "-extfile", extensions,
        "-CA", authority, "-CAkey", folder / "authority.key", "-out", folder / "certificate.pem",
    )  # fmt: skip
    return authority


def _must(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"


def _records() -> list[str]:
    """The zone's records with whole names, as unbound wants them."""
    lines = [line for line in ZONE.splitlines() if not line.startswith("$")]
    whole = [re.sub(r"^@", "example.com.", line) for line in lines]
    return [re.sub(r"^(\w+) ", r"\1.example.com. ", line).replace(" IN ", " 300 IN ", 1) for line in whole]


def _write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="ascii")
    return str(path)


def _free_port() -> int:
    """A port of loopback that nobody holds, neither for UDP nor for TCP."""
    while True:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            stream.bind(("127.0.0.1", 0))
            port = int(stream.getsockname()[1])
            with contextlib.suppress(OSError):
                datagrams.bind(("127.0.0.1", port))
                return port


@contextlib.contextmanager
def _running(command: list[str], folder: Path, port: int, *others: int) -> Iterator[int]:
    """Runs it until the block ends; the block begins once it accepts on all ports and answers on the first."""
    log = folder / "server.log"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, cwd=folder) as process:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return all(map(_accepts, (port, *others))) and _answers(port)

        try:
            wait_until(ready, message=f"{command[0]} answering")
            yield process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _accepts(port: int) -> bool:
    with socket.socket() as asker:
        asker.settimeout(1)
        return asker.connect_ex(("127.0.0.1", port)) == 0


def _answers(port: int) -> bool:
    query = dns.message.make_query("example.com", "A")
    try:
        return dns.query.tcp(query, "127.0.0.1", timeout=2, port=port).rcode() == dns.rcode.NOERROR
    except (OSError, EOFError, dns.exception.DNSException):
        return False
