"""The house's laws, held by reading the sources: layers, one place for each protocol, one for syscalls, one for clocks.

What is checked is text and syntax trees; nothing of flatout runs here but its registries.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT
from flatout import _engine
from flatout.protocols import PROTOCOLS

LONGEST_FUNCTION, LONGEST_FILE = 60, 500
PYTHON = ROOT / "python" / "flatout"
CRATES = ROOT / "crates"
_BUILT = {"target", ".venv", "corpus", "artifacts", "__pycache__"}


def sources(suffix: str, *folders: Path) -> list[Path]:
    files = [path for folder in folders for path in sorted(folder.rglob(f"*{suffix}"))]
    return [path for path in files if not _BUILT & set(path.relative_to(ROOT).parts)]


def python_files() -> list[Path]:
    return sources(".py", PYTHON, ROOT / "tests", ROOT / "bench", ROOT / "examples")


def rust_files() -> list[Path]:
    return sources(".rs", CRATES, ROOT / "fuzz")


def is_test(path: Path) -> bool:
    in_tests = any(part == "tests" or part.endswith("_tests") for part in path.parts)
    return in_tests or path.stem == "tests" or path.stem.endswith(("_tests", "_golden"))


def rust_code(path: Path, strings: bool = False) -> str:
    """A file without comments, the tests at its end and, unless they are wanted, strings; line numbers stay."""
    text = path.read_text(encoding="utf-8")
    text = re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", text)[0]
    if not strings:
        text = re.sub(r'"(?:\\.|[^"\\])*"', lambda found: '""' + "\n" * found[0].count("\n"), text)
    return re.sub(r"//[^\n]*", "", text)


def product_rust(*crates: str, strings: bool = False) -> Iterator[tuple[Path, str]]:
    for crate in crates:
        for path in sources(".rs", CRATES / crate / "src"):
            if not is_test(path):
                yield path, rust_code(path, strings)


def places(found: list[tuple[Path, int]]) -> list[str]:
    return [f"{path.relative_to(ROOT)}:{line}" for path, line in found]


def matches(pattern: str, *crates: str) -> list[str]:
    hits = [
        (path, number)
        for path, text in product_rust(*crates)
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]
    return places(hits)


# --- Law 1: data flows one way ---


def test_layers() -> None:
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- Law 3: a protocol is two places ---


def names(folder: Path, suffix: str = "") -> set[str]:
    return {path.stem for path in folder.iterdir() if path.suffix == suffix and not path.name.startswith((".", "_"))}


def test_all_lists_of_protocols_agree() -> None:
    known = set(PROTOCOLS)
    assert known
    assert set(_engine.protocols()) == known, "the engine's registry"
    wire = (CRATES / "wire" / "src" / "lib.rs").read_text(encoding="utf-8")
    assert set(re.findall(r"\$crate::(\w+)::", wire)) == known, "the wire registry"
    files = {name for name in names(CRATES / "wire" / "src", ".rs") if not is_test(Path(f"{name}.rs"))}
    assert files - {"calendar", "lib", "driver", "receiver_stats", "scramble", "table"} == known, "the wire files"
    python = names(PYTHON / "protocols", ".py") | names(PYTHON / "protocols")
    assert python - {"base"} == known, "the Python files or folders"
    assert names(ROOT / "tests" / "packets") == known, "the golden packets"
    assert names(ROOT / "docs" / "protocols", ".md") == known, "the docs pages"
    targets = names(ROOT / "fuzz" / "fuzz_targets", ".rs")
    assert {name for name in known if any(target.split("_")[0] == name for target in targets)} == known, (
        "the fuzz targets"
    )
    ends = [target for target in targets if target.endswith(("_answer", "_read"))]
    assert {target.rpartition("_")[0] for target in ends} <= known, "a fuzz target of no protocol"


def test_each_protocol_has_packets_that_say_whose_they_are() -> None:
    for name in PROTOCOLS:
        folder = ROOT / "tests" / "packets" / name
        assert list(folder.glob("*.hex")) or list(folder.glob("*.bin"))
        readme = (folder / "README.md").read_text(encoding="utf-8")
        for packet in [*folder.glob("*.hex"), *folder.glob("*.bin")]:
            assert packet.stem in readme, f"{packet.name} is not explained"


def test_protocols_say_the_same_words_in_both_places() -> None:
    for name, protocol in PROTOCOLS.items():
        wire = (CRATES / "wire" / "src" / f"{name}.rs").read_text(encoding="utf-8")
        listed = re.search(r"const TALLIES: [^=]*= &\[(.*?)\];", wire, re.DOTALL)
        assert listed
        assert re.findall(r'"(\w+)"', listed[1]) == list(protocol.words), "tallies and their words, in one order"


# A plain word of the field too (a histogram records): looked for where it can only mean the protocol.
_PLAIN = {"record"}


def _words(tree: ast.AST) -> Iterator[tuple[str, bool, int]]:
    """Words of a module, and whether one is a text or the name of a module; docstrings left out, they show examples."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value, True, node.lineno
        elif isinstance(node, ast.Name):
            yield node.id, False, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, ast.unparse(node.value).endswith("protocols"), node.lineno
        elif isinstance(node, ast.alias):
            yield node.name, True, node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", True, node.lineno


def _names_one(word: str, is_text: bool) -> bool:
    parts = re.split(r"[^a-z0-9]+", word.lower())
    if any(part.startswith(name) for part in parts for name in set(PROTOCOLS) - _PLAIN):
        return True
    meant = [rf"^(?:[\w.]+\.)?{name}$|(?:\b(?:load|limit|serve) |protocols/){name}\b" for name in _PLAIN]
    return is_text and any(re.search(pattern, word) for pattern in meant)


def python_namers(source: str) -> list[int]:
    """Lines of Python that name a protocol."""
    return [line for word, is_text, line in _words(ast.parse(source)) if _names_one(word, is_text)]


def rust_namers(text: str) -> list[int]:
    """Lines of Rust that name a protocol: as a module, a type or a whole string."""
    patterns = [rf'"{name}"' for name in PROTOCOLS]
    for name in PROTOCOLS:
        if name in _PLAIN:
            patterns.append(rf"\b{name}::|::{name}\b(?!\()|\b{name.title()}(?:Asker|Answerer|Taker)?\b")
        else:
            patterns.append(rf"\b{name}|\b{name.title()}(?:[A-Z]|\b)|\b{name.upper()}\b")
    return [n for n, line in enumerate(text.splitlines(), 1) if re.search("|".join(patterns), line)]


def test_no_other_python_names_a_protocol() -> None:
    own_verbs = [PYTHON / "cli" / name for name in PROTOCOLS if (PYTHON / "cli" / name).is_dir()]
    allowed = (PYTHON / "protocols", PYTHON / "cli" / "demo.py", *own_verbs)
    files = [path for path in sources(".py", PYTHON) if not any(path.is_relative_to(place) for place in allowed)]
    found = [(path, line) for path in files for line in python_namers(path.read_text(encoding="utf-8"))]
    assert places(found) == []


def test_no_other_rust_names_a_protocol() -> None:
    files = list(product_rust("engine", "net", "py", strings=True))
    assert places([(path, line) for path, text in files for line in rust_namers(text)]) == []


NAMING_PYTHON = [
    "from flatout.protocols import record",
    "from flatout.protocols.record import Knobs",
    "import flatout.protocols.ntp",
    "PROTOCOLS['record']",
    "spoken = 'record'",
    "protocols.record.Knobs()",
    "hint = 'try flatout load record 127.0.0.1:31234'",
    "ntp_rate = 1",
    "title = 'DNS answers'",
]
INNOCENT_PYTHON = [
    "histogram.record(5)",
    "for record in rows: total += 1",
    "said = 'a record of 4 bytes, recorded twice'",
    "'flatout load ntp'",
]
NAMING_RUST = [
    "use flatout_wire::record;",
    "use flatout_wire::record::{LONGEST, Field};",
    "let taker = Record::taker(&[]);",
    "fn begin(taker: RecordTaker) {}",
    'if plan.protocol == "record" {',
    'let port = if name == "ntp" { 123 } else { 53 };',
    "use flatout_wire::dns::answer;",
    "struct Ntp;",
]
INNOCENT_RUST = ["self.recorder.lateness.record(now - due);", "Recorder::default()", "fn record(&mut self, ns: u64) {"]


def test_the_search_for_names_finds_them() -> None:
    assert [source for source in NAMING_PYTHON if not python_namers(source)] == []
    assert [source for source in INNOCENT_PYTHON if python_namers(source)] == []
    assert [source for source in NAMING_RUST if not rust_namers(source)] == []
    assert [source for source in INNOCENT_RUST if rust_namers(source)] == []


# --- Law 4: syscalls in one crate, clocks in one file ---


def test_unsafe_lives_in_net_alone() -> None:
    assert matches(r"\bunsafe\b", "wire", "engine", "py") == []
    for crate in ("wire", "engine"):
        assert "#![forbid(unsafe_code)]" in (CRATES / crate / "src" / "lib.rs").read_text(encoding="utf-8")


def test_each_unsafe_block_says_why_it_is_safe() -> None:
    bare = []
    for path, text in product_rust("net"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(text.splitlines()):
            if re.search(r"\bunsafe\b", line) and "unsafe_" not in line and "SAFETY:" not in _above(lines, number):
                bare.append((path, number + 1))
    assert places(bare) == []


def _above(lines: list[str], number: int) -> str:
    """The statement's comment: the lines above until an empty one, at most 8."""
    above: list[str] = []
    for line in reversed(lines[max(0, number - 8) : number]):
        if not line.strip():
            break
        above.append(line)
    return "\n".join(above)


def test_clocks_are_read_in_one_file() -> None:
    found = matches(r"\b(Instant|SystemTime)\b|std::time::(?!Duration\b)", "wire", "net", "engine", "py")
    assert {place.split(":")[0] for place in found} == {"crates/engine/src/clock.rs"}


def test_libc_is_used_in_net_alone() -> None:
    assert matches(r"\blibc\b", "wire", "engine", "py") == []
    for manifest in sorted(CRATES.glob("*/Cargo.toml")):
        needs = re.search(r"^libc\b", manifest.read_text(encoding="utf-8"), re.MULTILINE)
        assert bool(needs) == (manifest.parent.name == "net"), manifest


def test_the_wire_knows_no_world() -> None:
    assert "#![no_std]" in (CRATES / "wire" / "src" / "lib.rs").read_text(encoding="utf-8")
    assert matches(r"\b(std|alloc)::", "wire") == []


def test_no_rust_of_the_product_panics_on_purpose() -> None:
    pattern = r"\.unwrap\(\)|\.expect\(|\b(panic|todo|unimplemented)!\(|\bunreachable!\(\)"
    assert matches(pattern, "wire", "net", "engine", "py") == []


# --- Small ---


def test_names_of_test_files_are_unique() -> None:
    # One process that collects all of them knows each by its name alone.
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) > 100
    assert sorted(names) == sorted(set(names))


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in [*python_files(), *rust_files()]}
    assert {str(path.relative_to(ROOT)): lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def python_functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1


def rust_functions(path: Path) -> Iterator[tuple[str, int]]:
    """From `fn` to the brace that closes it: the formatter puts that at the same indentation."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        head = re.match(r"(\s*)(?:pub(?:\([^)]*\))? )?(?:const |async |unsafe |extern \"C\" )*fn (\w+)", line)
        if head and not line.rstrip().endswith((";", "}")):
            end = next((n for n in range(number, len(lines)) if lines[n] in (f"{head[1]}}}", f"{head[1]}}};")), number)
            yield f"{path.relative_to(ROOT)}:{number + 1} {head[2]}", end - number + 1


@pytest.mark.parametrize(("files", "functions"), [(python_files, python_functions), (rust_files, rust_functions)])
def test_functions_are_short(files: object, functions: object) -> None:
    assert callable(files)
    assert callable(functions)
    found = dict(item for path in files() for item in functions(path))
    assert len(found) > 100, "the search for functions finds them"
    assert {name: lines for name, lines in found.items() if lines > LONGEST_FUNCTION} == {}
