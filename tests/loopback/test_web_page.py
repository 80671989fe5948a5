"""The page of `flatout web` in headless Chromium: clicked, watched while a load runs, on a phone, light and dark."""

from __future__ import annotations

import importlib
import itertools
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

import flatout
from conftest import ROOT, Cli, Running, wait_until
from flatout.runner.progress import HostProgress, LatencySecond, RunProgress, SearchProgress
from flatout.scenario.build import scenario_of
from flatout.store.live_publisher import LivePublisher
from flatout.store.open import open_store

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("uvicorn")
expect = sync_api.expect
# Results made without an engine are those of the unit tests.
sys.path.append(str(ROOT / "tests" / "unit"))
results = importlib.import_module("results")
CHROMIUM = shutil.which("chromium")
HOSTILE = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    assert CHROMIUM, "install chromium"
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of six searches, three `before` and three 20 % lower, and a load with a hostile label."""
    path = tmp_path / "runs.db"
    monkeypatch.setenv("FLATOUT_STORE", str(path))
    base = results.limit()
    value = base.limit.value or 0
    with open_store() as store:
        for label, factor in (("before", 1.0), ("after", 0.8)):
            for n in range(3):
                limit = msgspec.structs.replace(base.limit, value=value * factor * (1 + n / 500))
                store.add(msgspec.structs.replace(base, limit=limit), label)
        store.add(results.interrupted(), HOSTILE)
    return path


@pytest.fixture
def served(kept: Path, cli: Cli) -> Iterator[str]:
    """The address of the page over that store."""
    assert kept
    running = cli.start("web", "--listen", "127.0.0.1:0")
    try:
        yield opened(running)
    finally:
        running.interrupt()
        ended = running.end(15)
        assert (ended.code, ended.err) == (0, "")


def opened(running: Running) -> str:
    """The address that it prints."""
    wait_until(lambda: "\n" in running.out.read_text(), message="it says where it serves")
    found = re.search(r"Open (\S+)", running.out.read_text())
    assert found
    return found[1]


def open_page(browser: Any, address: str, **context: Any) -> Any:
    """A new page; what its scripts complain of is kept in `faults`."""
    page = browser.new_context(**context).new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.goto(address)
    return page


def run_event(sent: int, **given: Any) -> RunProgress:
    """A run that has sent so many."""
    counts = dict.fromkeys(("planned", "unsent", "answered", "late", "refused", "invalid", "duplicate"), 0)
    run = RunProgress(phase="running", t_s=1, total_s=2, rate_per_s=1000, sent=sent, latest=None, **counts)
    return msgspec.structs.replace(run, **given)


def published(kept: Path, command: Literal["load", "limit"]) -> LivePublisher:
    """Publishes each event at once."""
    scenario = scenario_of("ntp", "x", rate=1, duration=1, profile=None)
    return LivePublisher(kept.with_name("runs.db.live"), command, scenario, now=itertools.count().__next__)


def search_event(sent: int, **given: Any) -> SearchProgress:
    """A trial that has sent so many."""
    run = run_event(sent, **given)
    return SearchProgress(
        trial=1,
        phase="grow",
        rate_per_s=1000,
        trial_s=2,
        elapsed_s=1,
        budget_s=60,
        lower=None,
        upper=None,
        ceiling_hint_per_s=None,
        run=run,
    )


def test_two_clicks_compare_and_a_report_opens(browser: Any, served: str) -> None:
    page = open_page(browser, served)
    page.wait_for_selector("#runs tbody tr[data-run='7']")
    assert HOSTILE in page.inner_text("#runs")
    page.check("tr[data-run='6'] input")
    page.check("tr[data-run='1'] input")
    page.wait_for_selector("#comparison strong")
    assert page.inner_text("#comparison strong") == "worse"
    assert (page.input_value("[name=a]"), page.input_value("[name=b]")) == ("1", "6")
    page.fill("[name=a]", "before")
    page.fill("[name=b]", "after")
    page.click("#compare [type=submit]")
    expect(page.locator("#comparison table")).to_contain_text("A: before")
    page.fill("[name=b]", "nowhere")
    page.click("#compare [type=submit]")
    page.wait_for_selector("#comparison .bad")
    assert "nowhere" in page.inner_text("#comparison")
    page.click("tr[data-run='4'] td button")
    expect(page.locator("#runs tbody tr")).to_have_count(3)
    with page.context.expect_page() as popup:
        page.click("tr[data-run='4'] a")
    popup.value.wait_for_selector("h1")
    assert "192.0.2.10" in popup.value.inner_text("body")
    # The refused comparison is the one thing that may be complained of.
    assert [fault for fault in page.faults if "400" not in fault] == []
    assert page.title() == "flatout"
    page.context.close()


def test_what_runs_is_shown_and_then_listed(browser: Any, served: str, cli: Cli, ntp_server: flatout.Server) -> None:
    page = open_page(browser, served)
    running = cli.start("load", "ntp", str(ntp_server.address), "--rate", "500", "--for", "3s", "--label", "seen")
    page.wait_for_selector("#live article")
    assert "load ntp" in page.inner_text("#live h3")
    expect(page.locator("#live dl")).to_contain_text(re.compile(r"sent[1-9]"))
    page.wait_for_selector("#live figure:not([hidden]) path[d^='M']", state="attached")
    page.focus("#live canvas")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#live output")).to_contain_text(
        re.compile(r"^second \d, .+ to .+: [1-9][\d,]* of \d+ requests")
    )
    # Chromium takes CPU from a generator on the same machine: 4 says so, and the run is kept all the same.
    assert running.end().code in (0, 4)
    page.wait_for_selector("tr[data-run='8']")
    page.wait_for_selector("#live article", state="detached")
    assert "seen" in page.inner_text("tr[data-run='8']")
    assert page.faults == []
    # It stays open: the server must end all the same, without a word.


# The pixel of a heat map that is furthest from the page's colour, right of the labels: [x, y] in CSS pixels.
STRONGEST = """([canvas, dark]) => {
    const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let best = [0, 0], most = -Infinity;
    for (let y = 0; y < height; y++) for (let x = Math.ceil((60 * width) / canvas.clientWidth); x < width; x++) {
        const at = 4 * (y * width + x);
        const sum = (dark ? 1 : -1) * (data[at] + data[at + 1] + data[at + 2]);
        if (data[at + 3] === 255 && sum > most) [most, best] = [sum, [x, y]];
    }
    return best.map((at) => (at * canvas.clientWidth) / width);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_heat_map_is_drawn_and_read(browser: Any, served: str, kept: Path, scheme: str) -> None:
    page = open_page(browser, served, viewport={"width": 360, "height": 900}, color_scheme=scheme, has_touch=True)
    # Of five seconds the third has most requests, at 100 to 126 µs.
    seconds = [LatencySecond(float(n), [(50, 1000 if n == 3 else 100), (66, 10)]) for n in range(1, 6)]
    with published(kept, "load") as publisher:
        publisher(run_event(5, total_s=10, latency=seconds))
        canvas = page.wait_for_selector("#live .heat:not([hidden]) canvas")
        expect(page.locator(".heat figcaption")).to_contain_text(re.compile(r"requests a cell: 1\s+1,000$"))
        canvas.scroll_into_view_if_needed()
        reading = page.locator("#live output")
        x, y = page.evaluate(STRONGEST, [canvas, scheme == "dark"])
        canvas.hover(position={"x": x, "y": y})
        expect(reading).to_have_text("second 3, 100 µs to 126 µs: 1,000 of 1,010 requests")
        page.mouse.move(1, 1)
        expect(reading).to_contain_text("Point at a cell")
        box = canvas.bounding_box()
        page.touchscreen.tap(box["x"] + x, box["y"] + y)
        expect(reading).to_contain_text("1,000 of 1,010")
        page.focus("#live canvas")
        page.keyboard.press("ArrowRight")
        expect(reading).to_have_text("second 4, 100 µs to 126 µs: 100 of 110 requests")
        # What is read stays while seconds are added.
        publisher(run_event(6, total_s=10, latency=[*seconds, LatencySecond(6.0, [(50, 1)])]))
        expect(page.locator("#live dl")).to_contain_text("sent6")
        expect(reading).to_contain_text("second 4,")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.faults == []
    page.context.close()


def test_of_a_search_the_heat_map_goes_on_over_trials(browser: Any, served: str, kept: Path) -> None:
    page = open_page(browser, served)
    with published(kept, "limit") as publisher:
        for trial, band in ((1, 50), (2, 60)):
            event = search_event(trial, latency=[LatencySecond(0.5, [(band, 7)])])
            publisher(msgspec.structs.replace(event, trial=trial))
        expect(page.locator("#live dl")).to_contain_text("trial2 at")
        page.focus("#live canvas")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#live output")).to_have_text("trial 2, second 1, 1.00 ms to 1.26 ms: 7 of 7 requests")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#live output")).to_contain_text("trial 1, second 1, 1.00 ms to 1.26 ms: 0 of 7")
        ended = results.limit().trials
        for number, trial in enumerate(ended, 1):
            publisher(msgspec.structs.replace(search_event(1), trial=number, finished=trial))
        dots = page.locator("#live figure:not([hidden]) path.dot")
        expect(page.locator("#live tbody tr td:first-child").first).to_have_text(str(len(ended)))
        drawn = [dots.nth(n).get_attribute("d").count("M") for n in range(3)]
        assert drawn == [sum(one.verdict == verdict for one in ended) for verdict in ("held", "failed", "invalid")]
    assert page.faults == []
    page.context.close()


def test_a_sweep_is_shown_while_it_goes_on(browser: Any, served: str, cli: Cli, ntp_server: flatout.Server) -> None:
    page = open_page(browser, served)
    running = cli.start("limit", "ntp", str(ntp_server.address), "--sweep", "100..200", "--step", "2", "--for", "1s")
    page.wait_for_selector("#live article")
    assert "sweep ntp" in page.inner_text("#live h3")
    # A busy machine may end it at its first rate.
    expect(page.locator("#live dl")).to_contain_text("trial1 at 100 /s")
    expect(page.locator("#live dl")).not_to_contain_text("held")
    running.end()
    page.wait_for_selector("#live article", state="detached")
    assert page.faults == []
    page.context.close()


def test_hosts_of_a_fleet_have_a_row_each(browser: Any, served: str, kept: Path) -> None:
    page = open_page(browser, served, viewport={"width": 360, "height": 900})
    usual = {"phase": "running", "rate_per_s": 1000.0, "answered": 2000}
    one = HostProgress(host=HOSTILE, **usual, lateness_p99_ns=20_000)
    two = HostProgress(host="two", **usual, lost=3, unsent=4, silent_s=5.0)
    with published(kept, "load") as publisher:
        publisher(run_event(1))
        page.wait_for_selector("#live article")
        expect(page.locator(".hosts")).to_be_hidden()
        publisher(run_event(2, hosts=(one, two)))
        rows = page.locator(".hosts tbody tr")
        expect(rows).to_have_count(2)
        cells = [rows.nth(n).locator("td").all_inner_texts() for n in range(2)]
        assert cells == [
            [HOSTILE, "running", "1.00 k/s", "2,000", "0", "0", "20.0 µs"],
            ["two", "no word for 5 s", "1.00 k/s", "2,000", "3", "4", "–"],
        ]
        expect(rows.nth(1)).to_have_class("failed")
        # Percentiles of hosts do not add up: the worst lateness is shown, and the heat map has the latency.
        expect(page.locator("#live dl")).to_contain_text("late p9920.0 µs")
        expect(page.locator("#live dl")).not_to_contain_text("latency p99")
        publisher(run_event(3, hosts=(msgspec.structs.replace(two, phase="done", unsent=0),)))
        expect(rows).to_have_count(1)
        expect(rows.first).to_contain_text("done")
        expect(rows.first).not_to_have_class("failed")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert (page.faults, page.title()) == ([], "flatout")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_down_only(browser: Any, served: str, kept: Path, scheme: str) -> None:
    publisher = LivePublisher(
        kept.with_name("runs.db.live"), "load", scenario_of("ntp", "x" * 200, rate=1, duration=1, profile=None)
    )
    with publisher:
        page = open_page(browser, served, viewport={"width": 360, "height": 700}, color_scheme=scheme, is_mobile=True)
        page.wait_for_selector("#live article")
        page.wait_for_selector("#runs tbody tr")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        dark = sum(map(int, re.findall(r"\d+", background)[:3])) < 3 * 128
        assert dark == (scheme == "dark")
        assert page.faults == []
        page.context.close()


def test_many_changes_leave_the_page_small(browser: Any, served: str, kept: Path) -> None:
    page = open_page(browser, served)
    counted = "document.getElementsByTagName('*').length"
    with published(kept, "limit") as publisher:
        page.wait_for_selector("#live article")
        began = page.evaluate(counted)
        seen_changes = page.evaluate_handle(
            "() => { const seen = { n: 0 }; new MutationObserver(() => seen.n += 1)"
            ".observe(document.querySelector('#live'), { subtree: true, childList: true, characterData: true });"
            " return seen; }"
        )
        for sent in range(1000):
            publisher(search_event(sent))
            if sent % 100 == 0:
                page.wait_for_timeout(30)
        expect(page.locator("#live dl")).to_contain_text("sent999")
        assert page.evaluate(counted) - began < 50
        assert seen_changes.json_value()["n"] < 50
    page.wait_for_selector("#live article", state="detached")
    page.context.close()
