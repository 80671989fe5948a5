"""Experiment files: what is wrong is named with its key and line; the grid's order; the same from Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flatout
from conftest import ROOT, Cli
from flatout.errors import UsageError
from flatout.experiments.key_lines import key_lines, line_of
from flatout.experiments.points import Plan, plan
from flatout.experiments.read import checked, read

GOOD = """\
protocol = "dns"
repetitions = 2
cooling = "50ms"

[server]
program = "unbound"
threads = 2

[load]
rate = "= 100 * connections"
duration = "300ms"

[grid]
transport = ["udp", "tcp"]
connections = [10, 100]
server.tcp_slots = ["500 + 1.05 * connections / threads", 7]
"""


def planned(folder: Path, text: str) -> Plan:
    path = folder / "some.toml"
    path.write_text(text, encoding="utf-8")
    return plan(*read(path))


def test_the_grid_is_a_product_in_the_files_order(tmp_path: Path) -> None:
    found = planned(tmp_path, GOOD)
    assert found.experiment.name == "some"
    assert [point.label for point in found.points[:3]] == [
        "transport=udp,connections=10,tcp_slots=500 + 1.05 * connections / threads",
        "transport=udp,connections=10,tcp_slots=7",
        "transport=udp,connections=100,tcp_slots=500 + 1.05 * connections / threads",
    ]
    assert [point.sizes["tcp_slots"] for point in found.points] == [506, 7, 553, 7] * 2
    assert [point.scenario.peak_per_s for point in found.points[::2]] == [1000, 10_000] * 2
    assert [point.scenario.askers for point in found.points[::2]] == [10, 100] * 2
    order = [(repetition, point.number) for repetition, point in found.order]
    assert order == [(1, n) for n in range(1, 9)] + [(2, n) for n in range(1, 9)]
    assert (found.runs, found.compared) == (16, "transport")


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (changed("repetitions = 2", "repetition = 2"), 2, "repetition: there is no such key; there are protocol"),
        (changed("threads = 2", "thread = 2"), 7, "server.thread: there is no such key; there are program"),
        (changed("repetitions = 2", 'repetitions = "2"'), 2, "repetitions: expected int, got str"),
        (changed("repetitions = 2", "repetitions = 0"), 2, "repetitions: 0: give 1 to 10,000"),
        (changed('"50ms"', '"50 parsecs"'), 3, "cooling: duration '50 parsecs'"),
        (changed('"dns"', '"gopher"'), 1, "protocol 'gopher' is not one of"),
        (changed('program = "unbound"', 'program = "bound"'), 6, "'bound' is no server for dns; there are unbound"),
        (changed("threads = 2", "threads = 0"), 7, "server.threads: 0: give 1 to"),
        (changed("threads = 2", 'threads = "cores"'), 7, "server.threads: there is no 'cores' here; there are"),
        (changed("threads = 2", 'threads = "2 **"'), 7, "server.threads: '2 **' is no formula"),
        (changed("threads = 2", "port = 70000"), 7, "server.port: 70000: give 1 to 65534"),
        (changed("threads = 2", 'target = "10.0.0.1"'), 7, "server.target: it goes with program = 'none'"),
        (changed("threads = 2", 'cpus = "x"'), 7, "server.cpus: CPUs 'x'"),
        (changed("threads = 2", 'namespace = "lab"'), 7, "server.namespace: a server in a namespace needs its address"),
        (changed("threads = 2", 'tls_key = "dsa"'), 7, "server.tls_key: invalid enum value 'dsa'"),
        (changed("100 * connections", "100 * clients"), 10, "load.rate: there is no 'clients' here"),
        (changed('rate = "= 100 * connections"', 'rate = "fast"'), 10, "load.rate: 'fast'"),
        (
            changed('rate = "= 100 * connections"', "rat = 5"),
            10,
            "load.rat: there is no such key; there are allow_public",
        ),
        (changed('"300ms"', '"0s"'), 11, "load.duration: '0s': give a time above 0 s"),
        (changed('"300ms"', "3\nstart_at = 5"), 12, "load.start_at: there is no such key"),
        (changed('"300ms"', "3\noptions = { edn = true }"), 12, "load.options: dns has no option edn"),
        (changed('"udp", "tcp"', '"udp", "sctp"'), 14, "grid.transport: 'sctp': give one of udp, tcp, tls"),
        (changed("[10, 100]", "10"), 15, "grid.connections: 10: give a list of values"),
        (changed("[10, 100]", "[]"), 15, "grid.connections: []: give a list of values"),
        (changed("[10, 100]", "[10, 10]"), 15, "grid.connections: a value is there twice"),
        (changed("[10, 100]", "[10, -1]"), 15, "grid.connections: -1: give a whole number"),
        (changed("connections = [10", "connection = [10"), 15, "grid.connection: there is no such key"),
        (changed("server.tcp_slots", "server.slots"), 16, "grid.server.slots: there is no such key; there are cpus"),
        (changed("server.tcp_slots", "search.loss"), 16, "grid.search.loss: there is no such key; there are none"),
        (changed(", 7]", ', "7 /"]'), 16, "grid.server.tcp_slots: '7 /' is no formula"),
        (
            changed("[load]", "[search]\nloss = 0.1\n[load]"),
            9,
            "search: it says what is searched: write mode = 'limit'",
        ),
        (GOOD + '[host]\nroles = ["router"]\n', 18, "host.roles: invalid enum value 'router'"),
        (changed("cooling", 'compare = "rate"\ncooling'), 3, "compare: 'rate' is no key of the grid"),
        (
            changed('program = "unbound"', 'program = "knot"').replace('"tcp"]', '"tls"]'),
            14,
            "knot answers over udp, tcp",
        ),
        (changed('program = "unbound"', 'program = "none"'), 6, "server.program: 'none' starts no server: say which"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(UsageError) as error:
        planned(tmp_path, text)
    assert str(error.value).lower().startswith(f"{tmp_path}/some.toml, line {line}: ".lower()), str(error.value)
    assert words.lower() in str(error.value).lower()


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"some\.toml: the key 'protocol' is missing"):
        planned(tmp_path, GOOD.replace('protocol = "dns"', ""))
    with pytest.raises(UsageError, match=r"some\.toml, line 4: server: the key 'program' is missing"):
        planned(tmp_path, changed('program = "unbound"', "").replace("\n\n[server]", "\n[server]"))


def test_no_toml_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no TOML: .*line 2"):
        planned(tmp_path, 'protocol = "dns"\nserver = \n')
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "absent.toml")


def test_a_search_at_each_point(tmp_path: Path) -> None:
    text = changed("cooling", 'mode = "limit"\ncooling')
    with pytest.raises(UsageError, match=r"line 11: load\.rate: there is no such key"):
        planned(tmp_path, text)
    text = text.replace('rate = "= 100 * connections"\nduration = "300ms"\n', 'timeout = "200ms"\n')
    found = planned(tmp_path, text.replace("[grid]", '[search]\nbudget = "5s"\n[grid]\nsearch.loss = ["0.1%", 0.5]'))
    searches = [point.search for point in found.points]
    assert [search.goal.loss for search in searches if search] == [0.001] * 8 + [0.5] * 8
    assert found.points[0].search is not None
    assert found.points[0].search.budget_s == 5.0
    assert found.points[0].scenario.timeout_s == 0.2


def test_python_makes_the_same(tmp_path: Path) -> None:
    made = flatout.Experiment(
        name="some",
        protocol="dns",
        repetitions=2,
        cooling="50ms",
        server=flatout.ServerUnderTest(program="unbound", threads=2),
        load={"rate": "= 100 * connections", "duration": "300ms"},
        grid={
            "transport": ["udp", "tcp"],
            "connections": [10, 100],
            "server.tcp_slots": ["500 + 1.05 * connections / threads", 7],
        },
    )
    ours, theirs = plan(*checked(made)).points, planned(tmp_path, GOOD).points
    assert [(one.label, one.sizes, one.scenario) for one in ours] == [
        (one.label, one.sizes, one.scenario) for one in theirs
    ]
    wrong = flatout.Experiment(protocol="dns", server=flatout.ServerUnderTest(program="unbound"), load={"rat": 1})
    with pytest.raises(UsageError, match=r"the experiment: load\.rat: there is no such key"):
        flatout.experiment(wrong, folder=tmp_path)


def test_files_are_named_from_the_files_folder(tmp_path: Path) -> None:
    text = changed('"300ms"', '"300ms"\nqueries = "names.txt"')
    assert planned(tmp_path, text).points[0].scenario.queries == str(tmp_path / "names.txt")


def test_ramps_and_slopes(tmp_path: Path) -> None:
    rate = 'rate = "= 100 * connections"\nduration = "300ms"\n'
    ramp = planned(tmp_path, changed(rate, 'ramp = "1k..2k"\nduration = "4s"\n')).points[0].scenario
    assert [(part.seconds, part.from_per_s, part.to_per_s) for part in ramp.profile] == [(4.0, 1000.0, 2000.0)]
    steps = planned(tmp_path, changed(rate, 'profile = "1000 8s, -100/s 2s"\n')).points[0].scenario
    assert [(part.seconds, part.to_per_s) for part in steps.profile] == [(8.0, 1000.0), (2.0, 800.0)]


TRICKY = '''\
# a = 1
"quoted key" = "x # no comment"
text = """
b = 2
[not.a.table]
""" # done
list = [ # more
  "]",
  { inner = 1 },
]
dotted.deep.name = 'it = 5'
[table . "with space"]
literal = \'\'\'
c = 3\'\'\'
  indented = true

[[many]]
e = 1
'''


def test_lines_of_keys() -> None:
    assert key_lines(TRICKY) == {
        ("quoted key",): 2,
        ("text",): 3,
        ("list",): 7,
        ("dotted",): 11,
        ("dotted", "deep"): 11,
        ("dotted", "deep", "name"): 11,
        ("table", "with space"): 12,
        ("table", "with space", "literal"): 13,
        ("table", "with space", "indented"): 15,
        ("many",): 17,
        ("many", "e"): 18,
    }
    assert line_of(key_lines(TRICKY), ("list", "inner")) == 7
    assert line_of({}, ("a",)) is None


@given(st.text(max_size=80))
def test_lines_of_any_text_end(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in key_lines(text).values())


DRY = """\
protocol = "dns"
cooling = "1s"

[server]
program = "nsd"
port = 10053

[load]
rate = "1k"
duration = "2s"

[grid]
server.program = ["nsd", "knot", "bind9", "serve"]
connections = [10]
transport = ["udp"]
"""
DRY_TLS = """\
protocol = "dns"
repetitions = 2
[server]
program = "unbound"
[load]
rate = "1k"
[grid]
transport = ["tcp", "tls"]
connections = [10, 100]
"""


@pytest.mark.parametrize(("text", "name"), [(DRY, "experiment_plan"), (DRY_TLS, "experiment_plan_tls")])
def test_a_dry_run_prints_the_plan_and_touches_nothing(cli: Cli, tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "dry.toml").write_text(text, encoding="utf-8")
    ran = cli("experiment", "run", "dry.toml", "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    shown = ran.out.replace(str(tmp_path), "FOLDER").replace(sys.executable, "PYTHON")
    golden = ROOT / "tests" / "golden" / f"{name}.txt"
    if os.environ.get("FLATOUT_APPROVE"):
        golden.write_text(shown, encoding="utf-8")
    assert shown == golden.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["dry.toml"]


def test_the_example_is_an_experiment() -> None:
    for path in (ROOT / "examples" / "experiments").glob("*.toml"):
        assert plan(*read(path)).runs >= 2


def test_bad_use_ends_with_2(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(changed("threads = 2", "thread = 2"), encoding="utf-8")
    ran = cli("experiment", "run", "bad.toml")
    assert ran.code == 2
    assert ran.err.startswith("flatout: bad.toml, line 7: server.thread: there is no such key")
    assert cli("experiment", "show", "absent.toml").code == 2
    (tmp_path / "good.toml").write_text(GOOD, encoding="utf-8")
    ran = cli("experiment", "show", "good.toml")
    assert ran.code == 2
    assert "there are no runs in" in ran.err
