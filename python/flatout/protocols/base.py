"""What a protocol tells the rest: its name, its port, its knobs and its words. The registry is in `__init__`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class NoKnobs:
    """For protocols, or ends of protocols, without settings of their own."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One protocol, as people meet it. This module and its users import no CLI library: `import flatout` stays quick.

    `knobs` and `serve_knobs` are dataclasses whose fields become CLI flags and TOML keys of `load`/`limit` and of
    `serve` (help text in the fields' metadata); the engine takes their values as whole numbers, but for those whose
    metadata says `"engine": False`: they are for Python alone. `words` explains each tally in one line.
    `links`: what it travels over, the usual one first; over TLS at `tls_port`, where that differs. `default_lines`:
    what is asked where no query file is given; none for a protocol without query files. `codes`: which tallies are
    answer codes, as other tools write them; where there are any, the summary of a load also bears the labels that
    scripts look for. `serve_entries`: makes what a server answers from, of `serve_knobs`. `engine_knobs`: where knobs
    are more than numbers, makes the engine's of `knobs` or of `serve_knobs`; `lines_of`: where messages are made of
    rows, makes the lines of `knobs` that take the place of a query file's. `one_way`: for protocols whose messages
    nobody answers, tells of `knobs` whether that is so; such a protocol is served by receiving. `told_apart`: of such
    knobs how many senders a receiver can tell apart; None: by their addresses alone.
    """

    name: str
    title: str
    port: int
    test_port: int
    summary: str
    knobs: type[Any] = NoKnobs
    serve_knobs: type[Any] = NoKnobs
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    links: tuple[str, ...] = ("udp",)
    tls_port: int | None = None
    default_lines: tuple[str, ...] = ()
    codes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    serve_entries: Callable[[Any], list[tuple[bytes, bytes]]] | None = None
    engine_knobs: Callable[[Any], list[tuple[str, int]]] | None = None
    lines_of: Callable[[Any], list[str]] | None = None
    one_way: Callable[[Any], bool] | None = None
    told_apart: Callable[[Any], int | None] | None = None

    def port_over(self, link: str) -> int:
        """The port that servers listen on for it."""
        return self.tls_port or self.port if link == "tls" else self.port


def knob_values(knobs: Any) -> dict[str, int]:
    """The knobs of a filled-in dataclass, for the engine."""
    fields = (field for field in dataclasses.fields(knobs) if field.metadata.get("engine", True))
    return {field.name: int(getattr(knobs, field.name)) for field in fields}
