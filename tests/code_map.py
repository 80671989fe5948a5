"""Generates the code map of ARCHITECTURE.md from the first line of each source file.

`make code-map` writes it again; tests/test_code_map.py fails while it is out of date.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
HEADING = "## Code map\n"
_CRATES = {
    "wire": "bytes",
    "net": "the kernel",
    "engine": "the loops",
    "py": "exports to Python",
}


def is_test(path: Path) -> bool:
    """Whether a Rust file holds tests only."""
    return "tests" in path.parts or bool(re.search(r"(_tests|_golden)$|^tests$", path.stem))


def purpose(path: Path) -> str:
    """The first line of a file's documentation, without its full stop. Errors: ValueError where there is none."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".rs":
        found = re.match(r"//! (.+)", text)
        line = found[1] if found else ""
    elif path.suffix in (".c", ".h"):
        found = re.search(r"^/\* (?!SPDX)(.+)", text, re.MULTILINE)
        line = found[1].removesuffix(" */") if found else ""
    else:
        line = (ast.get_docstring(ast.parse(text)) or "").split("\n", 1)[0]
    if not line:
        raise ValueError(f"{path.relative_to(ROOT)} begins without a line that says its purpose")
    return line.strip().removesuffix(".").replace("|", "\\|")


def table(files: list[Path]) -> str:
    """One row for each file."""
    rows = [f"| `{path.relative_to(ROOT).as_posix()}` | {purpose(path)} |" for path in files]
    return "\n".join(["| file | holds |", "| --- | --- |", *rows])


def render() -> str:
    """The whole section, below its heading."""
    parts = ["Generated from the first line of each file: `make code-map`."]
    for crate, holds in _CRATES.items():
        found = sorted((ROOT / "crates" / crate / "src").rglob("*.rs"), key=_order)
        files = [path for path in found if not is_test(path.relative_to(ROOT))]
        parts.append(f"### `crates/{crate}`: {holds}\n{table(files)}")
    programs = sorted((ROOT / "bpf").glob("*.[ch]"))
    parts.append(f"### `bpf`: programs in the kernel\n{table(programs)}")
    package = ROOT / "python" / "flatout"
    # An empty `__init__.py` marks a folder and holds nothing.
    modules = [path for path in sorted(package.rglob("*.py"), key=_order) if path.stat().st_size]
    parts.append(f"### `python/flatout`: users\n{table(modules)}")
    return "\n\n".join(parts) + "\n"


def _order(path: Path) -> tuple[object, ...]:
    """A module before its folder, `lib` and `__init__` first."""
    relative = path.relative_to(ROOT).with_suffix("")
    first = path.stem in ("lib", "__init__")
    return (*relative.parts[:-1], "" if first else relative.name)


def split(text: str) -> tuple[str, str, str]:
    """The page before the section, the section, and the page after it."""
    before, rest = text.split(HEADING, 1)
    section, heading, after = rest.partition("\n## ")
    return before + HEADING, section, heading + after


def main() -> None:
    """Writes the section again."""
    before, _, after = split(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(before + render() + after, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
