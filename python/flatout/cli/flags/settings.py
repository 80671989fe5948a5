"""The flags of `load` and `limit`, made from the definitions in `scenario.settings`."""

from __future__ import annotations

import dataclasses
import re
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import msgspec
from cyclopts import Group, Parameter

from flatout.protocols.base import Protocol
from flatout.scenario.exchange.wording import Wording
from flatout.scenario.model import Scenario
from flatout.scenario.settings import DEFINITIONS, Definition, LoadOptions

QUERIES = Group("What to ask", sort_key=1)
SENDERS = Group("Who sends", sort_key=1)
SENDING = Group("How to send", sort_key=2)
CONNECTIONS = Group("Connections", sort_key=3)
NODES = Group("Several hosts", sort_key=5)
_GROUPS = {"queries": QUERIES, "senders": SENDERS, "sending": SENDING, "connections": CONNECTIONS, "nodes": NODES}
# Flags of arguments that are called otherwise.
_FLAGS = {"duration": "--for", "least": "--min", "most": "--max", "axis": "--search"}
_FIELDS = {field.name: field for field in msgspec.structs.fields(Scenario)}


def setting_flags(protocol: Protocol, verb: str, schedule: Group, wording: Wording) -> type[Any]:
    """A dataclass of the flags that a command has for a protocol; `schedule`: its group for rate and time."""
    groups = {**_GROUPS, "schedule": schedule}
    fields = []
    for definition in _of(protocol, verb):
        setting, flag_type = definition.setting, _flag_type(definition.type)
        several = get_origin(flag_type) is list
        parameter = Parameter(
            name=setting.names or None,
            group=groups[setting.group],
            help=setting.help_for(protocol, verb).format_map(wording._asdict()),
            consume_multiple=several or None,
            negative=() if several or (flag_type is bool and setting.usual is None) else None,
            show_default=False if several or flag_type is bool or definition.name == "cpus" else None,
        )
        default = _default(definition, flag_type)
        usual = dataclasses.field(default_factory=list) if several else dataclasses.field(default=default)
        hint = flag_type if default is not None else flag_type | None
        fields.append((_field(definition), Annotated[hint, parameter], usual))
    made = dataclasses.make_dataclass("SettingFlags", fields)
    # The parser takes classes of the standard library's own modules, where make_dataclass puts it, for plain values.
    made.__module__ = __name__
    return made


def options_of(flags: Any, protocol: Protocol, verb: str) -> LoadOptions:
    """The flags as keyword arguments of the Python API; those not given are left out."""
    given: dict[str, Any] = {}
    for definition in _of(protocol, verb):
        value = getattr(flags, _field(definition))
        if value is None:
            continue
        if definition.setting.path:
            value = value and str(Path(value).absolute())
        if definition.part is None:
            given[definition.name] = value
        else:
            inverted = definition.setting.inverted
            given.setdefault(definition.name, {})[definition.part] = not value if inverted else value
    return cast("LoadOptions", given)


def flag_of(argument: str) -> str:
    """The flag of an argument that an error of the Python API names."""
    for definition in DEFINITIONS:
        name = definition.name if definition.part is None else f"{definition.name}[{definition.part!r}]"
        if argument == name and definition.setting.names:
            return definition.setting.names[0]
    # An element of a list has its list's flag, a protocol's option its own.
    found = re.match(r"(?:options\[')?(\w+)", argument)
    name = found[1] if found else argument
    return _FLAGS.get(name) or f"--{name.replace('_', '-')}"


def _of(protocol: Protocol, verb: str) -> list[Definition]:
    settings = ((definition, definition.setting) for definition in DEFINITIONS)
    return [found for found, its in settings if verb in its.verbs and (its.of is None or its.of(protocol))]


def _field(definition: Definition) -> str:
    return definition.name if definition.part is None else f"{definition.name}_{definition.part}"


def _flag_type(argument: Any) -> Any:
    """The type of a flag from that of an argument: words, numbers, switches and lists as they are, all else text."""
    union = get_origin(argument) in (Union, types.UnionType)
    inner = [one for one in (get_args(argument) if union else (argument,)) if one is not type(None)]
    if len(inner) != 1:
        return str
    if inner[0] in (bool, int) or get_origin(inner[0]) is Literal:
        return inner[0]
    return list[str] if get_args(inner[0]) == (str,) else str


def _default(definition: Definition, flag_type: Any) -> Any:
    """What a flag is unless given; None: its setting is then left out."""
    setting = definition.setting
    if setting.default is not ...:
        return setting.default
    if flag_type is bool:
        return False
    return _FIELDS[setting.field or definition.name].default if flag_type is not str else None
