"""What `import flatout` offers, how quick it is, and what it must not drag in."""

from __future__ import annotations

import subprocess
import sys

import pytest

import flatout

HEAVY = ("cyclopts", "rich", "bokeh", "numpy", "asyncio", "flatout._engine")


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_everything_named_is_there() -> None:
    for name in flatout.__all__:
        assert getattr(flatout, name) is not None
    assert set(flatout.__all__) >= {"load", "limit", "serve", "load_async", "limit_async", "LoadResult", "LimitResult"}


def test_what_is_not_named_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = flatout.no_such_thing  # type: ignore[attr-defined]


def test_the_functions_are_not_hidden_by_modules_of_their_name() -> None:
    code = "import flatout.limit_search.drive, flatout.cli.load; print(callable(flatout.limit), callable(flatout.load))"
    assert python(code).strip() == "True True"


def test_nothing_heavy_is_imported() -> None:
    code = f"import sys, flatout; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert python(code).strip() == "[]"


def test_the_command_line_hears_ctrl_c_before_it_imports_anything_heavy() -> None:
    names = (*HEAVY, "msgspec", "flatout.host.describe")
    code = f"import sys, flatout.cli; print([name for name in {names!r} if name in sys.modules])"
    assert python(code).strip() == "[]"


def test_a_run_imports_no_screen_and_no_chart() -> None:
    code = f"import sys, flatout; flatout.load; print([name for name in {HEAVY[:4]} if name in sys.modules])"
    assert python(code).strip() == "[]"


def test_the_command_line_waits_for_no_numpy() -> None:
    code = "import sys; from flatout.cli.app import build; build(); print('numpy' in sys.modules)"
    assert python(code).strip() == "False"


def test_the_import_is_quick() -> None:
    timed = "import time; t = time.process_time(); import flatout; print(time.process_time() - t)"
    assert min(float(python(timed)) for _ in range(5)) < 0.2


def test_the_version_is_the_packages() -> None:
    import tomllib

    from conftest import ROOT

    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]
    assert flatout.__version__ == workspace["package"]["version"]
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dynamic"] == ["version"]
