"""What an experiment is: the server under test, the load, the grid, as frozen types that TOML and Python both fill."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Number = float | int | str
Mode = Literal["load", "limit"]
# The room for connections that dns-server-experiment gave unbound, for a thread.
SLOTS = "500 + 1.05 * connections / threads"


class ServerUnderTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The server: a `program` that is started for each run with a configuration made for it, or "none" and a `target`.

    `program`: one that the protocol knows, "serve" for flatout's own, or "none". `address` and `port` (null: a free one
    each time) are where it listens; over TLS at the port behind it. `namespace`: the network namespace in which it
    runs. `cpus`: those that it may use ("0", "1-3"). `tls_key`: the kind of key of its certificate. `start_timeout`:
    how long it may take to answer, s or text.
    `threads` and `tcp_slots` are its sizes, as numbers or formulas; `tcp_slots` is the room for connections in each
    thread. Both round up.
    """

    program: str
    target: str | None = None
    address: str = "127.0.0.1"
    port: int | None = None
    namespace: str | None = None
    cpus: str | None = None
    tls_key: Literal["ec", "rsa:2048", "rsa:4096"] = "ec"
    start_timeout: Number = 15
    threads: int | str = 1
    tcp_slots: int | str = SLOTS


class HostSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of this host's kernel while the experiment runs, as `flatout host apply` makes them for these `roles`.

    `connections`, `rate` and `interface` as there; default: the largest of all points, and no interface.
    """

    roles: list[Literal["server", "client"]]
    connections: int | None = None
    rate: Number | None = None
    interface: str | None = None


class Experiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One experiment: each point of the grid is measured, in order, and then all of them again, `repetitions` times.

    `protocol`: its name. `name`: the beginning of the labels of kept runs; default: the file's name.
    `mode`: "load" for a run at each point, "limit" for a search. `cooling`: the pause between runs, s or text.
    `fleet`: the Dask scheduler whose workers drive the load; default: this host.
    `compare`: the key of the grid whose values are compared as ratios to its first one; default: `transport`, or
    `server.program`.
    `server`: the server under test. `load`: arguments of `flatout.load`; a text that begins with = is a formula.
    `search`: arguments of `flatout.limit` that say what is searched.
    `grid`: for each key a list of values; keys are those of `load`, or `server.KEY` and `search.KEY`. The first one
    changes slowest.
    `host`: settings of this host, set before the first run and undone after the last.
    """

    protocol: str
    server: ServerUnderTest
    name: str = ""
    mode: Mode = "load"
    repetitions: int = 1
    cooling: Number = 1.0
    fleet: str | None = None
    compare: str | None = None
    load: dict[str, Any] = {}
    search: dict[str, Any] = {}
    grid: dict[str, Any] = {}
    host: HostSettings | None = None
