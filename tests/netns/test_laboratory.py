"""The README's way to one result of three hosts: its commands as they stand there, but for the installation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import ROOT

pytestmark = pytest.mark.root


def commands() -> list[str]:
    """The five of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```sh\n(pip install[^`]+hosts down)\n```", text)
    assert found
    return found[1].splitlines()


def run(command: str, folder: Path) -> None:
    """As a shell does, from the root of the sources."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    text = command.replace("sudo ", "").replace("all.json", f"{folder}/all.json")
    environment = os.environ | {"PATH": path, "PYTHON": sys.executable}
    done = subprocess.run(text, shell=True, cwd=ROOT, env=environment, check=False, timeout=120)
    assert done.returncode in (0, 4), command


@pytest.fixture
def after(root: None, peer: Callable[[str], str], tmp_path: Path) -> Iterator[Path]:  # noqa: ARG001
    """A folder; hosts that a failed test left are gone after it."""
    peer("ip")
    yield tmp_path
    run("examples/laboratory/hosts down", tmp_path)


def test_five_commands_lead_to_a_merged_result(after: Path) -> None:
    install, *rest = commands()
    assert install == "pip install '.[fleet]'"
    assert len(rest) == 4
    for command in rest[:-1]:
        run(command.replace("--for 2m", "--for 30s"), after)
    result = json.loads((after / "all.json").read_text())
    assert len(result["nodes"]) == 3
    assert result["outcomes"]["sent"] == sum(node["sent"] for node in result["nodes"]) > 0
    assert result["outcomes"]["answered"] > 0.9 * result["outcomes"]["sent"]
    run(rest[-1], after)
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert "flatout-h" not in left.stdout
