# Two commands do everything: `make demo` and `make test`. The rest is for developers; `make help` lists it.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests that measure nothing or only count hold on a busy machine and share the CPUs; all others run one by one.
COUNTING := action bad_clients broken_output compare_again contract dns_targets example_game expiry formats otlp \
	packets query_files receiver receiver_ends receiver_fuzz records rerun sender serve_records serve_streams \
	served_time server_fuzz store_faults stream_faults threads wildcard
COUNTING_TESTS := $(COUNTING:%=tests/loopback/test_%.py)
SHARING_TESTS := tests/unit tests/test_architecture.py tests/test_names.py tests/test_code_map.py tests/test_causes_table.py $(COUNTING_TESTS)
MEASURING_TESTS := tests/loopback tests/netns tests/peers tests/toy $(COUNTING_TESTS:%=--ignore=%)
SEED := bench/tokio_server
SOURCES := $(shell find crates python/flatout -name '*.rs' -o -name 'Cargo.toml') $(wildcard bpf/*.bpf.o) Cargo.toml Cargo.lock pyproject.toml

.PHONY: help demo test test-rust test-python test-slow lint format wheel schema code-map causes-table bpf bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.built ## find the limit of the NTP servers on this machine
	$(BIN)/flatout demo

test: test-rust test-python ## build and run all tests but the slow ones

test-rust: ## the engine's tests
	cargo test --workspace --exclude flatout-py --quiet

test-python: $(VENV)/.developed ## the tests of Python and of the whole
	$(BIN)/python -m pytest $(SHARING_TESTS) -m "not slow" -n 2 --dist worksteal
	$(BIN)/python -m pytest $(MEASURING_TESTS) -m "not slow"

test-slow: $(VENV)/.developed ## the long proofs, big fuzz corpora and the build of a new protocol
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.developed ## formats, lints, types, layers, stubs
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo fmt --manifest-path $(SEED)/Cargo.toml --check
	cargo clippy --manifest-path $(SEED)/Cargo.toml --target-dir target/tokio_server --quiet -- -D warnings
	$(BIN)/ruff format --check python tests bench examples
	$(BIN)/ruff check python tests bench examples
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m mypy.stubtest flatout._engine --ignore-missing-stub

format: $(VENV)/.developed ## formats all sources
	cargo fmt --all
	cargo fmt --manifest-path $(SEED)/Cargo.toml
	$(BIN)/ruff format python tests bench examples
	$(BIN)/ruff check --fix python tests bench examples

wheel: $(VENV)/.developed ## builds dist/*.whl
	$(BIN)/maturin build --release --out dist

code-map: $(VENV)/.developed ## writes the code map of ARCHITECTURE.md again
	$(BIN)/python tests/code_map.py

causes-table: $(VENV)/.developed ## writes the table of causes of docs/findings.md again
	$(BIN)/python tests/causes_table.py

schema: $(VENV)/.developed ## writes the published JSON Schema again
	$(BIN)/python -m flatout.schema > docs/schema.json

bpf: ## builds the BPF objects again (clang-14, llvm-14, libbpf-dev)
	$(MAKE) --no-print-directory -C bpf --always-make

$(VENV)/bin/maturin:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1' 'maturin>=1.9,<2'

$(VENV)/.built: $(VENV)/bin/maturin $(SOURCES)
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --quiet --extras report
	touch $@

$(VENV)/.developed: $(VENV)/.built
	$(BIN)/pip install --quiet --group dev
	touch $@

clean: ## removes what was built
	rm -rf target $(VENV) dist python/flatout/_engine*.so
