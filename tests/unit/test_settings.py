"""A setting is defined once: its flag and argument, its field of the scenario, of the plan, and of the engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flatout.plan.load_plan import LoadPlan
from flatout.protocols import PROTOCOLS
from flatout.scenario.model import Scenario
from flatout.scenario.settings import DEFINITIONS, LoadOptions

ROOT = Path(__file__).resolve().parents[2]
# Where a setting passes through. `resolve.py` fills the plan that `load_plan.py` describes: one place.
PLACES = {
    "definition": ["python/flatout/scenario/settings.py"],
    "scenario": ["python/flatout/scenario/model.py"],
    "plan": ["python/flatout/plan/load_plan.py", "python/flatout/plan/resolve.py"],
    "engine": ["crates/engine/src/plan.rs"],
}
# What acts on it, or says why a value cannot be had: it does not pass the setting on.
CONSUMERS = re.compile(
    r"engine/src/(generator|start|pace|tests|plan/python)|scenario/(streams|exchange)|plan/(capacity|xdp)|(runner|view|host|limit_search)/"
    # A setting of `Sender` with the same name.
    r"|send(er)?\.(py|rs)"
)
SAMPLES = {
    "connect_timeout": ("connect_timeout_s", "connect_timeout_ns"),
    "churn": ("churn", "churn"),
    "busy_poll": ("busy_poll_us", "busy_poll_us"),
    "reconnect": ("reconnect", "reconnect"),
    "gso": ("gso", "segmented"),
}


def spelling(names: set[str]) -> set[str]:
    """The source files outside tests that spell one of these names, and do not act on it."""
    found = re.compile(r"(?<![\w-])(" + "|".join(names) + r")(?!\w)")
    code = [
        *ROOT.glob("python/flatout/**/*.py"),
        *ROOT.glob("crates/py/src/*.rs"),
        *ROOT.glob("crates/engine/src/**/*.rs"),
    ]
    # The store's connect_timeout is libpq's.
    code = [file for file in code if file.parent.name != "store"]
    passing = {str(file.relative_to(ROOT)) for file in code if found.search(without_comments(file))}
    return {file for file in passing if not CONSUMERS.search(file)}


def without_comments(file: Path) -> str:
    return re.sub(r'""".*?"""|#[^\n]*|//[^\n]*', "", file.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("argument", SAMPLES)
def test_a_setting_passes_through_at_most_four_places(argument: str) -> None:
    files = spelling({argument, *SAMPLES[argument]})
    strangers = files - {file for place in PLACES.values() for file in place}
    assert strangers == set(), "a fifth place"
    assert {name for name, place in PLACES.items() if files & set(place)} == set(PLACES)


def test_every_argument_has_a_flag_and_a_field() -> None:
    fields = {field.name for field in msgspec.structs.fields(Scenario)}
    used_up = {"count", "tick"}
    for definition in DEFINITIONS:
        assert definition.setting.help
        assert (definition.setting.field or definition.name) in fields | used_up
    assert {definition.name for definition in DEFINITIONS} == LoadOptions.__annotations__.keys() - {"options"}


def test_the_engine_has_each_field_of_the_plan() -> None:
    text = (ROOT / "crates/engine/src/plan.rs").read_text(encoding="utf-8")
    plan = text[text.index("pub struct LoadPlan {") : text.index("\n}", text.index("pub struct LoadPlan {"))]
    rust: set[Any] = {
        given or name for given, name in re.findall(r'(?:attribute\("(\w+)"\)\)\)\]\s+)?pub (\w+):', plan)
    }
    assert rust == {field.name for field in msgspec.structs.fields(LoadPlan)}


def test_every_protocol_has_flags_of_its_own_settings_only() -> None:
    for protocol in PROTOCOLS.values():
        names = {
            definition.name
            for definition in DEFINITIONS
            if definition.setting.of in (None,) or definition.setting.of(protocol)
        }
        assert ("senders" in names) == (protocol.one_way is not None)
        assert ("tls" in names) == (protocol.links != ("udp",))
