"""The HTML page: whole in itself, safe whatever a result says, and showing the numbers it was given."""

from __future__ import annotations

import itertools
import json
import re
import sys
from html.parser import HTMLParser

import msgspec
import pytest
import ramps
import results

from flatout.analysis import explained_limit
from flatout.errors import UsageError
from flatout.result.model import Node, Requirement
from flatout.scenario.model import Scenario
from flatout.view import facts
from flatout.view.page import page
from flatout.view.page.chart import course
from flatout.view.page.stacked import looks, stacked
from flatout.view.picture import picture

pytest.importorskip("bokeh")

VOID = {"meta", "br", "hr", "img", "input", "link", "path", "rect"}


class Page(HTMLParser):
    """The parts of a page that tests ask for."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.html = html
        self.tags = []
        self.texts = {}
        self.open = []
        self.tables = []
        self.charts = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        where = self.open[-1] if self.open else ""
        self.texts.setdefault(where, []).append(data)
        if where == "script" and self.tags[-1][1].get("type") == "application/json":
            self.charts.append(json.loads(data))
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data.strip()

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def chart(self, name):
        names = [attrs["id"] for attrs in self.named("figure")]
        drawn = [n for n in names if f'id="{n}"' in self.html and not self._empty(n)]
        return self.charts[drawn.index(name)]

    def _empty(self, name):
        return 'class="nothing"' in self.html.split(f'id="{name}"')[1].split("</figure>")[0]

    def table(self, caption):
        captions = [text.strip() for text in self.texts["caption"]]
        return self.tables[captions.index(caption)]


def find(node, name):
    """Every model of a kind in a chart's document, wherever it was first mentioned."""
    if isinstance(node, dict):
        if node.get("name") == name and node.get("type") == "object":
            yield node["attributes"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from find(child, name)


def sources(chart):
    """The columns of every series of a chart, by the series' colour and mark (none: a line or bars)."""
    for renderer in find(chart, "GlyphRenderer"):
        entries = renderer["data_source"]["attributes"]["data"]["entries"]
        glyph = renderer["glyph"]
        marker = glyph["attributes"].get("marker", {"value": "circle"})["value"] if glyph["name"] == "Scatter" else None
        yield renderer["tags"][0], marker, dict(entries)


@pytest.fixture(scope="module")
def found():
    return results.limit()


@pytest.fixture(scope="module")
def limit_page(found):
    return Page(page.render(found))


@pytest.fixture(scope="module")
def load_page():
    return Page(page.render(results.load(230_000, 5)))


@pytest.fixture(scope="module")
def two():
    fast, slow = results.Server(400_000, 20_000), results.Server(150_000)
    return [("chronyd", results.limit(slow, "127.0.0.1:123")), ("flatout serve", results.limit(fast, "127.0.0.1:1123"))]


@pytest.fixture(scope="module")
def two_page(two):
    return Page(page.render(two))


def test_nothing_is_asked_of_anybody(limit_page):
    for tag, attrs in limit_page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form"), tag
        assert not {"src", "href", "srcset", "action", "poster", "data", "background"} & set(attrs), attrs
    assert not re.search(r"url\(|@import|https?:", "".join(limit_page.texts["style"]))
    policy = next(a["content"] for a in limit_page.named("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "eval" not in policy
    own = limit_page.texts["script"][-1]
    assert "fetch(" not in own
    assert "http" not in own


def test_the_library_is_in_the_page_once_and_the_page_is_small(limit_page, two_page):
    assert limit_page.html.count("BokehJS license") <= 1
    assert "embed_item" in limit_page.html
    assert len(limit_page.html) < 2_000_000
    assert len(two_page.html) < 2_500_000


def test_an_hour_long_run_stays_below_five_megabytes():
    second = results.interval(results.Server(), 230_000, 1.0, 1)
    hour = [msgspec.structs.replace(second, t_s=float(t)) for t in range(1, 3_601)]
    assert len(page.render(results.load(230_000, 2, intervals=hour))) < 5_000_000


def test_the_sentence_is_on_top(limit_page, load_page, found):
    assert [text.strip() for text in limit_page.texts["h1"]] == [found.sentence]
    sentence = load_page.texts["h1"][0]
    assert "210,000/s answered of 230,000/s asked with 8.70 % loss" in sentence
    assert "p99" in sentence


def test_every_chart_says_how_to_read_it_and_what_it_shows(limit_page, load_page, two_page):
    for shown in (limit_page, load_page, two_page):
        figures = shown.named("figure")
        captions = [text for text in shown.texts["figcaption"] if text.strip()]
        assert len(captions) == len(figures) == len({attrs["id"] for attrs in figures})
        assert all(len(text) > 60 for text in captions)
        plots = [attrs for attrs in shown.named("div") if attrs.get("class") == "plot"]
        assert len(plots) == len(shown.charts)
        assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 30 for attrs in plots)


def test_which_charts(limit_page, load_page):
    names = [attrs["id"] for attrs in limit_page.named("figure")]
    run = ["run-0-rates", "run-0-waiting", "run-0-profile"]
    assert names == ["answered", "latency", "lateness", "search-0", "limit-0-picture", *run]
    names = [attrs["id"] for attrs in load_page.named("figure")]
    assert names == ["load-0-picture", "run-0-rates", "run-0-missing", "run-0-waiting", "run-0-profile"]


def test_asked_against_answered_shows_every_trial_by_its_own_mark(limit_page, found):
    marks = {tag: (mark, data) for tag, mark, data in sources(limit_page.chart("answered")) if mark}
    assert {tag: mark for tag, (mark, _) in marks.items()} == {"held": "circle", "failed": "x", "invalid": "diamond"}
    for verdict, (_, data) in marks.items():
        trials = sorted((t for t in found.trials if t.verdict == verdict), key=lambda t: t.intended_per_s)
        assert data["x"] == [t.intended_per_s for t in trials]
        assert data["y"] == [t.rate_per_s.answered for t in trials]


def test_latency_leaves_out_what_the_generator_could_not_drive(limit_page, found):
    driven = sorted((t for t in found.trials if t.verdict != "invalid"), key=lambda t: t.intended_per_s)
    lines = [data["y"] for _, mark, data in sources(limit_page.chart("latency")) if not mark]
    fields = [field for _, field in facts.PERCENTILES]
    assert lines == [[getattr(t.latency_ns.from_due, field) for t in driven] for field in fields]


def test_lateness_shows_the_invalid_trials_apart(limit_page, found):
    data = list(sources(limit_page.chart("lateness")))
    late = next(t for t in found.trials if t.verdict == "invalid").lateness_ns
    assert [d["y"] for _, mark, d in data if mark == "diamond"] == [[late.p50], [late.p99], [late.max]]
    assert all(late.p99 not in d["y"] for _, mark, d in data if not mark)


def test_the_search_is_shown_in_order_with_its_bounds(limit_page, found):
    series = list(sources(limit_page.chart("search-0")))
    numbers = sorted(x for _, mark, data in series if mark for x in data["x"])
    assert numbers == list(range(1, len(found.trials) + 1))
    held = next(data["y"] for tag, mark, data in series if tag == "held" and not mark)
    assert held[:-1] == [pytest.approx(b.lower) for b in facts.bounds(found.trials)]


def test_the_course_of_a_run(load_page):
    run = results.load(230_000, 5)
    lines = [data["y"] for _, mark, data in sources(load_page.chart("run-0-rates")) if not mark]
    assert lines == [[getattr(s, word) for s in run.intervals] for word in ("planned", "sent", "answered")]
    tail = msgspec.structs.replace(run.intervals[-1], t_s=5.2, planned=0, sent=0, answered=3)
    late = course(msgspec.structs.replace(run, intervals=[*run.intervals, tail]), "late")[0]
    assert late.alternative.startswith("5 seconds"), "what comes after the last request is no rate"
    bars = [data for tag, _, data in sources(load_page.chart("run-0-missing")) if "top" in data]
    heights = [top - bottom for bar in bars for bottom, top in zip(bar["bottom"], bar["top"], strict=True)]
    assert sum(heights) == sum(s.lost + s.late + s.invalid for s in run.intervals)


def test_every_object_of_a_chart_is_read_before_it_is_referred_to(limit_page):
    for chart in limit_page.charts:
        known = set()
        for kind, number in re.findall(
            r'("type": "object", "name": "[^"]+", )?"id": "(p\d+)"', json.dumps(chart["doc"])
        ):
            assert kind or number in known
            known.add(number)
        assert len(known) > 10


def test_zero_stays_on_a_logarithmic_axis():
    run = results.load(for_s=2)
    zero = msgspec.structs.replace(run.lateness_ns, p50=0)
    chart = Page(page.render(msgspec.structs.replace(run, lateness_ns=zero))).chart("run-0-profile")
    assert all(y > 0 for _, _, data in sources(chart) for y in data["y"])


def test_a_run_of_one_second_is_a_dot():
    series = list(sources(Page(page.render(results.load(for_s=1))).chart("run-0-rates")))
    assert [data["x"] for tag, mark, data in series if mark and tag != "none"] == [[1.0]] * 3


def test_tables(limit_page, load_page, found):
    trials = limit_page.table("Trials")
    assert len(trials) == len(found.trials) + 1
    assert trials[6][:4] == ["6", "bracket", "failed", "320,000/s"]
    run = results.load(230_000, 5)
    outcomes = run.outcomes
    rows = {row[0]: row[1] for row in load_page.table("Outcomes")}
    assert rows["planned"] == f"{outcomes.planned:,}"
    assert rows["lost"] == f"{outcomes.lost:,}"
    assert all(equation in load_page.html for equation in facts.equations(run))
    assert [row[1] for row in load_page.table("Host") if row[0] == "hostname"] == ["bench-1"]
    assert [row[1] for row in load_page.table("Scenario") if row[0] == "target"] == ["192.0.2.10:123"]
    assert ["search.max_per_s", "2,000,000"] in limit_page.table("Scenario")
    assert load_page.table("Requirements")[1] == ["loss<0.5%", "measured 8.70 %", "not met"]


def test_details_are_folded(load_page):
    assert [text.strip() for text in load_page.texts["summary"]] == ["Scenario", "Host"]
    assert all("open" not in attrs for attrs in load_page.named("details"))


def test_both_themes_and_a_switch(limit_page):
    style = "".join(limit_page.texts["style"])
    assert "color-scheme: light dark" in style
    assert '[data-theme="dark"]' in style
    assert any(attrs.get("id") == "theme" for attrs in limit_page.named("button"))
    assert any(a.get("name") == "viewport" and "width=device-width" in a["content"] for a in limit_page.named("meta"))


def test_every_colour_that_is_used_is_in_the_style_sheet(limit_page, load_page, two_page):
    style = "".join(limit_page.texts["style"])
    for shown in (limit_page, load_page, two_page):
        used = {tag for chart in shown.charts for tag, _, _ in sources(chart)}
        used |= set(re.findall(r"color: var\(--([a-z0-9-]+)\)", shown.html.split("<body>")[1].split("<script>")[0]))
        assert used
        assert all(f"--{name}: " in style for name in used)


def test_several_begin_with_a_comparison(two_page, two):
    fast, slow = two[1][1].limit.value, two[0][1].limit.value
    assert (
        f"flatout serve reached {fast:,.0f}/s, {fast / slow:.2g} times chronyd ({slow:,.0f}/s)"
        in two_page.texts["h1"][0]
    )
    rows = two_page.table("The results, fastest first")
    assert [row[0] for row in rows[1:]] == ["flatout serve", "chronyd"]
    assert rows[1][1:3] == [f"{fast:,.0f}/s", "100 %"]
    assert [text.strip() for text in two_page.texts["h2"]] == ["chronyd", "flatout serve"]


def test_several_limits_share_a_chart_each_in_its_colour(two_page, two):
    data = [(tag, d) for tag, mark, d in sources(two_page.chart("answered")) if tag.startswith("series") and not mark]
    assert [tag for tag, _ in data] == ["series-0", "series-1"]
    for (_, result), (_, line) in zip(two, data, strict=True):
        assert max(line["x"]) == max(t.intended_per_s for t in result.trials)
    assert len([attrs for attrs in two_page.named("figure") if attrs["id"].startswith("search-")]) == 2


def test_a_run_beside_a_search(found):
    shown = Page(page.render([("search", found), ("run", results.load())]))
    assert len(shown.table("The results, fastest first")) == 3
    assert [text.strip() for text in shown.texts["h2"]] == ["search", "run"]


def test_a_chart_without_values_says_so():
    shown = Page(page.render(results.interrupted()))
    assert shown.charts == []
    assert shown.html.count("Nothing to draw") == len(shown.named("figure")) == 3


@pytest.mark.parametrize("partial", [results.interrupted, results.unanswered, results.limit_interrupted])
def test_partial_results_render(partial):
    result = partial()
    shown = Page(page.render(result))
    assert shown.texts["h1"][0].strip() == facts.sentence(result)
    assert len(shown.charts) + shown.html.count('class="nothing"') == len(shown.named("figure"))
    several = Page(page.render([("a", result), ("b", results.load())]))
    assert len(several.table("The results, fastest first")) == 3


EVIL = """</script><img src=x onerror="alert(1)"><b a='"'>&amp;$$x$${{ 7*7 }}"""


def evil_run():
    host = msgspec.structs.replace(results.HOST, hostname=EVIL, kernel=EVIL, flatout=EVIL)
    return results.load(
        230_000,
        2,
        why=EVIL,
        host=host,
        started_at=EVIL,
        scenario=Scenario(protocol=EVIL, target=EVIL, profile=(), options={EVIL: {EVIL: [EVIL]}}),
        tallies={EVIL: 1},
        unsent_because={EVIL: 1},
        cpu_s={EVIL: 1.0},
        requirements=[Requirement(expression=EVIL, value=None, met=False)],
    )


def evil_limit():
    trials = [msgspec.structs.replace(t, why=EVIL, phase=EVIL) for t in results.trials(results.Server())]
    return results.limit(sentence=EVIL, trials=trials)


def tame(html):
    """The elements of a page, its text and data left out."""
    return [(tag, sorted(attrs)) for tag, attrs in Page(html).tags]


def test_what_results_say_is_never_markup():
    good = page.render(
        results.load(
            230_000,
            2,
            scenario=Scenario(protocol="a", target="b", profile=(), options={"c": {"d": ["e"]}}),
            tallies={"f": 1},
            cpu_s={"g": 1.0},
            requirements=[Requirement(expression="h", value=None, met=False)],
        )
    )
    evil = page.render(evil_run())
    assert tame(evil) == tame(good)
    assert "{{ 7*7 }}" in evil
    assert "<img" not in evil.split("<body>")[1].split("<script>\n")[0]


def test_what_searches_and_titles_say_is_never_markup(two):
    good = page.render([("a", two[0][1]), ("b", results.limit())])
    evil = page.render([(EVIL, two[0][1]), ("b" + EVIL, evil_limit())])
    assert tame(evil) == tame(good)
    assert not re.search(r"<img|onerror=\"", evil.split("<body>")[1].split("<script>\n")[0])
    assert any(EVIL in json.dumps(chart, ensure_ascii=False).replace('\\"', '"') for chart in Page(evil).charts)


def test_no_results_are_bad_use():
    with pytest.raises(UsageError, match="at least one"):
        page.render([])


@pytest.mark.parametrize("module", ["bokeh", "jinja2"])
def test_without_the_extra_the_error_says_what_to_install(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=r"flatout\[report\]"):
        page.render(results.load(for_s=2))


def test_connections_have_a_table():
    table = Page(page.render(results.over_streams("echo"))).table("Connections")
    assert ["established", "1,003", "succeeded"] in table
    assert ["timed out", "3", "of these: nothing came back in time"] in table
    assert "carried by io_uring; the target ended 12" in page.render(results.over_streams("echo"))


def test_a_search_of_connections_is_drawn_over_connections():
    shown = Page(page.render(results.limit_of_connections()))
    labels = [axis["axis_label"] for axis in find(shown.chart("answered-by-connections"), "LogAxis")]
    assert labels == ["connections"]
    assert shown.table("Trials")[0][3] == "connections"
    assert shown.table("Trials")[1][3] == "1,000"


def test_searches_of_both_kinds_go_on_one_page():
    both = [("rates", results.limit()), ("connections", results.limit_of_connections())]
    names = [figure["id"] for figure in Page(page.render(both)).named("figure")]
    assert len(names) == len(set(names))
    assert {"answered", "answered-by-connections"} <= set(names)


def test_nodes_have_a_table():
    node = Node(
        node=2, hostname="b", started_at=results.STARTED, verdict="ok", why="fine", sent=1000, answered=999, cpu_s={}
    )
    shown = page.render(results.load(nodes=[node], warnings=["node 1 of 2 is missing"]))
    assert ["2", "b", results.STARTED, "ok", "1,000", "999", "fine"] in Page(shown).table("Nodes")
    assert "node 1 of 2 is missing" in shown


@pytest.fixture(scope="module")
def ramp():
    return explained_limit(ramps.ramp([1e3, 2e3, 4e3, 8e3, 16e3], ramps.one_thread(3_000)))


def bars(chart):
    """The bottoms and tops of each series of bars, by name."""
    return {
        renderer["name"]: [
            dict(renderer["data_source"]["attributes"]["data"]["entries"])[end] for end in ("bottom", "top")
        ]
        for renderer in find(chart, "GlyphRenderer")
        if renderer["glyph"]["name"] == "VBar"
    }


def test_the_picture_stacks_all_that_was_planned(ramp):
    drawn = Page(page.render(ramp)).chart("limit-0-picture")
    stacks = bars(drawn)
    assert list(stacks) == picture(ramp).names == ["answered", "receive buffer"]
    assert stacks["answered"][0] == [0.0] * 5
    assert stacks["answered"][1] == stacks["receive buffer"][0] == pytest.approx([100.0, 100.0, 75.0, 37.5, 18.75])
    assert stacks["receive buffer"][1] == pytest.approx([100.0] * 5)


def test_the_picture_says_counts_and_shares(ramp):
    chart = stacked(ramp, "x")
    assert chart is not None
    assert [key.label for key in chart.keys] == ["answered", "receive buffer"]
    tips = [columns for columns in sources(chart.item) if "tip0" in columns[2]]
    texts = {text for _, _, columns in tips for name in columns if name.startswith("tip") for text in columns[name]}
    assert {"8,000/s", "50,000 (62.50 %)", "30,000 (37.50 %)"} <= texts
    assert chart.alternative == "at 16.0 k: answered 18.75 %, receive buffer 81.25 %"


def test_a_run_has_one_bar(load_page):
    stacks = bars(load_page.chart("load-0-picture"))
    assert {len(tops) for ends in stacks.values() for tops in ends} == {1}


def test_there_is_no_picture_where_all_was_answered():
    assert stacked(ramps.ramp([1e3, 2e3], ramps.trial), "x") is None


def test_neighbours_in_a_stack_differ_in_colour_and_all_have_their_own_look():
    names = ["answered", "late", "refused", "invalid", "receive buffer", "unread", "device", "backlog", "unexplained"]
    found = list(looks(picture(ramps.search([]))._replace(names=names), "answered").values())
    assert len(set(found)) == len(names)
    assert all(one[0] != other[0] for one, other in itertools.pairwise(found))


def test_the_page_names_the_knee(ramp):
    text = " ".join(Page(page.render(ramp)).texts["p"])
    assert "CPU of ntpd's busiest thread: 67 % at 2 k/s, 100 % at 4 k/s." in text


def test_the_page_says_what_was_tried_to_raise_the_limit(limit_page):
    shown = Page(page.render(results.improved()))
    text = " ".join(shown.texts["p"])
    assert "Tried: receive buffer of the target's socket (SO_RCVBUF): 212,992 → 1,035,008" in shown.texts["b"]
    assert "24,387 → 112,889 requests/s; +363 %; the limit rose" in text
    assert "the target has ended; undone" in text
    assert not any("SO_RCVBUF" in one for one in limit_page.texts["b"])
