"""The action for GitHub: its form, and its steps, run here by bash as a runner would.

GitHub's own runner is not to be had here. What it does is done by hand: inputs into the environment of each step, its
command line for bash, the files for outputs and the summary. Steps that use other actions are left out.
"""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import msgspec
import pytest
import yaml

import flatout
from conftest import ROOT
from flatout.result.model import LimitResult
from flatout.store.store import Store

FOLDER = ROOT / ".github" / "actions" / "limit"
TEXT = (FOLDER / "action.yml").read_text(encoding="utf-8")
ACTION: dict[str, Any] = yaml.safe_load(TEXT)
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
RUN_ID = "4711"
LABEL = f"run-{RUN_ID}"


def test_it_fits_the_published_schema() -> None:
    """SchemaStore's, as check-jsonschema ships it."""
    schemas = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "github-actions.json"
    jsonschema.validate(ACTION, json.loads(schemas.read_text(encoding="utf-8")))


def test_inputs_that_are_used_are_declared_and_the_other_way_round() -> None:
    assert set(re.findall(r"inputs\.(\w+)", TEXT)) == set(ACTION["inputs"])
    named = {step.get("id") for step in STEPS}
    assert set(re.findall(r"steps\.(\w+)\.", TEXT)) <= named


def test_nothing_of_a_caller_becomes_part_of_a_script() -> None:
    assert all("${{" not in step["run"] for step in STEPS if "run" in step)


class Done(NamedTuple):
    """What a step left."""

    code: int
    out: str
    outputs: dict[str, str]
    summary: str


class Runner:
    """Runs single steps as GitHub's runner does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = f"sqlite:///{folder / 'flatout-results' / 'runs.db'}"
        self.inputs = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()}

    def value(self, text: str) -> str:
        """A value with its expressions filled in."""
        baseline = self.inputs["mode"] == "baseline"
        known = {
            "inputs.mode == 'baseline' && 'baseline' || format('run-{0}', github.run_id)": "baseline"
            if baseline
            else LABEL,
            "format('run-{0}', github.run_id)": LABEL,
            **{f"inputs.{name}": value for name, value in self.inputs.items()},
        }
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: known[found[1]], text)

    def step(self, name: str, **inputs: str) -> Done:
        """Runs one step."""
        self.inputs |= inputs
        (step,) = [step for step in STEPS if step["name"] == name]
        script, outputs, summary = (self.folder / each for each in ("script.sh", "outputs", "summary"))
        script.write_text(step["run"])
        for each in (outputs, summary):
            each.write_text("")
        environment = {variable: self.value(str(text)) for variable, text in step["env"].items()}
        places = {"GITHUB_OUTPUT": str(outputs), "GITHUB_STEP_SUMMARY": str(summary)}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        assert step["shell"] == "bash"
        ran = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=self.folder,
            env={**os.environ, "PATH": path, **places, **environment},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        pairs = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        return Done(ran.returncode, ran.stdout + ran.stderr, pairs, summary.read_text())


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runner, Done, LimitResult]:
    """A search by the action's own step, as the baseline, and its result as one that says something of the target."""
    runner = Runner(tmp_path_factory.mktemp("action"))
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        options = "--min 1k --max 2k --budget 5s"
        done = runner.step(
            "Searches", protocol="ntp", target=server.address, options=options, searches="1", mode="baseline"
        )
    assert done.code == 0, done.out
    result = flatout.read(runner.folder / "flatout-results" / "limit-1.json")
    assert isinstance(result, LimitResult)
    limit = msgspec.structs.replace(result.limit, value=2000.0, stopped_by="found", confirmed=True)
    return runner, done, msgspec.structs.replace(result, limit=limit)


def test_a_search_is_kept_as_the_baseline(found: tuple[Runner, Done, LimitResult]) -> None:
    runner, _, _ = found
    with Store(runner.store) as store:
        assert [run.label for run in store.runs()] == ["baseline"]
    assert (runner.folder / "flatout-results" / "limit-1.xml").read_text().startswith("<?xml")


def kept(runner: Runner, result: LimitResult, **sides: list[float]) -> None:
    """Stores searches that found these values."""
    with Store(runner.store) as store:
        for label, values in sides.items():
            for value in values:
                limit = msgspec.structs.replace(result.limit, value=value)
                store.add(msgspec.structs.replace(result, limit=limit), "baseline" if label == "baseline" else LABEL)


class Case(NamedTuple):
    """Values of the baseline and of now, what is set, and what comes of it."""

    baseline: list[float]
    now: list[float]
    inputs: dict[str, str]
    code: int
    outcome: str
    said: str


@pytest.mark.parametrize(
    "case",
    [
        Case([2000, 2010, 1990], [2000, 2005], {}, 0, "same", ""),
        Case([4000, 4010, 3990], [2000, 2005], {}, 1, "worse", "::error title=flatout::worse: rate"),
        Case([4000, 4010, 3990], [2000, 2005], {"tolerance": "60%"}, 0, "same", ""),
        Case([2000], [2000], {}, 0, "invalid", "::warning title=flatout::invalid: rate"),
        Case([2000], [2000], {"invalid": "error"}, 4, "invalid", "::error title=flatout::invalid: rate"),
        Case([], [2000], {}, 0, "none", "::warning title=flatout::no baseline"),
    ],
)
def test_the_comparison_decides(runner: Runner, found: tuple[Runner, Done, LimitResult], case: Case) -> None:
    kept(runner, found[2], baseline=case.baseline, now=case.now)
    done = runner.step("Comparison", **({"again": "0"} | case.inputs))
    assert (done.code, done.outputs["outcome"]) == (case.code, case.outcome), done.out
    assert case.said in done.out
    assert ("::" in done.out) == bool(case.said)
    if case.outcome != "none":
        assert json.loads((runner.folder / done.outputs["comparison"]).read_text())["outcome"] == case.outcome
        assert case.outcome in done.summary


def test_a_search_that_cannot_begin_fails_the_job(runner: Runner) -> None:
    done = runner.step("Searches", protocol="ntp", target="127.0.0.1:9", options="--budget never", searches="1")
    assert done.code == 2
    assert "::error title=flatout::search 1 ended with exit code 2" in done.out


def test_a_mode_that_is_none_is_said(runner: Runner) -> None:
    done = runner.step("Searches", mode="both")
    assert (done.code, "give compare or baseline" in done.out) == (2, True)


def test_a_new_baseline_replaces_the_old_one(runner: Runner, found: tuple[Runner, Done, LimitResult]) -> None:
    kept(runner, found[2], baseline=[1000.0], now=[2000.0])
    done = runner.step("Searches", mode="baseline", searches="0")
    assert done.code == 0, done.out
    with Store(runner.store) as store:
        assert [run.label for run in store.runs()] == [LABEL]
