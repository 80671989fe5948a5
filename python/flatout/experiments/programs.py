"""The servers that an experiment can start: those that the protocol knows, and flatout's own. Pure text.

A configuration is made for each run, into the run's folder.
"""

from __future__ import annotations

import getpass
import importlib
import sys
from collections.abc import Mapping

from flatout.protocols.base import Protocol, ServerPlace, ServerProgram

OWN, NONE = "serve", "none"
_CONFIG = "serve.toml"


def programs(protocol: Protocol) -> dict[str, ServerProgram]:
    """All servers that an experiment with this protocol can start, by name."""
    found: dict[str, ServerProgram] = {}
    if protocol.programs:
        module, _, name = protocol.programs.partition(":")
        found.update(getattr(importlib.import_module(module), name))
    return {**found, OWN: _own(protocol)}


def command(program: ServerProgram, place: ServerPlace) -> list[str]:
    """The command line of a server at its place."""
    words: Mapping[str, object] = {"folder": place.folder, "user": _user(), **place.sizes}
    return [word.format_map(words) for word in program.command]


def _own(protocol: Protocol) -> ServerProgram:
    links = tuple(link for link in protocol.links if link != "tls")
    start = (sys.executable, "-m", "flatout", "serve", protocol.name, "--config", f"{{folder}}/{_CONFIG}", "--quiet")

    def files(place: ServerPlace) -> dict[str, str]:
        host = f"[{place.address}]" if ":" in place.address else place.address
        lines = [f'listen = ["{host}:{place.port}"]', f"threads = {place.sizes['threads']}"]
        if len(links) > 1:
            slots = max(place.sizes["threads"] * place.sizes["tcp_slots"], 1)
            lines += [f"transport = [{', '.join(f'{link!r}' for link in links)}]", f'connections = "{slots}"']
        return {_CONFIG: "\n".join([*lines, ""])}

    return ServerProgram(start, ("-m", "flatout", "--version"), links, files)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "root"
