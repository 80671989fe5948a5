"""NTP answered in the network driver, asked by a daemon that keeps an association: chronyd as a symmetric peer."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from xdp_server import STATIC, serving

from conftest import Cli, Net, wait_until

pytestmark = [pytest.mark.root, pytest.mark.peer]


@contextmanager
def chronyd(program: str, namespace: str, folder: Path, sources: list[str]) -> Iterator[Path]:
    """A daemon that asks each source 16 times a second, and sets no clock; the socket that it is asked at."""
    # chronyc reaches it only through a folder that no other user can write to.
    folder.chmod(0o700)
    asked = "".join(f"{source} minpoll -4 maxpoll -4\n" for source in sources)
    config = folder / "client.conf"
    config.write_text(f"{asked}pidfile {folder}/pid\nbindcmdaddress {folder}/s\ncmdport 0\n", encoding="ascii")
    command = ["ip", "netns", "exec", namespace, program, "-x", "-d", "-u", "root", "-f", str(config)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield folder / "s"
    finally:
        running.terminate()
        running.wait(10)


def test_a_symmetric_peer_of_both_families(
    net: Net, cli: Cli, peer: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serving(cli, net, "--xdp", "auto", *STATIC) as served:
        sources = [f"peer {net.right_v4}", f"peer {net.right_v6}"]
        with chronyd(peer("chronyd"), net.left, tmp_path_factory.mktemp("c"), sources) as socket:
            asked = [peer("chronyc"), "-h", str(socket), "ntpdata"]

            def answered() -> str:
                """The report, once both families have had answers."""
                said = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=10).stdout
                counts = [int(count) for count in re.findall(r"Total good RX +: (\d+)", said)]
                return said if len(counts) == 2 and min(counts) > 1 else ""

            report = wait_until(answered, message="asked by both")
        assert re.findall(r"Mode +: (.*)", report) == ["Symmetric passive"] * 2, report
        offsets = [abs(float(offset)) for offset in re.findall(r"Offset +: ([-+.\d]+) seconds", report)]
        assert max(offsets) < 0.01, report
        stats = served.stats()
        assert stats["answered"] == stats["received"] == served.for_driver, stats
