"""A real Prometheus scrapes what a search exposes, and each query of the dashboard has an answer."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, free_tcp_port, wait_until
from exposed import Everything
from flatout.server import endpoints

pytestmark = pytest.mark.peer


class Prometheus:
    """A server of its own that scrapes one address, each second."""

    def __init__(self, program: str, folder: Path, scraped: str) -> None:
        self.address = f"127.0.0.1:{free_tcp_port()}"
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
            f"scrape_configs: [{{job_name: flatout, static_configs: [{{targets: ['{scraped}']}}]}}]\n"
        )
        command = [program, f"--config.file={config}", f"--web.listen-address={self.address}"]
        with (folder / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, f"--storage.tsdb.path={folder / 'data'}", "--log.level=warn"], stdout=log, stderr=log
            )

    def ask(self, query: str) -> list[Any]:
        """The series that a query has now."""
        where = f"http://{self.address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(where, timeout=5) as answer:
                found: list[Any] = json.load(answer)["data"]["result"]
        except OSError as error:
            # Until it has started it is unavailable.
            if isinstance(error, urllib.error.HTTPError) and error.code != 503:
                pytest.fail(f"{query}: {error.read().decode()}")
            return []
        return found

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def exposed(tmp_path: Path, peer: Callable[[str], str]) -> Iterator[tuple[Prometheus, Everything]]:
    program, running = peer("prometheus"), Everything()
    address = f"127.0.0.1:{free_tcp_port()}"
    with endpoints.page(address, running.metrics.text):
        prometheus = Prometheus(program, tmp_path, address)
        try:
            yield prometheus, running
        finally:
            prometheus.end()


def test_every_query_of_the_dashboard_has_an_answer(exposed: tuple[Prometheus, Everything]) -> None:
    prometheus, running = exposed
    board = json.loads((ROOT / "dashboards" / "flatout-load.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]

    def scraped_twice() -> bool:
        running.step()
        return bool(prometheus.ask("rate(flatout_load_sent_total[1m]) > 0"))

    wait_until(scraped_twice, message="scraped twice")
    for query in queries:
        filled = re.sub(r"\$\w+", ".*", query.replace("$__rate_interval", "1m"))
        assert prometheus.ask(filled), query
    (sent,) = prometheus.ask("flatout_load_sent_total")
    assert sent["metric"]["target"] == "192.0.2.1:123"
