"""DNS servers of others for experiments: their configuration for one zone, by sizes. Pure text.

All answer `example.com A`, the query without a query file, from memory: what is measured is the way to the server and
back. Room for connections is in each server's own unit, so that `tcp_slots` always means those of one thread.
"""

from __future__ import annotations

from flatout.protocols.base import ServerPlace, ServerProgram

_ZONE = """\
$ORIGIN example.com.
$TTL 3600
@ IN SOA ns.example.com. host.example.com. 1 3600 600 86400 60
@ IN NS ns.example.com.
ns IN A 192.0.2.53
@ IN A 192.0.2.1
@ IN AAAA 2001:db8::1
www IN A 192.0.2.2
"""
# Connections stay open for so long without a query, in s: no server is to end one in mid-run.
_IDLE_S = 120


def unbound(place: ServerPlace) -> dict[str, str]:
    """unbound: its slots are those of each thread. Over TLS it has a port and a certificate."""
    over_tls = f"""\
    interface: {place.address}@{place.tls_port}
    tls-port: {place.tls_port}
    tls-service-key: "{place.key}"
    tls-service-pem: "{place.certificate}"
    tls-cert-bundle: ""
"""
    text = f"""\
server:
    directory: "{place.folder}"
    chroot: ""
    username: ""
    pidfile: ""
    do-daemonize: no
    use-syslog: no
    logfile: ""
    num-threads: {place.sizes["threads"]}
    interface: {place.address}@{place.port}
{over_tls if place.certificate else ""}\
    access-control: 0.0.0.0/0 allow
    access-control: ::0/0 allow
    incoming-num-tcp: {place.sizes["tcp_slots"]}
    tcp-idle-timeout: {1000 * _IDLE_S}
    msg-buffer-size: 4096
    so-reuseport: yes
    module-config: "iterator"
    local-zone: "example.com." static
    local-data: "example.com. 3600 IN A 192.0.2.1"
    local-data: "example.com. 3600 IN AAAA 2001:db8::1"
    local-data: "www.example.com. 3600 IN A 192.0.2.2"
remote-control:
    control-enable: no
"""
    return {"unbound.conf": text}


def nsd(place: ServerPlace) -> dict[str, str]:
    """nsd: `tcp-count` is that of each server process. Over TLS it has a port and a certificate."""
    over_tls = f"""\
    ip-address: {place.address}@{place.tls_port}
    tls-port: {place.tls_port}
    tls-service-key: "{place.key}"
    tls-service-pem: "{place.certificate}"
"""
    text = f"""\
server:
    ip-address: {place.address}@{place.port}
{over_tls if place.certificate else ""}\
    server-count: {place.sizes["threads"]}
    reuseport: {"yes" if place.sizes["threads"] > 1 else "no"}
    tcp-count: {place.sizes["tcp_slots"]}
    tcp-query-count: 0
    tcp-timeout: {_IDLE_S}
    rrl-ratelimit: 0
    username: ""
    chroot: ""
    zonesdir: "{place.folder}"
    database: ""
    pidfile: "{place.folder}/server.pid"
    xfrdfile: "{place.folder}/xfrd"
    xfrdir: "{place.folder}"
    zonelistfile: "{place.folder}/zones"
remote-control:
    control-enable: no
zone:
    name: example.com
    zonefile: example.com.zone
"""
    return {"nsd.conf": text, "example.com.zone": _ZONE}


def knot(place: ServerPlace) -> dict[str, str]:
    """Knot DNS: its slots are those of all workers together. knotd of Debian 12 has no TLS."""
    threads = place.sizes["threads"]
    text = f"""\
server:
    listen: [ {place.address}@{place.port} ]
    rundir: {place.folder}
    udp-workers: {threads}
    tcp-workers: {threads}
    background-workers: 1
    tcp-max-clients: {max(threads * place.sizes["tcp_slots"], threads)}
    tcp-idle-timeout: {_IDLE_S}
log:
  - target: stderr
    any: info
database:
    storage: {place.folder}
    journal-db-max-size: 8M
    kasp-db-max-size: 8M
    timer-db-max-size: 8M
    catalog-db-max-size: 8M
zone:
  - domain: example.com
    file: {place.folder}/example.com.zone
    zonefile-sync: -1
    journal-content: none
"""
    return {"knot.conf": text, "example.com.zone": _ZONE}


def bind9(place: ServerPlace) -> dict[str, str]:
    """BIND 9 (named): its slots are those of all threads together, the number of threads is on its command line."""
    family = "listen-on-v6" if ":" in place.address else "listen-on"
    none = "listen-on" if ":" in place.address else "listen-on-v6"
    certified = f"""\
tls own {{
    key-file "{place.key}";
    cert-file "{place.certificate}";
}};
"""
    over_tls = f"    {family} port {place.tls_port} tls own {{ {place.address}; }};\n"
    text = f"""\
{certified if place.certificate else ""}\
options {{
    directory "{place.folder}";
    pid-file none;
    session-keyfile none;
    managed-keys-directory "{place.folder}";
    {family} port {place.port} {{ {place.address}; }};
{over_tls if place.certificate else ""}\
    {none} {{ none; }};
    allow-query {{ any; }};
    recursion no;
    dnssec-validation no;
    tcp-clients {max(place.sizes["threads"] * place.sizes["tcp_slots"], 1)};
    tcp-listen-queue 8192;
    tcp-idle-timeout {10 * _IDLE_S};
    tcp-keepalive-timeout {10 * _IDLE_S};
}};
controls {{ }};
zone "example.com" {{
    type primary;
    file "example.com.zone";
}};
"""
    return {"named.conf": text, "example.com.zone": _ZONE}


PROGRAMS = {
    "unbound": ServerProgram(("unbound", "-d", "-c", "{folder}/unbound.conf"), ("-V",), ("udp", "tcp", "tls"), unbound),
    "nsd": ServerProgram(("nsd", "-d", "-c", "{folder}/nsd.conf"), ("-v",), ("udp", "tcp", "tls"), nsd),
    "knot": ServerProgram(("knotd", "-c", "{folder}/knot.conf"), ("-V",), ("udp", "tcp"), knot),
    "bind9": ServerProgram(
        ("named", "-g", "-n", "{threads}", "-c", "{folder}/named.conf"), ("-v",), ("udp", "tcp", "tls"), bind9
    ),
}
